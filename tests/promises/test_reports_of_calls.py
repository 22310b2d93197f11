"""No frame of ours shows a secret in the report of a call that fails, in any client: not the token, not a proof, not an
``Authorization`` header of the caller's own."""

from __future__ import annotations

import io
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from clients import NOTHING, AsyncClient, BlockingClient, Body, Client
from crash_reports import check_report, frames_of
from front import Exchange, Front
from okta_m2m import ServiceApp
from okta_m2m.effects import Request, SendFailed
from okta_m2m.testing import FakeOkta
from promises import TOKEN, USERS, Connect, Service, either_binding, in_matrix

OWN = "Bearer the-callers-own-token-0123456789"


class Interrupted(BaseException):
    """What a signal handler raises."""


def failing(call: Callable[[], object]) -> BaseException:
    """What the call raises, which must be something."""
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("the call did not fail")


def check(error: BaseException, *, frames: bool = True) -> None:
    check_report(error, OWN, OWN[7:])
    if frames:
        assert frames_of(error)


# ── a call that has its token ────────────────────────────────────────────────────────────────────────────────────────


@either_binding
def test_a_broken_connection_shows_no_secret(okta: FakeOkta, service: Service, connect: Connect) -> None:
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    okta.next(on=USERS, drop=True, times=9)
    check(failing(lambda: client.get(okta.url + USERS)), frames=False)


@either_binding
def test_a_connection_broken_on_the_first_call_shows_no_secret(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service())
    okta.next(on=USERS, drop=True, times=9)
    check(failing(lambda: client.get(okta.url + USERS)), frames=False)


