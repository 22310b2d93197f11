"""What root writes in a directory that an attacker can write: nothing of root's is read, changed or given away.

The attacker acts at every system call that names a file: a profile function, which CPython runs before each of them, plants
symlinks and exchanges files there. The victim is a file outside of the directory.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from test_rotation import api, app, interrupting, key_file, okta, one_key, rotation  # noqa: F401 (fixtures)

from okta_m2m import ConfigurationError, OktaM2MError, PrivateKey
from okta_m2m.admin import _safe_files
from okta_m2m.admin._rotation_checks import check_key_file
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
STEPS = {
    "open",
    "lstat",
    "readlink",
    "chown",
    "fchown",
    "chmod",
    "fchmod",
    "rename",
    "replace",
    "unlink",
    "remove",
    "listdir",
    "scandir",
}


@contextmanager
def attacking(act: Callable[[str], None]) -> Iterator[None]:
    """``act(step)`` is called before each of these functions of the operating system, in this thread."""

    def before(_frame: object, event: str, function: Any) -> None:
        if event == "c_call" and function.__module__ in ("posix", "_io") and function.__name__ in STEPS:
            sys.setprofile(None)  # what the attacker does is no step
            try:
                act(function.__name__)
            finally:
                sys.setprofile(before)

    sys.setprofile(before)
    try:
        yield
    finally:
        sys.setprofile(None)


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
    """The attacker's directory, with a file that belongs to them."""
    path = tmp_path / "service"
    path.mkdir()
    target = path / "key.json"
    target.write_text("old")
    target.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, STRANGER, STRANGER)
        os.chown(target, STRANGER, STRANGER)
    return path


def plant(link: Path, target: Path) -> None:
    """A symlink that the attacker creates. Only root can act as two users."""
    link.symlink_to(target)
    if os.geteuid() == 0:
        os.chown(link, STRANGER, STRANGER, follow_symlinks=False)


def exchange(folder: Path, victim: Path, *, spare: str = "key.json") -> None:
    """Puts a symlink to the victim in the place of whatever is in the directory."""
    for entry in list(folder.iterdir()):
        if entry.name != spare:
            entry.unlink()
            plant(entry, victim)


@posix_only
@pytest.mark.parametrize(
    "write", [lambda path: replace_file(path, b"new"), check_replaceable], ids=["replace", "check"]
)
@pytest.mark.parametrize("spare", ["key.json", pytest.param("", marks=root_only)], ids=["temporary", "target"])
def test_a_file_that_is_exchanged_at_any_step_costs_the_victim_nothing(
    folder: Path, victim: Path, write: Callable[[Path], None], spare: str
) -> None:
    before, target = facts(victim), folder / "key.json"

    def steps_with_attack_at(moment: int | None) -> int:
        for entry in folder.iterdir():
            entry.unlink()
        target.write_text("old")
        if os.geteuid() == 0:
            os.chown(target, STRANGER, STRANGER)
        steps = 0

        def act(step: str) -> None:
            nonlocal steps
            if steps == moment:
                exchange(folder, victim, spare=spare)
            steps += 1

        with attacking(act), suppress(ConfigurationError):
            write(target)
        return steps

    steps = steps_with_attack_at(None)
    assert steps > 3
    for moment in range(steps):
        steps_with_attack_at(moment)
        assert facts(victim) == before, f"attacked at step {moment}"


@posix_only
def test_no_name_that_an_attacker_can_guess_is_opened(folder: Path, victim: Path) -> None:
    before = facts(victim)
    for name in (".key.json.tmp", "key.json.tmp", ".key.json.new.tmp"):
        (folder / name).symlink_to(victim)
    replace_file(folder / "key.json", b"new")
    assert (folder / "key.json").read_bytes() == b"new"
    assert facts(victim) == before
    assert (folder / ".key.json.tmp").is_symlink()


@posix_only
@pytest.mark.parametrize("leads", ["to a file", "nowhere"])
def test_a_new_file_is_not_made_through_a_symlink(folder: Path, victim: Path, leads: str) -> None:
    before = facts(victim)
    elsewhere = victim if leads == "to a file" else victim.with_name("absent")
    (folder / "new.json").symlink_to(elsewhere)
    with pytest.raises(ConfigurationError, match=r"new.json already exists and will not be overwritten"):
        write_new_file(folder / "new.json", b"secret")
    assert facts(victim) == before
    assert not victim.with_name("absent").exists()


