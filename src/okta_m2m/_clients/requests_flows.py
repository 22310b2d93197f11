"""The code for requests and niquests, which is everything except their classes: niquests began as a copy of requests.

The adapters ``requests.py`` and ``niquests.py`` give their library to :class:`Library`. Both libraries call the auth
object with each request before it is sent, and its response hook with each response.

Invariant: no policy here, and no import of either library. Nothing in the caller's request changes except
``Authorization`` and ``DPoP``; its session is used for the token request only if it was passed for that, and keeps its
cookies even then.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Never, NoReturn, Self, TypeVar
from urllib.parse import urldefrag, urljoin, urlsplit

from .._base.clocks import NEVER
from .._base.crash_reports import Hidden
from .._base.tokens import Credentials, Token
from .._core.service_app import ServiceApp
from .._threads.deadlines import BODY_TIMEOUT, Start, within
from .._urls.origins import origin_of
from ..effects import Flow, Request, Response
from ..errors import ConfigurationError, ErrorMap, OktaM2MError, TokenUnreachable
from ..runtimes import Sender, Threads, drive, run
from ..settings._arguments import kind_of
from .auth_object import AuthObject, add_request, is_replaced, placeholder
from .failures import send_failed
from .limits import MAX_DRAINED, PIECE, connect_timeout, is_inflatable, read_timeout, shut_down
from .private_copy import private_copy
from .proxies import is_direct_only, warn_of_environments_proxy
from .token_request import read_answer
from .verified_tls import check_verified

if TYPE_CHECKING:
    import niquests  # pyright: ignore[reportMissingImports]  # never installed beside urllib3, so missing here
    import requests

T = TypeVar("T")
RequestT = TypeVar("RequestT", "requests.PreparedRequest", "niquests.PreparedRequest")
ResponseT = TypeVar("ResponseT", "requests.Response", "niquests.Response")
SessionT = TypeVar("SessionT", "requests.Session", "niquests.Session")

_MADE_BY_REDIRECT = "_okta_m2m_hop"  # the attribute that marks such a request


class Library:
    """Creates and reads objects of the classes of one library, requests or niquests."""

    def __init__(self, library: Any, urllib3: Any, redirects: Any, new_session: Any, **at_once: Any) -> None:
        self.requests = library
        self.redirects = redirects
        """The object that knows the library's redirect rules."""
        self.new_session = new_session
        self.at_once = at_once
        """Options for ``send`` to return the response itself, not a promise."""
        self.error_map: ErrorMap = {OktaM2MError: library.RequestException, TokenUnreachable: library.ConnectionError}
        self.broken: tuple[type[Exception], ...] = (urllib3.exceptions.HTTPError, OSError)
        """The exceptions that a connection raises while a body is read."""

    def answer_of(self, response: Any) -> Response:
        return Response(response.status_code, fields_of(response))

    def peek(self, response: Any, limit: int) -> bytes:
        # Already read by another hook, or by an adapter that built the response itself.
        if getattr(response, "_content", False) is not False:
            return (response.content or b"")[:limit]
        if response.raw is None or getattr(response, "_content_consumed", False):
            return b""
        if not is_inflatable(response.headers.get("content-encoding")):
            return b""
        response.raw = peeked = _Peeked(response.raw, limit)
        return peeked.start.read(limit)[:limit]

    def discard(self, response: Any) -> None:
        """Reads the rest of a response if it is short and arrives soon, and releases its connection."""

        def drain() -> None:
            # An adapter that does not use urllib3 may give no raw response, or a file.
            with suppress(*self.broken, AttributeError, TypeError):
                response.raw.read(MAX_DRAINED, decode_content=False)
            with suppress(AttributeError):
                response.close()

        with suppress(TimeoutError):
            within(BODY_TIMEOUT, drain, give_up=partial(_shut_socket, response.raw))

    def check_call(self, app: ServiceApp, response: Any, settings: Mapping[str, Any]) -> None:
        """Refuses the response of a call that was sent without verification. Nothing shows this before the call is sent."""
        try:
            check_verified(app.profile, settings.get("verify", True), self.error_map)
        except ConfigurationError as error:
            add_request(error, response.request)
            raise

    def token_session(self, session: Any) -> Any:
        """A context manager that gives the session for one token request."""
        if session is None:
            return self.new_session()
        if isinstance(session, self.requests.Session):
            # Without its cookies: the token endpoint must neither set nor delete cookies of the session.
            return nullcontext(private_copy(session, cookies=self.requests.cookies.RequestsCookieJar()))
        made = session()
        if not isinstance(made, self.requests.Session):
            raise ConfigurationError(
                f"session= is a function that made {kind_of(made)}.",
                remedy=f"Have it make a {self.requests.__name__}.Session.",
            )
        return made

    def send(self, session: Any, request: Request, timeout: float, profile: str | None = None) -> Response:
        """Sends our own request, with the settings of the session, or of the one that this function makes; without either,
        with those of the environment. ``profile``: the app's."""
        until = time.monotonic() + timeout
        try:
            with self.token_session(session) as used:
                # Prepared here, because the session's auth, headers, parameters and cookies are not for Okta.
                prepared = self.requests.Request(
                    request.method, request.url, dict(request.headers), data=request.body
                ).prepare()
                settings = Hidden(  # which may hold a proxy's password
                    {**used.merge_environment_settings(request.url, {}, True, None, None), **self.at_once}
                )
                check_verified(profile, settings.value["verify"])
                if is_direct_only(request.url):
                    settings.value["proxies"] = {}
                timeouts = connect_timeout(timeout), read_timeout(timeout)
                with used.send(prepared, timeout=timeouts, allow_redirects=False, **settings.value) as response:
                    stream = getattr(response.raw, "stream", None)  # the caller's own adapter may have none
                    chunks = response.iter_content(PIECE) if stream is None else stream(PIECE, decode_content=False)
                    codings = response.headers.get("content-encoding", "").split(",")
                    body = Hidden(read_answer(codings, chunks, until))
                    return Response(response.status_code, fields_of(response), body.value)
        except ConfigurationError:  # it is a ValueError, too
            raise
        except (self.requests.RequestException, *self.broken, ValueError) as error:
            raise send_failed(error, request.url) from error


