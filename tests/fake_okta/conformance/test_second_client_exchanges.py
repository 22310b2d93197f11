"""Okta's own client for Python exchanges users' tokens at FakeOkta, over TLS, in a process of its own.

Invariant: FakeOkta treats it like ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from conformance_table import Tables
from okta_m2m import PrivateKey, __version__
from okta_m2m.testing import App, FakeOkta, User

pytestmark = pytest.mark.interop

TABLE = "FakeOkta exchanges tokens for Okta's client"
CLIENT = "okta-client-python"
MCP = "https://mcp.example"
GRANTS = ["urn:ietf:params:oauth:grant-type:token-exchange", "urn:ietf:params:oauth:grant-type:jwt-bearer"]


@pytest.fixture
def agent(org: FakeOkta, keys: dict[str, PrivateKey]) -> App:
    app = org.add_app(keys["RS256"], grant_types=GRANTS)
    app.resource_connections = {org.issuer_url("default"): [MCP]}
    org.authorization_servers["default"].resources = [MCP]
    org.add_authorization_server("orders", scopes=["orders:read"], audience="api://orders", trusted_servers=["default"])
    org.protect("/orders", server="orders", scope="orders:read")
    org.protect("/api")
    return app


@pytest.fixture
def user(org: FakeOkta) -> User:
    return org.add_user("ada@example.com")


@pytest.fixture
def web(org: FakeOkta) -> App:
    return org.add_app()


@pytest.fixture
def exchange(
    org: FakeOkta,
    agent: App,
    keys: dict[str, PrivateKey],
    answer_of: Callable[[dict[str, Any]], Any],
    tables: Tables,
) -> Callable[..., dict[str, Any]]:
    """``exchange("cross app", subject_token, ...)`` has the client exchange a token."""
    tables.about[TABLE] = f"Server: FakeOkta of okta-m2m {__version__}, over TLS."

    def exchanged(kind: str, subject_token: str, **more: Any) -> dict[str, Any]:
        task = {
            "client": CLIENT,
            "kind": kind,
            "org": org.url,
            "client_id": agent.client_id,
            "jwk": {**keys["RS256"].private_jwk(), "kid": keys["RS256"].kid, "alg": "RS256"},
            "subject_token": subject_token,
            "subject_type": "access_token",
            "resource": None,
            **more,
        }
        done: dict[str, Any] = answer_of(task)
        tables.versions[CLIENT] = f"{CLIENT} {done.pop('version')}"
        return done

    return exchanged


def on_behalf(org: FakeOkta) -> dict[str, str]:
    return {"issuer": org.issuer_url("orders"), "audience": "api://orders", "scope": "orders:read"}


@pytest.mark.parametrize("client", [CLIENT])
@pytest.mark.conforms(TABLE, "on behalf of a user: token exchange at a custom server")
def test_an_exchange_on_behalf_of_a_user(
    client: str, org: FakeOkta, web: App, user: User, exchange: Callable[..., dict[str, Any]]
) -> None:
    done = exchange("on behalf", user.access_token(web), **on_behalf(org))
    token = org.token(done.pop("access_token"))
    assert token is not None
    assert done == {"token_type": "Bearer", "scope": "orders:read"}
    assert (token.subject, token.user_id, token.audience) == (user.login, user.id, "api://orders")
    assert org.refusals == []


@pytest.mark.parametrize("token_type", ["N_A", "Bearer"])
@pytest.mark.parametrize("target", ["a server", "one resource"])
@pytest.mark.parametrize("client", [CLIENT])
@pytest.mark.conforms(TABLE, "Cross App Access: both legs, for {target}, with `token_type` {token_type}")
def test_an_id_jag_and_the_token_for_it(
    client: str,
    org: FakeOkta,
    agent: App,
    user: User,
    exchange: Callable[..., dict[str, Any]],
    target: str,
    token_type: Any,
) -> None:
    org.id_jag_token_type = token_type
    resource = MCP if target == "one resource" else None
    subject = {"subject_type": "id_token", "issuer": org.issuer_url("default"), "resource": resource}
    done = exchange("cross app", user.id_token(agent), scope="api:read", **subject)
    token = org.token(done.pop("access_token"))
    assert token is not None
    assert done == {"token_type": "Bearer", "scope": "api:read"}
    assert (token.subject, token.audience) == (user.login, resource or "api://default")
    assert token.act == {"sub": agent.client_id, "sub_profile": "ai_agent"}
    assert org.refusals == []


@pytest.mark.parametrize("client", [CLIENT])
@pytest.mark.conforms(TABLE, "a subject that is revoked: the client reads Okta's text")
def test_a_revoked_subject_of_an_exchange_is_read_as_such(
    client: str, org: FakeOkta, web: App, user: User, exchange: Callable[..., dict[str, Any]]
) -> None:
    subject_token = user.access_token(web)
    org.revoke(subject_token)
    done = exchange("on behalf", subject_token, **on_behalf(org))
    assert done == {"refused": "invalid_request: 'subject_token' is invalid."}


@pytest.mark.parametrize("client", [CLIENT])
@pytest.mark.conforms(TABLE, "an access token without a delegation link: the client reads Okta's text")
def test_an_id_jag_without_a_delegation_link_is_refused(
    client: str, org: FakeOkta, web: App, user: User, exchange: Callable[..., dict[str, Any]]
) -> None:
    done = exchange("cross app", user.access_token(web), scope="api:read", issuer=org.issuer_url("default"))
    text = "'subject_token' is invalid: no delegation policy authorizes this token."
    assert done == {"refused": f"invalid_request: {text}"}
