"""What a flow may ask for.

A *flow* is a generator. It yields *effects*, plain frozen data that say what is wanted, and is resumed with the answer, or
with an exception in its place. A *runtime* (``okta_m2m.runtimes``) performs effects; an *adapter* performs the three that
concern the caller's own request. ``Effect.__iter__`` is itself a one-step flow, so that inside a flow
``response = yield from Send(request)`` reads, and type-checks, like ``await``::

    flow yields            performed by    resumed with
    -------------------    ------------    ------------------------------------------------------
    Send(request)          runtime         Response; SendFailed is thrown in if none came
    Sign(signer, message)  runtime         bytes; TimeoutError is thrown in after ``timeout`` seconds
    Snapshot(signer)       runtime         the signer to use for one signature, re-read if need be; the same
    Sleep(seconds)         runtime         None
    Wait(landing)          runtime         True if it landed in time
    Spawn(flow, ended,     runtime         at once: whether it was started, or a function that says whether it still runs
      awaited)
    Load, Claim, Save,     runtime         what the store's method of that name answers; StoreFailed is thrown in if it
      Release                              fails or takes longer than ``timeout``
    Attempt(headers)       adapter         Response (body not read)
    Peek(limit)            adapter         first bytes of that response's body, which stays whole
    Discard()              adapter         None, when that response has released its connection

Invariant: no effect, request or response shows a header or a body in its ``repr``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from ._core.records import Generic, Record

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ._core.tokens import Token
    from .keys import Signer
    from .stores import Store

__all__ = [
    "Attempt",
    "Claim",
    "Discard",
    "Effect",
    "Flow",
    "Load",
    "Peek",
    "Release",
    "Request",
    "Response",
    "Save",
    "Send",
    "SendFailed",
    "Sign",
    "Sleep",
    "Snapshot",
    "Spawn",
    "Stage",
    "StoreEffect",
    "StoreFailed",
    "Wait",
]

Stage: TypeAlias = Literal["name", "tcp", "tls", "proxy", "http"]
"""What kept an answer from coming: the look-up of the name, the connection, TLS, a proxy, or what came after these."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Request(Record, hidden=("headers", "body")):
    """A request of our own, to the token endpoint."""

    method: str
    url: str
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""


