"""Performs effects with threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..effects import Effect, Flow, Send, Sign, Sleep, Snapshot, Spawn, StoreEffect, StoreFailed, Wait
from ..errors import ConfigurationError, ErrorMap
from .driving import Sender, _answered, _lost, run
from .waiting import _doors

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..keys import Signer

__all__ = ["Threads"]


class Threads:
    """Blocks the calling thread. Background flows run in daemon threads, or inline where none can be started."""

    __slots__ = ("_send", "error_map")

    def __init__(self, send: Sender, error_map: ErrorMap | None = None) -> None:
        self._send = send
        self.error_map: ErrorMap = error_map or {}

    def perform(self, effect: Effect[Any]) -> Any:
        match effect:
            case Wait(landing, timeout):  # first, because very many threads may wait for one token
                return _doors(landing).wait(timeout)
            case Send(request, timeout):
                return _answered(self._send(request, timeout))
            case Sign(signer, message):
                return _signed_blocking(signer, message)
            case Snapshot(signer):
                return signer.snapshot()  # type: ignore[attr-defined]  # yielded only for signers that have it
            case Sleep(seconds):
                return time.sleep(seconds)
            case Spawn(flow, ended):
                return self._spawn(flow, ended)
            case StoreEffect():
                return _stored_blocking(effect)
        raise TypeError(f"no runtime performs {type(effect).__name__}")

    def _spawn(self, flow: Flow[Any], ended: Callable[[], None]) -> None:
        def background() -> None:
            try:
                run(flow, self)
            except Exception as error:  # noqa: BLE001 (nobody is there to catch it; the flow has told its waiters)
                _lost(error)
            finally:
                ended()

        # Past the main thread's end the interpreter shuts down: a daemon thread would be torn off in mid-request.
        if threading.main_thread().is_alive():
            with suppress(RuntimeError):  # no more threads
                threading.Thread(target=background, name="okta-m2m renewal", daemon=True).start()
                return
        background()


def _signed_blocking(signer: Signer, message: bytes) -> bytes:
    signature = signer.sign(message)
    if isinstance(signature, bytes):
        return signature
    from inspect import iscoroutine

    if iscoroutine(signature):
        signature.close()
    raise ConfigurationError(
        f"{type(signer).__name__}.sign returns an awaitable, which a thread cannot wait for. "
        "Use an async client with this signer, or give it a sign that blocks."
    )


def _stored_blocking(effect: StoreEffect[Any]) -> Any:
    working = _in_thread(effect)
    try:
        answer = working.result(effect.timeout)
    except TimeoutError:
        raise _too_slow(effect) from None
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


def _in_thread(effect: StoreEffect[Any]) -> Future[Any]:
    """Asks the store in a daemon thread of its own: a store that hangs can hold up neither the call nor the exit."""
    from concurrent.futures import Future

    working: Future[Any] = Future()
    working.set_running_or_notify_cancel()

    def work() -> None:
        try:
            answer = effect.call()
        except BaseException as error:  # noqa: BLE001 (it is handed to whoever waits)
            working.set_exception(error)
        else:
            working.set_result(answer)

    try:
        threading.Thread(target=work, name="okta-m2m store", daemon=True).start()
    except RuntimeError as error:  # no more threads, or the interpreter is shutting down
        raise StoreFailed(f"no thread to ask it in: {error}") from error
    return working


def _too_slow(effect: StoreEffect[Any]) -> StoreFailed:
    return StoreFailed(f"no answer to {type(effect).__name__.lower()} within {effect.timeout:g} s")
