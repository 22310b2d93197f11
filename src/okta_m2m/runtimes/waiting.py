"""Waiting for what lands in another thread or on another loop: for very many threads, and for very many tasks."""

from __future__ import annotations

import logging
import math
import threading
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

__all__: list[str] = []

logger = logging.getLogger("okta_m2m")

DOORS: Final = 64
"""Threads that are woken at once when what they wait for has landed."""


class _Doors:
    """The threads that wait for one landing: they leave by 64 doors, by each of them one after another.

    A future's own ``result`` wakes them all at once. Each then needs the future's lock and the interpreter, and they take
    these from one another; a thread that computes meanwhile gets its turn between any two of them. It does with a single
    door, too, since whoever is out needs the interpreter to let out the next.
    """

    __slots__ = ("_landed", "_locks", "_turns")

    def __init__(self) -> None:
        self._landed = False
        self._locks = [threading.Lock() for _ in range(DOORS)]
        for lock in self._locks:
            lock.acquire()
        self._turns = count()

    def open(self, _: object) -> None:
        """It landed, in whatever thread."""
        self._landed = True
        for lock in self._locks:
            with suppress(RuntimeError):  # somebody whose time was just over has opened it
                lock.release()

    def wait(self, seconds: float) -> bool:
        lock = self._locks[next(self._turns) % DOORS]
        try:
            lock.acquire(timeout=seconds)
        finally:
            # Even if an exception has come upon us, a signal's or another thread's: those behind us wait for this. None
            # can come in between, because that happens where something is called, and nothing is before the release.
            if self._landed:
                try:  # noqa: SIM105 (that would call something)
                    lock.release()
                except RuntimeError:  # it was open already
                    pass
        return self._landed


_at_doors: WeakKeyDictionary[Future[Any], _Doors] = WeakKeyDictionary()


def _doors(landing: Future[Any]) -> _Doors:
    doors = _at_doors.get(landing)
    if doors is None:
        made = _Doors()
        landing.add_done_callback(made.open)  # before anybody may stand there
        doors = _at_doors.setdefault(landing, made)  # another thread may have been quicker
    return doors


AT_ONCE: Final = 500
"""Waiters that are woken in one turn of the loop, so that a herd of thousands leaves it time for other things."""

TICK: Final = 0.01
"""Seconds between two looks for waiters whose time is over: of many, some are told so that much later."""


class _Waiters:
    """The tasks of one loop that wait for one landing: one callback and one timer, however many they are.

    Each has a future of its own, so that to cancel it concerns nobody else. All but ``tell`` happens in the loop's thread.
    """

    __slots__ = ("_armed", "_loop", "_timer", "_until")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._until: dict[asyncio.Future[None], float] = {}  # by the loop's clock, in the order in which they came
        self._timer: asyncio.TimerHandle | None = None
        self._armed = math.inf  # when the timer goes off

    def join(self, seconds: float) -> asyncio.Future[None]:
        """A future that is done when it landed, or ``seconds`` have passed. Whoever awaited it calls ``leave``."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._until[waiter] = until = self._loop.time() + seconds
        if until < self._armed:
            self._arm(until)
        return waiter

    def leave(self, waiter: asyncio.Future[None]) -> None:
        self._until.pop(waiter, None)

    def tell(self, _: object) -> None:
        """It landed, in whatever thread."""
        try:
            self._loop.call_soon_threadsafe(self._landed)
        except RuntimeError:
            logger.debug("okta-m2m: an event loop that waited for a token is gone")

    def _landed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wake(list(self._until))

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._armed = self._loop.call_at(at, self._over), at

    def _over(self) -> None:
        now = max(self._armed, self._loop.time())  # a timer may go off early, by its clock's resolution
        over = [waiter for waiter, until in self._until.items() if until <= now]
        for waiter in over:
            self.leave(waiter)
        self._timer, self._armed = None, math.inf
        if self._until:
            # Not for each of a herd on its own: every look is at all of them.
            self._arm(max(min(self._until.values()), now + TICK))
        self._wake(over)

    def _wake(self, waiters: list[asyncio.Future[None]]) -> None:
        for waiter in waiters[:AT_ONCE]:
            if not waiter.done():  # or else its task was cancelled
                waiter.set_result(None)
        if len(waiters) > AT_ONCE:
            self._loop.call_soon(self._wake, waiters[AT_ONCE:])


_waiting: WeakKeyDictionary[Future[Any], dict[asyncio.AbstractEventLoop, _Waiters]] = WeakKeyDictionary()


def _waiters(landing: Future[Any]) -> _Waiters:
    """Those of the running loop."""
    import asyncio

    loop = asyncio.get_running_loop()
    of_loops = _waiting.get(landing)
    if of_loops is None:
        of_loops = _waiting.setdefault(landing, {})  # another loop's thread may have been quicker
    waiters = of_loops.get(loop)
    if waiters is None:
        waiters = of_loops[loop] = _Waiters(loop)
        landing.add_done_callback(waiters.tell)
    return waiters
