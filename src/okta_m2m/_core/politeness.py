"""When the token endpoint may be asked again.

One process sends at most about 20 requests a minute to an endpoint that fails, whatever ``max_wait`` is: failures are
remembered from one conversation (``conversation.py``) to the next, until the endpoint responds. Every change is one of these:

| what happens | the endpoint may be asked again | its failures |
|---|---|---|
| nothing yet | at once | none |
| ``failed(error)`` | after a pause, which grows with each failure in a row; not before any earlier time | one more |
| ``failed(error, lasting=True)`` | the same, but no caller waits for it | one more, which waiting does not heal |
| ``asked_to_wait(seconds)`` | when those seconds and a random time are over, whatever was said before | as before |
| ``answered()`` | as before | none |

Invariant: a pause ends within 5 minutes and 30 seconds, whatever the endpoint asks for.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from .._base.clocks import NEVER

if TYPE_CHECKING:
    from ..errors import TokenError

FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 4.5
JITTER: Final = 0.85
"""Seconds between attempts: doubled after each failure, minus a random part, so that the processes of a fleet do not
retry at the same moment. That makes twenty requests in the first minute and fifteen in each later one. If the endpoint
works again, that is noticed within five seconds."""

SHORTEST_SPREAD: Final = 5.0
LONGEST_SPREAD: Final = 30.0
"""Seconds over which processes spread their next request, if the endpoint gave all of them the same time to wait: as long
as that wait, within these bounds, and no longer than their callers can wait."""

LONGEST_BELIEVED: Final = 300.0
"""Seconds. If an endpoint asks for a longer wait, that is ignored, because Okta's limits are per minute."""


class Politeness:
    """When one endpoint may be asked again, and why not before. All times are in seconds on the steady clock.

    - ``not_before``: the time before which no request may be sent.
    - ``server_asked_until``: the time that the endpoint named last, without the random time that was added.
    - ``failures``: how often it failed in a row.
    - ``last_error``: the last of these failures; ``None`` if there is none.
    - ``is_lasting``: whether waiting does not heal it.
    """

    __slots__ = ("failures", "is_lasting", "last_error", "not_before", "server_asked_until")

    def __init__(self) -> None:
        self.not_before = self.server_asked_until = NEVER
        self.failures = 0
        self.last_error: TokenError | None = None
        self.is_lasting = False

    def failed(self, error: TokenError, now: float, *, lasting: bool = False) -> TokenError:
        """The endpoint failed. Returns the error, to be raised."""
        self.failures += 1
        self.last_error, self.is_lasting = error.copy(), lasting
        self.not_before = max(self.not_before, now + back_off(self.failures))
        return error

    def asked_to_wait(self, seconds: float, now: float, needed_by: float) -> None:
        """The endpoint asked not to be asked for some seconds. Other processes were given the same time, so each adds a
        random time, as far as the token is not needed before: at ``needed_by``."""
        seconds = min(seconds, LONGEST_BELIEVED)
        until, spread = now + seconds, min(LONGEST_SPREAD, max(SHORTEST_SPREAD, seconds))
        if until < needed_by:
            spread = min(spread, max(0.0, needed_by - until - 1))
        self.server_asked_until = until
        self.not_before = until + random.uniform(0, spread)  # noqa: S311 (spreads load)

    def answered(self) -> None:
        """The endpoint works."""
        self.failures, self.last_error, self.is_lasting = 0, None, False


def back_off(failures: int) -> float:
    """Seconds to pause after ``failures`` failures in a row: doubled each time, minus a random part."""
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 16))
    return pause * random.uniform(JITTER, 1.0)  # noqa: S311 (spreads load; it is not a secret)
