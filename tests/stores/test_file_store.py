"""A FileStore on a real disk: whose files it uses, and what holds if they are damaged, or their processes are killed."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from okta_m2m import ConfigurationError, PrivateKey
from okta_m2m.stores.file import FileStore
from okta_m2m.testing import FakeOkta
from promises import in_matrix
from store_helpers import LONG, SHORT, posix, saved, script


def only(directory: Path, record: str) -> Path:
    (path,) = directory.glob(f"*.{record}")
    return path


# ── the directory ────────────────────────────────────────────────────────────────────────────────────────────────────


@posix
def test_only_this_user_can_read_what_is_stored(files: FileStore, directory: Path) -> None:
    mask = os.umask(0)
    try:
        saved(files, "0oa1b2c3")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for path in directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert "0oa1b2c3" not in path.name


def test_nothing_is_created_before_the_first_claim(files: FileStore, directory: Path) -> None:
    assert files.load("key") is None
    assert not files.save("key", b"value", LONG, "one")
    files.release("key", "one")
    assert not directory.exists()


def test_a_directory_that_was_removed_is_created_again(files: FileStore, directory: Path) -> None:
    saved(files, "key")
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    assert files.load("key") is None
    assert not files.save("key", b"value", LONG, "one")
    saved(files, "key", b"again")
    assert files.load("key") == b"again"


@posix
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_directory_that_others_can_write_is_refused_at_once_and_later(
    files: FileStore, directory: Path, mode: int
) -> None:
    saved(files, "key")
    directory.chmod(mode)
    with pytest.raises(ConfigurationError, match=r"Others can write .*chmod 700"):
        FileStore(directory)
    asks: list[Callable[[], Any]] = [
        lambda: files.load("key"),
        lambda: files.claim("key", "one", LONG),
        lambda: files.save("key", b"v", LONG, "one"),
        lambda: files.release("key", "one"),
    ]
    for ask in asks:
        with pytest.raises(ConfigurationError, match="Others can write"):
            ask()
    directory.chmod(0o755)
    assert files.load("key") == b"value"


@posix
def test_a_directory_of_another_user_is_refused(directory: Path) -> None:
    if os.geteuid() == 0:
        directory.mkdir()
        os.chown(directory, 12345, 12345)
        other = directory
    else:
        other = Path("/etc")
    with pytest.raises(ConfigurationError, match=r"another user\. Choose one"):
        FileStore(other)


def home_that_may_not_be_entered(tmp_path: Path) -> Path:
    if os.geteuid() == 0:
        tmp_path.chmod(0o711)
    (tmp_path / "home").mkdir(mode=0)
    return tmp_path / "home" / "tokens"


def below_a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "deeper" / "tokens"


def a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("")
    return tmp_path / "file"


def a_symlink_to_nowhere(tmp_path: Path) -> Path:
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    return tmp_path / "link"


def too_long(tmp_path: Path) -> Path:
    return tmp_path / ("x" * 300)


UNUSABLE = [
    (home_that_may_not_be_entered, "the default"),
    (home_that_may_not_be_entered, "the variable"),
    (below_a_file, "the argument"),
    *in_matrix(
        (below_a_file, "the default"),
        (a_file, "the variable"),
        (a_symlink_to_nowhere, "the argument"),
        (too_long, "the argument"),
    ),
]

SERVICE = """
import logging, os, sys, tempfile
url, client_id, key, directory, given, user = sys.argv[1:]
import requests
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.requests import OktaAuth
from okta_m2m.stores.file import FileStore

logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
arguments = dict(org_url=url, client_id=client_id, key=PrivateKey.from_jwk(key), scopes=["okta.users.read"])

def call(app):
    with requests.Session() as session:
        session.auth = OktaAuth(app)
        return [session.get(url + "/api/v1/users").status_code for _ in range(2)]

if user:
    with tempfile.TemporaryDirectory() as good:
        # Imports what that user may not be able to read.
        call(ServiceApp.from_env(files=False, environ={"OKTA_M2M_STORE": "file:" + good}, **arguments))
    os.setgroups([]); os.setgid(int(user)); os.setuid(int(user))
if given == "the variable":
    app = ServiceApp.from_env(files=False, environ={"OKTA_M2M_STORE": "file:" + directory}, **arguments)
