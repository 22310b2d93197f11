"""Files are replaced in one step, never over what another process changed, and root works only where no other user can write.

The victim is a file of root's outside of the directory.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_rotation import api, app, interrupting, key_file, okta, one_key, rotation  # noqa: F401 (fixtures)

from okta_m2m import ConfigurationError, OktaM2MError, PrivateKey
from okta_m2m.admin import _safe_files
from okta_m2m.admin._rotation_files import RotationFiles
from okta_m2m.admin.errors import RotationFailed
from okta_m2m.admin.key_files import (
    check_replaceable,
    new_key,
    read_file,
    replace_file,
    write_key,
    write_new_file,
)
from okta_m2m.admin.management import ManagementApi
from okta_m2m.admin.rotation import Rotation, Step
from okta_m2m.testing import App, FakeOkta

posix_only = pytest.mark.skipif(os.name != "posix", reason="owners, modes and symlinks as POSIX has them")
root_only = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to be two users")

STRANGER = 12345


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "shadow"
    path.write_text("root's own")
    path.chmod(0o600)
    return path


def facts(path: Path) -> tuple[str, int, int, int]:
    about = path.stat()
    return path.read_text(), about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory of this user's, with a file."""
    path = tmp_path / "service"
    path.mkdir(mode=0o755)
    target = path / "key.json"
    target.write_text("old")
    target.chmod(0o640)
    return path


USES = [
    lambda path: replace_file(path, b"new"),
    check_replaceable,
    read_file,
    lambda path: write_new_file(path.with_name("new.json"), b"secret"),
]


# ── root ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def files_below(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@posix_only
@root_only
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("theirs", ["service", "service/inner"])
def test_root_refuses_a_directory_of_another_user(
    folder: Path, tmp_path: Path, use: Callable[[Path], object], theirs: str
) -> None:
    """Also one from which the path leads back into a directory of root's."""
    (folder / "inner").mkdir()
    (folder / "inner" / "key.json").write_text("old")
    os.chown(tmp_path / theirs, STRANGER, STRANGER)
    before = files_below(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        use(folder / "inner" / "key.json")
    assert f"Root does not use {tmp_path / theirs}: others can change it (uid 12345" in caught.value.problem
    assert str(caught.value.remedy).startswith("Run this as the user whose files these are (sudo -u USER)")
    assert files_below(tmp_path) == before


@posix_only
@root_only
@pytest.mark.parametrize("use", USES[:3])
def test_root_refuses_a_file_of_another_user(folder: Path, use: Callable[[Path], object]) -> None:
    target = folder / "key.json"
    os.chown(target, STRANGER, STRANGER)
    before = facts(target)
    with pytest.raises(ConfigurationError, match=r"Root does not use .*key.json: .*\(uid 12345, mode 640\)"):
        use(target)
    assert facts(target) == before
    assert os.listdir(folder) == ["key.json"]


@posix_only
@root_only
def test_root_may_use_a_file_of_another_users_group(folder: Path) -> None:
    target = folder / "key.json"
    os.chown(target, 0, STRANGER)
    replace_file(target, b"new")
    assert facts(target) == ("new", 0, STRANGER, 0o640)


@posix_only
@root_only
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_root_refuses_a_directory_that_others_can_write_to(
    folder: Path, use: Callable[[Path], object], mode: int
) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "key.json").write_text("old")
    folder.chmod(mode)
    with pytest.raises(
        ConfigurationError, match=rf"Root does not use {folder}: .*\(uid 0, mode {mode:o}\).*let only root write"
    ):
        use(folder / "inner" / "key.json")
    assert files_below(folder) == {"key.json": "old", "inner/key.json": "old"}


@posix_only
@root_only
@pytest.mark.parametrize("use", USES)
def test_root_may_work_below_a_sticky_directory(folder: Path, use: Callable[[Path], object]) -> None:
    """As /tmp is: others can create names there, and cannot change root's."""
    folder.chmod(0o1777)
    use(folder / "key.json")


