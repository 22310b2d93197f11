"""The files of a rotation: the key file, the new and the old key beside it, the journal, and the lock.

Invariant: the key file always holds a whole key, the old one or the new one. The journal holds no secret. No matter when
the process is killed, the next run can find out from these files what was done.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from .._base.crash_reports import Hidden, without_locals
from ..errors import ConfigurationError, InvalidKey, quoted
from ..keys import PrivateKey
from ..keys.key_formats import clean_text, parse_json
from . import _safe_files
from ._safe_files import SAFE_FLAGS, FileVersion
from .errors import RotationFailed
from .key_files import key_text, new_key


class Step(StrEnum):
    """The steps of a rotation, in order."""

    MAKE = "make"
    REGISTER = "register"
    PROVE = "prove"
    SWITCH = "switch"
    PUBLISH = "publish"
    WAIT = "wait"
    PROVE_AGAIN = "prove again"
    DEACTIVATE = "deactivate"
    CONFIRM = "confirm"
    DELETE = "delete"


STEPS: Final = tuple(Step)


@dataclass(slots=True)
class Journal:
    """The subject and the progress of a rotation.

    - ``done``: the last step that was done; empty before the first.
    - ``switched_at``: when the new key was put into the key file, and published, in seconds since the epoch. The wall clock
      is the only one that another run can read.
    - ``publishing``: ``wanted`` if the rotation also publishes the key file; ``begun`` once it may have published the new key.
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
    publishing: str = ""

    @property
    def last_step(self) -> Step | None:
        return Step(self.done) if self.done else None

    def has_done(self, step: Step) -> bool:
        """Whether this step, or a later one, was done."""
        return self._steps_done > STEPS.index(step)

    @property
    def steps_to_skip(self) -> int:
        """The number of steps that the next run need not repeat.

        Before the switch, this is 0. The new key may be gone from Okta by then, because someone removed it or an undo was
        interrupted, and only the step ``prove`` can find out.
        """
        return self._steps_done if self.has_done(Step.SWITCH) else 0

    @property
    def _steps_done(self) -> int:
        return 0 if self.last_step is None else STEPS.index(self.last_step) + 1


