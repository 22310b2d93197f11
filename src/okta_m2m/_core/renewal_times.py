"""When a token is renewed: the share of its lifetime that passes before, and the pauses after a failed renewal or a refusal.

A random part in these times keeps the processes of a fleet from renewing all at once.
"""

from __future__ import annotations

import random
from typing import Final, Literal, TypeAlias

from .._base.tokens import Token

RENEWAL_SHARE: Final = (0.72, 0.82)
"""The share of a token's lifetime after which it is renewed: a random moment in this range."""

RENEWAL_SHARE_SHARED: Final = (0.93, 0.95)
"""The same for a shared token. The first of many processes that finds it due renews it for all, so the moment is close
to the lower end. Because all of them can try, they need less time. Of an hour, 4 minutes are left, as with most SDKs, and
a fleet sends at most 1.1 requests in each lifetime of a token. From the earlier moment on, each process only checks
whether the store works: if it does not, every process needs its own token, and some time to get it."""

LATEST_SHARE: Final = 0.98
"""The share of a token's lifetime by which a process without a working store has renewed it."""

LOOK_SHARE: Final = 0.05
"""The share of a token's lifetime between two checks of the store."""

OTHERS_PAUSE: Final = 1.0
"""Seconds until the store is read again for a renewal that another process has begun."""

FAILED_GROWTH: Final = 2.0
ABANDONED_GROWTH: Final = 4.0
"""The factors by which the pause before the next renewal (at first a second) grows after a failed renewal, and after one
without an outcome, whose thread could not be started or has ended. When the token has expired, a fetch starts at once."""

LONGEST_PAUSE: Final = 60.0
"""The maximum number of seconds between renewals while they fail."""

FIRST_REFUSAL: Final = 1.0
LONGEST_REFUSAL: Final = 60.0
"""The first and the longest time in seconds for which a refusal is repeated without a new request. The time is doubled
after each refusal."""

Postponed: TypeAlias = Literal["others are renewing it", "not due yet", "store has just failed"]
"""Why a working token is not renewed now. Until the renewal is due, a process only checks whether the store works."""


def moment_of_renewal(token: Token, now: float) -> float:
    """When this process renews a token."""
    return _moment(token, now, *RENEWAL_SHARE)


def is_due_for_all(token: Token, now: float) -> bool:
    """Whether it is time to renew a token that processes share. Before that, only a process without a working store
    does so."""
    return now >= token.sent_at + RENEWAL_SHARE_SHARED[0] * token.expires_in


def moment_after_postponing(why: Postponed, token: Token, now: float) -> float:
    """When this process tries again to renew a token that processes share."""
    if why == "others are renewing it":
        return now + OTHERS_PAUSE
    if why == "store has just failed":
        return _moment(token, now, 0.0, LATEST_SHARE)
    look = now + LOOK_SHARE * token.expires_in
    return _moment(token, now, *RENEWAL_SHARE_SHARED) if is_due_for_all(token, look) else look


def pause_after(failures: int, growth: float) -> float:
    """Seconds until the next renewal, after that many failures in a row."""
    longest = min(LONGEST_PAUSE, growth ** min(failures - 1, 10))
    return longest * random.uniform(0.75, 1.0)  # noqa: S311 (spreads load)


def pause_after_refusal(refusals: int) -> float:
    """Seconds for which a refusal is repeated, after that many in a row."""
    return min(LONGEST_REFUSAL, FIRST_REFUSAL * 2.0 ** min(refusals - 1, 10))


def _moment(token: Token, now: float, first: float, last: float) -> float:
    """A random moment between these shares of the token's lifetime, and not in the past."""
    first = min(max(first, (now - token.sent_at) / token.expires_in), last)
    return token.sent_at + random.uniform(first, last) * token.expires_in  # noqa: S311 (spreads load)
