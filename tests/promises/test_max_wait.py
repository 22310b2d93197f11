"""``max_wait`` is kept, whatever hangs: each attempt ends in time for another one."""

from __future__ import annotations

import asyncio
import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest

from clients import Client
from front import Exchange, Front
from herd import SECRET, SimulatedStore
from okta_m2m import OktaM2MError, PrivateKey, ServiceApp, TokenUnreachable
from okta_m2m.effects import Flow, Request, Response, SendFailed, Sign
from okta_m2m.errors import SigningFailed
from okta_m2m.runtimes import Asyncio, Threads, Trio, arun, run, running
from okta_m2m.testing import FakeOkta
from promises import TOKEN, USERS, Connect, Service, in_matrix
from services import eventually

PROMPT = 6
"""Seconds within which a call with ``max_wait=1`` ends, on a busy machine too. Without a bound it hangs for much longer."""


@pytest.fixture
def ended() -> Iterator[threading.Event]:
    """Set when the test is over, for whatever still hangs then. It ends before the client is closed: a request that is then
    sent by a closed client would leave its connection open."""
    event = threading.Event()
    yield event
    event.set()
    eventually(lambda: not threads_of_sends(), "the threads that hung have ended")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second request goes out after one second, instead of five."""
    monkeypatch.setattr("okta_m2m._core.conversation.PATIENCE", 1.0)


def threads_of_sends() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "okta-m2m send"]


# ── the server ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Dripping:
    """A page that sends its answer byte by byte: its headers, or its body. ``hung_up``: how many clients went away."""

    def __init__(self, front: Front, part: str, ended: threading.Event, *, once: bool = True) -> None:
        self.hung_up = 0
        self._front, self._part, self._ended, self._once = front, part, ended, once
        front.pages[TOKEN] = self

    def __call__(self, exchange: Exchange) -> None:
        if self._once:
            self._front.pages.clear()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        exchange.write(head + (b"X-Slow: " if self._part == "headers" else b"Content-Length: 100000\r\n\r\n"))
        try:
            while not self._ended.wait(0.01):
                exchange.write(b"x" if self._part == "headers" else b" ")
        except OSError:
            self.hung_up += 1
            raise


def send_of_the_callers(request: Request, timeout: float) -> Response:
    """With a timeout for each piece of an answer only, as most libraries have it."""
    url = urlsplit(request.url)
    connection = http.client.HTTPConnection(url.netloc, timeout=timeout)
    try:
        connection.request(request.method, url.path, request.body, dict(request.headers))
        response = connection.getresponse()
        return Response(response.status, response.getheaders(), response.read())
    except OSError as error:
        raise SendFailed(str(error)) from error
    finally:
        connection.close()


@pytest.fixture(
    params=["default", *(pytest.param(sent, marks=pytest.mark.matrix) for sent in ("same", "other", "made", "send"))]
)
def sent_with(request: pytest.FixtureRequest, client_type: type[Client]) -> dict[str, Any]:
    """What sends token requests, as options of a client."""
    if request.param == "send":
        return {"send": send_of_the_callers}
    if request.param == "same" and not client_type.lends_itself:
        pytest.skip("it belongs to an event loop, and so is refused")
    return {"token_client": None if request.param == "default" else request.param}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("part", ["headers", *in_matrix("body")])
def test_a_response_that_comes_byte_by_byte_is_given_up_and_requested_again(
    okta: FakeOkta,
    front: Front,
    new_service: Service,
    connect: Connect,
    ended: threading.Event,
    sent_with: dict[str, Any],
    part: str,
) -> None:
    page = Dripping(front, part, ended)
    client = connect(new_service(okta, org_url=front.url, max_wait=4), **sent_with)
    assert client.get(front.url + USERS).status == 200
    assert okta.tokens_minted == 1
    # requests and niquests have no socket to close from outside while they wait for headers: that thread is left to the
    # server. The example in the docs reads a body in one piece.
    ended_by_us = client.name.startswith(("httpx", "aiohttp")) or (part == "body" and client.name != "docs-urllib3")
    if ended_by_us and "send" not in sent_with:  # what a send= leaves is its own
        eventually(lambda: page.hung_up == 1, "the connection is closed")
        eventually(lambda: not threads_of_sends(), "the thread has ended")


def test_if_all_responses_come_byte_by_byte_the_call_ends_within_max_wait(
    okta: FakeOkta, front: Front, new_service: Service, connect: Connect, ended: threading.Event
) -> None:
    Dripping(front, "headers", ended, once=False)
    client = connect(new_service(okta, org_url=front.url, max_wait=1))
    began = time.monotonic()
    with pytest.raises(TokenUnreachable):
        client.get(front.url + USERS)
    assert time.monotonic() - began < PROMPT
    ended.set()
    eventually(lambda: not front.open and not threads_of_sends(), "nothing is left behind, once the server has hung up")


# ── the name, and its addresses ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def black_holes(okta: FakeOkta) -> Iterator[list[str]]:
    """Loopback addresses where nobody answers at the org's port, not even with a refusal."""
    with ExitStack() as sockets:
        addresses = [f"127.0.0.{number}" for number in range(2, 8)]
        for address in addresses:
            listener = sockets.enter_context(socket.socket())
            try:
                listener.bind((address, okta.server.port))
            except OSError:
                pytest.skip("this machine has one loopback address")
            listener.listen(0)
            for _ in range(3):  # its queue is full, so a connection is neither accepted nor refused
                waiting = sockets.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex((address, okta.server.port))
        yield addresses


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], list[str]]], None]:
    """``resolve(addresses)``: ``localhost`` has the addresses that this function gives for the n-th look-up."""
    real = socket.getaddrinfo

    def replaced(addresses: Callable[[int], list[str]]) -> None:
        looked_up = 0

        def getaddrinfo(host: Any, port: Any, *options: Any, **named: Any) -> Any:
            nonlocal looked_up
            flags = named.get("flags", options[3] if len(options) > 3 else 0)
            # trio first asks on its loop whether it is a number.
            if host not in ("localhost", b"localhost") or flags & socket.AI_NUMERICHOST:
                return real(host, port, *options, **named)
            looked_up += 1
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(port))) for address in addresses(looked_up)
            ]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return replaced


