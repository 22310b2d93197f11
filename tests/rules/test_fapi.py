"""The profile fapi: what an app with it requires, and that nothing can lower it."""

from __future__ import annotations

import json
import ssl
from base64 import urlsafe_b64decode
from collections.abc import Callable
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from okta_m2m import ConfigurationError, PrivateKey, ServiceApp
from okta_m2m._clients.verified_tls import is_verifying
from okta_m2m._core.proofs import ClientAssertions
from okta_m2m.effects import Load, Response, Sign
from okta_m2m.errors import SigningFailed, TokenError
from okta_m2m.stores.file import FileStore
from okta_m2m.testing import replay

Made = Callable[..., ServiceApp]


@pytest.fixture
def made(ec_key: PrivateKey) -> Made:
    """``made(org_url, **arguments of ServiceApp)``: an app with the profile."""

    def make(org_url: str = "https://acme.okta.com", **arguments: Any) -> ServiceApp:
        arguments = {"client_id": "0oa1", "key": ec_key, "scopes": ["okta.users.read"], **arguments}
        return ServiceApp(org_url, profile="fapi", **arguments)

    return make


def bearer() -> Response:
    return Response(200, [], b'{"token_type": "Bearer", "expires_in": 3600, "access_token": "t"}')


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"dpop": False}, "requires DPoP"),
        ({"org_url": "http://localhost:8080"}, "not allow plain HTTP"),
        ({"origins": ["http://127.0.0.1:8000"]}, "not allow plain HTTP"),
        ({"key": PrivateKey.generate("ES384")}, "ES256"),
        ({"key": [PrivateKey.generate("ES256"), PrivateKey.generate("ES512")]}, "ES256"),
        ({"dpop": PrivateKey.generate("ES384")}, "ES256"),
    ],
    ids=["dpop", "org", "origin", "key", "second-key", "dpop-key"],
)
def test_a_setting_that_would_lower_the_profile_is_refused(made: Made, arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as refused:
        made(**arguments)
    assert refused.value.remedy


def test_an_unknown_profile_is_refused_without_showing_it(ec_key: PrivateKey) -> None:
    with pytest.raises(ConfigurationError) as refused:
        ServiceApp("https://acme.okta.com", client_id="0oa1", key=ec_key, scopes=["s"], profile="secret")  # type: ignore[arg-type]  # the mistake
    assert "secret" not in str(refused.value)


def test_a_setting_of_the_environment_does_not_lower_the_profile(ec_key: PrivateKey, tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text(json.dumps(ec_key.private_jwk()))
    key.chmod(0o600)
    environ = {
        "OKTA_CLIENT_ORGURL": "https://acme.okta.com",
        "OKTA_CLIENT_CLIENTID": "0oa1",
        "OKTA_CLIENT_PRIVATEKEY": str(key),
        "OKTA_CLIENT_SCOPES": "okta.users.read",
    }
    assert ServiceApp.from_env(files=False, environ=environ, profile="fapi").profile == "fapi"
    with pytest.raises(ConfigurationError, match="requires DPoP"):
        ServiceApp.from_env(files=False, environ={**environ, "OKTA_CLIENT_DPOPENABLED": "false"}, profile="fapi")


@pytest.mark.parametrize("dpop", [True, "required", PrivateKey.generate("ES256")], ids=["default", "required", "key"])
def test_a_bearer_token_is_refused_with_every_kind_of_dpop(made: Made, dpop: Any) -> None:
    app = made(dpop=dpop)
    with pytest.raises(TokenError, match="Bearer"):
        replay(app.attach("GET", "https://acme.okta.com/api/v1/users"), bearer()).result()


def test_assertion_and_proof_are_signed_with_es256(made: Made) -> None:
    replayed = replay(made().obtain(), Response(400, [("DPoP-Nonce", "n")], b'{"error": "use_dpop_nonce"}'))
    signed = [json.loads(_decoded(effect.message.split(b".")[0])) for effect in replayed.of(Sign)]
    assert {header["alg"] for header in signed} == {"ES256"}
    assert {header.get("typ") for header in signed} == {None, "dpop+jwt"}


def _decoded(segment: bytes) -> bytes:
    return urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))


