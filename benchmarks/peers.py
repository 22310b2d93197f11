"""Who is compared: ourselves, each peer with what it can do, and the floor of each stack.

A peer is an entry of ``PEERS``. What it offers for a stack is a function from the endpoint to the thing that is measured,
which has got its token already, or which gets it at the first call where ``cold`` says so. Nobody is helped, and nobody
is configured to be slow: each is used as its documentation says.

Invariant: nothing is imported here before it is asked for, so that each script pays, and measures, only what it uses.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from server import Endpoint

Make = Callable[[Endpoint], Any]
SCOPE = "okta.users.read"


@dataclass(frozen=True)
class Peer:
    """One library: how it proves who it is, what it has for each stack, and what its import is called."""

    name: str
    client_auth: str
    requests: Make | None = None
    httpx: Make | None = None
    httpx_async: Make | None = None
    aiohttp: Make | None = None
    assertion: Callable[[bytes, str], Callable[[], object]] | None = None
    imports: dict[str, str] = field(default_factory=dict)
    note: str = ""


@cache
def pem(alg: str = "RS256") -> bytes:
    """A private key of this run: parsing, not making, is what libraries differ in."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key: Any = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        if alg == "RS256"
        else ec.generate_private_key(ec.SECP256R1())
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


# ── floors: a constant header ────────────────────────────────────────────────────────────────────────────────────────


def _floor_requests(endpoint: Endpoint) -> Any:
    from requests.auth import AuthBase

    class Constant(AuthBase):
        def __init__(self, value: str) -> None:
            self.value = value

        def __call__(self, request: Any) -> Any:
            request.headers["Authorization"] = self.value
            return request

    return Constant("Bearer " + "x" * 900)


def _floor_httpx(endpoint: Endpoint) -> Any:
    import httpx

    class Constant(httpx.Auth):
        def __init__(self, value: str) -> None:
            self.value = value

        def auth_flow(self, request: httpx.Request) -> Any:
            request.headers["Authorization"] = self.value
            yield request

    return Constant("Bearer " + "x" * 900)


def _floor_aiohttp(endpoint: Endpoint) -> Any:
    value = "Bearer " + "x" * 900

    async def constant(request: Any, handler: Any) -> Any:
        request.headers["Authorization"] = value
        return await handler(request)

    return constant


# ── ours ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def service_app(endpoint: Endpoint, **arguments: Any) -> Any:
    from okta_m2m import PrivateKey, ServiceApp

    key = arguments.pop("key", None) or PrivateKey.from_pem(pem())
    return ServiceApp(endpoint.origin, client_id="0oa1b2c3", key=key, scopes=[SCOPE], **{"dpop": False, **arguments})


def _ours_requests(endpoint: Endpoint) -> Any:
    from okta_m2m.requests import OktaAuth

    return OktaAuth(service_app(endpoint))


def _ours_httpx(endpoint: Endpoint) -> Any:
    from okta_m2m.httpx import OktaAuth

    return OktaAuth(service_app(endpoint))


def _ours_aiohttp(endpoint: Endpoint) -> Any:
    from okta_m2m.aiohttp import OktaAuth

    return OktaAuth(service_app(endpoint))


def _ours_assertion(key: bytes, alg: str) -> Callable[[], object]:
    from okta_m2m import PrivateKey
    from okta_m2m._core.proofs import ClientAssertions
    from okta_m2m.effects import Sign

    signer = PrivateKey.from_pem(key, kid="key-1")
    assertions = ClientAssertions("0oa1b2c3", "https://acme.okta.com/oauth2/v1/token")

    def make() -> object:
        flow = assertions.assertion(signer, time.time())
        effect = flow.send(None)
        assert isinstance(effect, Sign)
        try:
            flow.send(effect.signer.sign(effect.message))  # type: ignore[arg-type]
        except StopIteration as done:
            return done.value
        raise AssertionError

    return make


# ── Authlib ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _expired() -> dict[str, Any]:
    """Authlib renews a token, and does not get the first by itself: it starts with one that is over."""
    return {"access_token": "none", "token_type": "Bearer", "expires_at": 1}


def _authlib_requests(endpoint: Endpoint) -> Any:
    from authlib.integrations.requests_client import OAuth2Session
    from authlib.oauth2.rfc7523 import PrivateKeyJWT

    session = OAuth2Session(
        "0oa1b2c3",
        pem(),
        token_endpoint_auth_method=PrivateKeyJWT(endpoint.token_url),
        token_endpoint=endpoint.token_url,
        grant_type="client_credentials",
        scope=SCOPE,
        token=_expired(),
        leeway=0 if endpoint.lifetime < 120 else 60,
    )
    return session.token_auth


