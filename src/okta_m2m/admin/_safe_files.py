"""Reads, creates, replaces and locks files. Everything except :func:`real_path` expects a path that it returned, or a name
beside one.

Invariants: a file has its whole old content or its whole new content. What another process changed meanwhile is not
overwritten. Root works only where no other user can put a file or a link: elsewhere, that user could make root read,
overwrite or give away any file.

Windows has no owners and modes: there, a new file has the permissions that its directory passes on.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from .._base.crash_reports import without_locals
from ..errors import ConfigurationError

__all__ = ["FileContent", "FileVersion", "check_replaceable", "create", "locked", "read", "real_path", "replace"]

MAX_FILE_SIZE: Final = 1 << 20
"""Size of the largest file that is read, in bytes. A key file or an ``okta.yaml`` has a few thousand bytes."""

# No symlink is opened, and a FIFO does not block.
_FLAGS: Final = sum(getattr(os, name, 0) for name in ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"))

_SHARING_PAUSES: tuple[float, ...] = (0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.4) if sys.platform == "win32" else ()
"""Seconds before each new attempt to replace a file that another program has open. Only Windows refuses this."""


class FileVersion(NamedTuple):
    """The identity and state of a file.

    - ``device``, ``inode``: the identity of the file.
    - ``size``: its size in bytes.
    - ``modified``: its modification time in nanoseconds.
    """

    device: int
    inode: int
    size: int
    modified: int


@dataclass(frozen=True, slots=True)
class FileContent:
    """The content that was read, and the version of the file that it is from.

    - ``data``: the bytes.
    - ``version``: of the file; :func:`replace_file` compares it.
    """

    data: bytes = field(repr=False)
    version: FileVersion


def real_path(path: str | os.PathLike[str], *, follow: bool = True) -> Path:
    """The path without symlinks.

    - ``follow``: ``False`` for a file to create: a symlink under its name stays, and counts as an existing file.

    Raises :class:`~okta_m2m.errors.ConfigurationError` if the directory cannot be used, or if this process is root and
    another user can change what the path leads to.
    """
    shown = Path(os.path.abspath(path))
    real = Path(os.path.realpath(shown)) if follow else Path(os.path.realpath(shown.parent), shown.name)
    try:
        os.stat(real.parent)
        if follow:
            _look(real)  # refuses a symlink that leads to itself
    except OSError as error:
        raise _not_writable(shown, error) from None
    _refuse_other_users(shown if follow else shown.parent)
    return real


def _refuse_other_users(path: Path) -> None:
    """Raises if this process is root and another user can change what the path leads to."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return
    import pwd  # does not exist on Windows

    for place in (*reversed(path.parents), path):
        try:
            about = place.lstat()
        except FileNotFoundError:
            return
        if about.st_uid != 0:
            try:
                user = pwd.getpwuid(about.st_uid).pw_name
            except KeyError:
                user = f"'#{about.st_uid}'"  # as sudo accepts it
            raise ConfigurationError(
                f"{place} belongs to another user (uid {about.st_uid}), who could lead root to other files.",
                remedy=f"Run this as that user, with: sudo -u {user}",
            )
        if stat.S_ISDIR(about.st_mode) and about.st_mode & 0o022 and not about.st_mode & stat.S_ISVTX:
            raise ConfigurationError(
                f"Others can write to the directory {place}, so they could lead root to other files.",
                remedy=f"Run: chmod go-w '{place}'. Or run this as the user whose files these are.",
            )
        if stat.S_ISLNK(about.st_mode):
            _refuse_other_users(place.parent / os.readlink(place))


@without_locals
def read(path: Path, *, ours: bool = False) -> FileContent:
    """Reads a regular file.

    - ``ours``: refuses a file that another user owns, can write to, or has hard-linked.

    Raises ``FileNotFoundError`` if there is none, another ``OSError`` if it cannot be read, and
    :class:`~okta_m2m.errors.ConfigurationError` for a file that must not be trusted.
    """
    _look(path)
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _FLAGS)) as file:
        about = os.fstat(file.fileno())
        if ours and sys.platform != "win32":
            if about.st_uid != os.geteuid():
                raise ConfigurationError(
                    f"{path} belongs to another user (uid {about.st_uid}), so it is not trusted.",
                    remedy="Run this as that user, or find out who created the file and remove it.",
                )
            if about.st_mode & 0o022 or about.st_nlink != 1:
                raise ConfigurationError(
                    f"Others can write {path}, or it has a second hard link, so it is not trusted.",
                    remedy="Find out who created it, and remove it.",
                )
        data = file.read(MAX_FILE_SIZE + 1)
    if len(data) > MAX_FILE_SIZE:
        raise ConfigurationError(
            f"{path} is larger than {MAX_FILE_SIZE >> 10} KiB.", remedy="Find out who created it, and remove it."
        )
    return FileContent(data, _version(about))


