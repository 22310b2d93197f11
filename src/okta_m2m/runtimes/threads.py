"""Performs effects with threads.

Invariant: no policy here. Work that may hang (a token request, a signer, a store) runs in its own daemon thread, so
that it delays neither the call nor the exit of the process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from .._core.flights import wait_in_thread
from ..effects import (
    Effect,
    Flow,
    Send,
    SendFailed,
    Sign,
    Sleep,
    Snapshot,
    Spawn,
    StoreEffect,
    StoreFailed,
    Wait,
)
from ..errors import ConfigurationError, ErrorMap
from . import workers
from .driving import Sender, report_lost, response_of, run

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..keys import Signer

__all__ = ["Threads"]

T = TypeVar("T")


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
                return wait_in_thread(landing, timeout)
            case Send(request, timeout):
                return response_of(_send(partial(self._send, request, timeout), timeout))
            case Sign(signer, message, timeout):
                return _sign(signer, message, timeout)
            case Snapshot(signer, timeout):
                return _within(signer.snapshot, timeout, "key", signer)  # type: ignore[attr-defined]  # the flow yields it only for signers that have snapshot()
            case Sleep(seconds):
                return time.sleep(seconds)
            case Spawn(flow, ended, awaited):
                return self._spawn(flow, ended, awaited)
            case StoreEffect():
                return _ask_store(effect)
        raise TypeError(f"no runtime performs {type(effect).__name__}")

    def _spawn(self, flow: Flow[Any], ended: Callable[[], None], awaited: bool) -> Callable[[], bool] | bool:
        def background() -> None:
            try:
                run(flow, self)
            except BaseException as error:  # noqa: BLE001 (no caller can catch it)
                report_lost(error)
            finally:
                ended()

        from contextvars import Context, copy_context  # only a token request needs it (benchmarks/imports.py)

        context = copy_context() if awaited else Context()
        thread = workers.start_thread(partial(context.run, background), "fetch")
        return False if thread is None else thread.is_alive


def _send(send: Callable[[], T], timeout: float) -> T:
    working = workers.start(send, "send")
    if working is None:
        return send()
    try:
        if wait_in_thread(working, timeout):
            return working.result()
    finally:
        del working  # avoids a cycle: an exception's traceback would refer to it, and it refers to the exception
    raise SendFailed(workers.too_slow("answer", timeout))


def _within(work: Callable[[], T], timeout: float, what: str, signer: Signer) -> T:
    working = workers.start_in_turn(work, what, signer)
    if working is None:
        return work()
    try:
        if wait_in_thread(working, timeout):
            return working.result()
    finally:
        working.cancel()  # if it has not started
        del working  # as above
    raise TimeoutError(workers.too_slow(what, timeout))


def _sign(signer: Signer, message: bytes, timeout: float) -> bytes:
    if getattr(signer, "in_memory", False):
        signature = signer.sign(message)
    else:
        signature = _within(lambda: signer.sign(message), timeout, "signature", signer)
    if isinstance(signature, bytes):
        return signature
    from inspect import iscoroutine

    if iscoroutine(signature):
        signature.close()
    raise ConfigurationError(
        f"{type(signer).__name__}.sign returns an awaitable, which a thread cannot wait for.",
        remedy="Use an async client with this signer, or make its sign a blocking function.",
    )


def _ask_store(effect: StoreEffect[Any]) -> Any:
    working = call_store_in_thread(effect)
    try:
        answer = working.result(effect.timeout)
    except TimeoutError:
        raise store_too_slow(effect) from None
    except StoreFailed:
        raise
    except Exception as error:
        raise StoreFailed(f"{type(error).__name__}: {error}") from error
    from inspect import isawaitable, iscoroutine

    if not isawaitable(answer):
        return answer
    if iscoroutine(answer):
        answer.close()
    raise StoreFailed(f"{type(effect.store).__name__} returned an awaitable, which a thread cannot wait for")


def call_store_in_thread(effect: StoreEffect[Any]) -> Future[Any]:
    """Calls the store in its own daemon thread."""
    working = workers.start(effect.call, "store")
    if working is None:
        raise StoreFailed("no thread could be started for it")
    return working


def store_too_slow(effect: StoreEffect[Any]) -> StoreFailed:
    return StoreFailed(workers.too_slow(f"answer to {type(effect).__name__.lower()}", effect.timeout))