@pytest.mark.usefixtures("impatient")
def test_a_name_whose_addresses_are_all_unreachable_is_resolved_again(
    okta: FakeOkta,
    new_service: Service,
    connect: Connect,
    sent_with: dict[str, Any],
    black_holes: list[str],
    resolve: Any,
) -> None:
    resolve(lambda count: black_holes if count == 1 else ["127.0.0.1"])
    url = f"http://localhost:{okta.server.port}"
    client = connect(new_service(okta, org_url=url, max_wait=4), **sent_with)
    assert client.get(url + USERS).status == 200


@pytest.mark.matrix
def test_a_reachable_address_after_two_unreachable_ones_is_used(
    okta: FakeOkta,
    new_service: Service,
    connect: Connect,
    sent_with: dict[str, Any],
    black_holes: list[str],
    resolve: Any,
) -> None:
    if "send" in sent_with:
        pytest.skip("how long it tries one address is its own affair")
    resolve(lambda count: [*black_holes[:2], "127.0.0.1"])
    url = f"http://localhost:{okta.server.port}"
    client = connect(new_service(okta, org_url=url, max_wait=6), **sent_with)
    assert client.token().usable(time.monotonic())
    assert okta.token_requests == 1


@pytest.mark.usefixtures("impatient")
def test_a_name_resolution_that_hangs_is_tried_again(
    okta: FakeOkta,
    new_service: Service,
    connect: Connect,
    sent_with: dict[str, Any],
    ended: threading.Event,
    resolve: Any,
) -> None:
    def addresses(count: int) -> list[str]:
        if count == 1:
            ended.wait(60)
        return ["127.0.0.1"]

    resolve(addresses)
    url = f"http://localhost:{okta.server.port}"
    client = connect(new_service(okta, org_url=url, max_wait=4), **sent_with)
    try:
        assert client.get(url + USERS).status == 200
    finally:
        ended.set()


