"""The effects that a flow can request.

A *flow* is a generator. It yields *effects*, plain frozen data that describe the requested action, and is resumed
with the result, or with an exception instead. A *runtime* (``okta_m2m.runtimes``) performs effects; an *adapter*
performs the three that concern the caller's own request. ``Effect.__iter__`` is itself a one-step flow, so that
inside a flow ``response = yield from Send(request)`` reads, and type-checks, like ``await``::

    flow yields            performed by    resumed with
    -------------------    ------------    ----------------------------------------------------
    Send(request)          runtime         Response; SendFailed is thrown in if there is none
    StartSend(request)     runtime         at once: a Sending, or None if no thread can be started
    Sign(signer, message)  runtime         bytes; TimeoutError is thrown in after timeout
    Snapshot(signer)       runtime         the signer for one fetch, read again if necessary;
                                           TimeoutError is thrown in after timeout
    Sleep(seconds)         runtime         None
    Wait(landing)          runtime         True if it landed in time
    Spawn(flow, ...)       runtime         at once: whether it was started, or a function that says
                                           whether it still runs
    Load, Claim, Save,     runtime         what the store's method of that name returns;
      Release                              StoreFailed is thrown in if it fails, or after timeout
    Attempt(headers)       adapter         Response (body not read)
    Peek(limit)            adapter         first bytes of that response's body, which stays whole
    Discard()              adapter         None, when that response has released its connection

Invariant: no effect, request or response shows a header or a body in its ``repr``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeAlias, TypeVar

from ._base.records import Record
from ._base.tokens import not_picklable

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ._base.tokens import Token
    from ._threads.landings import Landing
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
    "Sending",
    "Sign",
    "Sleep",
    "Snapshot",
    "Spawn",
    "Stage",
    "StartSend",
    "StoreEffect",
    "StoreFailed",
    "Wait",
]

Stage: TypeAlias = Literal["name", "tcp", "tls", "proxy", "http"]
"""What failed: DNS resolution, the connection, TLS, a proxy, or a later step."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Request(Record, hidden=("headers", "body")):
    """This package's own request, to the token endpoint.

    - ``method``: ``POST``, for example.
    - ``url``: its URL.
    - ``headers``: the only headers to send. Default none.
    - ``body``: its body. Default empty.
    """

    method: str
    url: str
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        not_picklable("A request", "Send it where it was made.")


