"""Creates, reads and replaces files in a directory that another user may be able to write to.

An administrator runs this as root on a directory that belongs to a service. So the service's user may create anything
there at any moment, to make root read, write or give away a file of the attacker's choice.

    attack                                               what stops it
    -------------------------------------------------    -----------------------------------------------------------------
    the directory is swapped between two steps           it is opened once; every name is relative to that descriptor
    a directory in the path is the attacker's symlink    the path is walked by descriptors; see the last line
    a symlink is planted under a name that we read       O_NOFOLLOW; only a regular file is read, and a FIFO never blocks
    a symlink is planted under a name that we create     O_EXCL with O_NOFOLLOW, and random names for temporary files
    the attacker's file is planted as ours               files that only we write must be ours (``ours=True``)
    the temporary file is swapped before chown           owner and mode are set by descriptor, never by path
    the temporary file is swapped before the rename      the name must lead to the descriptor's file, before and after
    the target is swapped or edited meanwhile            it must be the file that was there at the beginning
    the target is the attacker's symlink                 any symlink is followed only if this user or root made it

Renaming and removing never follow a symlink. The worst possible result is a failed run, or a name in the attacker's own
directory that leads to the attacker's own file.

Windows has neither ``dir_fd`` nor ``O_NOFOLLOW``. There, names are joined to the resolved path, symlinks are detected
before a file is opened, and an open file cannot be renamed or removed. Owners and modes are neither set nor compared: a new
file has the permissions that its directory passes on.
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
from types import TracebackType
from typing import Any, Final, NamedTuple

from .._base.crash_reports import without_locals
from ..errors import ConfigurationError

__all__ = ["MAX_FILE_SIZE", "FileContent", "FileVersion", "OpenDirectory", "open_parent"]

MAX_FILE_SIZE: Final = 1 << 20
"""Size of the largest file that is read, in bytes. A key file or an ``okta.yaml`` has a few thousand bytes."""

_MAX_LINKS: Final = 40  # as many as Linux follows
_PATH_ONLY: int = getattr(os, "O_PATH", 0)  # Linux: needs no permission to read what is opened
_COMMON: Final = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_READ: Final = os.O_RDONLY | _COMMON | getattr(os, "O_NONBLOCK", 0)  # opening a FIFO must not block
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _COMMON
_DIRECTORY: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _COMMON

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


class OpenDirectory:
    """A directory, held open. Use it with ``with``.

    - ``path``: a directory without symlinks in its path, as :func:`open_parent` resolves it.
    - ``descriptor``: the open directory, which this object closes; ``None`` on Windows.
    """

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    def __enter__(self) -> OpenDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def exists(self, name: str) -> bool:
        """Whether this name exists, even as a broken symlink."""
        return self._look(name) is not None

    @without_locals
    def read(self, name: str, *, ours: bool = False) -> FileContent:
        """Reads a regular file.

        - ``ours``: refuses a file that another user owns, can write to, or has hard-linked.

        Raises ``FileNotFoundError`` if there is none, another ``OSError`` if it cannot be read, and
        :class:`~okta_m2m.errors.ConfigurationError` for a file that must not be trusted.
        """
        path = self.path / name
        if sys.platform == "win32" and path.is_symlink():
            raise _not_regular(path)
        try:
            descriptor = self._open(name, _READ)
        except OSError:
            about = self._look(name)
            if about is not None and not stat.S_ISREG(about.st_mode):
                raise _not_regular(path) from None
            raise
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise _not_regular(path)
            if ours:
                _check_ours(path, about)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(MAX_FILE_SIZE + 1)
            if len(data) > MAX_FILE_SIZE:
                raise ConfigurationError(
                    f"{path} is larger than {MAX_FILE_SIZE >> 10} KiB.",
                    remedy="Find out who created it, and remove it.",
                )
            return FileContent(data, _version(about))
        finally:
            os.close(descriptor)

    @without_locals
    def create(self, name: str, content: bytes) -> None:
        """Creates a file that only its owner can read (mode 0600). It is on disk when this returns.

        Raises :class:`~okta_m2m.errors.ConfigurationError` if the name exists or the file cannot be written. No partially
        written file remains.
        """
        descriptor = self._create(name)
        try:
            with self._writing(name):
                _write(descriptor, content)
                os.fsync(descriptor)
        except BaseException:  # Ctrl-C must not leave part of a key
            os.close(descriptor)
            self.remove(name)
            raise
        os.close(descriptor)
        self._sync()

    @without_locals
    def replace(self, name: str, content: bytes, *, was: FileVersion | None = None) -> None:
        """Replaces a file's content atomically, and keeps its mode, owner and group. A new file gets mode 0600.

        Only one writer may do this at a time: the temporary files of killed writers are removed.

        - ``was``: the version that was read. No other version is overwritten.

        Raises :class:`~okta_m2m.errors.ConfigurationError`, and leaves the file unchanged.
        """
        before = self._regular(name)
        if was is not None and (before is None or _version(before) != was):
            raise _changed(self.path / name)
        temporary = self._temporary(name, before)
        descriptor: int | None = self._create(temporary, shown=name)
        assert descriptor is not None  # noqa: S101 (for type checkers)
        try:
            with self._writing(name):
                _write(descriptor, content)
            if before is not None:
                _keep_owner(descriptor, self.path / name, before)
                if sys.platform != "win32":
                    os.fchmod(descriptor, stat.S_IMODE(before.st_mode) & 0o777)
            with self._writing(name):
                os.fsync(descriptor)
            if sys.platform != "win32" and not _is_same(self._look(temporary), os.fstat(descriptor)):
                raise _changed(self.path / temporary)
            now = self._regular(name)
            if (now and _version(now)) != (before and _version(before)):
                raise _changed(self.path / name)
            if sys.platform == "win32":  # Windows cannot rename an open file
                os.close(descriptor)
                descriptor = None
            self._rename(temporary, name)
            if descriptor is not None and not _is_same(self._look(name), os.fstat(descriptor)):
                raise _changed(self.path / name)  # replaced at the last moment: the file there now is not ours
        except BaseException:
            if descriptor is not None:
                os.close(descriptor)  # first: Windows cannot remove an open file
            self.remove(temporary)
            raise
        if descriptor is not None:
            os.close(descriptor)
        self._sync()

    def check_replaceable(self, name: str) -> None:
        """Raises the same errors as :meth:`replace` about owner and group, before anything is changed."""
        before = self._regular(name)
        if before is None:
            return
        temporary = self._temporary(name, before)
        descriptor = self._create(
            temporary, shown=name
        )  # only the file system knows who will own a file that is created there
        try:
            _keep_owner(descriptor, self.path / name, before)
        finally:
            os.close(descriptor)
            self.remove(temporary)

    def remove(self, name: str) -> None:
        """Removes a name, if it exists. For a symlink, it removes the link."""
        with suppress(FileNotFoundError):
            os.unlink(self._name(name), **self._at("dir_fd"))

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Holds the lock file ``name``, and removes it in the end. The operating system frees the lock of a process that is
        killed.

        Raises ``BlockingIOError`` if another process holds it, and another ``OSError`` if it cannot be locked.
        """
        with self._lock(name):
            try:
                yield
            finally:
                # Remove it while it is held, so that no other process's lock is removed. Windows cannot remove an open file.
                with suppress(OSError):
                    self.remove(name)

    # ── one system call each ─────────────────────────────────────────────────────────────────────────────────────

    def _name(self, name: str) -> str:
        return name if self._descriptor is not None else str(self.path / name)

    def _at(self, *parameters: str) -> dict[str, Any]:
        return dict.fromkeys(parameters, self._descriptor) if self._descriptor is not None else {}

    def _open(self, name: str, flags: int) -> int:
        return os.open(self._name(name), flags, 0o600, **self._at("dir_fd"))

    def _look(self, name: str) -> os.stat_result | None:
        try:
            return os.lstat(self._name(name), **self._at("dir_fd"))
        except FileNotFoundError:
            return None

    def _regular(self, name: str) -> os.stat_result | None:
        about = self._look(name)
        if about is not None and not stat.S_ISREG(about.st_mode):
            raise _not_regular(self.path / name)
        return about

    def _create(self, name: str, shown: str | None = None) -> int:
        path = self.path / (shown or name)
        try:
            return self._open(name, _CREATE)
        except FileExistsError:
            raise ConfigurationError(
                f"{path} already exists and will not be overwritten.", remedy="Choose another file."
            ) from None
        except OSError as error:
            raise _not_writable(path, error) from None

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """Reports failed writes. A full disk may show only when the file is synced."""
        try:
            yield
        except OSError as error:
            raise ConfigurationError(
                f"{self.path / name} cannot be written completely ({error.strerror}), so nothing was changed.",
                remedy="Check the free space on the disk and the quota.",
            ) from None

    def _rename(self, temporary: str, name: str) -> None:
        for pause in (*_SHARING_PAUSES, None):
            try:
                os.replace(self._name(temporary), self._name(name), **self._at("src_dir_fd", "dst_dir_fd"))
            except PermissionError as error:
                if pause is None:
                    raise _not_writable(self.path / name, error) from None
                time.sleep(pause)
            else:
                return

    def _temporary(self, name: str, target: os.stat_result | None) -> str:
        """A random name for a file next to ``name``. Removes files that killed writers left under such names."""
        form = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{16}}\.tmp")
        for other in os.listdir(self.path if self._descriptor is None else self._descriptor):
            about = self._look(other) if form.fullmatch(other) else None
            if about is not None and stat.S_ISREG(about.st_mode) and _is_leftover(about, target):
                with suppress(PermissionError):  # another program has it open, on Windows; the next writer removes it
                    self.remove(other)
        return f".{name}.{secrets.token_hex(8)}.tmp"

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        if sys.platform == "win32":
            from filelock import FileLock, Timeout

            lock = FileLock(self.path / name, timeout=0)
            try:
                lock.acquire()
            except Timeout:
                raise BlockingIOError from None
            try:
                yield
            finally:
                lock.release()
        else:
            import fcntl

            descriptor = self._open(name, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | _COMMON)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _is_same(self._look(name), os.fstat(descriptor)):
                    raise BlockingIOError  # its holder removed it at this moment
                yield
            finally:
                os.close(descriptor)

    def _sync(self) -> None:
        if self._descriptor is not None:  # Windows cannot sync a directory, and need not
            with suppress(OSError):
                os.fsync(self._descriptor)


