"""Who is compared: ourselves, each peer with what it can do, and the floor of each stack.

A peer is an entry of ``PEERS``. For each stack that it supports it has a function that takes the endpoint and makes the
auth object to measure, which obtains its token at its first call. Each library is used as its documentation says: none is
helped, and none is configured to be slow.

Invariant: this module imports no library that is compared. Each script imports, and measures, only what it uses.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from typing import Any

from server import Endpoint

Make = Callable[[Endpoint], Any]
SCOPE = "okta.users.read"


@dataclass(frozen=True)
class Peer:
    """One library.

    - ``client_auth``: how it authenticates at the token endpoint.
    - ``requests``, ``httpx``, ``httpx_async``, ``aiohttp``: make its auth object for that stack; ``None`` if it has none.
    - ``has_token``: whether it is measured with a token that it already has, so only in a hit.
    - ``bound``: makes an auth object for requests that has a token bound with DPoP.
    - ``first_call``: a program with requests, for ``first_call.py``.
    - ``httpx_library``: the module whose requests its httpx auth takes.
    - ``note``: what a reader of the table has to know.
    """

    name: str
    client_auth: str
    requests: Make | None = None
    httpx: Make | None = None
    httpx_async: Make | None = None
    aiohttp: Make | None = None
    has_token: bool = False
    first_call: str = ""
    bound: Callable[[], Any] | None = None
    httpx_library: str = "httpx"
    note: str = ""

    def library_for(self, stack: str) -> str:
        """The HTTP library whose requests its auth object for this stack takes."""
        return self.httpx_library if stack.startswith("httpx") else stack


@cache
def pem(alg: str = "RS256") -> bytes:
    """A private key as PEM, the same for the whole process."""
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


# ── Authlib ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _expired_token() -> dict[str, Any]:
    """Authlib fetches a token only to renew one, so it starts with one that has expired."""
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
        token=_expired_token(),
        leeway=0 if endpoint.lifetime < 120 else 60,
    )
    return session.token_auth


class _AuthlibFlow:
    """What Authlib's clients do before each request, without the request."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def sync_auth_flow(self, request: Any) -> Any:
        self._client.ensure_active_token(self._client.token)
        return self._client.token_auth.sync_auth_flow(request)

    async def async_auth_flow(self, request: Any) -> Any:
        await self._client.ensure_active_token(self._client.token)
        async with aclosing(self._client.token_auth.async_auth_flow(request)) as flow:
            yield await anext(flow)


def _authlib_flow(client_class: Any, endpoint: Endpoint) -> Any:
    from authlib.oauth2.rfc7523 import PrivateKeyJWT

    return _AuthlibFlow(
        client_class(
            "0oa1b2c3",
            pem(),
            token_endpoint_auth_method=PrivateKeyJWT(endpoint.token_url),
            token_endpoint=endpoint.token_url,
            grant_type="client_credentials",
            scope=SCOPE,
            token=_expired_token(),
        )
    )


def _authlib_httpx(endpoint: Endpoint) -> Any:
    from authlib.integrations.httpx_client import OAuth2Client

    return _authlib_flow(OAuth2Client, endpoint)


def _authlib_httpx_async(endpoint: Endpoint) -> Any:
    from authlib.integrations.httpx_client import AsyncOAuth2Client

    return _authlib_flow(AsyncOAuth2Client, endpoint)


# ── requests-oauth2client, requests-auth, httpx-auth ─────────────────────────────────────────────────────────────────


def _oauth2client_requests(endpoint: Endpoint) -> Any:
    from jwskate import Jwk
    from requests_oauth2client import OAuth2Client, OAuth2ClientCredentialsAuth, PrivateKeyJwt

    client = OAuth2Client(
        endpoint.token_url,
        auth=PrivateKeyJwt("0oa1b2c3", Jwk.from_pem(pem()).with_kid_thumbprint(), alg="RS256"),
        testing=True,  # otherwise it refuses plain HTTP
    )
    return OAuth2ClientCredentialsAuth(client, scope=SCOPE, leeway=0 if endpoint.lifetime < 120 else 20)


def _oauth2client_bound() -> Any:
    from jwskate import Jwk
    from requests_oauth2client import (
        DPoPKey,
        DPoPToken,
        OAuth2Client,
        OAuth2ClientCredentialsAuth,
        PrivateKeyJwt,
    )

    key = PrivateKeyJwt("0oa1b2c3", Jwk.from_pem(pem()).with_kid_thumbprint(), alg="RS256")
    token = DPoPToken("x" * 900, _dpop_key=DPoPKey.generate("ES256"), expires_in=3600, scope=SCOPE)
    client = OAuth2Client("https://acme.okta.com/oauth2/v1/token", auth=key)
    return OAuth2ClientCredentialsAuth(client, scope=SCOPE, token=token)