class SessionAuth(AuthObject, Generic[RequestT, ResponseT, SessionT]):
    """The behavior of an auth class, for a request and for each response."""

    __slots__ = ("_adapter", "_hit", "_hook", "_placeholder", "_sender", "_session", "app")

    _library: ClassVar[Library]

    def __init__(
        self,
        app: ServiceApp,
        *misplaced: Never,
        session: SessionT | Callable[[], SessionT] | None = None,
        send: Sender | None = None,
        replaces: str | None = None,
    ) -> None:
        self._check(app, misplaced, send, session, "session", self._library.requests.Session)
        self._placeholder = placeholder(replaces)
        self.app = app
        # Read by a hit. Binding a method on each call would be a tenth of the cost of a hit (benchmarks/hits.py).
        self._hit: Any = app.token_state
        self._hook: Any = self.handle_response if app.profile is None else self._handle_verified
        self._adapter: object = None
        self._session: Any = session
        self._sender = send
        app.revoke_through(self._run)
        if getattr(self._session, "trust_env", True):
            warn_of_environments_proxy(app)

    # Created for each use and not kept: a process may have many of these objects.
    def _threads(self) -> Threads:
        return Threads(self._sender or self._send, self._library.error_map)

    def _run(self, flow: Flow[T]) -> T:
        return run(flow, self._threads())

    def token(self) -> Token:
        """A usable token, for calls that this client does not make. Waits at most the app's ``max_wait`` seconds."""
        return self._run(self.app.obtain())

    def headers(self, method: str, url: str) -> dict[str, str]:
        """The headers for one call that this client does not make. With DPoP, they are valid for one attempt.

        - ``method``, ``url``: those of the call.

        Raises :class:`~okta_m2m.errors.ConfigurationError` if the token must not be sent to that URL.
        """
        return self._run(self.app.headers(method, url))

    def atoken(self) -> NoReturn:
        """Raises an error: this client is blocking, so use :meth:`token`."""
        raise self._has_no("atoken", "blocking", "auth.token()")

    def aheaders(self, method: str, url: str) -> NoReturn:
        """Raises an error, whatever ``method`` and ``url`` are: this client is blocking, so use :meth:`headers`."""
        raise self._has_no("aheaders", "blocking", "auth.headers(method, url)")

    def __call__(self, request: RequestT) -> RequestT:
        """Called by the library with each request before it is sent."""
        self._check_request(request)
        if has_callers_authorization(self.app, request, self._placeholder):
            return request
        url, method = str(request.url or ""), str(request.method or "")
        try:
            credentials = self.app.ready(method, url) or self._run(self.app.attach(method, url))
        except OktaM2MError as error:
            add_request(error, request)
            raise
        if credentials is None:
            without_our_token(request)
        else:
            is_watched = self._hit is _NO_HIT
            hook = Hook(self, self._hook, credentials.authorization, url) if is_watched else self._hook
            attach(request, credentials, hook)
        return request

    def _check_request(self, request: object) -> None:
        """Refuses the request of a library that this object is not for."""
        if not isinstance(request, self._library.requests.PreparedRequest):
            raise self._misused(request)

    def handle_response(self, response: ResponseT, position: int | None = None, **settings: Any) -> ResponseT:
        """The response hook. The library calls it with each response, including a 3xx before it is followed.

        - ``response``: the response.
        - ``position``: where the body began, if it is a file. Default ``None``.
        - ``settings``: the settings of the session's ``send``.
        """
        if self._adapter is not (adapter := getattr(response, "connection", None)):
            self._adapter = adapter
            if hides_401(adapter):  # so there are no hits from now on, and each call notices if no one saw its response
                self._hit = _NO_HIT
        if is_settled(response):
            return response
        flow = flow_for_response(self.app, self._library, response, position)
        if flow is None:
            stop_upgrade(self._library, response)
            return response
        call = _Call(self._library, response, position, settings)
        try:
            drive(flow, self._threads(), call)
            hop = next_hop(self.app, self._library, call.response)
            if hop is not None:
                give_to_hop(call.response.request, self.headers(*hop), hop[1])
        except OktaM2MError as error:
            add_request(error, call.response.request)
            raise
        return call.response  # type: ignore[no-any-return]  # the library's own class

    def _handle_verified(self, response: ResponseT, position: int | None = None, **settings: Any) -> ResponseT:
        """The response hook for an app with a profile."""
        try:
            self._library.check_call(self.app, response, settings)
        except ConfigurationError:
            response.close()
            raise
        return self.handle_response(response, position, **settings)

    def _send(self, request: Request, timeout: float) -> Response:
        return self._library.send(self._session, request, timeout, self.app.profile)


