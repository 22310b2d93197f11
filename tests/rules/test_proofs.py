"""The two JWTs that are signed, read by another library than the one that made them."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from types import SimpleNamespace
from typing import Any

import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, import_key

from okta_m2m import ConfigurationError, PrivateKey, Token
from okta_m2m._core.bindings import Bindings
from okta_m2m._core.proofs import BACKDATED, ClientAssertions, DPoPProofs, Nonces, ath_of
from okta_m2m._urls.origins import Origins
from okta_m2m.keys import thumbprint
from okta_m2m.testing import replay

ENDPOINT = "https://acme.okta.com/oauth2/v1/token"
NOW = 1_750_000_000.75


def made(maker: ClientAssertions, key: Any, now: float = NOW) -> str:
    return replay(maker.assertion(key, now)).result()


def verified(text: str, key: PrivateKey) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a JWT whose signature holds."""
    public = import_key({**key.public_jwk})
    token = jwt.decode(text, public, algorithms=[key.alg])
    return dict(token.header), dict(token.claims)


@pytest.fixture(scope="module", params=["RS256", "RS512", "ES256", "ES384", "ES512"])
def key(request: pytest.FixtureRequest, rsa_key: PrivateKey) -> PrivateKey:
    if request.param.startswith("RS"):
        return PrivateKey.from_jwk({**rsa_key.private_jwk(), "alg": request.param}, kid="kid-1")
    return PrivateKey.generate(request.param, kid="kid-1")


# ── client assertions ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_assertion_has_the_claims_that_okta_documents(key: PrivateKey) -> None:
    header, claims = verified(made(ClientAssertions("0oa1", ENDPOINT), key), key)
    assert header == {"alg": key.alg, "kid": "kid-1"}
    jti = claims.pop("jti")
    assert re.fullmatch("[0-9a-f]{32}", jti)
    assert claims == {
        "iss": "0oa1",
        "sub": "0oa1",
        "aud": ENDPOINT,  # one string, not a list
        "iat": int(NOW) - BACKDATED,
        "exp": int(NOW) + 300,
    }


def test_iat_is_a_few_seconds_in_the_past(ec_key: PrivateKey) -> None:
    for now in (NOW, float(int(NOW)), NOW + 0.2499):
        _, claims = verified(made(ClientAssertions("0oa1", ENDPOINT), ec_key, now), ec_key)
        assert claims["iat"] <= now - 4
        assert isinstance(claims["iat"], int)
        assert isinstance(claims["exp"], int)


def test_no_two_assertions_have_the_same_jti(ec_key: PrivateKey) -> None:
    maker = ClientAssertions("0oa1", ENDPOINT)
    assert len({verified(made(maker, ec_key), ec_key)[1]["jti"] for _ in range(200)}) == 200


def test_the_assertion_of_a_key_without_a_kid_has_no_kid() -> None:
    key = PrivateKey.generate("ES256")
    assert verified(made(ClientAssertions("0oa1", ENDPOINT), key), key)[0] == {"alg": "ES256"}


def test_claims_can_be_added_replaced_and_removed(ec_key: PrivateKey) -> None:
    maker = ClientAssertions(
        "0oa1", ENDPOINT, lifetime=60, claims={"scope_hint": ["a", "ü"], "aud": ["x", "y"], "iat": None, "jti": "mine"}
    )
    _, claims = verified(made(maker, ec_key), ec_key)
    assert claims == {
        "iss": "0oa1",
        "sub": "0oa1",
        "aud": ["x", "y"],
        "scope_hint": ["a", "ü"],
        "exp": int(NOW) + 60,
        "jti": "mine",
    }


def test_every_claim_can_be_removed(ec_key: PrivateKey) -> None:
    own = ("iss", "sub", "aud", "iat", "exp", "jti")
    for kept in (None, *own):
        claims = {name: None for name in own if name != kept}
        _, found = verified(made(ClientAssertions("0oa1", ENDPOINT, claims=claims), ec_key), ec_key)
        assert set(found) == ({kept} if kept else set())


def test_cached_parts_of_an_assertion_are_correct_for_every_client_audience_and_key(
    ec_key: PrivateKey,
) -> None:
    for client_id in ("0", "0o", "0oa", "0oa1", "ü", '"\\'):
        for audience in (ENDPOINT, f"{ENDPOINT}/x"):
            for key in (ec_key, ec_key.with_kid("another")):
                header, claims = verified(made(ClientAssertions(client_id, audience), key), key)
                assert (header.get("kid"), claims["iss"], claims["sub"]) == (key.kid, client_id, client_id)
                assert (claims["aud"], claims["exp"]) == (audience, int(NOW) + 300)


