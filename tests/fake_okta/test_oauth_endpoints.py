"""FakeOkta's token, discovery, introspection and revocation endpoints answer as Okta's do, in Okta's words.

Invariant: the tests talk to it over plain sockets, and use nothing of the client.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from okta_m2m.testing import FakeOkta
from okta_m2m.testing.fake_okta._refusals import API_ERRORS
from plain_caller import Caller, okta_says


def test_a_correct_request_gets_a_bearer_token_as_recorded_at_okta(okta: FakeOkta, caller: Caller) -> None:
    reply = caller.token_request()

    assert reply.status == 200
    assert reply.json.keys() == {"token_type", "expires_in", "access_token", "scope"}
    assert (reply.json["token_type"], reply.json["expires_in"], reply.json["scope"]) == (
        "Bearer",
        3600,
        "okta.users.read",
    )
    assert reply.header("cache-control") == "no-cache, no-store"
    assert reply.header("content-type") == "application/json"
    for name in ("date", "x-okta-request-id", "x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset"):
        assert reply.header(name)
    assert reply.header("dpop-nonce") is None
    assert (okta.tokens_minted, okta.token_requests, okta.refusals) == (1, 1, [])


def test_an_access_token_is_a_jwt_of_the_fake_and_never_the_same_twice(okta: FakeOkta, caller: Caller) -> None:
    first, second = caller.token(), caller.token()

    assert first != second
    (jwk,) = caller.send("GET", "/oauth2/v1/keys").json["keys"]
    assert "d" not in jwk
    decoded = jwt.decode(first, RSAKey.import_key(jwk), algorithms=["RS256"])
    assert decoded.header["typ"] == "application/okta-internal-at+jwt"
    assert decoded.claims["iss"] == decoded.claims["aud"] == okta.url
    assert decoded.claims["sub"] == decoded.claims["cid"] == caller.app.client_id
    assert decoded.claims["scp"] == ["okta.users.read"]


@pytest.mark.parametrize(
    ("form", "code", "filled"),
    [
        ({"client_assertion_type": None}, "client_assertion_type_invalid", ""),
        ({"client_assertion_type": "urn:x"}, "client_assertion_type_invalid", ""),
        ({"client_assertion": None}, "missing_client_credentials", ""),
        ({"client_assertion": None, "client_assertion_type": None}, "missing_client_credentials", ""),
        ({"client_secret": "s"}, "multiple_client_credentials", ""),
        (
            {"client_secret": "s", "client_assertion": None, "client_assertion_type": None},
            "unsupported_auth_method_client_creds",
            "",
        ),
        ({"client_id": "0oaother"}, "invalid_client_id", ""),
        (
            {"grant_type": None},
            "token_request_missing_grant_type",
            "authorization_code, refresh_token, password, client_credentials",
        ),
        (
            {"grant_type": "password"},
            "unsupported_grant_type",
            "client_credentials, urn:ietf:params:oauth:grant-type:token-exchange",
        ),
        ({"resource": "https://mcp.example"}, "unsupported_resource", "https://mcp.example"),
        ({"scope": None}, "missing_scopes", ""),
        ({"scope": "openid"}, "openid_not_allowed_client_creds", ""),
        ({"scope": "okta.users.read  okta.groups.read"}, "invalid_scope", ""),
        ({"scope": "okta.users.read.self"}, "client_credentials_self_scope_requested", ""),
        ({"scope": "api:read"}, "no_matching_scope", ""),
        ({"scope": "okta.user.read"}, "no_matching_scope", ""),
        ({"scope": "okta.users.read okta.users.write"}, "no_matching_scope", ""),
        ({"scope": "okta.groups.read"}, "no_org_scopes_granted", ""),
    ],
)
def test_each_parameter_of_the_form_is_checked(caller: Caller, form: dict[str, Any], code: str, filled: str) -> None:
    assert caller.token_request(**form).refusal == okta_says(code, filled)


def test_only_a_form_by_post_is_a_token_request(caller: Caller) -> None:
    reply = caller.send("POST", caller.path, [("Content-Type", "application/json")], json.dumps(caller.form()).encode())
    assert reply.refusal == (API_ERRORS["E0000021"][0], "E0000021", API_ERRORS["E0000021"][1])
    assert caller.token_request(raw="scope=%FF").refusal == okta_says("invalid_request")
    assert caller.send("GET", caller.path).refusal == (405, "E0000022", API_ERRORS["E0000022"][1])


def test_only_service_apps_with_the_grant_get_a_token_at_the_org(caller: Caller) -> None:
    caller.app.grant_types = ["authorization_code"]
    assert caller.token_request().refusal == okta_says("unauthorized_client", "authorization_code")
    caller.app.application_type = "web"
    assert caller.token_request().refusal == okta_says("invalid_application_type_client_credentials")
    caller.app.token_endpoint_auth_method = "client_secret_basic"
    assert caller.token_request().refusal == okta_says("unsupported_auth_method_client_creds")


def test_the_org_omits_scopes_that_are_not_granted(caller: Caller) -> None:
    reply = caller.token_request(scope="okta.groups.read okta.users.read okta.logs.read")
    assert (reply.status, reply.json["scope"]) == (200, "okta.users.read")


def test_a_custom_server_issues_only_its_own_scopes(okta: FakeOkta, callers: Callable[..., Caller]) -> None:
    caller = callers(path="/oauth2/default/v1/token")
    assert caller.token_request(scope="api:read api:write").json["scope"] == "api:read api:write"
    assert caller.token_request(scope="okta.users.read").refusal == okta_says("no_matching_scope")
    assert caller.token_request(scope=None).refusal == okta_says("no_default_scopes")
    okta.authorization_servers["default"].default_scopes = ["api:read"]
    assert caller.token_request(scope=None).json["scope"] == "api:read"
    okta.authorization_servers["default"].clients = []
    assert caller.token_request(scope="api:read").refusal == okta_says("no_matching_policy")
    okta.add_authorization_server("aus1", scopes=["x"], token_lifetime=60, audience="https://x.example")
    caller.path = "/oauth2/aus1/v1/token"
    assert caller.token_request(scope="x").json["expires_in"] == 60
    assert okta.tokens()[-1].audience == "https://x.example"


def test_an_unknown_authorization_server_is_refused_in_the_management_apis_format(caller: Caller) -> None:
    caller.path = "/oauth2/aus404/v1/token"
    status, code, text = caller.token_request().refusal
    assert (status, code) == (404, "E0000007")
    assert "aus404" in text


def test_scopes_may_be_separated_by_plus_or_percent_20(caller: Caller) -> None:
    caller.app.scopes = ["okta.users.read", "okta.groups.read"]
    for blank in ("+", "%20"):
        form = caller.form()
        form["scope"] = "SCOPES"
        raw = urlencode(form, quote_via=quote).replace("SCOPES", f"okta.users.read{blank}okta.groups.read")
        assert caller.token_request(raw=raw).json["scope"] == "okta.users.read okta.groups.read"


def test_the_four_discovery_documents(okta: FakeOkta, caller: Caller) -> None:
    org_oauth = caller.send("GET", "/.well-known/oauth-authorization-server").json
    assert " ".join(sorted(org_oauth)) == (
        "authorization_endpoint claims_supported code_challenge_methods_supported device_authorization_endpoint "
        "dpop_signing_alg_values_supported end_session_endpoint frontchannel_logout_session_supported "
        "frontchannel_logout_supported grant_types_supported identity_chaining_requested_token_types_supported "
        "introspection_endpoint introspection_endpoint_auth_methods_supported issuer "
        "pushed_authorization_request_endpoint registration_endpoint request_object_signing_alg_values_supported "
        "request_parameter_supported response_modes_supported response_types_supported revocation_endpoint "
        "revocation_endpoint_auth_methods_supported scopes_supported subject_types_supported token_endpoint "
        "token_endpoint_auth_methods_supported"
    )
    assert (org_oauth["issuer"], org_oauth["token_endpoint"]) == (okta.url, f"{okta.url}/oauth2/v1/token")
    assert "client_credentials" in org_oauth["grant_types_supported"]
    org_oidc = caller.send("GET", "/.well-known/openid-configuration?client_id=x").json
    assert org_oidc["jwks_uri"] == f"{okta.url}/oauth2/v1/keys"
    assert "client_credentials" not in org_oidc["grant_types_supported"]
    rfc8414 = caller.send("GET", "/.well-known/oauth-authorization-server/oauth2/default").json
    assert rfc8414 == caller.send("GET", "/oauth2/default/.well-known/oauth-authorization-server").json
    oidc = caller.send("GET", "/oauth2/default/.well-known/openid-configuration").json
    assert oidc["issuer"] == rfc8414["issuer"] == f"{okta.url}/oauth2/default"
    assert caller.send("GET", "/oauth2/none/.well-known/openid-configuration").refusal[:2] == (404, "E0000007")


def test_introspection_and_revocation_require_an_assertion_for_their_own_url(okta: FakeOkta, caller: Caller) -> None:
    token = caller.token()
    assertion_for_token = caller.assertion()
    caller.path = "/oauth2/v1/introspect"
    reply = caller.token_request(token=token, client_assertion=assertion_for_token)
    assert reply.refusal == okta_says("client_assertion_invalid_audience")
    assert caller.token_request().refusal == okta_says("request_missing_token")
    assert caller.token_request(token="unknown").json == {"active": False}
    found = caller.token_request(token=token).json
    assert (found["active"], found["client_id"], found["scope"]) == (True, caller.app.client_id, "okta.users.read")
    caller.path = "/oauth2/default/v1/introspect"
    assert caller.token_request(token=token).json == {"active": False}
    caller.path = "/oauth2/v1/revoke"
    assert caller.token_request().refusal == okta_says("request_missing_token")
    reply = caller.token_request(token=token)
    assert (reply.status, reply.body) == (200, b"")
    assert caller.token_request(token="unknown").status == 200
    assert caller.call(token).refusal == okta_says("access_token_revoked")


def test_a_client_revokes_only_its_own_tokens(callers: Callable[..., Caller]) -> None:
    one, other = callers(), callers()
    token = one.token()
    other.path = "/oauth2/v1/revoke"
    assert other.token_request(token=token).status == 200
    assert one.call(token).status == 200
