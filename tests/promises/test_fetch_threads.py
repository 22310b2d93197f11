"""A fetch has a thread and a client of its own: whatever the callers' loops, pools, hooks and observers do, the token comes,
and it goes nowhere else."""

from __future__ import annotations

import asyncio
import gc
import logging
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import aiohttp
import anyio
import httpx
import httpx2
import pytest
import requests
import trustme

import okta_m2m.aiohttp
import okta_m2m.httpx
import okta_m2m.httpx2
import okta_m2m.requests
from clients import CLIENTS, NOTHING, AsyncClient, Client
from front import Exchange, Front
from okta_m2m import Event, ServiceApp, TokenUnreachable
from okta_m2m._threads import workers
from okta_m2m.errors import WrongType
from okta_m2m.events import ClockCorrected, TokenObtained
from okta_m2m.testing import FakeOkta
from promises import TOKEN, USERS, Connect, Service, check_after_hidden_401, in_matrix, sent_to, statuses
from services import eventually


def async_clients(**only: Any) -> Any:
    """Each client that belongs to an event loop, of that ``backend``."""
    return pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=pytest.mark.matrix) if name.startswith("httpx2") else name
            for name, client in CLIENTS.items()
            if issubclass(client, AsyncClient) and all(getattr(client, key) == value for key, value in only.items())
        ],
    )


@contextmanager
def client_of(name: str, app: ServiceApp, **options: Any) -> Iterator[Any]:
    client = CLIENTS[name](app, **options)
    try:
        yield client
    finally:
        client.close()


# ── event loops ──────────────────────────────────────────────────────────────────────────────────────────────────────


@async_clients()
@pytest.mark.parametrize("blocking", ["requests", *in_matrix("httpx", "httpx2")])
@pytest.mark.parametrize("state", ["cold", "rejected"])
def test_a_blocking_call_on_a_loop_gets_the_token_of_that_loops_fetch(
    okta: FakeOkta, new_service: Service, name: str, blocking: str, state: str
) -> None:
    """The loop stands still until the fetch has ended, so it can do nothing for it."""
    app = new_service(okta)
    with client_of(name, app) as client, client_of(blocking, app) as blocks:
        if state == "rejected":
            assert client.get(okta.url + USERS).status == 200
            okta.revoke_all()
        before = okta.token_requests
        okta.token_delay = 0.2
        got: list[int] = []

        async def call() -> None:
            got.append((await client._call("GET", okta.url + USERS, NOTHING, None, True)).status)

        async def both() -> None:
            async with anyio.create_task_group() as calls:
                calls.start_soon(call)
                while okta.token_requests == before:
                    await anyio.sleep(0.005)
                got.append(blocks.get(okta.url + USERS).status)

        client.run(both)
        assert got == [200, 200]
        assert okta.token_requests == before + 1, "both have the token of one fetch"


@async_clients(backend="asyncio")
def test_a_task_factory_without_a_context_parameter_works(okta: FakeOkta, new_service: Service, name: str) -> None:
    with client_of(name, new_service(okta)) as client:

        async def call() -> int:
            loop = asyncio.get_running_loop()
            loop.set_task_factory(lambda loop, coro, name=None: asyncio.Task(coro, loop=loop))  # type: ignore[arg-type]
            try:
                return int((await client._call("GET", okta.url + USERS, NOTHING, None, True)).status)
            finally:
                loop.set_task_factory(None)

        assert client.run(call) == 200
        okta.revoke_all()
        assert client.run(call) == 200


# ── where no thread can be started ───────────────────────────────────────────────────────────────────────────────────


