"""``aiohttp.ClientSession(middlewares=[OktaAuth(app)])`` for aiohttp (3.12 and newer).

Invariant: no policy here. aiohttp runs a middleware again for every hop of a redirect, so each hop is handled
separately, and a hop from another origin gets nothing. Nothing in the caller's request changes except ``Authorization``
and ``DPoP``.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Never, NoReturn, TypeVar

from ._clients.auth_object import AuthObject, missing_library
from ._clients.limits import (
    DRAIN_TIMEOUT,
    MAX_ANSWER,
    MAX_DRAINED,
    AnswerBody,
    check_encoding,
    connect_timeout,
    read_timeout,
)
from ._clients.proxies import is_direct_only, report_proxy_of_call
from ._core.crash_reports import Hidden
from ._core.origins import origin_of
from ._core.service_app import ServiceApp
from ._core.tokens import Token
from .effects import Flow, Request, Response, SendFailed
from .errors import ErrorMap, OktaM2MError, TokenUnreachable

try:
    import aiohttp
    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
    from aiohttp.hdrs import AUTHORIZATION
except ModuleNotFoundError as missing:
    raise missing_library("aiohttp", missing) from None

if TYPE_CHECKING:
    from .runtimes import Asyncio, AsyncSender

    T = TypeVar("T")

__all__ = ["OktaAuth"]

MAX_REDIRECTS = 1024
"""The number of redirected calls that are remembered."""

ERROR_MAP: ErrorMap = {OktaM2MError: aiohttp.ClientError, TokenUnreachable: aiohttp.ClientConnectionError}


class OktaAuth(AuthObject):
    """A client middleware that adds the app's token to every request of a session, or to one request.

    - ``app``: the :class:`~okta_m2m.ServiceApp`.
    - ``session``: the token request uses its connector, proxy and ``trust_env``. Default ``None``: those of the session
      that makes the call; for :meth:`atoken` and :meth:`aheaders`, those of the environment.
    - ``send``: sends the token request instead (:data:`okta_m2m.runtimes.AsyncSender`). Default ``None``.

    If a call cannot get a token, it raises an :class:`~okta_m2m.errors.OktaM2MError`. This is also an
    ``aiohttp.ClientError``, and an ``aiohttp.ClientConnectionError`` if the token endpoint was not reached.
    """

    __slots__ = ("_redirects", "_sender", "_session", "app")

    _for = "aiohttp"

    def __init__(
        self,
        app: ServiceApp,
        *misplaced: Never,
        session: aiohttp.ClientSession | None = None,
        send: AsyncSender | None = None,
    ) -> None:
        self._check(app, misplaced, send, session, "session", aiohttp.ClientSession)
        self.app = app
        self._session = session
        self._sender = send
        # The last redirect of each call, and the origin that it came from, if our token was sent there. aiohttp calls a
        # middleware for each hop without telling it which call the hop belongs to; but all hops of a call share a timer,
        # which no other call has. The timer is kept here, so that no other object gets its id().
        self._redirects: dict[int, tuple[object, str | None]] | None = None
        app.revoke_through(run_async=self._run)

    def _run(self, flow: Flow[T], session: aiohttp.ClientSession | None = None) -> Coroutine[Any, Any, T]:
        from .runtimes import arun  # with the first flow: saves 7 % of the import time (benchmarks/imports.py)

        return arun(flow, self._runtime(session))

    def _runtime(self, session: aiohttp.ClientSession | None) -> Asyncio:
        """The runtime for one call. A fetch that it starts uses the same session's settings."""
        from .runtimes.asyncio import Asyncio  # saves 9 % of the import time (benchmarks/imports.py)

        return Asyncio(self._sender or partial(self._send, self._session or session), ERROR_MAP)

    async def atoken(self) -> Token:
        """A usable token, for calls that aiohttp does not make. Waits at most the app's ``max_wait`` seconds."""
        return await self._run(self.app.obtain())

    async def aheaders(self, method: str, url: str) -> dict[str, str]:
        """The headers for one call that aiohttp does not make. With DPoP, they are valid for one attempt.

        - ``method``, ``url``: those of the call.

        Raises :class:`~okta_m2m.errors.ConfigurationError` if the token must not be sent to that URL.
        """
        return await self._run(self.app.headers(method, url))

    def token(self) -> NoReturn:
        """Raises an error: aiohttp is async, so use :meth:`atoken`."""
        raise self._awaits("token", "atoken()")

    def headers(self, method: str, url: str) -> NoReturn:
        """Raises an error, whatever ``method`` and ``url`` are: aiohttp is async, so use :meth:`aheaders`."""
        raise self._awaits("headers", "aheaders(method, url)")

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
        hit, url, attached = self.app.token_state, request.url, False
        try:
            if (
                hit.fresh_until > hit.now()
                and (authorization := hit.authorization) is not None
                and self._redirects is None
                and request.proxy is None
                and url._scheme == hit.origins.schemes[url._netloc]
                # One look-up for both: if the caller has no such header, ours is now set.
                and request.headers.setdefault(AUTHORIZATION, authorization) is authorization
            ):
                attached = True
            authorization = None  # so that no frame that waits for a response shows the token
        except (AttributeError, KeyError):
            authorization = None
        if not attached:
            return await self._call(request, handler)
        response = await handler(request)
        if response.status < 300:
            return response
        return await self._judge(request, handler, Token.sent(request.headers.get(AUTHORIZATION, "")), response)

    async def _call(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Sends a request, or one hop of it, with our token if the origin is allowed. Sends it again if that helps."""
        url, method = str(request.url), request.method
        if AUTHORIZATION in request.headers and self.app.is_callers_own(request.headers[AUTHORIZATION]):
            self.app.report_kept(url)
            return self._remember_redirect(request, await handler(request))
        if self._came_from_other_origin(request):
            return self._remember_redirect(request, await handler(request))
        if request.proxy is not None and is_direct_only(url) and self.app.origins.allow(url):
            report_proxy_of_call(url)
            return self._remember_redirect(request, await handler(request))
        credentials = self.app.ready(method, url)
        if credentials is None:
            credentials = await self._run(self.app.attach(method, url), request.session)
            if credentials is None:
                return self._remember_redirect(request, await handler(request))
        request.headers.update(credentials.headers)
        return await self._judge(request, handler, credentials.token, await handler(request))

    async def _judge(
        self, request: ClientRequest, handler: ClientHandlerType, token: Token, response: ClientResponse
    ) -> ClientResponse:
        if response.status == 401 or token.dpop_bound:
            from .runtimes import adrive  # as in _run

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
            redirects = self._redirects
            if redirects is None:
                redirects = self._redirects = {}  # from now on, each call is looked up here
            redirects.pop(id(timer), None)
            redirects[id(timer)] = timer, trusted
            if len(redirects) > MAX_REDIRECTS:
                with suppress(KeyError, RuntimeError, StopIteration):  # another thread's loop has just changed it
                    del redirects[next(iter(redirects))]
        return response

    def _came_from_other_origin(self, request: ClientRequest) -> bool:
        """Whether a redirect from another origin led here. Such a hop gets no token, no matter where it leads:
        otherwise, that origin's owner could make calls with our token. requests and httpx never restore a token either."""
        met = (self._redirects or {}).get(id(getattr(request, "_timer", None)))
        return met is not None and (met[1] is None or met[1] != origin_of(str(request.url)))

    # ── the token request ────────────────────────────────────────────────────────────────────────────────────────

    @staticmethod
    async def _send(
        like: aiohttp.ClientSession | None,
        request: Request,
        timeout: float,  # noqa: ASYNC109 (the effect's own)
    ) -> Response:
        from ._clients.failures import send_failed  # with the first token request: saves 2 % of the import

        options: Hidden[dict[str, Any]] = Hidden({"trust_env": True})  # which may hold a proxy's password
        if like is not None and not like.closed and like._loop is asyncio.get_running_loop():
            options.value.update(
                connector=like.connector,
                connector_owner=False,
                trust_env=like.trust_env,
                proxy=like._default_proxy,
                proxy_auth=like._default_proxy_auth,
            )
        if is_direct_only(request.url):
            options.value.update(trust_env=False, proxy=None, proxy_auth=None)
        timeouts = aiohttp.ClientTimeout(sock_connect=connect_timeout(timeout), sock_read=read_timeout(timeout))
        try:
            async with (
                aiohttp.ClientSession(
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=timeouts,
                    middlewares=[_without_authorization],
                    auto_decompress=False,
                    **options.value,
                ) as session,
                session.request(
                    request.method, request.url, headers=request.headers, data=request.body, allow_redirects=False
                ) as response,
            ):
                check_encoding(response.headers.get("content-encoding", "").split(","))
                body = AnswerBody()
                async for chunk in response.content.iter_chunked(8192):
                    body.extend(chunk)
                    del chunk  # so that no frame that waits for more data shows what was read
                    if len(body) > MAX_ANSWER:
                        raise SendFailed("the response was too large", stage="http")
                return Response(response.status, response.headers.items(), body.whole())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise send_failed(error, request.url) from error


class _Call:
    """A call that has a response, and may be sent again."""

    def __init__(self, request: ClientRequest, handler: ClientHandlerType, response: ClientResponse) -> None:
        self.response = response
        self._request = request
        self._handler = handler

    async def attempt(self, headers: Mapping[str, str]) -> Response:
        request = self._request
        request.headers.update(headers)
        del headers  # so that no frame that waits for a response shows the token
        # After the first response, do not wait for the server's 100 again.
        if request._continue is not None:
            request._continue = asyncio.get_running_loop().create_future()
        self.response = await self._handler(request)
        return _answer_of(self.response)

    async def peek(self, limit: int) -> bytes:
        return await _peek(self.response, limit)

    async def discard(self) -> None:
        await _discard(self._request, self.response)


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


async def _peek(response: ClientResponse, limit: int) -> bytes:
    content = response.content
    head = b""
    with suppress(aiohttp.ClientError, OSError, TimeoutError):
        while len(head) < limit and (chunk := await content.read(limit - len(head))):
            head += chunk
    if head:
        with warnings.catch_warnings():
            # Deprecated since 2018 without a replacement: nothing else can put bytes back at the start of a stream.
            warnings.simplefilter("ignore", DeprecationWarning)
            content.unread_data(head)
    return head


async def _discard(request: ClientRequest, response: ClientResponse) -> None:
    left = MAX_DRAINED
    with suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with asyncio.timeout(DRAIN_TIMEOUT):
            while left > 0 and (chunk := await response.content.read(left)):
                left -= len(chunk)
    response.release()  # returned to the pool if all was read, otherwise closed
    settled = getattr(request, "close", None)
    if settled is not None:
        await settled()  # after an early 401, the writer must finish with the body before it is rewound
