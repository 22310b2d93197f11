"""Performs effects with threads.

Invariant: no policy in here. What may hang (a store) is done in a daemon thread of its own, so that it holds up neither
the call nor the exit of the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from ..effects import Effect, Flow, Send, Sign, Sleep, Snapshot, Spawn, StoreEffect, StoreFailed, Wait
from ..errors import ConfigurationError, ErrorMap
from .driving import Sender, report_lost, response_of, run

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..keys import Signer

__all__ = ["Threads"]


class Threads:
    """Blocks the calling thread; background flows run in daemon threads.

    - ``send``: sends our own requests.
    - ``error_map``: for classes of our errors, the exceptions of the HTTP library that they are raised as too.
    """

    __slots__ = ("_send", "error_map")

    def __init__(self, send: Sender, error_map: ErrorMap | None = None) -> None:
        self._send = send
        self.error_map: ErrorMap = error_map or {}

    def perform(self, effect: Effect[Any]) -> Any:
        """Performs one effect and returns its answer."""
        match effect:
            case Wait(landing, timeout):  # first, because very many threads may wait for one token
                return _wait(landing, timeout)
            case Send(request, timeout):
                return response_of(self._send(request, timeout))
            case Sign(signer, message):
                return _sign(signer, message)
            case Snapshot(signer):
                return signer.snapshot()  # type: ignore[attr-defined]  # yielded only for signers that have it
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
            except BaseException as error:  # noqa: BLE001 (nobody is there to catch it)
                report_lost(error)
            finally:
                ended()

        context = copy_context() if awaited else Context()
        thread = threading.Thread(target=context.run, args=(background,), name="okta-m2m fetch", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is shutting down, or there can be no more threads
            return False
        return thread.is_alive


def _wait(landing: Future[Any], timeout: float) -> bool:
    try:
        landing.exception(timeout)
    except TimeoutError:
        return landing.done()
    return True


def _sign(signer: Signer, message: bytes) -> bytes:
    signature = signer.sign(message)
    if isinstance(signature, bytes):
        return signature
    from inspect import iscoroutine

    if iscoroutine(signature):
        signature.close()
    raise ConfigurationError(
        f"{type(signer).__name__}.sign returns an awaitable, which a thread cannot wait for.",
        remedy="Use an async client with this signer, or give it a sign that blocks.",
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
    raise StoreFailed(f"{type(effect.store).__name__} answers with an awaitable, which a thread cannot wait for")


def call_store_in_thread(effect: StoreEffect[Any]) -> Future[Any]:
    """Asks the store in a daemon thread of its own."""
    from concurrent.futures import Future

    working: Future[Any] = Future()
    working.set_running_or_notify_cancel()

    def work() -> None:
        try:
            answer = effect.call()
        except BaseException as error:  # noqa: BLE001 (it is handed to the waiter)
            working.set_exception(error)
        else:
            working.set_result(answer)

    try:
        threading.Thread(target=work, name="okta-m2m store", daemon=True).start()
    except RuntimeError as error:  # the interpreter is shutting down, or there can be no more threads
        raise StoreFailed(f"no thread to ask it in: {error}") from error
    return working


def store_too_slow(effect: StoreEffect[Any]) -> StoreFailed:
    return StoreFailed(f"no answer to {type(effect).__name__.lower()} within {effect.timeout:g} s")
