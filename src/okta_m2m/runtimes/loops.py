"""Performs effects for callers on an event loop of asyncio or trio.

A caller's loop waits, and signs with a key in memory. Everything else is performed by threads.

Invariant: no policy here, and the loop is never blocked, as long as threads can be started.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from typing import Any

from .._threads import workers
from .._threads.landings import landing_of
from .._threads.waiting import is_asyncio, wait_here, wait_in_run, wait_on_loop
from ..effects import Effect, Sign, Spawn, Wait
from ..errors import ErrorMap
from .driving import Sender
from .threads import Threads, begin_signing, signature_of


class _OnLoop:
    """What asyncio and trio have in common: threads perform everything but the waiting."""

    __slots__ = ("_threads", "error_map")

    def __init__(self, send: Sender, error_map: ErrorMap | None = None) -> None:
        self._threads = Threads(send, error_map)
        self.error_map: ErrorMap = error_map or {}


class Asyncio(_OnLoop):
    """For asyncio, with any number of event loops at once.

    - ``send``: sends our own requests; blocks, and is called in a thread.
    - ``error_map``: maps this package's error classes to the HTTP library's. Each error is an instance of both.
      Default ``None``.
    """

    __slots__ = ()

    def perform(self, effect: Effect[Any]) -> Awaitable[Any]:
        """Performs one ``effect``; awaited, it returns the result."""
        # Many tasks may wait for one token: this saves each of them a coroutine.
        return (
            wait_on_loop(effect.landing, effect.timeout)
            if isinstance(effect, Wait)
            else _perform(self._threads, effect)
        )


class Trio(_OnLoop):
    """For trio, with any number of runs at once.

    - ``send``: sends our own requests; blocks, and is called in a thread.
    - ``error_map``: maps this package's error classes to the HTTP library's. Each error is an instance of both. Default
      ``None``.
    """

    __slots__ = ()

    def perform(self, effect: Effect[Any]) -> Awaitable[Any]:
        """Performs one ``effect``; awaited, it returns the result."""
        return (
            wait_in_run(effect.landing, effect.timeout) if isinstance(effect, Wait) else _perform(self._threads, effect)
        )


def running(send: Sender, error_map: ErrorMap | None = None) -> Asyncio | Trio:
    """The runtime of the event loop that is running here.

    - ``send``: sends our own requests; blocks, and is called in a thread.
    - ``error_map``: maps this package's error classes to the HTTP library's. Each error is an instance of both.
      Default ``None``.
    """
    return Asyncio(send, error_map) if is_asyncio() else Trio(send, error_map)


async def _perform(threads: Threads, effect: Effect[Any]) -> Any:
    match effect:
        case Spawn():
            return threads.perform(effect)  # which only starts a thread
        case Sign(timeout=timeout):
            work, working = begin_signing(effect)
        case _:
            work, timeout = partial(threads.perform, effect), float("inf")  # which limits itself
            working = workers.start(work, "effect")
    if working is None:
        answer = work()
    else:
        try:
            if not await wait_here(landing_of(working), timeout):
                raise TimeoutError(workers.too_slow("signature", timeout))
            answer = working.result()
        finally:
            working.cancel()  # if it has not begun
            del working  # avoids a cycle: an exception's traceback would refer to it, and it refers to the exception
    return signature_of(effect.signer, answer) if isinstance(effect, Sign) else answer