def early(endpoint: Endpoint) -> dict[str, float]:
    """Their default renews 30 seconds before the end of a token's life, which is before each call if that is shorter."""
    return {"early_expiry": 0.0} if endpoint.lifetime < 120 else {}


def _requests_auth_requests(endpoint: Endpoint) -> Any:
    from requests_auth import OAuth2ClientCredentials

    return OAuth2ClientCredentials(
        endpoint.token_url, client_id="0oa1b2c3", client_secret="secret", scope=SCOPE, **early(endpoint)
    )


def _httpx_auth_httpx(endpoint: Endpoint) -> Any:
    from httpx_auth import OAuth2ClientCredentials

    return OAuth2ClientCredentials(
        endpoint.token_url, client_id="0oa1b2c3", client_secret="secret", scope=SCOPE, **early(endpoint)
    )


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


# ── azure-identity, okta ──────────────────────────────────────────────────────────────────────────────


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
    # Its executor refuses plain HTTP, so it starts with a token. Measured is how it hands that token out.
    oauth._access_token, oauth._access_token_expiry_time = "x" * 900, int(time.time()) + 3600

    async def middleware(request: Any, handler: Any) -> Any:
        token, kind, error = await oauth.get_oauth_token()
        assert error is None
        request.headers["Authorization"] = f"{kind} {token}"
        return await handler(request)

    return middleware


# ── the first call of a program; ``began`` comes after its imports ──────────────────────────────────────────────────

AUTHLIB_FIRST_CALL = """
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc.jwk import RSAKey
key = RSAKey.import_key(pem)
began = time.perf_counter()
method = PrivateKeyJWT(token_url)
session = OAuth2Session("0oa1b2c3", key, token_endpoint_auth_method=method, scope="okta.users.read")
session.fetch_token(token_url, grant_type="client_credentials")
status = session.get(api_url).status_code
"""
OAUTH2CLIENT_FIRST_CALL = """
import requests
from jwskate import Jwk
from requests_oauth2client import OAuth2Client, OAuth2ClientCredentialsAuth, PrivateKeyJwt
key = PrivateKeyJwt("0oa1b2c3", Jwk.from_pem(pem).with_kid_thumbprint(), alg="RS256")
began = time.perf_counter()
session = requests.Session()
session.auth = OAuth2ClientCredentialsAuth(OAuth2Client(token_url, auth=key), scope="okta.users.read")
status = session.get(api_url).status_code
"""

# ── who is compared ──────────────────────────────────────────────────────────────────────────────────────────────────

OURS = Peer(
    "okta-m2m",
    "private_key_jwt",
    requests=_ours_requests,
    httpx=_ours_httpx,
    httpx_async=_ours_httpx,
    aiohttp=_ours_aiohttp,
)
FLOOR = Peer("floor", "a constant header", _floor_requests, _floor_httpx, _floor_httpx, _floor_aiohttp)
PEERS = (
    Peer(
        "Authlib",
        "private_key_jwt",
        requests=_authlib_requests,
        httpx=_authlib_httpx,
        httpx_async=_authlib_httpx_async,
        first_call=AUTHLIB_FIRST_CALL,
        httpx_library="httpx2",
        note="fetches its first token only as a renewal; supports httpx2 instead of httpx",
    ),
    Peer(
        "requests-oauth2client",
        "private_key_jwt",
        requests=_oauth2client_requests,
        bound=_oauth2client_bound,
        first_call=OAUTH2CLIENT_FIRST_CALL,
    ),
    Peer(
        "requests-auth",
        "client_secret",
        requests=_requests_auth_requests,
        note="has no private_key_jwt; measured with a client secret",
    ),
    Peer(
        "httpx-auth",
        "client_secret",
        httpx=_httpx_auth_httpx,
        httpx_async=_httpx_auth_httpx,
        note="has no private_key_jwt; measured with a client secret",
    ),
    Peer(
        "google-auth",
        "JWT bearer grant",
        requests=_google_requests,
        aiohttp=_google_aiohttp,
        note="has the grant of RFC 7523, not its client authentication; its non-blocking renewal is switched on",
    ),
    Peer(
        "azure-identity",
        "client assertion, Entra only",
        aiohttp=_azure_aiohttp,
        has_token=True,
        note="works with Entra only; we measured its bearer token policy, with a token that it already has",
    ),
    Peer(
        "okta",
        "private_key_jwt",
        aiohttp=_okta_aiohttp,
        has_token=True,
        note="works with its own client only; we measured how it returns a token that it already has",
    ),
)


def find_peer(name: str) -> Peer:
    return next(peer for peer in (FLOOR, OURS, *PEERS) if peer.name == name)