@posix_only
@root_only
@pytest.mark.parametrize("write", [lambda path: replace_file(path, b"new"), check_replaceable, read_file])
def test_a_symlink_that_another_user_made_is_not_followed(
    folder: Path, victim: Path, write: Callable[[Path], object]
) -> None:
    before = facts(victim)
    (folder / "okta.yaml").symlink_to(victim)
    os.chown(folder / "okta.yaml", STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(
        ConfigurationError,
        match=r"is a symlink that another user .* created. Use the path of the file that it leads to",
    ):
        write(folder / "okta.yaml")
    assert facts(victim) == before


USES = [
    lambda path: replace_file(path, b"new"),
    check_replaceable,
    read_file,
    lambda path: write_new_file(path.with_name("new.json"), b"secret"),
]


@pytest.fixture(params=["O_PATH", "without O_PATH"])
def _each_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Linux reads a symlink, and as macOS does."""
    if request.param != "O_PATH":
        monkeypatch.setattr(_safe_files, "_PATH_ONLY", 0)


@posix_only
@root_only
@pytest.mark.usefixtures("_each_system")
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("below", ["", "deeper/"])
def test_a_symlink_of_another_user_in_the_path_is_not_followed(
    folder: Path, tmp_path: Path, use: Callable[[Path], object], below: str
) -> None:
    """A service's user has root write in a directory of root's, or read from it."""
    etc = tmp_path / "etc"
    (etc / below).mkdir(parents=True)
    (etc / below / "key.json").write_text("root's own")
    plant(folder / "conf", etc)
    (tmp_path / "own").symlink_to(folder / "conf")  # root's own link, which leads through the attacker's
    for begin in (folder / "conf", tmp_path / "own"):
        with pytest.raises(ConfigurationError, match=r"conf is a symlink that another user .* Use the path of the dir"):
            use(begin / below / "key.json")
    assert [(path.name, path.read_text()) for path in (etc / below).iterdir() if path.is_file()] == [
        ("key.json", "root's own")
    ]


@posix_only
@pytest.mark.usefixtures("_each_system")
@pytest.mark.parametrize("use", USES)
def test_a_symlink_of_ones_own_in_the_path_is_followed(
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
    with pytest.raises(ConfigurationError, match="leads to itself"):
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
@pytest.mark.parametrize("use", USES[:3])
def test_the_root_directory_is_no_file(use: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    for path in (Path("/"), tmp_path / "link"):
        with pytest.raises(ConfigurationError, match="not a regular file"):
            use(path)


@posix_only
@root_only
def test_a_symlink_that_is_exchanged_while_it_is_read_is_not_followed(
    folder: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root has made a symlink in the attacker's directory, who puts their own in its place."""
    readlink = os.readlink

    def exchanged(path: str, *, dir_fd: int) -> str:
        (folder / "current").unlink()
        plant(folder / "current", victim.parent)
        return readlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "readlink", exchanged)
    (folder / "current").symlink_to(".")
    assert read_file(folder / "current" / "key.json").data == b"old"  # Linux reads the one that it has opened
    (folder / "current").unlink()
    (folder / "current").symlink_to(".")
    monkeypatch.setattr(_safe_files, "_PATH_ONLY", 0)
    with pytest.raises(ConfigurationError, match="changed by another process"):
        read_file(folder / "current" / "key.json")


@posix_only
def test_a_symlink_of_ones_own_stays_and_the_file_it_leads_to_is_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "middle").symlink_to("service/key.json")
    (tmp_path / "link").symlink_to(tmp_path / "middle")
    replace_file(tmp_path / "link", b"new")
    assert (folder / "key.json").read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ConfigurationError, match="leads to itself"):
        replace_file(tmp_path / "loop", b"new")


