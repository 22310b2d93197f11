"""Stores keep what the protocol promises, on real servers and directories; and what fails, fails soon and heals by itself."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import pickle
import socket
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
import redis
import redis.asyncio

from okta_m2m import ConfigurationError, PrivateKey
from okta_m2m.stores import Store, store_from_url
from okta_m2m.stores.file import FileStore
from okta_m2m.stores.redis import RedisStore
from okta_m2m.testing import FakeOkta, StoreConformance, _store_conformance
from promises import in_matrix
from services import (
    ESCAPED,
    PASSWORD,
    PERMISSIONS,
    SERVERS,
    USER,
    RedisServer,
    answering,
    eventually,
    free_port,
    stalling,
)

LONG = 3600.0
SHORT = 0.05
posix = pytest.mark.skipif(sys.platform == "win32", reason="modes, owners and FIFOs are POSIX's")


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Shared by tests that harm nothing in it."""
    with RedisServer(request.param) as running:
        yield running


@pytest.fixture(scope="module", params=SERVERS)
def tls_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(request.param, tls=True) as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """One that a test may stop, fill and stall."""
    with RedisServer() as running:
        yield running


@pytest.fixture
def admin(own_server: RedisServer) -> Iterator[redis.Redis]:
    with own_server.admin() as client:
        yield client


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


# ── Redis: a server that does not end its answers ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pause", [0, 0.02])
def test_an_answer_without_end_is_cut_off_at_the_time_limit(pause: float) -> None:
    """Each read from the socket is in time, so only a limit for the whole answer ends the thread."""
    ended = threading.Event()
    asked: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while not ended.is_set() and (command := connection.recv(65536)):
                if b"GETRANGE" not in command:
                    connection.sendall(b"+OK\r\n")
                    continue
                asked.append(command)
                connection.sendall(b"$4000000000\r\n")
                while not ended.wait(pause):
                    connection.sendall(b"x" if pause else bytes(65536))

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        store: Any = RedisStore(f"redis://127.0.0.1:{listener.getsockname()[1]}", timeout=0.2)
        failures: list[BaseException] = []

        def load() -> None:
            try:
                store.load("key")
            except redis.RedisError as error:
                failures.append(error)

        loading = threading.Thread(target=load, daemon=True)
        loading.start()
        loading.join(5)
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
    assert not loading.is_alive()
    assert [type(failure) for failure in failures] == [redis.TimeoutError]
    assert len(asked) == 1, "what was too slow is not tried again"


# ── Redis: clients, their threads and their processes ────────────────────────────────────────────────────────────────


def connections(server: RedisServer) -> int:
    """How many clients the server has, without the one that asks."""
    with server.admin() as client:
        return len([entry for entry in client.client_list() if entry["cmd"].lower() != "client|list"])


def saved(store: Any, key: str, value: bytes = b"value") -> None:
    assert store.claim(key, "one", LONG)
    assert store.save(key, value, LONG, "one")


def test_a_url_serves_many_threads_at_once(own_server: RedisServer) -> None:
    store = RedisStore(own_server.url, timeout=30)
    for number in range(8):
        saved(store, f"key {number}", b"value %d" % number)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda turn: store.load(f"key {turn % 8}"), range(400)))
    assert found == [b"value %d" % (turn % 8) for turn in range(400)]


def test_a_store_that_is_dropped_closes_its_connections(own_server: RedisServer) -> None:
    store: Any = RedisStore(own_server.url, timeout=30)
    saved(store, "key")
    assert connections(own_server) == 1, "the connection is kept for the next call"
    del store
    eventually(lambda: connections(own_server) == 0, "the connection of a dropped store is closed")


DROPPED = """
    import gc, sys
    from okta_m2m.stores.redis import RedisStore

    class Holder: pass

    holder = Holder()
    holder.itself = holder
    holder.store = RedisStore(sys.argv[1], timeout=30)
    holder.store.load("key")
    del holder
    gc.collect()
"""


