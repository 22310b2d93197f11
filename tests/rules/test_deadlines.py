"""Everything that we ourselves read ends at a deadline, whatever a server sends, and however slowly.

Each server here either says nothing more, or sends a byte from time to time, so no limit for a single read helps. A call
then ends in bounded time: with a clear error, or with the caller's own response, which the caller can still read whole.

Token requests that come byte by byte are in ``tests/promises/test_max_wait.py``, and those of Redis also in
``tests/stores/test_redis_store.py``.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

import anyio
import pytest

from clients import Body, Client
from front import Exchange, Front
from okta_m2m import PrivateKey, ServiceApp, Token, TokenUnreachable
from okta_m2m._threads.deadlines import Start
from okta_m2m.testing import FakeOkta
from promises import TOKEN, USERS, Connect, Service, half_read, in_matrix, sent_to

HAS_ADMIN = find_spec("requests") is not None
if HAS_ADMIN:
    from okta_m2m.admin.doctor import Doctor
    from okta_m2m.admin.errors import OktaUnreachable
    from okta_m2m.admin.introspection import introspect_token, revoke_token
    from okta_m2m.admin.management import ApiToken, ManagementApi

of_admin = pytest.mark.skipif(not HAS_ADMIN, reason="admin needs requests, and this environment has only niquests")

BOUND = 10.0
"""Seconds within which each call here ends; the servers would go on for a minute, and no client here has a shorter limit."""

PAUSE = 0.05
"""Seconds between two bytes."""

pytestmark = [half_read, pytest.mark.timeout(90)]


@contextmanager
def bounded() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < BOUND


@pytest.fixture
def ended() -> Iterator[threading.Event]:
    """Set at the end of the test, when the servers stop."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(params=["drips", *in_matrix("stalls")])
def go_on(request: pytest.FixtureRequest, ended: threading.Event) -> Callable[[Callable[[bytes], object]], None]:
    """Sends nothing more, or a byte from time to time, with the function that it is given."""

    def going_on(send: Callable[[bytes], object]) -> None:
        until = time.monotonic() + 60
        with suppress(OSError):
            while not ended.wait(PAUSE) and time.monotonic() < until:
                if request.param == "drips":
                    send(b" ")

    return going_on


@pytest.fixture
def ours(client_type: type[Client]) -> None:
    if client_type.name == "docs-urllib3":
        pytest.skip("an adapter of one's own, which reads a body as its client does")


def rejection(front: Front, go_on: Any, status: int = 401, begin: bytes = b"{", **headers: str) -> None:
    """The next call is answered with the beginning of a body, and all later ones by the org."""

    def page(exchange: Exchange) -> None:
        front.pages.clear()
        exchange.begin(status, **headers)
        exchange.chunk(begin)
        go_on(exchange.chunk)

    front.pages[USERS] = page


# ── a response of an API ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize(
    "challenge", [{}, *in_matrix({"www_authenticate": 'Bearer error="invalid_token"'})], ids=["judged", "not"]
)
def test_a_401_whose_body_never_ends_does_not_hold_the_call(
    okta: FakeOkta, front: Front, new_service: Service, connect: Connect, go_on: Any, challenge: dict[str, str]
) -> None:
    client = connect(new_service(okta, org_url=front.url))
    client.token()
    rejection(front, go_on, **challenge)
    with bounded():
        assert client.get(front.url + USERS).status == 200
    assert okta.tokens_minted == 2


@pytest.mark.usefixtures("ours")
def test_a_refused_proof_whose_body_never_ends_does_not_hold_the_call(
    okta: FakeOkta, front: Front, new_service: Service, connect: Connect, go_on: Any
) -> None:
    client = connect(new_service(okta, org_url=front.url, dpop_bound=True))
    client.token()
    rejection(front, go_on, www_authenticate='DPoP error="use_dpop_nonce"', dpop_nonce="another")
    with bounded():
        assert client.get(front.url + USERS).status == 200
    assert okta.tokens_minted == 1


@pytest.mark.usefixtures("ours")
def test_a_401_whose_body_comes_late_reaches_the_caller_whole(
    okta: FakeOkta, front: Front, new_service: Service, connect: Connect
) -> None:
    parts = [b'{"errorCode": ', b'"E0000015", ', b'"errorSummary": "no"', b"}"]

    def page(exchange: Exchange) -> None:
        front.pages.clear()
        exchange.answer(401, b"", content_length=str(sum(map(len, parts))))
        for part in parts:
            exchange.write(part)
            time.sleep(0.4)

    client = connect(new_service(okta, org_url=front.url))
    client.token()
    front.pages[USERS] = page
    answer = client.post(front.url + USERS, Body(stream=iter([b"cannot be sent again"])))
    assert (answer.status, answer.body) == (401, b"".join(parts))
    assert client.get(front.url + USERS).status == 200


@pytest.mark.matrix
@pytest.mark.usefixtures("ours")
def test_the_calls_that_a_stalling_api_rejects_leave_no_thread_and_no_connection(
    okta: FakeOkta, front: Front, new_service: Service, connect: Connect, ended: threading.Event
) -> None:
    of_others = threading.enumerate()
    client = connect(new_service(okta, org_url=front.url))
    for _ in range(3):
        client.token()
        rejection(front, lambda send: ended.wait(30))
        assert client.get(front.url + USERS).status == 200
        okta.revoke_all()
    if client.name != "niquests":  # whose sockets are its own affair
        until = time.monotonic() + BOUND
        while reading := [
            one.name
            for one in threading.enumerate()
            if one not in of_others and one.name in ("okta-m2m body", "okta-m2m response")
        ]:
            assert time.monotonic() < until, reading
            time.sleep(0.01)


