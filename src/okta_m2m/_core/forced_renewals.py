"""The renewals that one origin forces: how often it rejected tokens, and how many more renewals that may cause.

An origin that accepts a renewed token may force another renewal at once: its rejection was true. One that does not
may force :data:`MOST_FORCED` in :data:`PERIOD` seconds: a new token does not cure a wrong audience. None may force more than
:data:`MOST_AT_ONCE` in a minute: of an API's servers, one may reject what the others accept. Processes that share a
token share these counts: a stored token says which origins forced its renewal, and did not accept the one before.

Invariant: only ``TokenState`` changes this, under the mutex.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final, TypeAlias

MOST_FORCED: Final = 3
PERIOD: Final = 3600.0

MOST_AT_ONCE: Final = 20
MINUTE: Final = 60.0

MAX_ORIGINS: Final = 64
"""The number of origins whose rejections are remembered."""

MAX_REPORTED: Final = 4
"""The number of tokens whose rejection by an origin was already reported."""

MAX_ACCEPTED: Final = 16
"""The number of accepted renewals that do not count again if a stored token still names them."""

ForcedByOrigin: TypeAlias = Mapping[str, Mapping[str, float]]
"""For each origin, the renewals that it forced and did not accept: their names, each with its time. Processes know a renewal by
its name, because each converts its time to a clock of its own."""


class ForcedRenewals:
    """The rejections by one origin.

    - ``calls``: the number of calls that reported the last rejected token.
    """

    __slots__ = ("_accepted", "_latest", "_own", "_reported", "_shared", "calls")

    def __init__(self) -> None:
        self._own: dict[str, float] = {}  # the renewals that this process made for the origin
        self._shared: Mapping[str, float] = {}  # those of which a stored token says that other processes made them
        self._accepted: tuple[str, ...] = ()
        self._latest: tuple[float, ...] = ()  # the times of all that this process made, accepted or not
        self._reported: tuple[bytes, ...] = ()
        self.calls = 0

    def may_force(self, now: float) -> bool:
        in_last_minute = sum(now - MINUTE < time for time in self._latest)
        return len(self.recent(now)) < MOST_FORCED and in_last_minute < MOST_AT_ONCE

    def recent(self, now: float) -> dict[str, float]:
        """The latest renewals that still count."""
        known = {**self._shared, **self._own}
        recent = [(name, time) for name, time in known.items() if now - PERIOD < time]
        return dict(sorted(recent, key=lambda renewal: renewal[1])[-MOST_FORCED:])

    def force(self, now: float) -> None:
        """Counts a renewal that begins for this origin."""
        name = f"{random.getrandbits(64):016x}"
        self._own = {**dict(list(self._own.items())[1 - MOST_FORCED :]), name: now}
        self._latest = (*self._latest[1 - MOST_AT_ONCE :], now)

    def give_back(self, sent_at: float) -> None:
        """The last renewal does not count: there was none, or its token was requested at ``sent_at``, before the rejection,
        and may have been revoked together with the rejected one."""
        if self._own and list(self._own.values())[-1] > sent_at:
            self._own, self._latest = dict(list(self._own.items())[:-1]), self._latest[:-1]

    def adopt(self, renewals: Mapping[str, float]) -> None:
        """A stored token says which renewals were forced for this origin. They may include this process's own."""
        self._shared = {name: time for name, time in renewals.items() if name not in self._accepted}

    def accepted(self) -> None:
        """The origin accepted a renewed token."""
        self._accepted = (*self._accepted, *self._own, *self._shared)[-MAX_ACCEPTED:]
        self._own, self._shared = {}, {}

    def note(self, digest: bytes) -> bool:
        """Records that a call reports a token. Returns whether it is the first one."""
        if digest in self._reported:
            return False
        self._reported = (*self._reported[1 - MAX_REPORTED :], digest)
        self.calls = 1
        return True

    def note_again(self, digest: bytes) -> None:
        """Records that another call reports a token that is being replaced."""
        if digest in self._reported[-1:]:
            self.calls += 1
