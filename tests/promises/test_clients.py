"""Promises about what only one HTTP library has: its retries, its prepared requests, its hooks."""

from __future__ import annotations

import asyncio
import copy
import io
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import httpx
import httpx2
import pytest
import requests.adapters
import stamina
import tenacity
import trio
import urllib3

import okta_m2m.aiohttp
import okta_m2m.httpx
import okta_m2m.httpx2
import okta_m2m.requests
from clients import CLIENTS, Answer, Body, Client
from clients.httpx_alike import BlockingHttpx
from clients.of_httpx import HttpxClient
from clients.of_httpx2 import Httpx2Client
from clients.of_requests import RequestsClient
from clients.of_urllib3 import ADAPTER
from okta_m2m import ConfigurationError, ServiceApp
from okta_m2m.events import TokenObtained, TokenRejected
from okta_m2m.testing import FakeOkta
from promises import CONTENT, TOKEN, USERS, Service, credentials, in_matrix, redirect, sent_to, sha


def test_calls_that_urllib3_retries_succeed_after_a_revocation(
    okta: FakeOkta, new_service: Service, binding: str
) -> None:
    client = RequestsClient(new_service(okta, dpop_bound=binding == "dpop"))
    retry = urllib3.Retry(3, status_forcelist=[503], backoff_factor=0, allowed_methods=None)
    client.session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
    try:
        assert client.get(okta.url + USERS).status == 200
        for _ in range(3):
            okta.next(503, on=USERS)
            answer = client.post(okta.url + USERS, Body(data=CONTENT))
            assert answer.status == 200
            assert answer.received == sha(CONTENT)
    finally:
        client.close()
    assert okta.tokens_minted == 1


@pytest.mark.parametrize("alike", [HttpxClient, Httpx2Client])
def test_calls_that_an_httpx_transport_retries_succeed_after_a_revocation(
    okta: FakeOkta, new_service: Service, binding: str, alike: type[BlockingHttpx]
) -> None:
    # httpx's own retries concern connections only; so this one is a transport that sends again.
    class Again(alike.library.HTTPTransport):  # type: ignore[name-defined]  # the library is a parameter
        def handle_request(self, request: Any) -> Any:
            response = super().handle_request(request)
            if response.status_code == 503:
                response.close()
                response = super().handle_request(request)
            return response

    client = alike(new_service(okta, dpop_bound=binding == "dpop"))
    client.client._transport = Again()
    client.client._mounts = {}
    try:
        assert client.get(okta.url + USERS).status == 200
        okta.next(503, on=USERS)
        assert client.post(okta.url + USERS, Body(data=CONTENT)).received == sha(CONTENT)
    finally:
        client.close()
    assert okta.tokens_minted == 1


def test_a_prepared_request_of_requests_may_be_sent_several_times_and_later(
    okta: FakeOkta, new_service: Service, binding: str
) -> None:
    client = RequestsClient(new_service(okta, dpop_bound=binding == "dpop"))
    try:
        prepared = client.session.prepare_request(requests.Request("POST", okta.url + USERS, data=CONTENT))
        for _ in range(2):
            assert client.session.send(prepared, timeout=20).status_code == 200
        okta.revoke_all()
        for _ in range(2):
            assert client.session.send(prepared, timeout=20).status_code == 200
    finally:
        client.close()
    assert okta.tokens_minted == 2


def test_auth_may_be_passed_to_one_call_only(okta: FakeOkta, new_service: Service, binding: str) -> None:
    app = new_service(okta, dpop_bound=binding == "dpop")
    adapters: dict[Any, Any] = {requests: okta_m2m.requests, httpx: okta_m2m.httpx, httpx2: okta_m2m.httpx2}
    for library, adapter in adapters.items():
        assert library.get(okta.url + USERS, auth=adapter.OktaAuth(app), timeout=20).status_code == 200
        assert library.get(okta.url + USERS, timeout=20).status_code == 401
    assert okta.tokens_minted == 1


def test_hooks_of_requests_see_only_the_response_after_the_renewal(
    okta: FakeOkta, new_service: Service, binding: str
) -> None:
    client = RequestsClient(new_service(okta, dpop_bound=binding == "dpop"))
    client.session.hooks["response"].append(lambda response, **_: response.raise_for_status())
    try:
        okta.next(401, on=USERS)
        assert client.get(okta.url + USERS).status == 200
    finally:
        client.close()