elif given == "the default":
    app = ServiceApp(**arguments, store=FileStore())
else:
    app = ServiceApp(**arguments, store=FileStore(directory))
print(*call(app))
"""


@posix
@pytest.mark.parametrize(("place", "given"), UNUSABLE)
def test_a_service_starts_although_its_directory_cannot_be_used(
    okta: FakeOkta, tmp_path: Path, place: Callable[[Path], Path], given: str
) -> None:
    directory = place(tmp_path)
    root = os.geteuid() == 0
    if root:  # whom modes do not stop
        for parent in tmp_path.parents[:3]:
            parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    key = PrivateKey.generate("ES256", kid="1")
    app = okta.add_app(key, ["okta.users.read"])
    arguments = [okta.url, app.client_id, json.dumps(key.private_jwk()), str(directory), given, "65534" if root else ""]
    ran = subprocess.run(
        [sys.executable, "-c", SERVICE, *arguments],
        # That user may not write what is measured of it.
        env={**os.environ, "HOME": str(directory), "XDG_CACHE_HOME": str(directory), "COVERAGE_PROCESS_START": ""},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "200 200\n"), ran.stderr
    (warning,) = ran.stderr.splitlines()
    assert "WARNING" in warning
    assert "fetches its own tokens until it does" in warning
    assert str(directory)[:100] in warning
    assert okta.tokens_minted == (2 if root else 1)


@posix
@pytest.mark.parametrize(
    ("place", "says"),
    [
        (below_a_file, "is below a file. Choose another directory"),
        (a_file, "is not a directory. Choose another directory"),
        (a_symlink_to_nowhere, "is a broken symlink. Remove it, or choose another directory"),
    ],
)
def test_a_directory_that_cannot_be_used_is_an_oserror_at_each_use(
    tmp_path: Path, place: Callable[[Path], Path], says: str
) -> None:
    store = FileStore(place(tmp_path))
    asks: list[Callable[[], Any]] = [
        lambda: store.load("key"),
        lambda: store.claim("key", "one", LONG),
        lambda: store.save("key", b"v", LONG, "one"),
        lambda: store.release("key", "one"),
    ]
    for ask in asks:
        with pytest.raises(OSError, match=says):
            ask()


@posix
def test_a_symlink_is_judged_by_the_directory_it_leads_to(tmp_path: Path, directory: Path) -> None:
    directory.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(directory)
    store = FileStore(tmp_path / "link", timeout=30)
    saved(store, "key")
    assert FileStore(directory).load("key") == b"value"
    directory.chmod(0o777)
    with pytest.raises(ConfigurationError, match="Others can write"):
        store.load("key")


@posix
@pytest.mark.parametrize("path", ["link", "link/store", "own", "own/store"])
def test_a_symlink_of_another_user_in_the_path_is_refused(tmp_path: Path, path: str) -> None:
    """Otherwise a service's user has root write into a directory of root's."""
    if os.geteuid() != 0:
        pytest.skip("needs root to be two users")
    theirs, etc = tmp_path / "service", tmp_path / "etc"
    theirs.mkdir()
    etc.mkdir(mode=0o755)
    (theirs / "link").symlink_to(etc)
    (theirs / "own").symlink_to("link")
    store = FileStore(theirs / path)  # not refused yet: as below, root's own link leads to a directory of root's
    os.chown(theirs / "link", 12345, 12345, follow_symlinks=False)
    for use in (
        lambda: FileStore(theirs / path),
        lambda: store.claim("key", "me", LONG),
        lambda: store.save("key", b"value", LONG, "me"),
        lambda: store.load("key"),
        lambda: store.release("key", "me"),
    ):
        with pytest.raises(ConfigurationError, match=r"symlink that another user created: .*link\. Use the path"):
            use()
    assert not list(etc.iterdir())


@posix
def test_for_a_user_other_than_root_a_symlink_of_another_user_in_the_path_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to be two users")
    service, deployer = 12345, 54321
    (tmp_path / "release").mkdir(mode=0o755)
    os.chown(tmp_path / "release", service, service)
    (tmp_path / "current").symlink_to("release")
    os.chown(tmp_path / "current", deployer, deployer, follow_symlinks=False)
    with pytest.raises(ConfigurationError, match="symlink that another user created"):
        FileStore(tmp_path / "current")
    monkeypatch.setattr(os, "geteuid", lambda: service)
    assert FileStore(tmp_path / "current").load("key") is None


@posix
def test_this_users_own_symlink_in_the_path_is_followed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "link").symlink_to("../other")
    (tmp_path / "other").mkdir()
    saved(FileStore(tmp_path / "deep" / "link" / "store", timeout=30), "key")
    assert FileStore(tmp_path / "other" / "store").load("key") == b"value"


def test_the_directory_stays_where_it_was_when_the_working_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = FileStore("relative", timeout=30)
    saved(store, "key")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert store.load("key") == b"value"


# ── files that are damaged, or not the store's ───────────────────────────────────────────────────────────────────────


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut in the head": lambda content: content[:9],
    "cut in the body": lambda content: content[:-1],
    "longer": lambda content: content + b"x",
    "no head": lambda content: content.partition(b"\n")[2],
    "binary": lambda content: bytes(range(256)) * 10,
    "another format": lambda content: content.replace(b"okta-m2m/1", b"okta-m2m/9"),
    "no number": lambda content: b"okta-m2m/1 now later 5\nvalue",
    "not a number": lambda content: b"okta-m2m/1 nan nan 5\nvalue",
    "huge": lambda content: content + bytes(2_000_000),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_value_is_a_miss_and_is_removed(files: FileStore, directory: Path, name: str) -> None:
    saved(files, "key")
    path = only(directory, "value")
    path.write_bytes(DAMAGE[name](path.read_bytes()))
    assert files.load("key") is None
    assert not path.exists()
    saved(files, "key", b"healed")
    assert files.load("key") == b"healed"


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_claim_is_free(files: FileStore, directory: Path, name: str) -> None:
    assert files.claim("key", "one", LONG)
    path = only(directory, "claim")
    path.write_bytes(DAMAGE[name](path.read_bytes()))
    assert not files.save("key", b"value", LONG, "one")
    assert files.claim("key", "two", LONG)
    assert not files.claim("key", "one", LONG)


@posix
@pytest.mark.parametrize("kind", ["symlink", "symlink to nothing", "FIFO"])
@pytest.mark.timeout(20)
def test_a_symlink_or_fifo_in_place_of_a_value_is_neither_followed_nor_waited_for(
    files: FileStore, directory: Path, tmp_path: Path, kind: str
) -> None:
    saved(files, "key")
    path = only(directory, "value")
    target = tmp_path / "target"
    target.write_bytes(path.read_bytes())
    path.unlink()
    if kind == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to(target if kind == "symlink" else tmp_path / "nothing")
    before = target.read_bytes()
    assert files.load("key") is None
    saved(files, "key", b"another")
    assert files.load("key") == b"another"
    assert target.read_bytes() == before


# ── the clock ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("record", ["value", "claim"])
def test_a_record_from_the_future_counts_as_missing(files: FileStore, directory: Path, record: str) -> None:
    """The clock was set back by an hour: nothing lives an hour longer for it, and nobody is kept out."""
    saved(files, "key")
    path = only(directory, record)
    written_by_a_clock_that_was_ahead(path, 3600)
    if record == "value":
        assert files.load("key") is None
    else:
        assert files.claim("key", "two", LONG)


def written_by_a_clock_that_was_ahead(path: Path, seconds: float) -> None:
    head, _, body = path.read_bytes().partition(b"\n")
    magic, written, ttl, length = head.split(b" ")
    path.write_bytes(b" ".join([magic, b"%r" % (float(written) + seconds), ttl, length]) + b"\n" + body)


def test_a_small_correction_of_the_clock_loses_no_record(files: FileStore, directory: Path) -> None:
    saved(files, "key")
    for record in ("value", "claim"):
        written_by_a_clock_that_was_ahead(only(directory, record), 1)
    assert files.load("key") == b"value"
    assert not files.claim("key", "two", LONG)


def test_expired_records_are_removed_by_the_next_save(files: FileStore, directory: Path) -> None:
    for number in range(5):
        assert files.claim(f"old {number}", "one", LONG)
        assert files.save(f"old {number}", b"value", LONG, "one")
    for path in directory.glob("*.*"):
        written_by_a_clock_that_was_ahead(path, -2 * LONG)
    record = next(directory.glob("*.value")).name
    killed = directory / f"{record}.abcd_123.tmp"
    killed.write_bytes(b"half a rec")
    os.utime(killed, (0, 0))
    being_written = directory / f"{record}.efgh_456.tmp"
    being_written.write_bytes(b"half a rec")
    saved(files, "new")
    assert len(list(directory.glob("*.value"))) == len(list(directory.glob("*.claim"))) == 1
    assert being_written.exists()
    assert not killed.exists()


def test_other_files_in_the_directory_stay(files: FileStore, directory: Path) -> None:
    directory.mkdir(mode=0o700)
    digest = "0" * 64
    names = ["notes.txt", "tmpabcdefgh.tmp", "upload.tmp", "my.value", "my.claim", f"{digest}.value.bak"]
    names += [f"{digest}.value.tmp", f"x{digest}.value", f"{digest[1:]}.claim", f"{digest.replace('0', 'F')}.value"]
    for name in names:
        (directory / name).write_text("somebody else's")
        os.utime(directory / name, (0, 0))
    (directory / f"{digest}.claim").mkdir()
    kept = {*names, f"{digest}.claim"}
    if os.name == "posix":
        (directory / f"{'1' * 64}.value").symlink_to("notes.txt")
        os.mkfifo(directory / f"{'2' * 64}.value")
        kept |= {f"{'1' * 64}.value", f"{'2' * 64}.value"}
        if os.geteuid() == 0:
            (directory / f"{'3' * 64}.value").write_text("another user's")
            os.chown(directory / f"{'3' * 64}.value", 12345, 12345)
            kept.add(f"{'3' * 64}.value")
    (directory / f"{'4' * 64}.value").write_text("ours, and damaged")
    saved(files, "new")
    left = {path.name for path in directory.iterdir()}
    assert kept <= left
    assert f"{'4' * 64}.value" not in left


# ── the lock, threads and processes ──────────────────────────────────────────────────────────────────────────────────


def test_a_lock_that_is_held_for_too_long_is_an_error_in_time_while_reading_works(
    files: FileStore, directory: Path
) -> None:
    saved(files, "key")
    impatient = FileStore(directory, timeout=SHORT)
    with holding_the_lock(directory):
        for ask in (
            lambda: impatient.claim("other", "two", LONG),
            lambda: impatient.save("key", b"v", LONG, "one"),
            lambda: impatient.release("key", "one"),
        ):
            with pytest.raises(OSError, match="lock"):
                ask()
        assert impatient.load("key") == b"value"
    assert impatient.claim("other", "two", LONG)


@posix
def test_a_claim_of_another_owner_is_refused_without_waiting_for_the_lock(files: FileStore, directory: Path) -> None:
    assert files.claim("key", "one", LONG)
    with holding_the_lock(directory):
        assert not FileStore(directory, timeout=SHORT).claim("key", "two", LONG)


HOLDING = """
    import sys, filelock
    with filelock.FileLock(sys.argv[1]):
        print("held", flush=True)
        sys.stdin.read()
