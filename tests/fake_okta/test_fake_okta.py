"""FakeOkta is as strict as Okta, in Okta's words.

Invariant: the tests talk to it over plain sockets, and use nothing of the client.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import secrets
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jws, jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.registry import HeaderParameter

from okta_documents import load_document, okta_documents_folder
from okta_m2m.testing import App, FakeOkta, Refusal
from okta_m2m.testing.fake_okta._refusals import API_ERRORS, OAUTH_ERRORS

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALL_ALGS = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]
CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


@cache
def rsa_key(bits: int = 2048) -> RSAKey:
    return RSAKey.generate_key(bits, private=True)


def key_for(alg: str) -> RSAKey | ECKey:
    return rsa_key() if alg.startswith("RS") else ECKey.generate_key(CURVES[alg], private=True)


def public(key: RSAKey | ECKey, **more: str) -> dict[str, Any]:
    return {**key.as_dict(private=False), **more}


def signed(header: Mapping[str, Any], claims: Mapping[str, Any], key: Any) -> str:
    # Disable joserfc's own checks: these tests sign what no library should.
    registry = jws.JWSRegistry(
        {"extra": HeaderParameter("unknown to Okta", "str")},
        algorithms=[*ALL_ALGS, "PS256", "HS256", "Ed25519", "none"],
        strict_check_header=False,
    )
    registry.max_header_length = 8192
    return jws.serialize_compact(dict(header), json.dumps(claims), key, registry=registry)


@dataclass
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def refusal(self) -> tuple[int, str, str]:
        """Status, code and text of the refusal, in any of its three formats."""
        if not self.body:
            challenge = self.header("www-authenticate") or ""
            error = re.search(r'error="([^"]*)"', challenge)
            text = re.search(r'error_description="([^"]*)"', challenge)
            return self.status, error[1] if error else "", text[1] if text else ""
        content = self.json
        if "errorCode" in content:
            assert set(content) == {"errorCode", "errorSummary", "errorLink", "errorId", "errorCauses"}
            return self.status, content["errorCode"], content["errorSummary"]
        assert set(content) == {"error", "error_description"}
        return self.status, content["error"], content["error_description"]


def okta_says(code: str, filled: str = "") -> tuple[int, str, str]:
    status, error, text = OAUTH_ERRORS[code]
    return status, error, text.format(filled)


@dataclass
class Caller:
    """A plain client with one kept-alive connection, one key and one DPoP key."""

    okta: FakeOkta
    app: App
    key: RSAKey | ECKey
    alg: str = "ES256"
    dpop_key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", private=True))
    path: str = "/oauth2/v1/token"
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        port = self.okta.server.port
        self.connection: http.client.HTTPConnection = (
            http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            if self.tls is None
            else http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=self.tls)
        )

    def send(
        self, method: str, target: str, headers: list[tuple[str, str]] | None = None, body: bytes | None = None
    ) -> Reply:
        self.connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers or []:
            self.connection.putheader(name, value)
        if body is not None:
            self.connection.putheader("Content-Length", str(len(body)))
        self.connection.endheaders(body)
        response = self.connection.getresponse()
        return Reply(response.status, response.getheaders(), response.read())

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(self.okta.now())
        claims = {
            "iss": self.app.client_id,
            "sub": self.app.client_id,
            "aud": self.okta.url + self.path,
            "iat": now,
            "exp": now + 300,
            "jti": secrets.token_hex(16),
        } | changes
        return {name: value for name, value in claims.items() if value is not ...}

    def assertion(self, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        return signed({"alg": self.alg, **(header or {})}, self.claims(**changes), self.key)

    def form(self, **changes: Any) -> dict[str, Any]:
        form = {
            "grant_type": "client_credentials",
            "scope": "okta.users.read",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": ...,
        } | changes
        if form["client_assertion"] is ...:
            form["client_assertion"] = self.assertion()
        return {name: value for name, value in form.items() if value is not None}

    def token_request(
        self, headers: list[tuple[str, str]] | None = None, query: str = "", raw: str | None = None, **form: Any
    ) -> Reply:
        body = raw if raw is not None else urlencode(self.form(**form))
        sent = [("Content-Type", "application/x-www-form-urlencoded"), *(headers or [])]
        return self.send("POST", self.path + query, sent, body.encode())

    def token(self, **form: Any) -> str:
        reply = self.token_request(**form)
        assert reply.status == 200, reply.refusal
        return str(reply.json["access_token"])

    def proof(
        self, method: str, url: str, token: str | None = None, header: Mapping[str, Any] | None = None, **changes: Any
    ) -> str:
        claims: dict[str, Any] = {
            "htm": method,
            "htu": url,
            "iat": int(self.okta.now()),
            "jti": secrets.token_hex(16),
        }
        if token is not None:
            claims["ath"] = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()
        claims = {name: value for name, value in (claims | changes).items() if value is not ...}
        made = {"typ": "dpop+jwt", "alg": "ES256", "jwk": public(self.dpop_key), **(header or {})}
        return signed({name: value for name, value in made.items() if value is not ...}, claims, self.dpop_key)

    def nonce(self) -> str:
        reply = self.token_request([("DPoP", self.proof("POST", self.okta.url + self.path))])
        assert reply.refusal == okta_says("use_dpop_nonce")
        nonce = reply.header("dpop-nonce")
        assert nonce
        return nonce

    def bound_token(self, **form: Any) -> str:
        proof = self.proof("POST", self.okta.url + self.path, nonce=self.nonce())
        reply = self.token_request([("DPoP", proof)], **form)
        assert reply.status == 200, reply.refusal
        assert reply.json["token_type"] == "DPoP"
        return str(reply.json["access_token"])

    def call(self, token: str, target: str = "/api/v1/users", method: str = "GET", body: bytes | None = None) -> Reply:
        return self.send(method, target, [("Authorization", f"Bearer {token}")], body)

    def bound_call(
        self, token: str, target: str = "/api/v1/users", url: str | None = None, method: str = "GET", **changes: Any
    ) -> Reply:
        proof = self.proof(method, url or self.okta.url + target.partition("?")[0], token, **changes)
        return self.send(method, target, [("Authorization", f"DPoP {token}"), ("DPoP", proof)])


@pytest.fixture
def okta() -> Iterator[FakeOkta]:
    with FakeOkta() as running:
        yield running


@pytest.fixture
def callers(okta: FakeOkta) -> Iterator[Callable[..., Caller]]:
    made: list[Caller] = []

    def make(alg: str = "ES256", **settings: Any) -> Caller:
        key = key_for(alg)
        kid = settings.pop("kid", None)
        jwk = public(key, **({"kid": kid} if kid else {}))
        path = settings.pop("path", "/oauth2/v1/token")
        app = okta.add_app({"keys": [jwk]}, settings.pop("scopes", ["okta.users.read"]), **settings)
        made.append(Caller(okta, app, key, alg, path=path))
        return made[-1]

    yield make
    for caller in made:
        caller.connection.close()


@pytest.fixture
def caller(callers: Callable[..., Caller]) -> Caller:
    return callers()


@pytest.fixture
def bound(callers: Callable[..., Caller]) -> Caller:
    return callers(dpop_bound=True)


# -- the token endpoint -----------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("alg", ALL_ALGS)
def test_okta_takes_these_six_algorithms(callers: Callable[..., Caller], alg: str) -> None:
    assert callers(alg).token_request().status == 200


@pytest.mark.parametrize("alg", ["PS256", "HS256", "EdDSA", "none"])
def test_no_other_algorithm_is_taken(callers: Callable[..., Caller], alg: str) -> None:
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


def test_an_algorithm_of_the_wrong_curve_or_type_is_a_bad_signature(callers: Callable[..., Caller]) -> None:
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
def test_what_okta_leaves_open_is_left_open(caller: Caller, changes: dict[str, Any]) -> None:
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


def test_a_scripted_fault_uses_up_assertion_and_proof_too(okta: FakeOkta, bound: Caller) -> None:
    nonce = bound.nonce()
    assertion, proof = bound.assertion(), bound.proof("POST", okta.url + bound.path, nonce=nonce)
    okta.next(503)
    assert bound.token_request([("DPoP", proof)], client_assertion=assertion).status == 503
    fresh = bound.proof("POST", okta.url + bound.path, nonce=nonce)
    reply = bound.token_request([("DPoP", fresh)], client_assertion=assertion)
    assert reply.refusal == okta_says("client_assertion_already_used")
    assert bound.token_request([("DPoP", proof)]).refusal == okta_says("dpop_proof_already_used")


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
def test_what_is_no_jwt_is_not_parsed_with_goodwill(caller: Caller, break_it: Callable[[str], str]) -> None:
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


def test_keys_that_okta_would_not_take(okta: FakeOkta, caller: Caller) -> None:
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


def test_an_inactive_app_is_no_client(caller: Caller) -> None:
    token = caller.token()
    caller.app.status = "INACTIVE"
    assert caller.token_request().refusal == okta_says("invalid_client")
    assert caller.call(token).refusal == okta_says("access_token_invalid")


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
        ({"grant_type": "password"}, "unsupported_grant_type", "client_credentials"),
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


def test_the_clients_own_id_beside_the_assertion_is_fine(caller: Caller) -> None:
    assert caller.token_request(client_id=caller.app.client_id).status == 200


def test_where_credentials_and_parameters_may_not_be(caller: Caller) -> None:
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


def test_the_org_leaves_out_scopes_without_a_word(caller: Caller) -> None:
    reply = caller.token_request(scope="okta.groups.read okta.users.read okta.logs.read")
    assert (reply.status, reply.json["scope"]) == (200, "okta.users.read")


def test_a_custom_server_knows_its_own_scopes_only(okta: FakeOkta, callers: Callable[..., Caller]) -> None:
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


def test_an_unknown_authorization_server_answers_in_the_apis_shape(caller: Caller) -> None:
    caller.path = "/oauth2/aus404/v1/token"
    status, code, text = caller.token_request().refusal
    assert (status, code) == (404, "E0000007")
    assert "aus404" in text


def test_the_servers_clock_runs_ahead_or_behind_on_demand(okta: FakeOkta, caller: Caller) -> None:
    here = int(time.time())
    okta.skew(minutes=10)
    reply = caller.token_request(client_assertion=caller.assertion(iat=here, exp=here + 300))
    assert reply.refusal == okta_says("client_assertion_expired_token")
    date = parsedate_to_datetime(reply.header("date") or "").timestamp()
    assert 590 < date - here < 700
    okta.skew(seconds=-600)
    reply = caller.token_request(client_assertion=caller.assertion(iat=here, exp=here + 300))
    assert reply.refusal == okta_says("client_assertion_issued_at_in_future")
    token = caller.token()
    assert caller.call(token).status == 200
    okta.skew(minutes=60)
    assert caller.call(token).refusal == okta_says("token_expired")


# -- faults -----------------------------------------------------------------------------------------------------------


def test_a_rate_limit_comes_in_the_apis_shape_with_its_reset(okta: FakeOkta, caller: Caller) -> None:
    okta.next(429, reset=7)
    okta.next(429, concurrency=True)
    reply = caller.token_request()
    assert reply.refusal == (429, "E0000047", API_ERRORS["E0000047"][1])
    date = int(parsedate_to_datetime(reply.header("date") or "").timestamp())
    assert int(reply.header("x-rate-limit-reset") or 0) - date in (7, 8)
    assert (reply.header("x-rate-limit-remaining"), reply.header("retry-after")) == ("0", None)
    reply = caller.token_request()
    assert (reply.header("x-rate-limit-limit"), reply.header("x-rate-limit-remaining")) == ("0", "0")
    assert caller.token_request().status == 200
    assert okta.refusals == []


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"what": 500}, okta_says("server_error")),
        ({"what": "temporarily_unavailable"}, okta_says("temporarily_unavailable")),
        ({"error": "temporarily_unavailable", "status": 400}, okta_says("temporarily_unavailable")),
        ({"what": "jwks_uri_error"}, okta_says("jwks_uri_error")),
        ({"what": 401}, okta_says("invalid_client")),
        ({"what": "E0000015"}, (401, "E0000015", API_ERRORS["E0000015"][1])),
        ({"error": "mfa_required", "description": "Words", "status": 403}, (403, "mfa_required", "Words")),
    ],
)
def test_faults_named_by_status_or_error(
    okta: FakeOkta, caller: Caller, fault: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    okta.next(fault.pop("what", None), **fault)
    assert caller.token_request().refusal == expected
    assert caller.token_request().status == 200


def test_an_error_that_okta_does_not_have_must_be_described(okta: FakeOkta) -> None:
    with pytest.raises(ValueError, match="pass description="):
        okta.next("no_such_error")


def test_faults_beneath_the_protocol(okta: FakeOkta, caller: Caller) -> None:
    okta.next(html=True, status=502)
    okta.next(garbage=True)
    okta.next(body={"hello": 1}, headers={"X-Extra": "1", "Date": None})
    okta.next(drop=True)
    page = caller.token_request()
    assert (page.status, page.body[:9]) == (502, b"<!DOCTYPE")
    assert caller.token_request().status == 200
    crafted = caller.token_request()
    assert (crafted.json, crafted.header("x-extra"), crafted.header("date")) == ({"hello": 1}, "1", None)
    with pytest.raises(ConnectionError):
        caller.token_request()
    caller.connection.close()
    assert caller.token_request().status == 200
    assert okta.tokens_minted == 1


def test_token_answers_can_be_bent(okta: FakeOkta, caller: Caller) -> None:
    okta.next(token={"expires_in": None, "scope": None, "token_type": "N_A"})
    okta.next(token={"expires_in": "soon"}, times=2)
    assert caller.token_request().json.keys() == {"token_type", "access_token"}
    assert [caller.token_request().json["expires_in"] for _ in range(3)] == ["soon", "soon", 3600]
    assert okta.tokens_minted == 4


def test_faults_keep_to_their_path_and_queue_up(okta: FakeOkta, caller: Caller) -> None:
    token = caller.token()
    okta.next("E0000015", on="/api/v1/users")
    okta.next(503, on="/api/v1/*")
    okta.next(401, on="/api/v1/users/*")
    assert caller.token_request().status == 200
    assert caller.call(token, "/api/v1/users").status == 401
    assert caller.call(token, "/api/v1/users/x").status == 503
    reply = caller.call(token, "/api/v1/users/x")
    assert (reply.refusal, reply.body) == (okta_says("access_token_invalid"), b"")
    assert caller.call(token, "/api/v1/users/x").status == 200


def test_a_fault_for_n_requests_is_used_by_exactly_n_callers_at_once(okta: FakeOkta) -> None:
    okta.next(503, times=20, on="/api/v1/users")

    def call(_: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", okta.server.port, timeout=30)
        connection.request("GET", "/api/v1/users")
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(call, range(50)))
    assert (statuses.count(503), statuses.count(401)) == (20, 30)


# -- the management API -----------------------------------------------------------------------------------------------


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


def test_a_bad_token_is_told_from_a_revoked_and_an_expired_one(okta: FakeOkta, caller: Caller) -> None:
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


def test_what_is_no_oauth_token_gets_the_apis_own_error(caller: Caller) -> None:
    said = (401, "E0000011", API_ERRORS["E0000011"][1])
    token = caller.token()
    assert caller.send("GET", "/api/v1/users").refusal == said
    assert caller.send("GET", "/api/v1/users", [("Authorization", f"SSWS {token}")]).refusal == said
    in_query = caller.send("GET", f"/api/v1/users?access_token={token}", [("Authorization", f"Bearer {token}")])
    assert in_query.refusal == okta_says("access_token_in_query")
    twice = caller.send("GET", "/api/v1/users", [("Authorization", f"Bearer {token}")] * 2)
    assert twice.refusal == okta_says("invalid_request")


def test_a_feature_that_is_off_and_a_page_that_is_not_there(okta: FakeOkta, caller: Caller) -> None:
    token = caller.token()
    okta.features_off.add("/api/v1/authorizationServers")
    assert caller.call(token, "/api/v1/authorizationServers/x").refusal[:2] == (401, "E0000015")
    assert caller.call(token, "/api/v1/nothing").refusal[:2] == (404, "E0000007")
    assert caller.send("GET", "/nothing").refusal[:2] == (404, "E0000007")


def test_writes_tell_what_body_arrived(okta: FakeOkta, callers: Callable[..., Caller]) -> None:
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


def test_a_request_is_recorded_as_it_came_off_the_wire(okta: FakeOkta, caller: Caller) -> None:
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


def test_redirects_go_where_they_are_told(okta: FakeOkta, caller: Caller) -> None:
    reply = caller.send("GET", "/redirect?" + urlencode({"to": "https://b.example/x?y=1", "status": 307}))
    assert (reply.status, reply.header("location")) == (307, "https://b.example/x?y=1")
    okta.revoke_all()
    assert caller.call("bad", "/redirect?to=/x").refusal == okta_says("access_token_invalid")


# -- DPoP -------------------------------------------------------------------------------------------------------------


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


def test_an_org_may_lock_dpop_on() -> None:
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


def test_a_proof_works_once_wherever_it_was_shown(okta: FakeOkta, bound: Caller) -> None:
    token = bound.bound_token()
    again: dict[str, Any] = {"jti": secrets.token_hex()}
    assert bound.bound_call(token, **again).status == 200
    assert bound.bound_call(token, **again).refusal == okta_says("dpop_proof_already_used")
    proof = bound.proof("POST", okta.url + bound.path, nonce=okta.nonces.current(okta.now()), **again)
    assert bound.token_request([("DPoP", proof)]).refusal == okta_says("dpop_proof_already_used")


def test_two_proofs_are_one_too_many(okta: FakeOkta, bound: Caller) -> None:
    url = okta.url + bound.path
    proofs = [("DPoP", bound.proof("POST", url)), ("dpop", bound.proof("POST", url))]
    many = okta_says("invalid_dpop_proof_multiple_headers_not_allowed")
    assert bound.token_request(proofs).refusal == many
    token = bound.bound_token()
    assert bound.send("GET", "/api/v1/users", [("Authorization", f"DPoP {token}"), *proofs]).refusal == many


def test_a_bound_token_is_worthless_without_its_key_or_its_scheme(okta: FakeOkta, bound: Caller) -> None:
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


def test_a_bearer_token_is_not_to_be_sent_as_dpop(caller: Caller) -> None:
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


# -- APIs behind a custom authorization server ------------------------------------------------------------------------


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


def test_a_protected_api_says_a_scripted_refusal_as_the_rfcs_do(okta: FakeOkta, callers: Callable[..., Caller]) -> None:
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


# -- discovery, introspection, revocation -----------------------------------------------------------------------------


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


def test_introspection_and_revocation_want_an_assertion_for_their_own_url(okta: FakeOkta, caller: Caller) -> None:
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


# -- the server -------------------------------------------------------------------------------------------------------


def test_connections_are_kept_alive_and_idle_ones_do_not_hold_up_the_end() -> None:
    with FakeOkta() as okta:
        app = okta.add_app()
        assert app.private_jwk
        caller = Caller(okta, app, ECKey.import_key(app.private_jwk))
        token = caller.token()
        used = caller.connection.sock
        assert caller.call(token).status == 200
        assert caller.connection.sock is used
        idle = [socket.create_connection(("127.0.0.1", okta.server.port)) for _ in range(5)]
        for connection in idle:
            connection.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 404 ")
    for connection in [*idle, used]:
        assert connection.recv(1) == b""
        connection.close()
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", okta.server.port))
    caller.connection.close()


def test_a_thousand_callers_connect_at_once(okta: FakeOkta) -> None:
    app = okta.add_app()
    assert app.private_jwk
    caller = Caller(okta, app, ECKey.import_key(app.private_jwk))
    token = caller.token()
    caller.connection.close()
    request = f"GET /api/v1/users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    connections = [socket.create_connection(("127.0.0.1", okta.server.port)) for _ in range(1000)]
    for connection in connections:
        connection.sendall(request)
    answers = [connection.recv(12) for connection in connections]
    for connection in connections:
        connection.close()
    assert set(answers) == {b"HTTP/1.1 200"}
    assert okta.api_calls == 1000


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_malformed_http_is_refused_and_the_connection_closed(okta: FakeOkta, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", okta.server.port)) as connection:
        connection.settimeout(30)
        connection.sendall(request_bytes)
        received = b""
        while chunk := connection.recv(4096):
            received += chunk
    assert received.startswith(b"HTTP/1.1 400 ")
    assert okta.requests == []


def test_a_client_that_resets_disturbs_nobody(okta: FakeOkta, caller: Caller) -> None:
    rude = socket.create_connection(("127.0.0.1", okta.server.port))
    rude.sendall(b"POST /oauth2/v1/token HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    rude.close()
    assert caller.token_request().status == 200


def test_it_serves_https() -> None:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    with FakeOkta(ssl_context=server) as okta:
        assert okta.url.startswith("https://127.0.0.1:")
        silent = socket.create_connection(
            ("127.0.0.1", okta.server.port)
        )  # never begins the handshake, and must delay nobody
        app = okta.add_app(dpop_bound=True)
        assert app.private_jwk
        caller = Caller(okta, app, ECKey.import_key(app.private_jwk), tls=client)
        assert caller.bound_call(caller.bound_token()).status == 200
        caller.connection.close()
    silent.close()


def test_pages_of_your_own_come_from_pytest_httpserver(okta: FakeOkta, caller: Caller) -> None:
    okta.server.expect_request("/weather", method="POST", data="x=1").respond_with_json({"sun": True})
    reply = caller.send("POST", "/weather", body=b"x=1")
    assert (reply.status, reply.json) == (200, {"sun": True})


def test_an_error_inside_a_page_of_your_own_comes_out_at_the_end() -> None:
    def broken(_: object) -> Any:
        raise LookupError("mine")

    fake = FakeOkta()
    fake.start()
    fake.server.expect_request("/broken").respond_with_handler(broken)
    connection = http.client.HTTPConnection("127.0.0.1", fake.server.port, timeout=30)
    connection.request("GET", "/broken")
    assert connection.getresponse().status == 500
    connection.close()
    with pytest.raises(LookupError, match="mine"):
        fake.stop()


def test_counters_count_under_load_and_reset(okta: FakeOkta) -> None:
    app = okta.add_app()
    assert app.private_jwk
    key = ECKey.import_key(app.private_jwk)
    started = threading.Barrier(8)

    def work(_: int) -> None:
        caller = Caller(okta, app, key)
        started.wait(30)
        for _round in range(5):
            assert caller.call(caller.token()).status == 200
        caller.connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert (okta.tokens_minted, okta.token_requests, okta.api_calls, len(okta.requests)) == (40, 40, 40, 80)
    okta.reset()
    assert (okta.tokens_minted, okta.token_requests, okta.api_calls, okta.requests) == (0, 0, 0, [])


def test_a_delay_holds_up_one_request_only_and_does_not_outlast_the_server() -> None:
    fake = FakeOkta().start()
    app = fake.add_app()
    assert app.private_jwk
    slow, quick = (Caller(fake, app, ECKey.import_key(app.private_jwk)) for _ in range(2))

    def abandoned() -> bool:
        try:
            slow.token_request()
        except (ConnectionError, http.client.HTTPException):
            return True
        return False

    fake.next(delay=600)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(abandoned)
        while fake.token_requests == 0:
            threading.Event().wait(0.001)
        assert quick.token_request().status == 200
        assert not waiting.done()
        fake.token_delay = 600
        fake.stop()
        waiting.result(60)
    slow.connection.close()
    quick.connection.close()


def test_each_answer_is_reported_with_its_status() -> None:
    reported: list[tuple[str, int]] = []
    with FakeOkta(on_answer=lambda request, status: reported.append((request.path, status))) as okta:
        app = okta.add_app()
        assert app.private_jwk
        caller = Caller(okta, app, ECKey.import_key(app.private_jwk))
        okta.next(503)
        assert caller.token_request().status == 503
        assert caller.call(caller.token()).status == 200
        okta.next(drop=True)
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            caller.token_request()
        caller.connection.close()
    token = "/oauth2/v1/token"
    assert reported == [(token, 503), (token, 200), ("/api/v1/users", 200), (token, 0)]


def test_the_address_is_unknown_before_the_start() -> None:
    with pytest.raises(RuntimeError, match="with FakeOkta"):
        _ = FakeOkta().url


# -- the promises about the package -----------------------------------------------------------------------------------


def test_every_refusal_is_worded_as_okta_words_it() -> None:
    folder = okta_documents_folder()

    def rows(name: str) -> list[dict[str, Any]]:
        document = json.loads((folder / name).read_text())
        return next(value for value in document.values() if isinstance(value, list))

    # Okta's table has `en` where the server fills in a value.
    published = {
        row["internalErrorCode"]: (row["statusCode"], row["errorCode"], row["errorDescription"].replace("[en]", "[{}]"))
        for row in rows("okta-oauth2-error-codes.json")
    }
    for code, row in OAUTH_ERRORS.items():
        assert row == published[code]
    summaries = {
        row["errorCode"]: (row["statusCode"], row["errorSummary"].replace("{0}", "{}"))
        for row in rows("okta-api-error-codes.json")
    }
    for code, api_row in API_ERRORS.items():
        assert api_row == summaries[code]


def test_the_scopes_are_those_that_okta_publishes(okta: FakeOkta) -> None:
    listed = load_document("management.yaml")["components"]["securitySchemes"]["oauth2"]["flows"]["authorizationCode"]
    # The other document also has the scopes of OpenID Connect.
    schemes = load_document("oauth.yaml")["components"]["securitySchemes"]
    others = {
        scope
        for scheme in schemes.values()
        for flow in scheme.get("flows", {}).values()
        for scope in flow["scopes"]
        if scope.startswith("okta.")
    }
    assert len(listed["scopes"]) == 109
    assert okta.scopes == set(listed["scopes"]) | others


def test_an_app_is_granted_only_scopes_that_there_are(okta: FakeOkta) -> None:
    with pytest.raises(ValueError, match=r"okta\.user\.read.*okta\.users\.read.*okta\.scopes\.add"):
        okta.add_app(scopes=["okta.users.read", "okta.user.read"])
    assert okta.apps == {}
    with pytest.raises(ValueError, match=r"api:read.*authorization server"):
        okta.add_app(scopes=["api:read"])
    okta.scopes.add("okta.news.read")
    app = okta.add_app(scopes=["okta.news.read"])
    assert app.private_jwk
    caller = Caller(okta, app, ECKey.import_key(app.private_jwk))
    assert caller.token_request(scope="okta.news.read").json["scope"] == "okta.news.read"
    caller.connection.close()


def test_scopes_reach_the_form_encoded_or_plus_signed(caller: Caller) -> None:
    caller.app.scopes = ["okta.users.read", "okta.groups.read"]
    for blank in ("+", "%20"):
        form = caller.form()
        form["scope"] = "SCOPES"
        raw = urlencode(form, quote_via=quote).replace("SCOPES", f"okta.users.read{blank}okta.groups.read")
        assert caller.token_request(raw=raw).json["scope"] == "okta.users.read okta.groups.read"
