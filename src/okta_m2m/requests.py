"""``session.auth = OktaAuth(app)`` for requests.

Invariant: no policy in here. Of the caller's request nothing changes but ``Authorization`` and ``DPoP``; its session is
never used for the token request unless it was passed for that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.auth import AuthBase
from requests.utils import requote_uri

from .effects import Attempt, Discard, Peek, Request, Response, SendFailed
from .errors import Kinds, OktaM2MError, TokenUnreachable
from .origins import origin_of
from .runtimes import Done, Sender, Threads, advance, run
from .service_app import ServiceApp
from .tokens import Token, not_picklable

__all__ = ["OktaAuth"]

MOST_READ = 1 << 20  # bytes of an answer of the token endpoint
MOST_DRAINED = 1 << 16  # bytes of a rejected answer; beyond that a new connection is cheaper

KINDS: Kinds = {OktaM2MError: requests.RequestException, TokenUnreachable: requests.ConnectionError}


class OktaAuth(AuthBase):
    """Gives every request of a session, or a single one, the app's token: ``requests.get(url, auth=OktaAuth(app))``.

    - ``session``: whose proxies, CA, client certificate and adapters the token request uses; by default a short-lived
      session with those of the environment.
    - ``send``: sends the token request instead.

    A call raises the :class:`~okta_m2m.errors.OktaM2MError` that kept it from getting a token; it is a
    ``requests.RequestException`` too, and a ``requests.ConnectionError`` where the token endpoint was not reached.
    """

    def __init__(self, app: ServiceApp, *, session: requests.Session | None = None, send: Sender | None = None) -> None:
        self.app = app
        self._session = session
        self._threads = Threads(send or self._send, KINDS)
        self._hook = self._answered  # bound once, not on each call

    def token(self) -> Token:
        """A usable token, for what is not a call of requests."""
        return run(self.app.obtain(), self._threads)

    def headers(self, method: str, url: str) -> dict[str, str]:
        """The headers for one call that requests does not make; with DPoP, for one attempt at it."""
        return run(self.app.headers(method, url), self._threads)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # What app.ready() does for a Bearer token, without its frame, and past CaseInsensitiveDict's methods: a header
        # that is not there is found out by an exception, which alone costs more than all of this. Whatever is not as
        # requests makes it (headers of another type, no URL) takes the long way below.
        app = self.app
        held = app._held
        if held is not None and held.authorization is not None:
            try:
                fields, now, body = request.headers._store, app._now, request.body  # type: ignore[attr-defined]
                if (
                    now() < held.look_at
                    and request.url.startswith(app._prefixes)  # type: ignore[union-attr]
                    and "authorization" not in fields
                    and (body is None or isinstance(body, (bytes, str)))  # a tuple: a union is built on each call
                ):
                    request.hooks["response"].append(self._hook)
                    fields["authorization"] = ("Authorization", held.authorization)
                    return request
            except AttributeError:
                pass
        return self._considered(request)

    def _considered(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        url, method = request.url or "", request.method or ""
        if "Authorization" in request.headers:
            self.app.leave_alone(url)
            return request
        ready = self.app.ready(method, url)
        if ready is None:
            flow = self.app.authorize(method, url, replayable=False)
            step = advance(flow, self._threads)
            flow.close()  # requests sends the request itself; the answer is judged from its hook
            if not isinstance(step, Attempt) or step.token is None:
                return request
            request.headers.update(step.headers)
        else:
            request.headers["Authorization"] = ready.authorization
            if ready.proof is not None:
                request.headers["DPoP"] = ready.proof
        body = request.body
        hook = self._hook if body is None or isinstance(body, bytes | str) else _noting(self._hook, body)
        request.hooks["response"].append(hook)
        return request

    def _answered(self, response: requests.Response, position: int | None = None, **settings: Any) -> requests.Response:
        """The response hook: sees each answer, each 3xx among them before it is followed."""
        request = response.request
        sent = request.headers.get("Authorization")
        if sent is None:  # a redirect to elsewhere took it off
            request.headers.pop("DPoP", None)
            return response
        token = Token.sent(sent)
        if response.status_code != 401 and not token.dpop_bound:
            return response
        body = request.body
        flow = self.app.authorize(
            request.method or "",
            request.url or "",
            replayable=hasattr(response, "connection")
            and (body is None or isinstance(body, bytes | str) or position is not None),
            answered=(token, _seen(response)),
        )
        try:
            step = advance(flow, self._threads)
            while not isinstance(step, Done):
                answer: object = None
                match step:
                    case Attempt(headers):
                        request.headers.update(headers)
                        if position is not None:
                            body.seek(position)  # type: ignore[union-attr]  # it had a position, so it is a file
                        began = time.perf_counter()
                        # The request itself is sent again, not a copy: redirects that follow copy their headers from it.
                        response = response.connection.send(request, **settings)
                        response.elapsed = timedelta(seconds=time.perf_counter() - began)
                        answer = _seen(response)
                    case Peek(limit):
                        answer = _peek(response, limit)
                    case Discard():
                        _discard(response)
                step = advance(flow, self._threads, answer)
        finally:
            flow.close()
        if Token.sent(request.headers["Authorization"]).dpop_bound:
            self._prepare_hop(response)
        return response

    def _prepare_hop(self, response: requests.Response) -> None:
        """If the answer is a redirect, requests copies our headers to the next hop: the proof has to be that hop's."""
        hop = _next_hop(response)
        if hop is None:
            return
        method, url = hop
        headers = response.request.headers
        if origin_of(url) == origin_of(response.request.url or "") and self.app.origins.allow(url):
            headers.update(self.headers(method, url))
        else:
            headers.pop("Authorization", None)
            headers.pop("DPoP", None)

    def _send(self, request: Request, timeout: float) -> Response:
        until = time.monotonic() + timeout
        try:
            with requests.Session() if self._session is None else nullcontext(self._session) as session:
                # Prepared by hand: the session's own auth, headers, parameters and cookies are not for Okta.
                prepared = requests.Request(
                    request.method, request.url, dict(request.headers), data=request.body
                ).prepare()
                settings: dict[str, Any] = {**session.merge_environment_settings(request.url, {}, True, None, None)}
                with session.send(prepared, timeout=timeout, allow_redirects=False, **settings) as response:
                    body = bytearray()
                    for chunk in response.iter_content(8192):
                        body += chunk
                        if len(body) > MOST_READ or time.monotonic() > until:
                            raise SendFailed("the answer was too long, or too slow")
                    return Response(response.status_code, _fields(response), bytes(body))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise SendFailed(f"{type(error).__name__}: {error}") from error

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        not_picklable("OktaAuth", "Set session.auth anew in the other process.")


