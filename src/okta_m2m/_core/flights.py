"""A fetch in progress, which every caller that needs a token can wait for.

The landing is one ``concurrent.futures.Future``, which threads and any number of event loops can wait for. It is marked
running first, because otherwise one cancelled waiter would cancel it for all.

One mutex serves all apps of a process, of which there may be many. It is held only for an instant, and never
during I/O. Landing happens outside it, because waiters' callbacks run there.

Invariant: every flight lands exactly once, no matter how the fetch ends: with the token, with a failure (as data, from
which each waiter makes its own exception), or with ``ABANDONED``, after which a waiter starts another. A waiting caller
looks at the flight each second. If its thread has ended, or was never started, that caller lands it.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from copy import copy
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from weakref import WeakSet

from ..errors import OktaM2MError
from .records import Record
from .tokens import Token

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ABANDONED",
    "Failure",
    "Flight",
    "Outcome",
    "fork_listeners",
    "forks",
    "mutex",
    "new_landing",
    "wait_in_thread",
]


_ON_THE_WAY: Final = (__name__.partition(".")[0] + ".", "concurrent.futures.")
"""The modules that an exception passes through on its way from the caller's own ``send``."""


class _Abandoned(Record):
    """The fetch was abandoned: a waiter starts another."""


ABANDONED: Final = _Abandoned()

LOOK: Final = 1.0
"""Seconds between two looks of a waiting caller at the flight, and the time that its starter has to start it."""

LANDING_GRACE: Final = 0.9
"""Seconds that a caller waits beyond its own deadline, if the fetch ends in that time, because the fetch's error is more
informative."""


class Failure(Record):
    """A failed fetch. ``error`` itself is never raised, only a ``copy()``."""

    error: Exception

    def copy(self) -> Exception:
        """The failure as a new exception for one caller, with the same cause.

        An exception from the caller's own ``send`` keeps its traceback, without the frames of this package, which hold
        an assertion. This package's own errors need no traceback.
        """
        error = self.error
        if isinstance(error, OktaM2MError):
            return error.copy()
        try:
            made = copy(error)
        except Exception:  # noqa: BLE001 (an exception that cannot be copied)
            made = error
        made.__cause__ = error.__cause__
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_frame.f_globals.get("__name__", "").startswith(_ON_THE_WAY):
            traceback = traceback.tb_next
        return made.with_traceback(traceback)


Outcome: TypeAlias = Token | Failure | _Abandoned


def new_landing() -> Future[None]:
    """A future that any caller can wait for, and none can cancel.

    Threads wait with :func:`wait_in_thread`.
    """
    landing: Future[None] = Future()
    landing.set_running_or_notify_cancel()
    waiting = vars(landing)["okta_m2m_threads"] = _WaitingThreads()
    landing.add_done_callback(waiting.wake)
    return landing


def wait_in_thread(landing: Future[Any], timeout: float) -> bool:
    """Waits until the flight lands, or until ``timeout`` seconds have passed. Returns whether it landed."""
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


class Flight:
    """One fetch in progress, which was requested ``now`` on the steady clock and may take ``max_wait`` seconds.

    - ``renews``: the token that still works, which the fetch replaces; ``None`` if there is none.
    - ``is_forced``: whether an API rejected that token, and its callers wait for another.
    - ``deadline``: the time by which the fetch must end. It may have waited its turn before, so :meth:`begin` sets it again.
    - ``limit``: the latest deadline, if a caller runs the fetch itself because no thread can be started.
    - ``attempts``: the number of token requests that were sent.
    - ``is_running``: says whether the fetch waits its turn or its thread lives; ``None`` until it is started.
    - ``outcome``: set once it has landed. It is not read from the landing, because a thousand threads that wake at once
      would each take its lock again.
    """

    __slots__ = (
        "_began",
        "_requested",
        "attempts",
        "deadline",
        "is_forced",
        "is_running",
        "landing",
        "limit",
        "outcome",
        "renews",
    )

    def __init__(self, now: float, max_wait: float, renews: Token | None, is_forced: bool = False) -> None:
        self._requested = now
        self._began = False
        self.deadline = now + max_wait
        self.limit = inf
        self.renews = renews
        self.is_forced = is_forced
        self.attempts = 0
        self.is_running: Callable[[], bool] | None = None
        self.outcome: Outcome | None = None
        self.landing = new_landing()

    @property
    def is_renewal(self) -> bool:
        """Whether no caller waits for it."""
        return self.renews is not None and not self.is_forced

    @property
    def is_in_line(self) -> bool:
        """Whether it still waits its turn behind other fetches of this process."""
        return not self._began

    def begin(self, now: float, max_wait: float) -> None:
        """The fetch begins, after it has waited its turn."""
        self._began = True
        self.deadline = min(now + max_wait, self.limit)

    def latest(self, deadline: float) -> float:
        """The time until which a caller with that deadline waits: a moment longer, if the fetch ends in it."""
        return deadline + LANDING_GRACE if self.deadline < deadline + LANDING_GRACE else deadline

    def patience(self, now: float, deadline: float) -> float:
        """Seconds until a caller with that deadline looks at the fetch again."""
        return max(0.0, min(LOOK, self.latest(deadline) - now))

    def is_lost(self, now: float) -> bool:
        """Whether the fetch neither waits its turn nor runs: its thread has ended, or an exception interrupted the caller
        that should have started it."""
        if self.is_running is None:
            return not self._began and now >= self._requested + LOOK
        return not self.is_running()


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
