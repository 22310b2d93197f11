"""What threads and event loops wait for, and the one mutex.

A landing is one ``concurrent.futures.Future``, which threads and any number of event loops can wait for. It is marked
running first, because otherwise one cancelled waiter would cancel it for all.

One mutex serves all apps of a process, of which there may be many. It is held only for an instant, and never
during I/O. Landing happens outside it, because waiters' callbacks run there.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

if TYPE_CHECKING:
    from concurrent.futures import Future

LOOK: Final = 1.0
"""Seconds between two looks of a waiting caller at what it waits for, and the time that whoever starts it has to do so."""


def new_landing() -> Future[None]:
    """A future that any caller can wait for, and none can cancel.

    Threads wait with :func:`wait_in_thread`.
    """
    from concurrent.futures import Future  # heavy

    landing: Future[None] = Future()
    landing.set_running_or_notify_cancel()
    waiting = vars(landing)["okta_m2m_threads"] = _WaitingThreads()
    landing.add_done_callback(waiting.wake)
    return landing


def land(landing: Future[None]) -> None:
    """Ends a landing, if it has not ended."""
    from concurrent.futures import InvalidStateError  # heavy

    with suppress(InvalidStateError):
        landing.set_result(None)


def wait_in_thread(landing: Future[Any], timeout: float) -> bool:
    """Waits until ``landing`` is done, or until ``timeout`` seconds have passed. Returns whether it is done."""
    waiting: _WaitingThreads | None = vars(landing).get("okta_m2m_threads")
    if waiting is not None:
        return waiting.wait(timeout)
    try:
        landing.exception(timeout)
    except TimeoutError:
        return landing.done()
    return True


class _WaitingThreads:
    """The threads that wait for one landing. Each waits for its own lock.

    A future itself waits in Python code around a lock. If a signal handler raises in the middle of that code, its exception
    is lost, or the lock is never released and all callers wait forever.
    """

    __slots__ = ("_has_landed", "_locks")

    def __init__(self) -> None:
        self._locks: list[threading.Lock] = []
        self._has_landed = False

    def wait(self, timeout: float) -> bool:
        lock = threading.Lock()
        lock.acquire()
        self._locks.append(lock)
        # Check only now, because wake() sets the flag before it releases the locks.
        if not self._has_landed:
            lock.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))
        return self._has_landed

    def wake(self, _: object) -> None:
        self._has_landed = True
        for lock in self._locks:
            lock.release()
        self._locks.clear()


# Reentrant, because the garbage collector or a signal handler may run in a thread that holds it. Either may end an
# abandoned flow, whose flight then lands.
_mutex = threading.RLock()
_forks = 0
fork_listeners: WeakSet[Any] = WeakSet()
"""Objects whose ``after_fork`` is called in a forked child. Others compare :func:`forks` when they are next used."""


def mutex() -> threading.RLock:
    """The mutex that guards the state of every app; a new one after a fork."""
    return _mutex


def forks() -> int:
    """The number of forks between the process that imported the package and this one."""
    return _forks


def _after_fork() -> None:
    """In the child: replaces the mutex, because the thread that held it exists only in the parent."""
    global _mutex, _forks
    _mutex = threading.RLock()
    _forks += 1
    for listener in list(fork_listeners):
        listener.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)