def open_parent(path: str | os.PathLike[str], *, follow: bool = True) -> tuple[OpenDirectory, str]:
    """The directory of a file, and the file's name in it. For a symlink, both are those of the file that it leads to.

    - ``follow``: ``False`` for a file to create, for which a symlink counts as an existing file.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for a symlink that another user created, anywhere in the path, and
    for a directory that cannot be opened.
    """
    shown = Path(path)
    try:
        return _resolve(shown, follow) if sys.platform == "win32" else _walk(shown, follow)
    except OSError as error:
        raise _not_writable(shown, error) from None


def _resolve(shown: Path, follow: bool) -> tuple[OpenDirectory, str]:
    """:func:`open_parent` on Windows."""
    resolved = Path(os.path.abspath(shown))
    for _ in range(_MAX_LINKS):
        if not follow or not resolved.is_symlink():
            directory = resolved.parent.resolve()
            os.stat(directory)
            return OpenDirectory(directory, None), resolved.name
        resolved = Path(os.path.normpath(resolved.parent.resolve() / os.readlink(resolved)))
    raise _circular(shown)


def _walk(shown: Path, follow: bool) -> tuple[OpenDirectory, str]:
    """:func:`open_parent` on POSIX: opens one directory after the other, each relative to the one before it."""
    path, links = Path("/"), 0
    pending = _names(os.path.abspath(shown))
    descriptor = os.open("/", _DIRECTORY | _PATH_ONLY)
    try:
        while pending:
            name = pending.pop()
            link = _read_link(descriptor, name) if pending or follow else None
            if link is not None:
                about, target = link
                _check_link(path / name, about, "directory" if pending else "file")
                links += 1
                if links > _MAX_LINKS:
                    raise _circular(shown)
                pending += _names(target)
                if not target.startswith("/"):
                    continue
                name, path = "/", Path("/")
            elif pending:
                path = path.parent if name == ".." else path / name
            else:
                return OpenDirectory(path, os.open(".", _DIRECTORY, dir_fd=descriptor)), name
            descriptor, former = os.open(name, _DIRECTORY | _PATH_ONLY, dir_fd=descriptor), descriptor
            os.close(former)
    finally:
        os.close(descriptor)
    raise _not_regular(shown)  # it is the root directory


