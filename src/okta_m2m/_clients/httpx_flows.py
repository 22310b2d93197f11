"""The code for httpx and httpx2, which is everything except their classes: the two libraries have one interface.

The adapters ``httpx.py`` and ``httpx2.py`` give their library to :class:`Library`, and their auth class inherits from
both :class:`ClientAuth` and the library's own ``Auth``. The types here are those of httpx; those of httpx2 have the same shape.

Both follow redirects inside the send, copy our headers to the next hop, and give the auth flow only the last response.
They drop ``Authorization`` at another origin, but not ``DPoP``, nor ``Authorization`` if only the scheme changes from http to
https. So with a bound token, and for http on its default port, httpcore's ``trace`` extension catches each hop before it is
sent, and gives it its own proof, or none.

Invariant: no policy here, and no import of either library. Nothing in the caller's request changes except
``Authorization`` and ``DPoP`` (and, where a hop must be caught, ``extensions["trace"]``); its client is used for the token
request only if it was passed for that.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Set
from contextlib import nullcontext
from functools import partial
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Never, TypeAlias, TypeVar

from .._base.crash_reports import Hidden
from .._base.tokens import Credentials, Token
from .._core.service_app import ServiceApp
from .._threads.deadlines import Start
from .._urls.origins import origin_of
from ..effects import Attempt, Discard, Flow, Peek, Request, Response, Sending
from ..errors import ConfigurationError, ErrorMap, OktaM2MError, TokenUnreachable, WrongType
from ..runtimes import Asyncio, Done, Sender, Threads, Trio, aadvance, advance, arun, run, running
from ..settings._arguments import kind_of
from .auth_object import AuthObject, add_request, concerns_proof, is_replaced, placeholder
from .failures import send_failed
from .limits import MAX_DRAINED, connect_timeout, inflate, read_timeout, shut_down
from .private_copy import private_copy
from .proxies import is_direct_only, warn_of_environments_proxy
from .ssl_contexts import shared_context
from .token_request import read_answer
from .verified_tls import check_verified, is_verifying

if TYPE_CHECKING:
    import httpx
    import httpx2

    AnyRequest: TypeAlias = httpx.Request | httpx2.Request
    AnyResponse: TypeAlias = httpx.Response | httpx2.Response

T = TypeVar("T")
RequestT = TypeVar("RequestT", "httpx.Request", "httpx2.Request")
ResponseT = TypeVar("ResponseT", "httpx.Response", "httpx2.Response")
ClientT = TypeVar("ClientT", "httpx.Client", "httpx2.Client")

OURS = frozenset({b"authorization", b"dpop"})

Rewind: TypeAlias = Callable[[], object] | None


class ClientAuth(AuthObject, Generic[RequestT, ResponseT, ClientT]):
    """The behavior of an auth class, from the request to its response. The adapter's subclass is also the library's
    ``Auth``."""

    _library: ClassVar[Library]

    def __init__(
        self,
        app: ServiceApp,
        *misplaced: Never,
        client: ClientT | Callable[[], ClientT] | None = None,
        send: Sender | None = None,
        replaces: str | None = None,
    ) -> None:
        library = self._library.httpx
        self._check(app, misplaced, send, client, "client", library.Client, of_loop=library.AsyncClient)
        self._placeholder = placeholder(replaces)
        self.app = app
        self._client: Any = client
        self._sender: Any = send
        app.revoke_through(self._run)
        warn_of_environments_proxy(app)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.auth_flow is not ClientAuth.auth_flow:
            raise WrongType(f"{cls.__qualname__} overrides auth_flow, which would be ignored.", remedy=_OVERRIDE)

    # Created for each use and not kept: a process may have many of these objects.
    def _threads(self) -> Threads:
        return Threads(self._sender or self._send, self._library.error_map)

    def _loop(self) -> Asyncio | Trio:
        return running(self._sender or self._send, self._library.error_map)

    def _run(self, flow: Flow[T]) -> T:
        return run(flow, self._threads())

    async def _run_async(self, flow: Flow[T]) -> T:
        return await arun(flow, self._loop())

    def token(self) -> Token:
        """A usable token, for calls that this client does not make. Waits at most the app's ``max_wait`` seconds."""
        return self._run(self.app.obtain())

    async def atoken(self) -> Token:
        """:meth:`token` on an event loop."""
        return await self._run_async(self.app.obtain())

    def headers(self, method: str, url: str) -> dict[str, str]:
        """The headers for one call that this client does not make. With DPoP, they are valid for one attempt.

        - ``method``, ``url``: those of the call.

        Raises :class:`~okta_m2m.errors.ConfigurationError` if the token must not be sent to that URL.
        """
        return self._run(self.app.headers(method, url))

    async def aheaders(self, method: str, url: str) -> dict[str, str]:
        """:meth:`headers` on an event loop: the same ``method`` and ``url``."""
        return await self._run_async(self.app.headers(method, url))

    # ── one call ─────────────────────────────────────────────────────────────────────────────────────────────────

    def auth_flow(self, request: RequestT) -> Generator[RequestT, ResponseT, None]:
        """Raises an error: an auth object that wraps this one must use :meth:`sync_auth_flow` and :meth:`async_auth_flow`,
        because the library's own ``auth_flow`` would send ``request`` without a token."""
        raise WrongType(f"{self._name()} has no auth_flow.", remedy=_OVERRIDE)
        yield request  # so that it is a generator, as the library's own is

    def sync_auth_flow(self, request: RequestT) -> Generator[RequestT, ResponseT, None]:
        """Called by the library for each ``request``. Yields it each time it must be sent."""
        hit = self.app.token_state
        try:
            plain = self._is_plain(request)
            if plain and not self._attach_fresh(request):
                plain = False
                if hit.fresh_until <= hit.now():
                    # Do this before anything else is created, because there may be many callers.
                    advance(self.app.obtain(), self._threads())
                    plain = self._attach_fresh(request)
            call = None if plain else _Call(self.app, self._library, request)
            if call is not None and not call.has_callers_authorization(self._placeholder):
                call.attach(call.ready() or self._run(call.wait()), self.trace)
            response = yield request
            if plain and response.status_code != 401:
                return
            if call is not None:
                call.check_connection(response)
                if not concerns_proof(response.status_code, response.headers):
                    return
            call = call or _Call(self.app, self._library, request)  # the body of a plain request is in memory
            flow, runtime = call.judge(response), self._threads()
            step = advance(flow, runtime)
            while not isinstance(step, Done):
                answer: object = None
                match step:
                    case Attempt():
                        call.prepare(step)
                        call.response = yield call.request
                        answer = _answer_of(call.response)
                    case Peek(limit):
                        answer = self._library.peek(call.response, limit)
                    case Discard():
                        self._library.discard(call.response)
                step = advance(flow, runtime, answer)
        except GeneratorExit:
            pass  # the exception that the client is handling is visible only outside this handler
        except OktaM2MError as error:
            add_request(error, request)
            raise
        else:
            return
        self._learn_unshown(request, sys.exception())
        raise GeneratorExit

    async def async_auth_flow(self, request: RequestT) -> AsyncGenerator[RequestT, ResponseT]:
        """:meth:`sync_auth_flow` on an event loop, with the same ``request``."""
        hit = self.app.token_state
        try:
            plain = self._is_plain(request)
            if plain and not self._attach_fresh(request):
                plain = False
                if hit.fresh_until <= hit.now():
                    await aadvance(self.app.obtain(), self._loop())  # as above
                    plain = self._attach_fresh(request)
            call = None if plain else _Call(self.app, self._library, request)
            if call is not None and not call.has_callers_authorization(self._placeholder):
                call.attach(call.ready() or await self._run_async(call.wait()), self.atrace)
            response = yield request
            if plain and response.status_code != 401:
                return
            if call is not None:
                call.check_connection(response)
                if not concerns_proof(response.status_code, response.headers):
                    return
            call = call or _Call(self.app, self._library, request)  # the body of a plain request is in memory
            flow, runtime = call.judge(response), self._loop()
            step = await aadvance(flow, runtime)
            while not isinstance(step, Done):
                answer: object = None
                match step:
                    case Attempt():
                        call.prepare(step)
                        call.response = yield call.request
                        answer = _answer_of(call.response)
                    case Peek(limit):
                        answer = await self._library.apeek(call.response, limit)
                    case Discard():
                        await self._library.adiscard(call.response)
                step = await aadvance(flow, runtime, answer)
        except GeneratorExit:
            pass  # the exception that the client is handling is visible only outside this handler
        except OktaM2MError as error:
            add_request(error, request)
            raise
        else:
            return
        self._learn_unshown(request, sys.exception())
        raise GeneratorExit

    def _is_plain(self, request: RequestT) -> bool:
        """Whether a request certainly goes to an allowed origin, has no credentials yet, and has its body in
        memory.

        Scheme, host and port are compared exactly, without userinfo, and without formatting the URL or calling methods
        of ``Headers``: each of these costs more than this whole check (benchmarks/hits.py). If a version of the library
        has other internals, the result is ``False``, and the call takes the slow path.
        """
        try:
            url = request.url._uri_reference
            authority = url.host if url.port is None else f"{url.host}:{url.port}"
            if (
                url.userinfo
                or url.scheme != self.app.token_state.origins.schemes.get(authority)
                or type(request.stream) is not self._library.in_memory
            ):
                return False
            for field in request.headers._list:
                if field[1] in OURS:
                    return False
        except AttributeError:
            return False
        return True

    def _attach_fresh(self, request: RequestT) -> bool:
        """Sets the header of a fresh Bearer token on a plain request; ``False`` if there is none."""
        hit = self.app.token_state
        if hit.fresh_until <= hit.now() or not (authorization := hit.authorization):
            return False
        request.headers._list.append((b"Authorization", b"authorization", authorization.encode("ascii")))
        return True

    def _learn_unshown(self, request: RequestT, error: BaseException | None) -> None:
        """A response hook that raises hides the response from the auth flow, which is closed while the client handles
        the error. Learn from it what there is, so that the next call has a valid token."""
        httpx, token = self._library.httpx, _token_of(request)
        seen: set[int] = set()
        cause = error
        # Only the causes: the context may belong to an earlier call whose error the caller is handling.
        while cause is not None and not isinstance(cause, httpx.HTTPStatusError) and id(cause) not in seen:
            seen.add(id(cause))  # an exception may be its own cause
            cause = cause.__cause__
        response: Any = getattr(cause, "response", None)
        if not isinstance(response, httpx.Response):
            # A hook raised its own exception, about a response that no one showed us. Our own errors come before a response.
            is_hooks = isinstance(error, Exception) and not isinstance(error, (httpx.RequestError, OktaM2MError))
            if token is not None and is_hooks:
                state = self.app.token_state
                state.unanswered(token, origin_of(str(request.url)) or "", state.now())
            return
        # A request that the library did not build has neither.
        hop: Any = getattr(cause, "_request", None) or getattr(response, "_request", None)
        if hop is None or token is None or token != _token_of(hop):
            return
        # This does not block, because a request that is not sent again needs no new token.
        flow = self.app.judge(token, _answer_of(response), method=hop.method, url=str(hop.url), replayable=False)
        runtime = self._threads()
        step = advance(flow, runtime)
        if isinstance(step, Peek) and (content := self._library.read_already(response)) is not None:
            advance(flow, runtime, content[: step.limit])
        flow.close()

    # ── each hop, before it is sent ───────────────────────────────────────────────────────────────────────────────

    def trace(self, proofs: _Proofs, event: str, info: dict[str, Any]) -> None:
        """Called by httpcore with each step of a request that has a bound token.

        - ``proofs``: makes the request's proofs.
        - ``event``, ``info``: the step, as httpcore names and describes it.
        """
        try:
            flow = proofs.needed(event, info)
            if flow is not None:
                proofs.put(info["request"], self._run(flow))
        except OktaM2MError as error:
            add_request(error, proofs.request)
            raise
        if proofs.callers is not None:
            proofs.callers(event, info)

    async def atrace(self, proofs: _Proofs, event: str, info: dict[str, Any]) -> None:
        """:meth:`trace` on an event loop, with the same ``proofs``, ``event`` and ``info``."""
        try:
            flow = proofs.needed(event, info)
            if flow is not None:
                proofs.put(info["request"], await self._run_async(flow))
        except OktaM2MError as error:
            add_request(error, proofs.request)
            raise
        if proofs.callers is not None:
            await proofs.callers(event, info)

    # ── the token request ────────────────────────────────────────────────────────────────────────────────────────

    def _send(self, request: Request, timeout: float) -> Response:
        library = self._library.httpx
        until, by_proxy = time.monotonic() + timeout, False
        try:
            with self._token_client(request.url) as client:
                by_proxy = self._library.uses_proxy(client, request.url)
                context = self._library.ssl_context(client, request.url)
                check_verified(self.app.profile, context is None or is_verifying(context))
                response = client.send(
                    self._library.request(request, timeout), auth=None, follow_redirects=False, stream=True
                )
                try:
                    codings = response.headers.get_list("content-encoding", split_commas=True)
                    body = Hidden(read_answer(codings, response.iter_raw(), until))
                finally:
                    response.close()
                return Response(response.status_code, response.headers.multi_items(), body.value)
        except ConfigurationError:  # it is a ValueError, too
            raise
        except (library.HTTPError, library.InvalidURL, OSError, ImportError, ValueError) as error:
            raise send_failed(error, request.url, by_proxy=by_proxy) from error

    def _token_client(self, url: str) -> Any:
        """A context manager that gives the client for one token request: a new one, unless one was passed."""
        lent: Any = self._client
        is_made = lent is not None and not isinstance(lent, self._library.httpx.Client)
        if is_made:
            lent = self._client()
        if is_made and not isinstance(lent, self._library.httpx.Client):
            raise ConfigurationError(
                f"client= is a function that made {kind_of(lent)}.",
                remedy=f"Have it make an {self._library.httpx.__name__}.Client.",
            )
        if lent is None or (is_direct_only(url) and self._library.uses_proxy(lent, url)):
            return self._library.new_client(url)
        # A hook that raises would hide Okta's response, and every hook sees the token.
        if lent.event_hooks["response"]:
            raise ConfigurationError(
                "OktaAuth was given a client with response event hooks for its token requests. They would run before "
                "OktaAuth reads Okta's response, and could raise.",
                remedy="Pass a client without hooks, or omit it.",
            )
        if is_made:
            return lent
        # Without its cookies: the token endpoint must neither set nor delete cookies of the client.
        return nullcontext(private_copy(lent, _cookies=self._library.httpx.Cookies()))


