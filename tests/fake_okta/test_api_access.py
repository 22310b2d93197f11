"""FakeOkta's management API checks tokens, scopes and roles as Okta does; an API behind a custom server, as the RFCs say.

Invariant: the tests talk to it over plain sockets, and use nothing of the client.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from okta_m2m.testing import FakeOkta, Refusal
from okta_m2m.testing.fake_okta._refusals import API_ERRORS
from plain_caller import Caller, Reply, okta_says


def test_scope_and_role_are_both_needed(callers: Callable[..., Caller]) -> None:
    caller = callers(scopes=["okta.users.read", "okta.groups.manage"])
    token = caller.token(scope="okta.users.read okta.groups.manage")
    assert caller.call(token, "/api/v1/users").status == 200
    assert caller.call(token, "/api/v1/groups").status == 200
    reply = caller.call(token, "/api/v1/logs")
    assert (reply.refusal, reply.body) == (okta_says("access_token_insufficient_scopes"), b"")
    assert caller.call(token, "/api/v1/users", "POST", b"{}").refusal == okta_says("access_token_insufficient_scopes")
    caller.app.roles = []
    assert caller.call(token).refusal == (403, "E0000006", API_ERRORS["E0000006"][1])


@pytest.mark.parametrize(
    ("roles", "writes"),
    [
        (["READ_ONLY_ADMIN"], False),
        (["REPORT_ADMIN"], False),
        (["READ_ONLY_ADMIN", "REPORT_ADMIN"], False),
        (["READ_ONLY_ADMIN", "USER_ADMIN"], True),
        (["SUPER_ADMIN"], True),
        (["CUSTOM/cr04cxy6yzSCtNciD0g7/iam4cxy6z7hhaZCSk0g7"], True),
    ],
)
def test_a_role_that_only_reads_does_not_write(callers: Callable[..., Caller], roles: list[str], writes: bool) -> None:
    caller = callers(scopes=["okta.users.manage"])
    assert caller.app.roles == ["READ_ONLY_ADMIN"]
    caller.app.roles = roles
    token = caller.token(scope="okta.users.manage")
    assert caller.call(token, "/api/v1/users/x").status == 200
    for method, status in (("POST", 200), ("PUT", 200), ("PATCH", 200), ("DELETE", 204)):
        reply = caller.call(token, "/api/v1/users/x", method, b"{}")
        if writes:
            assert reply.status == status
        else:
            assert reply.refusal == (403, "E0000006", API_ERRORS["E0000006"][1])


def test_the_challenge_has_oktas_members_in_oktas_order(okta: FakeOkta, caller: Caller) -> None:
    caller.app.scopes = ["okta.groups.read"]
    reply = caller.call(caller.token(scope="okta.groups.read"), "/api/v1/users/a%40b?x=1")
    host = urlsplit(okta.url).netloc
    assert reply.header("www-authenticate") == (
        f'Bearer authorization_uri="http://{host}/oauth2/v1/authorize", realm="http://{host}", '
        'scope="okta.users.read", error="insufficient_scope", '
        'error_description="The access token provided does not contain the required scopes.", '
        'resource="/api/v1/users/a%40b"'
    )


def test_unknown_revoked_and_expired_tokens_get_different_errors(okta: FakeOkta, caller: Caller) -> None:
    assert caller.call("nonsense").refusal == okta_says("access_token_invalid")
    token, other = caller.token(), caller.token()
    okta.revoke(token)
    reply = caller.call(token)
    assert (reply.refusal, reply.body) == (okta_says("access_token_revoked"), b"")
    assert caller.call(other).status == 200
    okta.revoke_all()
    assert caller.call(other).refusal == okta_says("access_token_revoked")
    okta.token_lifetime = 0.0
    reply = caller.token_request()
    assert reply.json["expires_in"] == 1
    assert caller.call(reply.json["access_token"]).refusal == okta_says("token_expired")
    okta.token_lifetime = 60
    caller.path = "/oauth2/default/v1/token"
    custom = caller.token(scope="api:read")
    assert caller.call(custom).refusal == okta_says("access_token_invalid_audience")
    with pytest.raises(KeyError):
        okta.revoke("unknown")


def test_other_credentials_get_the_management_apis_own_error(caller: Caller) -> None:
    said = (401, "E0000011", API_ERRORS["E0000011"][1])
    token = caller.token()
    assert caller.send("GET", "/api/v1/users").refusal == said
    assert caller.send("GET", "/api/v1/users", [("Authorization", f"SSWS {token}")]).refusal == said
    in_query = caller.send("GET", f"/api/v1/users?access_token={token}", [("Authorization", f"Bearer {token}")])
    assert in_query.refusal == okta_says("access_token_in_query")
    twice = caller.send("GET", "/api/v1/users", [("Authorization", f"Bearer {token}")] * 2)
    assert twice.refusal == okta_says("invalid_request")


def test_a_feature_that_is_off_and_an_unknown_path_are_refused(okta: FakeOkta, caller: Caller) -> None:
    token = caller.token()
    okta.features_off.add("/api/v1/authorizationServers")
    assert caller.call(token, "/api/v1/authorizationServers/x").refusal[:2] == (401, "E0000015")
    assert caller.call(token, "/api/v1/nothing").refusal[:2] == (404, "E0000007")
    assert caller.send("GET", "/nothing").refusal[:2] == (404, "E0000007")


def test_a_write_returns_the_length_and_the_hash_of_its_body(okta: FakeOkta, callers: Callable[..., Caller]) -> None:
    caller = callers(scopes=["okta.users.manage"])
    caller.app.roles = ["USER_ADMIN"]
    token = caller.token(scope="okta.users.manage")
    body = bytes(range(256)) * 5000
    reply = caller.call(token, "/api/v1/users", "POST", body)
    assert reply.json["received"] == {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    assert okta.requests[-1].body == body

    caller.connection.request(
        "PUT",
        "/api/v1/users/x",
        iter([b"one", b"", b"two" * 1000]),
        {"Authorization": f"Bearer {token}"},
        encode_chunked=True,
    )
    chunked = json.loads(caller.connection.getresponse().read())["received"]
    assert chunked["sha256"] == hashlib.sha256(b"one" + b"two" * 1000).hexdigest()
    assert caller.call(token, "/api/v1/users/x", "DELETE").status == 204
    assert caller.call(token, "/api/v1/users/x", "TRACE").refusal == (405, "E0000022", API_ERRORS["E0000022"][1])


def test_a_request_is_recorded_as_it_was_sent(okta: FakeOkta, caller: Caller) -> None:
    caller.send("GET", "//api/../a%2fb%20?q=%C3%A9", [("X-Twice", "1"), ("x-twice", "2"), ("X-Under_score", "3")])
    seen = okta.requests[-1]
    assert (seen.method, seen.target) == ("GET", "//api/../a%2fb%20?q=%C3%A9")
    assert [pair for pair in seen.headers if pair[0].lower().startswith("x-")] == [
        ("X-Twice", "1"),
        ("x-twice", "2"),
        ("X-Under_score", "3"),
    ]
    caller.token()
    secret = parse_qs(okta.requests[-1].body.decode())["client_assertion"][0]
    assert secret not in repr(okta.requests)
    assert okta.tokens()[-1].value not in repr(okta.tokens())


def test_redirects_go_to_the_url_in_the_query(okta: FakeOkta, caller: Caller) -> None:
    reply = caller.send("GET", "/redirect?" + urlencode({"to": "https://b.example/x?y=1", "status": 307}))
    assert (reply.status, reply.header("location")) == (307, "https://b.example/x?y=1")
    okta.revoke_all()
    assert caller.call("bad", "/redirect?to=/x").refusal == okta_says("access_token_invalid")


def test_a_protected_api_answers_as_the_rfcs_say(okta: FakeOkta, callers: Callable[..., Caller]) -> None:
    caller = callers(path="/oauth2/default/v1/token")
    assert okta.protect("/orders", scope="api:write") == f"{okta.url}/orders"
    token = caller.token(scope="api:read api:write")
    assert caller.call(token, "/orders/1", "POST", b"{}").json["scopes"] == ["api:read", "api:write"]

    reply = caller.send("GET", "/orders")
    assert (reply.status, reply.header("www-authenticate"), reply.body) == (
        401,
        'Bearer, DPoP algs="RS256 RS384 RS512 ES256 ES384 ES512"',
        b"",
    )
    basic = caller.send("GET", "/orders", [("Authorization", f"Basic {token}")])
    assert basic.refusal == okta_says("access_token_invalid")
    reply = caller.call(caller.token(scope="api:read"), "/orders")
    assert reply.refusal == okta_says("access_token_insufficient_scopes")
    assert 'scope="api:write"' in (reply.header("www-authenticate") or "")
    okta.revoke_all()
    assert caller.call(token, "/orders").refusal == okta_says("access_token_revoked")
    caller.path = "/oauth2/v1/token"
    assert caller.call(caller.token(), "/orders").refusal == okta_says("access_token_invalid_issuer")


def test_a_protected_api_compares_htu_as_rfc_9449_says(okta: FakeOkta, callers: Callable[..., Caller]) -> None:
    caller = callers(path="/oauth2/default/v1/token", dpop_bound=True)
    okta.protect("/orders")
    token = caller.bound_token(scope="api:read")
    sent = "/orders/a%40b/%7ex/%c3%a9?q=1"
    for htu in ("/orders/a%40b/%7ex/%c3%a9", "/orders/a%40b/~x/%C3%A9"):
        assert caller.bound_call(token, sent, okta.url + htu).status == 200
    assert caller.bound_call(token, sent, okta.url.upper() + "/orders/a%40b/~x/%C3%A9").status == 200
    assert caller.bound_call(token, "/orders/a/../b/.", okta.url + "/orders/b/").status == 200
    for htu in ("/orders/a@b/~x/%C3%A9", "/orders/a%40b/~x/é", "/orders/a%40b/~x/%C3%A9?q=1", "/orders"):
        reply = caller.bound_call(token, sent, okta.url + htu)
        assert reply.refusal == (401, *okta_says("invalid_dpop_proof_invalid_htu")[1:])
        assert (reply.header("www-authenticate") or "").startswith('DPoP error="invalid_dpop_proof"')
    okta.resource_nonce = True
    reply = caller.bound_call(token, "/orders")
    assert reply.refusal == (401, *okta_says("use_dpop_nonce")[1:])
    assert caller.bound_call(token, "/orders", nonce=reply.header("dpop-nonce")).status == 200


@pytest.mark.parametrize(
    ("scheme", "with_proof", "code"),
    [
        ("Bearer", False, "dpop_proof_required_for_token"),
        ("DPoP", False, "dpop_proof_required_for_token"),
        ("Bearer", True, "dpop_authentication_scheme_required"),
    ],
)
def test_a_protected_api_takes_a_bound_token_with_scheme_and_proof_only(
    okta: FakeOkta, callers: Callable[..., Caller], scheme: str, with_proof: bool, code: str
) -> None:
    """Okta's own API answers 400 invalid_request. RFC 9449 section 7.2 requires invalid_token."""
    caller = callers(path="/oauth2/default/v1/token", dpop_bound=True)
    url = okta.protect("/orders")
    token = caller.bound_token(scope="api:read")
    headers = [("Authorization", f"{scheme} {token}")]
    headers += [("DPoP", caller.proof("GET", url, token))] if with_proof else []
    reply = caller.send("GET", "/orders", headers)
    assert reply.refusal == (401, "invalid_token", okta_says(code)[2])
    assert (reply.header("www-authenticate") or "").startswith('DPoP error="invalid_token"')
    assert okta.refusals[-1] == Refusal(*reply.refusal, "/orders")