def with_stamina(unreachable: type[Exception], call: Callable[[], Answer]) -> Callable[[], Answer]:
    return stamina.retry(on=unreachable, attempts=3, wait_initial=0, wait_max=0, wait_jitter=0)(call)


def with_tenacity(unreachable: type[Exception], call: Callable[[], Answer]) -> Callable[[], Answer]:
    kind = tenacity.retry_if_exception_type(unreachable)
    return tenacity.retry(retry=kind, stop=tenacity.stop_after_attempt(3), reraise=True)(call)


@pytest.mark.parametrize("retrying", [with_stamina, with_tenacity])
@pytest.mark.parametrize("name", ["requests", "httpx", "httpx2", "aiohttp"])
def test_the_callers_retries_repeat_unreachable_and_no_refusal(
    okta: FakeOkta, new_service: Service, name: str, retrying: Callable[..., Callable[[], Answer]]
) -> None:
    tries: list[None] = []

    def outcome(client: Client) -> object:
        def call() -> Answer:
            tries.append(None)
            return client.get(okta.url + USERS)

        tries.clear()
        try:
            return retrying(client.unreachable, call)().status
        except Exception as error:
            return type(error).__name__
        finally:
            client.close()

    okta.next("access_denied")
    assert (outcome(CLIENTS[name](new_service(okta))), len(tries)) == ("AccessDenied", 1)
    okta.next(503, times=1000)
    assert (outcome(CLIENTS[name](new_service(okta, max_wait=0.1))), len(tries)) == ("TokenUnreachable", 3)
    okta.clear_faults()
    assert (outcome(CLIENTS[name](new_service(okta))), len(tries)) == (200, 1)


def test_retries_of_urllib3_repeat_no_refusal(okta: FakeOkta, new_service: Service) -> None:
    client = RequestsClient(new_service(okta))
    client.session.mount("http://", requests.adapters.HTTPAdapter(max_retries=urllib3.Retry(3, allowed_methods=None)))
    try:
        okta.next("access_denied", times=10)
        with pytest.raises(requests.RequestException):
            client.get(okta.url + USERS)
    finally:
        client.close()
    assert okta.token_requests == 1


def test_a_users_own_adapter_takes_less_than_sixty_lines() -> None:
    assert len(ADAPTER.splitlines()) < 60


# ── httpx and httpx2 ─────────────────────────────────────────────────────────────────────────────────────────────────

every_httpx = pytest.mark.parametrize("name", [name for name in CLIENTS if name.startswith("httpx")])


@pytest.fixture
def httpx_alike(name: str, okta: FakeOkta, new_service: Service, binding: str) -> Iterator[Any]:
    """One of them that has a token already."""
    client = CLIENTS[name](new_service(okta, dpop_bound=binding == "dpop"))
    try:
        assert client.get(okta.url + USERS).status == 200
        yield client
    finally:
        client.close()


def raises(response: Any) -> None:
    response.raise_for_status()


def raises_its_own(response: Any) -> None:
    try:
        response.raise_for_status()
    except (httpx.HTTPStatusError, httpx2.HTTPStatusError) as error:
        raise LookupError("no such user") from error


def hook(client: Any, told: Callable[[Any], None], *, reads: bool = False) -> None:
    """Gives a client a response hook."""

    def blocking(response: Any) -> None:
        if reads:
            response.read()
        told(response)

    async def awaited(response: Any) -> None:
        if reads:
            await response.aread()
        told(response)

    client.client.event_hooks = {"response": [awaited if client.asynchronous else blocking]}


def status_of(client: Any, url: str) -> int | None:
    try:
        return int(client.get(url).status)
    except (client.refused, LookupError):
        return None


@every_httpx
@pytest.mark.parametrize("told", [raises, raises_its_own])
def test_after_a_response_hook_raised_for_a_401_the_next_call_has_a_new_token(
    okta: FakeOkta, httpx_alike: Any, told: Callable[[Any], None]
) -> None:
    hook(httpx_alike, told)
    okta.revoke_all()
    assert [status_of(httpx_alike, okta.url + USERS) for _ in range(3)] == [None, 200, 200]
    assert okta.tokens_minted == 2


