"""A RedisStore on real servers: what fails, fails soon and heals by itself, and no secret is shown."""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
import redis
import redis.asyncio

from okta_m2m import ConfigurationError
from okta_m2m.stores.redis import RedisStore
from services import (
    ESCAPED,
    PASSWORD,
    PERMISSIONS,
    USER,
    RedisServer,
    answering,
    eventually,
    free_port,
    stalling,
)
from store_helpers import LONG, SHORT, posix, saved, script

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


def test_the_response_to_a_call_that_timed_out_is_not_read_by_the_next_call(own_server: RedisServer) -> None:
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


def test_keys_have_the_prefix_an_expiry_and_one_slot_and_reveal_nothing(
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


def test_the_documented_permissions_are_enough_and_all_are_needed(tls_server: RedisServer) -> None:
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
def test_a_server_that_never_responds_is_an_error_within_the_timeout(scheme: str) -> None:
    with stalling() as port:
        store = RedisStore(f"{scheme}://user:secret@127.0.0.1:{port}", timeout=SHORT)
        with pytest.raises((redis.TimeoutError, redis.ConnectionError)):
            store.load("key")
        with pytest.raises((redis.TimeoutError, redis.ConnectionError)):
            store.claim("key", "one", LONG)


@pytest.mark.timeout(20)
def test_a_server_that_stalls_is_an_error_within_the_timeout_and_is_used_again_afterwards(
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


def test_a_server_whose_data_and_scripts_were_flushed_is_used_again(
    own_server: RedisServer, admin: redis.Redis
) -> None:
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


def test_a_read_only_server_is_read_and_a_claim_is_an_error(own_server: RedisServer, admin: redis.Redis) -> None:
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
def test_a_claim_of_a_wrong_type_or_without_expiry_is_taken_over(
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
def test_a_server_that_is_not_redis_is_an_error(answer: bytes) -> None:
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
def test_no_part_of_a_password_is_shown_if_the_url_is_not_escaped(url: str) -> None:
    try:
        shown = repr(RedisStore(url))
    except ConfigurationError as refused:
        shown = repr(refused)
    assert "hunter2" not in shown
    assert "6379" not in shown


def test_a_redis_store_cannot_be_pickled() -> None:
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
    ("given", "says"),
    [
        (None, "type NoneType"),
        (7, "type int"),
        (lambda: 7, "makes an object of type int"),
        (b"redis://h", "type bytes"),
    ],
)
def test_anything_but_a_url_a_client_or_a_function_is_refused(given: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{says}.*Pass a URL"):
        RedisStore(given)
