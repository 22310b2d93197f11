"""What one service app is made of: made once, and passed to whatever obtains, judges or revokes its token.

An app for another grant of the same client (``derived_apps.py``) has an engine with a state, a grant and bindings of its own,
and the same keys and reports.

Invariant: no policy here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._base.tokens import Credentials

if TYPE_CHECKING:
    from .._base.tokens import Token
    from ..effects import Flow
    from .bindings import Bindings
    from .client_keys import ClientKeys
    from .fleet import Fleet
    from .grants import Grant
    from .reports import Reports
    from .token_endpoint import TokenEndpoint
    from .token_state import TokenState


class Engine:
    """The parts of one app.

    - ``state``: the token in use.
    - ``endpoint``: the token endpoint, with what is kept from one conversation for the next.
    - ``grant``: what is requested there.
    - ``reports``: the log and the events.
    - ``keys``: the client's keys, and which of them Okta accepted last.
    - ``fleet``: the app's side of a shared store, if it has one.
    - ``offers_dpop``: whether the token request has a DPoP proof.
    - ``bindings``: what calls send.
    - ``profile``: the app's security profile.
    """

    __slots__ = ("bindings", "endpoint", "fleet", "grant", "keys", "offers_dpop", "profile", "reports", "state")

    def __init__(
        self,
        state: TokenState,
        endpoint: TokenEndpoint,
        grant: Grant,
        reports: Reports,
        keys: ClientKeys,
        *,
        fleet: Fleet | None,
        offers_dpop: bool,
        bindings: Bindings,
        profile: str | None,
    ) -> None:
        self.state = state
        self.endpoint = endpoint
        self.grant = grant
        self.reports = reports
        self.keys = keys
        self.fleet = fleet
        self.offers_dpop = offers_dpop
        self.bindings = bindings
        self.profile = profile

    def credentials(
        self, method: str, url: str, token: Token, nonce: str | None = None, server_time: float | None = None
    ) -> Flow[Credentials]:
        """The credentials for one attempt; see :meth:`Bindings.credentials`."""
        if not token.dpop_bound:
            return Credentials(token)
        return (yield from self.bindings.credentials(method, url, token, nonce, server_time))