@every_httpx
def test_after_a_hook_raised_for_a_401_after_a_redirect_the_next_call_has_a_new_token(
    okta: FakeOkta, httpx_alike: Any
) -> None:
    hook(httpx_alike, lambda response: None if response.has_redirect_location else response.raise_for_status())
    okta.next(401, on=USERS)
    assert [status_of(httpx_alike, redirect(okta, okta.url + USERS)) for _ in range(2)] == [None, 200]
    assert okta.tokens_minted == 2


@every_httpx
@pytest.mark.parametrize("binding", ["dpop"], indirect=True)
def test_after_a_response_hook_raised_for_a_nonce_request_the_next_call_has_the_nonce(
    okta: FakeOkta, httpx_alike: Any
) -> None:
    hook(httpx_alike, raises)
    okta.resource_nonce = True
    assert [status_of(httpx_alike, okta.url + USERS) for _ in range(3)] == [None, 200, 200]
    assert okta.tokens_minted == 1


@every_httpx
@pytest.mark.parametrize(
    ("reads", "code", "minted"), [(True, "E0000011", 2), *in_matrix((True, "E0000015", 1)), (False, "E0000015", 1)]
)
def test_if_a_hook_raises_a_401_without_a_challenge_counts_only_if_its_body_was_read(
    okta: FakeOkta, httpx_alike: Any, reads: bool, code: str, minted: int
) -> None:
    hook(httpx_alike, raises, reads=reads)
    okta.next(code, on=USERS)
    assert [status_of(httpx_alike, okta.url + USERS) for _ in range(2)] == [None, 200]
    assert okta.tokens_minted == minted


@every_httpx
def test_if_a_hook_raises_for_a_call_without_our_token_nothing_is_renewed(okta: FakeOkta, httpx_alike: Any) -> None:
    hook(httpx_alike, raises)
    with pytest.raises(httpx_alike.refused):
        httpx_alike.get(okta.url + USERS, headers={"Authorization": "SSWS mine"})
    okta.next(500, on=USERS)
    assert [status_of(httpx_alike, okta.url + USERS) for _ in range(2)] == [None, 200]
    assert okta.tokens_minted == 1


@pytest.mark.parametrize("name", ["httpx", "httpx2"])  # on an event loop of its own no exception is being handled
def test_the_hook_exception_of_an_earlier_call_is_not_used_again(
    okta: FakeOkta, new_service: Service, name: str
) -> None:
    told: list[object] = []
    client: Any = CLIENTS[name](new_service(okta, on_event=told.append))

    def another(response: Any) -> None:
        raise LookupError("no such user")

    try:
        hook(client, raises)
        okta.next(401, on=USERS)
        try:
            client.get(okta.url + USERS)
        except client.refused:  # it is what the next error came of, as far as Python knows
            hook(client, another)
            with pytest.raises(LookupError):
                client.get(okta.url + USERS)
    finally:
        client.close()
    assert len([event for event in told if isinstance(event, TokenRejected)]) == 1


@pytest.mark.parametrize("name", list(CLIENTS))
def test_a_rejection_is_reported_before_the_renewal_that_it_causes(
    okta: FakeOkta, new_service: Service, name: str
) -> None:
    told: list[object] = []
    client: Any = CLIENTS[name](new_service(okta, on_event=told.append))
    try:
        assert client.get(okta.url + USERS).status == 200
        okta.revoke_all()
        assert client.get(okta.url + USERS).status == 200
    finally:
        client.close()
    assert [type(event) for event in told] == [TokenObtained, TokenRejected, TokenObtained]


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_response_that_the_caller_handles_is_not_judged_again_by_a_failing_call(
    okta: FakeOkta, new_service: Service, library: Any
) -> None:
    told: list[object] = []
    adapter: Any = okta_m2m.httpx if library is httpx else okta_m2m.httpx2
    with library.Client(auth=adapter.OktaAuth(new_service(okta, on_event=told.append))) as client:
        okta.next(401, on=USERS, times=2)
        try:
            client.get(okta.url + USERS).raise_for_status()
        except library.HTTPStatusError:
            okta.next(drop=True, on=USERS)
            with pytest.raises(library.TransportError):
                client.get(okta.url + USERS)
        assert len([event for event in told if isinstance(event, TokenRejected)]) == 2
        assert client.get(okta.url + USERS).status_code == 200
    assert okta.tokens_minted == 2


