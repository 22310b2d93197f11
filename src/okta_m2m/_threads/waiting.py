"""Lets event loops wait for what ends in a thread of ours: asyncio's, with very many tasks at once, and trio's.

All tasks of an asyncio loop that wait for one landing share a callback and a timer, and are woken in batches: with one timer
each, ten thousand tasks blocked the loop (measured by ``benchmarks/stampede_tasks.py``).

Invariant: the landing is never canceled, and a canceled waiter does not affect the others.
"""

from __future__ import annotations

import logging
import math
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

    from .landings import Landing

logger = logging.getLogger("okta_m2m")

AT_ONCE: Final = 500
"""The number of waiters that are woken in one iteration of the loop, so that thousands of them leave time for other work."""

TICK: Final = 0.01
"""Seconds between checks for waiters whose time is up. If there are many waiters, some wait that much longer."""


async def wait_here(landing: Landing, timeout: float) -> bool:  # noqa: ASYNC109 (the effect's own)
    """Waits on the running loop of asyncio or trio until ``landing`` is done, or until ``timeout`` seconds have passed.
    Returns whether it is done."""
    return await (wait_on_loop if is_asyncio() else wait_in_run)(landing, timeout)


def is_asyncio() -> bool:
    """Whether the running loop is asyncio's; otherwise it is trio's."""
    asyncio = sys.modules.get("asyncio")  # not imported here: a program with only threads and trio may not need it
    return asyncio is not None and asyncio._get_running_loop() is not None


async def wait_in_run(landing: Landing, timeout: float) -> bool:  # noqa: ASYNC109 (the effect's own)
    """:func:`wait_here` in a trio run."""
    import trio  # another project's; it is running

    landed = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def notify(_: object) -> None:
        try:
            token.run_sync_soon(landed.set)
        except trio.RunFinishedError:
            logger.debug("a trio run that waited for a token is over")

    landing.add_done_callback(notify)
    with trio.move_on_after(max(0.0, timeout)):
        await landed.wait()
    return landing.done()


async def wait_on_loop(landing: Landing, timeout: float) -> bool:  # noqa: ASYNC109 (the effect's own)
    """:func:`wait_here` on a loop of asyncio."""
    if not landing.done():
        waiters = _waiters_of(landing)
        waiter = waiters.join(timeout)
        try:
            return await waiter
        finally:
            waiters.leave(waiter)
    return True


class _Waiters:
    """The tasks of one loop that wait for one landing. Each has its own future. It is called when
    the landing is done, in any thread; its methods are called in the loop's thread."""

    __slots__ = ("_armed", "_timer", "_until", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._until: dict[asyncio.Future[bool], float] = {}  # on the loop's clock, in order of arrival
        self._timer: asyncio.TimerHandle | None = None
        self._armed = math.inf  # when the timer fires

    def join(self, seconds: float) -> asyncio.Future[bool]:
        """A future that is done when the landing is, or when ``seconds`` have passed. Its result says which: ``True`` for the
        landing. After awaiting it, call ``leave``."""
        waiter: asyncio.Future[bool] = self.loop.create_future()
        self._until[waiter] = until = self.loop.time() + seconds
        if until < self._armed:
            self._arm(until)
        return waiter

    def leave(self, waiter: asyncio.Future[bool]) -> None:
        self._until.pop(waiter, None)

    def __call__(self, _: object) -> None:
        try:
            self.loop.call_soon_threadsafe(self._landed)
        except RuntimeError:
            logger.debug("an event loop that waited for a token is gone")

    def _landed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wake(list(self._until), has_landed=True)

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._armed = self.loop.call_at(at, self._time_over), at

    def _time_over(self) -> None:
        now = max(self._armed, self.loop.time())  # a timer may fire early, by its clock's resolution
        over = [waiter for waiter, until in self._until.items() if until <= now]
        for waiter in over:
            self.leave(waiter)
        self._timer, self._armed = None, math.inf
        if self._until:
            # Each check goes through all waiters, so check once per tick.
            self._arm(max(min(self._until.values()), now + TICK))
        self._wake(over, has_landed=False)

    def _wake(self, waiters: list[asyncio.Future[bool]], has_landed: bool) -> None:
        for waiter in waiters[:AT_ONCE]:
            if not waiter.done():  # its task may have been canceled
                waiter.set_result(has_landed)
        if len(waiters) > AT_ONCE:
            self.loop.call_soon(self._wake, waiters[AT_ONCE:], has_landed)


def _waiters_of(landing: Landing) -> _Waiters:
    """The waiters on the running loop. The landing refers to them, so they are freed with it."""
    import asyncio

    loop = asyncio.get_running_loop()
    for callback in list(landing.callbacks):
        if isinstance(callback, _Waiters) and callback.loop is loop:
            return callback
    waiters = _Waiters(loop)
    landing.add_done_callback(waiters)
    return waiters
