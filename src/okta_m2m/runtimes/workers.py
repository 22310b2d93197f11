"""Work that may hang, in a daemon thread of its own: so it holds up neither a call, nor an event loop's end, nor the process's.

The threads of ``asyncio.to_thread`` and of an executor do: a loop and the interpreter wait for them when they end.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from .._core.flights import forks, mutex

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["start", "start_in_turn", "too_slow"]

MOST_AT_ONCE: Final = 128
"""Threads that one signer has at a time: of ten thousand tasks, each may need a proof at the same moment."""

T = TypeVar("T")


def start(work: Callable[[], T], purpose: str) -> Future[T] | None:
    """Starts ``work``. ``None`` if no thread can be started any more, as while the interpreter shuts down: do it inline."""
    job, working = _job(work)
    return working if _start_thread(job, purpose) else None


def start_in_turn(work: Callable[[], T], purpose: str, whose: object) -> Future[T] | None:
    """The same for what very many may want of one object: a few at a time, the others when it is their turn. Cancel the
    future of what is not wanted any more."""
    job, working = _job(work)
    key = forks(), id(whose)  # the work keeps that object, and in a forked child there are none of these threads
    with mutex():
        line = _lines.setdefault(key, _Line())
        if line.threads >= MOST_AT_ONCE:
            line.waiting.append(job)
            return working
        line.threads += 1

    def jobs() -> None:
        job()
        line.work_off(key)

    if _start_thread(jobs, purpose):
        return working
    line.work_off(key)
    return None


def _job(work: Callable[[], T]) -> tuple[Callable[[], None], Future[T]]:
    from concurrent.futures import Future
    from contextvars import copy_context

    working: Future[T] = Future()

    def run() -> None:
        if not working.set_running_or_notify_cancel():
            return
        try:
            answer = work()
        except BaseException as error:  # noqa: BLE001 (it is handed to the waiter)
            working.set_exception(error)
        else:
            working.set_result(answer)

    return partial(copy_context().run, run), working  # the work is the starter's, for a tracer too


def _start_thread(job: Callable[[], None], purpose: str) -> bool:
    try:
        threading.Thread(target=job, name=f"okta-m2m {purpose}", daemon=True).start()
    except RuntimeError:
        return False
    return True


class _Line:
    """Who waits for a signer, and how many threads are at it."""

    __slots__ = ("threads", "waiting")

    def __init__(self) -> None:
        self.threads = 0
        self.waiting: deque[Callable[[], None]] = deque()

    def work_off(self, key: tuple[int, int]) -> None:
        """Does what is waiting, until there is nothing: then one thread less is at it."""
        while True:
            with mutex():
                if not self.waiting:
                    self.threads -= 1
                    if not self.threads:
                        _lines.pop(key, None)
                    return
                job = self.waiting.popleft()
            job()


_lines: dict[tuple[int, int], _Line] = {}


def too_slow(what: str, timeout: float) -> str:
    return f"no {what} within {timeout:.3g} s"
