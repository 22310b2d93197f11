"""FakeOkta exchanges a user's token, and refuses what Okta refuses, in Okta's words.

Invariant: the tests talk to it over plain sockets, and use nothing of the client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import extract_compact

from okta_m2m.testing import App, AuthorizationServer, FakeOkta, User
from plain_caller import Caller, Reply, okta_says, signed

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"

ORG, DEFAULT, ORDERS = "/oauth2/v1/token", "/oauth2/default/v1/token", "/oauth2/orders/v1/token"
MCP = "https://mcp.example"


@pytest.fixture
def agent(callers: Callable[..., Caller]) -> Caller:
    """A client that may use all grants."""
    caller = callers(grant_types=["client_credentials", TOKEN_EXCHANGE, JWT_BEARER])
    caller.app.resource_connections = {caller.okta.issuer_url("default"): [MCP]}
    caller.okta.authorization_servers["default"].resources = [MCP]
    return caller


@pytest.fixture
def web(okta: FakeOkta) -> App:
    """The app that users sign in to."""
    app = okta.add_app()
    app.application_type = "web"
    return app


@pytest.fixture
def user(okta: FakeOkta) -> User:
    return okta.add_user("ada@example.com")


@pytest.fixture
def orders(okta: FakeOkta) -> AuthorizationServer:
    return okta.add_authorization_server(
        "orders", scopes=["orders:read"], audience="api://orders", trusted_servers=["default"]
    )


def claims_of(caller: Caller, token: str) -> dict[str, Any]:
    (jwk,) = caller.send("GET", "/oauth2/v1/keys").json["keys"]
    return dict(jwt.decode(token, RSAKey.import_key(jwk), algorithms=["RS256"]).claims)


def on_behalf(caller: Caller, subject_token: str, path: str = ORDERS, /, **form: Any) -> Reply:
    caller.path = path
    return caller.token_request(
        **{
            "grant_type": TOKEN_EXCHANGE,
            "subject_token": subject_token,
            "subject_token_type": ACCESS_TOKEN,
            "audience": "api://orders" if path == ORDERS else "api://default",
            "scope": "orders:read" if path == ORDERS else "api:read",
            **form,
        }
    )


def leg_1(caller: Caller, subject_token: str, /, **form: Any) -> Reply:
    caller.path = ORG
    return caller.token_request(
        **{
            "grant_type": TOKEN_EXCHANGE,
            "requested_token_type": ID_JAG,
            "subject_token": subject_token,
            "subject_token_type": ID_TOKEN,
            "audience": caller.okta.issuer_url("default"),
            "scope": "api:read",
            **form,
        }
    )


def leg_2(caller: Caller, jag: str, path: str = DEFAULT, **form: Any) -> Reply:
    caller.path = path
    return caller.token_request(**{"grant_type": JWT_BEARER, "assertion": jag, "scope": None, **form})


def jag_for(caller: Caller, user: User, **form: Any) -> str:
    reply = leg_1(caller, user.id_token(caller.app), **form)
    assert reply.status == 200, reply.refusal
    return str(reply.json["access_token"])


# ── resource ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_resource_is_the_audience_of_the_token(agent: Caller) -> None:
    agent.path = DEFAULT
    token = agent.token(scope="api:read", resource=MCP)
    assert claims_of(agent, token)["aud"] == MCP
    assert claims_of(agent, agent.token(scope="api:read"))["aud"] == "api://default"
    refusal = agent.token_request(scope="api:read", resource="https://other.example").refusal
    assert refusal == okta_says("unsupported_resource", "https://other.example")
    raw = urlencode([*agent.form(scope="api:read", resource=MCP).items(), ("resource", MCP)])
    assert agent.token_request(raw=raw).refusal == okta_says("too_many_resources", "1")


# ── on behalf of a user ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_users_token_is_exchanged_at_the_same_and_at_a_trusting_server(
    okta: FakeOkta, agent: Caller, user: User, web: App, orders: AuthorizationServer
) -> None:
    subject_token = user.access_token(web)
    for path, audience, scope in ((DEFAULT, "api://default", "api:read"), (ORDERS, "api://orders", "orders:read")):
        reply = on_behalf(agent, subject_token, path)
        assert reply.status == 200, reply.refusal
        assert reply.json.keys() == {"token_type", "expires_in", "access_token", "scope", "issued_token_type"}
        assert (reply.json["token_type"], reply.json["issued_token_type"]) == ("Bearer", ACCESS_TOKEN)
        claims = claims_of(agent, reply.json["access_token"])
        assert (claims["sub"], claims["uid"], claims["cid"]) == (user.login, user.id, agent.app.client_id)
        assert (claims["aud"], claims["scp"]) == (audience, [scope])
    okta.protect("/orders", server="orders", scope="orders:read")
    answer = agent.call(reply.json["access_token"], "/orders").json
    assert (answer["subject"], answer["audience"], answer["act"]) == (user.login, "api://orders", None)
    agent.path = "/oauth2/orders/v1/introspect"
    found = agent.token_request(token=reply.json["access_token"]).json
    assert (found["sub"], found["uid"]) == (user.login, user.id)


@pytest.mark.parametrize(
    ("form", "code", "filled"),
    [
        ({"subject_token": None}, "missing_token_request_parameter", "subject_token"),
        ({"subject_token_type": None}, "missing_token_request_parameter", "subject_token_type"),
        ({"audience": None}, "missing_token_request_parameter", "audience"),
        ({"subject_token_type": ID_TOKEN}, "invalid_subject_token_type", ""),
        ({"requested_token_type": ID_JAG}, "invalid_requested_token_type", ""),
        ({"audience": "api://default"}, "token_exchange_invalid_audience", ""),
        ({"resource": MCP}, "invalid_request", ""),
        ({"actor_token": "a"}, "invalid_actor_token", ""),
        ({"actor_token": "a", "actor_token_type": ACCESS_TOKEN}, "invalid_actor_token_type", ""),
        ({"unknown": "1"}, "invalid_request", ""),
        ({"subject_token": "x" * 20_000}, "invalid_subject_token", ""),
        ({"scope": None}, "no_default_scopes", ""),
        ({"scope": "openid"}, "openid_not_allowed_token_exchange", ""),
        ({"scope": "api:read"}, "no_matching_scope", ""),
    ],
)
def test_each_parameter_of_an_exchange_is_checked(
    agent: Caller, user: User, web: App, orders: AuthorizationServer, form: dict[str, Any], code: str, filled: str
) -> None:
    assert on_behalf(agent, user.access_token(web), **form).refusal == okta_says(code, filled)


def test_only_a_live_token_of_a_user_from_a_trusted_server_is_exchanged(
    okta: FakeOkta, agent: Caller, user: User, web: App, orders: AuthorizationServer
) -> None:
    def refusal(subject_token: str) -> tuple[int, str, str]:
        return on_behalf(agent, subject_token).refusal

    assert refusal(user.id_token(web)) == okta_says("invalid_subject_token")
    agent.path = ORG
    own_token = agent.token()
    assert refusal(own_token) == okta_says("invalid_subject_token_authorization_server")
    agent.path = DEFAULT
    own_token = agent.token(scope="api:read")
    assert refusal(own_token) == okta_says("invalid_subject_token")
    revoked = user.access_token(web)
    okta.revoke(revoked)
    assert refusal(revoked) == okta_says("invalid_subject_token")
    subject_token = user.access_token(web)
    orders.trusted_servers = []
    assert refusal(subject_token) == okta_says("associated_server_not_trusted")
    orders.trusted_servers = ["default"]
    web.status = "INACTIVE"
    assert refusal(subject_token) == okta_says("invalid_subject_token_client_inactive")
    web.status = "ACTIVE"
    user.status = "SUSPENDED"
    assert refusal(subject_token) == okta_says("invalid_subject_token_user_inactive")
    user.status = "ACTIVE"
    assert on_behalf(agent, subject_token).status == 200
    user.end_session()
    assert refusal(subject_token) == okta_says("token_exchange_subject_token_expired")
    subject_token = user.access_token(web)
    okta.skew(seconds=3600)
    assert refusal(subject_token) == okta_says("token_exchange_subject_token_expired")


def test_an_exchange_needs_a_service_app_with_the_grant_that_the_policy_admits(
    agent: Caller, user: User, web: App, orders: AuthorizationServer
) -> None:
    subject_token = user.access_token(web)
    orders.clients = []
    assert on_behalf(agent, subject_token).refusal == okta_says("no_matching_policy")
    orders.clients = None
    agent.app.grant_types = ["client_credentials"]
    assert on_behalf(agent, subject_token).refusal == okta_says("unauthorized_client", "client_credentials")
    agent.app.grant_types = [TOKEN_EXCHANGE]
    agent.app.application_type = "web"
    assert on_behalf(agent, subject_token).refusal == okta_says("on_behalf_invalid_client_type")


def test_a_bound_app_needs_a_proof_for_each_grant_and_only_tokens_for_an_api_are_bound(
    agent: Caller, user: User, web: App, orders: AuthorizationServer
) -> None:
    agent.app.dpop_bound = True

    def proof() -> list[tuple[str, str]]:
        return [("DPoP", agent.proof("POST", agent.okta.url + agent.path, nonce=nonce))]

    assert on_behalf(agent, user.access_token(web)).refusal == okta_says("invalid_dpop_proof_missing_header")
    nonce = agent.nonce()
    reply = on_behalf(agent, user.access_token(web), headers=proof())
    assert (reply.json["token_type"], reply.header("dpop-nonce")) == ("DPoP", nonce)
    assert "jkt" in claims_of(agent, reply.json["access_token"])["cnf"]
    agent.path = ORG
    reply = leg_1(agent, user.id_token(agent.app), headers=proof())
    assert (reply.json["token_type"], reply.header("dpop-nonce")) == ("N_A", nonce)
    agent.path = DEFAULT
    assert leg_2(agent, reply.json["access_token"], headers=proof()).json["token_type"] == "DPoP"


# ── Cross App Access, leg 1 ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("token_type", ["N_A", "Bearer"])
def test_an_id_token_of_the_client_is_exchanged_for_an_id_jag(
    okta: FakeOkta, agent: Caller, user: User, token_type: Any
) -> None:
    okta.id_jag_token_type = token_type
    minted = okta.tokens_minted
    reply = leg_1(agent, user.id_token(agent.app), resource=MCP)
    assert reply.status == 200, reply.refusal
    assert {name: value for name, value in reply.json.items() if name != "access_token"} == {
        "token_type": token_type,
        "expires_in": 300,
        "issued_token_type": ID_JAG,
    }
    jag = reply.json["access_token"]
    assert extract_compact(jag.encode()).headers()["typ"] == "oauth-id-jag+jwt"
    claims = claims_of(agent, jag)
    assert (claims["iss"], claims["aud"], claims["sub"]) == (okta.url, okta.issuer_url("default"), user.id)
    assert (claims["client_id"], claims["scope"], claims["resource"]) == (agent.app.client_id, "api:read", MCP)
    assert claims["exp"] - claims["iat"] == 300
    assert claims["act"] == {"sub": agent.app.client_id, "sub_profile": "ai_agent"}
    assert okta.tokens_minted == minted
    assert agent.call(jag).refusal == okta_says("access_token_invalid")


@pytest.mark.parametrize(
    ("form", "code", "filled"),
    [
        ({"subject_token": None}, "missing_token_request_parameter", "subject_token"),
        ({"audience": None}, "missing_token_request_parameter", "audience"),
        ({"requested_token_type": None}, "invalid_requested_token_type", ""),
        ({"requested_token_type": ACCESS_TOKEN}, "invalid_requested_token_type", ""),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, "invalid_subject_token_type", ""),
        ({"subject_token_type": ACCESS_TOKEN}, "invalid_subject_token", ""),
        ({"subject_token": "nonsense"}, "invalid_subject_token", ""),
        ({"audience": "api://default"}, "token_exchange_invalid_audience", ""),
        ({"resource": "https://other.example"}, "token_exchange_invalid_resource", ""),
        ({"actor_token": "a"}, "invalid_actor_token", ""),
        ({"assertion": "a"}, "invalid_request", ""),
        ({"scope": "openid api:read"}, "openid_not_allowed_token_exchange", ""),
        ({"scope": "orders:read"}, "no_matching_scope", ""),
    ],
)
def test_each_parameter_of_the_request_for_an_id_jag_is_checked(
    agent: Caller, user: User, form: dict[str, Any], code: str, filled: str
) -> None:
    assert leg_1(agent, user.id_token(agent.app), **form).refusal == okta_says(code, filled)


def test_only_a_live_id_token_of_the_same_client_is_exchanged(
    okta: FakeOkta, agent: Caller, user: User, web: App
) -> None:
    foreign = user.id_token(web)
    assert leg_1(agent, foreign).refusal == okta_says("invalid_subject_token_client_not_registered")
    id_token = user.id_token(agent.app, server="default")
    assert leg_1(agent, id_token).status == 200
    user.status = "SUSPENDED"
    assert leg_1(agent, id_token).refusal == okta_says("invalid_subject_token_user_inactive")
    user.status = "ACTIVE"
    user.end_session()
    assert leg_1(agent, id_token).refusal == okta_says("invalid_subject_token_session_expired")
    id_token = user.id_token(agent.app, lifetime=60)
    okta.skew(seconds=60)
    assert leg_1(agent, id_token).refusal == okta_says("token_exchange_subject_token_expired")
    agent.app.grant_types = ["client_credentials"]
    assert leg_1(agent, id_token).refusal == okta_says("unauthorized_client", "client_credentials")


def test_an_access_token_needs_a_delegation_link_and_the_agents_own_audience(
    agent: Caller, user: User, web: App
) -> None:
    def refusal(subject_token: str) -> tuple[int, str, str]:
        return leg_1(agent, subject_token, subject_token_type=ACCESS_TOKEN).refusal

    agent.path = ORG
    own_token = agent.token()
    assert refusal(own_token) == okta_says("invalid_subject_token_issuer_not_allowed")
    subject_token = user.access_token(web, resource="https://agent.example")
    assert refusal(subject_token) == okta_says("invalid_subject_token_no_delegation_link")
    agent.app.delegation_links[web.client_id] = "https://other-agent.example"
    assert refusal(subject_token) == okta_says("invalid_subject_token_no_delegation_link")
    agent.app.delegation_links[web.client_id] = "https://agent.example"
    assert leg_1(agent, subject_token, subject_token_type=ACCESS_TOKEN).status == 200
    user.end_session()
    assert refusal(subject_token) == okta_says("invalid_subject_token_session_expired")


# ── Cross App Access, leg 2 ──────────────────────────────────────────────────────────────────────────────────────────


def test_an_id_jag_becomes_an_access_token_of_the_user_once(agent: Caller, user: User) -> None:
    jag = jag_for(agent, user)
    reply = leg_2(agent, jag)
    assert reply.status == 200, reply.refusal
    assert reply.json.keys() == {"token_type", "expires_in", "access_token", "scope"}
    claims = claims_of(agent, reply.json["access_token"])
    assert (claims["sub"], claims["aud"], claims["scp"]) == (user.login, "api://default", ["api:read"])
    assert claims["act"]["sub"] == agent.app.client_id
    assert leg_2(agent, jag).refusal == okta_says("id_jag_replayed")
    bound = leg_2(agent, jag_for(agent, user, resource=MCP), resource=MCP).json["access_token"]
    assert claims_of(agent, bound)["aud"] == MCP


def test_a_chain_of_agents_is_in_the_act_claim(callers: Callable[..., Caller], agent: Caller, user: User) -> None:
    """A user's token for agent 1 leads to a token for agent 2, which agent 2 exchanges in turn."""
    second = callers(grant_types=[TOKEN_EXCHANGE, JWT_BEARER])
    second.app.resource_connections = agent.app.resource_connections
    second.app.delegation_links[agent.app.client_id] = MCP
    to_second = leg_2(agent, jag_for(agent, user, resource=MCP)).json["access_token"]
    jag = leg_1(second, to_second, subject_token_type=ACCESS_TOKEN).json["access_token"]
    claims = claims_of(second, leg_2(second, jag).json["access_token"])
    assert claims["sub"] == user.login
    assert claims["act"] == {
        "sub": second.app.client_id,
        "sub_profile": "ai_agent",
        "act": {"sub": agent.app.client_id, "sub_profile": "ai_agent"},
    }