@posix_only
@pytest.mark.parametrize("moment", [pytest.param("as it is opened", marks=root_only), "later"])
def test_a_directory_that_is_exchanged_is_not_entered(folder: Path, tmp_path: Path, moment: str) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "key.json").write_text("root's own")

    def act(step: str) -> None:
        if not folder.is_symlink() and (moment == "as it is opened" or step == "listdir"):
            folder.rename(tmp_path / "moved")
            plant(folder, etc)

    with attacking(act):
        if moment == "later":
            replace_file(folder / "key.json", b"new")
        else:
            with pytest.raises(ConfigurationError, match="is a symlink that another user"):
                replace_file(folder / "key.json", b"new")
    assert (etc / "key.json").read_text() == "root's own"
    assert [path.name for path in etc.iterdir()] == ["key.json"]
    assert (tmp_path / "moved" / "key.json").read_bytes() == (b"new" if moment == "later" else b"old")


@posix_only
@root_only
def test_a_directory_that_is_exchanged_at_any_step_is_not_entered(folder: Path, tmp_path: Path) -> None:
    """The attacker owns the directory above the file's, too."""
    inner, moved, etc = folder / "inner", folder / "moved", tmp_path / "etc"
    inner.mkdir()
    (inner / "key.json").write_text("old")
    etc.mkdir()
    (etc / "key.json").write_text("root's own")

    def steps_with_attack_at(moment: int | None) -> int:
        steps = 0

        def act(step: str) -> None:
            nonlocal steps
            if steps == moment:
                inner.rename(moved)
                plant(inner, etc)
            steps += 1

        with attacking(act), suppress(ConfigurationError):
            replace_file(inner / "key.json", b"new")
        if moved.exists():
            inner.unlink()
            moved.rename(inner)
        return steps

    steps = steps_with_attack_at(None)
    assert steps > len(inner.parts)
    for moment in range(steps):
        steps_with_attack_at(moment)
        assert (etc / "key.json").read_text() == "root's own", f"attacked at step {moment}"
        assert [path.name for path in etc.iterdir()] == ["key.json"], f"attacked at step {moment}"


@posix_only
@root_only
def test_a_file_that_is_exchanged_for_a_symlink_before_it_is_opened_is_not_read(folder: Path, victim: Path) -> None:
    """The attacker would learn what root can read: a message or a registered key can show it."""
    exchanged = 0

    def act(step: str) -> None:
        nonlocal exchanged
        exchanged += 1
        exchange(folder, victim, spare="")

    with attacking(act), pytest.raises(ConfigurationError, match="is a symlink that another user"):
        read_file(folder / "key.json")
    assert exchanged


@posix_only
def test_a_fifo_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    for use in (read_file, lambda path: replace_file(path, b"new"), check_replaceable):
        with pytest.raises(ConfigurationError, match="not a regular file"):
            use(folder / "pipe")


def test_a_version_that_was_not_read_is_not_overwritten(tmp_path: Path) -> None:
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


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
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

    def refusing(name: str, *, dir_fd: int | None = None) -> None:
        for descriptor in opened:
            try:
                is_open = os.path.samestat(os.fstat(descriptor), os.lstat(name, dir_fd=dir_fd))
            except OSError:  # it is closed, or there is no such file
                is_open = False
            if is_open:
                raise PermissionError(13, "The process cannot access the file")
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", remembering)
    monkeypatch.setattr(os, "unlink", refusing)