class Response:
    """A response.

    - ``status``: its HTTP status.
    - ``headers``: its header lines, as pairs of name and value. Names may be in any case, and may repeat. Default
      none.
    - ``body``: its body, if it was read. Default empty.
    """

    __slots__ = ("_headers", "body", "status")

    def __init__(self, status: int, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> None:
        self.status = status
        self.body = body
        self._headers = [(name.lower(), value) for name, value in headers]

    def all(self, name: str) -> list[str]:
        """Every value of the header ``name`` (in any case), in order."""
        name = name.lower()
        return [value for key, value in self._headers if key == name]

    def get(self, name: str) -> str | None:
        """The first value of the header ``name`` (in any case); ``None`` if there is none."""
        name = name.lower()
        return next((value for key, value in self._headers if key == name), None)

    def __repr__(self) -> str:
        return f"Response(status={self.status})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        not_picklable("A response", "Read it where it was received.")


class SendFailed(Exception):
    """There was no response. ``Send`` throws this exception into the flow; after ``StartSend``, the future has it.

    - ``reason``: what happened, in plain words. Default empty.
    - ``stage``: what failed: ``"name"`` (its DNS resolution), ``"tcp"``, ``"tls"``, ``"proxy"`` or ``"http"``. Default ``None``,
      not known.
    - ``permanent``: whether the next attempt would fail in the same way: a certificate that is not trusted, a missing CA
      bundle. Default ``False``.
    """

    def __init__(self, reason: str = "", *, stage: Stage | None = None, permanent: bool = False) -> None:
        super().__init__(reason)
        self.stage: Stage | None = stage
        self.permanent = permanent


class Effect(Record, Generic[T_co]):
    """Base class of the effects; ``T_co`` is the type of the result."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        not_picklable("An effect", "Perform it where it was requested.")

    def __iter__(self) -> Generator[Effect[T_co], Any, T_co]:
        answer: T_co = yield self
        return answer


Flow: TypeAlias = Generator[Effect[Any], Any, T]
"""A generator that yields effects, is resumed with their results, and returns a ``T``."""


class Send(Effect[Response]):
    """Sends our own request. Redirects are not followed, and at most 1 MiB is read.

    - ``request``: the request to send.
    - ``timeout``: seconds for the whole request. After that, the runtime ends it, even if the HTTP library does not.
    """

    request: Request
    timeout: float


class Sending:
    """Our own request under way.

    - ``response``: a future with the response, or with the exception of the function that sends it.
    """

    def __init__(self, response: Future[Response]) -> None:
        self.response = response
        self._if_given_up: list[Callable[[], object]] = []

    def send(self, send: Callable[[], Response]) -> Response:
        """Sends the request, in the thread that this method is called in.

        - ``send``: sends it, and may call :meth:`current`.
        """
        _current.set(self)
        return send()

    @classmethod
    def current(cls) -> Sending | None:
        """The request that is being sent in this thread; ``None`` if there is none."""
        return _current.get()

    def if_given_up(self, close: Callable[[], object]) -> None:
        """Called by the function that sends the request.

        - ``close``: ends the request, in another thread, if no one waits for its response any more.
        """
        self._if_given_up.append(close)

    def give_up(self) -> None:
        """No one waits for the response any more."""
        if not self.response.done():
            for close in self._if_given_up:
                close()


_current: ContextVar[Sending | None] = ContextVar("okta_m2m_sending", default=None)


class StartSend(Effect["Sending | None"]):
    """Starts to send our own request, in a thread of its own, as :class:`Send` does.

    - ``request``: the request to send.
    - ``timeout``: seconds for the whole request, for the function that sends it. After that, the flow may end it with
      :meth:`Sending.give_up`.
    """

    request: Request
    timeout: float


class Sign(Effect[bytes], hidden=("message",)):
    """Signs. It is an effect, because the key may be across a network.

    - ``signer``: the key.
    - ``message``: the bytes to sign.
    - ``timeout``: seconds to wait.
    """

    signer: Signer
    message: bytes
    timeout: float


class Snapshot(Effect["Signer"]):
    """Gets one immutable version of a signer. This reads a changed key file again, never on an event loop.

    - ``signer``: the key.
    - ``timeout``: seconds to wait.
    """

    signer: Signer
    timeout: float


class Sleep(Effect[None]):
    """Pauses for ``seconds``."""

    seconds: float


class Wait(Effect[bool]):
    """Waits until a fetch ends, which cannot be canceled.

    - ``landing``: ``done()`` says whether the fetch has ended; ``wait(seconds)`` blocks the thread until it has, and
      returns whether it has; ``add_done_callback(function)`` has the function called with this object once it has, in any
      thread.
    - ``timeout``: seconds to wait.
    """

    landing: Landing
    timeout: float


class Spawn(Effect["bool | Callable[[], bool]"], hidden=("flow", "ended")):
    """Runs a flow in a thread of this package, whatever the caller runs on.

    Resumed with ``False`` if nothing can be started any more, for example while the interpreter shuts down. Otherwise
    resumed with a function that says, in any thread, whether the flow waits its turn or runs; or with ``True`` by a runtime
    that cannot tell.

    - ``flow``: the flow to run.
    - ``ended``: called exactly once when a started flow has ended, no matter how.
    - ``awaited``: whether a call waits for the flow. If so, the flow runs in a copy of the starter's context, so that a
      tracer sees which call it belongs to. Otherwise it runs in a new context.
    - ``purpose``: a word for the name of its thread. Default ``"flow"``.
    - ``in_turn_of``: if not ``None``, the flow is a fetch from this token endpoint, and waits its turn: at most 32 fetches of
      a process run at once. Default ``None``.
    """

    flow: Flow[Any]
    ended: Callable[[], None]
    awaited: bool
    purpose: str = "flow"
    in_turn_of: str | None = None


class StoreFailed(Exception):
    """A shared store failed, or took too long. Thrown into a flow. It never fails a call."""


class StoreEffect(Effect[T_co]):
    """Base class of the four effects that use a shared store.

    - ``store``: the store.
    - ``timeout``: seconds that it may take.
    """

    store: Store
    timeout: float

    def call(self) -> T_co:
        """Calls the store. It blocks."""
        raise NotImplementedError


class Load(StoreEffect[bytes | None]):
    """Loads the value under ``key``; ``None`` if there is none."""

    key: str

    def call(self) -> bytes | None:
        return self.store.load(self.key)


class Claim(StoreEffect[bool]):
    """Takes or extends a claim.

    - ``key``: the key of the claim.
    - ``owner``: the owner who makes the claim.
    - ``ttl``: seconds until the claim ends by itself.
    """

    key: str
    owner: str
    ttl: float

    def call(self) -> bool:
        return self.store.claim(self.key, self.owner, self.ttl)


class Save(StoreEffect[bool], hidden=("value",)):
    """Stores a value, but only while the claim is the owner's.

    - ``key``: where to store it.
    - ``value``: the bytes to store.
    - ``ttl``: seconds until the value expires.
    - ``owner``: the owner of the claim.
    """

    key: str
    value: bytes
    ttl: float
    owner: str

    def call(self) -> bool:
        return self.store.save(self.key, self.value, self.ttl, self.owner)


class Release(StoreEffect[None]):
    """Gives up a claim, if it is the owner's.

    - ``key``: the key of the claim.
    - ``owner``: the owner who gives it up.
    """

    key: str
    owner: str

    def call(self) -> None:
        # Whatever it returns is looked at: a store of someone's own may return an awaitable.
        return self.store.release(self.key, self.owner)


class Attempt(Effect[Response], hidden=("headers", "token")):
    """Sends the caller's own request.

    - ``headers``: the headers to set on it; if empty, it is sent unchanged.
    - ``token``: the token in these headers. Default ``None``.
    """

    headers: Mapping[str, str]
    token: Token | None = None


class Peek(Effect[bytes]):
    """Reads at most ``limit`` bytes from the start of the last response's decoded body. The caller can still read all of it."""

    limit: int


class Discard(Effect[None]):
    """Discards the last response, which the caller will not see. Its connection goes back to the pool, or is closed."""
