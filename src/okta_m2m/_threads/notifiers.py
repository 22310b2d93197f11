"""Notifies the log and observers of what happened, in a thread of their own, in the order in which it happened.

The code that reports something waits a moment, so that a program that looks at its events after a call sees them, but not
longer: an observer may be slow, fail, or make a call with the same app.

Invariant: with a thread to notify it, no call and no fetch waits for an observer longer than :data:`PATIENCE` at a time. Only
closing an app waits longer.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from .landings import Landing, forks, mutex
from .workers import on_event_loop, start_thread

if TYPE_CHECKING:
    pass

logger = logging.getLogger("okta_m2m")

PATIENCE: Final = 0.05
"""Seconds for which the code that reports something waits until the log and observers were notified."""

MAX_PENDING: Final = 1000
"""The number of notifications that wait for a slow observer. Beyond that, the oldest are dropped."""


class Notifier:
    """The notifications that a log and an observer have not received yet, and the thread that delivers them.

    - ``landing``: done when all were delivered; ``None`` if there are none.
    """

    __slots__ = ("_dropped", "_forks", "_is_slow", "_jobs", "_thread", "landing")

    def __init__(self) -> None:
        self._jobs: deque[Callable[[], object]] | None = None  # most apps have none most of the time
        self._dropped = 0
        self._forks = forks()
        self._is_slow = False
        self._thread = 0
        self.landing: Landing | None = None

    def notify(self, receiver: Callable[..., object], *arguments: object, **options: Any) -> None:
        """Calls ``receiver`` in the thread, in a copy of the caller's context, after all earlier notifications."""
        job = partial(copy_context().run, receiver, *arguments, **options)
        with mutex():
            if self._forks != forks():  # in a forked child; the parent delivers what came before
                self._jobs, self._forks, self.landing = None, forks(), None
            if self._jobs is not None:
                self._jobs.append(job)
                if len(self._jobs) > MAX_PENDING:
                    self._jobs.popleft()
                    self._dropped += 1
                return
            self._jobs = deque()
            self._jobs.append(job)
            self.landing, self._is_slow = Landing(), False
        if start_thread(self._work, "reports", finishes_at_exit=True) is None:
            self._work()

    def settle(self, seconds: float = PATIENCE) -> None:
        """Waits until all were delivered, but not if that would block an event loop, nor again for a slow observer."""
        pending = self.landing
        if pending is None or self._forks != forks() or self._thread == threading.get_ident():
            return
        if self._is_slow and seconds <= PATIENCE:
            return
        if not on_event_loop():
            self._is_slow = not pending.wait(seconds)

    def _work(self) -> None:
        self._thread = threading.get_ident()
        while (job := self._next()) is not None:
            try:
                job()
            except BaseException as fault:  # noqa: BLE001 (no caller can catch it)
                logger.warning("a log handler raised %s", type(fault).__name__)

    def _next(self) -> Callable[[], object] | None:
        with mutex():
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                return partial(logger.warning, "on_event or a log handler is slow: %d reports were dropped", dropped)
            if self._jobs:
                return self._jobs.popleft()
            landing, self._jobs, self.landing, self._thread = self.landing, None, None, 0
        if landing is not None:
            landing.land()
        return None
