"""A fetch in progress, which every caller that needs a token can wait for.

Invariant: every flight lands exactly once, no matter how the fetch ends: with the token, with a failure (as data, from
which each waiter makes its own exception), or with ``ABANDONED``, after which a waiter starts another. A waiting caller
looks at the flight each second. If its thread has ended, or was never started, that caller lands it.
"""

from __future__ import annotations

from copy import copy
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias

from .._base.records import Record
from .._base.tokens import Token
from .._threads.landings import LOOK, Landing
from ..errors import OktaM2MError

if TYPE_CHECKING:
    from collections.abc import Callable

_ON_THE_WAY: Final = (__name__.partition(".")[0] + ".", "concurrent.futures.")
"""The modules that an exception passes through on its way from the caller's own ``send``."""


class _Abandoned(Record):
    """The fetch was abandoned: a waiter starts another."""


ABANDONED: Final = _Abandoned()

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
        self.landing = Landing()

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
