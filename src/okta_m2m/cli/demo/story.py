"""The events of a demonstration, as facts with their times, and the totals.

Invariant: facts are only added, by the thread that saw them. Every time is in seconds since the start.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

__all__ = ["FULL_LENGTH", "Answer", "Call", "ClientTotals", "Obtained", "Rejection", "Revocation", "Story"]

FULL_LENGTH: Final = 6.0
"""Seconds that are enough for everything: renewals, a revocation, and errors of the token endpoint."""


class Call(NamedTuple):
    """One call by a client. ``bound``: it was sent with a DPoP token and a proof. ``failure``: ``None`` if it succeeded."""

    client: str
    began: float
    ended: float
    bound: bool
    failure: str | None


class Obtained(NamedTuple):
    """A token was obtained. ``began``: when it was first requested; ``background``: another token was still in use."""

    began: float
    at: float
    token_type: str
    lifetime: float
    background: bool


class Answer(NamedTuple):
    """The token endpoint responded with this status."""

    at: float
    status: int


class Revocation(NamedTuple):
    """A token was revoked. ``token``: its number, from 1."""

    at: float
    token: int


class Rejection(NamedTuple):
    """A call got a 401. ``healed``: it was sent again with another token."""

    at: float
    healed: bool


class ClientTotals(NamedTuple):
    """The totals of one client's calls. Times are in seconds."""

    calls: int
    failures: int
    bound: int
    mean: float
    slowest: float


@dataclass
class Story:
    """The plan, and the facts.

    - ``clients``: their names.
    - ``seconds``: how long they make calls.
    - ``lifetime``: a token's lifetime in seconds.
    - ``callers``: the number of callers in all clients together.
    - ``dpop``: whether the org requires DPoP.
    - ``minted``: the number of tokens that the org has issued.
    """

    clients: Sequence[str]
    seconds: float
    lifetime: float
    callers: int
    dpop: bool
    calls: list[Call] = field(default_factory=list)
    obtained: list[Obtained] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    revocations: list[Revocation] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    minted: int = 0
    _start: float = field(default_factory=time.perf_counter)

    def begin(self) -> None:
        """Starts the clock."""
        self._start = time.perf_counter()

    def now(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    # ── what it adds up to ───────────────────────────────────────────────────────────────────────────────────────

    @property
    def failures(self) -> list[Call]:
        """Calls that failed."""
        return [call for call in self.calls if call.failure is not None]

    @property
    def ok(self) -> bool:
        """Whether every client made calls, and none failed."""
        return not self.failures and all(self.totals(client).calls for client in self.clients)

    @property
    def renewals(self) -> int:
        """Tokens after the first."""
        return max(0, len(self.obtained) - 1)

    @property
    def renewals_ahead(self) -> int:
        """Renewals during which the previous token was still in use."""
        return sum(obtained.background for obtained in self.obtained[1:])

    @property
    def healed(self) -> int:
        """401s after which the call was sent again."""
        return sum(rejection.healed for rejection in self.rejections)

    @property
    def bound(self) -> int:
        """Calls with a DPoP token and a proof."""
        return sum(call.bound for call in self.calls)

    def totals(self, client: str) -> ClientTotals:
        """The totals of one client's calls."""
        calls = [call for call in self.calls if call.client == client]
        took = [call.ended - call.began for call in calls]
        return ClientTotals(
            len(calls),
            sum(call.failure is not None for call in calls),
            sum(call.bound for call in calls),
            sum(took) / len(took) if took else 0.0,
            max(took, default=0.0),
        )

    def slowest(self, since: float, until: float) -> float:
        """Duration in seconds of the slowest call that was in progress at any moment between the two."""
        return max(
            (call.ended - call.began for call in self.calls if call.began <= until and call.ended >= since), default=0
        )

    def errors_before(self, obtained: Obtained) -> list[int]:
        """The statuses other than 200 that the token endpoint returned between the token before and that one, in order."""
        before = [token.at for token in list(self.obtained) if token.at < obtained.at]
        since = max(before, default=0.0)
        return [
            answer.status for answer in list(self.answers) if answer.status != 200 and since < answer.at <= obtained.at
        ]

    def document(self) -> dict[str, Any]:
        """Everything except the individual calls, as ``--json`` prints it."""
        answers = Counter(answer.status for answer in self.answers)
        return {
            "ok": self.ok,
            "dpop": self.dpop,
            "seconds": round(max([self.seconds, *(call.ended for call in self.calls)]), 3),
            "calls": len(self.calls),
            "failures": len(self.failures),
            "tokens_minted": self.minted,
            "renewals": self.renewals,
            "renewals_in_background": self.renewals_ahead,
            "healed_401s": self.healed,
            "bound_calls": self.bound,
            "token_endpoint_answers": {str(status): count for status, count in sorted(answers.items())},
            "clients": {client: self._client(client) for client in self.clients},
            "tokens": [self._token(number) for number in range(1, len(self.obtained) + 1)],
            "failed_calls": [
                {"client": call.client, "at": round(call.ended, 3), "failure": call.failure} for call in self.failures
            ],
        }

    def _client(self, client: str) -> dict[str, Any]:
        totals = self.totals(client)
        return {
            "calls": totals.calls,
            "failures": totals.failures,
            "bound_calls": totals.bound,
            "mean_ms": round(1000 * totals.mean, 1),
            "slowest_ms": round(1000 * totals.slowest, 1),
        }

    def _token(self, number: int) -> dict[str, Any]:
        obtained = self.obtained[number - 1]
        revoked = next((revocation.at for revocation in self.revocations if revocation.token == number), None)
        return {
            "number": number,
            "token_type": obtained.token_type,
            "asked_for_at": round(obtained.began, 3),
            "obtained_at": round(obtained.at, 3),
            "lifetime": obtained.lifetime,
            "in_background": obtained.background,
            "token_endpoint_troubles": self.errors_before(obtained),
            "revoked_at": None if revoked is None else round(revoked, 3),
        }