"""


class holding_the_lock:
    """Another process has the directory's lock; it is killed in the end."""

    def __init__(self, directory: Path) -> None:
        self.process = script(HOLDING, str(directory / "lock"))

    def __enter__(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == "held"

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_the_lock_of_a_killed_process_is_released(files: FileStore, directory: Path) -> None:
    saved(files, "key")
    with holding_the_lock(directory):
        pass
    assert (directory / "lock").exists()
    assert files.claim("other", "two", LONG)


SAVING = """
    import sys
    from okta_m2m.stores.file import FileStore
    store = FileStore(sys.argv[1], timeout=30)
    for number in range(10**9):
        assert store.claim("key", "one", 3600)
        assert store.save("key", b"%d " % (number % 10) * 5000, 3600, "one")
        if number == 0:
            print("saved", flush=True)
"""


@pytest.mark.parametrize("turn", [*range(3), *in_matrix(*range(3, 10))])
def test_a_process_killed_at_any_step_leaves_a_whole_value_and_a_free_lock(directory: Path, turn: int) -> None:
    saving = script(SAVING, str(directory))
    assert saving.stdout is not None
    assert saving.stdout.readline() == "saved\n"
    time.sleep(turn * 0.0007)
    saving.kill()
    saving.communicate()
    store = FileStore(directory, timeout=30)
    assert store.claim("other", "two", LONG)
    value = store.load("key")
    assert value is not None
    assert value == value[:2] * 5000
    assert store.claim("key", "one", LONG)


FULL = """
    import resource, signal, sys
    from okta_m2m.stores.file import FileStore
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = FileStore(sys.argv[1])
    assert store.claim("key", "one", 3600) and store.save("key", b"old", 3600, "one")
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    try:
        store.save("key", bytes(10_000), 3600, "one")
    except OSError:
        print("OSError", store.load("key").decode())
"""


@posix
def test_a_full_disk_is_an_error_and_leaves_no_partial_file(directory: Path) -> None:
    # A limit on the size of files fails the write as a full disk does, in the middle.
    out, _ = script(FULL, str(directory)).communicate()
    assert out.split() == ["OSError", "old"]
    assert {path.suffix for path in directory.iterdir()} == {"", ".value", ".claim"}


@posix
def test_a_directory_that_cannot_be_written_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert FileStore(tmp_path / "new").load("key") is None
    store = FileStore("/proc/okta-m2m-tokens" if sys.platform == "linux" else "/dev/okta-m2m-tokens")
    assert store.load("key") is None
    with pytest.raises(OSError):
        store.claim("key", "one", LONG)


def test_a_reader_sees_a_whole_value_while_others_write(files: FileStore) -> None:
    values = [bytes([letter]) * 20_000 for letter in b"abcd"]
    saved(files, "key", values[0])
    done = threading.Event()
    torn: list[object] = []

    def read() -> None:
        while not done.is_set():
            value = files.load("key")
            if value not in values:
                torn.append(value)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for turn in range(200):
        assert files.save("key", values[turn % 4], LONG, "one")
    done.set()
    for reader in readers:
        reader.join()
    assert torn == []


FORKING = """
    import os, sys, threading, time, warnings
    from okta_m2m.stores.file import FileStore
    warnings.simplefilter("ignore")  # Python warns of a fork in a process that has threads
    directory, ended, failures = sys.argv[1], threading.Event(), []

    def use(name):
        store = FileStore(directory, timeout=30)
        try:
            while not ended.is_set():
                used(store, name)
        except BaseException as error:
            failures.append(error)

    def used(store, name):
        assert store.claim(name, "one", 3600)
        assert store.save(name, name.encode(), 3600, "one")
        assert store.load(name) == name.encode()

    used(FileStore(directory), "first")  # a child that is forked during an import can never import that module
    threads = [threading.Thread(target=use, args=(f"thread {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    children = []
    for number in range(40):
        time.sleep(0.003)
        child = os.fork()
        if child == 0:
            try:
                used(FileStore(directory, timeout=30), f"child {number}")
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    codes = [os.waitpid(child, 0)[1] for child in children]
    ended.set()
    for thread in threads:
        thread.join()
    print(codes.count(0), failures)
"""


@posix
@pytest.mark.timeout(60)
def test_a_child_forked_while_threads_use_the_store_can_use_it(directory: Path) -> None:
    assert script(FORKING, str(directory)).communicate()[0] == "40 []\n"


FORKING_DURING_AN_IMPORT = """
    import os, sys, threading, time
    from pathlib import Path
    from okta_m2m.stores.file import FileStore
    directory = Path(sys.argv[1])
    (directory / "filelock.py").write_text("import time; time.sleep(0.5); FileLock = None")
    sys.path.insert(0, str(directory))
    thread = threading.Thread(target=FileStore, args=(directory / "store",))
    thread.start()
    while "filelock" not in sys.modules:
        time.sleep(0.001)
    child = os.fork()
    if child == 0:
        FileStore(directory / "store")
        os._exit(0)
    print(os.waitpid(child, 0)[1])
"""


@posix
@pytest.mark.timeout(20)
def test_a_child_forked_while_a_thread_makes_the_first_store_can_make_one(tmp_path: Path) -> None:
    assert script(FORKING_DURING_AN_IMPORT, str(tmp_path)).communicate(timeout=15)[0] == "0\n"
