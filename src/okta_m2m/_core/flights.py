"""Single flight: who is already fetching, so that everybody else can wait for that.

Boarding and landing are instant changes under a mutex that is held for microseconds, never across the network; only
waiting for the landing is an effect. The landing is one ``concurrent.futures.Future``, which threads and any number
of event loops can wait for. It is marked running first, because otherwise one cancelled waiter would cancel it for all.

Invariant: every flight lands, exactly once, whatever becomes of its leader: with the token, with a failure (as data,
from which each waiter makes an exception of its own), or with ``ABANDONED``, upon which a waiter takes over. A leader
that vanished without a trace (its event loop stopped for good) is overdue at ``due``, and then given up.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias
from weakref import WeakSet

from ..errors import OktaM2MError
from .records import Record
from .tokens import Token

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["ABANDONED", "Failure", "Flight", "Flights", "Outcome", "fork_listeners"]


class _Abandoned(Record):
    """Nobody fetches any more: whoever waits takes over."""


ABANDONED: Final = _Abandoned()


class Failure(Record):
    """A failed flight. ``error`` is a pattern: it is never raised itself, ``error.copy()`` is."""

    error: OktaM2MError


Outcome: TypeAlias = Token | Failure | _Abandoned


class Flight:
    """One fetch under way. ``due`` is the steady-clock reading after which its leader is given up; ``outcome`` is there when
    it lands. It is not read from the landing, whose lock a thousand threads that wake at once would take once more each."""

    __slots__ = ("due", "landing", "outcome")

    def __init__(self, due: float) -> None:
        from concurrent.futures import Future  # who only imports this package does not pay for it

        self.due = due
        self.outcome: Outcome | None = None
        self.landing: Future[None] = Future()
        self.landing.set_running_or_notify_cancel()


class _ToldOfForks(Protocol):
    def __hash__(self) -> int: ...
    def after_fork(self) -> None: ...


class Flights:
    """The mutex over a service app's state, and the one flight that may be in the air.

    There is one mutex for all the apps of a process, which may be very many: nobody holds it for longer than instants.
    """

    __slots__ = ("_current", "_process")

    def __init__(self) -> None:
        self._current: Flight | None = None
        self._process = _forks

    @property
    def mutex(self) -> threading.RLock:
        return _mutex

    def current(self) -> Flight | None:
        """The flight in the air. In a forked child there is none: its leader stayed behind in the parent."""
        return self._current if self._process == _forks else None

    def forked(self) -> bool:
        """Whether this is the first look after a fork, in the child. The mutex is held by the caller."""
        if self._process == _forks:
            return False
        self._current, self._process = None, _forks
        return True

    def board(self, now: float, due: float) -> tuple[Flight, bool]:
        """Joins the flight in the air, or opens one; says whether the caller leads it. The mutex is held by the caller."""
        self.forked()
        flight = self._current
        if flight is not None and now < flight.due:
            return flight, False
        if flight is not None:
            # Overdue. Those who wait for it have the same clock, and look again by themselves.
            flight.outcome = ABANDONED
            flight.landing.set_result(None)
        self._current = Flight(due)
        return self._current, True

    def land(self, flight: Flight, outcome: Outcome) -> None:
        """Ends a flight; the second landing of one is no event. The mutex is not held: waiters' callbacks run in here."""
        with self.mutex:
            if self._current is flight:
                self._current = None
            if flight.outcome is not None:
                return
            flight.outcome = outcome
        flight.landing.set_result(None)


# Reentrant: the garbage collector or a signal handler may end an abandoned flow, whose flight then lands, in a thread that
# holds it.
_mutex = threading.RLock()
fork_listeners: WeakSet[_ToldOfForks] = WeakSet()
"""Whose ``after_fork`` is called at once in a forked child. Flights need no such thing: they look when they are used."""

_forks = 0  # how many lie between this process and the one that imported the package


def _after_fork() -> None:
    """In the child: whoever held the mutex stayed behind in the parent."""
    global _mutex, _forks
    _mutex = threading.RLock()
    _forks += 1
    for one in list(fork_listeners):
        one.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)