_OVERRIDE = "Delegate to sync_auth_flow and async_auth_flow, both of them: httpx calls these."


def _show_socket(event: str, info: dict[str, Any]) -> None:
    """Called by httpcore with each step of our own request. Remembers the connection's socket, to be shut down if no one waits
    for the response any more."""
    stream: Any = info.get("return_value")
    sending = Sending.current()
    if sending is not None and event.startswith("connection.") and hasattr(stream, "get_extra_info"):
        sending.if_given_up(partial(shut_down, stream.get_extra_info("socket")))


class _Call:
    """One call of the caller, from the request to the response."""

    response: Any

    def __init__(self, app: ServiceApp, library: Library, request: Any) -> None:
        self.request = request
        self._app = app
        self._library = library
        self._rewind: Rewind = library.rewinder(request)
        self._url = str(request.url)
        self._proofs: _Proofs | None = None

    def has_callers_authorization(self, placeholder: str | None) -> bool:
        """Whether the request has the caller's own ``Authorization`` header, which is kept; if so, reports it."""
        own = _token_of(self.request)
        if own is None or not self._app.is_callers_own(own.authorization):
            return False
        if is_replaced(self._app, placeholder, own.authorization, self._url):
            return False
        self._app.report_kept(self._url)
        return True

    def ready(self) -> Credentials | None:
        """The credentials of the call, if no flow is needed."""
        return self._app.ready(self.request.method, self._url)

    def wait(self) -> Flow[Credentials | None]:
        """The credentials of the call; ``None`` if its URL gets none."""
        return self._app.attach(self.request.method, self._url)

    def attach(self, credentials: Credentials | None, trace: Callable[..., object]) -> None:
        """Adds the credentials to the request. ``trace``: the method of the auth object that checks each hop."""
        if credentials is None:
            if _token_of(self.request) is not None:  # our own, which the caller's code copied from another call
                for name in OURS:
                    self.request.headers.pop(name.decode(), None)
            return
        if credentials.proof is not None or _may_upgrade(self.request):
            self._proofs = _Proofs(self._app, self._library, self.request, self._url)
            self.request.extensions["trace"] = partial(trace, self._proofs)
        self._set_headers(credentials.headers)

    def check_connection(self, response: Any) -> None:
        """Refuses a connection that did not verify the server, if the app's profile requires that. A call that uses an earlier
        connection shows it only here."""
        if self._proofs is None or self._app.profile is None:
            return
        stream = response.extensions.get("network_stream")  # httpcore's
        connection = None if stream is None else stream.get_extra_info("ssl_object")
        is_verified = connection is None or is_verifying(connection.context)
        check_verified(self._app.profile, is_verified, self._library.error_map)

    def judge(self, response: Any) -> Flow[None]:
        """Judges the response of the last hop."""
        hop, self.response = response.request, response
        token = _token_of(hop)
        if token is None or (response.status_code != 401 and "DPoP" not in self.request.headers):
            return
        if hop.stream is not self.request.stream:
            self._rewind = self._library.rewinder(hop)
        self.request, self._url = hop, str(hop.url)
        yield from self._app.judge(
            token,
            _answer_of(response),
            method=hop.method,
            url=self._url,
            replayable=self._rewind is not None,
        )

    def prepare(self, attempt: Attempt) -> None:
        """Prepares the request to be sent again: with its body from the start, and with the attempt's headers."""
        if self._rewind is not None:
            self._rewind()  # first, because it may raise, and then no variable may show the token
        self._set_headers(attempt.headers)

    def _set_headers(self, headers: Mapping[str, str]) -> None:
        for name, value in headers.items():  # two assignments cost less than update()
            self.request.headers[name] = value
        if self._proofs is not None:
            ours = {name.lower().encode(): value for name, value in headers.items()}
            self._proofs.unsent = Hidden((self.request.method, self._url, ours))


