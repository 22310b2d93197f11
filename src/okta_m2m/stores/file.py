"""Shares tokens on one host through a directory, for cron jobs and command lines.

Invariant: every write happens under one lock and replaces a whole file. So a reader needs no lock, and sees the old
record or the new one. A record that is incomplete or expired counts as missing.

A record is one line, followed by the content. The line has the time when the record was written (seconds since the epoch),
its lifetime in seconds, and the number of bytes that follow. A record from the future counts as missing, so that no record lives
longer because the clock was set back.

On NFS the lock works only if the server and all clients support it, and the clocks of all hosts must agree. Otherwise, a
token may be fetched twice, but nothing worse happens. For several hosts, Redis is the better store.
"""

from __future__ import annotations

import errno
import os
import random
import re
import stat
import sys
import time
from contextlib import AbstractContextManager, suppress
from hashlib import sha256
from pathlib import Path

from .._threads.workers import importing
from ..errors import ConfigurationError, install_command

__all__ = ["FileStore"]

MAX_RECORD_SIZE = 1 << 20
"""Size of the largest record that is read, in bytes."""

_CLOCK_SKEW = 5.0  # seconds: tolerates small corrections of the clock, and hosts that share a directory
_LEFTOVER_AGE = 3600.0  # seconds: the process that wrote such an old temporary file was killed
_POLL_INTERVAL = 0.005  # mean seconds between two attempts to get the lock, which is held for less than a millisecond
_MAGIC = b"okta-m2m/1"
_OWN_NAME = r"[0-9a-f]{64}\.(?:value|claim)(?P<temporary>\.[a-z0-9_]{8}\.tmp)?"  # compiled when it is first used
_SAFE_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # opening a FIFO must not block


