"""The events of a demonstration, as facts with their times, and the totals.

Invariant: facts are only added. Every time is in seconds since the first call.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

CLIENTS: Final = ("requests", "httpx", "httpx async", "aiohttp")
CALLERS: Final = 12  # in all clients together
LIFETIME: Final = 3.0  # lifetime of a token in seconds
FULL_LENGTH: Final = 6.0
"""Seconds that are enough for everything: renewals, a revocation, and errors of the token endpoint."""


class Call(NamedTuple):
    """One call by a client. ``bound``: it was sent with a DPoP token and a proof. ``failure``: ``None`` if it succeeded."""

    client: str
    began: float
    ended: float
    bound: bool
    failure: str | None


@dataclass
class Token:
    """A token that was obtained, as ``--json`` prints it.

    - ``number``: counted from 1.
    - ``in_background``: another token was still in use meanwhile.
    - ``token_endpoint_troubles``: the statuses other than 200 that the token endpoint returned since the token before.
    """

    number: int
    token_type: str
    asked_for_at: float
    obtained_at: float
    lifetime: float
    in_background: bool
    token_endpoint_troubles: list[int]
    revoked_at: float | None = None


@dataclass
class Story:
    """The plan, and the facts.

    - ``seconds``: how long the clients make calls.
    - ``dpop``: whether the org requires DPoP.
    - ``answers``: when the token endpoint responded, and the status.
    - ``rejections``: when a call got a 401, and whether it was sent again with another token.
    """

    seconds: float
    dpop: bool
    calls: list[Call] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    answers: list[tuple[float, int]] = field(default_factory=list)
    rejections: list[tuple[float, bool]] = field(default_factory=list)
    _start: float = math.inf

    def begin(self) -> None:
        self._start = time.perf_counter()

    def now(self) -> float:
        """Seconds since the start; 0 before it."""
        return max(0.0, time.perf_counter() - self._start)

    @property
    def failures(self) -> list[Call]:
        return [call for call in list(self.calls) if call.failure is not None]

    @property
    def ok(self) -> bool:
        """Whether every client made calls, and none failed."""
        return not self.failures and {call.client for call in self.calls} == set(CLIENTS)

    def slowest(self, since: float, until: float) -> float:
        """Duration in seconds of the slowest call that was in progress at any moment between the two."""
        during = [call for call in self.calls if call.began <= until and call.ended >= since]
        return max((call.ended - call.began for call in during), default=0.0)

    def totals(self, client: str) -> dict[str, float]:
        """The totals of one client's calls."""
        calls = [call for call in list(self.calls) if call.client == client]
        took = [1000 * (call.ended - call.began) for call in calls]
        return {
            "calls": len(calls),
            "failures": sum(call.failure is not None for call in calls),
            "bound_calls": sum(call.bound for call in calls),
            "mean_ms": round(sum(took) / max(1, len(took)), 1),
            "slowest_ms": round(max(took, default=0.0), 1),
        }

    def document(self) -> dict[str, Any]:
        """Everything except the individual calls, as ``--json`` prints it."""
        answers = Counter(status for _, status in self.answers)
        return {
            "ok": self.ok,
            "dpop": self.dpop,
            "seconds": round(self.seconds, 3),
            "calls": len(self.calls),
            "failures": len(self.failures),
            "tokens_minted": answers[200],
            "renewals": len(self.tokens[1:]),
            "renewals_in_background": sum(token.in_background for token in self.tokens[1:]),
            "healed_401s": sum(sent_again for _, sent_again in self.rejections),
            "bound_calls": sum(call.bound for call in self.calls),
            "token_endpoint_answers": {str(status): count for status, count in sorted(answers.items())},
            "clients": {client: self.totals(client) for client in CLIENTS},
            "tokens": [asdict(token) for token in self.tokens],
            "failed_calls": [
                {"client": call.client, "at": round(call.ended, 3), "failure": call.failure} for call in self.failures
            ],
        }