@every_httpx
@pytest.mark.parametrize("made", ["cycle", *in_matrix("without a request"), "without a response"])
def test_the_caller_gets_the_exception_of_a_response_hook(okta: FakeOkta, httpx_alike: Any, made: str) -> None:
    def raises_by_hand(response: Any) -> None:
        if made == "cycle":
            error = LookupError("no such user")
            raise error from error
        kind = httpx2.HTTPStatusError if isinstance(response, httpx2.Response) else httpx.HTTPStatusError
        whole: Any = {"request": response.request, "response": response}
        raise kind("by hand", **{**whole, made.removeprefix("without a "): None})

    hook(httpx_alike, raises_by_hand)
    okta.next(401, on=USERS)
    with pytest.raises(LookupError if made == "cycle" else httpx_alike.refused):
        httpx_alike.get(okta.url + USERS)


@every_httpx
def test_a_client_with_response_hooks_is_refused_for_the_token_request(
    okta: FakeOkta, new_service: Service, binding: str, name: str
) -> None:
    own = "same" if CLIENTS[name].lends_itself else "other"
    client: Any = CLIENTS[name](new_service(okta, dpop_bound=binding == "dpop"), token_client=own)
    lent = client.other or client.client
    try:
        lent.event_hooks = {"response": [raises]}
        with pytest.raises(ConfigurationError, match=r"response.*hooks.*a client without hooks"):
            client.token()
        assert okta.token_requests == 0
        lent.event_hooks = {"request": [], "response": []}
        assert client.get(okta.url + USERS).status == 200
    finally:
        client.close()


@every_httpx
def test_the_callers_own_trace_is_still_called(okta: FakeOkta, httpx_alike: Any) -> None:
    hops: list[str] = []

    def seen(event: str, info: dict[str, Any], *, into: list[str]) -> None:
        if event.endswith("send_request_headers.started"):
            into.append(info["request"].url.target.decode().partition("?")[0])

    async def awaited(event: str, info: dict[str, Any], *, into: list[str]) -> None:
        seen(event, info, into=into)

    trace = partial(awaited if httpx_alike.asynchronous else seen, into=hops)
    request = httpx_alike.client.build_request("GET", redirect(okta, okta.url + USERS), extensions={"trace": trace})
    for _ in range(3):
        hops.clear()
        assert sent_by(httpx_alike, request, follow_redirects=True) == 200
        assert hops == ["/redirect", USERS]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("alike", [HttpxClient, Httpx2Client])