def test_more_waiting_tasks_do_not_slow_a_token_request_of_aiohttp(
    okta: FakeOkta, new_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand tasks each wait for a token of their own. A request that went through all tasks would be slow for all."""
    app = new_service(okta)

    def all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[Any]:
        raise AssertionError("it goes through all tasks of the process")

    with client_of("aiohttp", app) as client:
        monkeypatch.setattr("asyncio.tasks.all_tasks", all_tasks)
        monkeypatch.setattr("asyncio.runners.tasks.all_tasks", all_tasks)
        try:
            assert client.get(okta.url + USERS).status == 200
        finally:
            monkeypatch.undo()


def test_tasks_that_an_aiohttp_session_leaves_running_end_with_the_token_request(
    okta: FakeOkta, new_service: Service
) -> None:
    ended: list[str] = []
    left: list[asyncio.Task[None]] = []

    async def forever() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            ended.append("cancelled")

    def make_session() -> aiohttp.ClientSession:
        left.append(asyncio.create_task(forever()))
        return aiohttp.ClientSession()

    auth = okta_m2m.aiohttp.OktaAuth(new_service(okta), session=make_session)
    assert asyncio.run(auth.atoken()).value
    assert ended == ["cancelled"]


def test_if_no_thread_can_be_started_a_call_fetches_its_token_itself(
    okta: FakeOkta, new_service: Service, connect: Connect, binding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Python 3.12, for example, none can be started once the main thread has ended."""
    client = connect(new_service(okta, dpop_bound=binding == "dpop"))
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("okta-m2m"):  # the server and the client of the test need theirs
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(workers, "_idle", [])  # a thread of an earlier test would take the job
    if client.name == "aiohttp" and sys.version_info >= (3, 14):
        with pytest.raises(TokenUnreachable, match="no thread can be started"):
            client.get(okta.url + USERS)
        return
    assert client.get(okta.url + USERS).status == 200
    okta.revoke_all()
    assert client.get(okta.url + USERS).status == 200
    assert okta.tokens_minted == 2


# ── the callers' connections ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_pool_whose_only_connection_is_in_use_delays_no_token_request(
    okta: FakeOkta, front: Front, new_service: Service, connect: Connect
) -> None:
    begun, ends = threading.Event(), threading.Event()

    def page(exchange: Exchange) -> None:
        exchange.begin(200)
        exchange.chunk(b"first")
        ends.wait(60)
        exchange.chunk(b" last")
        exchange.end()

    front.pages["/stream"] = page
    client = connect(new_service(okta), pool_of_one=True)
    streamed: list[bytes] = []
    got: list[int] = []

    def stream() -> None:
        streamed.append(client.stream(f"{front.url}/stream", lambda part: begun.set()).body)

    def call() -> None:
        got.append(client.get(okta.url + USERS).status)

    streaming, calling = threading.Thread(target=stream, daemon=True), threading.Thread(target=call, daemon=True)
    streaming.start()
    try:
        assert begun.wait(20)
        calling.start()
        eventually(lambda: okta.tokens_minted == 1, "a token is obtained while the connection is held")
    finally:
        ends.set()
    streaming.join(30)
    calling.join(30)
    assert (streamed, got) == ([b"first last"], [200])


UNVERIFIED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
UNVERIFIED.check_hostname = False
UNVERIFIED.verify_mode = ssl.CERT_NONE


def by_requests(app: ServiceApp, url: str) -> None:
    with requests.Session() as session:
        session.verify = False
        session.auth = okta_m2m.requests.OktaAuth(app)
        session.get(url, timeout=20)


def by_httpx(library: Any, adapter: Any) -> Callable[[ServiceApp, str], None]:
    def call(app: ServiceApp, url: str) -> None:
        with library.Client(verify=False, auth=adapter.OktaAuth(app)) as client:
            client.get(url)

    return call


def by_async_httpx(library: Any, adapter: Any) -> Callable[[ServiceApp, str], None]:
    async def call(app: ServiceApp, url: str) -> None:
        async with library.AsyncClient(verify=False, auth=adapter.OktaAuth(app)) as client:
            await client.get(url)

    return lambda app, url: asyncio.run(call(app, url))