def test_a_protected_api_formats_a_scripted_refusal_as_the_rfcs_say(
    okta: FakeOkta, callers: Callable[..., Caller]
) -> None:
    caller = callers(path="/oauth2/default/v1/token")
    okta.protect("/orders", scope="api:read")
    token = caller.token(scope="api:read")

    def scripted(*what: int | str, **options: Any) -> Reply:
        okta.next(*what, on="/orders", **options)
        return caller.call(token, "/orders")

    reply = scripted(401)
    assert (reply.status, reply.header("www-authenticate")) == (
        401,
        'Bearer error="invalid_token", error_description="The access token is invalid.", scope="api:read"',
    )
    assert scripted(403).refusal == okta_says("access_token_insufficient_scopes")
    reply = scripted("use_dpop_nonce")
    assert reply.refusal == (401, *okta_says("use_dpop_nonce")[1:])
    assert (reply.header("www-authenticate") or "").startswith('DPoP error="use_dpop_nonce"')
    assert reply.header("dpop-nonce") == okta.resource_nonces.current(okta.now())
    assert scripted("invalid_dpop_proof").status == 401
    assert scripted("invalid_dpop_proof", status=400).status == 400
    assert scripted("E0000047").json["errorCode"] == "E0000047"
    assert okta.refusals == []