@without_locals
def create(path: Path, content: bytes) -> None:
    """Does what ``key_files.write_new_file`` promises."""
    _create(path, content, path, None)
    _sync_directory(path)


@without_locals
def replace(path: Path, content: bytes, *, was: FileVersion | None = None) -> None:
    """Does what ``key_files.replace_file`` promises. Removes the temporary files of killed writers."""
    before = _look(path)
    temporary = _temporary(path)
    _create(temporary, content, path, before)
    try:
        now = _look(path)
        if (now and _version(now)) != (was or (before and _version(before))):
            raise ConfigurationError(
                f"{path} was changed by another process in the meantime.",
                remedy="Find out what else writes to it, and run this again.",
            )
        _rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path)


def check_replaceable(path: Path) -> None:
    """Does what ``key_files.check_replaceable`` promises."""
    before = _look(path)
    if before is not None:
        temporary = _temporary(path)
        _create(temporary, b"", path, before)  # only the file system knows who will own a file that is created there
        temporary.unlink()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock file, and removes it in the end. The operating system frees the lock of a process that is killed.

    Raises ``BlockingIOError`` if another process holds it, and another ``OSError`` if it cannot be locked.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
    try:
        if sys.platform == "win32":
            import msvcrt

            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            except PermissionError:
                raise BlockingIOError from None
            yield
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            about = _look(path)
            if about is None or not os.path.samestat(about, os.fstat(descriptor)):
                raise BlockingIOError  # its holder removed it at this moment
            try:
                yield
            finally:
                with suppress(OSError):
                    path.unlink()  # while it is held, so that no other process's lock is removed
    finally:
        os.close(descriptor)
        if sys.platform == "win32":  # which removes no file that a process has open
            with suppress(OSError):
                path.unlink()


def _look(path: Path) -> os.stat_result | None:
    """The state of a file; ``None`` if there is none. Raises if it is not a regular file."""
    try:
        about = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(about.st_mode):
        raise ConfigurationError(
            f"{path} is a symlink, or not a regular file.", remedy="Find out who created it, and remove it."
        )
    return about


def _version(about: os.stat_result) -> FileVersion:
    return FileVersion(about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)


def _temporary(path: Path) -> Path:
    """A random name for a file next to ``path``. Removes files that killed writers left under such names."""
    form = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}\.tmp")
    with suppress(PermissionError):  # the directory cannot be listed
        for other in filter(form.fullmatch, os.listdir(path.parent)):
            with suppress(OSError):  # another program has it open, on Windows; the next writer removes it
                path.with_name(other).unlink()
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def _create(path: Path, content: bytes, shown: Path, like: os.stat_result | None) -> None:
    """Creates a file with the mode, owner and group of ``like``, or else with mode 0600. Errors name ``shown``."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
    except FileExistsError:
        raise ConfigurationError(
            f"{shown} already exists and will not be overwritten.", remedy="Choose another file."
        ) from None
    except OSError as error:
        raise _not_writable(shown, error) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            if like is not None and sys.platform != "win32":
                with suppress(PermissionError):  # the group is usually right already
                    os.fchown(descriptor, -1, like.st_gid)
                made = os.fstat(descriptor)
                if (made.st_uid, made.st_gid) != (like.st_uid, like.st_gid):
                    raise ConfigurationError(
                        f"{shown} belongs to uid {like.st_uid} and gid {like.st_gid}, and this user cannot create a "
                        "file with that owner and group. The processes that read it now could not read its replacement.",
                        remedy="Run this as the file's owner and in its group.",
                    )
                os.fchmod(descriptor, stat.S_IMODE(like.st_mode) & 0o777)
            file.write(content)
            file.flush()
            os.fsync(descriptor)  # only this may find out that the disk is full
    except BaseException as error:  # Ctrl-C must not leave part of a key
        path.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise ConfigurationError(
            f"{shown} cannot be written completely ({error.strerror}), so nothing was changed.",
            remedy="Check the free space on the disk and the quota.",
        ) from None


def _rename(temporary: Path, path: Path) -> None:
    for pause in (*_SHARING_PAUSES, None):
        try:
            os.replace(temporary, path)
        except PermissionError as error:
            if pause is None:
                raise _not_writable(path, error) from None
            time.sleep(pause)
        else:
            return


def _sync_directory(path: Path) -> None:
    with suppress(OSError):  # Windows cannot sync a directory, and need not
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _not_writable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{path} cannot be written ({error.strerror}).",
        remedy="Check that its directory exists and that this user may write to it.",
    )