def by_aiohttp(of_connector: Any, **of_call: Any) -> Callable[[ServiceApp, str], None]:
    async def call(app: ServiceApp, url: str) -> None:
        connector = aiohttp.TCPConnector(ssl=of_connector)
        auth = okta_m2m.aiohttp.OktaAuth(app)
        async with (
            aiohttp.ClientSession(connector=connector, middlewares=[auth]) as session,
            session.get(url, **of_call),
        ):
            pass

    return lambda app, url: asyncio.run(call(app, url))


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(by_aiohttp(False), id="aiohttp"),
        pytest.param(by_aiohttp(UNVERIFIED), id="aiohttp-context"),
        pytest.param(by_aiohttp(True, ssl=False), id="aiohttp-call"),
        pytest.param(by_requests, id="requests"),
        pytest.param(by_httpx(httpx, okta_m2m.httpx), id="httpx"),
        pytest.param(by_async_httpx(httpx, okta_m2m.httpx), id="httpx-asyncio"),
        pytest.param(by_httpx(httpx2, okta_m2m.httpx2), id="httpx2", marks=pytest.mark.matrix),
        pytest.param(by_async_httpx(httpx2, okta_m2m.httpx2), id="httpx2-asyncio", marks=pytest.mark.matrix),
    ],
)
@pytest.mark.filterwarnings("ignore:.*Unverified HTTPS request.*")
def test_an_assertion_is_sent_only_to_a_verified_host_even_if_calls_are_not_verified(
    new_service: Service, call: Callable[[ServiceApp, str], None]
) -> None:
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(served)
    with FakeOkta(ssl_context=served) as org:
        with pytest.raises(TokenUnreachable, match="certificate is not trusted"):
            call(new_service(org), org.url + USERS)
        assert org.requests == []


def test_the_token_request_of_aiohttp_uses_the_local_address_of_the_session(
    okta: FakeOkta, front: Front, new_service: Service
) -> None:
    came_from: list[str] = []

    def page(exchange: Exchange) -> bool:
        came_from.append(exchange._handler.client_address[0])
        return False

    front.pages[TOKEN] = page
    auth = okta_m2m.aiohttp.OktaAuth(new_service(okta, org_url=front.url))

    async def call() -> int:
        connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
        async with (
            aiohttp.ClientSession(connector=connector, middlewares=[auth]) as session,
            session.get(front.url + USERS) as response,
        ):
            return response.status

    try:
        assert asyncio.run(call()) == 200
    except aiohttp.ClientError:
        pytest.skip("this machine has one loopback address")
    assert came_from == ["127.0.0.2"]


def test_an_aiohttp_session_of_another_loop_is_refused_with_the_remedy(okta: FakeOkta, new_service: Service) -> None:
    async def main() -> None:
        async with aiohttp.ClientSession() as shared:
            auth = okta_m2m.aiohttp.OktaAuth(new_service(okta), session=lambda: shared)
            with pytest.raises(aiohttp.ClientError, match=r"another event loop.*a new one each time"):
                await auth.atoken()
            assert not shared.closed

    asyncio.run(main())
    assert okta.requests == []


# ── observers ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Observer(logging.Handler):
    """Does something with each event of that kind, or each log line that says that."""

    def __init__(self, does: Callable[[], object], kind: type[Any], says: str) -> None:
        super().__init__()
        self._does, self._kind, self._says = does, kind, says

    def on_event(self, event: Event) -> None:
        if isinstance(event, self._kind):
            self._does()

    def emit(self, record: logging.LogRecord) -> None:
        if self._says in record.getMessage():
            self._does()

    @contextmanager
    def observing(self, by: str) -> Iterator[Callable[[Event], None] | None]:
        """Gives the ``on_event`` of the app."""
        if by == "on_event":
            yield self.on_event
            return
        logger = logging.getLogger("okta_m2m")
        logger.addHandler(self)
        try:
            yield None
        finally:
            logger.removeHandler(self)


either_observer = pytest.mark.parametrize("by", ["on_event", "log handler"])


@either_observer
def test_an_observer_may_call_with_the_same_app_during_a_fetch(
    okta: FakeOkta, new_service: Service, connect: Connect, by: str
) -> None:
    okta.skew(minutes=10)  # reported when the first token request is refused, before the second
    clients: list[Client] = []
    got: list[int] = []

    def call() -> None:
        got.append(clients[0].get(okta.url + USERS).status)

    with Observer(call, ClockCorrected, "clock").observing(by) as on_event:
        clients.append(connect(new_service(okta, on_event=on_event)))
        assert clients[0].get(okta.url + USERS).status == 200
        eventually(lambda: got == [200], "the observer's call has its answer")
    assert (okta.token_requests, okta.tokens_minted) == (2, 1), "both have the token of one fetch"


