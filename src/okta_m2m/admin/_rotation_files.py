"""The files of a rotation: the key file, the new and the old key beside it, the journal, and the lock.

Invariant: the key file always holds a whole key, the old one or the new one. The journal holds no secret. Whatever moment
the process is killed at, the next run can tell from these files what was done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from ..errors import ConfigurationError, InvalidKey, quoted
from ..keys import PrivateKey
from .errors import RotationFailed
from .key_files import key_text, new_key, replace_file, write_new_file

__all__ = ["STEPS", "Journal", "RotationFiles", "Step"]


class Step(StrEnum):
    """The steps of a rotation, in their order."""

    MAKE = "make"
    REGISTER = "register"
    PROVE = "prove"
    SWITCH = "switch"
    WAIT = "wait"
    PROVE_AGAIN = "prove again"
    DEACTIVATE = "deactivate"
    CONFIRM = "confirm"
    DELETE = "delete"


STEPS: Final = tuple(Step)


@dataclass(slots=True)
class Journal:
    """What a rotation is about, and how far it has come.

    - ``done``: the last step that was done; empty before the first.
    - ``switched_at``: when the key file got the new key, in seconds since the epoch. The wall clock is the only one that
      another run can read.
    """

    org_url: str
    app_id: str
    old_kid: str
    old_thumbprint: str
    old_id: str
    new_kid: str = ""
    new_thumbprint: str = ""
    new_id: str = ""
    done: str = ""
    switched_at: float = 0.0

    @property
    def last_step(self) -> Step | None:
        """The last step that was done."""
        return Step(self.done) if self.done else None

    def has_done(self, step: Step) -> bool:
        """Whether this step, or a later one, was done."""
        return self.last_step is not None and STEPS.index(self.last_step) >= STEPS.index(step)

    def is_next_or_done(self, step: Step) -> bool:
        """Whether this step may have begun."""
        following = 0 if self.last_step is None else STEPS.index(self.last_step) + 1
        return following >= STEPS.index(step)

    @property
    def steps_to_skip(self) -> int:
        """How many steps the next run need not repeat.

        Before the switch that is none. The new key may be gone from Okta by then, because somebody removed it or an undo
        was interrupted, and only the step ``prove`` finds out.
        """
        if self.last_step is None or not self.has_done(Step.SWITCH):
            return 0
        return STEPS.index(self.last_step) + 1


class RotationFiles:
    """The files of the rotation of one key file.

    - ``key_file``: as the caller named it.
    """

    def __init__(self, key_file: str | os.PathLike[str]) -> None:
        self.shown = Path(key_file)
        self.key = Path(os.path.realpath(key_file))  # of a symlink the file is replaced, and the link stays
        self.new = self._beside("new")
        self.old = self._beside("old")
        self._journal = self._beside("rotation")
        self._lock = self._beside("lock")

    def _beside(self, what: str) -> Path:
        return self.key.with_name(f"{self.key.name}.{what}")

    # ── the keys ─────────────────────────────────────────────────────────────────────────────────────────────────

    def key_in_use(self) -> PrivateKey:
        """What the key file holds now."""
        return PrivateKey.from_file(self.key).snapshot()

    def new_key(self) -> PrivateKey:
        """The new key, from the file beside the key file."""
        return PrivateKey.from_file(self.new).snapshot()

    def make_new_key(self, alg: str | None, bits: int | None) -> PrivateKey:
        """Writes a new key beside the key file, by default of the old one's algorithm and size."""
        if self.new.exists():
            try:
                return self.new_key()
            except InvalidKey:
                self.new.unlink()  # cut short when the process was killed: nobody has seen that key
        old = self.key_in_use()
        made = new_key(alg or old.alg, bits=bits or max(2048, _modulus_bits(old)))
        write_new_file(self.new, key_text(made))
        return self.new_key()

    def switch(self, new_thumbprint: str) -> None:
        """Puts the new key into the key file, in one atomic step, and keeps the old one beside it."""
        if self.key_in_use().thumbprint() == new_thumbprint:
            return
        content = self.key.read_bytes()
        if self.old.exists() and self.old.read_bytes() != content:
            self.old.unlink()  # cut short when the process was killed
        if not self.old.exists():
            write_new_file(self.old, content)
        replace_file(self.key, self.new.read_bytes())

    def put_old_key_back(self, old_thumbprint: str) -> None:
        """Puts the old key into the key file again, if the switch took it out."""
        if not self.old.exists():
            return
        content = self.old.read_bytes()
        with suppress(InvalidKey):  # cut short when the process was killed: then the key file still holds the old key
            kept = PrivateKey.from_text(content.decode()).thumbprint() == old_thumbprint
            if kept and not (self.key.exists() and self.key.read_bytes() == content):
                replace_file(self.key, content)

    # ── the journal ──────────────────────────────────────────────────────────────────────────────────────────────

    def read_journal(self, org_url: str, app_id: str) -> Journal | None:
        """The journal of an interrupted rotation; ``None`` if there is none.

        Raises :class:`~okta_m2m.admin.errors.RotationFailed` if it is damaged, or is about another app.
        """
        try:
            content = self._journal.read_bytes()
        except FileNotFoundError:
            return None
        try:
            journal = Journal(**json.loads(content.decode()))
            _ = journal.last_step
        except (ValueError, TypeError):
            raise RotationFailed(
                f"{self._journal} is damaged.",
                remedy=(
                    f"Check which keys Okta lists (okta-m2m key list) and which one {self.shown} holds, then "
                    "remove the file."
                ),
            ) from None
        if (journal.org_url, journal.app_id) != (org_url, app_id):
            raise RotationFailed(
                f"A rotation of {self.shown} for the app {quoted(journal.app_id, 60)} in "
                f"{quoted(journal.org_url, 100)} was interrupted.",
                remedy="Run that one again first.",
            )
        return journal

    def write_journal(self, journal: Journal) -> None:
        """Writes the journal, in one atomic step."""
        replace_file(self._journal, json.dumps(asdict(journal), indent=2).encode() + b"\n")

    def clear(self) -> None:
        """Removes all but the key file."""
        # The journal last: as long as it exists, the next run cleans up what is left.
        for file in (self.new, self.old, self._journal):
            file.unlink(missing_ok=True)

    # ── the lock ─────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One rotation of a key file at a time. The operating system frees the lock of a process that is killed."""
        try:
            from filelock import FileLock, Timeout
        except ModuleNotFoundError:
            raise ConfigurationError(
                "Key rotation needs filelock.", remedy="Install it: pip install 'okta-m2m[cli]'"
            ) from None
        lock = FileLock(self._lock, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise RotationFailed(
                f"Another rotation of {self.shown} is running.", remedy="Wait until it has ended."
            ) from None
        except OSError as error:
            raise RotationFailed(
                f"{self._lock} cannot be written ({error.strerror}), so the directory is read-only here (a mounted "
                "secret?).",
                remedy="Rotate where the secret is kept.",
            ) from None
        try:
            yield
        finally:
            # While it is held, so that no other process's lock is removed. Windows removes no file that is open.
            with suppress(OSError):
                self._lock.unlink()
            lock.release()


def _modulus_bits(key: PrivateKey) -> int:
    modulus = key.public_jwk.get("n")
    return 0 if modulus is None else len(modulus) * 6 // 256 * 256