def _check_link(path: Path, about: os.stat_result, kind: str) -> None:
    if sys.platform != "win32" and about.st_uid not in (os.geteuid(), 0):
        raise ConfigurationError(
            f"{path} is a symlink that another user (uid {about.st_uid}) created.",
            remedy=f"Use the path of the {kind} that it leads to.",
        )


def _names(path: str) -> list[str]:
    """The names in a path, the last one first."""
    return [name for name in path.split("/") if name not in ("", ".")][::-1]


def _read_link(directory: int, name: str) -> tuple[os.stat_result, str] | None:
    """The state and the target of a symlink; ``None`` if the name is no symlink. Both are of the same symlink, even if the
    name is exchanged meanwhile."""
    try:
        about = os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return None
    if not stat.S_ISLNK(about.st_mode):
        return None
    if _PATH_ONLY:
        link = os.open(name, _PATH_ONLY | _COMMON, dir_fd=directory)
        try:
            return os.fstat(link), os.readlink("", dir_fd=link)
        finally:
            os.close(link)
    target = os.readlink(name, dir_fd=directory)
    now = os.lstat(name, dir_fd=directory)
    if not _is_same(about, now) or about.st_ctime_ns != now.st_ctime_ns:
        raise _changed(Path(name))
    return about, target


def _write(descriptor: int, content: bytes) -> None:
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(content)