_NO_HIT: Final = SimpleNamespace(fresh_until=NEVER, now=lambda: 0.0)


def hides_401(adapter: Any) -> bool:
    """Whether a session's transport adapter turns a 401 into an error that has no response, as urllib3's
    ``Retry(status_forcelist=[401])`` does."""
    return 401 in (getattr(getattr(adapter, "max_retries", None), "status_forcelist", None) or ())


class Hook:
    """The response hook of one request that may be answered by a 401 that no one sees. If it ends without having been called,
    that has happened, unless there was no response at all."""

    __slots__ = ("_auth", "_authorization", "_handle", "_url")

    def __init__(self, auth: Any, handle: Callable[..., Any], authorization: str, url: str) -> None:
        self._auth = auth
        self._handle = handle
        self._authorization: str | None = authorization
        self._url = url

    def __call__(self, response: Any, **settings: Any) -> Any:
        self.note_seen()
        return self._handle(response, **settings)

    def note_seen(self) -> None:
        self._authorization = None

    def __del__(self) -> None:
        if self._authorization is not None:
            state = self._auth.app.token_state
            state.unanswered(Token.sent(self._authorization), origin_of(self._url) or "", state.now())

    def __deepcopy__(self, memo: object) -> Self:
        return self  # of a copied request, which has the same response


class Resent:
    """A call that has a response. It is sent again from the response hook."""

    def __init__(self, library: Library, response: Any, position: int | None, settings: Mapping[str, Any]) -> None:
        self.response = response
        self._library = library
        self._request = response.request
        self._position = position
        self._settings = settings

    def _send_again(self, headers: Mapping[str, str]) -> Any:
        """Sends the request itself again, not a copy: redirects that follow copy their headers from it."""
        if self._position is not None and hasattr(self._request.body, "seek"):
            self._request.body.seek(self._position)
        self._request.headers.update(headers)
        return self.response.connection.send(self._request, **self._settings)

    def _received(self, response: Any, began: float) -> Response:
        self.response = response
        response.elapsed = timedelta(seconds=time.perf_counter() - began)
        return self._library.answer_of(response)


