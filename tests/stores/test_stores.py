"""Every store keeps what the protocol promises, also between processes. And which store a setting names."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from okta_m2m import ConfigurationError
from okta_m2m.errors import install_command
from okta_m2m.stores import Store, store_from_url
from okta_m2m.stores.file import FileStore
from okta_m2m.stores.redis import RedisStore
from okta_m2m.testing import StoreConformance, _store_conformance
from promises import in_matrix
from services import RedisServer, eventually
from store_helpers import LONG, script

# ── every engine, by the suite that any store can run ────────────────────────────────────────────────────────────────


class TestFileStore(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FileStore:
        return FileStore(tmp_path / "tokens", timeout=30)  # 32 threads on a slow machine


class TestRedisByUrl(StoreConformance):
    @pytest.fixture
    def store(self, server: RedisServer) -> RedisStore:
        return RedisStore(server.url, timeout=30)


@pytest.mark.matrix
class TestRedisByUnixSocket(StoreConformance):
    @pytest.fixture
    def store(self, server: RedisServer) -> RedisStore:
        return RedisStore(server.unix_url, timeout=30)


class TestRedisByTlsAndAcl(StoreConformance):
    @pytest.fixture
    def store(self, tls_server: RedisServer) -> RedisStore:
        return RedisStore(tls_server.url, timeout=30)


class TestRedisByAClient(StoreConformance):
    @pytest.fixture(params=[*in_matrix(False), True], ids=["bytes", "decoding"])
    def store(self, server: RedisServer, request: pytest.FixtureRequest) -> Iterator[RedisStore]:
        with server.admin(decode_responses=request.param) as client:
            yield RedisStore(client)


class TestRedisByAFunctionThatMakesAClient(StoreConformance):
    @pytest.fixture
    def store(self, server: RedisServer) -> RedisStore:
        return RedisStore(lambda: redis.Redis.from_url(server.url))


class TestRedisCluster(StoreConformance):
    @pytest.fixture
    def store(self, cluster: RedisServer) -> Iterator[RedisStore]:
        client = redis.RedisCluster(host="127.0.0.1", port=cluster.port)
        yield RedisStore(client)
        client.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisServer]:
    """A Cluster of one node, which has all the slots, and which refuses commands on two keys of different slots."""
    settings = ("cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-announce-ip 127.0.0.1")
    with RedisServer(settings=settings) as node, node.admin() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        eventually(lambda: cluster_is_ok(client), "the cluster is ok")
        yield node


def cluster_is_ok(client: redis.Redis) -> bool:
    answer: Any = client.execute_command("CLUSTER INFO")
    return str(answer["cluster_state"] if isinstance(answer, dict) else answer).find("ok") >= 0


class InMemory:
    """A store whose records end with the process, and not before."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.claims: dict[str, str] = {}

    def load(self, key: str) -> bytes | None:
        return self.values.get(key)

    def save(self, key: str, value: bytes, ttl: float, owner: str) -> bool:
        if self.claims.get(key) == owner:
            self.values[key] = value
        return self.claims.get(key) == owner

    def claim(self, key: str, owner: str, ttl: float) -> bool:
        return self.claims.setdefault(key, owner) == owner

    def release(self, key: str, owner: str) -> None:
        if self.claims.get(key) == owner:
            del self.claims[key]


class Awaitable:
    """As a future is: an awaitable that is not a coroutine."""

    def __await__(self) -> Iterator[None]:
        yield


async def coroutine_function(*arguments: object) -> None: ...


def returns_an_awaitable(*arguments: object) -> Awaitable:
    return Awaitable()


def check_threads(store: object) -> None:
    """The test of the suite that calls each method."""
    suite = StoreConformance()
    suite.test_each_method_may_be_called_in_any_thread_and_returns_its_result(_store_conformance._Calls(store), "key")


@pytest.mark.parametrize("name", ["load", "save", "claim", "release"])
@pytest.mark.parametrize("method", [coroutine_function, returns_an_awaitable])
def test_the_suite_fails_for_a_method_that_returns_an_awaitable(name: str, method: Callable[..., Any]) -> None:
    store = InMemory()
    check_threads(store)
    setattr(store, name, method)
    with pytest.raises(AssertionError, match=f"^{name} returned an awaitable. Write it as a plain function"):
        check_threads(store)
    gc.collect()  # a coroutine that was not awaited would warn here, and so fail the test


