"""What one service app is made of: made once, and passed to whatever obtains, judges or revokes its token.

Invariant: no policy here. A second grant would have a state and a fetching of its own, with the same endpoint, keys,
bindings and reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._base.tokens import Credentials

if TYPE_CHECKING:
    from .._base.tokens import Token
    from ..effects import Flow
    from ..keys import Signer
    from .bindings import Bindings
    from .fleet import Fleet
    from .reports import Reports
    from .token_endpoint import TokenEndpoint
    from .token_state import TokenState


class Engine:
    """The parts of one app.

    - ``state``: the token in use.
    - ``endpoint``: the token endpoint, with what is kept from one conversation for the next.
    - ``reports``: the log and the events.
    - ``keys``: as they were passed.
    - ``fleet``: the app's side of a shared store, if it has one.
    - ``offers_dpop``: whether the token request has a DPoP proof.
    - ``bindings``: what calls send.
    - ``accepted_key_index``: which of the keys Okta accepted last.
    """

    __slots__ = ("accepted_key_index", "bindings", "endpoint", "fleet", "keys", "offers_dpop", "reports", "state")

    def __init__(
        self,
        state: TokenState,
        endpoint: TokenEndpoint,
        reports: Reports,
        keys: tuple[Signer, ...],
        *,
        fleet: Fleet | None,
        offers_dpop: bool,
        bindings: Bindings,
    ) -> None:
        self.state = state
        self.endpoint = endpoint
        self.reports = reports
        self.keys = keys
        self.fleet = fleet
        self.offers_dpop = offers_dpop
        self.bindings = bindings
        self.accepted_key_index = 0

    def credentials(
        self, method: str, url: str, token: Token, nonce: str | None = None, server_time: float | None = None
    ) -> Flow[Credentials]:
        """The credentials for one attempt; see :meth:`Bindings.credentials`."""
        if not token.dpop_bound:
            return Credentials(token)
        return (yield from self.bindings.credentials(method, url, token, nonce, server_time))
