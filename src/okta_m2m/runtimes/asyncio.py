"""Performs effects on an asyncio event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ..effects import Effect, Flow, Response, Send, Sign, Sleep, Snapshot, Spawn, StoreEffect, StoreFailed, Wait
from ..errors import ConfigurationError, ErrorMap
from .driving import AsyncSender, _answered, _lost, arun
from .threads import _in_thread, _too_slow
from .waiting import _waiters

if TYPE_CHECKING:
    import asyncio

    from ..keys import Signer

__all__ = ["Asyncio"]

_background: WeakKeyDictionary[asyncio.AbstractEventLoop, set[asyncio.Task[Any]]] = WeakKeyDictionary()


class Asyncio:
    """Never blocks the loop: blocking signers and key files are worked in threads. Any loop, and several at once.

    asyncio is imported where there is a loop already: who has only threads does not pay for it.
    """

    __slots__ = ("_send", "error_map")

    def __init__(self, send: AsyncSender, error_map: ErrorMap | None = None) -> None:
        self._send = send
        self.error_map: ErrorMap = error_map or {}

    async def perform(self, effect: Effect[Any]) -> Any:
        import asyncio

        match effect:
            case Send(request, timeout):
                return await _answered_on_loop(self._send(request, timeout))
            case Sign(signer, message):
                return await _signed(signer, message, asyncio.to_thread)
            case Snapshot(signer):
                return await asyncio.to_thread(signer.snapshot)  # type: ignore[attr-defined]  # only for those that have it
            case Sleep(seconds):
                return await asyncio.sleep(seconds)
            case Wait(landing, timeout):
                if not landing.done():
                    waiters = _waiters(landing)
                    waiter = waiters.join(timeout)
                    try:
                        await waiter
                    finally:
                        waiters.leave(waiter)
                return landing.done()
            case Spawn(flow, ended):
                return self._spawn(flow, ended)
            case StoreEffect():
                return await self._stored(effect)
        raise TypeError(f"no runtime performs {type(effect).__name__}")

    async def _stored(self, effect: StoreEffect[Any]) -> Any:
        import asyncio
        from inspect import isawaitable

        try:
            async with asyncio.timeout(effect.timeout):
                if getattr(effect.store, "on_loop", False):
                    answer = effect.call()
                else:
                    working = _in_thread(effect)
                    if not await self.perform(Wait(working, effect.timeout)):
                        raise _too_slow(effect)
                    answer = working.result()
                return await answer if isawaitable(answer) else answer
        except TimeoutError:
            raise _too_slow(effect) from None
        except StoreFailed:
            raise
        except Exception as error:
            raise StoreFailed(f"{type(error).__name__}: {error}") from error

    def _spawn(self, flow: Flow[Any], ended: Callable[[], None]) -> None:
        import asyncio
        from contextvars import Context

        loop = asyncio.get_running_loop()
        background = arun(flow, self)
        try:
            # In a context of its own: a renewal is nobody's request, and keeps nobody's trace or cancel scope alive.
            task = loop.create_task(background, name="okta-m2m renewal", context=Context())
        except RuntimeError:  # the loop is closing
            background.close()
            ended()
            return
        tasks = _background.setdefault(loop, set())
        tasks.add(task)  # the loop itself holds tasks only weakly

        def finished(task: asyncio.Task[Any]) -> None:
            tasks.discard(task)
            flow.close()
            if not task.cancelled() and (error := task.exception()) is not None:
                _lost(error)
            ended()

        task.add_done_callback(finished)


async def _answered_on_loop(answer: object) -> Response:
    from inspect import isawaitable

    if isawaitable(answer):
        return _answered(await answer)
    raise ConfigurationError(
        f"send= returned {type(answer).__name__} and nothing to await: it would block the event loop. "
        "Make it an async def, or use a blocking client."
    )


async def _signed(signer: Signer, message: bytes, in_thread: Callable[..., Awaitable[Any]]) -> bytes:
    from inspect import iscoroutinefunction

    if getattr(signer, "in_memory", False) or iscoroutinefunction(signer.sign):
        signature = signer.sign(message)
    else:
        signature = await in_thread(signer.sign, message)  # it may be across a network
    return signature if isinstance(signature, bytes) else await signature