def test_a_store_that_is_dropped_in_a_reference_cycle_closes_its_connections_without_a_warning(
    own_server: RedisServer,
) -> None:
    dropping = script(DROPPED, own_server.url, stderr=subprocess.PIPE)
    assert dropping.communicate()[1] == ""


async def make_asynchronously() -> Any:
    return redis.Redis()


ASYNC_CLIENTS: dict[str, tuple[Callable[[], Any], str]] = {
    "client": (redis.asyncio.Redis, "a redis.asyncio client"),
    "cluster": (lambda: redis.asyncio.RedisCluster(host="127.0.0.1"), "a redis.asyncio client"),
    "sentinel's": (
        lambda: redis.asyncio.Sentinel([("127.0.0.1", 1)]).master_for("mymaster"),
        "a redis.asyncio client",
    ),
    "class": (lambda: redis.asyncio.Redis, "a function that makes a redis.asyncio client"),
    "function": (lambda: lambda: redis.asyncio.Redis(), "a function that makes a redis.asyncio client"),
    "coroutine function": (lambda: make_asynchronously, "a coroutine function"),
}


@pytest.mark.parametrize("kind", ASYNC_CLIENTS)
@pytest.mark.parametrize("in_a_loop", [False, True], ids=["no loop", "in a loop"])
def test_a_client_of_redis_asyncio_is_refused_without_a_warning(kind: str, in_a_loop: bool) -> None:
    make, what = ASYNC_CLIENTS[kind]

    def refuse() -> None:
        with pytest.raises(ConfigurationError) as refused:
            RedisStore(make())
        assert str(refused.value) == (
            f"A RedisStore was given {what}, but calls its client in threads. "
            "Pass a URL, a blocking client such as redis.Redis, or a function that makes one."
        )

    async def refuse_in_a_loop() -> None:
        refuse()

    asyncio.run(refuse_in_a_loop()) if in_a_loop else refuse()
    gc.collect()  # a coroutine that was not awaited, or a client that was not closed, would warn here


def test_a_client_is_shown_by_its_type() -> None:
    for given in (redis.Redis, redis.Redis(), lambda: redis.Redis()):
        assert repr(RedisStore(given)) == "RedisStore('redis.Redis', prefix='okta-m2m')"


def test_a_call_that_timed_out_leaves_no_answer_behind_for_the_next(own_server: RedisServer) -> None:
    patient, store = RedisStore(own_server.url, timeout=30), RedisStore(own_server.url, timeout=0.2)
    saved(patient, "one", b"first")
    saved(patient, "two", b"second")
    for _ in range(5):
        with own_server.stopped(), pytest.raises(redis.TimeoutError):
            store.load("one")
        assert first_answer(lambda: store.load("two")) == b"second"


def first_answer(ask: Callable[[], bytes | None]) -> bytes | None:
    """What a server that was stalled answers as soon as it answers at all."""
    answers: list[bytes | None] = []

    def answered() -> bool:
        with suppress(redis.TimeoutError):
            answers.append(ask())
        return bool(answers)

    eventually(answered, "the store answers again")
    return answers[0]


FORKED = """
    import os, sys
    from okta_m2m.stores.redis import RedisStore
    store = RedisStore(sys.argv[1], timeout=30)
    store.claim("key", "parent", 3600)
    store.save("key", b"value", 3600, "parent")
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            good = all(store.load("key") == b"value" for _ in range(200))
            good = good and store.claim(f"child {number}", "child", 3600)
            os._exit(0 if good else 1)
        children.append(child)
    good = all(store.load("key") == b"value" for _ in range(200))
    ended = [os.waitpid(child, 0)[1] for child in children]
    sys.exit(0 if good and not any(ended) else 1)
"""


@posix
def test_after_a_fork_parent_and_children_do_not_read_each_others_answers(own_server: RedisServer) -> None:
    forking = script(FORKED, own_server.url)
    forking.communicate()
    assert forking.returncode == 0


