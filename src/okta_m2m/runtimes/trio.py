"""Performs effects in a trio run.

Invariant: no policy here, the run is never blocked, and no exception leaves a background flow, because in a system task
it would end the whole run.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ..effects import Effect, Flow, Send, SendFailed, Sign, Sleep, Snapshot, Spawn, StoreEffect, StoreFailed, Wait
from ..errors import ErrorMap
from . import workers
from .asyncio import await_response, sign_on_loop, snapshot_on_loop
from .driving import AsyncSender, arun, report_lost
from .threads import call_store_in_thread, store_too_slow

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Trio", "wait_in_run"]

logger = logging.getLogger("okta_m2m")

T = TypeVar("T")


class Trio:
    """For trio, with any number of runs at once. Background flows are system tasks.

    - ``send``: sends our own requests; awaitable.
    - ``error_map``: maps this package's error classes to the HTTP library's. Each error is an instance of both. Default
      ``None``.
    """

    __slots__ = ("_send", "error_map")

    def __init__(self, send: AsyncSender, error_map: ErrorMap | None = None) -> None:
        self._send = send
        self.error_map: ErrorMap = error_map or {}

    async def perform(self, effect: Effect[Any]) -> Any:
        """Performs one ``effect`` and returns its result."""
        import trio

        match effect:
            case Send(request, timeout):
                return await self._within(timeout, "answer", await_response(self._send(request, timeout)), SendFailed)
            case Sign(timeout=timeout):
                return await self._within(timeout, "signature", sign_on_loop(effect, wait_in_run))
            case Snapshot(timeout=timeout):
                return await self._within(timeout, "key", snapshot_on_loop(effect, wait_in_run))
            case Sleep(seconds):
                return await trio.sleep(seconds)
            case Wait(landing, timeout):
                return await wait_in_run(landing, timeout)
            case Spawn(flow, ended, awaited):
                return self._spawn(flow, ended, awaited)
            case StoreEffect():
                return await self._ask_store(effect)
        raise TypeError(f"no runtime performs {type(effect).__name__}")

    def _spawn(self, flow: Flow[Any], ended: Callable[[], None], awaited: bool) -> bool:
        # A run does not end before its system tasks, so the answer never changes.
        from contextvars import Context, copy_context

        import trio

        context = copy_context() if awaited else Context()
        trio.lowlevel.spawn_system_task(self._in_background, flow, ended, name="okta-m2m fetch", context=context)
        return True

    async def _in_background(self, flow: Flow[Any], ended: Callable[[], None]) -> None:
        try:
            await arun(flow, self)
        except Exception as error:  # noqa: BLE001 (no caller can catch it)
            report_lost(error)
        finally:
            ended()

    @staticmethod
    async def _within(
        timeout: float,  # noqa: ASYNC109 (the effect's own)
        what: str,
        answer: Awaitable[T],
        failure: type[Exception] = TimeoutError,
    ) -> T:
        import trio

        with trio.move_on_after(timeout):
            return await answer
        raise failure(workers.too_slow(what, timeout))

    async def _ask_store(self, effect: StoreEffect[Any]) -> Any:
        from inspect import isawaitable

        import trio

        try:
            with trio.fail_after(effect.timeout) as limit:
                working = call_store_in_thread(effect)
                try:
                    await wait_in_run(working, effect.timeout)
                except trio.Cancelled:
                    # The thread continues, and may get the claim, which must then be released.
                    if not limit.cancel_called:
                        with trio.CancelScope(shield=True):
                            await wait_in_run(working, effect.timeout)
                    raise
                if not working.done():
                    raise store_too_slow(effect)
                answer = working.result()
                return await answer if isawaitable(answer) else answer
        except trio.TooSlowError:
            raise store_too_slow(effect) from None
        except StoreFailed:
            raise
        except Exception as error:
            raise StoreFailed(f"{type(error).__name__}: {error}") from error


async def wait_in_run(landing: Future[Any], seconds: float) -> bool:
    """Waits until a flight lands, or until that many seconds have passed. Returns whether it landed."""
    import trio

    landed = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def notify(_: object) -> None:
        try:
            token.run_sync_soon(landed.set)
        except trio.RunFinishedError:
            logger.debug("a trio run that waited for a token is over")

    landing.add_done_callback(notify)
    with trio.move_on_after(seconds):
        await landed.wait()
    return landing.done()
