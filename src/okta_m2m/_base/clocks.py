"""The time, on this machine and at Okta.

Invariant: a clock that can step, or that stops while the machine sleeps, never decides whether a token is still
valid. The wall clock is only a first guess at Okta's time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

NEVER = float("-inf")
"""A moment of the steady clock in the past. One object for all apps, of which there may be many."""


def _steady() -> Callable[[], float]:
    # time.monotonic() stops during suspend on Linux (CLOCK_MONOTONIC) and on macOS (mach_absolute_time): after sleep, a laptop
    # would use an expired token. On Windows, it includes the time asleep.
    if sys.platform == "linux":
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)  # called for each request, so without a Python frame
    if sys.platform == "darwin":
        return partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    return time.monotonic


class Clock:
    """Two clocks in seconds: the machine's own, unless a simulation passes others.

    - ``now``: a steady clock, which neither steps nor stops; only differences are meaningful.
    - ``wall``: seconds since the epoch by this machine's clock.
    """

    __slots__ = ("now", "wall")

    def __init__(self, now: Callable[[], float] | None = None, wall: Callable[[], float] = time.time) -> None:
        self.now = now or _steady()
        self.wall = wall


SYSTEM_CLOCK = Clock()


class OktaClock:
    """Okta's time in seconds since the epoch, learned from the ``Date`` header of the token endpoint's responses, and
    of the org's if it refuses a DPoP proof.

    Once learned, it advances with the steady clock, so it does not matter if the wall clock is wrong or is corrected
    later. ``Date`` is truncated to whole seconds, and may be as old as its response was slow. So a time that a ``Date`` does
    not contradict is kept, and otherwise this clock is late rather than early: Okta refuses an ``iat`` in its future.
    """

    __slots__ = ("_ahead", "_clock")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead: float | None = None  # of the steady clock, in seconds

    def now(self) -> float:
        """Seconds since the epoch at Okta; by this machine's wall clock until the first response."""
        ahead = self._ahead
        return self._clock.wall() if ahead is None else self._clock.now() + ahead

    def at(self, steady: float) -> float:
        """Seconds since the epoch at Okta when the steady clock reads ``steady``."""
        return self.now() - (self._clock.now() - steady)

    def learn(self, date: str | None, took: float = 0.0) -> float:
        """Adopts a ``Date`` header that was just received, unless it agrees with this clock. Returns the seconds by which
        that moved the clock (0 if it is not usable).

        ``took``: seconds from the request to the response, in which ``Date`` may have been written at any moment. Use 0 for a
        refusal that may be due to this clock: the next attempt then differs by as much as it can.
        """
        earliest, before = http_date(date), self.now()
        if earliest is None:
            return 0.0
        okta_now = before if earliest <= before <= earliest + 1 + took else earliest
        self._ahead = okta_now - self._clock.now()
        return okta_now - before


def http_date(value: str | None) -> float | None:
    """Seconds since the epoch of an HTTP date (RFC 9110 section 5.6.7); ``None`` for anything else."""
    if not value:
        return None
    from datetime import UTC
    from email.utils import parsedate_to_datetime  # imports sockets; needed only for responses

    try:
        moment = parsedate_to_datetime(value)
        # Without a zone, or with "-0000", it is still UTC: an HTTP date has no other zone (RFC 9110 section 5.6.7).
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