class _Call(Resent):
    def attempt(self, headers: Mapping[str, str]) -> Response:
        began = time.perf_counter()
        return self._received(self._send_again(headers), began)

    def peek(self, limit: int) -> bytes:
        return self._library.peek(self.response, limit)

    def discard(self) -> None:
        self._library.discard(self.response)


def has_callers_authorization(app: ServiceApp, request: Any, placeholder: str | None) -> bool:
    """Whether a request has the caller's own ``Authorization`` header, which is kept; if so, reports it."""
    own, url = token_of(request), str(request.url)
    if own is None or not app.is_callers_own(own.authorization):
        return False
    if is_replaced(app, placeholder, own.authorization, url):
        return False
    app.report_kept(url)
    return True


def token_of(request: Any) -> Token | None:
    """The ``Authorization`` header, wrapped so that no ``repr`` shows it. With both libraries, it may be bytes."""
    value: str | bytes | None = request.headers.get("Authorization")
    if value is None:
        return None
    return Token.sent(value.decode("latin-1") if isinstance(value, bytes) else value)


def attach(request: Any, credentials: Credentials, hook: Any) -> None:
    """Adds the headers, and the hook with the position where a file's body begins, so that it can be sent again from
    there."""
    body = request.body  # first, because the methods of a file may raise, and then no variable may show the token
    if body is not None and not isinstance(body, bytes | str):
        from inspect import iscoroutinefunction  # only a file's body needs it

        with suppress(AttributeError, OSError, ValueError):
            seekable = getattr(body, "seekable", None)  # some classes have tell and seek but not this
            if not iscoroutinefunction(body.tell) and callable(body.seek) and (seekable is None or seekable()):
                hook = partial(hook, position=body.tell())
    for name, value in credentials.headers.items():  # one by one, because update() first checks its argument's type
        request.headers[name] = value
    request.hooks["response"].append(hook)


def is_settled(response: Any) -> bool:
    """Whether a response needs no judging, has no nonce for the next proof, and is no redirect."""
    return 200 <= (response.status_code or 0) < 300 and "DPoP-Nonce" not in response.headers


def flow_for_response(app: ServiceApp, library: Library, response: Any, position: int | None) -> Flow[None] | None:
    """The flow that judges a response, if it needs one."""
    request = response.request
    if request is None:  # from a transport adapter that does not set it
        return None
    token = token_of(request)
    if token is None:  # removed by a redirect to another origin
        request.headers.pop("DPoP", None)
        return None
    if response.status_code != 401 and not token.dpop_bound:
        return None
    body = request.body  # after a redirect, this is not the original request
    rewindable = body is None or isinstance(body, bytes | str) or (position is not None and hasattr(body, "seek"))
    return app.judge(
        token,
        library.answer_of(response),
        method=request.method or "",
        url=request.url or "",
        replayable=rewindable and hasattr(response, "connection"),
    )


def next_hop(app: ServiceApp, library: Library, response: Any) -> tuple[str, str] | None:
    """The method and URL of a redirect's next hop, by the library's own rules, if it needs a proof.

    The library copies our headers to the next hop, which needs its own proof. Another origin gets neither header.
    """
    token = token_of(response.request)
    if token is None or not token.dpop_bound:
        return None
    location = library.redirects.get_redirect_target(response)
    if not location or getattr(vars(response.request).get("copy"), "followed", False):  # set by niquests.py
        return None
    url = urljoin(response.url, library.requests.utils.requote_uri(location))
    url = urldefrag(url if urlsplit(url).netloc else response.url).url
    if origin_of(url) != origin_of(response.request.url or "") or not app.origins.allow(url):
        give_to_hop(response.request, {})
        return None
    hop = response.request.copy()
    library.redirects.rebuild_method(hop, response)
    return hop.method or "", url