class Response:
    """An answer: its status, its headers (any case, several of a name), and its body where it was read."""

    __slots__ = ("_headers", "body", "status")

    def __init__(self, status: int, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> None:
        self.status = status
        self.body = body
        self._headers = [(name.lower(), value) for name, value in headers]

    def all(self, name: str) -> list[str]:
        """Every value of that header, in order."""
        name = name.lower()
        return [value for key, value in self._headers if key == name]

    def get(self, name: str) -> str | None:
        """The first value of that header."""
        name = name.lower()
        return next((value for key, value in self._headers if key == name), None)

    def __repr__(self) -> str:
        return f"Response(status={self.status})"


class SendFailed(Exception):
    """No answer came. Thrown into a flow by ``Send``, which retries.

    - ``reason``: what happened, in plain words.
    - ``stage``: what failed: ``"name"`` (its look-up), ``"tcp"``, ``"tls"``, ``"proxy"`` or ``"http"``; ``None`` where that
      is not known.
    - ``permanent``: whether the next attempt would end in the same way: a certificate that is not trusted, a missing CA
      bundle.
    """

    def __init__(self, reason: str = "", *, stage: Stage | None = None, permanent: bool = False) -> None:
        super().__init__(reason)
        self.stage: Stage | None = stage
        self.permanent = permanent


class Effect(Record, Generic[T_co]):
    """Base of the effects; ``T_co`` is the type of the answer."""

    def __iter__(self) -> Generator[Effect[T_co], Any, T_co]:
        answer: T_co = yield self
        return answer


Flow: TypeAlias = Generator[Effect[Any], Any, T]
"""A generator that yields effects, is resumed with their answers, and returns a ``T``."""


class Send(Effect[Response]):
    """Our own request: redirects not followed, at most 1 MiB read, ``timeout`` seconds for all of it. The runtime ends it then,
    whatever the HTTP library does."""

    request: Request
    timeout: float


class Sign(Effect[bytes], hidden=("message",)):
    """The signature of ``message``, within ``timeout`` seconds: an effect, because the key may be across a network."""

    signer: Signer
    message: bytes
    timeout: float

    def __init__(self, signer: Signer, message: bytes, timeout: float) -> None:
        # Written out: made for each signature, where Record's own way would be a tenth of the overhead.
        put_signer, put_message, put_timeout = self._setters
        put_signer(self, signer)
        put_message(self, message)
        put_timeout(self, timeout)


class Snapshot(Effect["Signer"]):
    """One immutable version of the signer, within ``timeout`` seconds; a key file that changed is re-read here, off any
    event loop."""

    signer: Signer
    timeout: float


class Sleep(Effect[None]):
    """A pause of so many seconds."""

    seconds: float


class Wait(Effect[bool]):
    """Waits until a fetch lands, or ``timeout`` seconds have passed. The future is never cancelled."""

    landing: Future[Any]
    timeout: float

    def __init__(self, landing: Future[Any], timeout: float) -> None:
        # Written out, as Attempt's is: each of very many callers that wait for one token makes both.
        put_landing, put_timeout = self._setters
        put_landing(self, landing)
        put_timeout(self, timeout)


class Spawn(Effect["bool | Callable[[], bool]"], hidden=("flow", "ended")):
    """Run ``flow`` in the background. ``ended`` is called exactly once whatever becomes of a flow that was started.

    Resumed with ``False`` if nothing can be started any more, as while the interpreter shuts down. Otherwise with a function
    that says, in any thread, whether the thread or the event loop that runs it is still there; or with ``True`` by a runtime
    that cannot tell.

    ``awaited``: whether somebody waits for it. If so it runs in a copy of the starter's context, so that a tracer sees
    whose it is; otherwise in a new one, as it is nobody's request.
    """

    flow: Flow[Any]
    ended: Callable[[], None]
    awaited: bool


class StoreFailed(Exception):
    """A shared store did not do what was asked of it, or not in time. Thrown into a flow, never out of one."""


class StoreEffect(Effect[T_co]):
    """Base of the four that ask a shared store: ``call`` does it; ``timeout`` seconds is all it may take."""

    store: Store
    timeout: float

    def call(self) -> T_co | Awaitable[T_co]:
        raise NotImplementedError


class Load(StoreEffect[bytes | None]):
    """The value under ``key``; ``None`` if there is none."""

    key: str

    def call(self) -> bytes | Awaitable[bytes | None] | None:
        return self.store.load(self.key)


class Claim(StoreEffect[bool]):
    """A lease of ``ttl`` seconds; again by the same owner, it is extended."""

    key: str
    owner: str
    ttl: float

    def call(self) -> bool | Awaitable[bool]:
        return self.store.claim(self.key, self.owner, self.ttl)


class Save(StoreEffect[bool], hidden=("value",)):
    """Stored only while the claim is the owner's."""

    key: str
    value: bytes
    ttl: float
    owner: str

    def call(self) -> bool | Awaitable[bool]:
        return self.store.save(self.key, self.value, self.ttl, self.owner)


class Release(StoreEffect[None]):
    """Gives up the owner's claim; another's is left alone."""

    key: str
    owner: str

    def call(self) -> Awaitable[None] | None:
        return self.store.release(self.key, self.owner)


class Attempt(Effect[Response], hidden=("headers", "token")):
    """Sends the caller's own request with these headers set (none: as it is)."""

    headers: Mapping[str, str]
    token: Token | None = None

    def __init__(self, headers: Mapping[str, str], token: Token | None = None) -> None:
        put_headers, put_token = self._setters
        put_headers(self, headers)
        put_token(self, token)


class Peek(Effect[bytes]):
    """At most ``limit`` bytes from the start of the last response's decoded body, which the caller can still read whole."""

    limit: int


class Discard(Effect[None]):
    """The caller will not see the last response: its connection goes back to the pool, or is closed."""
