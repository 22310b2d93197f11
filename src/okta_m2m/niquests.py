"""``session.auth = OktaAuth(app)`` for niquests, and ``AsyncOktaAuth`` for its ``AsyncSession``.

In a multiplexed session the response is a promise, and its hook is called after redirects. The session ignores the
hook's return value, so the caller's response object is changed into the new response. A redirect there carries no bound
token, because there is no opportunity to make a proof for the next hop.

Invariant: no policy here; the code for a ``Session`` is in ``_clients/requests_flows.py``, which requests uses too.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Never

from ._clients.auth_object import AsyncAuthObject, add_request, missing_library, placeholder
from ._clients.limits import MAX_DRAINED, aread_start, is_inflatable
from ._clients.proxies import warn_of_environments_proxy
from ._clients.requests_flows import (
    Hook,
    Library,
    Resent,
    SessionAuth,
    attach,
    flow_for_response,
    give_to_hop,
    has_callers_authorization,
    hides_401,
    is_settled,
    next_hop,
    stop_upgrade,
    without_our_token,
    without_ours,
)
from ._core.service_app import ServiceApp
from ._threads.deadlines import Start
from .effects import Flow, Request, Response
from .errors import ConfigurationError, OktaM2MError
from .runtimes import Asyncio, Sender, Threads, adrive, arun, run
from .settings._arguments import attached_wrongly

try:
    import niquests  # pyright: ignore[reportMissingImports]  # never installed beside urllib3, so missing here
    from niquests.packages import urllib3  # pyright: ignore[reportMissingImports]  # the same
except ModuleNotFoundError as missing:
    raise missing_library("niquests", missing) from None

__all__ = ["AsyncOktaAuth", "OktaAuth"]

NOW = {"multiplexed": False}


class OktaAuth(SessionAuth[niquests.PreparedRequest, niquests.Response, niquests.Session]):
    """Adds the app's token to every request of a session, or to one request: ``niquests.get(url, auth=OktaAuth(app))``.

    - ``app``: the :class:`~okta_m2m.ServiceApp`.
    - ``session``: a ``Session``, or a function that makes one. The token request uses its proxies, CA, client certificate
      and adapters. Default ``None``: a short-lived session with the settings of the environment.
    - ``send``: sends the token request instead (:data:`okta_m2m.runtimes.Sender`). Default ``None``.
    - ``replaces``: a placeholder, such as ``"unused"``. A call with the header ``Authorization: Bearer unused`` gets the token
      instead, at allowed origins only. For a library that cannot make a call without an API key. Default ``None``: each
      ``Authorization`` header of the caller is kept.

    If a call cannot get a token, it raises an :class:`~okta_m2m.errors.OktaM2MError`. This is also a
    ``niquests.RequestException``, and a ``niquests.ConnectionError`` if the token endpoint was not reached.
    """

    _for = "niquests"
    _library = Library(niquests, urllib3, niquests.Session.__new__(niquests.Session), niquests.Session, **NOW)

    def __call__(self, request: niquests.PreparedRequest, handler: object = None) -> niquests.PreparedRequest:
        kept: niquests.PreparedRequest = _guard_copies(super().__call__(request))
        return kept

    def handle_response(
        self, response: niquests.Response, position: int | None = None, **settings: Any
    ) -> niquests.Response:
        """The response hook. The session calls it with each response, including a 3xx before it is followed.

        - ``response``: the response.
        - ``position``: where the body began, if it is a file. Default ``None``.
        - ``settings``: the settings of the session's ``send``.
        """
        if isinstance(response, niquests.AsyncResponse):
            raise attached_wrongly("an OktaAuth that blocks for an AsyncSession", None, "niquests")
        _mark_answered(response.request)
        answered = super().handle_response(response, position, **{**settings, **NOW})
        given: niquests.Response = _as_promised(response, answered, settings)
        return given


class AsyncOktaAuth(AsyncAuthObject):
    """Adds the app's token to every request of an ``AsyncSession``.

    - ``app``: the :class:`~okta_m2m.ServiceApp`.
    - ``session``: a blocking ``Session``, or a function that makes one, because token requests are sent from threads. The
      token request uses its proxies, CA, client certificate and adapters. Default ``None``: a short-lived session with the
      settings of the environment.
    - ``send``: sends the token request instead (:data:`okta_m2m.runtimes.Sender`). Default ``None``.
    - ``replaces``: a placeholder, as for :class:`OktaAuth`. Default ``None``.

    A call raises the same errors as with :class:`OktaAuth`.
    """

    _for = "niquests"
    _library = OktaAuth._library

    def __init__(
        self,
        app: ServiceApp,
        *misplaced: Never,
        session: niquests.Session | Callable[[], niquests.Session] | None = None,
        send: Sender | None = None,
        replaces: str | None = None,
    ) -> None:
        self._check(app, misplaced, send, session, "session", niquests.Session, of_loop=niquests.AsyncSession)
        self._placeholder = placeholder(replaces)
        self.app = app
        self._session = session
        self._sender = send
        self._is_watched = False  # whether each call notices if no one saw its response
        app.revoke_through(self._run)
        if getattr(session, "trust_env", True):
            warn_of_environments_proxy(app)

    def _loop(self) -> Asyncio:
        return Asyncio(self._sender or self._send, self._library.error_map)

    def _run(self, flow: Flow[None]) -> None:
        run(flow, Threads(self._sender or self._send, self._library.error_map))

    async def __call__(self, request: niquests.PreparedRequest) -> niquests.PreparedRequest:
        """Called by the session with each request before it is sent."""
        if has_callers_authorization(self.app, request, self._placeholder):
            return request
        method, url = request.method or "", request.url or ""
        try:
            credentials = self.app.ready(method, url) or await arun(self.app.attach(method, url), self._loop())
        except OktaM2MError as error:
            add_request(error, request)
            raise
        if credentials is None:
            without_our_token(request)
        else:
            hook: Any = self.handle_response
            if self._is_watched:
                hook = partial(self._handle_first, Hook(self, hook, credentials.authorization, url))
            attach(request, credentials, hook)
        kept: niquests.PreparedRequest = _guard_copies(request)
        return kept

    async def _handle_first(
        self, hook: Hook, response: niquests.AsyncResponse, position: int | None = None, **settings: Any
    ) -> niquests.AsyncResponse:
        """The response hook of one request. It is a coroutine function, because the session awaits no other objects."""
        hook.note_seen()
        return await self.handle_response(response, position, **settings)

    async def handle_response(
        self, response: niquests.AsyncResponse, position: int | None = None, **settings: Any
    ) -> niquests.AsyncResponse:
        """The response hook. The session calls it with each response, including a 3xx before it is followed.

        - ``response``: the response.
        - ``position``: where the body began, if it is a file. Default ``None``.
        - ``settings``: the settings of the session's ``send``.
        """
        _mark_answered(response.request)
        try:
            self._library.check_call(self.app, response, settings)
        except ConfigurationError:
            await response.close()
            raise
        self._is_watched = self._is_watched or hides_401(getattr(response, "connection", None))
        if is_settled(response):
            return response
        flow = flow_for_response(self.app, self._library, response, position)
        if flow is None:
            stop_upgrade(self._library, response)
            return response
        call = _AsyncCall(self._library, response, position, {**settings, **NOW})
        try:
            await adrive(flow, self._loop(), call)
            answered = call.response
            hop = next_hop(self.app, self._library, answered)
            if hop is not None:
                give_to_hop(answered.request, await self.aheaders(*hop), hop[1])
        except OktaM2MError as error:
            add_request(error, call.response.request)
            raise
        given: niquests.AsyncResponse = _as_promised(response, answered, settings)
        return given

    def _send(self, request: Request, timeout: float) -> Response:
        return self._library.send(self._session, request, timeout, self.app.profile)


def _guard_copies(request: Any) -> Any:
    """Keeps the proof of a request out of the hops that follow."""
    if "DPoP" in request.headers:
        request.copy = _Copy(request)
    return request


def _mark_answered(request: Any) -> None:
    if isinstance(copy := vars(request or _Copy).get("copy"), _Copy):
        copy.mark_answered()


class _Copy:
    """Replaces ``copy`` of a request with a proof. niquests follows a redirect with a copy, for which our proof is wrong;
    in a multiplexed session, this happens before our hook is called. So copies that are made while the request is in
    progress have neither header; copies that the caller makes before or after have both."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._copied = False
        self.mark_answered()

    def mark_answered(self) -> None:
        self._at_rest = self._request.conn_info  # niquests sets another one on each send
        self.followed, self._copied = self._copied, False
        """Whether the response, if it is a redirect, was already followed."""

    def __call__(self) -> Any:
        copied = type(self._request).copy(self._request)
        if self._request.conn_info is self._at_rest:
            return _guard_copies(copied)
        self._copied = True
        return without_ours(copied)