# ── the signer ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Hanging:
    """A signer across a network, which hangs once ``hangs`` is set."""

    def __init__(self, ended: threading.Event) -> None:
        self.hangs = True
        self._key, self._ended = PrivateKey.generate("ES256"), ended
        self.alg, self.kid, self.public_jwk, self.jwks = "ES256", None, self._key.public_jwk, self._key.jwks

    def sign(self, message: bytes, /) -> bytes:
        if self.hangs:
            self._ended.wait(60)
        return self._key.sign(message)


def test_if_a_signer_hangs_the_call_ends_within_max_wait(
    okta: FakeOkta, new_service: Service, client_type: type[Client], ended: threading.Event
) -> None:
    client = client_type(new_service(okta, key=Hanging(ended), max_wait=1))
    began = time.monotonic()
    with pytest.raises(OktaM2MError):
        client.get(okta.url + USERS)
    client.close()  # which ends its event loop
    assert time.monotonic() - began < PROMPT


def test_if_the_signer_of_a_proof_hangs_the_call_ends_within_max_wait(
    okta: FakeOkta, new_service: Service, connect: Connect, ended: threading.Event
) -> None:
    signer = Hanging(ended)
    signer.hangs = False
    client = connect(new_service(okta, dpop_bound=True, dpop=signer, max_wait=1))
    assert client.get(okta.url + USERS).status == 200
    signer.hangs = True
    began = time.monotonic()
    with pytest.raises(SigningFailed, match=r"Hanging.*within 1 s"):
        client.get(okta.url + USERS)
    assert time.monotonic() - began < PROMPT


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_many_tasks_use_a_limited_number_of_threads_of_a_signer(ended: threading.Event, runtime: str) -> None:
    class Counting:
        at_once = most = 0
        _mutex = threading.Lock()

        def sign(self, message: bytes, /) -> bytes:
            with self._mutex:
                self.at_once += 1
                self.most = max(self.most, self.at_once)
            ended.wait(0.005)
            with self._mutex:
                self.at_once -= 1
            return message

    signer: Any = Counting()

    def signing(number: int) -> Flow[bytes]:
        return (yield from Sign(signer, b"%d" % number, 60.0))

    async def all_of_them() -> list[bytes]:
        loop = running(_token)
        signed = [b""] * 1000

        async def one(number: int) -> None:
            signed[number] = await arun(signing(number), loop)

        async with anyio.create_task_group() as group:
            for number in range(len(signed)):
                group.start_soon(one, number)
        return signed

    pytest.importorskip(runtime)
    signed = anyio.run(all_of_them, backend=runtime)
    assert signed == [b"%d" % number for number in range(1000)]
    assert 1 < signer.most <= 128


