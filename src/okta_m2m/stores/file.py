"""Sharing on one host through a directory: for cron jobs and command lines.

Invariant: every write is made under one lock and replaces a whole file, so a reader needs no lock and sees the old record
or the new one; and what is not a whole, living record counts as none.

A record is a line that says when it was written (seconds since the epoch), for how long it is good and how many bytes
follow, and then those bytes. A time stamp from the future is nobody's: after the clock was set back nothing is kept
alive by it.

On NFS the lock holds only where the server and all clients support it, and clocks of several hosts must agree. Where
they do not, a token may be fetched twice; nothing worse. Several hosts share better through Redis.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from ..errors import ConfigurationError

__all__ = ["FileStore"]

LARGEST = 1 << 20
"""Bytes that are read of a record."""

_CLOCK_SKEW = 5.0  # seconds: small corrections of the clock, and hosts that share a directory
_LEFTOVER = 3600.0  # seconds after which a temporary file is that of a process which was killed
_POLL = 0.005  # seconds between two tries to get the lock, which is held for less than a millisecond
_MAGIC = b"okta-m2m/1"
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO must not keep us waiting
    | getattr(os, "O_BINARY", 0)
)


class FileStore:
    """Tokens in files that only this user can read, in a directory that only this user can write.

    - ``directory``: made with mode 0700 when it is first needed. By default it is this user's cache directory
      (``~/.cache/okta-m2m``, ``~/Library/Caches/okta-m2m``, ``%LOCALAPPDATA%\\okta-m2m\\Cache``).
    - ``timeout``: seconds to wait for the lock, which others hold for less than a millisecond at a time.

    Raises :class:`~okta_m2m.errors.ConfigurationError`, at once and at each use, for a directory that belongs to somebody
    else or that others can write; its methods raise ``OSError`` for whatever the file system refuses.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None, *, timeout: float = 0.25) -> None:
        try:
            import filelock
            import platformdirs
        except ModuleNotFoundError:
            raise ConfigurationError(
                "A FileStore needs filelock and platformdirs. Install them with: pip install 'okta-m2m[file]'"
            ) from None
        self._file_lock = filelock.FileLock
        chosen = platformdirs.user_cache_path("okta-m2m") if directory is None else Path(directory).expanduser()
        self._directory = chosen.absolute()  # the working directory may be another one later
        self._timeout = timeout
        self._is_there()

    def load(self, key: str) -> bytes | None:
        """The value under ``key``, if one is there and alive; an expired one is removed."""
        path = self._path(key, "value")
        if not self._is_there():
            return None
        value = _living(path)
        if value is None and os.path.lexists(path):
            self._remove_dead(path)
        return value

    def save(self, key: str, value: bytes, ttl: float, owner: str) -> bool:
        """Stores ``value`` if the claim is the owner's; also removes what has expired under other keys."""
        if not self._is_there():
            return False
        with self._locked():
            if not self._owns(key, owner):
                return False
            self._write(self._path(key, "value"), value, ttl)
            self._sweep()
            return True

    def claim(self, key: str, owner: str, ttl: float) -> bool:
        """Takes or extends the claim, unless another owner's is alive."""
        if not self._is_there():
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._is_there()
        with self._locked():
            path = self._path(key, "claim")
            if _living(path) not in (None, owner.encode()):
                return False
            self._write(path, owner.encode(), ttl)
            return True

    def release(self, key: str, owner: str) -> None:
        """Ends the claim if it is the owner's."""
        if self._is_there():
            with self._locked():
                if self._owns(key, owner):
                    self._path(key, "claim").unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"FileStore({str(self._directory)!r})"

    def _path(self, key: str, record: str) -> Path:
        return self._directory / f"{sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}.{record}"

    def _owns(self, key: str, owner: str) -> bool:
        return _living(self._path(key, "claim")) == owner.encode()

    def _is_there(self) -> bool:
        """Whether the directory exists. It is looked at each time: a cleaner of temporary files may take it away."""
        try:
            # A symlink to a directory is followed: what matters is whose the directory is that it leads to.
            about = os.stat(self._directory)
        except FileNotFoundError:
            if not self._directory.is_symlink():
                return False
            raise ConfigurationError(
                f"The store's directory {self._directory} is a symlink that leads nowhere. Remove it, or name another."
            ) from None
        if not stat.S_ISDIR(about.st_mode):
            raise ConfigurationError(f"The store's directory {self._directory} is none. Name a directory.")
        if sys.platform != "win32":
            if about.st_uid != os.geteuid():
                raise ConfigurationError(
                    f"The store's directory {self._directory} belongs to another user. Name one that is this user's."
                )
            if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise ConfigurationError(
                    f"Others can write in the store's directory {self._directory}. Close it with: chmod 700, "
                    "or name another."
                )
        return True

    @contextmanager
    def _locked(self, timeout: float | None = None) -> Iterator[None]:
        # A lock of its own each time: the operating system then keeps threads apart as it does processes, and lets go
        # of the lock when a process is killed.
        lock = self._file_lock(
            self._directory / "lock", timeout=self._timeout if timeout is None else timeout, mode=0o600
        )
        with lock.acquire(poll_interval=_POLL):
            yield

    def _write(self, path: Path, content: bytes, ttl: float) -> None:
        handle, temporary = tempfile.mkstemp(dir=self._directory, suffix=".tmp")  # with mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(b"%s %r %r %d\n" % (_MAGIC, time.time(), float(ttl), len(content)) + content)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise

    def _remove_dead(self, path: Path) -> None:
        # Under the lock, and looked at again: somebody may be putting a new record there.
        with suppress(OSError), self._locked(timeout=0):
            if _living(path) is None:
                path.unlink()

    def _sweep(self) -> None:
        """Removes what has expired under other keys. There are few files, and a save is rare: one per token."""
        with suppress(OSError):
            for path in list(self._directory.iterdir()):
                if path.suffix in (".value", ".claim"):
                    dead = _living(path) is None
                else:
                    dead = path.suffix == ".tmp" and abs(time.time() - path.lstat().st_mtime) > _LEFTOVER
                if dead:
                    path.unlink(missing_ok=True)


def _living(path: Path) -> bytes | None:
    """What a record holds, if it is whole and neither expired nor from the future."""
    content = _content(path)
    head, _, body = (content or b"").partition(b"\n")
    try:
        magic, written, ttl, length = head.split(b" ")
        age, ends = time.time() - float(written), float(ttl)
        whole = magic == _MAGIC and int(length) == len(body)
    except ValueError:
        return None
    return body if whole and -min(_CLOCK_SKEW, ends) <= age < ends else None


def _content(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        return None
    except OSError:
        if path.is_symlink():
            return None  # none of ours is one, so it is not followed
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(LARGEST)  # a longer one is not whole, then
    finally:
        os.close(descriptor)
