"""``httpx.Client(auth=OktaAuth(app))`` for httpx, and ``AsyncClient`` under asyncio and trio.

httpx follows redirects beneath the auth object, copies our headers to the next hop, and shows the auth flow only the
last answer. ``Authorization`` it drops at another origin by itself, ``DPoP`` it does not; so with a bound token each
hop is met where it is sent, in httpcore's ``trace`` extension, and gets a proof of its own or none.

Invariant: no policy in here. Of the caller's request nothing changes but ``Authorization`` and ``DPoP`` (and, with a
bound token, ``extensions["trace"]``); its client is never used for the token request unless it was passed for that.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import nullcontext, suppress
from typing import Any, NoReturn, TypeAlias

import anyio
import anyio.to_thread
import httpx

from .effects import Attempt, Discard, Flow, Peek, Request, Response, SendFailed
from .errors import ConfigurationError, Kinds, OktaM2MError, TokenUnreachable
from .origins import origin_of
from .runtimes import Asyncio, AsyncSender, Done, Sender, Threads, Trio, aadvance, advance, arun, run, running
from .service_app import ServiceApp
from .tokens import Token, not_picklable

__all__ = ["OktaAuth"]

MOST_READ = 1 << 20  # bytes of an answer of the token endpoint
MOST_DRAINED = 1 << 16  # bytes of a rejected answer; beyond that a new connection is cheaper
LONGEST_DRAIN = 1.0  # seconds, where they can be limited: on an event loop; else it is the caller's own timeout

KINDS: Kinds = {OktaM2MError: httpx.HTTPError, TokenUnreachable: httpx.TransportError}

Rewind: TypeAlias = Callable[[], object] | None


class OktaAuth(httpx.Auth):
    """Gives every request of a client, or a single one, the app's token: ``httpx.get(url, auth=OktaAuth(app))``.

    - ``client``: whose proxies, CA, client certificate and transports the token request uses, a ``Client`` or an
      ``AsyncClient`` like the one that makes the calls; by default a short-lived one with those of the environment.
    - ``send``: sends the token request instead; awaitable for an ``AsyncClient``.

    A call raises the :class:`~okta_m2m.errors.OktaM2MError` that kept it from getting a token; it is an
    ``httpx.HTTPError`` too, and an ``httpx.TransportError`` where the token endpoint was not reached.
    """

    def __init__(
        self,
        app: ServiceApp,
        *,
        client: httpx.Client | httpx.AsyncClient | None = None,
        send: Sender | AsyncSender | None = None,
    ) -> None:
        self.app = app
        self._client = client
        self._sender: Any = send  # which kind it is shows only when it is used
        blocking: Any = send or self._send
        self._threads = Threads(blocking, KINDS)

    def _loop(self) -> Asyncio | Trio:
        return running(self._sender or self._asend, KINDS)

    def token(self) -> Token:
        """A usable token, for what is not a call of httpx."""
        return run(self.app.obtain(), self._threads)

    async def atoken(self) -> Token:
        """The same on an event loop."""
        return await arun(self.app.obtain(), self._loop())

    def headers(self, method: str, url: str) -> dict[str, str]:
        """The headers for one call that httpx does not make; with DPoP, for one attempt at it."""
        return run(self.app.headers(method, url), self._threads)

    async def aheaders(self, method: str, url: str) -> dict[str, str]:
        """The same on an event loop."""
        return await arun(self.app.headers(method, url), self._loop())

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if "Authorization" in request.headers:
            self.app.leave_alone(str(request.url))
            yield request
            return
        rewind = _rewinder(request)
        ready = self.app.ready(request.method, str(request.url))
        if ready is None:
            step = advance(
                flow := self.app.authorize(request.method, str(request.url), replayable=False), self._threads
            )
            flow.close()  # where a redirect led shows only in the answer
            if not isinstance(step, Attempt) or step.token is None:
                yield request
                return
            request.headers.update(step.headers)
        else:
            request.headers["Authorization"] = ready.authorization
            if ready.proof is not None:
                request.headers["DPoP"] = ready.proof
        if "DPoP" in request.headers:
            request.extensions["trace"] = self._trace(request)
        response = yield request
        sent = response.request.headers.get("Authorization")
        if sent is None or (response.status_code != 401 and "DPoP" not in request.headers):
            return
        flow, request, rewind = self._answered(sent, response, request, rewind)
        try:
            step = advance(flow, self._threads)
            while not isinstance(step, Done):
                answer: object = None
                match step:
                    case Attempt(headers):
                        _prepare(request, headers, rewind)
                        response = yield request
                        answer = _seen(response)
                    case Peek(limit):
                        answer = _peek(response, limit)
                    case Discard():
                        _discard(response)
                step = advance(flow, self._threads, answer)
        finally:
            flow.close()

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        if "Authorization" in request.headers:
            self.app.leave_alone(str(request.url))
            yield request
            return
        rewind = _rewinder(request)
        ready = self.app.ready(request.method, str(request.url))
        if ready is None:
            flow = self.app.authorize(request.method, str(request.url), replayable=False)
            step = await aadvance(flow, self._loop())
            flow.close()  # where a redirect led shows only in the answer
            if not isinstance(step, Attempt) or step.token is None:
                yield request
                return
            request.headers.update(step.headers)
        else:
            request.headers["Authorization"] = ready.authorization
            if ready.proof is not None:
                request.headers["DPoP"] = ready.proof
        if "DPoP" in request.headers:
            request.extensions["trace"] = self._atrace(request)
        response = yield request
        sent = response.request.headers.get("Authorization")
        if sent is None or (response.status_code != 401 and "DPoP" not in request.headers):
            return
        flow, request, rewind = self._answered(sent, response, request, rewind)
        runtime = self._loop()
        try:
            step = await aadvance(flow, runtime)
            while not isinstance(step, Done):
                answer: object = None
                match step:
                    case Attempt(headers):
                        _prepare(request, headers, rewind)
                        response = yield request
                        answer = _seen(response)
                    case Peek(limit):
                        answer = await _apeek(response, limit)
                    case Discard():
                        await _adiscard(response)
                step = await aadvance(flow, runtime, answer)
        finally:
            flow.close()

    def _answered(
        self, sent: str, response: httpx.Response, request: httpx.Request, rewind: Rewind
    ) -> tuple[Flow[None], httpx.Request, Rewind]:
        """The flow that judges an answer; and the request that it answers, which is the last hop's."""
        hop = response.request
        if hop.stream is not request.stream:
            rewind = _rewinder(hop)
        flow = self.app.authorize(
            hop.method,
            str(hop.url),
            replayable=rewind is not None,
            answered=(Token.sent(sent), _seen(response)),
        )
        return flow, hop, rewind

    # ── each hop, where it is sent ───────────────────────────────────────────────────────────────────────────────

    def _trace(self, request: httpx.Request) -> Callable[[str, dict[str, Any]], None]:
        proofs, callers = _Proofs(self.app, request), request.extensions.get("trace")

        def trace(event: str, info: dict[str, Any]) -> None:
            flow = proofs.needed(event, info)
            if flow is not None:
                proofs.put(info["request"], run(flow, self._threads))
            if callers is not None:
                callers(event, info)

        return trace

    def _atrace(self, request: httpx.Request) -> Callable[[str, dict[str, Any]], Awaitable[None]]:
        proofs, callers = _Proofs(self.app, request), request.extensions.get("trace")

        async def trace(event: str, info: dict[str, Any]) -> None:
            flow = proofs.needed(event, info)
            if flow is not None:
                proofs.put(info["request"], await arun(flow, self._loop()))
            if callers is not None:
                await callers(event, info)

        return trace

    # ── the token request ────────────────────────────────────────────────────────────────────────────────────────

    def _send(self, request: Request, timeout: float) -> Response:
        if isinstance(self._client, httpx.AsyncClient):
            raise ConfigurationError(
                "OktaAuth was given an httpx.AsyncClient for its token requests, and is used where nothing can be awaited. "
                "Give it an httpx.Client there, or none."
            )
        until = time.monotonic() + timeout
        try:
            with httpx.Client() if self._client is None else nullcontext(self._client) as client:
                response = client.send(_request(request, timeout), auth=None, follow_redirects=False, stream=True)
                try:
                    body = bytearray()
                    for chunk in response.iter_bytes():
                        body += chunk
                        if len(body) > MOST_READ or time.monotonic() > until:
                            raise SendFailed("the answer was too long, or too slow")
                finally:
                    response.close()
                return Response(response.status_code, response.headers.multi_items(), bytes(body))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise SendFailed(_why(error)) from error

    async def _asend(self, request: Request, timeout: float) -> Response:  # noqa: ASYNC109 (the effect's own)
        if isinstance(self._client, httpx.Client):
            raise ConfigurationError(
                "OktaAuth was given an httpx.Client for its token requests, which would block the event loop. "
                "Give it an httpx.AsyncClient there, or none."
            )
        try:
            with anyio.fail_after(timeout):
                # A new client reads the CA bundle from disk, which is not for an event loop.
                made = None if self._client is not None else await anyio.to_thread.run_sync(httpx.AsyncClient)
                async with made or nullcontext(self._client) as client:
                    assert client is not None  # noqa: S101 (one of the two is; for the type checker)
                    response = await client.send(
                        _request(request, timeout), auth=None, follow_redirects=False, stream=True
                    )
                    try:
                        body = bytearray()
                        async for chunk in response.aiter_bytes():
                            body += chunk
                            if len(body) > MOST_READ:
                                raise SendFailed("the answer was too long")
                    finally:
                        await response.aclose()
                    return Response(response.status_code, response.headers.multi_items(), bytes(body))
        except TimeoutError as error:
            raise SendFailed("time-out") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise SendFailed(_why(error)) from error

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        not_picklable("OktaAuth", "Give the other process's client one of its own.")