def _authlib_httpx(endpoint: Endpoint) -> Any:
    from authlib.integrations.httpx_client import OAuth2Client
    from authlib.oauth2.rfc7523 import PrivateKeyJWT

    return OAuth2Client(
        "0oa1b2c3",
        pem(),
        token_endpoint_auth_method=PrivateKeyJWT(endpoint.token_url),
        token_endpoint=endpoint.token_url,
        grant_type="client_credentials",
        scope=SCOPE,
        token=_expired(),
    )


def _authlib_httpx_async(endpoint: Endpoint) -> Any:
    from authlib.integrations.httpx_client import AsyncOAuth2Client
    from authlib.oauth2.rfc7523 import PrivateKeyJWT

    return AsyncOAuth2Client(
        "0oa1b2c3",
        pem(),
        token_endpoint_auth_method=PrivateKeyJWT(endpoint.token_url),
        token_endpoint=endpoint.token_url,
        grant_type="client_credentials",
        scope=SCOPE,
        token=_expired(),
    )


# ── requests-oauth2client, requests-auth, httpx-auth ─────────────────────────────────────────────────────────────────


def _oauth2client_requests(endpoint: Endpoint) -> Any:
    from jwskate import Jwk
    from requests_oauth2client import OAuth2Client, OAuth2ClientCredentialsAuth, PrivateKeyJwt

    client = OAuth2Client(
        endpoint.token_url,
        auth=PrivateKeyJwt("0oa1b2c3", Jwk.from_pem(pem()).with_kid_thumbprint(), alg="RS256"),
        testing=True,  # it speaks plain http only then
    )
    return OAuth2ClientCredentialsAuth(client, scope=SCOPE, leeway=0 if endpoint.lifetime < 120 else 20)


def _requests_auth_requests(endpoint: Endpoint) -> Any:
    from requests_auth import OAuth2ClientCredentials

    return OAuth2ClientCredentials(endpoint.token_url, client_id="0oa1b2c3", client_secret="secret", scope=SCOPE)


def _httpx_auth_httpx(endpoint: Endpoint) -> Any:
    from httpx_auth import OAuth2ClientCredentials

    return OAuth2ClientCredentials(endpoint.token_url, client_id="0oa1b2c3", client_secret="secret", scope=SCOPE)


# ── google-auth ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _google(endpoint: Endpoint) -> Any:
    from google.oauth2 import service_account

    credentials = service_account.Credentials.from_service_account_info(
        {
            "client_email": "service@example.com",
            "token_uri": endpoint.token_url,
            "private_key": pem().decode(),
            "private_key_id": "key-1",
        },
        scopes=[SCOPE],
    )
    credentials.with_non_blocking_refresh()
    return credentials


def _google_requests(endpoint: Endpoint) -> Any:
    from google.auth.transport.requests import Request

    credentials, transport = _google(endpoint), Request()

    def auth(request: Any) -> Any:
        credentials.before_request(transport, request.method, request.url, request.headers)
        return request

    return auth


def _google_aiohttp(endpoint: Endpoint) -> Any:
    from google.auth.transport.requests import Request

    credentials, transport = _google(endpoint), Request()

    async def middleware(request: Any, handler: Any) -> Any:
        credentials.before_request(transport, request.method, str(request.url), request.headers)
        return await handler(request)

    return middleware


def _google_assertion(key: bytes, alg: str) -> Callable[[], object]:
    from google.auth import crypt, jwt

    kind = crypt.RSASigner if alg == "RS256" else crypt.ES256Signer
    signer = kind.from_string(key, "key-1")

    def make() -> object:
        now = int(time.time())
        claims = {"iss": "0oa1b2c3", "sub": "0oa1b2c3", "aud": "https://acme.okta.com/oauth2/v1/token"}
        return jwt.encode(signer, {**claims, "iat": now, "exp": now + 300, "jti": str(now)})

    return make


# ── azure-identity, msal, okta, joserfc ──────────────────────────────────────────────────────────────────────────────


def _azure_aiohttp(endpoint: Endpoint) -> Any:
    from azure.core.credentials import AccessToken
    from azure.core.pipeline import PipelineContext, PipelineRequest
    from azure.core.pipeline.policies import AsyncBearerTokenCredentialPolicy
    from azure.core.rest import HttpRequest

    class Credential:
        async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            return AccessToken("x" * 900, int(time.time()) + 3600)

        async def close(self) -> None: ...
        async def __aenter__(self) -> Any:
            return self

        async def __aexit__(self, *exception: object) -> None: ...

    policy: Any = AsyncBearerTokenCredentialPolicy(Credential(), SCOPE)  # type: ignore[arg-type]
    call = PipelineRequest(HttpRequest("GET", "https://acme.okta.com/"), PipelineContext(None))

    async def middleware(request: Any, handler: Any) -> Any:
        call.http_request.headers = request.headers
        await policy.on_request(call)
        return await handler(request)

    return middleware