def test_a_key_file_that_is_replaced_by_another_kind_of_key_is_not_used(
    made: Made, ec_key: PrivateKey, tmp_path: Path
) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(ec_key.private_jwk()))
    path.chmod(0o600)
    app = made(key=PrivateKey.from_file(path))
    path.write_text(json.dumps(PrivateKey.generate("ES384").private_jwk()))
    with pytest.raises(SigningFailed, match="ES256"):
        replay(app.obtain()).result()


def test_a_store_shares_no_token_between_apps_with_and_without_the_profile(
    made: Made, ec_key: PrivateKey, tmp_path: Path
) -> None:
    """The other app may have stored a Bearer token."""
    shared: dict[str, Any] = {"store": FileStore(tmp_path / "store"), "dpop": PrivateKey.generate("ES256")}
    without = ServiceApp("https://acme.okta.com", client_id="0oa1", key=ec_key, scopes=["okta.users.read"], **shared)
    places = {effect.key for app in (made(**shared), without) for effect in replay(app.obtain()).of(Load)}
    assert len(places) == 2


def test_a_context_is_verifying_if_it_checks_names_and_allows_no_old_tls() -> None:
    usual, newest, unnamed = (ssl.create_default_context() for _ in range(3))
    newest.minimum_version = ssl.TLSVersion.TLSv1_3
    unnamed.check_hostname = False
    assert [is_verifying(context) for context in (usual, newest, unnamed)] == [True, True, False]
    # A real one warns when it is made.
    old = SimpleNamespace(check_hostname=True, minimum_version=ssl.TLSVersion.TLSv1_1, security_level=0)
    assert not is_verifying(old)


@pytest.mark.parametrize("minimum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_with_a_minimum_version_a_context_is_verifying_at_every_security_level(minimum: ssl.TLSVersion) -> None:
    context = without_minimum(0)
    context.minimum_version = minimum
    assert is_verifying(context)


@pytest.mark.parametrize(
    ("version", "expected"), [((3, 0, 0, 17, 0), False), ((3, 1, 0, 0, 0), True), ((3, 5, 0, 1, 0), True)]
)
def test_a_security_level_excludes_old_tls_since_openssl_3_1(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], expected: bool
) -> None:
    monkeypatch.setattr(ssl, "OPENSSL_VERSION_INFO", version)
    spec = find_spec("okta_m2m._clients.verified_tls")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.OLD_TLS_NEEDS_LEVEL_0 is expected


def without_minimum(level: int) -> ssl.SSLContext:
    """A client's context, as the Python of Debian makes them: OpenSSL alone limits the versions."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers(f"DEFAULT:@SECLEVEL={level}")
    return context


def offered_versions(context: ssl.SSLContext) -> bytes:
    """The content of the extension supported_versions of a client's first message (RFC 8446, section 4.2.1)."""
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(received, sent, server_hostname="localhost").do_handshake()
    _, found, rest = sent.read().partition(b"\x00\x2b\x00")
    assert found
    return rest[2 : 2 + rest[1]]


@pytest.mark.skipif(
    ssl.OPENSSL_VERSION_INFO < (3, 1), reason="before OpenSSL 3.1, no security level excludes a version"
)
def test_without_a_minimum_version_a_context_is_verifying_if_the_security_level_allows_no_old_tls() -> None:
    tls_1_1, tls_1_2 = b"\x03\x02", b"\x03\x03"
    for level, is_old_allowed in ((0, True), (1, False), (2, False)):
        context = without_minimum(level)
        assert tls_1_2 in offered_versions(context)
        assert (tls_1_1 in offered_versions(context)) == is_old_allowed
        assert is_verifying(context) != is_old_allowed


def test_assertions_for_another_endpoint_require_the_same_algorithm() -> None:
    assertions = ClientAssertions("0oa1", "https://acme.okta.com/oauth2/v1/token", alg="ES256").to("https://b.example")
    with pytest.raises(SigningFailed, match="ES256"):
        replay(assertions.assertion(PrivateKey.generate("ES384"), 1.0)).result()