def _why(error: BaseException) -> str:
    """Under trio httpx's own errors are without words; those of TLS, say, are in what caused them."""
    reason: BaseException | None = error
    while reason is not None and not str(reason):
        reason = reason.__cause__ or reason.__context__
    return type(error).__name__ + (f": {reason}" if reason is not None else "")


def _request(request: Request, seconds: float) -> httpx.Request:
    """Made by hand, not by the client: its headers, cookies, parameters and auth are not for Okta."""
    return httpx.Request(
        request.method,
        request.url,
        headers=dict(request.headers),
        content=request.body,
        extensions={"timeout": httpx.Timeout(seconds).as_dict()},
    )


def _seen(response: httpx.Response) -> Response:
    return Response(response.status_code, response.headers.multi_items())


def _prepare(request: httpx.Request, headers: Any, rewind: Rewind) -> None:
    request.headers.update(headers)
    if rewind is not None:
        rewind()


def _rewinder(request: httpx.Request) -> Rewind:
    """What takes the body back to where it is now, before the first send; ``None`` if nothing does."""
    stream = request.stream
    if isinstance(stream, httpx.ByteStream):
        return lambda: None
    fields = getattr(stream, "fields", None)
    if isinstance(fields, list):  # multipart, which rewinds its files by itself, where it can
        files = [field.file for field in fields if hasattr(field, "file")]
        return (lambda: None) if all(isinstance(file, str | bytes) or _seekable(file) for file in files) else None
    file: Any = getattr(stream, "_stream", None)  # content=file: httpx wraps it, and has no public way to it
    if not _seekable(file):
        return None
    begin = file.tell()
    return lambda: file.seek(begin)


