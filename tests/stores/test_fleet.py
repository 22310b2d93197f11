"""Many processes with one token: real ones on real stores, and what becomes of calls when something happens to either.

Every service app here has the defaults (but for the time that many processes at once give the store), and nearly every
test is run with an app that is given Bearer tokens and with one that requires DPoP, whose key the fleet then shares. Ten
minutes of a fleet's life are in ``test_fleet_simulated``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import redis
import requests
import trio

import okta_m2m.aiohttp
import okta_m2m.httpx
import okta_m2m.requests
from okta_m2m import ConfigurationError, PrivateKey, ServiceApp
from okta_m2m.admin.shared_token import check_store
from okta_m2m.stores.file import FileStore
from okta_m2m.stores.redis import RedisStore
from okta_m2m.testing import FakeOkta
from processes import Fleet, three_hosts
from promises import either_binding, in_matrix
from services import RedisServer, answering, eventually, free_port, stalling

USERS = "/api/v1/users"
SCOPES = ["okta.users.read"]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="its processes are forked")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis for all tests that leave it as it is."""
    with RedisServer() as running:
        yield running


@pytest.fixture
def client_id(okta: FakeOkta, ec_key: PrivateKey, binding: str) -> str:
    """The app whose processes share a token."""
    return okta.add_app(ec_key, SCOPES, dpop_bound=binding == "dpop").client_id


@pytest.fixture
def conversation(binding: str) -> int:
    """Token requests that a token takes from cold: a DPoP proof needs a nonce, which Okta hands out with a refusal."""
    return 2 if binding == "dpop" else 1


@pytest.fixture
def new_fleet(okta: FakeOkta, ec_key: PrivateKey, client_id: str) -> Iterator[Callable[..., Fleet]]:
    """``new_fleet(store URL, processes=, threads=, host=, until=, store_timeout=)``: processes that wait to be let go."""
    with ExitStack() as stack:

        def made(store: str, **options: Any) -> Fleet:
            return stack.enter_context(Fleet(okta, client_id, ec_key, store, **options))

        yield made


class Member:
    """A service app of the fleet that lives in this process, which is for it as good as one of its own."""

    def __init__(self, app: ServiceApp) -> None:
        self.app = app
        self.auth = okta_m2m.requests.OktaAuth(app)

    def call(self, *, settles: bool = True) -> str:
        """Makes a call; answers the token that was sent in the end. ``settles``: waits until the token is saved, too."""
        with requests.Session() as session:
            session.auth = self.auth
            answer = session.get(self.app.org_url + USERS)
        assert answer.status_code == 200, answer.text
        if self.app.fleet is not None and settles:
            self.app.fleet.settle(PATIENT)  # on a busy machine, a call does not wait until its token is saved
        return str(answer.request.headers["Authorization"]).partition(" ")[2]


@pytest.fixture
def member(okta: FakeOkta, ec_key: PrivateKey, client_id: str) -> Callable[..., Member]:
    """``member(store, **arguments of ServiceApp)``: a member from cold."""

    def made(store: Any, **arguments: Any) -> Member:
        arguments = {"client_id": client_id, "key": ec_key, "scopes": SCOPES, **arguments}
        return Member(ServiceApp(okta.url, store=store, **arguments))

    return made


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was warned of the store."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name == "okta_m2m" and "store" in record.getMessage()
    ]


# ── single flight ────────────────────────────────────────────────────────────────────────────────────────────────────


def sent_by(fleets: list[Fleet], calls: int) -> set[str]:
    """Digests of all tokens that they sent; none of their calls failed."""
    reports = [report for fleet in fleets for report in fleet.reports()]
    assert [report["wrong"] for report in reports] == [[]] * len(reports)
    assert {report["calls"] for report in reports} == {calls}
    return {token for report in reports for token in report["tokens"]}


# Hundreds of threads on a few busy processors may not get to read an answer within the default time-outs: the store's, the
# lease of a claim, and the five seconds after which a second token request goes out. Then there is a second token, as there
# should be. Here the question is whether they share one while all goes well.
PATIENT = 10.0
PATIENTLY = f"?socket_timeout={PATIENT}&socket_connect_timeout={PATIENT}"


@needs_fork
@either_binding
def test_32_processes_of_8_threads_from_cold_make_one_token_request(
    okta: FakeOkta, server: RedisServer, new_fleet: Callable[..., Fleet], conversation: int
) -> None:
    fleet = new_fleet(server.url + PATIENTLY, processes=32, threads=8, store_timeout=PATIENT, patience=PATIENT)
    fleet.go()
    assert len(sent_by([fleet], 8)) == 1
    assert (okta.tokens_minted, okta.token_requests) == (1, conversation)


