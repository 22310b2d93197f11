"""The private keys of one client, whatever it requests with them: which one Okta accepted last, and what changed.

Invariant: a change of a key is reported once, however many apps of the client use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._base.clocks import NEVER
from .proofs import snapshot

if TYPE_CHECKING:
    from ..effects import Flow
    from ..keys import Signer
    from .reports import Reports


class ClientKeys:
    """The keys of one client.

    - ``signers``: the keys as they were passed.
    - ``accepted``: the index of the one that Okta accepted last.
    - ``quiet_until``: until when failures of a signer are not reported again, on the steady clock.
    """

    __slots__ = ("_troubles", "_versions", "accepted", "quiet_until", "signers")

    def __init__(self, signers: tuple[Signer, ...]) -> None:
        self.signers = signers
        self.accepted = 0
        self.quiet_until = NEVER
        # Of each key: the version at the last fetch, and why the content of its file was not used.
        self._versions: tuple[Signer | None, ...] = tuple(getattr(key, "latest", None) for key in signers)
        self._troubles: tuple[str | None, ...] = (None,) * len(signers)

    def snapshot(self, timeout: float) -> Flow[list[Signer]]:
        """The version of each key to sign with, within ``timeout`` seconds for each."""
        keys = []
        for signer in self.signers:
            keys.append((yield from snapshot(signer, timeout)))
        return keys

    def notice_changes(self, keys: tuple[Signer, ...], reports: Reports) -> None:
        """Reports a key that differs from the last fetch's, and a file whose new content cannot be used."""
        former, self._versions = self._versions, keys
        for version, key in zip(former, keys, strict=True):
            if version is not None and version != key:
                reports.key_changed(key.kid)
        known, self._troubles = self._troubles, tuple(getattr(key, "trouble", None) for key in self.signers)
        for before, trouble, key in zip(known, self._troubles, self.signers, strict=True):
            if trouble is not None and trouble != before:
                reports.key_file_unusable(key, trouble)
