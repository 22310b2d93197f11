"""What threads and event loops wait for, and the one mutex.

One mutex serves all apps of a process, of which there may be many. It is held only for an instant, and never
during I/O. Landing happens outside it, because waiters' callbacks run there.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

LOOK: Final = 1.0
"""Seconds after which a waiting caller checks again what it waits for. The caller that starts it has that long to do so."""

WOKEN_AT_ONCE: Final = 16
"""The number of threads that a landing wakes. Each of them wakes another, because a thousand threads that wake at the same
moment compete for the interpreter."""


class Landing:
    """Something that ends, which any number of threads and event loops can wait for, and none can cancel.

    Each thread waits for a lock of its own. A ``concurrent.futures.Future`` waits in Python code around a lock. If a signal
    handler raises in the middle of that code, its exception is lost, or the lock is never released and all callers wait
    forever. For the garbage collector, it is 11 objects, and this is 2: with ten thousand cold apps on one event loop, most of
    the time that the loop stood still was the collector's.
    """

    __slots__ = ("__weakref__", "_has_landed", "_locks", "callbacks")

    def __init__(self) -> None:
        self._has_landed = False
        self._locks: dict[threading.Lock, None] = {}
        self.callbacks: list[Callable[[Landing], object]] = []

    def done(self) -> bool:
        """Whether it has ended."""
        return self._has_landed

    def land(self) -> None:
        """Ends it, if it has not ended, and wakes all that wait for it."""
        self._has_landed = True
        self._wake_threads(WOKEN_AT_ONCE)
        self._call_back()

    def add_done_callback(self, callback: Callable[[Landing], object]) -> None:
        """Calls ``callback`` with this landing once it has ended, in any thread; at once, if it has ended already."""
        self.callbacks.append(callback)
        if self._has_landed:
            self._call_back()

    def wait(self, timeout: float) -> bool:
        """Blocks the thread until it has ended, or until ``timeout`` seconds have passed. Returns whether it has ended."""
        lock = threading.Lock()
        lock.acquire()
        self._locks[lock] = None
        try:
            # Check only now, because land() sets the flag before it releases the locks.
            if not self._has_landed:
                lock.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))
        finally:
            self._locks.pop(lock, None)
            if self._has_landed:
                self._wake_threads(1)
        return self._has_landed

    def _wake_threads(self, count: int) -> None:
        for _ in range(count):
            try:
                lock, _ = self._locks.popitem()
            except KeyError:
                return
            lock.release()

    def _call_back(self) -> None:
        while True:
            try:
                callback = self.callbacks.pop()
            except IndexError:
                return
            callback(self)


def landing_of(future: Future[Any]) -> Landing:
    """What ends when ``future`` is done."""
    landing = Landing()
    future.add_done_callback(lambda _: landing.land())
    return landing


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