def test_a_redirect_from_http_to_https_carries_no_credentials(
    okta: FakeOkta, new_service: Service, binding: str, alike: type[BlockingHttpx], scheme: str
) -> None:
    """It is another origin, even if host and ports are those that the library treats as the same. These ports are not ours
    to listen at, so the library's own transport has the streams of its tests beneath it."""
    library = __import__(alike.name)
    core = __import__(alike.name.replace("httpx", "httpcore"))
    sent: list[bytes] = []

    class Stream(core.MockStream):  # type: ignore[misc]  # one of two libraries
        def write(self, buffer: bytes, timeout: float | None = None) -> None:
            sent.append(buffer)

    class Backend(core.MockBackend):  # type: ignore[misc]  # as above
        def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> Any:
            first = f"HTTP/1.1 307 \r\nLocation: {scheme}://localhost/to\r\nConnection: close\r\n\r\n"
            return Stream([b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n" if sent else first.encode()])

    transport = library.HTTPTransport()
    transport._pool = core.ConnectionPool(network_backend=Backend([]))
    app = new_service(okta, dpop_bound=binding == "dpop", origins=["http://localhost"])
    auth = getattr(okta_m2m, alike.name).OktaAuth(app)
    with library.Client(auth=auth, transport=transport, follow_redirects=True) as client:
        assert client.get("http://localhost/from").status_code == 200
    heads = [head.lower() for head in sent if head]
    assert [head.split()[1] for head in heads] == [b"/from", b"/to"]
    for name in (b"authorization:", *([b"dpop:"] if binding == "dpop" else [])):
        assert [name in head for head in heads] == [True, scheme == "http"]


@every_httpx
def test_a_request_may_be_sent_again_any_number_of_times(okta: FakeOkta, httpx_alike: Any) -> None:
    request = httpx_alike.client.build_request("GET", okta.url + USERS)
    deepest = []

    def deep(event: str, info: dict[str, Any]) -> None:
        depth, frame = 0, sys._getframe()
        while frame := frame.f_back:
            depth += 1
        deepest.append(depth)

    async def awaited(event: str, info: dict[str, Any]) -> None:
        deep(event, info)

    request.extensions["trace"] = awaited if httpx_alike.asynchronous else deep
    depths = []
    for _ in range(3):
        deepest.clear()
        assert sent_by(httpx_alike, request) == 200
        depths.append(max(deepest))
    assert depths[1] == depths[2], "each time it would be one more, up to the recursion limit"


@every_httpx
def test_a_token_request_over_plain_http_reads_no_ca_bundle(
    okta: FakeOkta, httpx_alike: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(context: ssl.SSLContext, *arguments: object, **options: object) -> None:
        raise AssertionError("a CA bundle was read")

    for name in ("load_verify_locations", "load_default_certs"):
        monkeypatch.setattr(ssl.SSLContext, name, refuse)
    okta.revoke_all()
    assert httpx_alike.get(okta.url + USERS).status == 200
    assert okta.tokens_minted == 2


def sent_by(client: Any, request: Any, **options: Any) -> int:
    if not client.asynchronous:
        return int(client.client.send(request, **options).status_code)

    async def send() -> int:
        return int((await client.client.send(request, **options)).status_code)

    return int(client.run(send))


@pytest.mark.parametrize("name", [name for name in CLIENTS if name.startswith("httpx") and CLIENTS[name].asynchronous])
def test_an_async_file_is_not_sent_again_after_a_401(
    okta: FakeOkta, httpx_alike: Any, name: str, tmp_path: Path
) -> None:
    path, content = tmp_path / "content", CONTENT.replace(b"\n", b"")  # it is read, and sent, by lines
    path.write_bytes(content)

    async def send() -> int:
        async with await (trio.open_file(path, "rb") if name.endswith("trio") else anyio.open_file(path, "rb")) as file:
            return int((await httpx_alike.client.post(okta.url + USERS, content=file)).status_code)

    okta.revoke_all()
    assert [httpx_alike.run(send) for _ in range(2)] == [401, 200]
    assert [request.body for request in sent_to(okta) if request.method == "POST"] == [content, content]


# ── aiohttp ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_aiohttp(
    app: ServiceApp,
    call: Callable[[aiohttp.ClientSession], Awaitable[list[int]]],
    *in_front: aiohttp.ClientMiddlewareType,
    **options: Any,
) -> list[int]:
    async def main() -> list[int]:
        auth = okta_m2m.aiohttp.OktaAuth(app)
        async with aiohttp.ClientSession(middlewares=[*in_front, auth], **options) as session:
            return await call(session)

    return asyncio.run(main())


async def in_a_task_of_its_own(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    return await asyncio.create_task(handler(request))  # type: ignore[arg-type]  # it is a coroutine


async def twice(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    (await handler(request)).release()
    return await handler(request)


@pytest.mark.parametrize("in_front", [in_a_task_of_its_own, twice])
@pytest.mark.parametrize("seconds", [60, None])
def test_with_a_middleware_before_ours_another_origin_cannot_redirect_to_a_call_with_the_token(
    okta: FakeOkta,
    elsewhere: FakeOkta,
    new_service: Service,
    binding: str,
    in_front: aiohttp.ClientMiddlewareType,
    seconds: float | None,
) -> None:
    async def call(session: aiohttp.ClientSession) -> list[int]:
        async with session.get(redirect(elsewhere, okta.url + USERS, 307)) as led, session.get(okta.url + USERS) as own:
            return [led.status, own.status]

    app = new_service(okta, dpop_bound=binding == "dpop")
    assert with_aiohttp(app, call, in_front, timeout=aiohttp.ClientTimeout(total=seconds)) == [401, 200]
    led, own = credentials(sent_to(okta)[0]), credentials(sent_to(okta)[-1])
    assert (led, len(own)) == ([], 2 if binding == "dpop" else 1)


def test_a_redirected_call_whose_connection_broke_is_retried_without_a_token(
    okta: FakeOkta, elsewhere: FakeOkta, new_service: Service
) -> None:
    async def call(session: aiohttp.ClientSession) -> list[int]:
        okta.next(drop=True, on=USERS)
        async with session.get(redirect(elsewhere, okta.url + USERS)) as response:
            return [response.status]

    assert with_aiohttp(new_service(okta), call) == [401]
    assert [credentials(request) for request in sent_to(okta)] == [[], []]


def test_a_redirect_that_was_not_followed_does_not_affect_the_next_call(
    okta: FakeOkta, elsewhere: FakeOkta, new_service: Service
) -> None:
    async def call(session: aiohttp.ClientSession) -> list[int]:
        async with session.get(redirect(elsewhere, okta.url + USERS), allow_redirects=False) as refused:
            pass
        async with session.get(okta.url + USERS) as response:
            return [refused.status, response.status]

    assert with_aiohttp(new_service(okta), call) == [302, 200]


@pytest.mark.parametrize("seconds", [20, *in_matrix(None)])
def test_redirects_of_calls_that_have_ended_are_forgotten(
    okta: FakeOkta, elsewhere: FakeOkta, new_service: Service, monkeypatch: pytest.MonkeyPatch, seconds: float | None
) -> None:
    monkeypatch.setattr(okta_m2m.aiohttp, "FEW_REDIRECTS", 4)
    auth = okta_m2m.aiohttp.OktaAuth(new_service(okta))

    async def main() -> None:
        timeout = aiohttp.ClientTimeout(total=seconds)
        async with aiohttp.ClientSession(middlewares=[auth], timeout=timeout) as session:
            for _ in range(20):
                async with session.get(redirect(elsewhere, okta.url + USERS)) as response:
                    assert response.status == 401, "a stranger led it there"
                assert len(auth._redirects._by_id if auth._redirects else ()) <= 5

    asyncio.run(main())


def test_with_a_middleware_that_copies_responses_another_origin_gets_no_call_with_the_token(
    okta: FakeOkta, elsewhere: FakeOkta, new_service: Service
) -> None:
    async def recorder(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        response = await handler(request)
        await response.read()
        return copy.copy(response)

    async def main() -> None:
        async with aiohttp.ClientSession(
            middlewares=[recorder, okta_m2m.aiohttp.OktaAuth(new_service(okta))]
        ) as session:
            async with session.get(okta.url + USERS) as response:
                assert response.status == 200
            async with session.get(redirect(elsewhere, okta.url + USERS)) as response:
                assert response.status == 401

    asyncio.run(main())
    assert [bool(request.all("authorization")) for request in okta.requests if request.path == USERS] == [True, False]


@pytest.mark.parametrize("trusting", [True, False])
def test_the_token_request_has_no_credentials_from_a_netrc(
    okta: FakeOkta,
    new_service: Service,
    binding: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trusting: bool,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login ada password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    app = new_service(okta, dpop_bound=binding == "dpop")
    auth = okta_m2m.aiohttp.OktaAuth(app)

    async def main() -> None:
        if not trusting:
            await auth.atoken()  # belongs to no session, and so takes the environment's proxies
            return
        async with aiohttp.ClientSession(trust_env=True, middlewares=[auth]) as session:
            async with session.get(okta.url + USERS) as response:
                assert response.status == 401, "netrc's credentials are the caller's own"
            lent = partial(aiohttp.ClientSession, trust_env=True)
            await okta_m2m.aiohttp.OktaAuth(app, session=lent).atoken()

    asyncio.run(main())
    assert okta.tokens_minted == 1
    assert [request.all("authorization") for request in sent_to(okta, TOKEN)] == [[]] * okta.token_requests


@pytest.mark.parametrize("limit", [100, 1])
@pytest.mark.parametrize("make", [bytes, io.BytesIO])
def test_a_body_that_waits_for_100_continue_arrives_whole_after_an_early_401(
    okta: FakeOkta, new_service: Service, make: Callable[[bytes], Any], limit: int
) -> None:
    heads: list[bytes] = []
    serving: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                heads.append((await reader.readuntil(b"\r\n\r\n")).lower())
                if len(heads) == 1:
                    writer.write(b"HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer\r\nContent-Length: 2\r\n\r\n{}")
                    continue
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                received = await reader.readexactly(len(CONTENT))
                assert received == CONTENT
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def main() -> int:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            api = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            auth = okta_m2m.aiohttp.OktaAuth(new_service(okta, origins=[api]))
            async with (
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=limit), middlewares=[auth]) as session,
                session.post(api, data=make(CONTENT), expect100=True) as response,
            ):
                status = response.status
            await asyncio.gather(*serving)
            return status

    assert asyncio.run(main()) == 200
    assert len(heads) == 2
    assert all(b"expect: 100-continue" in head for head in heads)