class Library:
    """Creates and reads objects of the classes of one library, httpx or httpx2."""

    def __init__(self, library: Any) -> None:
        self.httpx = library
        self.in_memory: Any = library.ByteStream
        self.error_map: ErrorMap = {OktaM2MError: library.HTTPError, TokenUnreachable: library.TransportError}
        # Each library accepts only its own classes as a body.
        self._peeked: Any = type("Peeked", (_Peeked, library.SyncByteStream, library.AsyncByteStream), {})

    def request(self, request: Request, seconds: float) -> Any:
        """A request that the client did not build: its headers, cookies, parameters and auth are not for Okta."""
        return self.httpx.Request(
            request.method,
            request.url,
            headers=dict(request.headers),
            content=request.body,
            extensions={
                "timeout": self.httpx.Timeout(read_timeout(seconds), connect=connect_timeout(seconds)).as_dict(),
                "trace": _show_socket,
            },
        )

    def new_client(self, url: str) -> Any:
        """A client for one token request. For plain HTTP to localhost, it ignores the proxies of the environment, and trusts
        no CA, because plain HTTP has no certificate to check."""
        if is_direct_only(url):
            return self.httpx.Client(trust_env=False, verify=SSLContext(PROTOCOL_TLS_CLIENT))
        return self.httpx.Client(verify=shared_context(self.httpx.create_ssl_context))

    def uses_proxy(self, client: Any, url: str) -> bool:
        """Whether a client reaches that URL through a proxy, if its transport is the library's own."""
        try:
            transport = client._transport_for_url(self.httpx.URL(url))
        except AttributeError:  # a test double of a client
            return False
        return "Proxy" in type(getattr(transport, "_pool", None)).__name__

    def ssl_context(self, client: Any, url: str) -> Any:
        """The SSL context of a client for that URL, if its transport is the library's own."""
        try:
            return client._transport_for_url(self.httpx.URL(url))._pool._ssl_context
        except AttributeError:
            return None

    def rewinder(self, request: AnyRequest) -> Rewind:
        """A function that rewinds the body to its current position, before the first send; ``None`` if that is not
        possible."""
        stream = request.stream
        if isinstance(stream, self.httpx.ByteStream):
            return _stay
        fields = getattr(stream, "fields", None)
        if isinstance(fields, list):  # multipart, which itself rewinds its files if it can
            files = [field.file for field in fields if hasattr(field, "file")]
            return _stay if all(isinstance(file, str | bytes) or _seekable(file) for file in files) else None
        # content=file: it is wrapped, and there is no public way to reach it.
        file: Any = getattr(stream, "_stream", None)
        if not _seekable(file):
            return None
        begin = file.tell()
        return lambda: file.seek(begin)

    def peek(self, response: Any, limit: int) -> bytes:
        if (content := self.read_already(response)) is not None:
            return content[:limit]
        response.stream = peeked = self._peeked(response, iter(response.stream))
        return inflate(peeked.read(limit), response.headers.get("content-encoding"), limit)

    async def apeek(self, response: Any, limit: int) -> bytes:
        if (content := self.read_already(response)) is not None:
            return content[:limit]
        response.stream = peeked = self._peeked(response, aiter(response.stream))
        return inflate(await peeked.aread(limit), response.headers.get("content-encoding"), limit)

    def discard(self, response: Any) -> None:
        """Reads the rest if it is short, and releases the connection. The client reads the response again later."""
        if self.read_already(response) is None:
            stream = self._peeked(response, iter(response.stream))
            head = stream.read(MAX_DRAINED)
            stream.close()
            response.stream = self.httpx.ByteStream(_kept(response, head))

    async def adiscard(self, response: Any) -> None:
        if self.read_already(response) is None:
            stream = self._peeked(response, aiter(response.stream))
            head = await stream.aread(MAX_DRAINED)
            await stream.aclose()
            response.stream = self.httpx.ByteStream(_kept(response, head))

    def read_already(self, response: AnyResponse) -> bytes | None:
        try:
            return response.content
        except self.httpx.ResponseNotRead:
            return None