@either_observer
def test_no_call_waits_for_an_observer_to_end(okta: FakeOkta, new_service: Service, connect: Connect, by: str) -> None:
    order: list[str] = []
    answered = threading.Event()

    def observe() -> None:
        answered.wait(20)
        order.append("observed")

    with Observer(observe, TokenObtained, "obtained a").observing(by) as on_event:
        client = connect(new_service(okta, on_event=on_event))
        assert statuses(client.at_once(5, "GET", okta.url + USERS)) == {200}
        order.append("cold")
        okta.revoke_all()
        assert client.get(okta.url + USERS).status == 200
        order.append("rejected")
        answered.set()
        eventually(lambda: order.count("observed") == 2, "both tokens are reported")
    assert order == ["cold", "rejected", "observed", "observed"]


# ── a 401 that nobody shows us ───────────────────────────────────────────────────────────────────────────────────────


class Refused(Exception):
    """A hook's own exception."""


def raise_own(status: int) -> None:
    if status == 401:
        raise Refused


def with_hook(client: Any) -> None:
    def hook(response: Any) -> None:
        raise_own(response.status_code)

    async def ahook(response: Any) -> None:
        hook(response)

    client.client.event_hooks = {"response": [ahook if client.asynchronous else hook]}


def with_inner_middleware(client: Any) -> None:
    async def inner(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        response = await handler(request)
        raise_own(response.status)
        return response

    client.options = {"middlewares": [client.auth, inner]}


HIDDEN_BY = {"aiohttp": with_inner_middleware}
"""What hides it; in the others, a response hook. For requests and niquests, see ``test_requests_flows.py``."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.matrix) if name.startswith("httpx2") else name
        for name in CLIENTS
        if name.startswith(("httpx", "aiohttp"))
    ],
)
def test_after_a_hidden_401_a_background_renewal_makes_later_calls_work(
    okta: FakeOkta, new_service: Service, binding: str, name: str
) -> None:
    with client_of(name, new_service(okta, dpop_bound=binding == "dpop")) as client:
        HIDDEN_BY.get(name, with_hook)(client)

        def status() -> int | None:
            with suppress(Refused, client.refused):
                return int(client.get(okta.url + USERS).status)
            return None

        check_after_hidden_401(okta, status)


def test_broken_connections_do_not_prevent_the_renewal_of_a_revoked_token(
    okta: FakeOkta, new_service: Service, connect: Connect
) -> None:
    client = connect(new_service(okta))
    state = client.app.token_state
    assert client.get(okta.url + USERS).status == 200
    for _ in range(5):
        okta.next(drop=True, on=USERS, times=9)
        with pytest.raises(client.refused):
            client.get(okta.url + USERS)
        gc.collect()  # the error has the request in it
        okta.clear_faults()
        assert client.get(okta.url + USERS).status == 200
        eventually(lambda: state.flight_under_way(state.now()) is None, "a renewal that it may have begun has ended")
    okta.revoke_all()
    assert client.get(okta.url + USERS).status == 200
    assert okta.tokens_minted <= 4


# ── auth objects of httpx around ours ────────────────────────────────────────────────────────────────────────────────


every_httpx = pytest.mark.parametrize("name", [name for name in CLIENTS if name.startswith("httpx")])


@every_httpx
def test_wrapping_our_auth_flow_raises_an_error_with_a_remedy_that_works(
    okta: FakeOkta, new_service: Service, binding: str, name: str
) -> None:
    with client_of(name, new_service(okta, dpop_bound=binding == "dpop")) as client:
        ours = client.auth

        class ByAuthFlow(client.library.Auth):  # type: ignore[name-defined]  # of either library
            def auth_flow(self, request: Any) -> Any:
                yield from ours.auth_flow(request)

        class ByBoth(client.library.Auth):  # type: ignore[name-defined]  # of either library
            def sync_auth_flow(self, request: Any) -> Any:
                request.headers["X-Mine"] = "1"
                yield from ours.sync_auth_flow(request)

            async def async_auth_flow(self, request: Any) -> Any:
                request.headers["X-Mine"] = "1"
                flow = ours.async_auth_flow(request)
                try:
                    sent = await anext(flow)
                    while True:
                        sent = await flow.asend((yield sent))
                except StopAsyncIteration:
                    return

        client.use(ByAuthFlow())
        with pytest.raises(WrongType, match=r"has no auth_flow.*sync_auth_flow and async_auth_flow"):
            client.get(okta.url + USERS)
        assert okta.requests == [], "nothing was sent without a token"
        client.use(ByBoth())
        assert client.get(okta.url + USERS).status == 200
        okta.revoke_all()
        assert client.get(okta.url + USERS).status == 200
        assert {request.header("x-mine") for request in sent_to(okta)} == {"1"}


@pytest.mark.parametrize("base", [okta_m2m.httpx.OktaAuth, okta_m2m.httpx2.OktaAuth])
def test_a_subclass_that_overrides_auth_flow_is_refused_with_the_remedy(base: Any) -> None:
    class Mixin:
        def auth_flow(self, request: Any) -> Any:
            yield request

    with pytest.raises(WrongType, match=r"Overrides overrides auth_flow.*sync_auth_flow and async_auth_flow"):

        class Overrides(base):  # type: ignore[misc]  # of either library
            def auth_flow(self, request: Any) -> Any:
                yield from super().auth_flow(request)

    with pytest.raises(WrongType, match=r"Mixed overrides auth_flow"):

        class Mixed(Mixin, base):  # type: ignore[misc]  # of either library
            pass


# ── redirects of aiohttp ─────────────────────────────────────────────────────────────────────────────────────────────

MANY = 1100


class Api:
    """An API on the caller's own loop, which accepts each call. ``authorized``: whether each had an ``Authorization``."""

    def __init__(self) -> None:
        self.authorized: list[bool] = []
        self.leads_to = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.authorized.append(b"\r\nauthorization:" in head.lower())
                status = f"302 Found\r\nLocation: {self.leads_to}" if self.leads_to else "200 OK"
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()


@pytest.mark.parametrize("seconds", [60, *in_matrix(None)])
@pytest.mark.parametrize("in_a_task", [False, True])
def test_none_of_many_calls_redirected_from_another_origin_carries_our_token(
    okta: FakeOkta, new_service: Service, in_a_task: bool, seconds: float | None
) -> None:
    """All of them are redirected before the first goes on, so each must be remembered."""
    api, stranger = Api(), Api()

    async def main() -> None:
        redirected, all_redirected = 0, asyncio.Event()

        async def holds(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            nonlocal redirected
            response = await (asyncio.ensure_future(handler(request)) if in_a_task else handler(request))
            if response.status == 302:
                redirected += 1
                if redirected == MANY:
                    all_redirected.set()
                await all_redirected.wait()
            return response

        async with (
            await asyncio.start_server(api, "127.0.0.1", 0) as own,
            await asyncio.start_server(stranger, "127.0.0.1", 0) as other,
        ):
            url, elsewhere = (f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in (own, other))
            stranger.leads_to = f"{url}/back"
            auth = okta_m2m.aiohttp.OktaAuth(new_service(okta, origins=[url]))
            timeout = aiohttp.ClientTimeout(total=seconds)
            async with aiohttp.ClientSession(middlewares=[holds, auth], timeout=timeout) as session:

                async def call(to: str) -> int:
                    async with session.get(to) as response:
                        return response.status

                assert await call(url) == 200
                assert set(await asyncio.gather(*[call(elsewhere) for _ in range(MANY)])) == {200}
                assert await call(url) == 200

    asyncio.run(main())
    assert stranger.authorized == [False] * MANY
    assert api.authorized == [True, *[False] * MANY, True]
