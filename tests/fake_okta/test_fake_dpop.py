"""FakeOkta checks DPoP proofs and nonces as strictly as Okta, in Okta's words.

Invariant: the tests talk to it over plain sockets, and use nothing of the client.
"""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any

import pytest
from joserfc.jwk import ECKey

from okta_m2m.testing import FakeOkta
from plain_caller import Caller, okta_says, public, rsa_key, signed


def test_a_bound_app_gets_a_bound_token_after_one_nonce(okta: FakeOkta, bound: Caller) -> None:
    nonce = bound.nonce()
    reply = bound.token_request([("DPoP", bound.proof("POST", okta.url + bound.path, nonce=nonce))])
    assert (reply.status, reply.json["token_type"]) == (200, "DPoP")
    assert reply.header("dpop-nonce") == nonce
    assert okta.tokens()[-1].jkt == bound.dpop_key.thumbprint()
    token = reply.json["access_token"]
    payload = token.split(".")[1]
    assert json.loads(base64.urlsafe_b64decode(payload + "=="))["cnf"] == {"jkt": bound.dpop_key.thumbprint()}
    assert bound.bound_call(token).status == 200


def test_a_bound_app_without_a_proof_gets_no_nonce_either(bound: Caller) -> None:
    reply = bound.token_request()
    assert reply.refusal == okta_says("invalid_dpop_proof_missing_header")
    assert reply.header("dpop-nonce") is None


def test_an_app_that_is_not_bound_ignores_a_proof(caller: Caller) -> None:
    reply = caller.token_request([("DPoP", "whatever")])
    assert (reply.status, reply.json["token_type"]) == (200, "Bearer")
    assert reply.header("dpop-nonce") is None


def test_an_org_may_require_dpop_of_every_app() -> None:
    with FakeOkta(dpop="required") as okta:
        app = okta.add_app()
        assert app.private_jwk
        caller = Caller(okta, app, ECKey.import_key(app.private_jwk))
        assert caller.token_request().refusal == okta_says("invalid_dpop_proof_missing_header")
        assert caller.bound_token()
        caller.connection.close()


PROOF_MUTATIONS: list[tuple[dict[str, Any], str]] = [
    ({"header": {"typ": "jwt"}}, "invalid_dpop_proof_invalid_type"),
    ({"header": {"typ": ...}}, "invalid_dpop_proof_invalid_type"),
    ({"header": {"jwk": ...}}, "invalid_dpop_proof"),
    ({"header": {"jwk": {"kty": "oct", "k": "AA"}}}, "invalid_dpop_proof"),
    ({"header": {"jwk": public(ECKey.generate_key("P-256"))}}, "invalid_dpop_proof_invalid_signature"),
    ({"header": {"jwk": {"kty": "EC", "crv": "P-256", "x": "AA"}}}, "invalid_dpop_proof"),
    ({"header": {"jwk": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}}}, "invalid_dpop_proof"),
    ({"htm": ...}, "invalid_dpop_proof_invalid_htm"),
    ({"htm": "lower"}, "invalid_dpop_proof_invalid_htm"),
    ({"htm": "PUT"}, "invalid_dpop_proof_invalid_htm"),
    ({"htu": ...}, "invalid_dpop_proof_invalid_htu"),
    ({"htu": "+?a=1"}, "invalid_dpop_proof_invalid_htu"),
    ({"htu": "+#a"}, "invalid_dpop_proof_invalid_htu"),
    ({"htu": "+/"}, "invalid_dpop_proof_invalid_htu"),
    ({"htu": "https://elsewhere.example/oauth2/v1/token"}, "invalid_dpop_proof_invalid_htu"),
    ({"iat": ...}, "invalid_dpop_proof_invalid_iat"),
    ({"iat": "now"}, "invalid_dpop_proof_invalid_iat"),
    ({"iat": 2}, "invalid_dpop_proof_jwt_issued_in_future"),
    ({"iat": -302}, "invalid_dpop_proof_jwt_too_old"),
    ({"exp": -1}, "invalid_dpop_proof_jwt_expired"),
    ({"jti": ...}, "invalid_dpop_proof_invalid_jti"),
    ({"jti": ""}, "invalid_dpop_proof_invalid_jti"),
    ({"jti": 7}, "invalid_dpop_proof_invalid_jti"),
]