class RotationFiles:
    """The files of the rotation of one key file. First call :meth:`open`, or use :meth:`locked`.

    - ``key_file``: as the caller named it. For a symlink, the file that it leads to is replaced, and the link stays.
    - ``password``: the passphrase of an encrypted PEM.
    - ``key``: the key file itself, without symlinks.
    """

    key: Path

    def __init__(self, key_file: str | os.PathLike[str], password: str | bytes | None) -> None:
        self.shown = Path(key_file)
        self._password = Hidden(password)

    def open(self) -> None:
        """Finds the key file. If a symlink to it changes afterwards, all operations still happen in one directory."""
        self.key = _safe_files.real_path(self.shown)

    def _beside(self, what: str) -> Path:
        return self.key.with_name(f"{self.key.name}.{what}")

    # ── the keys ─────────────────────────────────────────────────────────────────────────────────────────────────

    def key_in_use(self) -> PrivateKey:
        """The key that is now in the key file."""
        return self._read_key(self.key)[0]

    def new_key(self) -> PrivateKey:
        """The new key, from the file next to the key file."""
        return self._read_key(self._beside("new"), ours=True)[0]

    def is_pem(self) -> bool:
        return _is_pem(_safe_files.read(self.key)[0])

    @without_locals
    def replaceable_key(self) -> PrivateKey:
        """The key in use, if it can be replaced in its file.

        Raises :class:`~okta_m2m.admin.errors.RotationFailed`, and :class:`~okta_m2m.errors.ConfigurationError` for a file
        that :func:`~okta_m2m.admin.key_files.check_replaceable` refuses.
        """
        try:
            key, content, _ = self._read_key(self.key)
        except InvalidKey as error:
            raise RotationFailed(f"The key in use cannot be read. {error.problem}", remedy=error.remedy) from None
        document = None if _is_pem(content) else parse_json(clean_text(content))
        if isinstance(document, dict) and "keys" in document:
            raise RotationFailed(
                f"{self.shown} contains a JWKS, and a rotation replaces a file with one key.",
                remedy="Convert the file, and make every process use the new one: okta-m2m key convert",
            )
        for label in re.findall(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----", content):
            if label != b"EC PARAMETERS" and not label.endswith(b"PRIVATE KEY"):
                raise RotationFailed(
                    f"{self.shown} also contains a {label.decode().lower()}, and a rotation replaces the whole file.",
                    remedy="Move it to another file.",
                )
        if not os.access(self.key.parent, os.W_OK) or not os.access(self.key, os.W_OK):
            raise RotationFailed(
                f"{self.key.parent} or the key file in it is read-only here (a mounted secret?).",
                remedy="Rotate a copy of the file where the secret is kept, and update the secret from it before the grace "
                "time ends (--grace).",
            )
        _safe_files.check_replaceable(self.key)
        for leftover in (self._beside("new"), self._beside("old")):
            if os.path.lexists(leftover):
                raise RotationFailed(
                    f"{leftover} already exists, and does not belong to a known rotation.",
                    remedy="Find out which key it contains, and move it elsewhere.",
                )
        return key

    @without_locals
    def make_new_key(self, alg: str | None, bits: int | None) -> PrivateKey:
        """Writes a new key next to the key file, in the form of the old key, and by default with its algorithm and size."""
        new = self._beside("new")
        with suppress(InvalidKey):
            return self.new_key()
        new.unlink(missing_ok=True)  # truncated when the process was killed: no one has used that key
        _safe_files.create(new, self.new_key_text(alg, bits))
        return self.new_key()

    @without_locals
    def new_key_text(self, alg: str | None, bits: int | None) -> bytes:
        """A new key, as the content of the key file. Raises :class:`~okta_m2m.errors.ConfigurationError` if that cannot be."""
        old, content, _ = self._read_key(self.key)
        made = new_key(alg or old.alg, bits=bits or max(2048, _modulus_bits(old)))
        if not _is_pem(content):
            return key_text(made)
        if made.alg in ("RS384", "RS512"):
            raise ConfigurationError(
                f"A PEM cannot specify that its key signs with {made.alg}.",
                remedy="Omit --alg, or convert the file to a JWK.",
            )
        return key_text(made, form="pem", password=self._password.value if _is_encrypted(content) else None)

    @without_locals
    def switch(self, new_thumbprint: str) -> None:
        """Puts the new key into the key file, in one atomic step, and keeps the old one beside it."""
        in_use, content, version = self._read_key(self.key)
        if in_use.thumbprint() == new_thumbprint:
            return
        old = self._beside("old")
        old.unlink(missing_ok=True)  # truncated when the process was killed
        _safe_files.create(old, content)
        new, new_content, _ = self._read_key(self._beside("new"), ours=True)
        if new.thumbprint() != new_thumbprint:
            raise RotationFailed(
                f"{self.shown}.new no longer contains the new key.", remedy="Find out what else writes to it."
            )
        _safe_files.replace(self.key, new_content, was=version)

    @without_locals
    def put_old_key_back(self, old_thumbprint: str) -> None:
        """Puts the old key back into the key file, if the switch replaced it."""
        with suppress(InvalidKey):  # missing or truncated: then the key file still holds the old key
            old, content, _ = self._read_key(self._beside("old"), ours=True)
            is_in_use = os.path.lexists(self.key) and _safe_files.read(self.key)[0] == content
            if old.thumbprint() == old_thumbprint and not is_in_use:
                _safe_files.replace(self.key, content)

    def old_key_is_kept(self) -> bool:
        """Whether the old key is next to the key file, which means that the switch was made or begun."""
        return os.path.lexists(self._beside("old"))

    def _read_key(self, path: Path, *, ours: bool = False) -> tuple[PrivateKey, bytes, FileVersion]:
        try:
            content, version = _safe_files.read(path, ours=ours)
        except OSError as error:
            raise InvalidKey(
                f"{path}: The file cannot be read ({error.strerror}).",
                remedy="Check the path, and that this process may read it.",
            ) from None
        try:
            # Never PrivateKey.from_text: it would follow a path in the file.
            if _is_pem(content):
                key = PrivateKey.from_pem(content, password=self._password.value)
            else:
                key = PrivateKey.from_jwk(content)
        except InvalidKey as error:
            raise InvalidKey(f"{path}: {error.problem}", remedy=error.remedy) from None
        return key, content, version

    # ── the journal ──────────────────────────────────────────────────────────────────────────────────────────────

    def read_journal(self, org_url: str, app_id: str) -> Journal | None:
        """The journal of an interrupted rotation; ``None`` if there is none.

        Raises :class:`~okta_m2m.admin.errors.RotationFailed` if it is damaged, or is about another app.
        """
        path = self._beside("rotation")
        try:
            content = _safe_files.read(path, ours=True)[0]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RotationFailed(
                f"{path} cannot be read ({error.strerror}).",
                remedy="Run this as the user that began the rotation.",
            ) from None
        try:
            journal = Journal(**json.loads(content.decode()))
            _ = journal.last_step
        except (ValueError, TypeError):
            raise RotationFailed(
                f"{path} is damaged.",
                remedy=f"Check which keys Okta lists (okta-m2m key list) and which one {self.shown} contains, then remove "
                "the file.",
            ) from None
        if (journal.org_url, journal.app_id) != (org_url, app_id):
            raise RotationFailed(
                f"A rotation of {self.shown} for the app {quoted(journal.app_id, 60)} in "
                f"{quoted(journal.org_url, 100)} was interrupted.",
                remedy="Run that rotation again first.",
            )
        return journal

    def write_journal(self, journal: Journal) -> None:
        """Writes the journal, in one atomic step."""
        content = json.dumps(asdict(journal), indent=2).encode() + b"\n"
        _safe_files.replace(self._beside("rotation"), content)

    def clear(self) -> None:
        """Removes all but the key file."""
        # Remove the journal last: as long as it exists, the next run cleans up the rest.
        for what in ("new", "old", "rotation"):
            self._beside(what).unlink(missing_ok=True)

    # ── the lock ─────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Allows one rotation of a key file at a time. The operating system frees the lock of a process that is killed."""
        self.open()
        path = self._beside("lock")
        try:
            descriptor = _lock(path)
        except OSError as error:
            raise RotationFailed(
                f"{path} cannot be locked ({error.strerror}).",
                remedy="Either the directory is read-only here (a mounted secret?): rotate where the secret is kept. Or "
                "something else has that name: remove it.",
            ) from None
        if descriptor is None:
            raise RotationFailed(f"Another rotation of {self.shown} is running.", remedy="Wait until it has ended.")
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()  # while it is held, so that no other process's lock is removed
            os.close(descriptor)
            if sys.platform == "win32":  # which removes no file that a process has open
                with suppress(OSError):
                    path.unlink()


def _lock(path: Path) -> int | None:
    """Opens and locks a file. ``None`` if another process holds the lock, or removed the file at this moment."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | SAFE_FLAGS, 0o600)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            return descriptor
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.lstat(path), os.fstat(descriptor)):
            return descriptor
    except (BlockingIOError, PermissionError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _is_pem(content: bytes) -> bool:
    return b"-----BEGIN" in content


def _is_encrypted(pem: bytes) -> bool:
    return b"BEGIN ENCRYPTED PRIVATE KEY" in pem or b"Proc-Type: 4,ENCRYPTED" in pem


def _modulus_bits(key: PrivateKey) -> int:
    modulus = key.public_jwk.get("n")
    return 0 if modulus is None else len(modulus) * 6 // 256 * 256
