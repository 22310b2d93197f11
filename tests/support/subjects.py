"""An org with users, a website that they sign in to, and an API that calls another one on their behalf.

Invariant: nothing here is about one client.
"""

from __future__ import annotations

from typing import Any

from clients import Answer
from okta_m2m import ServiceApp
from okta_m2m.testing import App, FakeOkta, User
from promises import Service

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
STOCK = {"audience": "api://stock", "scopes": ["stock:read"]}
STOCK_TOKEN = "/oauth2/stock/v1/token"
MCP = "https://mcp.example"


class World:
    """An org with a website that users sign in to, and an API that calls another API, ``url``, on their behalf."""

    def __init__(self, okta: FakeOkta, service: Service, **arguments: Any) -> None:
        self.okta = okta
        okta.add_authorization_server(
            "stock", scopes=["stock:read"], audience="api://stock", trusted_servers=["default"], resources=[MCP]
        )
        self.url = okta.protect("/stock", server="stock", scope="stock:read")
        self.website = okta.add_app()
        self.app = service(authorization_server="stock", scopes=["stock:read"], origins=[okta.url], **arguments)
        self.client = okta.apps[self.app.client_id]
        self.client.grant_types = ["client_credentials", TOKEN_EXCHANGE, JWT_BEARER]
        self.client.resource_connections = {okta.issuer_url("stock"): [MCP]}
        self.client.delegation_links = {self.website.client_id: "api://default"}

    def users(self, number: int) -> list[User]:
        return [self.okta.add_user(f"user-{one}@example.com") for one in range(number)]

    def on_behalf_of(self, user: User) -> ServiceApp:
        """A new token of the user each time, as from a new sign-in."""
        return self.app.on_behalf_of(user.access_token(self.website), audience="api://stock", scopes=["stock:read"])

    def cross_app(self, user: User, app: App | None = None, **changed: Any) -> ServiceApp:
        arguments = {"issuer": self.okta.issuer_url("stock"), "scopes": ["stock:read"], **changed}
        return self.app.cross_app(user.id_token(app or self.client), **arguments)

    def exchanges(self) -> int:
        """The number of token requests, without those whose proof lacked a nonce."""
        return sum(request.path.endswith("/v1/token") for request in self.okta.requests)


def subjects(outcomes: list[Any]) -> list[str]:
    """For whom the API was called."""
    assert all(isinstance(outcome, Answer) and outcome.status == 200 for outcome in outcomes), outcomes
    return [outcome.json["subject"] for outcome in outcomes]