def _okta_aiohttp(endpoint: Endpoint) -> Any:
    from okta.oauth import OAuth

    client = {
        "orgUrl": endpoint.origin,
        "clientId": "0oa1b2c3",
        "scopes": [SCOPE],
        "privateKey": pem().decode(),
        "oauthTokenRenewalOffset": 5,
    }
    oauth = OAuth(None, {"client": client})
    # Its executor takes no plain http; how it looks after a token that it has is what is measured.
    oauth._access_token, oauth._access_token_expiry_time = "x" * 900, int(time.time()) + 3600

    async def middleware(request: Any, handler: Any) -> Any:
        token, kind, error = await oauth.get_oauth_token()
        assert error is None
        request.headers["Authorization"] = f"{kind} {token}"
        return await handler(request)

    return middleware


def _okta_assertion(key: bytes, alg: str) -> Callable[[], object]:
    from okta.jwt import JWT

    text = key.decode()
    return lambda: JWT.create_token("https://acme.okta.com", "0oa1b2c3", text, "key-1")


def _joserfc_assertion(key: bytes, alg: str) -> Callable[[], object]:
    from joserfc import jwt
    from joserfc.jwk import ECKey, RSAKey

    imported: Any = (RSAKey if alg == "RS256" else ECKey).import_key(key)

    def make() -> object:
        now = int(time.time())
        claims = {"iss": "0oa1b2c3", "sub": "0oa1b2c3", "aud": "https://acme.okta.com/oauth2/v1/token"}
        return jwt.encode(
            {"alg": alg, "kid": "key-1"}, {**claims, "iat": now, "exp": now + 300, "jti": str(now)}, imported
        )

    return make


OURS = Peer(
    "okta-m2m",
    "private_key_jwt",
    requests=_ours_requests,
    httpx=_ours_httpx,
    httpx_async=_ours_httpx,
    aiohttp=_ours_aiohttp,
    assertion=_ours_assertion,
    imports={"requests": "okta_m2m.requests", "httpx": "okta_m2m.httpx", "aiohttp": "okta_m2m.aiohttp"},
)
FLOOR = Peer("floor", "a constant header", _floor_requests, _floor_httpx, _floor_httpx, _floor_aiohttp)
PEERS = (
    Peer(
        "Authlib",
        "private_key_jwt",
        requests=_authlib_requests,
        httpx=_authlib_httpx,
        httpx_async=_authlib_httpx_async,
        imports={"requests": "authlib.integrations.requests_client"},
        note="gets its first token only as a renewal, and has httpx2 for httpx",
    ),
    Peer(
        "requests-oauth2client",
        "private_key_jwt",
        requests=_oauth2client_requests,
        imports={"requests": "requests_oauth2client"},
    ),
    Peer(
        "requests-auth",
        "client_secret",
        requests=_requests_auth_requests,
        imports={"requests": "requests_auth"},
        note="has no private_key_jwt; measured with a client secret",
    ),
    Peer(
        "httpx-auth",
        "client_secret",
        httpx=_httpx_auth_httpx,
        httpx_async=_httpx_auth_httpx,
        imports={"httpx": "httpx_auth"},
        note="has no private_key_jwt; measured with a client secret",
    ),
    Peer(
        "google-auth",
        "JWT bearer grant",
        requests=_google_requests,
        aiohttp=_google_aiohttp,
        assertion=_google_assertion,
        imports={"requests": "google.oauth2.service_account"},
        note="has RFC 7523's grant, not its client authentication; its non-blocking renewal is switched on",
    ),
    Peer(
        "azure-identity",
        "client assertion, Entra only",
        aiohttp=_azure_aiohttp,
        imports={"aiohttp": "azure.identity.aio"},
        note="speaks with Entra only; its bearer token policy is measured, round a token that it has",
    ),
    Peer(
        "msal", "client assertion, Entra only", imports={"requests": "msal"}, note="speaks with Entra only; its import"
    ),
    Peer(
        "okta",
        "private_key_jwt",
        aiohttp=_okta_aiohttp,
        assertion=_okta_assertion,
        imports={"aiohttp": "okta.client"},
        note="its own client only; how it looks after a token that it has, its assertion and its import are measured",
    ),
    Peer("joserfc", "-", assertion=_joserfc_assertion, note="jwt.encode; it is a dependency of ours"),
)


def expiry_in(seconds: float) -> datetime.datetime:
    """A naive UTC time, as google-auth keeps it."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(seconds=seconds)