@either_binding
def test_a_connection_broken_when_the_call_is_sent_again_shows_no_secret(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    okta.next(on=USERS, status=401, error="E0000011")
    okta.next(on=USERS, drop=True, times=9)
    check(failing(lambda: client.get(okta.url + USERS)), frames=False)


@either_binding
def test_a_renewal_refused_after_a_401_shows_no_secret(okta: FakeOkta, service: Service, connect: Connect) -> None:
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    okta.next(on=USERS, status=401, error="E0000011")
    okta.next("invalid_scope")
    check(failing(lambda: client.get(okta.url + USERS)))


@either_binding
def test_a_broken_call_with_its_own_credentials_shows_no_secret(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service())
    okta.next(on=USERS, drop=True, times=9)
    check(failing(lambda: client.get(okta.url + USERS, headers={"Authorization": OWN})), frames=False)


@either_binding
def test_a_connection_broken_after_a_redirect_shows_no_secret(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service())
    okta.next(on=USERS, status=302, headers={"Location": f"{okta.url}/api/v1/groups"})
    okta.next(on="/api/v1/groups", drop=True, times=9)
    check(failing(lambda: client.get(okta.url + USERS)), frames=False)


class BadFile(io.BytesIO):
    """A file of which one method raises: at once, or after the file was read."""

    def __init__(self, method: str) -> None:
        super().__init__(b"a body")
        self.method = method
        self.was_read = False

    def seekable(self) -> bool:
        if self.method == "seekable":
            raise NotImplementedError("it was not written")
        return True

    def seek(self, *arguments: int) -> int:
        if self.method == "seek" and self.was_read:
            raise RuntimeError("the file is gone")
        return super().seek(*arguments)

    def read(self, *arguments: int | None) -> bytes:
        self.was_read = True
        return super().read(*arguments)

    def __iter__(self) -> Iterator[bytes]:
        yield self.read()


@pytest.mark.parametrize("method", ["seekable", "seek"])
@either_binding
def test_a_file_that_cannot_be_read_again_shows_no_secret(
    method: str, okta: FakeOkta, service: Service, connect: Connect, client_type: type[Client]
) -> None:
    """The methods of a file are the caller's: what they raise leaves our frames."""
    if client_type.name not in ("requests", "niquests", "niquests-async", "httpx", "httpx2"):
        pytest.skip("it takes no such file, or catches what its methods raise")
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    if method == "seek":
        okta.next(on=USERS, status=401, error="E0000011")
    error = failing(lambda: client.post(okta.url + USERS, Body(file=BadFile(method))))
    assert isinstance(error, RuntimeError)
    check(error)


# ── a call that waits for its token ──────────────────────────────────────────────────────────────────────────────────

TROUBLES: dict[str, dict[str, Any]] = {
    "refused": {"error": "invalid_client"},
    "reset": {"drop": True, "times": 20},
    "too slow": {"delay": 1.5, "times": 3},
    "a page": {"status": 200, "html": True, "times": 9},
}


@pytest.mark.parametrize("trouble", ["refused", "a page", *in_matrix("reset", "too slow")])
@either_binding
def test_a_failed_token_request_shows_no_secret(
    trouble: str, okta: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service(max_wait=0.6))
    okta.next(**TROUBLES[trouble])
    check(failing(lambda: client.get(okta.url + USERS)))
    okta.clear_faults()
    okta.next(**TROUBLES[trouble])
    check(failing(client.token))
    check(failing(lambda: client.headers("GET", "https://evil.example/")))


@either_binding
def test_an_exception_of_the_callers_send_shows_no_secret(okta: FakeOkta, service: Service, connect: Connect) -> None:
    def refuse(request: Request, timeout: float) -> Any:
        raise LookupError("a fault of its own")

    client = connect(service(), send=refuse)
    check(failing(lambda: client.get(okta.url + USERS)))


def test_a_token_response_that_ends_early_shows_no_secret(
    front: Front, new_service: Callable[..., ServiceApp], okta: FakeOkta, connect: Connect
) -> None:
    """What has come of the answer is in no frame that waits for the rest. No caller's exception passes through these
    frames, so the adapter is asked itself."""
    secret = "a-token-of-which-half-has-come-0123456789"

    def half(exchange: Exchange) -> None:
        exchange.begin(200, content_type="application/json")
        exchange.chunk(f'{{"token_type": "Bearer", "expires_in": 3600, "access_token": "{secret}'.encode())
        exchange._handler.close_connection = True

    front.pages[TOKEN] = half
    client = connect(new_service(okta))
    request = Request("POST", front.url + TOKEN, {"DPoP": OWN}, OWN.encode())
    send = client.auth._sender_like(None) if client.name == "aiohttp" else client.auth._send
    error = failing(lambda: send(request, 9.0))
    assert isinstance(error, SendFailed)
    check_report(error, secret, OWN)


# ── what interrupts a call ───────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """A signal handler that raises in the main thread, wherever that is."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


needs_signals = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers of that kind here")


def interrupted(client: Client, call: Callable[[], object]) -> BaseException:
    """What comes out of a call that is interrupted: by a signal under threads, by a time limit on a loop."""
    if isinstance(client, AsyncClient):

        async def limited() -> None:
            with anyio.fail_after(0.3):
                await client._call("GET", client.app.org_url + USERS, NOTHING, None, True)

        return failing(lambda: client.portal.call(limited))
    assert isinstance(client, BlockingClient)
    assert threading.current_thread() is threading.main_thread()
    with alarm(0.3):
        return failing(call)


@needs_signals
@pytest.mark.parametrize("on", [TOKEN, USERS])
@either_binding
def test_an_interrupted_call_shows_no_secret(on: str, okta: FakeOkta, service: Service, connect: Connect) -> None:
    """While it waits for its token, and while it waits for its answer."""
    client = connect(service())
    okta.next(on=on, delay=1.5)
    check(interrupted(client, lambda: client.get(okta.url + USERS)), frames=on == TOKEN)


@needs_signals
@either_binding
def test_a_call_interrupted_when_it_is_sent_again_shows_no_secret(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    okta.next(on=USERS, status=401, error="E0000011")
    okta.next(on=USERS, delay=1.5)
    check(interrupted(client, lambda: client.get(okta.url + USERS)), frames=False)


@needs_signals
@either_binding
def test_a_call_interrupted_during_a_forced_renewal_shows_no_secret(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    okta.next(on=USERS, status=401, error="E0000011")
    okta.next(delay=1.5)
    check(interrupted(client, lambda: client.get(okta.url + USERS)))


# ── hooks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def raise_for_status(app: ServiceApp, url: str, client_type: type[Client]) -> Callable[[], object] | None:
    """A call of that library whose response hook raises for a 401; ``None`` if the library has none."""
    if client_type.name == "requests":
        import requests

        import okta_m2m.requests

        def judge(response: requests.Response, **_: Any) -> None:
            response.raise_for_status()

        return lambda: requests.get(url, auth=okta_m2m.requests.OktaAuth(app), hooks={"response": judge}, timeout=9)
    if client_type.name in ("httpx", "httpx2"):
        library = __import__(client_type.name)
        adapter = __import__(f"okta_m2m.{client_type.name}", fromlist=["OktaAuth"])

        def call() -> None:
            hooks = {"response": [lambda response: response.raise_for_status()]}
            with library.Client(auth=adapter.OktaAuth(app), event_hooks=hooks) as client:
                client.get(url)

        return call
    return None


@either_binding
def test_an_exception_of_a_response_hook_shows_no_secret(
    okta: FakeOkta, service: Service, client_type: type[Client]
) -> None:
    call = raise_for_status(service(), okta.url + USERS, client_type)
    if call is None:
        pytest.skip("it has no hooks of that kind")
    okta.next(on=USERS, status=403, times=3)
    check(failing(call), frames=False)
    okta.next(on=USERS, status=401, error="E0000011", times=3)
    check(failing(call), frames=False)
