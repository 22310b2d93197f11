"""Deadlines for what this package reads of a response, because no library's own timeout limits the whole of one.

Invariant: whatever a server sends, and however slowly, no caller waits for it beyond the deadline.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any, Final, TypeVar

from .._base.clocks import SYSTEM_CLOCK
from . import workers
from .landings import Landing, landing_of
from .waiting import is_asyncio, wait_here

T = TypeVar("T")

BODY_TIMEOUT: Final = 1.0
"""Seconds for which a call waits for the start of a rejected response, and for the rest of one that no one gets."""


def within(
    seconds: float,
    work: Callable[[], T],
    failure: type[Exception] = TimeoutError,
    give_up: Callable[[], object] = bool,
) -> T:
    """The result of ``work``, which a thread does. If that takes longer, calls ``give_up`` and raises ``failure``."""
    working = workers.start(work, "response")
    if working is None:  # the interpreter shuts down
        return work()
    try:
        if landing_of(working).wait(seconds):
            return working.result()
    finally:
        del working  # avoids a cycle: an exception's traceback would refer to it, and it refers to the exception
    give_up()
    raise failure(workers.too_slow("complete response", seconds))


class Start:
    """The body of a rejected response, of which a thread or a task reads the start, for at most :data:`BODY_TIMEOUT`.

    A read that takes longer goes on: to interrupt it would end the connection, and the caller may want the whole response.
    Then the caller's own read waits for it. A body that breaks off ends there.

    - ``pieces``: yields the body; ``async`` for the methods whose names begin with ``a``.
    - ``shut``: ends the connection, in whatever thread its body is read.
    """

    def __init__(self, pieces: Any, shut: Callable[[], object] = bool) -> None:
        self._pieces = pieces
        self._shut = shut
        self._head: list[bytes] = []
        self._until = SYSTEM_CLOCK.now() + BODY_TIMEOUT
        self._landing = Landing()

    def read(self, limit: int) -> bytes:
        """At least ``limit`` bytes, if that many arrive in time. Call it once."""
        if workers.start(partial(self._read, limit), "body") is None:  # the interpreter shuts down
            self._read(limit)
        self._landing.wait(BODY_TIMEOUT)
        return b"".join(self._head)

    async def aread(self, limit: int) -> bytes:
        """:meth:`read` on an event loop."""
        self._shut = _start_task(self._aread(limit))
        await wait_here(self._landing, BODY_TIMEOUT)
        return b"".join(self._head)

    def close(self) -> None:
        """Ends a read that has not ended."""
        if not self._landing.done():
            self._shut()

    async def aclose(self) -> None:
        """:meth:`close` on an event loop. Closes an async generator that nothing reads: trio warns of one that is left."""
        Start.close(self)  # a subclass's own may block
        end: Any = getattr(self._pieces, "aclose", None)
        if end is not None and self._landing.done():
            with suppress(RuntimeError):  # the caller reads from it in another task
                await end()

    def _read(self, limit: int) -> None:
        try:
            with suppress(Exception):
                while self._is_short(limit):
                    self._head.append(next(self._pieces))
        finally:
            self._landing.land()

    async def _aread(self, limit: int) -> None:
        try:
            with suppress(Exception):
                while self._is_short(limit):
                    self._head.append(await anext(self._pieces))
        finally:
            self._landing.land()

    def _is_short(self, limit: int) -> bool:
        return sum(map(len, self._head)) < limit and SYSTEM_CLOCK.now() < self._until

    def __iter__(self) -> Iterator[bytes]:
        self._landing.wait(inf)
        yield from self._head
        yield from self._pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await wait_here(self._landing, inf)
        for piece in self._head:
            yield piece
        async for piece in self._pieces:
            yield piece


def _start_task(work: Coroutine[Any, Any, None]) -> Callable[[], object]:
    """Starts a coroutine, which raises nothing, beside the running task. Returns a function that cancels it."""
    if is_asyncio():
        import asyncio

        return asyncio.get_running_loop().create_task(work).cancel
    import trio  # another project's; it is running

    scope = trio.CancelScope()

    async def cancellable() -> None:
        with scope:
            await work

    trio.lowlevel.spawn_system_task(cancellable)
    return scope.cancel