# ── the token endpoint, and the way there ────────────────────────────────────────────────────────────────────────────


def test_a_request_for_a_nonce_whose_body_never_ends_does_not_hold_the_call(
    okta: FakeOkta, front: Front, new_service: Service, connect: Connect, go_on: Any
) -> None:
    def page(exchange: Exchange) -> None:
        exchange.begin(400, dpop_nonce="n", content_type="application/json")
        exchange.chunk(b'{"error": "use_dpop_nonce"')
        go_on(exchange.chunk)

    front.pages[TOKEN] = page
    client = connect(new_service(okta, org_url=front.url, dpop_bound=True, max_wait=2))
    with bounded(), pytest.raises(TokenUnreachable):
        client.get(front.url + USERS)
    assert sent_to(okta) == []


@contextmanager
def says(begin: bytes, go_on: Any) -> Iterator[str]:
    """``host:port`` of a server that begins to answer whatever it is sent, and goes on."""

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(begin)
            go_on(connection.sendall)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.usefixtures("ours")
def test_a_proxy_that_never_ends_its_answer_to_connect_does_not_hold_the_call(
    ec_key: PrivateKey, client_type: type[Client], monkeypatch: pytest.MonkeyPatch, go_on: Any
) -> None:
    app = ServiceApp("https://acme.okta.com", client_id="0oa1", key=ec_key, scopes=["okta.users.read"], max_wait=2)
    with says(b"HTTP/1.1 200 OK\r\nX-Slow: ", go_on) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy}")
        client = client_type(app)
        try:
            with bounded(), pytest.raises(TokenUnreachable):
                client.token()
        finally:
            client.close()


def test_a_redis_that_never_ends_its_answer_does_not_hold_the_call(
    okta: FakeOkta, new_service: Service, connect: Connect, go_on: Any
) -> None:
    from okta_m2m.stores.redis import RedisStore

    with says(b"$1000\r\n", go_on) as server:
        client = connect(new_service(okta, store=RedisStore(f"redis://{server}")))
        with bounded():
            assert client.get(okta.url + USERS).status == 200


# ── what an administrator calls ──────────────────────────────────────────────────────────────────────────────────────

BEGINNINGS = {
    "status": b"HTTP/1.1 200",
    "header": b"HTTP/1.1 200 OK\r\nX-Slow: ",
    "body": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{",
}
in_each_part = pytest.mark.parametrize("part", BEGINNINGS)


@of_admin
@in_each_part
def test_a_call_to_the_management_api_ends(go_on: Any, part: str) -> None:
    with says(BEGINNINGS[part], go_on) as org, bounded(), pytest.raises(OktaUnreachable, match="it timed out"):
        ManagementApi(f"http://{org}", ApiToken("00a"), timeout=0.5).call("POST", "/api/v1/apps", {})


@of_admin
@in_each_part
def test_introspection_and_revocation_end(ec_key: PrivateKey, go_on: Any, part: str) -> None:
    with says(BEGINNINGS[part], go_on) as org, bounded():
        for ask in (introspect_token, revoke_token):
            with pytest.raises(TokenUnreachable):
                ask(f"http://{org}", "0oa1", ec_key, Token("t"), timeout=0.5)


@of_admin
@in_each_part
def test_the_doctors_first_request_ends(ec_key: PrivateKey, go_on: Any, part: str) -> None:
    with says(BEGINNINGS[part], go_on) as org, bounded():
        rows = list(Doctor(files=False, environ=settings(f"http://{org}", ec_key), timeout=0.5).checks())
    assert [row.name for row in rows if row.state == "fail"] == ["discovery"]


@of_admin
def test_the_doctors_api_call_ends(
    okta: FakeOkta, front: Front, new_service: Service, ec_key: PrivateKey, go_on: Any
) -> None:
    """A row is the verdict on what arrived, or says that there was no response."""
    app = new_service(okta, org_url=front.url)

    def page(exchange: Exchange) -> None:
        exchange.begin(401)
        exchange.chunk(b"{")
        go_on(exchange.chunk)

    front.pages[USERS] = page
    environ = settings(front.url, ec_key, app.client_id)
    with bounded():
        rows = list(Doctor(files=False, environ=environ, timeout=0.5, max_wait=2, call=USERS).checks())
    assert [row.name for row in rows if row.state == "fail"] == ["API call"]


def settings(org_url: str, key: PrivateKey, client_id: str = "0oa1") -> dict[str, str]:
    return {
        "OKTA_CLIENT_ORGURL": org_url,
        "OKTA_CLIENT_CLIENTID": client_id,
        "OKTA_CLIENT_SCOPES": "okta.users.read okta.users.manage okta.groups.read",
        "OKTA_CLIENT_PRIVATEKEY": json.dumps(key.private_jwk()),
    }


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_no_generator_is_left_open_if_only_the_start_of_a_body_was_read(backend: str) -> None:
    """trio warns of one that is left, if the time was up just between two pieces."""
    pytest.importorskip(backend, reason="this environment has only niquests")

    async def endless() -> AsyncGenerator[bytes, None]:
        while True:
            yield b"piece"

    async def read_the_start(pieces: AsyncGenerator[bytes, None]) -> bytes:
        body = Start(pieces)
        start = await body.aread(8)
        await body.aclose()
        assert pieces.ag_frame is None  # at its end, the loop would close it too
        return start

    assert anyio.run(read_the_start, endless(), backend=backend) == b"piecepiece"