def _version(about: os.stat_result) -> FileVersion:
    return FileVersion(about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)


def _is_same(about: os.stat_result | None, other: os.stat_result) -> bool:
    return about is not None and (about.st_dev, about.st_ino) == (other.st_dev, other.st_ino)


def _is_leftover(about: os.stat_result, target: os.stat_result | None) -> bool:
    """Whether a file belongs to this user, or already has the owner of the file that it was to replace."""
    return sys.platform == "win32" or about.st_uid in (os.geteuid(), *([] if target is None else [target.st_uid]))


def _check_ours(path: Path, about: os.stat_result) -> None:
    if sys.platform == "win32":
        return
    if about.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{path} belongs to another user (uid {about.st_uid}), so it is not trusted.",
            remedy="Run this as that user, or find out who created the file and remove it.",
        )
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or about.st_nlink != 1:
        raise ConfigurationError(
            f"Others can write {path}, or it has a second hard link, so it is not trusted.",
            remedy="Find out who created it, and remove it.",
        )


def _keep_owner(descriptor: int, path: Path, wanted: os.stat_result) -> None:
    """Gives the open file the owner and group of ``path``, or raises."""
    if sys.platform == "win32":
        return
    with suppress(PermissionError):  # the owner and group are usually right already
        os.fchown(descriptor, wanted.st_uid, wanted.st_gid)
    actual = os.fstat(descriptor)
    if (actual.st_uid, actual.st_gid) != (wanted.st_uid, wanted.st_gid):
        raise ConfigurationError(
            f"{path} belongs to uid {wanted.st_uid} and gid {wanted.st_gid}, and this user cannot create a file "
            "with that owner and group. The processes that read it now could not read its replacement.",
            remedy="Run this as the file's owner and in its group, or as root.",
        )


def _not_regular(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is a symlink, or not a regular file.", remedy="Find out who created it, and remove it."
    )


def _circular(path: Path) -> ConfigurationError:
    return ConfigurationError(f"{path} is a symlink that leads to itself.", remedy="Choose a file.")


def _changed(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path} was changed by another process in the meantime.",
        remedy="Find out what else writes to it, and run this again.",
    )


def _not_writable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{path} cannot be written ({error.strerror}).",
        remedy="Check that its directory exists and that this user may write to it.",
    )