@posix_only
@root_only
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("below", ["", "deeper/"])
def test_root_refuses_a_symlink_of_another_user_in_the_path(
    folder: Path, tmp_path: Path, use: Callable[[Path], object], below: str
) -> None:
    """A service's user has root write in a directory of root's, or read from it."""
    etc = tmp_path / "etc"
    (etc / below).mkdir(parents=True)
    (etc / below / "key.json").write_text("root's own")
    folder.chmod(0o1777)
    (folder / "conf").symlink_to(etc)
    os.chown(folder / "conf", STRANGER, STRANGER, follow_symlinks=False)
    (tmp_path / "own").symlink_to(folder / "conf")  # root's own link, which leads through the attacker's
    for begin in (folder / "conf", tmp_path / "own"):
        with pytest.raises(ConfigurationError, match=r"Root does not use .*conf: .*\(uid 12345"):
            use(begin / below / "key.json")
    assert files_below(etc) == {f"{below}key.json": "root's own"}


@posix_only
@root_only
@pytest.mark.parametrize("use", USES[:3])
def test_root_refuses_a_file_that_is_a_symlink_of_another_user(
    folder: Path, victim: Path, use: Callable[[Path], object]
) -> None:
    before = facts(victim)
    folder.chmod(0o1777)
    (folder / "okta.yaml").symlink_to(victim)
    os.chown(folder / "okta.yaml", STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(ConfigurationError, match=r"Root does not use .*okta.yaml: .*\(uid 12345"):
        use(folder / "okta.yaml")
    assert facts(victim) == before


@posix_only
@root_only
@pytest.mark.parametrize("use", USES)
def test_root_follows_its_own_symlink_only_into_directories_of_its_own(
    folder: Path, tmp_path: Path, use: Callable[[Path], object]
) -> None:
    os.chown(folder, STRANGER, STRANGER)
    (tmp_path / "own").symlink_to("service")
    with pytest.raises(ConfigurationError, match=r"Root does not use .*service: .*\(uid 12345"):
        use(tmp_path / "own" / "key.json")
    assert files_below(folder) == {"key.json": "old"}


@posix_only
@root_only
def test_another_user_may_use_their_own_directory_below_one_of_root(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only root is refused: a service may well be below a directory or a symlink of the user who deploys it."""
    (folder.parent / "current").symlink_to("service")
    os.chown(folder.parent / "current", 54321, 54321, follow_symlinks=False)
    for path in (folder, folder / "key.json"):
        os.chown(path, STRANGER, STRANGER)
    with pytest.raises(ConfigurationError, match=r"Root does not use .*current: others can change it"):
        read_file(folder.parent / "current" / "key.json")
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    assert read_file(folder.parent / "current" / "key.json").data == b"old"


# ── every user ───────────────────────────────────────────────────────────────────────────────────────────────────────


@posix_only
def test_no_guessable_name_is_opened_for_a_temporary_file(folder: Path, victim: Path) -> None:
    before = facts(victim)
    for name in (".key.json.tmp", "key.json.tmp", ".key.json.new.tmp"):
        (folder / name).symlink_to(victim)
    replace_file(folder / "key.json", b"new")
    assert (folder / "key.json").read_bytes() == b"new"
    assert facts(victim) == before
    assert (folder / ".key.json.tmp").is_symlink()


@posix_only
@pytest.mark.parametrize("leads", ["to a file", "nowhere"])
def test_a_new_file_is_not_created_through_a_symlink(folder: Path, victim: Path, leads: str) -> None:
    before = facts(victim)
    elsewhere = victim if leads == "to a file" else victim.with_name("absent")
    (folder / "new.json").symlink_to(elsewhere)
    with pytest.raises(ConfigurationError, match=r"new.json already exists and will not be overwritten"):
        write_new_file(folder / "new.json", b"secret")
    assert facts(victim) == before
    assert not victim.with_name("absent").exists()


@posix_only
@pytest.mark.parametrize("use", USES)
def test_the_users_own_symlinks_in_the_path_are_followed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[[Path], object]
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "relative").symlink_to("../service")
    (tmp_path / "absolute").symlink_to(tmp_path / "deep" / "relative")
    (tmp_path / "to the root").symlink_to("/")
    monkeypatch.chdir(tmp_path)
    for begin in (tmp_path / "absolute", Path("deep/relative"), tmp_path / "to the root" / folder.relative_to("/")):
        use(begin / "key.json")
        (folder / "new.json").unlink(missing_ok=True)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError if use is read_file else ConfigurationError, match="symbolic links"):
        use(tmp_path / "loop" / "key.json")


@posix_only
def test_a_path_may_lead_through_directories_that_cannot_be_listed(folder: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0 or not hasattr(os, "O_PATH"):
        pytest.skip("root may list everything, and only Linux opens such a directory")
    folder.parent.chmod(0o311)
    try:
        assert read_file(folder / "key.json").data == b"old"
    finally:
        folder.parent.chmod(0o700)


@posix_only
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("what", ["missing", "a file", "closed"])
def test_a_directory_that_cannot_be_used_is_refused(
    folder: Path, tmp_path: Path, use: Callable[[Path], object], what: str
) -> None:
    if what == "closed" and os.geteuid() == 0:
        pytest.skip("root may enter every directory")
    if what == "a file":
        (tmp_path / "file").write_text("")
        folder = tmp_path / "file"
    elif what == "missing":
        folder = tmp_path / "missing"
    else:
        folder.chmod(0o600)
    try:
        with (
            pytest.raises(OSError, match="json")
            if use is read_file
            else pytest.raises(ConfigurationError, match="json cannot be written")
        ):
            use(folder / "key.json")
    finally:
        if what == "closed":
            folder.chmod(0o700)


@posix_only
def test_a_file_can_be_replaced_in_a_directory_that_cannot_be_listed(folder: Path) -> None:
    folder.chmod(0o300)
    try:
        replace_file(folder / "key.json", b"new")
        assert (folder / "key.json").read_bytes() == b"new"
    finally:
        folder.chmod(0o700)


@posix_only
@pytest.mark.parametrize("use", USES[:3])
def test_the_root_directory_is_refused(use: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    for path in (Path("/"), tmp_path / "link"):
        with pytest.raises(ConfigurationError, match="not a regular file"):
            use(path)


@posix_only
def test_a_symlink_to_a_file_stays_and_the_file_is_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "middle").symlink_to("service/key.json")
    (tmp_path / "link").symlink_to(tmp_path / "middle")
    replace_file(tmp_path / "link", b"new")
    assert (folder / "key.json").read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ConfigurationError, match="is a symlink, not a regular file"):
        replace_file(tmp_path / "loop", b"new")


@posix_only
def test_a_fifo_is_refused_and_does_not_block(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    for use in (read_file, lambda path: replace_file(path, b"new"), check_replaceable):
        with pytest.raises(ConfigurationError, match="not a regular file"):
            use(folder / "pipe")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * ((1 << 20) + 1))
    with pytest.raises(ConfigurationError, match="larger than 1024 KiB"):
        read_file(tmp_path / "log")


def test_a_version_other_than_the_one_that_was_read_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "okta.yaml"
    path.write_text("okta: {}")
    read = read_file(path)
    assert read.data == b"okta: {}"
    replace_file(path, b"ours", was=read.version)
    with pytest.raises(ConfigurationError, match="changed by another process"):
        replace_file(path, b"ours again", was=read.version)
    assert path.read_bytes() == b"ours"
    path.unlink()
    with pytest.raises(ConfigurationError, match="changed by another process"):
        replace_file(path, b"ours again", was=read.version)
    assert not list(tmp_path.iterdir())


def test_only_the_temporary_files_of_killed_writers_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    left, others = (
        tmp_path / f".key.json.{'0' * 16}.tmp",
        [".key.json.tmp", ".key.json.zz.tmp", f".other.{'0' * 16}.tmp"],
    )
    for name in (left.name, *others):
        (tmp_path / name).write_text("half a key")
    replace_file(path, b"new")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(["key.json", *others])


def test_a_file_that_another_program_has_open_on_windows_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, refused, replace = tmp_path / "key.json", 0, os.replace
    path.write_text("old")

    def sharing_violation(*names: object, **options: object) -> None:
        nonlocal refused
        refused += 1
        if refused <= allowed:
            raise PermissionError(13, "The process cannot access the file")
        replace(*names, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(_safe_files, "_SHARING_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(os, "replace", sharing_violation)
    allowed = 2
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    refused, allowed = 0, 3
    with pytest.raises(ConfigurationError, match="cannot be written"):
        replace_file(path, b"newer")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["key.json"]


@pytest.fixture
def _removes_no_open_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Windows: the files that this process has open cannot be removed."""
    opened, open_file, unlink = list[int](), os.open, os.unlink

    def remembering(*arguments: Any, **options: Any) -> int:
        opened.append(open_file(*arguments, **options))
        return opened[-1]

    def refusing(name: str) -> None:
        for descriptor in opened:
            try:
                is_open = os.path.samestat(os.fstat(descriptor), os.lstat(name))
            except OSError:  # it is closed, or there is no such file
                is_open = False
            if is_open:
                raise PermissionError(13, "The process cannot access the file")
        unlink(name)

    monkeypatch.setattr(os, "open", remembering)
    monkeypatch.setattr(os, "unlink", refusing)


@posix_only
@pytest.mark.usefixtures("_removes_no_open_file")
@pytest.mark.parametrize("write", [lambda path: replace_file(path, b"new"), check_replaceable])
def test_a_failed_write_leaves_no_file_where_open_files_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    path = tmp_path / "key.json"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(ConfigurationError, match=r"cannot be written \(No space left on device\)"):
        write(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["key.json"]


@pytest.mark.usefixtures("_removes_no_open_file")
def test_a_leftover_that_another_program_has_open_is_left(tmp_path: Path) -> None:
    left = tmp_path / f".key.json.{'0' * 16}.tmp"
    left.write_text("half a key")
    descriptor = os.open(left, os.O_RDONLY)
    try:
        replace_file(tmp_path / "key.json", b"new")
    finally:
        os.close(descriptor)
    assert (tmp_path / "key.json").read_bytes() == b"new"
    assert left.exists()
    replace_file(tmp_path / "key.json", b"newer")
    assert not left.exists()


# ── a rotation ───────────────────────────────────────────────────────────────────────────────────────────────────────


@posix_only
@pytest.mark.parametrize("what", ["new", "old", "rotation", "lock"])
def test_a_symlink_under_any_name_of_a_rotation_does_not_change_its_target(
    app: App,  # noqa: F811
    key_file: Path,  # noqa: F811
    rotation: Callable[..., Rotation],  # noqa: F811
    victim: Path,
    what: str,
) -> None:
    before, key = facts(victim), key_file.read_bytes()
    planted = key_file.with_name(f"key.json.{what}")
    planted.symlink_to(victim)
    for attempt in (rotation().run, rotation().abandon):
        with suppress(OktaM2MError):
            attempt()
    assert facts(victim) == before
    assert key_file.read_bytes() == key
    if what == "lock":
        with pytest.raises(RotationFailed, match="something else has that name: remove it"):
            rotation().run()


@posix_only
def test_a_hard_link_under_the_locks_name_is_not_truncated(
    okta: FakeOkta,  # noqa: F811
    app: App,  # noqa: F811
    key_file: Path,  # noqa: F811
    rotation: Callable[..., Rotation],  # noqa: F811
    victim: Path,
) -> None:
    before = facts(victim)
    os.link(victim, key_file.with_name("key.json.lock"))
    with suppress(OktaM2MError):
        rotation().run()
    assert facts(victim) == before


@posix_only
@root_only
@pytest.mark.parametrize("what", ["new", "rotation"])
def test_a_key_or_a_journal_of_another_user_is_not_used(
    okta: FakeOkta,  # noqa: F811
    app: App,  # noqa: F811
    api: ManagementApi,  # noqa: F811
    key_file: Path,  # noqa: F811
    rotation: Callable[..., Rotation],  # noqa: F811
    what: str,
) -> None:
    """The attacker waits for an interruption, and then has root register a key of theirs, or delete one of the app's."""
    with pytest.raises(KeyboardInterrupt):
        rotation(progress=interrupting(Step.MAKE)).run()
    planted = key_file.with_name(f"key.json.{what}")
    if what == "new":
        planted.unlink()
        write_key(planted, new_key("ES256"))
        theirs = PrivateKey.from_file(planted).kid
    else:
        planted.write_text(json.dumps({**json.loads(planted.read_text()), "old_id": "pks-another"}))
        theirs = "pks-another"
    os.chown(planted, STRANGER, STRANGER)
    with pytest.raises(OktaM2MError, match=r"Another user owns .*key.json.* so it is not trusted"):
        rotation().run()
    assert theirs not in [key["kid"] for key in app.jwks["keys"]]


@posix_only
@pytest.mark.parametrize("planted", ["a hard link", "a file that others can write"])
def test_a_journal_that_others_may_have_written_is_not_used(
    app: App,  # noqa: F811
    key_file: Path,  # noqa: F811
    rotation: Callable[..., Rotation],  # noqa: F811
    tmp_path: Path,
    planted: str,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        rotation(progress=interrupting(Step.MAKE)).run()
    journal = key_file.with_name("key.json.rotation")
    if planted == "a hard link":
        os.link(journal, tmp_path / "link")
    else:
        journal.chmod(0o620)
    with pytest.raises(
        ConfigurationError, match=r"Another user .*key.json.rotation, can write to it, or made a hard link"
    ):
        rotation().run()
    assert len(app.jwks["keys"]) == 1


@posix_only
@root_only
def test_root_does_not_rotate_the_key_of_another_user(
    okta: FakeOkta,  # noqa: F811
    app: App,  # noqa: F811
    key_file: Path,  # noqa: F811
    rotation: Callable[..., Rotation],  # noqa: F811
) -> None:
    before = key_file.read_bytes()
    for path in (key_file.parent, key_file):
        os.chown(path, STRANGER, STRANGER)
    for attempt in (rotation().run, rotation().plan, rotation().abandon, rotation().key_age):
        with pytest.raises(
            ConfigurationError, match=r"others can change it .* Run this as the user whose files these are \(sudo -u"
        ):
            attempt()
    assert files_below(key_file.parent) == {"key.json": before.decode()}
    assert not okta.requests


@posix_only
def test_a_rotation_stays_in_the_directory_in_which_it_began(
    okta: FakeOkta,  # noqa: F811
    app: App,  # noqa: F811
    key_file: Path,  # noqa: F811
    rotation: Callable[..., Rotation],  # noqa: F811
    tmp_path: Path,
) -> None:
    link, elsewhere = tmp_path / "current", tmp_path / "elsewhere"
    elsewhere.mkdir()
    link.symlink_to(key_file.parent)

    def turn(progress: object) -> None:
        link.unlink(missing_ok=True)
        link.symlink_to(elsewhere)

    rotation(key_file=link / key_file.name, progress=turn).run()
    assert os.listdir(elsewhere) == []
    one_key(okta, app, key_file)


@posix_only
@pytest.mark.parametrize("taken", [False, True])
def test_a_lock_on_windows_needs_only_the_standard_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    """With a stand-in for ``msvcrt``, which does what Python's documentation says about it."""
    asked: list[tuple[int, int]] = []

    def locking(descriptor: int, mode: int, length: int) -> None:
        asked.append((mode, length))
        if taken:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(LK_NBLCK=2, locking=locking))
    files = RotationFiles(tmp_path / "key.json", None)
    files.open()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        if taken:
            with pytest.raises(RotationFailed, match="is running"), files.locked():
                pass
        else:
            with files.locked():
                assert (tmp_path / "key.json.lock").exists()
    assert os.listdir(tmp_path) == (["key.json.lock"] if taken else [])
    assert asked == [(2, 1)]