def _answer_of(response: AnyResponse) -> Response:
    return Response(response.status_code, response.headers.multi_items())


def _kept(response: AnyResponse, head: bytes) -> bytes:
    """The bytes of a discarded response that the client may read: none if it is compressed, because the client would
    decompress it."""
    return b"" if response.headers.get("content-encoding") else head


def _may_upgrade(request: AnyRequest) -> bool:
    """Whether the client would keep ``Authorization`` on a redirect to https at the same host, which is another origin."""
    return request.url.scheme == "http" and request.url.port is None


def _stay() -> None:
    """Does nothing: for a body that is in memory or rewinds itself."""


def _token_of(request: AnyRequest) -> Token | None:
    """The ``Authorization`` header, wrapped so that no ``repr`` shows it. ``Headers.get`` decodes all headers first,
    which would be costly with many callers at once."""
    values = [value.decode("latin-1") for name, value in request.headers.raw if name.lower() == b"authorization"]
    return Token.sent(", ".join(values)) if values else None


def _seekable(file: Any) -> bool:
    from inspect import iscoroutinefunction  # only a file's body needs it

    try:
        # We cannot rewind the stream of an async file, which is used up once it is read.
        return not iscoroutinefunction(file.tell) and bool(file.seekable()) and file.tell() >= 0
    except (AttributeError, OSError, ValueError):
        return False


