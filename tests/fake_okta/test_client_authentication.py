"""FakeOkta authenticates a client by its assertion as strictly as Okta, in Okta's words.

Invariant: the tests talk to it over plain sockets, and use nothing of the client.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import ECKey, OctKey, OKPKey

from okta_m2m.testing import FakeOkta, Refusal
from plain_caller import ALL_ALGS, Caller, okta_says, public, rsa_key, signed


@pytest.mark.parametrize("alg", ALL_ALGS)
def test_oktas_six_algorithms_are_accepted(callers: Callable[..., Caller], alg: str) -> None:
    assert callers(alg).token_request().status == 200


@pytest.mark.parametrize("alg", ["PS256", "HS256", "EdDSA", "none"])
def test_any_other_algorithm_is_refused(callers: Callable[..., Caller], alg: str) -> None:
    caller = callers("RS256")
    if alg == "none":
        head = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
        payload = base64.urlsafe_b64encode(json.dumps(caller.claims()).encode()).rstrip(b"=").decode()
        assertion, code = f"{head}.{payload}.AAAA", "client_assertion_invalid_signature_algorithm"
        assert caller.token_request(client_assertion=f"{head}.{payload}.").refusal == okta_says(
            "client_assertion_invalid_jwt"
        )
    else:
        code = "client_assertion_invalid_signature_algorithm"
        key = {
            "PS256": caller.key,
            "HS256": OctKey.import_key(caller.key.as_pem(private=False)[:64].hex()),
            "EdDSA": OKPKey.generate_key("Ed25519"),
        }[alg]
        header = {"alg": "Ed25519" if alg == "EdDSA" else alg}
        assertion = signed(header, caller.claims(), key)

    assert caller.token_request(client_assertion=assertion).refusal == okta_says(code)


def test_an_algorithm_that_does_not_fit_the_key_is_an_invalid_signature(callers: Callable[..., Caller]) -> None:
    caller = callers("ES256")
    assertion = signed({"alg": "ES384"}, caller.claims(), ECKey.generate_key("P-384", private=True))
    assert caller.token_request(client_assertion=assertion).refusal == okta_says("client_assertion_invalid_signature")
    assertion = signed({"alg": "RS256"}, caller.claims(), rsa_key())
    assert caller.token_request(client_assertion=assertion).refusal == okta_says("client_assertion_invalid_signature")


HOUR = 3600


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"iss": "0oaother"}, "client_assertion_invalid_issuer"),
        ({"iss": ...}, "client_assertion_invalid_issuer"),
        ({"iss": 7}, "client_assertion_invalid_issuer"),
        ({"sub": "0oaother"}, "client_assertion_invalid_subject"),
        ({"sub": ...}, "client_assertion_invalid_subject"),
        ({"aud": ...}, "client_assertion_invalid_audience"),
        ({"aud": "{url}"}, "client_assertion_invalid_audience"),
        ({"aud": "{url}/oauth2/v1/token/"}, "client_assertion_invalid_audience"),
        ({"aud": "{url}/oauth2/default/v1/token"}, "client_assertion_invalid_audience"),
        ({"aud": ["{url}"]}, "client_assertion_invalid_audience"),
        ({"exp": ...}, "client_assertion_expiration_required"),
        ({"exp": "1"}, "client_assertion_expiration_required"),
        ({"exp": True}, "client_assertion_expiration_required"),
        ({"exp": 1.5e9}, "client_assertion_expiration_required"),
        ({"exp": -1}, "client_assertion_expired_token"),
        ({"exp": HOUR + 2}, "client_assertion_expires_too_far_in_future"),
        ({"iat": 2}, "client_assertion_issued_at_in_future"),
        ({"iat": "now"}, "client_assertion_invalid_jwt"),
        ({"jti": 5}, "client_assertion_invalid_jwt"),
    ],
)
def test_each_claim_of_the_assertion_is_checked(caller: Caller, changes: dict[str, Any], code: str) -> None:
    for name, value in changes.items():
        if isinstance(value, str):
            changes = {name: value.format(url=caller.okta.url)}
        elif isinstance(value, list):
            changes = {name: [item.format(url=caller.okta.url) for item in value]}
        elif name in ("exp", "iat") and isinstance(value, int) and not isinstance(value, bool):
            changes = {name: int(caller.okta.now()) + value}
    reply = caller.token_request(client_assertion=caller.assertion(**changes))

    assert reply.refusal == okta_says(code)
    assert caller.okta.refusals == [Refusal(*okta_says(code), "/oauth2/v1/token")]
    assert caller.okta.tokens_minted == 0


@pytest.mark.parametrize(
    "changes",
    [{"jti": ...}, {"iat": ...}, {"aud": ["https://elsewhere.example", "{url}/oauth2/v1/token"]}, {"exp": HOUR - 5}],
)
def test_optional_claims_and_a_list_of_audiences_are_accepted(caller: Caller, changes: dict[str, Any]) -> None:
    if "aud" in changes:
        changes = {"aud": [item.format(url=caller.okta.url) for item in changes["aud"]]}
    if changes.get("exp") == HOUR - 5:
        changes = {"exp": int(caller.okta.now()) + HOUR - 5}
    assert caller.token_request(client_assertion=caller.assertion(**changes)).status == 200


def test_an_assertion_works_once_even_if_it_was_refused(caller: Caller, bound: Caller) -> None:
    used = okta_says("client_assertion_already_used")
    assertion = caller.assertion()
    assert caller.token_request(client_assertion=assertion).status == 200
    assert caller.token_request(client_assertion=assertion).refusal == used

    refused = caller.assertion()
    assert caller.token_request(client_assertion=refused, scope="okta.groups.read").status == 400
    assert caller.token_request(client_assertion=refused).refusal == used

    nonce_asked = bound.assertion()
    proof = bound.proof("POST", bound.okta.url + bound.path)
    reply = bound.token_request([("DPoP", proof)], client_assertion=nonce_asked)
    assert reply.refusal == okta_says("use_dpop_nonce")
    proof = bound.proof("POST", bound.okta.url + bound.path, nonce=reply.header("dpop-nonce"))
    assert bound.token_request([("DPoP", proof)], client_assertion=nonce_asked).refusal == used


@pytest.mark.parametrize(
    "break_it",
    [
        lambda text: "not.a.jwt",
        lambda text: text + "=",
        lambda text: text.replace(".", "..", 1),
        lambda text: " " + text,
        lambda text: text.rsplit(".", 1)[0],
        lambda text: "." + text.split(".", 1)[1],
    ],
)
def test_a_malformed_jwt_is_refused(caller: Caller, break_it: Callable[[str], str]) -> None:
    reply = caller.token_request(client_assertion=break_it(caller.assertion()))
    assert reply.refusal == okta_says("client_assertion_invalid_jwt")


def test_another_key_or_a_changed_claim_breaks_the_signature(caller: Caller) -> None:
    forged = signed({"alg": "ES256"}, caller.claims(), ECKey.generate_key("P-256", private=True))
    assert caller.token_request(client_assertion=forged).refusal == okta_says("client_assertion_invalid_signature")
    head, _, tail = caller.assertion().split(".")
    payload = base64.urlsafe_b64encode(json.dumps(caller.claims()).encode()).rstrip(b"=").decode()
    reply = caller.token_request(client_assertion=f"{head}.{payload}.{tail}")
    assert reply.refusal == okta_says("client_assertion_invalid_signature")


def test_kid_is_needed_as_soon_as_two_keys_are_active(callers: Callable[..., Caller]) -> None:
    caller = callers(kid="one")
    wrong = okta_says("client_assertion_invalid_kid")
    assert caller.token_request().status == 200
    assert caller.token_request(client_assertion=caller.assertion({"kid": "two"})).refusal == wrong

    caller.app.add_key(public(ECKey.generate_key("P-256"), kid="two"))
    assert caller.token_request().refusal == wrong
    assert caller.token_request(client_assertion=caller.assertion({"kid": "one"})).status == 200

    caller.app.deactivate_key("two")
    assert caller.token_request().status == 200
    assert caller.token_request(client_assertion=caller.assertion({"kid": "two"})).refusal == wrong

    caller.app.deactivate_key("one")
    assert caller.token_request().refusal == okta_says("client_assertion_jwks_not_configured")


def test_unusable_keys_are_refused(okta: FakeOkta, caller: Caller) -> None:
    caller.app.jwks = {"keys": [public(caller.key, use="enc")]}
    assert caller.token_request().refusal == okta_says("client_assertion_not_signed_with_signing_key")
    with pytest.raises(ValueError, match=r"Register the public key: jwks=key\.jwks\(\)"):
        okta.add_app({"keys": [rsa_key().as_dict(private=True)]})
    short = rsa.generate_private_key(65537, 1024).public_key().public_numbers()
    modulus = base64.urlsafe_b64encode(short.n.to_bytes(128)).rstrip(b"=").decode()
    app = okta.add_app({"kty": "RSA", "e": "AQAB", "n": modulus})
    other = Caller(okta, app, rsa_key(), "RS256")
    assert other.token_request().refusal == okta_says("client_assertion_invalid_jwks")
    other.connection.close()


def test_an_inactive_app_is_refused(caller: Caller) -> None:
    token = caller.token()
    caller.app.status = "INACTIVE"
    assert caller.token_request().refusal == okta_says("invalid_client")
    assert caller.call(token).refusal == okta_says("access_token_invalid")


def test_the_clients_own_id_beside_the_assertion_is_accepted(caller: Caller) -> None:
    assert caller.token_request(client_id=caller.app.client_id).status == 200


def test_duplicate_parameters_and_other_credentials_are_refused(caller: Caller) -> None:
    form = urlencode(caller.form())
    assert caller.token_request(raw=form + "&scope=okta.users.read").refusal == okta_says("duplicate_oauth_params")
    in_query = caller.token_request(query="?" + urlencode({"client_assertion": caller.assertion()}))
    assert in_query.refusal == okta_says("client_credentials_in_query")
    basic = [("Authorization", "Basic eDp5")]
    assert caller.token_request(basic).refusal == okta_says("multiple_client_credentials")
    alone = caller.token_request(basic, client_assertion=None, client_assertion_type=None)
    assert alone.refusal == okta_says("unsupported_auth_method_client_creds")
    caller.path = "/oauth2/default/v1/token"
    alone = caller.token_request(basic, client_assertion=None, client_assertion_type=None)
    assert alone.refusal == okta_says("invalid_basic_auth_creds")
    posted = caller.token_request(client_secret="s", client_assertion=None, client_assertion_type=None)
    assert posted.refusal == okta_says("invalid_client")