# ── Redis: what is sent, and with what rights ────────────────────────────────────────────────────────────────────────


def test_keys_have_the_prefix_a_lease_and_one_slot_and_tell_nothing(
    own_server: RedisServer, admin: redis.Redis
) -> None:
    store: Any = RedisStore(own_server.url, prefix="fleet-7", timeout=30)
    saved(store, "0oa1b2c3 okta.users.read")
    keys = cast("list[bytes]", admin.keys())
    assert len(keys) == 2
    for key in keys:
        assert key.startswith(b"fleet-7:{")
        assert b"0oa1b2c3" not in key
        assert cast("int", admin.pttl(key)) > 0
    assert len({key[key.index(b"{") : key.index(b"}")] for key in keys}) == 1


def test_two_prefixes_share_nothing(own_server: RedisServer) -> None:
    one: Any = RedisStore(own_server.url, prefix="one", timeout=30)
    two: Any = RedisStore(own_server.url, prefix="two", timeout=30)
    saved(one, "key")
    assert two.load("key") is None
    assert two.claim("key", "two", LONG)


def test_a_prefix_with_braces_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="brace"):
        RedisStore("redis://localhost", prefix="{a}")


def test_the_permissions_of_the_documentation_are_enough_and_none_is_spare(tls_server: RedisServer) -> None:
    # That they are enough is shown by the suites that run with them.
    page = (Path(__file__).parents[2] / "docs" / "sharing.md").read_text("utf-8")
    assert f"ACL SETUSER {USER} on >secret {PERMISSIONS}\n" in page
    with pytest.raises(redis.exceptions.NoPermissionError):
        RedisStore(tls_server.url, prefix="other", timeout=30).load("key")
    store: Any = RedisStore(tls_server.url, timeout=30)
    with tls_server.admin() as admin:
        for command in ("+getrange", "+eval", "+get", "+set", "+pttl", "+del"):
            admin.execute_command("ACL", "SETUSER", USER, command.replace("+", "-"))
            try:
                with pytest.raises(redis.RedisError, match=r"(?i)permission|ACL"):
                    used(store, command)
            finally:
                admin.execute_command("ACL", "SETUSER", USER, command)
            used(store, command)


def used(store: Any, key: str) -> None:
    """Every operation, and every way through the scripts."""
    assert store.claim(key, "one", LONG)
    assert store.claim(key, "one", LONG)
    assert not store.claim(key, "two", LONG)
    assert store.save(key, b"value", LONG, "one")
    assert store.load(key) == b"value"
    store.release(key, "one")


def test_a_certificate_is_verified_and_so_is_the_host(tls_server: RedisServer) -> None:
    without_ca = tls_server.url.partition("?")[0]
    other_name = f"rediss://{USER}:{ESCAPED}@[::1]:{tls_server.port}/0?ssl_ca_certs={tls_server.ca}"
    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        RedisStore(without_ca, timeout=30).load("key")
    with pytest.raises(redis.RedisError):
        RedisStore(other_name, timeout=30).load("key")
    answered: Any = RedisStore(tls_server.url.replace("127.0.0.1", "localhost"), timeout=30)
    saved(answered, "localhost")


def test_a_server_whose_certificate_names_another_host_is_refused() -> None:
    with RedisServer(tls=True, certified=("redis.example",)) as impostor:
        store: Any = RedisStore(impostor.url, timeout=30)
        with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            store.load("key")


def test_a_wrong_password_is_an_error_that_does_not_show_it(tls_server: RedisServer) -> None:
    with pytest.raises(redis.AuthenticationError) as refused:
        RedisStore(tls_server.url.replace(ESCAPED, "hunter2"), timeout=30).load("key")
    assert "hunter2" not in str(refused.value)