@pytest.mark.parametrize(
    ("package", "store"), [("redis", "redis://h"), ("filelock", "file:"), ("platformdirs", "file:")]
)
def test_a_package_that_is_missing_is_named_with_the_extra(package: str, store: str) -> None:
    program = """
        import sys
        sys.modules[sys.argv[1]] = None
        from okta_m2m import ConfigurationError, PrivateKey
        from okta_m2m.stores import store_from_url
        try:
            store_from_url(sys.argv[2])
        except ConfigurationError as error:
            print(error)
    """
    extra = store.partition(":")[0]
    out, _ = script(program, package, store).communicate()
    assert install_command(extra) in out


# ── the URL of a store ───────────────────────────────────────────────────────────────────────────────────────────────


def test_each_url_makes_its_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme in ("redis", "rediss", "unix"):
        assert repr(store_from_url(f"{scheme}://h/0")).startswith(f"RedisStore('{scheme}://h/0'")
    directory = tmp_path / "a b"
    for url in (f"file:{directory}", f"FILE:{directory}", f"file://{directory}", f"file://localhost{directory}"):
        assert repr(store_from_url(url)) == f"FileStore({str(directory)!r})"
    assert repr(store_from_url(f"file:{tmp_path}/a%20b")) == f"FileStore({str(directory)!r})"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if sys.platform == "linux":
        assert repr(store_from_url("file:")) == f"FileStore({str(tmp_path / 'cache' / 'okta-m2m')!r})"
        assert repr(store_from_url("file:~/x")) == f"FileStore({str(tmp_path / 'x')!r})"


@pytest.mark.parametrize(
    "url", ["", "hunter2", "redis:hunter2", "memcached://u:hunter2@h/", "http://hunter2", "/tmp/hunter2", "s3:hunter2"]
)
def test_an_unknown_url_is_refused_with_the_known_forms_and_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"rediss://host:6379/0.*file:") as refused:
        store_from_url(url)
    assert "hunter2" not in str(refused.value)


def test_a_path_that_windows_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_windows(path: str) -> str:
        raise OSError(f"Bad URL: {path}")

    monkeypatch.setattr("urllib.request.url2pathname", as_windows)
    with pytest.raises(ConfigurationError, match="not an absolute path on this machine") as caught:
        store_from_url("file:/a:b:c")
    assert "a:b:c" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("url", ["file:relative", "file://other-host/path", "file:./x", "filE://lo[st/path"])
def test_a_relative_directory_or_one_on_another_host_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"not an absolute path on this machine\. Use"):
        store_from_url(url)


def test_a_type_checker_accepts_both_stores_as_a_store(tmp_path: Path) -> None:
    stores: list[Store] = [RedisStore("redis://h"), FileStore(tmp_path)]
    assert len(stores) == 2


# ── processes that race ──────────────────────────────────────────────────────────────────────────────────────────────

RACING = """
    import sys
    from okta_m2m.stores import store_from_url
    from okta_m2m.stores.file import FileStore
    from okta_m2m.stores.redis import RedisStore
    url, me = sys.argv[1:]
    store = FileStore(url[5:], timeout=30) if url.startswith("file:") else RedisStore(url, timeout=30)
    print("ready", flush=True)
    sys.stdin.readline()
    won = [number for number in range(100) if store.claim(f"key {number}", me, 3600)]
    for number in won:
        assert store.save(f"key {number}", me.encode(), 3600, me)
    lost = [number for number in range(100) if number not in won and store.save(f"key {number}", b"lost", 3600, me)]
    print(*won, *lost, flush=True)
"""


@pytest.mark.parametrize("engine", ["file", "redis"])
def test_of_processes_that_race_for_a_claim_exactly_one_wins(
    own_server: RedisServer, directory: Path, engine: str
) -> None:
    url = own_server.url if engine == "redis" else f"file:{directory}"
    racers = [script(RACING, url, f"racer {number}") for number in range(3)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline().strip() == "ready"
    won: list[str] = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        won += racer.communicate()[0].split()
    assert sorted(map(int, won)) == list(range(100))


KILLED = """
    import os, sys
    from okta_m2m.stores.file import FileStore
    from okta_m2m.stores.redis import RedisStore
    url = sys.argv[1]
    store = FileStore(url[5:]) if url.startswith("file:") else RedisStore(url)
    assert store.claim("key", "killed", 0.5)
    print("claimed", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("engine", ["file", "redis"])
def test_the_claim_of_a_killed_process_ends_with_its_lease(
    own_server: RedisServer, directory: Path, engine: str
) -> None:
    url = own_server.url if engine == "redis" else f"file:{directory}"
    holder = script(KILLED, url)
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "claimed"
    holder.kill()
    holder.communicate()
    store: Any = FileStore(directory, timeout=30) if engine == "file" else RedisStore(url, timeout=30)
    eventually(lambda: store.claim("key", "next", LONG), "the claim of the killed process ends")