def _seekable(file: Any) -> bool:
    try:
        return bool(file.seekable()) and file.tell() >= 0
    except (AttributeError, OSError, ValueError):
        return False


class _Peeked(httpx.SyncByteStream):
    """A body whose beginning was read, and is given out again first."""

    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream
        self._rest = iter(stream)
        self._head: list[bytes] = []

    def peek(self, limit: int) -> bytes:
        size = 0
        while size < limit and (chunk := next(self._rest, None)) is not None:
            self._head.append(chunk)
            size += len(chunk)
        return b"".join(self._head)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._head
        yield from self._rest

    def close(self) -> None:
        self._stream.close()


class _APeeked(httpx.AsyncByteStream):
    """The same on an event loop."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream
        self._rest = aiter(stream)
        self._head: list[bytes] = []

    async def peek(self, limit: int) -> bytes:
        size = 0
        while size < limit and (chunk := await anext(self._rest, None)) is not None:
            self._head.append(chunk)
            size += len(chunk)
        return b"".join(self._head)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._head:
            yield chunk
        async for chunk in self._rest:
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def _read_already(response: httpx.Response) -> bytes | None:
    try:
        return response.content
    except httpx.ResponseNotRead:
        return None


def _decoded(response: httpx.Response, head: bytes) -> bytes:
    """The start of a body, as far as it can be decoded."""
    encoding = response.headers.get("content-encoding", "identity")
    try:
        return httpx.Response(200, headers={"content-encoding": encoding}, content=head).content
    except httpx.DecodingError:
        return b""


def _peek(response: httpx.Response, limit: int) -> bytes:
    if (content := _read_already(response)) is not None:
        return content[:limit]
    assert isinstance(response.stream, httpx.SyncByteStream)  # noqa: S101 (a sync client's; for the type checker)
    response.stream = peeked = _Peeked(response.stream)
    try:
        return _decoded(response, peeked.peek(limit)[:limit])
    except httpx.HTTPError:
        return b""


async def _apeek(response: httpx.Response, limit: int) -> bytes:
    if (content := _read_already(response)) is not None:
        return content[:limit]
    assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 (an async client's; for the type checker)
    response.stream = peeked = _APeeked(response.stream)
    try:
        return _decoded(response, (await peeked.peek(limit))[:limit])
    except httpx.HTTPError:
        return b""


def _discard(response: httpx.Response) -> None:
    """Reads what is left, if that is little, and lets go of the connection; httpx reads the response once more later."""
    if _read_already(response) is None:
        assert isinstance(response.stream, httpx.SyncByteStream)  # noqa: S101 (a sync client's; for the type checker)
        stream = _Peeked(response.stream)
        try:
            head = stream.peek(MOST_DRAINED)
        except httpx.HTTPError:
            head = b""
        stream.close()
        response.stream = httpx.ByteStream(head)


async def _adiscard(response: httpx.Response) -> None:
    if _read_already(response) is None:
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 (an async client's; for the type checker)
        stream = _APeeked(response.stream)
        head = b""
        with suppress(httpx.HTTPError), anyio.move_on_after(LONGEST_DRAIN):
            head = await stream.peek(MOST_DRAINED)
        await stream.aclose()
        response.stream = httpx.ByteStream(head)


class _Proofs:
    """The proofs of one request and of the hops that it is redirected to."""

    def __init__(self, app: ServiceApp, request: httpx.Request) -> None:
        self._app = app
        self._request = request
        self._origin = origin_of(str(request.url))
        self._used: str | None = None  # the last proof sent

    def needed(self, event: str, info: dict[str, Any]) -> Flow[dict[str, str]] | None:
        """Looks at a request that is about to be written; says how to get headers for it if those it has won't do."""
        if not event.endswith("send_request_headers.started"):
            return None
        sending = info["request"]
        proof = next((value.decode("latin-1") for name, value in sending.headers if name.lower() == b"dpop"), None)
        if proof is None:
            return None
        method, url = sending.method.decode("ascii"), _url_of(sending.url)
        bound = any(name.lower() == b"authorization" for name, _ in sending.headers)
        if not bound or origin_of(url) != self._origin or not self._app.origins.allow(url):
            _strip(sending)
            return None
        known = (self._request.method, str(self._request.url))
        if (method, url) == known and proof != self._used and proof == self._request.headers.get("DPoP"):
            self._used = proof
            return None
        return self._app.headers(method, url)

    @staticmethod
    def put(sending: Any, headers: dict[str, str]) -> None:
        _strip(sending)
        sending.headers.extend((name.encode("ascii"), value.encode("ascii")) for name, value in headers.items())


def _strip(sending: Any) -> None:
    sending.headers[:] = [field for field in sending.headers if field[0].lower() not in (b"dpop", b"authorization")]


def _url_of(url: Any) -> str:
    """The URL of a request as httpcore has it; by way of a forwarding proxy the target is absolute."""
    target: str = url.target.decode("ascii")
    if target.startswith(("http://", "https://")):
        return target
    host = url.host.decode("ascii")
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    port = "" if url.port is None else f":{url.port}"
    return f"{url.scheme.decode('ascii')}://{host}{port}{target}"
