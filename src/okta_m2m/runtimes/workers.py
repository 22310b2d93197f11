"""Runs work that may hang in its own daemon thread, so that it delays neither a call, nor the end of an event loop or
of the process.

The threads of ``asyncio.to_thread`` and of executors cause such delays, because a loop and the interpreter wait for
them before they end.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from .._core.flights import forks, mutex

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["start", "start_in_turn", "start_thread", "too_slow"]

MOST_AT_ONCE: Final = 128
"""The maximum number of threads for one signer: ten thousand tasks may each need a proof at the same moment."""

LONGEST_BEFORE_FORK: Final = 0.5
"""Seconds that a fork waits for the latest threads to end."""

_latest: deque[threading.Thread] = deque(maxlen=8)

T = TypeVar("T")


def start(work: Callable[[], T], purpose: str) -> Future[T] | None:
    """Starts ``work``. Returns ``None`` if no thread can be started any more, for example while the interpreter shuts down:
    then do the work inline."""
    job, working = _job(work)
    return None if start_thread(job, purpose) is None else working


def start_in_turn(work: Callable[[], T], purpose: str, whose: object) -> Future[T] | None:
    """Like :func:`start`, for work with an object that many callers may use: a few run at a time, the others wait their
    turn. Cancel the future of work that is no longer needed."""
    job, working = _job(work)
    key = forks(), id(whose)  # the work refers to that object, and a forked child has none of these threads
    with mutex():
        line = _lines.setdefault(key, _Line())
        if line.threads >= MOST_AT_ONCE:
            line.waiting.append(job)
            return working
        line.threads += 1

    def jobs() -> None:
        job()
        line.work_off(key)

    if start_thread(jobs, purpose) is None:
        line.work_off(key)
        return None
    return working


def _job(work: Callable[[], T]) -> tuple[Callable[[], None], Future[T]]:
    from concurrent.futures import Future
    from contextvars import copy_context

    working: Future[T] = Future()

    def run() -> None:
        if not working.set_running_or_notify_cancel():
            return
        try:
            answer = work()
        except BaseException as error:  # noqa: BLE001 (it is passed to the waiter)
            working.set_exception(error)
        else:
            working.set_result(answer)

    return partial(copy_context().run, run), working  # so that a tracer counts the work as the starter's


def start_thread(job: Callable[[], object], purpose: str) -> threading.Thread | None:
    """A daemon thread that does the job. ``None`` if no thread can be started any more."""
    handled, thread = sys.exception(), threading.Thread(target=job, name=f"okta-m2m {purpose}", daemon=True)
    try:
        thread.start()
    except (RuntimeError, KeyError) as error:
        # If a signal handler raises in start(), Python's own cleanup may fail with one of these errors: it had no lock to
        # release, or the thread to forget was already running.
        interruption = error.__context__
        if interruption is not None and interruption is not handled:
            raise interruption from None
        return None
    _latest.append(thread)
    return thread


def _let_threads_end() -> None:
    """Before a fork: a thread that signed holds a lock of OpenSSL while it ends. If a child is forked in that moment, its
    first signature waits for that lock forever, and holds the interpreter's own (OpenSSL does not support such forks)."""
    deadline, own = time.monotonic() + LONGEST_BEFORE_FORK, threading.get_native_id()
    for thread in list(_latest):
        while thread.native_id != own and _exists(thread) and time.monotonic() < deadline:
            time.sleep(0.0005)


def _exists(thread: threading.Thread) -> bool:
    """Whether the system still has the thread, which ends after Python says that it has."""
    if sys.platform == "linux":
        return os.path.exists(f"/proc/self/task/{thread.native_id}")
    return thread.is_alive()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_let_threads_end)


class _Line:
    """The callers that wait for a signer, and the number of its threads."""

    __slots__ = ("threads", "waiting")

    def __init__(self) -> None:
        self.threads = 0
        self.waiting: deque[Callable[[], None]] = deque()

    def work_off(self, key: tuple[int, int]) -> None:
        """Does all waiting work. Then this thread ends."""
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