def test_changing_the_claims_after_passing_them_has_no_effect(ec_key: PrivateKey) -> None:
    given = {"groups": ["a"]}
    maker = ClientAssertions("0oa1", ENDPOINT, claims=given)
    given["groups"].append("b")
    given["more"] = []
    claims = verified(made(maker, ec_key), ec_key)[1]
    assert claims["groups"] == ["a"]
    assert "more" not in claims


@pytest.mark.parametrize("lifetime", [0, -1, 3600, 3601, 10**6, True])
def test_a_lifetime_that_okta_would_refuse_is_refused(lifetime: float) -> None:
    with pytest.raises(ConfigurationError, match="300"):
        ClientAssertions("0oa1", ENDPOINT, lifetime=lifetime)


def test_claims_that_are_not_json_are_refused_without_being_shown() -> None:
    with pytest.raises(ConfigurationError, match="JSON") as raised:
        ClientAssertions("0oa1", ENDPOINT, claims={"secret": b"hidden-value"})
    assert "hidden-value" not in str(raised.value)


# ── DPoP proofs ──────────────────────────────────────────────────────────────────────────────────────────────────────

# RFC 9449: the key and the proof of section 4.1, the thumbprint of section 6.1, the token and its hash of section 7.1.
RFC_JWK = {
    "kty": "EC",
    "crv": "P-256",
    "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
    "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
}
RFC_PROOF = (
    "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJo"
    "RjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19"
    ".eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0"
    "IjoxNTYyMjYyNjE2fQ"
    ".2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
)
RFC_THUMBPRINT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
RFC_TOKEN = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
RFC_ATH = "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"


class RfcKey:
    """The RFC's key, of which only the public half is known."""

    alg = "ES256"
    kid = None
    public_jwk = RFC_JWK
    in_memory = True

    def sign(self, message: bytes, /) -> bytes:
        return bytes(64)


def unverified(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = (urlsafe_b64decode(part + "==") for part in text.split("."))
    return json.loads(header), json.loads(claims)


def test_the_example_of_the_rfc_was_copied_correctly() -> None:
    assert jws.deserialize_compact(RFC_PROOF, ECKey.import_key(RFC_JWK)).payload


def test_a_proof_has_the_form_of_the_rfcs_example() -> None:
    proofs = DPoPProofs(RfcKey(), str)
    text = replay(proofs.proof("post", "https://server.example.com/token", 1562262616.0 + BACKDATED, None)).result()
    header, claims = unverified(text)
    rfc_header, rfc_claims = unverified(RFC_PROOF)
    assert header == rfc_header
    assert len(claims.pop("jti")) >= 16
    rfc_claims.pop("jti")
    assert claims == rfc_claims


def test_the_thumbprint_is_that_of_the_rfcs_example() -> None:
    assert thumbprint(RFC_JWK) == RFC_THUMBPRINT
    assert thumbprint({**RFC_JWK, "kid": "k", "use": "sig", "alg": "ES256"}) == RFC_THUMBPRINT


def test_the_hash_of_the_token_is_that_of_the_rfcs_example() -> None:
    proofs = DPoPProofs(RfcKey(), str)
    url = "https://resource.example.org/protectedresource"
    text = proofs.proof_now("GET", url, NOW, None, ath_of(Token(RFC_TOKEN, "DPoP").digest))
    _, claims = unverified(text)
    assert claims["ath"] == RFC_ATH
    assert (claims["htm"], claims["htu"]) == ("GET", url)


@pytest.mark.parametrize("now", [True, False])
def test_a_proof_contains_its_public_key_and_a_valid_signature(key: PrivateKey, now: bool) -> None:
    proofs = DPoPProofs(key, lambda url: url.partition("?")[0])
    token = Token("value", "DPoP")
    url = "https://acme.okta.com/api/v1/users?limit=2#x"
    if now:
        text = proofs.proof_now("PATCH", proofs.htu(url), NOW, "nonce-1", ath_of(token.digest))
    else:
        text = replay(proofs.proof("PATCH", url, NOW, "nonce-1", token.digest)).result()
    header, _ = unverified(text)
    assert set(header) == {"typ", "alg", "jwk"}
    assert (header["typ"], header["alg"]) == ("dpop+jwt", key.alg)
    assert not set(header["jwk"]) & {"d", "p", "q", "dp", "dq", "qi", "k"}
    registry = jws.JWSRegistry(algorithms=[key.alg])
    registry.max_header_length = 4096  # an RSA key takes room
    claims = json.loads(jws.deserialize_compact(text, import_key(header["jwk"]), registry=registry).payload)
    assert set(claims) == {"htm", "htu", "iat", "jti", "nonce", "ath"}
    assert (claims["htm"], claims["htu"]) == ("PATCH", "https://acme.okta.com/api/v1/users")
    assert claims["iat"] == int(NOW) - BACKDATED
    assert claims["nonce"] == "nonce-1"


def test_no_two_proofs_are_the_same(ec_key: PrivateKey) -> None:
    proofs = DPoPProofs(ec_key, str)
    made = {proofs.proof_now("GET", ENDPOINT, NOW, None, ath_of(Token("v", "DPoP").digest)) for _ in range(200)}
    assert len({unverified(text)[1]["jti"] for text in made}) == 200


def htu_of(url: str, org: str, origins: Origins) -> str:
    """The ``htu`` that an app of that org sends for a URL."""
    endpoint: Any = SimpleNamespace(url=f"{org}/oauth2/v1/token")
    return Bindings(endpoint, origins, PrivateKey.generate("ES256")).proofs().htu(url)


ACME, OTHER = "https://acme.okta.com", "https://other.okta.com"


@pytest.mark.parametrize(
    ("path", "okta", "rfc"),
    [
        ("", "/", "/"),
        ("/", "/", "/"),
        ("/api/v1/users", "/api/v1/users", "/api/v1/users"),
        ("/api/v1/users/", "/api/v1/users/", "/api/v1/users/"),
        ("/users?limit=2&after=a%2Fb", "/users", "/users"),
        ("/users#frag", "/users", "/users"),
        ("?limit=2", "/", "/"),
        ("/users/a%40b.example", "/users/a@b.example", "/users/a%40b.example"),
        ("/users/a@b.example", "/users/a@b.example", "/users/a@b.example"),
        ("/groups/a%20b", "/groups/a%20b", "/groups/a%20b"),
        ("/groups/a+b", "/groups/a+b", "/groups/a+b"),
        ("/groups/J%C3%BCrgen", "/groups/Jürgen", "/groups/J%C3%BCrgen"),
        ("/groups/Jürgen", "/groups/Jürgen", "/groups/J%C3%BCrgen"),
        ("/a%2Fb", "/a/b", "/a%2Fb"),
        ("/a%2fb", "/a/b", "/a%2Fb"),
        ("/%7euser", "/~user", "/~user"),
        ("/%41", "/A", "/A"),
        ("/100%25", "/100%25", "/100%25"),
        ("/a%22b", "/a%22b", "/a%22b"),
        ("/a%23b", "/a%23b", "/a%23b"),
        ("/a%3Fb", "/a?b", "/a%3Fb"),
        ("/a;v=1,2", "/a;v=1,2", "/a;v=1,2"),
    ],
)
def test_htu_has_the_form_that_okta_or_the_rfc_compares(path: str, okta: str, rfc: str) -> None:
    for origins in (Origins([ACME]), Origins([])):
        assert htu_of(ACME + path, ACME, origins) == ACME + okta
        assert htu_of(ACME + path, OTHER, origins) == ACME + rfc


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/../../a", "/a"),
        ("/a/..", "/"),
        ("/a//b", "/a//b"),
        ("/a/%2e%2e/b", "/b"),
        ("/.well-known/x", "/.well-known/x"),
        ("/a/...", "/a/..."),
        ("/a/b../c", "/a/b../c"),
    ],
)
def test_dot_segments_are_resolved_as_rfc_3986_says(path: str, normal: str) -> None:
    assert htu_of(ACME + path, OTHER, Origins([ACME])) == ACME + normal