def test_a_service_may_delegate_its_own_token_to_an_agent(callers: Callable[..., Caller], agent: Caller) -> None:
    service = callers(path=DEFAULT)
    agent.app.delegation_links[service.app.client_id] = MCP
    subject_token = service.token(scope="api:read", resource=MCP)
    jag = leg_1(agent, subject_token, subject_token_type=ACCESS_TOKEN).json["access_token"]
    claims = claims_of(agent, leg_2(agent, jag).json["access_token"])
    assert (claims["sub"], claims["act"]["sub"], "uid" in claims) == (
        service.app.client_id,
        agent.app.client_id,
        False,
    )


def test_each_parameter_and_each_claim_of_an_id_jag_is_checked(
    okta: FakeOkta, agent: Caller, user: User, orders: AuthorizationServer, callers: Callable[..., Caller]
) -> None:
    def refusal(jag: str | None = None, **form: Any) -> tuple[int, str, str]:
        return leg_2(agent, jag or jag_for(agent, user), **form).refusal

    assert refusal(scope="api:read") == okta_says("id_jag_scopes_in_request")
    assert refusal(assertion=None) == okta_says("missing_token_request_parameter", "assertion")
    assert refusal(audience="x") == okta_says("invalid_request")
    assert refusal(path=ORG) == okta_says("unsupported_grant_type", f"client_credentials, {TOKEN_EXCHANGE}")
    assert refusal(path=ORDERS) == okta_says("jwt_bearer_grant_invalid_audience")
    assert refusal(jag_for(agent, user, scope=None)) == okta_says("id_jag_lacking_scopes")
    assert refusal(jag_for(agent, user, resource=MCP), resource="https://other.example") == okta_says(
        "id_jag_resource_mismatch"
    )
    okta.authorization_servers["default"].resources = []
    assert refusal(jag_for(agent, user, resource=MCP)) == okta_says("id_jag_resource_not_allowed_for_as")
    assert refusal("nonsense") == okta_says("id_jag_invalid_signature")
    key = ECKey.generate_key("P-256", private=True)
    assert refusal(signed({"alg": "ES256"}, {"iss": okta.url}, key)) == okta_says("id_jag_invalid_signature")
    assert refusal(signed({"alg": "ES256"}, {"iss": MCP}, key)) == okta_says("id_jag_untrusted_issuer")
    other = callers(grant_types=[JWT_BEARER], path=DEFAULT)
    assert leg_2(other, jag_for(agent, user)).refusal == okta_says("id_jag_client_mismatch")
    jag = jag_for(agent, user)
    user.status = "SUSPENDED"
    assert refusal(jag) == okta_says("id_jag_invalid_subject")
    user.status = "ACTIVE"
    jag = jag_for(agent, user)
    okta.skew(seconds=300)
    assert refusal(jag) == okta_says("id_jag_expired")


@pytest.mark.parametrize("scripted", [True, False])
def test_a_request_that_fails_uses_up_its_id_jag(okta: FakeOkta, agent: Caller, user: User, scripted: bool) -> None:
    jag = jag_for(agent, user)
    if scripted:
        okta.next(503)
    assert leg_2(agent, jag, **({} if scripted else {"resource": MCP})).status >= 400
    assert leg_2(agent, jag).refusal == okta_says("id_jag_replayed")


def test_metadata_lists_the_grants_of_each_server(agent: Caller) -> None:
    at_org = agent.send("GET", "/.well-known/oauth-authorization-server").json
    assert TOKEN_EXCHANGE in at_org["grant_types_supported"]
    assert JWT_BEARER not in at_org["grant_types_supported"]
    assert at_org["identity_chaining_requested_token_types_supported"] == [ID_JAG]
    at_custom = agent.send("GET", "/oauth2/default/.well-known/oauth-authorization-server").json
    assert {TOKEN_EXCHANGE, JWT_BEARER} <= set(at_custom["grant_types_supported"])