def _noting(hook: Any, body: Any) -> Any:
    """The hook, with the place where a file's body begins, so that it can be sent again from there."""
    try:
        return partial(hook, position=body.tell()) if body.seekable() else hook
    except (AttributeError, OSError, ValueError):
        return hook


def _fields(response: requests.Response) -> list[tuple[str, str]]:
    raw = getattr(response.raw, "headers", None)
    fields = raw.items() if isinstance(raw, urllib3.HTTPHeaderDict) else response.headers.items()
    return [(str(name), str(value)) for name, value in fields]


def _seen(response: requests.Response) -> Response:
    return Response(response.status_code, _fields(response))


class _Peeked:
    """A raw response whose beginning was read, and is given out again first. It is decoded already, whoever reads it:
    a chunked body can only be read on in the way in which it was begun."""

    def __init__(self, raw: Any, limit: int) -> None:
        self._raw = raw
        self._rest: Iterator[bytes] = raw.stream(limit, decode_content=True)
        self._head = b""

    def peek(self, limit: int) -> bytes:
        while len(self._head) < limit and (part := next(self._rest, None)) is not None:
            self._head += part
        return self._head[:limit]

    def read(self, amt: int | None = None, **options: Any) -> bytes:
        data = self._head + b"".join(self._rest) if amt is None else self.peek(amt)
        self._head = self._head[len(data) :]
        return data

    def stream(self, amt: int = 65536, **options: Any) -> Iterator[bytes]:
        while part := self._head or next(self._rest, b""):
            self._head = b""
            yield part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


def _peek(response: requests.Response, limit: int) -> bytes:
    if getattr(response, "_content_consumed", False):  # another hook has read it, and requests has kept it
        return response.content[:limit]
    response.raw = peeked = _Peeked(response.raw, limit)
    try:
        return peeked.peek(limit)
    except (urllib3.exceptions.HTTPError, OSError):
        return b""


def _discard(response: requests.Response) -> None:
    with suppress(urllib3.exceptions.HTTPError, OSError, AttributeError):
        response.raw.read(MOST_DRAINED, decode_content=False)
    response.close()


def _next_hop(response: requests.Response) -> tuple[str, str] | None:
    """Method and URL to which requests follows a redirect, by requests' own rules."""
    rules = requests.sessions.SessionRedirectMixin()
    location = rules.get_redirect_target(response)
    if not location:
        return None
    url = urljoin(response.url, requote_uri(location))
    hop = response.request.copy()
    rules.rebuild_method(hop, response)
    return hop.method or "", url if urlsplit(url).netloc else response.url