class _Peeked(Start):
    """The body of a response whose start is read here. Closing it also ends a read of ours that goes on."""

    def __init__(self, response: Any, pieces: Any) -> None:
        self._stream = response.stream
        super().__init__(pieces, partial(_shut_socket, response.extensions))

    def close(self) -> None:
        super().close()
        self._stream.close()

    async def aclose(self) -> None:
        await super().aclose()
        await self._stream.aclose()


def _shut_socket(extensions: Mapping[str, Any]) -> None:
    network = extensions.get("network_stream")  # httpcore's; an HTTP/2 connection may have other calls
    if network is not None and extensions.get("http_version") != b"HTTP/2":
        shut_down(network.get_extra_info("socket"))


class _Proofs:
    """The proofs of one request and of the hops that it is redirected to.

    - ``unsent``: the method, URL and headers of an attempt that no request was written for yet.
    """

    def __init__(self, app: ServiceApp, library: Library, request: AnyRequest, url: str) -> None:
        self._app = app
        self._library = library
        self._is_verified = True
        self.request = request
        self._origin = app.origins.find(url)
        self.unsent: Hidden[tuple[str, str, dict[bytes, str]]] | None = None
        trace: Any = request.extensions.get("trace")
        # If the request is sent again, our trace already wraps the caller's.
        bound = trace.args[:1] if isinstance(trace, partial) else ()
        self.callers: Any = bound[0].callers if bound and isinstance(bound[0], _Proofs) else trace

    def needed(self, event: str, info: dict[str, Any]) -> Flow[dict[str, str]] | None:
        """Checks a request before it is written. Returns a flow for new headers if its own are not valid."""
        if event.endswith("start_tls.started"):
            # Raise later: an exception here would leave the socket open.
            self._is_verified = self._is_verified and is_verifying(info["ssl_context"])
        if not event.endswith("send_request_headers.started"):
            return None
        sending = info["request"]
        sent = Hidden(
            {name.lower(): value.decode("latin-1") for name, value in sending.headers if name.lower() in OURS}
        )
        if not sent.value:
            return None
        check_verified(self._app.profile, self._is_verified, self._library.error_map)
        method, url = sending.method.decode("ascii"), _url_of(sending.url)
        # The later steps of this request do not concern us. httpcore looks here before each of them, and sends a request once:
        # if a transport sends the client's request again, that makes another one of httpcore's.
        sending.extensions = {**sending.extensions, "trace": self.callers}
        unsent, self.unsent = self.unsent, None
        if unsent is not None and unsent.value == (method, url, sent.value):
            return None
        if b"authorization" not in sent.value:  # the client removed our token at another origin, but not our proof
            _strip(sending, {b"dpop"})
            return None
        if self._app.is_callers_own(sent.value[b"authorization"]):  # an event hook authorizes this call
            self._app.report_kept(url)
            if not sent.value[b"authorization"].lower().startswith("dpop "):
                _strip(sending, {b"dpop"})
            return None
        if origin_of(url) != self._origin or not self._app.origins.allow(url):
            _strip(sending, OURS)
            return None
        if b"dpop" not in sent.value:  # a Bearer token, on its own origin
            return None
        return self._app.headers(method, url)

    @staticmethod
    def put(sending: Any, headers: dict[str, str]) -> None:
        _strip(sending, OURS)
        sending.headers.extend((name.encode("ascii"), value.encode("ascii")) for name, value in headers.items())


def _strip(sending: Any, names: Set[bytes]) -> None:
    sending.headers[:] = [field for field in sending.headers if field[0].lower() not in names]


def _url_of(url: Any) -> str:
    """The URL of an httpcore request. Through a forwarding proxy, the target is absolute."""
    target: str = url.target.decode("ascii")
    if target.startswith(("http://", "https://")):
        return target
    host = url.host.decode("ascii")
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    port = "" if url.port is None else f":{url.port}"
    return f"{url.scheme.decode('ascii')}://{host}{port}{target}"