@needs_fork
@either_binding
def test_processes_on_three_hosts_from_cold_make_one_token_request(
    okta: FakeOkta, server: RedisServer, new_fleet: Callable[..., Fleet], conversation: int
) -> None:
    with three_hosts(okta.server.port, server.port, redis_port=server.port) as hosts:
        fleets = [
            new_fleet(
                server.url + PATIENTLY, processes=5, threads=8, host=host, store_timeout=PATIENT, patience=PATIENT
            )
            for host in hosts
        ]
        for fleet in fleets:
            fleet.go()
        assert len(sent_by(fleets, 8)) == 1
    assert (okta.tokens_minted, okta.token_requests) == (1, conversation)


@pytest.fixture(params=["file", "tls and acl", *in_matrix("valkey")])
def another_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "file":
        yield f"file:{tmp_path / 'tokens'}"
    else:
        made = RedisServer(tls=True) if request.param == "tls and acl" else RedisServer("valkey-server")
        with made as running:
            yield running.url + PATIENTLY.replace("?", "&" if "?" in running.url else "?")


@needs_fork
@either_binding
def test_processes_on_every_other_store_from_cold_make_one_token_request(
    okta: FakeOkta, another_store: str, new_fleet: Callable[..., Fleet], conversation: int
) -> None:
    fleet = new_fleet(another_store, processes=6, threads=2, store_timeout=PATIENT, patience=PATIENT)
    fleet.go()
    assert len(sent_by([fleet], 2)) == 1
    assert (okta.tokens_minted, okta.token_requests) == (1, conversation)


FIRST_CALL = """
import json, sys
import requests
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.requests import OktaAuth
from okta_m2m.stores import store_from_url

store, url, client_id, scope = sys.argv[1:]
key = PrivateKey.from_text(sys.stdin.read())
app = ServiceApp(url, client_id=client_id, key=key, scopes=[scope], store=store_from_url(store), store_timeout=10)
request = requests.Request("GET", url + "/api/v1/users").prepare()
before = set(sys.modules)
assert "joserfc.jwe" in before
OktaAuth(app)(request)
print(json.dumps([request.headers["Authorization"], sorted(set(sys.modules) - before)]))
"""


