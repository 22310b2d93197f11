"""The token endpoint as one client uses it: the data for each token request, and the state between requests."""

from __future__ import annotations

from .._base.clocks import Clock, OktaClock
from .politeness import Politeness
from .proofs import ClientAssertions, Nonces


class TokenEndpoint:
    """A token endpoint as one client uses it, with the state from one conversation to the next: Okta's time, the nonces,
    and when it may be asked again."""

    __slots__ = (
        "assertions",
        "client_id",
        "clock",
        "dpop_required",
        "max_wait",
        "nonces",
        "okta_clock",
        "politeness",
        "require_all_scopes",
        "scopes",
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
        self.politeness = Politeness()
        self.nonces = Nonces()