# ── Redis: failures ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.timeout(20)
def test_a_server_that_is_down_is_an_error_at_once() -> None:
    store = RedisStore(f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(redis.ConnectionError):
        store.load("key")
    with pytest.raises(redis.ConnectionError):
        store.claim("key", "one", LONG)


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
@pytest.mark.timeout(20)
def test_a_server_that_never_says_a_word_is_an_error_within_the_time_out(scheme: str) -> None:
    with stalling() as port:
        store = RedisStore(f"{scheme}://user:secret@127.0.0.1:{port}", timeout=SHORT)
        with pytest.raises((redis.TimeoutError, redis.ConnectionError)):
            store.load("key")
        with pytest.raises((redis.TimeoutError, redis.ConnectionError)):
            store.claim("key", "one", LONG)


@pytest.mark.timeout(20)
def test_a_server_that_stalls_is_an_error_within_the_time_out_and_answers_again_afterwards(
    own_server: RedisServer,
) -> None:
    store = RedisStore(own_server.url, timeout=0.2)
    assert store.claim("key", "one", LONG)
    with own_server.stopped(), pytest.raises(redis.TimeoutError):
        store.load("key")
    eventually(lambda: _recovered(lambda: store.claim("key", "one", LONG)), "the store answers again")


def _recovered(ask: Callable[[], Any]) -> bool:
    try:
        return bool(ask())
    except redis.RedisError:
        return False


def test_a_server_that_was_restarted_is_used_again_without_a_failure(own_server: RedisServer) -> None:
    store: Any = RedisStore(own_server.url, timeout=30)
    saved(store, "key")
    own_server.stop()
    own_server.start()
    # Its memory is empty, its scripts are gone, and the pooled connection is broken.
    assert store.load("key") is None
    saved(store, "key", b"new")
    assert store.load("key") == b"new"
    assert not store.claim("key", "two", LONG)


def test_a_server_that_was_flushed_scripts_included_goes_on(own_server: RedisServer, admin: redis.Redis) -> None:
    store: Any = RedisStore(own_server.url, timeout=30)
    saved(store, "key")
    admin.flushall()
    admin.script_flush()
    assert store.load("key") is None
    assert not store.save("key", b"value", LONG, "one"), "the claim went with the rest"
    saved(store, "key")


def test_a_full_server_is_an_error_until_there_is_room(own_server: RedisServer, admin: redis.Redis) -> None:
    store: Any = RedisStore(own_server.url, timeout=30)
    saved(store, "kept")
    admin.config_set("maxmemory-policy", "noeviction")
    admin.config_set("maxmemory", "1")
    with pytest.raises(redis.OutOfMemoryError):
        store.claim("key", "one", LONG)
    with pytest.raises(redis.OutOfMemoryError):
        store.save("kept", b"newer", LONG, "one")
    assert store.load("kept") == b"value"
    store.release("kept", "one")
    admin.config_set("maxmemory", "0")
    saved(store, "key")


def test_a_read_only_server_is_an_error_and_is_still_read(own_server: RedisServer, admin: redis.Redis) -> None:
    store: Any = RedisStore(own_server.url, timeout=30)
    saved(store, "key")
    admin.config_set("repl-diskless-sync-delay", "0")
    with RedisServer(settings=(f"replicaof 127.0.0.1 {own_server.port}",)) as replica:
        reading: Any = RedisStore(replica.url, timeout=30)
        eventually(lambda: _replicated(reading), "the replica has the value")
        with pytest.raises(redis.ReadOnlyError):
            reading.claim("other", "two", LONG)


def _replicated(store: Any) -> bool:
    try:
        return bool(store.load("key") == b"value")
    except redis.RedisError:
        return False


def planted(admin: redis.Redis, store: Any, record: str, plant: Callable[[bytes], Any]) -> None:
    saved(store, "key")
    (key,) = (key for key in cast("list[bytes]", admin.keys()) if key.endswith(record.encode()))
    admin.delete(key)
    plant(key)


def test_a_value_of_a_wrong_type_is_a_miss_until_the_next_save(own_server: RedisServer, admin: redis.Redis) -> None:
    store: Any = RedisStore(own_server.url, timeout=30)
    planted(admin, store, "value", lambda key: admin.lpush(key, "a", "list"))
    assert store.load("key") is None
    saved(store, "key", b"healed")
    assert store.load("key") == b"healed"


@pytest.mark.parametrize("kind", ["list", "hash", "without an end"])
def test_a_claim_that_is_none_of_ours_does_not_keep_everybody_out(
    own_server: RedisServer, admin: redis.Redis, kind: str
) -> None:
    store: Any = RedisStore(own_server.url, timeout=30)
    plants: dict[str, Callable[[bytes], Any]] = {
        "list": lambda key: admin.lpush(key, "one"),
        "hash": lambda key: admin.hset(key, "one", "one"),
        "without an end": lambda key: admin.set(key, "somebody"),
    }
    planted(admin, store, "claim", plants[kind])
    if kind == "without an end":
        assert not store.save("key", b"value", LONG, "one")
    else:
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            store.save("key", b"value", LONG, "one")
    assert store.claim("key", "one", LONG)
    assert not store.claim("key", "two", LONG)
    assert store.save("key", b"value", LONG, "one")


@pytest.mark.parametrize("value", [b"", b"x" * 2_000_000], ids=["empty", "huge"])
def test_a_value_of_an_impossible_size_is_a_miss(own_server: RedisServer, admin: redis.Redis, value: bytes) -> None:
    store: Any = RedisStore(own_server.url, timeout=30)
    planted(admin, store, "value", lambda key: admin.set(key, value))
    assert store.load("key") is None


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$-7\r\n", b"\0" * 100, b""], ids=repr)
@pytest.mark.timeout(20)
def test_what_answers_like_no_redis_is_an_error(answer: bytes) -> None:
    with answering(answer) as port:
        store = RedisStore(f"redis://127.0.0.1:{port}", timeout=SHORT)
        with pytest.raises((redis.RedisError, OSError, ValueError)):
            store.claim("key", "one", LONG)
        with suppress(redis.RedisError, OSError, ValueError):
            assert store.load("key") is None


# ── Redis: settings, and what is shown of them ───────────────────────────────────────────────────────────────────────


def test_nothing_shows_the_password(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"rediss://{USER}:{ESCAPED}@redis.example:6380/3?ssl_ca_certs=x&client_name=hunter2"
    shown = [repr(RedisStore(url)), str(RedisStore(url)), f"{RedisStore(url)}"]
    shown.append(repr(RedisStore(redis.Redis(password=PASSWORD))))
    with pytest.raises(ConfigurationError) as not_blocking:
        RedisStore(cast("Any", redis.asyncio.Redis(password=PASSWORD)))
    shown += [str(not_blocking.value), repr(not_blocking.value)]
    with pytest.raises(redis.ConnectionError) as down:
        RedisStore(f"redis://{USER}:{ESCAPED}@127.0.0.1:{free_port()}").load("key")
    shown += [str(down.value), repr(down.value), caplog.text]
    for text in shown:
        for secret in (PASSWORD, ESCAPED, USER, "hunter2"):
            assert secret not in text.replace("okta-m2m", "")
    assert repr(RedisStore(url)) == "RedisStore('rediss://redis.example:6380/3', prefix='okta-m2m')"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:6379/hunter2@host:6379/0",
        "redis://hunter2:6379/x@host:6379/0",
        "redis://h:6379?hunter2@host/0",
        "redis://h:6379#hunter2@host/0",
        "unix://user:p/hunter2@/run/redis.sock",
        "unix:///run/redis.sock?password=hunter2",
        "redis://user:%68unter2@host/0?password=hunter2@x",
    ],
)
def test_no_part_of_a_password_is_shown_of_a_url_that_is_not_escaped(url: str) -> None:
    try:
        shown = repr(RedisStore(url))
    except ConfigurationError as refused:
        shown = repr(refused)
    assert "hunter2" not in shown
    assert "6379" not in shown