@either_binding
def test_a_fresh_process_that_finds_the_token_imports_no_cryptography_for_it(
    okta: FakeOkta, client_id: str, ec_key: PrivateKey, member: Callable[..., Member], tmp_path: Path, conversation: int
) -> None:
    """That is done where the app is given its store, and no call waits for it."""
    directory = tmp_path / "tokens"
    token = member(FileStore(directory)).call()
    ran = subprocess.run(
        [sys.executable, "-c", FIRST_CALL, f"file:{directory}", okta.url, client_id, *SCOPES],
        input=json.dumps(ec_key.private_jwk()),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    authorization, imported = json.loads(ran.stdout)
    assert authorization.partition(" ")[2] == token
    assert okta.token_requests == conversation
    assert [name for name in imported if name.partition(".")[0] in ("joserfc", "cryptography")] == []


def test_importing_the_stores_imports_no_cryptography() -> None:
    """The commands do, all of them, and few of them have anything to do with a store."""
    program = "import okta_m2m._core.fleet, sys; print(*{name.partition('.')[0] for name in sys.modules}, sep='\\n')"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(ran.stdout.split())
    assert "okta_m2m" in loaded
    assert loaded & {"joserfc", "cryptography"} == set()


@needs_fork
@either_binding
def test_when_the_holder_of_a_claim_is_killed_another_process_takes_over(
    okta: FakeOkta, own_server: RedisServer, admin: redis.Redis, new_fleet: Callable[..., Fleet], conversation: int
) -> None:
    """That this takes no longer than the lease and a second is measured where time is simulated."""
    okta.next(delay=600)
    holder = new_fleet(own_server.url, processes=1, threads=2)
    others = new_fleet(own_server.url, processes=4, threads=2)
    holder.go()
    eventually(lambda: okta.token_requests == 1, "the holder is asking for a token")
    others.go()
    eventually(lambda: admin.info("commandstats")["cmdstat_eval"]["calls"] > 4, "the others tried to claim")  # type: ignore[index]  # not awaited
    holder.kill()
    assert len(sent_by([others], 2)) == 1
    assert okta.token_requests == 1 + conversation


@either_binding
def test_a_caller_that_is_cancelled_leaves_its_fetch_to_the_fleet(
    okta: FakeOkta, own_server: RedisServer, admin: redis.Redis, member: Callable[..., Member]
) -> None:
    okta.next(delay=1.0)
    auth = okta_m2m.httpx.OktaAuth(member(RedisStore(own_server.url)).app)

    async def main() -> None:
        asking = asyncio.create_task(auth.atoken())
        await asyncio.to_thread(eventually, lambda: okta.token_requests == 1, "it is asking for a token")
        assert admin.keys("*:claim")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.to_thread(eventually, lambda: not admin.keys("*:claim"), "the claim was given back")

    asyncio.run(main())
    okta_m2m.requests.OktaAuth(member(RedisStore(own_server.url)).app).token()
    assert okta.tokens_minted == 1, "another process has what the cancelled caller began"


@either_binding
def test_a_slow_token_request_keeps_its_claim_until_it_ends(
    okta: FakeOkta,
    server: RedisServer,
    member: Callable[..., Member],
    conversation: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("okta_m2m._core.fleet.LEASE", 1.5)
    okta.next(delay=4)
    holder, other = member(RedisStore(server.url)), member(RedisStore(server.url))
    asking = threading.Thread(target=holder.call)
    asking.start()
    eventually(lambda: okta.token_requests == 1, "it is asking for a token")
    token = other.call()
    asking.join()
    assert holder.call() == token
    assert okta.token_requests == conversation


@either_binding
def test_an_older_token_never_replaces_a_newer_one(
    okta: FakeOkta,
    own_server: RedisServer,
    admin: redis.Redis,
    member: Callable[..., Member],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("okta_m2m._core.fleet.LEASE", 6)  # the slow one extends its claim after the quick one's call
    okta.require_dpop_nonce = False
    okta.next(delay=4)
    slow, quick = member(RedisStore(own_server.url)), member(RedisStore(own_server.url))
    asking = threading.Thread(target=slow.call)
    asking.start()
    eventually(lambda: okta.token_requests == 1, "it is asking for a token")
    admin.flushall()  # its claim is gone, and will be there again
    time.sleep(1.5)  # later by more than the second to which ``Date`` is cut
    newer = quick.call()
    assert asking.is_alive()
    asking.join()
    assert okta.tokens_minted == 2
    assert member(RedisStore(own_server.url)).call() == newer


# ── one that is rejected ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_401_in_one_process_makes_no_token_request_in_the_others(
    okta: FakeOkta, server: RedisServer, member: Callable[..., Member], conversation: int
) -> None:
    one, other = member(RedisStore(server.url)), member(RedisStore(server.url))
    first = one.call()
    assert other.call() == first
    assert okta.token_requests == conversation

    okta.next(401, on=USERS)
    second = one.call()
    assert second != first, "the store handed a rejected token back"
    assert okta.tokens_minted == 2
    asked = okta.token_requests
    assert other.call() == first, "another process threw its token away"
    assert member(RedisStore(server.url)).call() == second

    okta.next(401, on=USERS)
    assert other.call() == second, "the renewed token was there to be had"
    assert okta.token_requests == asked


# ── never in the way ─────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def down(server: RedisServer) -> Iterator[None]:
    server.stop()
    yield
    server.start()


@contextmanager
def full(server: RedisServer) -> Iterator[None]:
    with server.admin() as admin:
        admin.config_set("maxmemory-policy", "noeviction")
        admin.config_set("maxmemory", "1")
        yield
        admin.config_set("maxmemory", "0")


@contextmanager
def without_scripts(server: RedisServer) -> Iterator[None]:
    with server.admin() as admin:
        admin.execute_command("ACL", "SETUSER", "default", "-eval")
        yield
        admin.execute_command("ACL", "SETUSER", "default", "+eval")


TROUBLES = {"down": down, "stalled": RedisServer.stopped, "full": full, "without scripts": without_scripts}


@pytest.mark.parametrize("trouble", list(TROUBLES))
@either_binding
def test_a_store_in_trouble_costs_a_warning_and_no_call_and_heals_by_itself(
    okta: FakeOkta,
    own_server: RedisServer,
    member: Callable[..., Member],
    trouble: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = member(RedisStore(own_server.url))
    with TROUBLES[trouble](own_server):
        first = one.call()
        okta.revoke_all()
        assert one.call() != first
        (told,) = warnings(caplog)
        assert "does not work" in told
    okta.revoke_all()
    healed = one.call()
    assert [("works again" in told) for told in warnings(caplog)] == [False, True]
    assert member(RedisStore(own_server.url)).call() == healed
    assert okta.tokens_minted == 3


def garbage() -> AbstractContextManager[int]:
    return answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize(
    "port", [lambda: nullcontext(free_port()), stalling, garbage], ids=["closed", "mute", "garbage"]
)
def test_a_server_that_is_not_redis_costs_a_warning_and_no_call(
    okta: FakeOkta,
    member: Callable[..., Member],
    port: Callable[[], AbstractContextManager[int]],
    conversation: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with port() as number:
        one = member(RedisStore(f"redis://127.0.0.1:{number}/0"))
        assert one.call() == one.call()
    assert okta.token_requests == conversation
    assert ["does not work" in told for told in warnings(caplog)] == [True]


def a_list(admin: redis.Redis, key: bytes) -> None:
    admin.delete(key)
    admin.lpush(key, "x")


@pytest.mark.parametrize("record", ["value", "claim"])
@pytest.mark.parametrize(
    "plant", [a_list, lambda admin, key: admin.set(key, b"\x00\xffnonsense")], ids=["wrong type", "garbage"]
)
@either_binding
def test_garbage_in_redis_is_replaced_without_a_warning(
    okta: FakeOkta,
    own_server: RedisServer,
    admin: redis.Redis,
    member: Callable[..., Member],
    record: str,
    plant: Callable[[redis.Redis, bytes], Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = member(RedisStore(own_server.url))
    first = one.call()
    (value,) = admin.keys("*:value")  # type: ignore[misc]  # not awaited
    plant(admin, value.replace(b":value", f":{record}".encode()))
    okta.revoke_all()
    second = one.call()
    assert second != first
    assert member(RedisStore(own_server.url)).call() == second
    assert warnings(caplog) == []


@pytest.mark.parametrize("damage", ["truncated", "emptied", "a lock left behind"])
@either_binding
def test_a_damaged_directory_is_repaired_without_a_warning(
    okta: FakeOkta, tmp_path: Path, member: Callable[..., Member], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "tokens"
    member(FileStore(directory)).call()
    if damage == "a lock left behind":
        (directory / "lock").write_text("held by nobody")
    for path in directory.glob("*.value"):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    second = member(FileStore(directory)).call()
    assert okta.tokens_minted == 2
    assert member(FileStore(directory)).call() == second
    assert warnings(caplog) == []


@needs_fork
@either_binding
@pytest.mark.matrix
def test_redis_may_be_stopped_restarted_and_flushed_under_load_and_no_call_fails(
    okta: FakeOkta, own_server: RedisServer, new_fleet: Callable[..., Fleet], tmp_path: Path
) -> None:
    okta.token_lifetime = 3
    enough = tmp_path / "enough"
    fleet = new_fleet(own_server.url, processes=3, threads=3, until=enough)
    fleet.go()

    def renewed_meanwhile(times: int = 2) -> None:
        minted = okta.tokens_minted
        eventually(lambda: okta.tokens_minted >= minted + times, "renewals")

    renewed_meanwhile()
    own_server.stop()
    renewed_meanwhile()
    own_server.start()
    renewed_meanwhile()
    with own_server.admin() as admin:
        admin.flushall()
        renewed_meanwhile()
        admin.script_flush()
    with own_server.stopped():
        renewed_meanwhile()
    renewed_meanwhile()
    enough.touch()
    reports = fleet.reports()
    assert [report["wrong"] for report in reports] == [[], [], []]
    assert sum(report["calls"] for report in reports) > 100


# ── what rests in the store ──────────────────────────────────────────────────────────────────────────────────────────


def pieces(okta: FakeOkta, ec_key: PrivateKey, tokens: list[str]) -> list[str]:
    """What may be nowhere in clear: of tokens the claims and the signature; the app, its scopes, the org, the key."""
    named = [
        *okta.apps,
        *SCOPES,
        okta.url.removeprefix("http://"),
        ec_key.private_jwk()["d"],
        "access_token",
        "dpop_key",
    ]
    return [part for token in tokens for part in token.split(".")[1:]] + named


def test_everything_in_redis_is_sealed_and_expires(
    okta: FakeOkta, own_server: RedisServer, admin: redis.Redis, member: Callable[..., Member], ec_key: PrivateKey
) -> None:
    seen: list[str] = []
    with own_server.admin() as watching, watching.monitor() as monitor:

        def listen() -> None:
            for command in monitor.listen():
                seen.append(json.dumps(command, default=str))
                if "the end" in command["command"]:
                    return

        listening = threading.Thread(target=listen)
        listening.start()
        first = member(RedisStore(own_server.url)).call()
        okta.revoke_all()
        second = member(RedisStore(own_server.url)).call()
        admin.echo("the end")
        listening.join()
    assert first != second
    assert len([command for command in seen if "EVAL" in command]) >= 6
    for key in admin.scan_iter():
        seen.append(f"{key!r} {admin.get(key)!r}")
        assert admin.pttl(key) > 0  # type: ignore[operator]  # not awaited
    assert [piece for piece in pieces(okta, ec_key, [first, second]) if any(piece in text for text in seen)] == []


def test_everything_on_disk_is_sealed(
    okta: FakeOkta, tmp_path: Path, member: Callable[..., Member], ec_key: PrivateKey
) -> None:
    token = member(FileStore(tmp_path / "tokens")).call()
    assert list(tmp_path.rglob("*.value"))
    seen = [f"{path.name} {path.read_bytes()!r}" for path in tmp_path.rglob("*") if path.is_file()]
    assert [piece for piece in pieces(okta, ec_key, [token]) if any(piece in text for text in seen)] == []


def test_a_value_that_was_copied_to_another_key_does_not_open(
    okta: FakeOkta,
    own_server: RedisServer,
    admin: redis.Redis,
    member: Callable[..., Member],
    ec_key: PrivateKey,
    binding: str,
) -> None:
    ours = member(RedisStore(own_server.url)).call()
    (source,) = admin.keys("*:value")  # type: ignore[misc]  # not awaited
    another = okta.add_app(ec_key, SCOPES, dpop_bound=binding == "dpop").client_id
    theirs = member(RedisStore(own_server.url), client_id=another).call()
    (target,) = set(admin.keys("*:value")) - {source}  # type: ignore[arg-type]  # not awaited
    admin.copy(source, target, replace=True)
    token = member(RedisStore(own_server.url), client_id=another).call()
    assert token not in (ours, theirs)


def test_a_value_with_a_flipped_bit_is_a_miss(
    okta: FakeOkta,
    own_server: RedisServer,
    admin: redis.Redis,
    member: Callable[..., Member],
    caplog: pytest.LogCaptureFixture,
) -> None:
    member(RedisStore(own_server.url)).call()
    (key,) = admin.keys("*:value")  # type: ignore[misc]  # not awaited
    for place in (0.0, 0.05, 0.5, 0.98):  # header, initialization vector, ciphertext, tag
        value = bytearray(admin.get(key))  # type: ignore[arg-type]  # not awaited
        value[int(place * len(value))] ^= 1
        admin.set(key, bytes(value), keepttl=True)
        before = okta.tokens_minted
        member(RedisStore(own_server.url)).call()
        assert okta.tokens_minted == before + 1, place
    assert warnings(caplog) == []


# ── DPoP ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def proof_keys(okta: FakeOkta) -> set[str]:
    """The keys of the proofs that came with API calls."""
    heads = [request.all("dpop")[0].split(".")[0] for request in okta.requests if request.path == USERS]
    return {json.dumps(json.loads(urlsafe_b64decode(head + "=="))["jwk"]) for head in heads}


@pytest.mark.parametrize("binding", ["dpop"])
def test_a_fleet_has_one_dpop_key_and_keeps_it_when_any_of_them_renews(
    okta: FakeOkta, server: RedisServer, member: Callable[..., Member]
) -> None:
    members = [member(RedisStore(server.url)) for _ in range(3)]
    for one in members:
        one.call()
    for one in members:  # each in turn is the one that renews
        okta.revoke_all()
        assert len({one.call(), *(other.call() for other in members)}) == 1
    assert len(proof_keys(okta)) == 1
    assert okta.tokens_minted == 4
    assert okta.token_requests == 5, "the nonce is shared as well"


@pytest.mark.parametrize("binding", ["dpop"])
def test_processes_with_the_same_dpop_key_argument_use_that_key(
    okta: FakeOkta, server: RedisServer, member: Callable[..., Member]
) -> None:
    key = PrivateKey.generate("ES256")
    one, other = (member(RedisStore(server.url), dpop=key) for _ in range(2))
    assert one.call() == other.call()
    assert other.app.ready("GET", okta.url + USERS) is not None, "the hit works with a token out of the store"
    assert len(proof_keys(okta)) == 1
    assert member(RedisStore(server.url)).call() != one.call()


# ── every runtime ────────────────────────────────────────────────────────────────────────────────────────────────────


class SavesWhenAllowed(FileStore):
    """A store that is slow to save."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.allowed, self.saving = threading.Event(), threading.Event()

    def save(self, key: str, value: bytes, ttl: float, owner: str) -> bool:
        self.saving.set()
        self.allowed.wait(20)
        return super().save(key, value, ttl, owner)


def test_a_call_does_not_wait_until_its_token_is_saved(member: Callable[..., Member], tmp_path: Path) -> None:
    store = SavesWhenAllowed(tmp_path / "tokens")
    sent = member(store, store_timeout=20.0).call(settles=False)
    assert store.saving.wait(20)
    assert not store.allowed.is_set()
    store.allowed.set()
    other = member(FileStore(tmp_path / "tokens"))
    eventually(lambda: " token for " in check_store(other.app).detail, "the token is in the store")
    assert other.call() == sent


@pytest.mark.parametrize("how", ["close", "aclose"])
def test_closing_an_app_waits_until_its_token_is_saved_for_the_others(
    okta: FakeOkta, member: Callable[..., Member], tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("okta_m2m._core.service_app.SETTLE_TIMEOUT", 20.0)
    store = SavesWhenAllowed(tmp_path / "tokens")
    one = member(store, store_timeout=20.0)
    sent = one.call(settles=False)
    threading.Timer(0.1, store.allowed.set).start()
    if how == "close":
        one.app.close()
    else:
        asyncio.run(one.app.aclose())
    other = member(FileStore(tmp_path / "tokens"))
    assert " token for " in check_store(other.app).detail
    assert other.call() == sent


class Rejecting:
    """An API that rejects every token."""

    def __init__(self, okta: FakeOkta) -> None:
        okta.server.expect_request("/rejecting").respond_with_data(
            "", 401, {"WWW-Authenticate": 'Bearer error="invalid_token", DPoP error="invalid_token"'}
        )
        self.url = f"{okta.url}/rejecting"

    def call(self, member: Member) -> int:
        with requests.Session() as session:
            session.auth = member.auth
            return session.get(self.url).status_code


def test_an_api_that_rejects_every_token_costs_a_fleet_three_forced_renewals_an_hour(
    okta: FakeOkta, member: Callable[..., Member], tmp_path: Path
) -> None:
    api = Rejecting(okta)
    members = [member(FileStore(tmp_path / "tokens"), store_timeout=5.0) for _ in range(10)]
    members[0].call()
    before = okta.tokens_minted
    for _ in range(5):
        assert {api.call(one) for one in members} == {401}
    assert okta.tokens_minted == before + 3
    assert len({one.call() for one in members}) <= 2, "and the others still share a token"


class ReturnsCoroutines:
    """A store whose methods are plain functions, so that only their answers show that they are not blocking ones."""

    def load(self, *arguments: object) -> Any:
        return self._answer()

    save = claim = release = load

    async def _answer(self) -> None: ...


@pytest.mark.parametrize("name", ["load", "claim", "save", "release"])
@pytest.mark.parametrize("binding", ["bearer"])
def test_a_store_with_a_coroutine_function_is_refused_at_once(
    member: Callable[..., Member], tmp_path: Path, name: str
) -> None:
    async def coroutine_function(*arguments: object) -> None: ...

    store = FileStore(tmp_path / "tokens")
    setattr(store, name, coroutine_function)
    with pytest.raises(
        ConfigurationError,
        match=rf"^FileStore\.{name} is a coroutine function.* Write load, claim, save and release as plain",
    ):
        member(store)


def called_with_httpx(app: ServiceApp) -> Callable[[], Any]:
    async def call() -> str:
        async with httpx.AsyncClient(auth=okta_m2m.httpx.OktaAuth(app)) as client:
            answer = await client.get(app.org_url + USERS)
        assert answer.status_code == 200
        return answer.request.headers["Authorization"].partition(" ")[2]

    return call


def called_with_aiohttp(app: ServiceApp) -> Callable[[], Any]:
    async def call() -> str:
        async with (
            aiohttp.ClientSession(middlewares=[okta_m2m.aiohttp.OktaAuth(app)]) as session,
            session.get(app.org_url + USERS) as answer,
        ):
            assert answer.status == 200
            return answer.request_info.headers["Authorization"].partition(" ")[2]

    return call


RUNTIMES: dict[str, Callable[[ServiceApp], str]] = {
    "threads": lambda app: Member(app).call(),
    "asyncio, httpx": lambda app: asyncio.run(called_with_httpx(app)()),
    "asyncio, aiohttp": lambda app: asyncio.run(called_with_aiohttp(app)()),
    "trio, httpx": lambda app: trio.run(called_with_httpx(app)),
}


@pytest.mark.parametrize("engine", ["redis", "file"])
def test_processes_in_every_runtime_share_one_token_whichever_fetches_it(
    okta: FakeOkta, own_server: RedisServer, tmp_path: Path, member: Callable[..., Member], engine: str
) -> None:
    for first in RUNTIMES:
        before = okta.tokens_minted
        okta.revoke_all()
        new: Any = (
            RedisStore(own_server.url, prefix=first)
            if engine == "redis"
            else FileStore(tmp_path / first.split(",")[0][:4] / first)
        )
        token = RUNTIMES[first](member(new).app)
        assert {call(member(new).app) for call in RUNTIMES.values()} == {token}
        assert okta.tokens_minted == before + 1


@either_binding
def test_one_store_serves_every_runtime_at_the_same_time(
    okta: FakeOkta, server: RedisServer, member: Callable[..., Member], conversation: int
) -> None:
    store = RedisStore(server.url, timeout=PATIENT)
    calls = [*RUNTIMES.values()] * 3
    apps = [member(store, store_timeout=PATIENT).app for _ in calls]
    with ThreadPoolExecutor(len(calls)) as threads:
        tokens = set(threads.map(lambda call, app: call(app), calls, apps))
    assert len(tokens) == okta.tokens_minted == 1
    assert okta.token_requests == conversation
    del store, apps
    gc.collect()  # a connection that was not closed would warn here, and so fail the test


def test_a_store_that_returns_awaitables_costs_a_warning_and_no_call(
    okta: FakeOkta, member: Callable[..., Member], caplog: pytest.LogCaptureFixture
) -> None:
    assert member(ReturnsCoroutines()).call()
    assert okta.tokens_minted == 1
    (told,) = warnings(caplog)
    assert "ReturnsCoroutines returned an awaitable" in told
    gc.collect()  # a coroutine that was not awaited would warn here, and so fail the test


class Answering:
    """A store that answers everything with the same value."""

    def __init__(self, answer: object) -> None:
        self._answer = answer

    def load(self, *arguments: object) -> Any:
        return self._answer

    save = claim = release = load


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    "answer", [7, "text", *in_matrix(0.5, True, ["list"], {"key": 1}, object())], ids=lambda a: type(a).__name__
)
def test_a_store_that_returns_anything_but_bytes_costs_a_warning_and_no_call(
    okta: FakeOkta, member: Callable[..., Member], runtime: str, answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    app = member(Answering(answer)).app
    assert RUNTIMES[runtime](app)
    assert okta.tokens_minted == 1
    (told,) = warnings(caplog)
    assert f"load returned a value of type {type(answer).__name__}, not bytes" in told


# ── keys that change, and keys that cannot be read ───────────────────────────────────────────────────────────────────


@pytest.fixture
def two_keys(okta: FakeOkta, client_id: str, binding: str) -> tuple[PrivateKey, PrivateKey]:
    """The fleet's key, and the one that comes after it."""
    old, new = PrivateKey.generate("ES256", kid="old"), PrivateKey.generate("ES256", kid="new")
    okta.add_app([old, new], SCOPES, client_id=client_id, dpop_bound=binding == "dpop")
    return old, new


def test_during_a_rotation_processes_with_the_old_and_the_new_key_do_not_overwrite_each_others_token(
    okta: FakeOkta,
    own_server: RedisServer,
    admin: redis.Redis,
    member: Callable[..., Member],
    two_keys: tuple[PrivateKey, PrivateKey],
) -> None:
    old, new = two_keys
    with_old = member(RedisStore(own_server.url), key=old).call()
    with_new = member(RedisStore(own_server.url), key=new).call()
    assert with_old != with_new, "neither opens what the other has sealed"
    assert len(admin.keys("*:value")) == 2  # type: ignore[arg-type]  # not awaited
    assert member(RedisStore(own_server.url), key=old).call() == with_old
    assert member(RedisStore(own_server.url), key=new).call() == with_new
    assert okta.tokens_minted == 2


def test_a_process_with_both_keys_uses_a_token_sealed_with_either(
    okta: FakeOkta,
    server: RedisServer,
    member: Callable[..., Member],
    two_keys: tuple[PrivateKey, PrivateKey],
) -> None:
    old, new = two_keys
    token = member(RedisStore(server.url), key=[old]).call()
    assert member(RedisStore(server.url), key=[new, old]).call() == token
    assert okta.tokens_minted == 1


def test_with_a_secret_a_fleet_shares_across_a_rotation_and_the_secret_can_change_too(
    okta: FakeOkta,
    server: RedisServer,
    member: Callable[..., Member],
    two_keys: tuple[PrivateKey, PrivateKey],
) -> None:
    old, new = two_keys
    secret, next_secret = os.urandom(32), os.urandom(32)
    token = member(RedisStore(server.url), key=old, seal_with=[secret]).call()
    assert member(RedisStore(server.url), key=new, seal_with=[secret]).call() == token
    assert member(RedisStore(server.url), key=new, seal_with=[next_secret, secret]).call() == token
    assert okta.tokens_minted == 1


class InAnHSM:
    """A signer whose key nobody can read."""

    def __init__(self, key: PrivateKey) -> None:
        self.alg, self.kid, self.public_jwk, self._sign = key.alg, key.kid, key.public_jwk, key.sign

    def sign(self, message: bytes, /) -> bytes:
        return self._sign(message)


def test_a_key_that_cannot_be_read_needs_a_secret_to_seal_with(
    okta: FakeOkta, server: RedisServer, member: Callable[..., Member], ec_key: PrivateKey
) -> None:
    with pytest.raises(ConfigurationError, match=r"seal_with=\[secret\]"):
        member(RedisStore(server.url), key=InAnHSM(ec_key))
    secret = os.urandom(32)
    tokens = {member(RedisStore(server.url), key=InAnHSM(ec_key), seal_with=[secret]).call() for _ in range(2)}
    assert len(tokens) == okta.tokens_minted == 1


@pytest.mark.parametrize("binding", ["bearer"])
def test_an_app_that_requires_all_scopes_ignores_a_stored_token_with_fewer(
    okta: FakeOkta, server: RedisServer, member: Callable[..., Member]
) -> None:
    scopes = [*SCOPES, "okta.groups.read"]  # of which one is not granted
    member(RedisStore(server.url), scopes=scopes).call()
    with pytest.raises(okta_m2m.OktaM2MError, match=r"okta\.groups\.read"):
        member(RedisStore(server.url), scopes=scopes, require_all_scopes=True).auth.token()


@pytest.mark.parametrize("binding", ["bearer"])
def test_a_stored_token_states_the_same_time_of_expiry_in_each_process(
    okta: FakeOkta, tmp_path: Path, member: Callable[..., Member]
) -> None:
    okta.skew(seconds=600)
    first, second = (member(FileStore(tmp_path)) for _ in range(2))
    first.call()
    assert second.auth.token().value == first.auth.token().value
    assert second.auth.token().expires_at == pytest.approx(first.auth.token().expires_at, abs=1.5)


# ── by a setting ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def environ(okta: FakeOkta, client_id: str, ec_key: PrivateKey) -> dict[str, str]:
    return {
        "OKTA_CLIENT_ORGURL": okta.url,
        "OKTA_CLIENT_CLIENTID": client_id,
        "OKTA_CLIENT_SCOPES": " ".join(SCOPES),
        "OKTA_CLIENT_PRIVATEKEY": json.dumps(ec_key.private_jwk()),
    }


@pytest.mark.parametrize("scheme", ["redis", "unix", "file"])
@either_binding
def test_the_environment_names_the_store(
    okta: FakeOkta, own_server: RedisServer, tmp_path: Path, environ: dict[str, str], scheme: str
) -> None:
    urls = {"redis": own_server.url, "unix": own_server.unix_url, "file": f"file:{tmp_path / 'tokens'}"}
    environ["OKTA_M2M_STORE"] = urls[scheme]
    assert len({Member(ServiceApp.from_env(environ=environ, files=False)).call() for _ in range(2)}) == 1
    assert okta.tokens_minted == 1


@pytest.mark.parametrize("binding", ["bearer"])
def test_the_environment_may_name_a_store_behind_tls(okta: FakeOkta, environ: dict[str, str]) -> None:
    with RedisServer(tls=True) as server:
        environ["OKTA_M2M_STORE"] = server.url
        assert len({Member(ServiceApp.from_env(environ=environ, files=False)).call() for _ in range(2)}) == 1
    assert okta.tokens_minted == 1


@pytest.mark.parametrize("binding", ["bearer"])
def test_the_store_argument_overrides_the_setting_and_an_empty_setting_names_no_store(
    okta: FakeOkta, own_server: RedisServer, admin: redis.Redis, tmp_path: Path, environ: dict[str, str]
) -> None:
    environ["OKTA_M2M_STORE"] = own_server.url
    Member(ServiceApp.from_env(environ=environ, files=False, store=FileStore(tmp_path))).call()
    environ["OKTA_M2M_STORE"] = " "
    Member(ServiceApp.from_env(environ=environ, files=False)).call()
    assert admin.keys() == []
    assert okta.tokens_minted == 2


@pytest.mark.parametrize("binding", ["bearer"])
@pytest.mark.parametrize(
    "url", ["memcached://user:hunter2@host", "redis://user:hunter2@host:port/0", "file:hunter2", "hunter2"]
)
def test_a_setting_that_names_no_store_is_refused_without_showing_its_value(environ: dict[str, str], url: str) -> None:
    environ["OKTA_M2M_STORE"] = url
    with pytest.raises(ConfigurationError, match=r"^environment variable OKTA_M2M_STORE: ") as refused:
        ServiceApp.from_env(environ=environ, files=False)
    assert "hunter2" not in str(refused.value)
