"""The renewals that APIs force: the tokens that they rejected, and a budget for such renewals.

Forced renewals draw on a budget: :data:`FORCED_AT_ONCE`, and one more each :data:`FORCED_EVERY` seconds. So an API that
rejects every token, or every second one, causes a bounded number of token requests.

Invariant: only ``TokenState`` uses this, under the mutex.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .clocks import NEVER

if TYPE_CHECKING:
    from .tokens import Token

__all__ = ["ForcedRenewals"]

FORCED_AT_ONCE: Final = 3.0
FORCED_EVERY: Final = 60.0
"""The number of forced renewals that may be made at once, and the seconds until one more is allowed. If an API
rejects a renewed token that no API has accepted, that costs two: another token does not cure a wrong audience."""

MAX_REJECTED: Final = 16
"""The number of rejected tokens that are remembered."""


class ForcedRenewals:
    """The forced renewals of one app. Created with its first rejected token: most apps have none."""

    __slots__ = ("_at", "_budget", "_cost", "_digests", "_paid_at", "calls", "is_unproven")

    def __init__(self) -> None:
        self._budget, self._at = FORCED_AT_ONCE, NEVER
        self._cost, self._paid_at = 0, NEVER
        self._digests: tuple[bytes, ...] = ()
        self.calls = 0
        """The number of calls that reported the last rejected token."""
        self.is_unproven = False
        """Whether the current token replaces a rejected one, and no API has accepted it."""

    def draw(self, now: float) -> bool:
        """Pays for one forced renewal; ``False`` if the budget is too small."""
        cost = 2 if self.is_unproven else 1
        self._budget = min(FORCED_AT_ONCE, self._budget + (now - self._at) / FORCED_EVERY)
        self._at = now
        if self._budget < cost:
            return False
        self._budget -= cost
        self._cost, self._paid_at = cost, now
        return True

    def give_back(self) -> None:
        """Refunds the last renewal, which did not take place."""
        self._budget += self._cost
        self._cost = 0

    def replaced_by(self, token: Token) -> None:
        """Records that a token replaces the rejected one."""
        self.is_unproven = token.sent_at >= self._paid_at
        if not self.is_unproven:  # the new token was already on its way, and may have been revoked with the other
            self.give_back()

    def knows(self, digest: bytes) -> bool:
        """Whether that token was rejected."""
        return digest in self._digests

    def note(self, digest: bytes) -> bool:
        """Records a report about a token, if the previous report was about another one. Returns whether it is the first one."""
        self.calls = 1
        if digest in self._digests:
            return False
        self._digests = (*self._digests[1 - MAX_REJECTED :], digest)
        return True

    def note_again(self, digest: bytes) -> None:
        """Records that another call reports a token that has been replaced."""
        if digest in self._digests[-1:]:
            self.calls += 1
