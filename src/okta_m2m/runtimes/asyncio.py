"""Performs effects on an asyncio event loop.

Invariant: no policy here, and the loop is never blocked: blocking signers, key files and stores work in threads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from ..effects import (
    Effect,
    Flow,
    Response,
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
from .driving import AsyncSender, arun, report_lost, response_of
from .threads import call_store_in_thread, store_too_slow
from .waiting import wait_on_loop

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

    from ..keys import Signer

__all__ = ["Asyncio"]

T = TypeVar("T")
Waiter = Callable[["Future[Any]", float], Awaitable[bool]]
"""Waits on the running loop until a future is done, or until that many seconds have passed. Returns whether it is
done."""

_background: WeakKeyDictionary[asyncio.AbstractEventLoop, set[asyncio.Task[Any]]] = WeakKeyDictionary()


class Asyncio:
    """For asyncio, with any number of event loops at once.

    - ``send``: sends our own requests; awaitable.
    - ``error_map``: maps this package's error classes to the HTTP library's. Each error is an instance of both.
      Default ``None``.

    asyncio is imported only when a loop is running, so a program with only threads does not import it.
    """

    __slots__ = ("_send", "error_map")

    def __init__(self, send: AsyncSender, error_map: ErrorMap | None = None) -> None:
        self._send = send
        self.error_map: ErrorMap = error_map or {}

    def perform(self, effect: Effect[Any]) -> Awaitable[Any]:
        """Performs one ``effect``; awaited, it returns the result."""
        # Many tasks may wait for one token: this saves each of them a coroutine.
        return wait_on_loop(effect.landing, effect.timeout) if isinstance(effect, Wait) else self._perform(effect)

    async def _perform(self, effect: Effect[Any]) -> Any:
        import asyncio

        match effect:
            case Send(request, timeout):
                return await self._within(timeout, "answer", await_response(self._send(request, timeout)), SendFailed)
            case Sign(timeout=timeout):
                return await self._within(timeout, "signature", sign_on_loop(effect, wait_on_loop))
            case Snapshot(timeout=timeout):
                return await self._within(timeout, "key", snapshot_on_loop(effect, wait_on_loop))
            case Sleep(seconds):
                return await asyncio.sleep(seconds)
            case Spawn(flow, ended, awaited):
                return self._spawn(flow, ended, awaited)
            case StoreEffect():
                return await self._ask_store(effect)
        raise TypeError(f"no runtime performs {type(effect).__name__}")

    @staticmethod
    async def _within(
        timeout: float,  # noqa: ASYNC109 (the effect's own)
        what: str,
        answer: Awaitable[T],
        failure: type[Exception] = TimeoutError,
    ) -> T:
        import asyncio

        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await answer
        except TimeoutError:
            if not limit.expired():
                raise
        raise failure(workers.too_slow(what, timeout))

    async def _ask_store(self, effect: StoreEffect[Any]) -> Any:
        import asyncio
        from inspect import isawaitable

        try:
            async with asyncio.timeout(effect.timeout) as limit:
                if getattr(effect.store, "on_loop", False):
                    answer = effect.call()
                else:
                    working = call_store_in_thread(effect)
                    try:
                        if not await wait_on_loop(working, effect.timeout):
                            raise store_too_slow(effect)
                    except asyncio.CancelledError:
                        # The thread continues, and may get the claim, which must then be released.
                        if not limit.expired():
                            await wait_on_loop(working, effect.timeout)
                        raise
                    answer = working.result()
                return await answer if isawaitable(answer) else answer
        except TimeoutError:
            raise store_too_slow(effect) from None
        except StoreFailed:
            raise
        except Exception as error:
            raise StoreFailed(f"{type(error).__name__}: {error}") from error

    def _spawn(self, flow: Flow[Any], ended: Callable[[], None], awaited: bool) -> Callable[[], bool] | bool:
        import asyncio
        from contextvars import Context, copy_context

        loop = asyncio.get_running_loop()
        background = arun(flow, self)
        try:
            task = loop.create_task(background, name="okta-m2m fetch", context=copy_context() if awaited else Context())
        except RuntimeError:  # the loop is closing
            background.close()
            return False
        # Closing the loop while this task runs does no harm: the next call starts another fetch. So asyncio need
        # not warn about it; asyncio.gather suppresses that warning in the same way.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        tasks = _background.setdefault(loop, set())
        tasks.add(task)  # the loop itself has only weak references to tasks

        def finished(task: asyncio.Task[Any]) -> None:
            tasks.discard(task)
            flow.close()  # if the task was cancelled before it began, it did not close the flow
            if not task.cancelled() and (error := task.exception()) is not None:
                report_lost(error)
            ended()

        task.add_done_callback(finished)
        return lambda: not loop.is_closed()


async def await_response(answer: object) -> Response:
    """Awaits the response of a ``send``."""
    from inspect import isawaitable

    if isawaitable(answer):
        return response_of(await answer)
    raise ConfigurationError(
        f"send= returned {type(answer).__name__}, which cannot be awaited: it would block the event loop.",
        remedy="Make it an async def, or use a blocking client.",
    )


async def sign_on_loop(effect: Sign, wait: Waiter) -> bytes:
    """A signature, made in a thread if the signer may block."""
    from inspect import iscoroutinefunction

    signer, message = effect.signer, effect.message
    if getattr(signer, "in_memory", False) or iscoroutinefunction(signer.sign):
        signature = signer.sign(message)
    else:
        signature = await call_in_thread(lambda: signer.sign(message), effect.timeout, "signature", wait, signer)
    return signature if isinstance(signature, bytes) else await signature


async def snapshot_on_loop(effect: Snapshot, wait: Waiter) -> Signer:
    signer: Any = effect.signer  # yielded only for signers that have snapshot()
    snapshot: Signer = await call_in_thread(signer.snapshot, effect.timeout, "key", wait, signer)
    return snapshot


async def call_in_thread(
    work: Callable[[], T],
    timeout: float,  # noqa: ASYNC109 (the thread is limited)
    what: str,
    wait: Waiter,
    whose: object,
) -> T:
    """The result of ``work``, which runs in its own daemon thread, or in turn with others."""
    working = workers.start_in_turn(work, what, whose)
    if working is None:
        return work()
    try:
        if not await wait(working, timeout):
            raise TimeoutError(workers.too_slow(what, timeout))
        return working.result()
    finally:
        working.cancel()  # if it has not started