def test_it_cannot_be_pickled() -> None:
    with pytest.raises(TypeError, match="in each process"):
        pickle.dumps(RedisStore("redis://:secret@localhost"))


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2/x@host:6379/0",
        "redis://user:hunter2@host:port/0",
        "redis://user:hunter2@[::1/0",
        "redis://user:hunter2@host/0?socket_timeout=hunter2",
        "redis://user:hunter2@host/0?no_such_option=1",
        "http://user:hunter2@host/",
        "hunter2",
        "",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="redis://user:password@host:6379/0") as refused:
        RedisStore(url)
    error: BaseException | None = refused.value
    while error is not None:
        assert "hunter2" not in f"{error!r}"
        error = error.__context__


@pytest.mark.parametrize(
    ("given", "says"), [(None, "a NoneType"), (7, "a int"), (lambda: 7, "makes a int"), (b"redis://h", "a bytes")]
)
def test_what_is_neither_url_nor_client_nor_function_is_refused(given: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{says}.*Pass a URL"):
        RedisStore(given)


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
    assert f"pip install 'okta-m2m[{extra}]'" in out


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
def test_an_unknown_url_is_refused_with_what_there_is_and_without_being_shown(url: str) -> None:
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
def test_a_directory_that_is_not_here_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"not an absolute path on this machine\. Use"):
        store_from_url(url)


