"""The token endpoint as one client uses it: the data for each token request, and the state between requests.

One process sends at most about 20 requests a minute to an endpoint that fails, whatever ``max_wait`` is: failures are
remembered from one conversation (``conversation.py``) to the next, until the endpoint responds.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from .._base.clocks import NEVER, Clock, OktaClock
from .proofs import ClientAssertions, Nonces

if TYPE_CHECKING:
    from ..errors import TokenError

__all__ = ["TokenEndpoint", "back_off"]

FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 4.5
JITTER: Final = 0.85
"""Seconds between attempts: doubled after each failure, minus a random part, so that the processes of a fleet do not
retry at the same moment. That makes twenty requests in the first minute and fifteen in each later one. If the endpoint
works again, that is noticed within five seconds."""


class TokenEndpoint:
    """A token endpoint as one client uses it, with the state from one conversation to the next: Okta's time, the nonces,
    and the time before which no request may be sent."""

    __slots__ = (
        "assertions",
        "client_id",
        "clock",
        "dpop_required",
        "failures",
        "first_nonces",
        "max_wait",
        "named",
        "not_before",
        "okta_clock",
        "require_all_scopes",
        "scopes",
        "trouble",
        "trouble_lasts",
        "url",
    )

    def __init__(
        self,
        url: str,
        *,
        client_id: str,
        scopes: tuple[str, ...],
        assertions: ClientAssertions,
        clock: Clock,
        max_wait: float,
        dpop_required: bool,
        require_all_scopes: bool,
    ) -> None:
        self.url = url
        self.client_id = client_id
        self.scopes = scopes
        self.assertions = assertions
        self.clock = clock
        self.okta_clock = OktaClock(clock)
        self.dpop_required = dpop_required
        self.require_all_scopes = require_all_scopes
        self.max_wait = max_wait
        self.named = self.not_before = NEVER
        self.failures = 0
        self.trouble: TokenError | None = None
        self.trouble_lasts = False
        self.first_nonces: Nonces | None = None

    def failed(self, trouble: TokenError, *, lasting: bool = False) -> TokenError:
        """Remembers the failure, and sends no request for a while. ``lasting``: waiting would not help."""
        self.failures += 1
        self.trouble, self.trouble_lasts = trouble.copy(), lasting
        self.not_before = max(self.not_before, self.clock.now() + back_off(self.failures))
        return trouble

    def answered(self) -> None:
        """The endpoint works: forgets earlier failures."""
        self.failures, self.trouble, self.trouble_lasts = 0, None, False

    @property
    def nonces(self) -> Nonces:
        """The nonces. Created when first needed: most apps have Bearer tokens, and a process may have many apps."""
        nonces = self.first_nonces
        if nonces is None:
            nonces = self.first_nonces = Nonces()
        return nonces


def back_off(failures: int) -> float:
    """Seconds to pause after ``failures`` failures in a row: doubled each time, minus a random part."""
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 16))
    return pause * random.uniform(JITTER, 1.0)  # noqa: S311 (spreads load; it is not a secret)