def stop_upgrade(library: Library, response: Any) -> None:
    """Keeps a Bearer token out of a redirect from plain HTTP to another origin. The library itself does not: it keeps
    ``Authorization`` if only the scheme changes, to https."""
    request = response.request
    if request is None or not 300 <= (response.status_code or 0) < 400 or not request.url.startswith("http://"):
        return
    location = library.redirects.get_redirect_target(response)
    if location and origin_of(urljoin(request.url, location)) != origin_of(request.url):
        give_to_hop(request, {})


def give_to_hop(request: Any, headers: Mapping[str, str], url: str = "") -> None:
    """The library follows a redirect by copying the request. Gives that copy these headers, which are only for ``url``,
    and does not change the caller's."""
    request.copy = _Hop(request, headers, url)


class _Hop:
    """Replaces ``copy`` of a request: once, if the request is the caller's; permanently, if a redirect made it, because
    the libraries copy such a request twice (the second copy is ``Response.next``)."""

    def __init__(self, request: Any, headers: Mapping[str, str], url: str) -> None:
        self._request, self._headers, self._url = request, headers, url
        before = vars(request).get("copy")
        self._before: Any = before._before if isinstance(before, _Hop) else before

    def __call__(self) -> Any:
        request = self._request
        if not hasattr(request, _MADE_BY_REDIRECT):
            del request.copy
            if self._before is not None:
                request.copy = self._before
        hop = without_ours(type(request).copy(request))
        hop.headers.update(self._headers)
        setattr(hop, _MADE_BY_REDIRECT, True)
        if self._headers:
            hop.prepare_cookies = partial(self._check_where_it_leads, hop)
        return hop

    def _check_where_it_leads(self, hop: Any, cookies: Any) -> None:
        """The library calls ``prepare_cookies`` of the copy after it has set the copy's URL. A ``Location`` can
        be ambiguous (``////host``, a tab in the scheme): if the library reads it differently from :func:`next_hop`, the
        hop gets neither header."""
        del hop.prepare_cookies
        hop.prepare_cookies(cookies)
        if urldefrag(hop.url).url != self._url:
            without_ours(hop)


def without_our_token(request: Any) -> None:
    """Takes our token off a request that gets none, and that has no ``Authorization`` of the caller's own: the caller's code
    copied it from a call to another origin."""
    if token_of(request) is not None:
        without_ours(request)


def without_ours(request: Any) -> Any:
    """The request without our two headers."""
    request.headers.pop("Authorization", None)
    request.headers.pop("DPoP", None)
    return request


def fields_of(response: Any) -> list[tuple[str, str]]:
    """The header lines, including duplicates if the raw response has them."""
    raw: Any = getattr(response.raw, "headers", None)
    fields = raw.items() if hasattr(raw, "getlist") else response.headers.items()
    return [(str(name), str(value)) for name, value in fields]


def _shut_socket(raw: Any) -> None:
    with suppress(AttributeError):  # of another library than urllib3, or read to its end
        if raw.version < 20:  # an HTTP/2 connection may have other calls
            shut_down(getattr(raw._fp, "_sock", None) or raw._fp.fp.raw._sock)  # niquests, requests


class _Peeked(io.RawIOBase):
    """A raw response whose beginning was already read. It returns that beginning first. It is always decoded, because a
    chunked body must be read to its end in the same way."""

    def __init__(self, raw: Any, limit: int) -> None:
        self._raw = raw
        # The caller's own adapter may have set a plain file here.
        stream = getattr(raw, "stream", None)
        pieces = iter(partial(raw.read, limit), b"") if stream is None else stream(limit, decode_content=True)
        self.start = Start(pieces, partial(_shut_socket, raw))
        self._rest = iter(self.start)
        self._head = b""

    def read(self, amt: int | None = None, **options: Any) -> bytes:
        wanted = sys.maxsize if amt is None or amt < 0 else amt
        while len(self._head) < wanted and (part := next(self._rest, None)) is not None:
            self._head += part
        data = self._head[:wanted]
        self._head = self._head[len(data) :]
        return data

    # The other parts of urllib3's interface that readers use; io's base class splits it into lines.
    read1 = read

    @property
    def data(self) -> bytes:
        return self.read()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        super().close()
        self.start.close()
        self._raw.close()

    def stream(self, amt: int = 65536, **options: Any) -> Iterator[bytes]:
        while part := self._head or next(self._rest, b""):
            self._head = b""
            yield part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)