class FileStore:
    """Keeps tokens in files that only this user can read, in a directory that only this user can write to. On Windows, the
    permissions of the directory decide that, and are not checked.

    - ``directory``: created with mode 0700 when it is first needed. By default it is this user's cache directory
      (``~/.cache/okta-m2m``, ``~/Library/Caches/okta-m2m``, ``%LOCALAPPDATA%\\okta-m2m\\Cache``).
    - ``timeout``: seconds to wait for the lock, which others hold for less than a millisecond at a time. Default 0.25.

    The parameters of its methods are those of :class:`~okta_m2m.stores.Store`: ``key``, ``value``, ``owner``, and ``ttl`` in
    seconds.

    Raises :class:`~okta_m2m.errors.ConfigurationError`, at once and at each use, for a directory that belongs to someone
    else or that others can write to, and as root for a path that leads through a symlink that another user created. Its
    methods raise ``OSError`` if the file system refuses: a home directory that may not be entered (systemd's
    ``ProtectHome=``), or a file in place of the directory. The constructor does not raise that, so the service starts: the
    service app logs it and works without a store.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None, *, timeout: float = 0.25) -> None:
        try:
            with importing():
                import filelock
                import platformdirs
        except ModuleNotFoundError:
            raise ConfigurationError(
                "A FileStore needs filelock and platformdirs.", remedy=f"Install them with: {install_command('file')}"
            ) from None
        self._file_lock = filelock.FileLock
        chosen = platformdirs.user_cache_path("okta-m2m") if directory is None else Path(directory)
        self._directory = Path(os.path.expanduser(chosen))
        with suppress(OSError):  # the working directory may change; if it was deleted, no path would work
            self._directory = self._directory.absolute()
        self._timeout = timeout
        with suppress(OSError):
            self._has_directory()  # refuses an unsafe directory at once

    def load(self, key: str) -> bytes | None:
        """The value under ``key``, if it has not expired. Otherwise, expired records are removed."""
        path = self._path(key, "value")
        if not self._has_directory():
            return None
        value = _read_living(path)
        if value is None and os.path.lexists(path):
            with suppress(OSError), self._lock(timeout=0):
                self._sweep()
        return value

    def save(self, key: str, value: bytes, ttl: float, owner: str) -> bool:
        """Stores ``value`` under ``key`` for ``ttl`` seconds if ``owner`` has the claim. Removes other expired records."""
        if not self._has_directory():
            return False
        with self._lock():
            if not self._owns(key, owner):
                return False
            self._write(self._path(key, "value"), value, ttl)
            self._sweep()
            return True

    def claim(self, key: str, owner: str, ttl: float) -> bool:
        """Takes or extends the claim on ``key`` for ``ttl`` seconds, unless someone other than ``owner`` has it."""
        if not self._has_directory():
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._has_directory()  # another process may have created it first, with unsafe permissions
        path, claimable = self._path(key, "claim"), (None, owner.encode())
        # If many processes start at once, one gets the claim. The others need not wait for the lock. On Windows they do,
        # because a file cannot be replaced while it is read.
        if sys.platform != "win32" and _read_living(path) not in claimable:
            return False
        with self._lock():
            if _read_living(path) not in claimable:
                return False
            self._write(path, owner.encode(), ttl)
            return True

    def release(self, key: str, owner: str) -> None:
        """Ends the claim on ``key`` if ``owner`` has it."""
        if self._has_directory():
            with self._lock():
                if self._owns(key, owner):
                    self._path(key, "claim").unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"FileStore({str(getattr(self, '_directory', 'not made'))!r})"

    def _path(self, key: str, record: str) -> Path:
        return self._directory / f"{sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}.{record}"

    def _owns(self, key: str, owner: str) -> bool:
        return _read_living(self._path(key, "claim")) == owner.encode()

    def _has_directory(self) -> bool:
        """Whether the directory exists. Checked at each use, because a cleanup of temporary files may remove it."""
        try:
            # Follow a symlink: the owner of the directory that it leads to is the one that matters.
            about = os.stat(self._directory)
        except FileNotFoundError:
            if not self._directory.is_symlink():
                self._refuse_links_of_others(self._directory)  # before a directory is created through one
                return False
            raise self._unusable(errno.ENOENT, "is a broken symlink. Remove it, or choose") from None
        except PermissionError:
            raise self._unusable(errno.EACCES, "is in a directory that this user may not enter. Choose") from None
        except NotADirectoryError:
            raise self._unusable(errno.ENOTDIR, "is below a file. Choose") from None
        except ValueError:
            raise self._unusable(errno.EINVAL, "is not a path. Choose") from None
        if not stat.S_ISDIR(about.st_mode):
            raise self._unusable(errno.ENOTDIR, "is not a directory. Choose")
        self._refuse_links_of_others(self._directory)
        if sys.platform != "win32":
            if about.st_uid != os.geteuid():
                raise ConfigurationError(
                    f"The store's directory {self._directory} belongs to another user.",
                    remedy="Choose one that belongs to this user.",
                )
            if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise ConfigurationError(
                    f"Others can write to the store's directory {self._directory}.",
                    remedy=f"Run: chmod 700 '{self._directory}'. Or choose another directory.",
                )
        return True

    def _refuse_links_of_others(self, path: Path) -> None:
        """Otherwise another user could lead root's store to any directory of root's. A service of another user may well be below
        a link of the user who deploys it."""
        if sys.platform == "win32" or os.geteuid() != 0:
            return
        for place in (*reversed(path.parents), path):
            try:
                about = place.lstat()
            except FileNotFoundError:
                return
            if stat.S_ISLNK(about.st_mode):
                if about.st_uid != 0:
                    raise ConfigurationError(
                        f"The path of the store's directory {self._directory} contains a symlink that another user "
                        f"created: {place}.",
                        remedy="Use the path that it leads to, or choose another directory.",
                    )
                self._refuse_links_of_others(place.parent / os.readlink(place))

    def _unusable(self, code: int, why: str) -> OSError:
        return OSError(
            code,
            f"The store's directory {self._directory} {why} another directory with FileStore(path) or OKTA_M2M_STORE=file:/path",
        )

    def _lock(self, timeout: float | None = None) -> AbstractContextManager[object]:
        # With a new lock object each time, the operating system separates threads like processes. It also releases the lock
        # of a process that is killed.
        lock = self._file_lock(
            self._directory / "lock", timeout=self._timeout if timeout is None else timeout, mode=0o600
        )
        interval = _POLL_INTERVAL * random.uniform(0.5, 1.5)  # noqa: S311 (spreads load; it is not a secret)
        return lock.acquire(poll_interval=interval)

    def _write(self, path: Path, content: bytes, ttl: float) -> None:
        from tempfile import mkstemp  # heavy

        handle, temporary = mkstemp(".tmp", f"{path.name}.", self._directory)  # has mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(b"%s %r %r %d\n" % (_MAGIC, time.time(), float(ttl), len(content)) + content)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise

    def _sweep(self) -> None:
        """Removes expired records, under the lock, because other processes write new ones. There are few files, and it is called
        once per token."""
        with suppress(OSError):
            for path in list(self._directory.iterdir()):
                form = re.fullmatch(_OWN_NAME, path.name)
                if form is None or not _is_own_file(path):
                    continue  # the directory may hold more than this store
                if form["temporary"] is None:
                    dead = _read_living(path) is None
                else:
                    dead = abs(time.time() - path.lstat().st_mtime) > _LEFTOVER_AGE
                if dead:
                    path.unlink(missing_ok=True)


def _is_own_file(path: Path) -> bool:
    """Whether a path is a regular file of this user."""
    about = path.lstat()
    return stat.S_ISREG(about.st_mode) and (sys.platform == "win32" or about.st_uid == os.geteuid())


def _read_living(path: Path) -> bytes | None:
    """The content of a record that is complete, not expired and not from the future."""
    content = _read_regular_file(path)
    head, _, body = (content or b"").partition(b"\n")
    try:
        magic, written, ttl, length = head.split(b" ")
        age, ends = time.time() - float(written), float(ttl)
        whole = magic == _MAGIC and int(length) == len(body)
    except ValueError:
        return None
    return body if whole and -min(_CLOCK_SKEW, ends) <= age < ends else None


def _read_regular_file(path: Path) -> bytes | None:
    with suppress(FileNotFoundError, IsADirectoryError):
        try:
            with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _SAFE_FLAGS)) as file:
                if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return file.read(MAX_RECORD_SIZE)  # a longer record is truncated, so it counts as incomplete
        except OSError:
            if not path.is_symlink():  # a FileStore creates no symlinks, so do not follow this one
                raise
    return None