def applied(okta: FakeOkta, changes: dict[str, Any], method: str, url: str) -> dict[str, Any]:
    found = dict(changes)
    for name in ("iat", "exp"):
        if isinstance(found.get(name), int):
            found[name] = int(okta.now()) + found[name]
    if found.get("htm") == "lower":
        found["htm"] = method.lower()
    if isinstance(found.get("htu"), str) and found["htu"].startswith("+"):
        found["htu"] = url + found["htu"][1:]
    return found


@pytest.mark.parametrize(("changes", "code"), PROOF_MUTATIONS)
def test_each_part_of_a_proof_is_checked_at_the_token_endpoint(
    okta: FakeOkta, bound: Caller, changes: dict[str, Any], code: str
) -> None:
    url = okta.url + bound.path
    proof = bound.proof("POST", url, nonce=okta.nonces.current(okta.now()), **applied(okta, changes, "POST", url))
    assert bound.token_request([("DPoP", proof)]).refusal == okta_says(code)
    assert okta.tokens_minted == 0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        *PROOF_MUTATIONS,
        ({"ath": ...}, "dpop_proof_invalid_ath"),
        ({"ath": "x"}, "dpop_proof_invalid_ath"),
    ],
)
def test_each_part_of_a_proof_is_checked_at_the_api(
    okta: FakeOkta, bound: Caller, changes: dict[str, Any], code: str
) -> None:
    token = bound.bound_token()
    url = f"{okta.url}/api/v1/users"
    reply = bound.bound_call(token, **applied(okta, changes, "GET", url))

    assert (reply.refusal, reply.body) == (okta_says(code), b"")
    challenge = reply.header("www-authenticate") or ""
    assert challenge.startswith('DPoP algs="RS256 RS384 RS512 ES256 ES384 ES512", authorization_uri="http://')


def test_a_proof_with_a_private_key_or_an_unsuitable_algorithm(okta: FakeOkta, bound: Caller) -> None:
    url, nonce = okta.url + bound.path, okta.nonces.current(okta.now())
    leaking = bound.proof("POST", url, nonce=nonce, header={"jwk": bound.dpop_key.as_dict(private=True)})
    assert bound.token_request([("DPoP", leaking)]).refusal == okta_says("invalid_dpop_proof")
    key = rsa_key()
    claims = {"htm": "POST", "htu": url, "iat": int(okta.now()), "jti": secrets.token_hex(), "nonce": nonce}
    pss = signed({"typ": "dpop+jwt", "alg": "PS256", "jwk": public(key)}, claims, key)
    refused = bound.token_request([("DPoP", pss)]).refusal
    assert refused == okta_says("invalid_dpop_proof_invalid_signature_algorithm")
    assert bound.token_request([("DPoP", "x.y")]).refusal == okta_says("invalid_dpop_proof_invalid_jwt")
    good = signed({"typ": "dpop+jwt", "alg": "RS256", "jwk": public(key), "extra": "ignored"}, claims, key)
    assert bound.token_request([("DPoP", good)]).status == 200


def test_a_proof_works_only_once_across_endpoints(okta: FakeOkta, bound: Caller) -> None:
    token = bound.bound_token()
    again: dict[str, Any] = {"jti": secrets.token_hex()}
    assert bound.bound_call(token, **again).status == 200
    assert bound.bound_call(token, **again).refusal == okta_says("dpop_proof_already_used")
    proof = bound.proof("POST", okta.url + bound.path, nonce=okta.nonces.current(okta.now()), **again)
    assert bound.token_request([("DPoP", proof)]).refusal == okta_says("dpop_proof_already_used")


def test_two_proofs_are_refused(okta: FakeOkta, bound: Caller) -> None:
    url = okta.url + bound.path
    proofs = [("DPoP", bound.proof("POST", url)), ("dpop", bound.proof("POST", url))]
    many = okta_says("invalid_dpop_proof_multiple_headers_not_allowed")
    assert bound.token_request(proofs).refusal == many
    token = bound.bound_token()
    assert bound.send("GET", "/api/v1/users", [("Authorization", f"DPoP {token}"), *proofs]).refusal == many