def test_the_engines_are_stores_to_a_type_checker(tmp_path: Path) -> None:
    stores: list[Store] = [RedisStore("redis://h"), FileStore(tmp_path)]
    assert len(stores) == 2


# ── directories ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


@pytest.fixture
def files(directory: Path) -> FileStore:
    return FileStore(directory, timeout=30)


def only(directory: Path, record: str) -> Path:
    (path,) = directory.glob(f"*.{record}")
    return path


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


def test_nothing_is_made_before_there_is_something_to_keep(files: FileStore, directory: Path) -> None:
    assert files.load("key") is None
    assert not files.save("key", b"value", LONG, "one")
    files.release("key", "one")
    assert not directory.exists()


def test_a_directory_that_was_cleaned_away_is_made_again(files: FileStore, directory: Path) -> None:
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
def test_a_service_that_is_not_root_may_be_below_the_link_of_whoever_deploys_it(
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
def test_a_symlink_of_ones_own_in_the_path_is_followed(tmp_path: Path) -> None:
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
def test_what_is_no_file_of_ours_is_neither_followed_nor_waited_for(
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


@pytest.mark.parametrize("record", ["value", "claim"])
def test_a_record_from_the_future_is_nobodys(files: FileStore, directory: Path, record: str) -> None:
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


def test_a_small_correction_of_the_clock_costs_nothing(files: FileStore, directory: Path) -> None:
    saved(files, "key")
    for record in ("value", "claim"):
        written_by_a_clock_that_was_ahead(only(directory, record), 1)
    assert files.load("key") == b"value"
    assert not files.claim("key", "two", LONG)


def test_what_has_expired_is_removed_by_the_next_save(files: FileStore, directory: Path) -> None:
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


def test_other_peoples_files_in_the_directory_stay(files: FileStore, directory: Path) -> None:
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


def test_a_lock_that_is_held_for_too_long_is_an_error_in_time_and_reading_goes_on(
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


def test_the_lock_of_a_killed_process_is_no_obstacle(files: FileStore, directory: Path) -> None:
    saved(files, "key")
    with holding_the_lock(directory):
        pass
    assert (directory / "lock").exists()
    assert files.claim("other", "two", LONG)


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
def test_a_full_disk_is_an_error_and_leaves_no_half_file(directory: Path) -> None:
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


def test_a_reader_sees_a_whole_value_whatever_is_being_written(files: FileStore) -> None:
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


def script(program: str, *arguments: str, stderr: int | None = None) -> subprocess.Popen[str]:
    """A Python process of its own that runs this."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