@pytest.mark.usefixtures("_removes_no_open_file")
@pytest.mark.parametrize("write", [lambda path: replace_file(path, b"new"), check_replaceable])
def test_a_failed_write_leaves_no_file_where_open_files_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    path = tmp_path / "key.json"
    path.write_text("old")

    def changed(*_: object) -> None:
        raise ConfigurationError("It was changed.", remedy="Run this again.")

    monkeypatch.setattr(_safe_files, "_keep_owner", changed)
    with pytest.raises(ConfigurationError, match=r"It was changed"):
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
def test_a_symlink_under_any_name_of_a_rotation_costs_the_victim_nothing(
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
    with pytest.raises(OktaM2MError, match=r"belongs to another user \(uid 12345\), so it is not trusted"):
        rotation().run()
    assert theirs not in [key["kid"] for key in app.jwks["keys"]]


@posix_only
@root_only
def test_root_rotates_the_key_of_a_service_in_the_services_own_directory(
    okta: FakeOkta,  # noqa: F811
    app: App,  # noqa: F811
    key_file: Path,  # noqa: F811
    rotation: Callable[..., Rotation],  # noqa: F811
) -> None:
    os.chown(key_file.parent, STRANGER, STRANGER)
    os.chown(key_file, STRANGER, STRANGER)
    rotation().run()
    assert (key_file.stat().st_uid, stat.S_IMODE(key_file.stat().st_mode)) == (STRANGER, 0o600)
    assert [path.name for path in key_file.parent.iterdir()] == ["key.json"]
    one_key(okta, app, key_file)


@posix_only
@pytest.mark.parametrize("planted", ["a FIFO", "an endless file"])
def test_a_rotation_reads_the_key_file_only_through_the_directory_that_it_holds_open(
    app: App,  # noqa: F811
    key_file: Path,  # noqa: F811
    planted: str,
    tmp_path: Path,
) -> None:
    """Otherwise root would wait for a FIFO that the attacker puts there meanwhile, or read /dev/zero."""
    files = RotationFiles(key_file, None)
    key = key_file.read_bytes()
    with files.opened():
        key_file.parent.rename(tmp_path / "moved")
        key_file.parent.mkdir()
        if planted == "a FIFO":
            os.mkfifo(key_file)
        else:
            key_file.symlink_to("/dev/zero")
        with pytest.raises(RotationFailed, match="is read-only here"):  # asked by path, which reads nothing
            _read_only(files)
    assert (tmp_path / "moved" / "key.json").read_bytes() == key


def _read_only(files: RotationFiles) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        check_key_file(files)


@posix_only
def test_the_lock_of_a_rotation_is_in_the_directory_that_it_holds_open(
    app: App,  # noqa: F811
    key_file: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    etc, files, opened = tmp_path / "etc", RotationFiles(key_file, None), RotationFiles.opened
    etc.mkdir()

    @contextmanager
    def exchanged() -> Iterator[None]:
        with opened(files):
            key_file.parent.rename(tmp_path / "moved")
            plant(key_file.parent, etc)
            yield

    monkeypatch.setattr(files, "opened", exchanged)
    another = RotationFiles(tmp_path / "moved" / "key.json", None)
    with files.locked():
        assert not list(etc.iterdir())
        with pytest.raises(RotationFailed, match=r"Another rotation of .* is running"), another.locked():
            pass
    with another.locked():
        assert sorted(path.name for path in (tmp_path / "moved").iterdir()) == ["key.json", "key.json.lock"]
    assert [path.name for path in (tmp_path / "moved").iterdir()] == ["key.json"]


ATTACKER = """
import os, sys, time
os.setgid(12345); os.setuid(12345)
folder, victim = sys.argv[1:]
os.chdir(folder)
print("ready", flush=True)
tried = set()
while os.path.exists("go"):
    for name in os.listdir("."):
        if name.endswith(".tmp") or name in ("key.json.new", "key.json.old"):
            try:
                os.unlink(name)
                os.symlink(victim, name)
            except OSError:
                pass
"""


@posix_only
@root_only
def test_a_second_user_who_races_with_root_wins_nothing(folder: Path, victim: Path, tmp_path: Path) -> None:
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_mode & stat.S_IXOTH == 0:
            path.chmod(path.stat().st_mode | stat.S_IXOTH)  # pytest's own directories are for root alone
        if path.parent == Path("/tmp"):
            break
    before, target = facts(victim), folder / "key.json"
    (folder / "go").touch()
    with subprocess.Popen([sys.executable, "-c", ATTACKER, folder, victim], stdout=subprocess.PIPE) as attacker:
        assert attacker.stdout is not None
        try:
            assert attacker.stdout.readline() == b"ready\n"
            for _ in range(200):
                with suppress(ConfigurationError, OSError):
                    replace_file(target, os.urandom(8))
                    assert not target.is_symlink()
                with suppress(FileNotFoundError):
                    assert target.stat().st_uid in (STRANGER, 0)
        finally:
            (folder / "go").unlink()
    assert attacker.returncode == 0
    assert facts(victim) == before
