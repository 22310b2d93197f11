"""``aiohttp.ClientSession(middlewares=[OktaAuth(app)])`` for aiohttp (3.12 and newer).

Invariant: no policy in here. aiohttp runs a middleware anew on every hop of a redirect, so each hop is asked for by
itself, and a hop from another origin for nothing. Of the caller's request nothing changes but ``Authorization`` and ``DPoP``.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import MethodType
from typing import Any, NoReturn, cast, final

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from aiohttp.hdrs import AUTHORIZATION

from ._core.origins import origin_of
from ._core.service_app import ServiceApp
from ._core.tokens import Token, not_picklable
from .effects import Attempt, Discard, Flow, Peek, Request, Response, SendFailed
from .errors import ErrorMap, OktaM2MError, TokenUnreachable
from .runtimes import Asyncio, AsyncSender, Done, aadvance, arun

__all__ = ["OktaAuth"]

MOST_READ = 1 << 20  # bytes of an answer of the token endpoint
MOST_DRAINED = 1 << 16  # bytes of a rejected answer; beyond that a new connection is cheaper
LONGEST_DRAIN = 1.0  # seconds for the same
MOST_REDIRECTS = 1024  # calls that have met one, of which the last are known

ERROR_MAP: ErrorMap = {OktaM2MError: aiohttp.ClientError, TokenUnreachable: aiohttp.ClientConnectionError}


@final
class OktaAuth:
    """A client middleware that gives every request of a session, or a single one, the app's token.

    - ``session``: whose connector, proxy and ``trust_env`` the token request uses; by default those of the session
      that makes the call, and for :meth:`atoken` those of the environment.
    - ``send``: sends the token request instead.

    A call raises the :class:`~okta_m2m.errors.OktaM2MError` that kept it from getting a token; it is an
    ``aiohttp.ClientError`` too, and an ``aiohttp.ClientConnectionError`` where the token endpoint was not reached.

    What is made is a coroutine method, not an instance: it has ``app``, ``atoken`` and ``aheaders`` as attributes, and is
    refused by ``pickle`` and ``copy.deepcopy`` with a :class:`TypeError`.
    """

    app: ServiceApp
    _session: aiohttp.ClientSession | None
    _sender: AsyncSender | None
    _redirects: dict[int, tuple[object, str | None]]
    _end_hits: Callable[[], None]

    def __new__(
        cls, app: ServiceApp, *, session: aiohttp.ClientSession | None = None, send: AsyncSender | None = None
    ) -> OktaAuth:
        self = super().__new__(cls)
        self.app = app
        self._session = session
        self._sender = send
        # The last redirect that each call met, and the origin that it came from if that was sent our token. aiohttp does not
        # tell a middleware that it is called for a hop; but all hops of a call share a timer, which no other call has. It is
        # kept here so that no other is given its identity.
        self._redirects = {}
        app.revoke_through(arun=self._aend)
        return self._as_method()

    def _as_method(self) -> OktaAuth:
        """The hit, which all else is handed to. Python calls a method without leaving its own loop, and an object that
        has a ``__call__`` for a quarter of what a constant header costs. It is copied and pickled as this object is: not.
        """
        app, now, considered, judged = self.app, self.app._now, self.__call__, self._judged
        # Past the partial that the machine's own clock is.
        read, clock = (now.func, now.args) if isinstance(now, partial) and not now.keywords else (now, ())
        schemes: Mapping[str, str] = app.origins.schemes
        netloc: str | None
        netloc, scheme = next(iter(schemes.items()), (None, None))  # compared by itself: a dict's look-up costs more

        def end_hits() -> None:
            nonlocal netloc, schemes
            netloc, schemes = None, {}

        self._end_hits = end_hits

        async def __call__(_: OktaAuth, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
            # What app.ready() does for a Bearer token, without its frame, and without writing out the URL, which alone
            # costs more than all of this: scheme and authority are compared exactly instead, by slots of yarl's. Where a
            # yarl has none of that name, and for an authority that is none of the app's, the long way is taken.
            url = request.url
            try:
                if not (
                    app._look_at > read(*clock)
                    and (authorization := app._authorization) is not None
                    and ((url._netloc == netloc and url._scheme == scheme) or url._scheme == schemes[url._netloc])
                    # One look-up for both: is there a header of the caller's own, and if not, there is ours.
                    and request.headers.setdefault(AUTHORIZATION, authorization) is authorization
                ):
                    authorization = None
            except (AttributeError, KeyError):
                authorization = None
            if authorization is None:
                return await considered(request, handler)
            response = await handler(request)
            if response.status < 300:
                return response
            return await judged(request, handler, Token.sent(authorization), response)

        __call__.__qualname__ = "OktaAuth.__call__"
        __call__.__dict__.update(app=app, atoken=self.atoken, aheaders=self.aheaders)
        made: Any = MethodType(__call__, self)
        return cast(OktaAuth, made)

    def __init_subclass__(cls) -> None:
        raise TypeError(  # its own __call__ would be passed by
            "okta_m2m.aiohttp.OktaAuth cannot be inherited from. Put a middleware of your own before it: "
            "middlewares=[mine, OktaAuth(app)]."
        )

    async def _aend(self, flow: Flow[None]) -> None:
        await arun(flow, self._runtime(None))

    def _runtime(self, session: aiohttp.ClientSession | None) -> Asyncio:
        """The runtime for one call; a renewal that it leaves behind goes on with the same session's settings."""
        return Asyncio(self._sender or partial(self._send, self._session or session), ERROR_MAP)

    async def atoken(self) -> Token:
        """A usable token, for what is not a call of aiohttp."""
        return await arun(self.app.obtain(), self._runtime(None))

    async def aheaders(self, method: str, url: str) -> dict[str, str]:
        """The headers for one call that aiohttp does not make; with DPoP, for one attempt at it."""
        return await arun(self.app.headers(method, url), self._runtime(None))

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """One request, or one hop of it: with our token where that belongs, and once more where that helps."""
        url, method = str(request.url), request.method
        own = request.headers.get("Authorization")
        if own is not None and self.app.leaves_alone(url, own):
            return self._noted(request, await handler(request))
        if self._led_astray(request):
            return self._noted(request, await handler(request))
        ready = self.app.ready(method, url)
        if ready is not None:
            token = ready.token
            request.headers["Authorization"] = ready.authorization
            if ready.proof is not None:
                request.headers["DPoP"] = ready.proof
        else:
            flow = self.app.authorize(method, url, replayable=False)
            step = await aadvance(flow, self._runtime(request.session))
            flow.close()  # whether the body can be sent again shows only when it has been sent once
            if not isinstance(step, Attempt) or step.token is None:
                return self._noted(request, await handler(request))
            token = step.token
            request.headers.update(step.headers)
        return await self._judged(request, handler, token, await handler(request))

    async def _judged(
        self, request: ClientRequest, handler: ClientHandlerType, token: Token, response: ClientResponse
    ) -> ClientResponse:
        if response.status == 401 or token.dpop_bound:
            response = await self._answered(request, handler, token, response)
        return self._noted(request, response)

    # ── redirects ────────────────────────────────────────────────────────────────────────────────────────────────

    def _noted(self, request: ClientRequest, response: ClientResponse) -> ClientResponse:
        """Remembers a redirect: the call's next request may be the hop that it leads to."""
        if response.status in (301, 302, 303, 307, 308):
            trusted = origin_of(str(request.url)) if AUTHORIZATION in request.headers else None
            timer = getattr(request, "_timer", None)  # private, and no stand-in for a request has one
            self._end_hits()  # each call has to be looked up among the redirects from now on
            self._redirects.pop(id(timer), None)
            self._redirects[id(timer)] = timer, trusted
            if len(self._redirects) > MOST_REDIRECTS:
                with suppress(KeyError, RuntimeError, StopIteration):  # another thread's loop was at it just now
                    del self._redirects[next(iter(self._redirects))]
        return response

    def _led_astray(self, request: ClientRequest) -> bool:
        """Whether a redirect from another origin led here. Such a hop gets no token, wherever it leads and however often
        it is tried: whoever runs that origin could have our calls made for him, with our token. requests and httpx never
        bring one back either."""
        met = self._redirects.get(id(getattr(request, "_timer", None)))
        return met is not None and (met[1] is None or met[1] != origin_of(str(request.url)))

    # ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _answered(
        self, request: ClientRequest, handler: ClientHandlerType, token: Token, response: ClientResponse
    ) -> ClientResponse:
        runtime = self._runtime(request.session)
        flow = self.app.authorize(
            request.method, str(request.url), replayable=_replayable(request), answered=(token, _seen(response))
        )
        try:
            step = await aadvance(flow, runtime)
            while not isinstance(step, Done):
                answer: object = None
                match step:
                    case Attempt(headers):
                        request.headers.update(headers)
                        # With the first answer, waiting for the server's 100 was given up.
                        if request._continue is not None:
                            request._continue = asyncio.get_running_loop().create_future()
                        response = await handler(request)
                        answer = _seen(response)
                    case Peek(limit):
                        answer = await _peek(response, limit)
                    case Discard():
                        await _discard(request, response)
                step = await aadvance(flow, runtime, answer)
        finally:
            flow.close()
        return response

    @staticmethod
    async def _send(
        like: aiohttp.ClientSession | None,
        request: Request,
        timeout: float,  # noqa: ASYNC109 (the effect's own)
    ) -> Response:
        options: dict[str, Any] = {"trust_env": True}
        if like is not None and not like.closed and like._loop is asyncio.get_running_loop():
            options = {
                "connector": like.connector,
                "connector_owner": False,
                "trust_env": like.trust_env,
                "proxy": like._default_proxy,
                "proxy_auth": like._default_proxy_auth,
            }
        try:
            async with (
                aiohttp.ClientSession(
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=timeout),
                    middlewares=[_without_authorization],
                    **options,
                ) as session,
                session.request(
                    request.method, request.url, headers=request.headers, data=request.body, allow_redirects=False
                ) as response,
            ):
                body = bytearray()
                async for chunk in response.content.iter_chunked(8192):
                    body += chunk
                    if len(body) > MOST_READ:
                        raise SendFailed("the answer was too long")
                return Response(response.status, response.headers.items(), bytes(body))
        except TimeoutError as error:
            raise SendFailed("time-out") from error
        except (aiohttp.ClientError, OSError) as error:
            raise SendFailed(f"{type(error).__name__}: {error}") from error

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        not_picklable("OktaAuth", "Give the other process's session one of its own.")


async def _without_authorization(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """For the token request: aiohttp adds what a .netrc has for the host. The assertion is the sign-in, and Okta takes one
    only."""
    request.headers.popall(AUTHORIZATION, None)
    return await handler(request)


def _seen(response: ClientResponse) -> Response:
    return Response(response.status, response.headers.items())


def _replayable(request: ClientRequest) -> bool:
    """Asked after the first send. Bytes and files rewind themselves to where they began; a stream is used up."""
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
            # Deprecated since 2018 without a successor: nothing else puts bytes back in front of a stream.
            warnings.simplefilter("ignore", DeprecationWarning)
            content.unread_data(head)
    return head


async def _discard(request: ClientRequest, response: ClientResponse) -> None:
    left = MOST_DRAINED
    with suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with asyncio.timeout(LONGEST_DRAIN):
            while left > 0 and (chunk := await response.content.read(left)):
                left -= len(chunk)
    response.release()  # back to the pool if all was read, else closed
    settled = getattr(request, "close", None)
    if settled is not None:
        await settled()  # an early 401: whatever still writes the body has to be done with it before it is rewound