def test_a_bound_token_is_refused_without_its_key_or_its_scheme(okta: FakeOkta, bound: Caller) -> None:
    token = bound.bound_token()
    reply = bound.call(token)
    assert (reply.refusal, reply.body) == (okta_says("dpop_proof_required_for_token"), b"")
    assert (reply.header("www-authenticate") or "").startswith("Bearer authorization_uri=")
    proof = bound.proof("GET", f"{okta.url}/api/v1/users", token)
    as_bearer = bound.send("GET", "/api/v1/users", [("Authorization", f"Bearer {token}"), ("DPoP", proof)])
    assert as_bearer.refusal == okta_says("dpop_authentication_scheme_required")
    assert bound.send("GET", "/api/v1/users", [("Authorization", f"DPoP {token}")]).refusal == okta_says(
        "dpop_proof_required_for_token"
    )
    bound.dpop_key = ECKey.generate_key("P-256", private=True)
    assert bound.bound_call(token).refusal == okta_says("invalid_access_token_dpop_binding")


def test_a_bearer_token_with_the_dpop_scheme_is_refused(caller: Caller) -> None:
    reply = caller.bound_call(caller.token())
    assert (reply.refusal, reply.body) == (okta_says("access_token_not_dpop_bound"), b"")


@pytest.mark.parametrize(
    ("sent", "htu"),
    [
        ("/api/v1/users/a%40b.c", "/api/v1/users/a@b.c"),
        ("/api/v1/users/a@b.c", "/api/v1/users/a@b.c"),
        ("/api/v1/users/a%20b", "/api/v1/users/a%20b"),
        ("/api/v1/users/a%2Fb", "/api/v1/users/a/b"),
        ("/api/v1/users/%C3%A9", "/api/v1/users/é"),
        ("/api/v1/users/50%25", "/api/v1/users/50%25"),
        ("/api/v1/users/%22%23?limit=1", "/api/v1/users/%22%23"),
    ],
)
def test_htu_is_compared_with_the_decoded_path_as_okta_does(okta: FakeOkta, bound: Caller, sent: str, htu: str) -> None:
    token = bound.bound_token()
    assert bound.bound_call(token, sent, okta.url + htu).status == 200
    as_sent = sent.partition("?")[0]
    if as_sent != htu:
        refused = bound.bound_call(token, sent, okta.url + as_sent)
        assert refused.refusal == okta_says("invalid_dpop_proof_invalid_htu")


def test_nonces_rotate_and_expire(okta: FakeOkta, bound: Caller) -> None:
    old = bound.nonce()

    def outcome(nonce: str) -> int:
        proof = bound.proof("POST", okta.url + bound.path, nonce=nonce)
        return bound.token_request([("DPoP", proof)]).status

    assert outcome(old) == 200
    okta.rotate_nonces(keep_old=True)
    new = bound.nonce()
    assert new != old
    assert (outcome(old), outcome(new)) == (200, 200)
    okta.rotate_nonces()
    assert (outcome(old), outcome(new), outcome(bound.nonce())) == (400, 400, 200)
    third = bound.nonce()
    okta.nonce_lifetime = 60
    okta.skew(minutes=2)
    assert outcome(third) == 400
    okta.require_dpop_nonce = False
    proof = bound.proof("POST", okta.url + bound.path)
    assert bound.token_request([("DPoP", proof)]).status == 200


@pytest.mark.parametrize(("setting", "status"), [(True, 400), (401, 401)])
def test_the_api_asks_for_a_nonce_of_its_own_on_demand(
    okta: FakeOkta, bound: Caller, setting: Any, status: int
) -> None:
    token = bound.bound_token()
    okta.resource_nonce = setting
    reply = bound.bound_call(token)
    assert (reply.refusal, reply.body) == ((status, *okta_says("use_dpop_nonce")[1:]), b"")
    nonce = reply.header("dpop-nonce")
    reply = bound.bound_call(token, nonce=nonce)
    assert (reply.status, reply.header("dpop-nonce")) == (200, nonce)
    of_the_token_endpoint = okta.nonces.current(okta.now())
    assert bound.bound_call(token, nonce=of_the_token_endpoint).status == status


def test_a_scripted_nonce_challenge_carries_a_nonce_that_works(okta: FakeOkta, bound: Caller) -> None:
    token = bound.bound_token()
    okta.next("use_dpop_nonce")
    okta.next("use_dpop_nonce", status=401, on="/api/v1/users")
    proof = bound.proof("POST", okta.url + bound.path, nonce=okta.nonces.current(okta.now()))
    reply = bound.token_request([("DPoP", proof)])
    assert reply.refusal == okta_says("use_dpop_nonce")
    assert reply.header("dpop-nonce")
    reply = bound.bound_call(token)
    assert reply.status == 401
    assert bound.bound_call(token, nonce=reply.header("dpop-nonce")).status == 200