@pytest.mark.parametrize("is_org", [True, False])
@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://ACME.Okta.com/x", "https://acme.okta.com"),
        ("HTTPS://acme.okta.com/x", "https://acme.okta.com"),
        ("https://acme.okta.com:443/x", "https://acme.okta.com"),
        ("https://acme.okta.com:8443/x", "https://acme.okta.com:8443"),
        ("http://127.0.0.1:8080/x", "http://127.0.0.1:8080"),
        ("http://localhost:80/x", "http://localhost"),
        ("https://[::1]:8443/x", "https://[::1]:8443"),
        ("https://[2001:DB8::1]/x", "https://[2001:db8::1]"),
    ],
)
def test_htu_has_the_origin_in_its_normal_form(is_org: bool, url: str, origin: str) -> None:
    for origins in (Origins([origin]), Origins([])):
        assert htu_of(url, origin if is_org else OTHER, origins) == f"{origin}/x"


# ── nonces ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_newest_nonce_of_each_origin_is_kept() -> None:
    nonces = Nonces()
    assert nonces.learn("https://a.example", "one")
    assert nonces.learn("https://b.example", "two")
    assert nonces.learn("https://a.example", "three")
    assert nonces.get("https://a.example") == "three"
    assert nonces.get("https://b.example") == "two"
    assert nonces.get("https://a.example:8443") is None
    assert nonces.get("https://c.example") is None


@pytest.mark.parametrize("bad", [None, "", "a b", 'a"b', "a\\b", "a\r\nb", "ü", "x" * 1025])
def test_an_invalid_nonce_is_not_kept(bad: str | None) -> None:
    nonces = Nonces()
    nonces.learn("https://a.example", "good")
    assert not nonces.learn("https://a.example", bad)
    assert nonces.get("https://a.example") == "good"
