"""The token endpoint as one client uses it: the data for each token request, and the state between requests."""

from __future__ import annotations

from .._base.clocks import Clock, OktaClock
from .._base.records import Record
from ..errors import ConfigurationError
from .politeness import Politeness
from .proofs import ClientAssertions, Nonces


class TokenEndpoint(Record):
    """A token endpoint as one client uses it, with any grant. The last three fields are the state from one conversation to the
    next: Okta's time, when the endpoint may be asked again, and the nonces."""

    url: str
    client_id: str
    assertions: ClientAssertions
    clock: Clock
    max_wait: float
    dpop_required: bool
    require_all_scopes: bool
    okta_clock: OktaClock
    politeness: Politeness
    nonces: Nonces

    def at(self, url: str) -> TokenEndpoint:
        """Another endpoint of the same org, for the same client."""
        return TokenEndpoint(
            url,
            self.client_id,
            self.assertions.to(url),
            self.clock,
            self.max_wait,
            self.dpop_required,
            self.require_all_scopes,
            self.okta_clock,
            Politeness(),
            Nonces(),
        )

    def closed_error(self) -> ConfigurationError:
        """The error of a call of an app that is closed."""
        return ConfigurationError(
            f"The service app {self.client_id} is closed.",
            remedy="Create another ServiceApp, or close this one later.",
        )
