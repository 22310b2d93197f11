"""Reads, creates and replaces files, as ``key_files`` promises. Everything except :func:`real_path` expects a path that it
returned, or a name beside one. The callers keep secrets out of crash reports.

Invariants: a file has its whole old or its whole new content. What another process changed is not overwritten. Root works
only where no other user can put a file or a link: elsewhere, that user could make root read or overwrite any file.
"""

from __future__ import annotations

import glob
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ..errors import ConfigurationError

FileVersion = tuple[int, int, int, int]
"""The identity of a file (device and inode), its size in bytes, and its modification time in nanoseconds."""

SAFE_FLAGS: Final = sum(getattr(os, name, 0) for name in ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"))
"""For :func:`os.open`: no symlink is opened, and a FIFO does not block."""

_MAX_SIZE: Final = 1 << 20  # bytes: a key file or an okta.yaml has a few thousand
_SHARING_PAUSES: tuple[float, ...] = (0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.4) if sys.platform == "win32" else ()
"""Seconds before each new attempt to replace a file that another program has open. Only Windows refuses this."""


def real_path(path: str | os.PathLike[str]) -> Path:
    """The path without symlinks. Raises if this process is root and another user can change what the path leads to."""
    path = Path(os.path.abspath(path))
    if sys.platform != "win32" and os.geteuid() == 0:
        _check_only_root_can_change(path, set())
    return Path(os.path.realpath(path))


def _check_only_root_can_change(path: Path, checked: set[Path]) -> None:
    for place in (*reversed(path.parents), path):
        if place in checked or not os.path.lexists(place):
            continue
        checked.add(place)
        about = place.lstat()
        is_shared = stat.S_ISDIR(about.st_mode) and about.st_mode & 0o022 and not about.st_mode & stat.S_ISVTX
        if about.st_uid != 0 or is_shared:
            raise ConfigurationError(
                f"Root does not use {place}: others can change it (uid {about.st_uid}, mode {about.st_mode & 0o7777:o}).",
                remedy="Run this as the user whose files these are (sudo -u USER), or let only root write there.",
            )
        if stat.S_ISLNK(about.st_mode):
            _check_only_root_can_change(place.parent / os.readlink(place), checked)


def read(path: Path, *, ours: bool = False) -> tuple[bytes, FileVersion]:
    """Reads a regular file. ``ours``: refuses a file that another user owns, can write to, or has hard-linked."""
    _look(path)
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | SAFE_FLAGS)) as file:
        about = os.fstat(file.fileno())
        is_shared = about.st_mode & 0o022 or about.st_nlink != 1
        if ours and sys.platform != "win32" and (is_shared or about.st_uid != os.geteuid()):
            raise ConfigurationError(
                f"Another user owns {path}, can write to it, or made a hard link to it, so it is not trusted.",
                remedy="Run this as the file's owner, or find out who created it and remove it.",
            )
        return file.read(_MAX_SIZE), (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)


def create(path: Path, content: bytes) -> None:
    with _new_file(path, content, path, None):
        pass


def replace(path: Path, content: bytes, *, was: FileVersion | None = None) -> None:
    with _replacement(path, content) as temporary:
        if was is not None and not (os.path.lexists(path) and read(path)[1] == was):
            remedy = "Find out what else writes to it, and run this again."
            raise ConfigurationError(f"{path} was changed by another process in the meantime.", remedy=remedy)
        for pause in _SHARING_PAUSES:
            with suppress(PermissionError):
                os.replace(temporary, path)
                return
            time.sleep(pause)
        os.replace(temporary, path)


def check_replaceable(path: Path) -> None:
    with _replacement(path, b"") as temporary:  # only the file system knows which group a new file can have
        temporary.unlink()


def _look(path: Path) -> os.stat_result | None:
    """The state of a file; ``None`` if there is none. Raises if it is not a regular file, or too large."""
    if not os.path.lexists(path):
        return None
    about = path.lstat()
    if not stat.S_ISREG(about.st_mode) or about.st_size > _MAX_SIZE:
        problem = f"{path} is a symlink, not a regular file, or larger than {_MAX_SIZE >> 10} KiB."
        raise ConfigurationError(problem, remedy="Find out who created it, and move it elsewhere.")
    return about


@contextmanager
def _replacement(path: Path, content: bytes) -> Iterator[Path]:
    """A new file next to ``path``, with a random name. Removes those that killed writers left."""
    before = _look(path)
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 16}.tmp"):
        with suppress(OSError):  # another program has it open, on Windows; the next writer removes it
            left.unlink()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    with _new_file(temporary, content, path, before):
        yield temporary


@contextmanager
def _new_file(path: Path, content: bytes, shown: Path, like: os.stat_result | None) -> Iterator[None]:
    """Creates a file with the owner, group and mode of ``like``, or with mode 0600. If the block fails, it is removed."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE_FLAGS, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if like is not None and sys.platform != "win32":
                    made = os.fstat(descriptor)
                    if (made.st_uid, made.st_gid) != (like.st_uid, like.st_gid):
                        os.fchown(descriptor, like.st_uid, like.st_gid)  # only root could change the owner
                    os.fchmod(descriptor, like.st_mode & 0o777)
                file.write(content)
                file.flush()
                os.fsync(descriptor)  # only this may find out that the disk is full
            yield
        except BaseException:  # Ctrl-C must not leave part of a key
            path.unlink(missing_ok=True)
            raise
        with suppress(OSError):  # Windows cannot sync a directory, and need not
            directory = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
    except FileExistsError:
        problem = f"{shown} already exists and will not be overwritten."
        raise ConfigurationError(problem, remedy="Choose another file.") from None
    except OSError as error:
        raise ConfigurationError(
            f"{shown} cannot be written ({error.strerror}).",
            remedy="Check its directory and the free space. Only its owner, in its group, can replace a file.",
        ) from None
