"""DPoP nonces, as Okta's servers demand them.

Invariant: a nonce is accepted until its lifetime ends on the org's clock or it is rotated out, whichever comes first.
"""

from __future__ import annotations

import secrets
import threading

__all__ = ["Nonces"]

_RENEWAL = 24 * 3600  # seconds


class Nonces:
    """The DPoP nonces of one kind of server, created daily and accepted for three days."""

    def __init__(self) -> None:
        self.lifetime: float = 3 * 24 * 3600  # seconds
        self._mutex = threading.Lock()
        self._made: dict[str, float] = {}
        self._current = ""

    def current(self, now: float) -> str:
        """The nonce to send to clients."""
        with self._mutex:
            made = self._made.get(self._current)
            if made is None or not 0 <= now - made < min(_RENEWAL, self.lifetime):
                self._current = secrets.token_urlsafe(24)
                self._made[self._current] = now
            return self._current

    def accepts(self, nonce: object, now: float) -> bool:
        """Whether a proof with ``nonce`` is accepted."""
        with self._mutex:
            made = self._made.get(nonce) if isinstance(nonce, str) else None
        return made is not None and now - made < self.lifetime

    def rotate(self, keep_old: bool) -> None:
        """Makes the next :meth:`current` a new nonce, and rejects all earlier ones unless ``keep_old``."""
        with self._mutex:
            self._current = ""
            if not keep_old:
                self._made.clear()