def _as_promised(response: Any, answered: Any, settings: dict[str, Any]) -> Any:
    """The caller's response object: in a multiplexed session, the one that the hook was called with."""
    if answered is response or not settings.get("multiplexed"):
        return answered
    vars(response).update(vars(answered))
    return response


class _AsyncCall(Resent):
    _start: Start | None = None  # of a body that was peeked at

    async def attempt(self, headers: Mapping[str, str]) -> Response:
        began = time.perf_counter()
        return self._received(await self._send_again(headers), began)

    async def peek(self, limit: int) -> bytes:
        response = self.response
        # Already read by another hook, or by an adapter that built the response itself.
        if response._content is not False:
            return (await response.content or b"")[:limit]
        if response.raw is None or response._content_consumed:
            return b""
        if not is_inflatable(response.headers.get("content-encoding")):
            return b""
        raw, read = response.raw, response.raw.read

        async def pieces() -> AsyncIterator[bytes]:
            while piece := await read(limit, decode_content=True):
                yield piece

        self._start, head = Start(pieces()), b""
        first = await self._start.aread(limit)
        rest = aiter(self._start)

        async def whole(amt: int | None = None, **_options: Any) -> bytes:
            """Returns the bytes that were already read, and then the rest. All of it is decoded, like the first read."""
            nonlocal head
            while (amt is None or not head) and (piece := await anext(rest, None)) is not None:
                head += piece
            given = head if amt is None or amt < 0 else head[:amt]
            head = head[len(given) :]
            return given

        raw.read = whole
        return first[:limit]

    async def discard(self) -> None:
        if self._start is not None:
            self._start.close()
        with suppress(AttributeError):  # an adapter of the caller's may give no raw response
            read = partial(self.response.raw.read, decode_content=False)
            await aread_start(read, MAX_DRAINED, self._library.broken)
        await self.response.close()