SCRIPT = """
import asyncio, sys, time
import {library}, okta_m2m.{library}
from okta_m2m import PrivateKey, ServiceApp, OktaM2MError

class Hanging:
    alg, kid, public_jwk = "ES256", None, PrivateKey.generate("ES256").public_jwk
    def sign(self, message, /):
        time.sleep(60)

app = ServiceApp("http://127.0.0.1:9", client_id="0oa1", key=Hanging(), scopes=["okta.users.read"], max_wait=0.5)
auth = okta_m2m.{library}.OktaAuth(app)
try:
    {obtain}
except OktaM2MError as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize(
    ("library", "obtain"),
    [("httpx", "auth.token()"), ("httpx", "asyncio.run(auth.atoken())"), ("aiohttp", "asyncio.run(auth.atoken())")],
)
def test_a_hanging_signer_delays_neither_the_end_of_the_loop_nor_of_the_process(library: str, obtain: str) -> None:
    pytest.importorskip(library)
    script = SCRIPT.format(library=library, obtain=obtain)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=45, check=True)
    assert done.stdout


# ── the store ────────────────────────────────────────────────────────────────────────────────────────────────────────


class HangingStore:
    """A shared store that never answers."""

    def __init__(self, ended: threading.Event) -> None:
        self._ended = ended

    def load(self, key: str) -> None:
        self._ended.wait(60)

    def claim(self, key: str, owner: str, ttl: float) -> bool:
        return self._ended.wait(60)

    def save(self, key: str, value: bytes, ttl: float, owner: str) -> bool:
        return self._ended.wait(60)

    def release(self, key: str, owner: str) -> None:
        self._ended.wait(60)


def test_a_store_that_hangs_fails_no_call(
    okta: FakeOkta, new_service: Service, client_type: type[Client], ended: threading.Event
) -> None:
    began = time.monotonic()
    client = client_type(new_service(okta, store=HangingStore(ended), max_wait=4))
    assert client.get(okta.url + USERS).status == 200
    client.close()
    assert time.monotonic() - began < PROMPT


# ── the interpreter's end ────────────────────────────────────────────────────────────────────────────────────────────


class Told:
    """A signer that may block, and changes; and a ``send``."""

    def __init__(self) -> None:
        self._key = PrivateKey.generate("ES256")
        self.alg, self.kid, self.public_jwk = "ES256", None, self._key.public_jwk

    def snapshot(self) -> Told:
        return self

    def sign(self, message: bytes, /) -> bytes:
        signature = self._key.sign(message)
        assert isinstance(signature, bytes)
        return signature


def _token(request: Request, timeout: float) -> Response:
    return Response(200, [], b'{"access_token": "t", "token_type": "Bearer", "expires_in": 3600}')


def _in_a_trio_run(flow: Any) -> Any:
    return pytest.importorskip("trio").run(arun, flow, Trio(_token))


@pytest.mark.parametrize(
    "obtain",
    [
        lambda flow: run(flow, Threads(_token)),
        lambda flow: asyncio.run(arun(flow, Asyncio(_token))),
        _in_a_trio_run,
    ],
    ids=["threads", "asyncio", "trio"],
)
def test_if_no_thread_can_be_started_the_caller_obtains_the_token_itself(
    obtain: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    app = ServiceApp("https://acme.okta.com", client_id="0oa1", key=Told(), scopes=["okta.users.read"])
    monkeypatch.setattr(threading.Thread, "start", start)
    try:
        raise LookupError("what the caller is just handling is no reason to fail")
    except LookupError:
        assert obtain(app.obtain()).value == "t"


def test_if_the_thread_that_extends_a_claim_cannot_start_the_fetch_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    store = SimulatedStore(time.monotonic)
    app = ServiceApp(
        "https://acme.okta.com",
        client_id="0oa1",
        key=Told(),
        scopes=["okta.users.read"],
        max_wait=4,
        store=store,
        seal_with=[SECRET],
    )
    started = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "okta-m2m claim":
            raise RuntimeError("can't create new thread at interpreter shutdown")
        started(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    assert run(app.obtain(), Threads(_token)).value == "t"
    assert store.is_claimed(), "the lease ends it"


class Interrupted(Exception):
    """What a signal handler raises."""


@pytest.mark.parametrize("kind", [RuntimeError, KeyError])
def test_the_caller_gets_an_interruption_even_if_starting_a_thread_also_fails(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        try:
            raise Interrupted
        finally:
            raise kind("the lock was not acquired, or the thread was running")

    app = ServiceApp("https://acme.okta.com", client_id="0oa1", key=Told(), scopes=["okta.users.read"])
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(Interrupted):
        run(app.obtain(), Threads(_token))
