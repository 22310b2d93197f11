"""Performs effects in a trio run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..effects import Effect, Flow, Send, Sign, Sleep, Snapshot, Spawn, StoreEffect, StoreFailed, Wait
from ..errors import ErrorMap
from .asyncio import _answered_on_loop, _signed
from .driving import AsyncSender, _lost, arun
from .threads import _in_thread, _too_slow

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Trio"]

logger = logging.getLogger("okta_m2m")


class Trio:
    """The same for trio. Background flows are system tasks that let nothing escape."""

    __slots__ = ("_send", "error_map")

    def __init__(self, send: AsyncSender, error_map: ErrorMap | None = None) -> None:
        self._send = send
        self.error_map: ErrorMap = error_map or {}

    async def perform(self, effect: Effect[Any]) -> Any:
        from contextvars import Context

        import trio

        match effect:
            case Send(request, timeout):
                return await _answered_on_loop(self._send(request, timeout))
            case Sign(signer, message):
                return await _signed(signer, message, trio.to_thread.run_sync)
            case Snapshot(signer):
                return await trio.to_thread.run_sync(signer.snapshot)  # type: ignore[attr-defined]  # only those that have it
            case Sleep(seconds):
                return await trio.sleep(seconds)
            case Wait(landing, timeout):
                return await self._wait(landing, timeout)
            case Spawn(flow, ended):
                trio.lowlevel.spawn_system_task(
                    self._in_background, flow, ended, name="okta-m2m renewal", context=Context()
                )
                return None
            case StoreEffect():
                return await self._stored(effect)
        raise TypeError(f"no runtime performs {type(effect).__name__}")

    async def _in_background(self, flow: Flow[Any], ended: Callable[[], None]) -> None:
        try:
            await arun(flow, self)
        except Exception as error:  # noqa: BLE001 (out of a system task it would take the whole run down)
            _lost(error)
        finally:
            ended()

    async def _stored(self, effect: StoreEffect[Any]) -> Any:
        from inspect import isawaitable

        import trio

        try:
            with trio.fail_after(effect.timeout):
                working = _in_thread(effect)
                await self._wait(working, effect.timeout)
                if not working.done():
                    raise _too_slow(effect)
                answer = working.result()
                return await answer if isawaitable(answer) else answer
        except trio.TooSlowError:
            raise _too_slow(effect) from None
        except StoreFailed:
            raise
        except Exception as error:
            raise StoreFailed(f"{type(error).__name__}: {error}") from error

    @staticmethod
    async def _wait(landing: Future[Any], seconds: float) -> bool:
        import trio

        landed = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def tell(_: object) -> None:
            try:
                token.run_sync_soon(landed.set)
            except trio.RunFinishedError:
                logger.debug("okta-m2m: a trio run that waited for a token is over")

        landing.add_done_callback(tell)
        with trio.move_on_after(seconds):
            await landed.wait()
        return landing.done()
