"""``aiohttp.ClientSession(middlewares=[OktaAuth(app)])`` for aiohttp (3.12 and newer).

Invariant: no policy here. aiohttp runs a middleware again for every hop of a redirect, so each hop is handled
separately, and a hop from another origin gets nothing. Nothing in the caller's request changes except ``Authorization``
and ``DPoP``.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import warnings
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Never, TypeVar

from ._base.crash_reports import Hidden
from ._base.tokens import Token
from ._clients.auth_object import AsyncAuthObject, concerns_proof, is_replaced, missing_library, placeholder
from ._clients.failures import send_failed
from ._clients.limits import MAX_DRAINED, aread_start, connect_timeout, read_timeout
from ._clients.proxies import is_direct_only
from ._clients.token_request import aread_answer
from ._clients.verified_tls import check_verified, is_verifying
from ._core.service_app import ServiceApp
from ._threads.workers import keep, take_kept
from ._urls.origins import origin_of
from .effects import Flow, Request, Response, SendFailed
from .errors import ConfigurationError, ErrorMap, OktaM2MError, TokenUnreachable
from .runtimes import Asyncio, Sender, Threads, adrive, arun, run
from .settings._arguments import kind_of

try:
    import aiohttp
    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
    from aiohttp.abc import AbstractResolver, ResolveResult
    from aiohttp.hdrs import AUTHORIZATION
except ModuleNotFoundError as missing:
    raise missing_library("aiohttp", missing) from None

__all__ = ["OktaAuth"]

T = TypeVar("T")

FEW_REDIRECTS: Final = 64
"""The number of remembered redirects up to which those of calls that have ended are kept."""

BROKEN: Final = (aiohttp.ClientError, OSError)
"""The exceptions that a connection raises while a body is read."""

ERROR_MAP: ErrorMap = {OktaM2MError: aiohttp.ClientError, TokenUnreachable: aiohttp.ClientConnectionError}


class OktaAuth(AsyncAuthObject):
    """A client middleware that adds the app's token to every request of a session, or to one request.

    - ``app``: the :class:`~okta_m2m.ServiceApp`.
    - ``session``: a function that makes the ``ClientSession`` for one token request. It is called on an event loop of that
      request's own, in a thread, and the session is closed afterwards. Default ``None``: a session with the settings of the
      one that makes the call, as far as they are safe: its proxy, ``trust_env``, local address, address family, and the CA
      and client certificate of its SSL context, if that verifies servers. For :meth:`atoken` and :meth:`aheaders`, the
      settings of the environment.
    - ``send``: sends the token request instead (:data:`okta_m2m.runtimes.Sender`). Default ``None``.
    - ``replaces``: a placeholder, such as ``"unused"``. A call with the header ``Authorization: Bearer unused`` gets the token
      instead, at allowed origins only. For a library that cannot make a call without an API key. Default ``None``: each
      ``Authorization`` header of the caller is kept.

    If a call cannot get a token, it raises an :class:`~okta_m2m.errors.OktaM2MError`. This is also an
    ``aiohttp.ClientError``, and an ``aiohttp.ClientConnectionError`` if the token endpoint was not reached.
    """

    __slots__ = ("_placeholder", "_redirects", "_sender", "_session", "app")

    _for = "aiohttp"

    def __init__(
        self,
        app: ServiceApp,
        *misplaced: Never,
        session: Callable[[], aiohttp.ClientSession] | None = None,
        send: Sender | None = None,
        replaces: str | None = None,
    ) -> None:
        self._check(app, misplaced, send, session, "session", aiohttp.ClientSession, of_loop=aiohttp.ClientSession)
        self._placeholder = placeholder(replaces)
        self.app = app
        self._session = session
        self._sender = send
        self._redirects: _Redirects | None = None
        app.revoke_through(self._run_in_thread)

    def _loop(self) -> Asyncio:
        return self._runtime(None)

    def _run_in_thread(self, flow: Flow[T]) -> T:
        return run(flow, Threads(self._sender_like(None), ERROR_MAP))

    def _runtime(self, session: aiohttp.ClientSession | None) -> Asyncio:
        """The runtime for one call. A fetch that it starts uses the same session's settings."""
        return Asyncio(self._sender_like(session), ERROR_MAP)

    def _sender_like(self, session: aiohttp.ClientSession | None) -> Sender:
        """Sends token requests with the settings of the calling session, unless something else was passed."""
        return self._sender or _TokenRequests(self.app.profile, self._session, session)

    def __call__(
        self, request: ClientRequest, handler: ClientHandlerType | None = None
    ) -> Coroutine[Any, Any, ClientResponse]:
        """Called by aiohttp for each request, and for each hop of a redirect."""
        # Not async itself: other libraries call their auth objects with one argument, and do not await. Costs 20 ns.
        if handler is None:
            raise self._misused(request)
        return self._attach(request, handler)

    async def _attach(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        # The same as app.ready() for a Bearer token, without its frame and without formatting the URL, which alone costs more
        # than all of this (benchmarks/hits.py). Instead, scheme and authority are compared exactly, using yarl's slots.
        # If yarl has no such slot, or the authority is not the app's, the call takes the slow path.
        hit, url = self.app.token_state, request.url
        try:
            attached = (
                hit.fresh_until > hit.now()
                and (authorization := hit.authorization) is not None
                and self._redirects is None
                and request.proxy is None
                and url._scheme == hit.origins.schemes[url._netloc]
                # One look-up for both: if the caller has no such header, ours is now set.
                and request.headers.setdefault(AUTHORIZATION, authorization) is authorization
            )
        except (AttributeError, KeyError):
            attached = False
        if not attached:
            return await self._call(request, handler)
        try:
            response = await handler(request)
        except Exception as error:
            self._learn_unshown(request, error)
            raise
        if response.status < 300:
            return response
        return await self._judge(request, handler, Token.sent(request.headers.get(AUTHORIZATION, "")), response)

    async def _call(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Sends a request, or one hop of it, with our token if the origin is allowed. Sends it again if that helps."""
        url, method = str(request.url), request.method
        if self._has_callers_authorization(request, url):
            self.app.report_kept(url)
            return self._remember_redirect(request, await handler(request))
        if request.headers.popall(AUTHORIZATION, None):  # our own, which the caller's code copied from another call
            request.headers.popall("DPoP", None)
        if self._came_from_other_origin(request):
            return self._remember_redirect(request, await handler(request))
        if request.proxy is not None and is_direct_only(url) and self.app.origins.allow(url):
            self.app.report_proxy(url, is_certain=True)
            return self._remember_redirect(request, await handler(request))
        if self.app.profile is not None and self.app.origins.allow(url):
            check_verified(self.app.profile, _verifies(request.ssl, request.session.connector), ERROR_MAP)
        credentials = self.app.ready(method, url)
        if credentials is None:
            credentials = await arun(self.app.attach(method, url), self._runtime(request.session))
            if credentials is None:
                return self._remember_redirect(request, await handler(request))
        request.headers.update(credentials.headers)
        try:
            response = await handler(request)
        except Exception as error:
            self._learn_unshown(request, error)
            raise
        if response.status < 300 and not concerns_proof(response.status, response.headers):
            return response
        return await self._judge(request, handler, credentials.token, response)

    def _has_callers_authorization(self, request: ClientRequest, url: str) -> bool:
        """Whether a request has the caller's own ``Authorization`` header, which is kept."""
        if AUTHORIZATION not in request.headers:
            return False
        own = Hidden(", ".join(request.headers.getall(AUTHORIZATION)))
        if not self.app.is_callers_own(own.value):
            return False
        return not is_replaced(self.app, self._placeholder, own.value, url)

    def _learn_unshown(self, request: ClientRequest, error: Exception) -> None:
        """An inner middleware raised, and so hid the response. Unless there was none, the next call may need another token."""
        if isinstance(error, aiohttp.ClientResponseError):
            is_rejection = error.status == 401
        else:
            is_rejection = not isinstance(error, (aiohttp.ClientError, OSError))
        if is_rejection:
            state, token = self.app.token_state, Token.sent(request.headers.get(AUTHORIZATION, ""))
            state.unanswered(token, origin_of(str(request.url)) or "", state.now())

    async def _judge(
        self, request: ClientRequest, handler: ClientHandlerType, token: Token, response: ClientResponse
    ) -> ClientResponse:
        if response.status == 401 or token.dpop_bound:
            call = _Call(request, handler, response)
            # Only after the first send is it known whether the body can be sent again.
            flow = self.app.judge(
                token,
                _answer_of(response),
                method=request.method,
                url=str(request.url),
                replayable=_replayable(request),
            )
            await adrive(flow, self._runtime(request.session), call)
            response = call.response
        return self._remember_redirect(request, response)

    # ── redirects ────────────────────────────────────────────────────────────────────────────────────────────────

    def _remember_redirect(self, request: ClientRequest, response: ClientResponse) -> ClientResponse:
        """Remembers a redirect, because the call's next request may be the hop that it leads to."""
        if response.status in (301, 302, 303, 307, 308):
            trusted = origin_of(str(request.url)) if AUTHORIZATION in request.headers else None
            timer = getattr(request, "_timer", None)  # a private attribute, which a test double of a request lacks
            if self._redirects is None:
                self._redirects = _Redirects()  # from now on, each call is looked up here
            if timer is not None:
                self._redirects.put(timer, trusted)
        return response

    def _came_from_other_origin(self, request: ClientRequest) -> bool:
        """Whether a redirect from another origin led here. Such a hop gets no token, no matter where it leads:
        otherwise, that origin's owner could make calls with our token. requests and httpx never restore a token either."""
        last = None if self._redirects is None else self._redirects.last_of(getattr(request, "_timer", None))
        return last is not None and (last[1] is None or last[1] != origin_of(str(request.url)))


class _Redirects:
    """The last redirect of each call in progress, and the origin that it came from, if our token was sent there.

    aiohttp calls a middleware for each hop without telling it which call the hop belongs to. But all hops of a call share a
    timer, which no other call has. A context variable would not do: a middleware that awaits the hop in another task, as
    asyncio.wait_for does on Python 3.11, would hide it. From Python 3.13, a timer has no weak references. So the timers are
    kept here, and from time to time those are removed that nothing else refers to, because their calls have ended.
    """

    __slots__ = ("_by_id", "_most")

    def __init__(self) -> None:
        # By the id of the timer. While it is kept here, no other object has that id.
        self._by_id: dict[int, tuple[object, str | None]] = {}
        self._most = FEW_REDIRECTS

    def put(self, timer: object, trusted: str | None) -> None:
        if len(self._by_id) >= self._most:
            for ended in [key for key, entry in list(self._by_id.items()) if _references(entry) <= ONLY_REFERENCE]:
                self._by_id.pop(ended, None)
            self._most = max(FEW_REDIRECTS, 2 * len(self._by_id))
        self._by_id[id(timer)] = timer, trusted

    def last_of(self, timer: object) -> tuple[object, str | None] | None:
        """The last redirect of the call with that timer: the timer, and the origin; ``None`` if there was none."""
        return self._by_id.get(id(timer))


def _references(entry: tuple[object, str | None]) -> int:
    return sys.getrefcount(entry[0])


ONLY_REFERENCE: Final = _references((object(), None))
"""What Python counts for an object that nothing else refers to."""


# ── the token request ────────────────────────────────────────────────────────────────────────────────────────────────


class _TokenRequests:
    """Sends token requests, on an event loop of their own in the thread that it is called in.

    It takes over the settings of a session that are safe to carry to another one. An SSL context is carried only if it verifies
    servers: a caller that does not verify its API must not show an assertion to anyone.

    - ``profile``: the app's.
    - ``make_session``: a function that makes the session instead; ``None`` for none.
    - ``session``: the session of the caller; ``None`` if there is none.
    """

    # Its attributes may hold a proxy's password, and crash reporters show the variables of frames, but no attributes.
    __slots__ = (
        "_family",
        "_local_address",
        "_make_session",
        "_profile",
        "_proxy",
        "_proxy_auth",
        "_ssl",
        "_trust_env",
    )

    def __init__(
        self,
        profile: str | None,
        make_session: Callable[[], aiohttp.ClientSession] | None,
        session: aiohttp.ClientSession | None,
    ) -> None:
        self._profile = profile
        self._make_session = make_session
        self._trust_env = session is None or session.trust_env
        self._proxy = None if session is None else session._default_proxy
        self._proxy_auth = None if session is None else session._default_proxy_auth
        connector: Any = None if session is None else session.connector
        self._family = getattr(connector, "family", socket.AF_UNSPEC)
        local_addresses = getattr(connector, "_local_addr_infos", None)
        self._local_address = local_addresses[0][4] if local_addresses else None  # as it was passed
        context = getattr(connector, "_ssl", True)
        is_safe = (
            isinstance(context, ssl.SSLContext) and context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
        )
        self._ssl = context if is_safe else True

    def __eq__(self, other: object) -> bool:
        """Whether both send with the same settings."""
        return isinstance(other, _TokenRequests) and all(
            getattr(self, name) == getattr(other, name) for name in self.__slots__
        )

    def __call__(self, request: Request, timeout: float) -> Response:
        callers = asyncio._get_running_loop()
        if callers is None:
            return self._send_on_own_loop(request, timeout)
        # No thread can be started any more, so the caller's loop stands still for this request.
        if sys.version_info >= (3, 14):  # which lets no task run inside of another
            raise SendFailed("no thread can be started for the token request of aiohttp", permanent=True)
        asyncio._set_running_loop(None)
        try:
            return self._send_on_own_loop(request, timeout)
        finally:
            asyncio._set_running_loop(callers)

    def _send_on_own_loop(self, request: Request, timeout: float) -> Response:
        # The loop and its connection are kept for the next token request of this thread, if that has the same settings. Before
        # Python 3.14, the end of each loop also looks through all tasks of the process, of which thousands may wait for tokens.
        settings = self, is_direct_only(request.url)
        own: _OwnLoop = take_kept(settings) or _OwnLoop()
        is_kept = False
        try:
            response = own.run(self._send(own, request, timeout))
            is_kept = self._make_session is None and keep(settings, own)
            return response
        finally:
            if not is_kept:
                own.close()

    async def _send(self, own: _OwnLoop, request: Request, timeout: float) -> Response:  # noqa: ASYNC109 (the effect's own)
        timeouts = aiohttp.ClientTimeout(
            total=timeout, sock_connect=connect_timeout(timeout), sock_read=read_timeout(timeout)
        )
        try:
            if own.session is None:
                own.session = await self._session(request.url)
            else:
                await asyncio.sleep(0)  # so that a connection that the server has closed is not used again
            async with own.session.request(
                request.method,
                request.url,
                headers=request.headers,
                data=request.body,
                allow_redirects=False,
                timeout=timeouts,
                auto_decompress=False,
                middlewares=[_without_authorization],
            ) as response:
                codings = response.headers.get("content-encoding", "").split(",")
                body = Hidden(await aread_answer(codings, response.content.iter_chunked(8192)))
                return Response(response.status, response.headers.items(), body.value)
        except ConfigurationError:  # it is a ValueError, too
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise send_failed(error, request.url) from error

    async def _session(self, url: str) -> aiohttp.ClientSession:
        """The session for one token request."""
        if self._make_session is not None:
            session: object = self._make_session()
            if not isinstance(session, aiohttp.ClientSession):
                raise ConfigurationError(
                    f"session= is a function that made {kind_of(session)}.",
                    remedy="Have it make an aiohttp.ClientSession.",
                )
            if session._loop is not asyncio.get_running_loop():
                raise ConfigurationError(
                    "session= is a function that returned a ClientSession of another event loop.",
                    remedy="Have it make a new one each time. It is called on the event loop of the token request, which closes "
                    "it.",
                )
            if self._profile is not None and not _verifies(True, session.connector):
                await session.close()
                check_verified(self._profile, False)
            if not is_direct_only(url) or not (session.trust_env or session._default_proxy):
                return session
            await session.close()
        connector = aiohttp.TCPConnector(
            resolver=_Resolver(),
            use_dns_cache=False,
            family=self._family,
            ssl=self._ssl,
            local_addr=self._local_address,
        )
        is_direct = is_direct_only(url)
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=self._trust_env and not is_direct,
            proxy=None if is_direct else self._proxy,
            proxy_auth=None if is_direct else self._proxy_auth,
        )


class _OwnLoop:
    """An event loop for token requests, one at a time, and the session on it."""

    def __init__(self) -> None:
        self.session: aiohttp.ClientSession | None = None
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def close(self) -> None:
        with self._runner:
            if self.session is not None:
                self.run(_close(self.session))


async def _close(session: aiohttp.ClientSession) -> None:
    """Closes its connections at once. Before 3.13, aiohttp says goodbye to a TLS server, and waits for its reply."""
    for idle in list(getattr(session.connector, "_conns", {}).values()):
        for protocol, *_ in list(idle):
            if protocol.transport is not None:
                protocol.transport.abort()
    await asyncio.sleep(0)  # so that they close
    await session.close()


class _Resolver(AbstractResolver):
    """Resolves names in the thread of the token request. aiohttp's own starts another thread, for which the interpreter waits
    before it exits."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Nothing is open."""


def _verifies(setting: object, connector: object) -> bool:
    """Whether a request verifies the server. ``setting``: the request's own, which has priority over the connector's."""
    chosen = getattr(connector, "_ssl", True) if setting is True else setting
    return chosen is True or (isinstance(chosen, ssl.SSLContext) and is_verifying(chosen))


class _Call:
    """A call that has a response, and may be sent again."""

    def __init__(self, request: ClientRequest, handler: ClientHandlerType, response: ClientResponse) -> None:
        self.response = response
        self._request = request
        self._handler = handler

    async def attempt(self, headers: Mapping[str, str]) -> Response:
        request = self._request
        request.headers.update(headers)
        # The first response has ended the wait for the server's 100. This attempt waits for it again.
        if request._continue is not None:
            request._continue = asyncio.get_running_loop().create_future()
        self.response = await self._handler(request)
        return _answer_of(self.response)

    async def peek(self, limit: int) -> bytes:
        content = self.response.content
        head = await aread_start(content.read, limit, BROKEN)
        if head:
            with warnings.catch_warnings():
                # Deprecated since 2018 without a replacement: nothing else can put bytes back at the start of a stream.
                warnings.simplefilter("ignore", DeprecationWarning)
                content.unread_data(head)
        return head

    async def discard(self) -> None:
        await aread_start(self.response.content.read, MAX_DRAINED, BROKEN)
        self.response.release()  # returned to the pool if all was read, otherwise closed
        close = getattr(self._request, "close", None)
        if close is not None:
            await close()  # after an early 401, the writer must finish with the body before it is rewound


async def _without_authorization(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """A middleware for the token request: aiohttp adds credentials from .netrc, but Okta accepts only the assertion."""
    request.headers.popall(AUTHORIZATION, None)
    return await handler(request)


def _answer_of(response: ClientResponse) -> Response:
    return Response(response.status, response.headers.items())


def _replayable(request: ClientRequest) -> bool:
    """Whether the body can be sent again, after the first send. Bytes and files rewind themselves; a stream is used up."""
    body = request.body
    if not isinstance(body, aiohttp.payload.Payload):
        return not body
    parts = getattr(body, "_parts", None)
    if parts is not None:
        return all(_rewinds(part) for part, _encoding, _te_encoding in parts)
    return _rewinds(body)


def _rewinds(payload: aiohttp.payload.Payload) -> bool:
    if isinstance(payload, aiohttp.payload.BytesPayload):
        return True
    if isinstance(payload, aiohttp.payload.IOBasePayload):
        try:
            return not payload.consumed and bool(payload._value.seekable())
        except (AttributeError, ValueError):
            return False
    return False
