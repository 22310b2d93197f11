"""Performs effects with threads. It is the only runtime that performs what waits for the outside world.

Invariant: no policy here. Work that may hang (a token request, a signer, a store) runs in its own daemon thread, so
that it delays neither the call nor the exit of the process.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeVar

from .._base.clocks import SYSTEM_CLOCK
from .._threads import workers
from .._threads.landings import landing_of
from ..effects import (
    Effect,
    Request,
    Response,
    Send,
    SendFailed,
    Sending,
    Sign,
    Sleep,
    Snapshot,
    Spawn,
    StartSend,
    StoreEffect,
    StoreFailed,
    Wait,
)
from ..errors import ConfigurationError, ErrorMap
from .driving import Sender, report_lost, response_of, run

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..keys import Signer

T = TypeVar("T")

BRIEF = 5.0
"""Seconds after which a fetch no longer counts among those that run at once."""

LONGEST_SLEEP = 1.0
"""Seconds between looks at the steady clock during a pause: a machine may be suspended in it, and then has paused enough."""


class Threads:
    """Blocks the calling thread; background flows run in daemon threads.

    - ``send``: sends our own requests; blocks.
    - ``error_map``: maps this package's error classes to the HTTP library's. Each error is an instance of both.
      Default ``None``.
    """

    __slots__ = ("_send", "error_map")

    def __init__(self, send: Sender, error_map: ErrorMap | None = None) -> None:
        self._send = send
        self.error_map: ErrorMap = error_map or {}

    def perform(self, effect: Effect[Any]) -> Any:
        """Performs one ``effect`` and returns its result."""
        match effect:
            case Wait(landing, timeout):  # first, because many threads may wait for one token
                return landing.wait(timeout)
            case Send(request, timeout):
                return self._send_within(request, timeout)
            case StartSend(request, timeout):
                return self._start_send(request, timeout)
            case Sign(timeout=timeout):
                sign, signing = begin_signing(effect)
                return signature_of(effect.signer, _within(signing, sign, timeout, "signature"))
            case Snapshot(signer, timeout):
                snapshot = signer.snapshot  # type: ignore[attr-defined]  # yielded only for signers that have it
                working = workers.start_in_turn(snapshot, "key", signer, timeout)
                return _within(working, snapshot, timeout, "key")
            case Sleep(seconds):
                return _sleep(seconds)
            case Spawn():
                return self._spawn(effect)
            case StoreEffect():
                return _ask_store(effect)
        raise TypeError(f"no runtime performs {type(effect).__name__}")

    def _start_send(self, request: Request, timeout: float) -> Sending | None:
        from concurrent.futures import Future  # heavy

        sending = Sending(Future())
        send = partial(sending.send, lambda: response_of(self._send(request, timeout)))
        return None if workers.start(send, "send", sending.response) is None else sending

    def _send_within(self, request: Request, timeout: float) -> Response:
        sending = self._start_send(request, timeout)
        if sending is None:
            return response_of(self._send(request, timeout))
        try:
            if landing_of(sending.response).wait(timeout):
                return sending.response.result()
            sending.give_up()
        finally:
            del sending  # avoids a cycle: an exception's traceback would refer to it, and it refers to the exception
        raise SendFailed(workers.too_slow("answer", timeout))

    def _spawn(self, effect: Spawn) -> Callable[[], bool] | bool:
        job = _Background(effect, self)
        if effect.in_turn_of is not None:
            queued = workers.FETCHES.put(job, effect.purpose, effect.in_turn_of, BRIEF)
            return False if queued is None else queued.is_alive
        thread = workers.start_thread(job, effect.purpose, finishes_at_exit=not effect.awaited)
        return False if thread is None else thread.is_alive


class _Background:
    """A flow that runs in a thread of its own."""

    # One object for the garbage collector instead of seven: ten thousand may wait their turn.
    __slots__ = ("_context", "_effect", "_threads")

    def __init__(self, effect: Spawn, threads: Threads) -> None:
        self._effect = effect
        self._threads = threads
        self._context = copy_context() if effect.awaited else Context()

    def __call__(self) -> None:
        self._context.run(self._run)

    def _run(self) -> None:
        try:
            run(self._effect.flow, self._threads)
        except BaseException as error:  # noqa: BLE001 (no caller can catch it)
            report_lost(error)
        finally:
            self._effect.ended()


def begin_signing(effect: Sign) -> tuple[Callable[[], Any], Future[Any] | None]:
    """The signing of a message, and its future if it has begun in a thread: not if the key is in memory, nor if no thread can
    be started any more. Then call the first."""
    signer = effect.signer
    sign = partial(signer.sign, effect.message)
    if getattr(signer, "in_memory", False):
        return sign, None
    return sign, workers.start_in_turn(sign, "signature", signer, effect.timeout)


def signature_of(signer: Signer, signature: object) -> bytes:
    """A signer's result, checked."""
    if isinstance(signature, bytes):
        return signature
    if isinstance(signature, CoroutineType):
        signature.close()
    if isinstance(signature, Awaitable):
        raise ConfigurationError(
            f"{type(signer).__name__}.sign returns an awaitable, which a thread cannot wait for.",
            remedy="Make sign a plain function that blocks. It runs in a thread, so it never blocks an event loop.",
        )
    raise ConfigurationError(
        f"{type(signer).__name__}.sign returned {type(signature).__name__}.", remedy="Have it return bytes."
    )


def _within(
    working: Future[T] | None, work: Callable[[], T], timeout: float, what: str, failure: type[Exception] = TimeoutError
) -> T:
    """The result of work that has begun in a thread; if it has not, of ``work`` itself."""
    if working is None:
        return work()
    try:
        if landing_of(working).wait(timeout):
            return working.result()
    finally:
        working.cancel()  # if it has not begun
        del working  # avoids a cycle: an exception's traceback would refer to it, and it refers to the exception
    raise failure(workers.too_slow(what, timeout))


def _sleep(seconds: float) -> None:
    until = SYSTEM_CLOCK.now() + seconds
    while (left := until - SYSTEM_CLOCK.now()) > 0:
        time.sleep(min(left, LONGEST_SLEEP))


def _ask_store(effect: StoreEffect[Any]) -> Any:
    working = workers.start(effect.call, "store")
    if working is None:
        raise StoreFailed("no thread could be started for it")
    what = f"answer to {type(effect).__name__.lower()}"
    try:
        answer: object = _within(working, effect.call, effect.timeout, what, StoreFailed)
    except StoreFailed:
        raise
    except Exception as error:
        raise StoreFailed(f"{type(error).__name__}: {error}") from error
    if isinstance(answer, CoroutineType):
        answer.close()
    if isinstance(answer, Awaitable):
        raise StoreFailed(f"{type(effect.store).__name__} returned an awaitable, which a thread cannot wait for")
    return answer
