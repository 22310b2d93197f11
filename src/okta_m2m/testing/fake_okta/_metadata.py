"""Discovery documents and signing keys, with exactly the same members as Okta's.

Invariant: as recorded at Okta, the org's OAuth metadata has neither ``jwks_uri`` nor
``token_endpoint_auth_signing_alg_values_supported``, and its ``scopes_supported`` does not depend on an app's grants.
"""

from __future__ import annotations

from typing import Any

from ._org import AuthorizationServer, Org, signing_key

__all__ = ["keys", "oauth_metadata", "oidc_metadata"]

_AUTH_METHODS = ["client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "none"]
_SIGNING = [f"{family}{bits}" for family in ("HS", "RS", "ES") for bits in (256, 384, 512)]
_DPOP_SIGNING = [f"{family}{bits}" for family in ("RS", "ES") for bits in (256, 384, 512)]
_RESPONSE_TYPES = ["code", "id_token", "code id_token", "code token", "id_token token", "code id_token token"]
_OIDC_SCOPES = ["openid", "email", "profile", "address", "phone", "offline_access"]
_PLAIN_GRANTS = [
    "authorization_code",
    "implicit",
    "refresh_token",
    "password",
    "urn:ietf:params:oauth:grant-type:device_code",
]


def _common(org: Org, server: AuthorizationServer | None) -> dict[str, Any]:
    issuer = org.issuer_url(server.id if server else "")
    endpoints = f"{org.url}/oauth2/{server.id}/v1" if server else f"{org.url}/oauth2/v1"
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{endpoints}/authorize",
        "token_endpoint": f"{endpoints}/token",
        "registration_endpoint": f"{org.url}/oauth2/v1/clients",
        "response_types_supported": _RESPONSE_TYPES,
        "response_modes_supported": ["query", "fragment", "form_post", "okta_post_message"],
        "subject_types_supported": ["public"],
        "scopes_supported": [*_OIDC_SCOPES, *server.scopes] if server else [*_OIDC_SCOPES, "groups"],
        "token_endpoint_auth_methods_supported": _AUTH_METHODS,
        "claims_supported": ["ver", "jti", "iss", "aud", "iat", "exp", "cid", "uid", "scp", "sub"],
        "code_challenge_methods_supported": ["S256"],
        "introspection_endpoint": f"{endpoints}/introspect",
        "introspection_endpoint_auth_methods_supported": _AUTH_METHODS,
        "revocation_endpoint": f"{endpoints}/revoke",
        "revocation_endpoint_auth_methods_supported": _AUTH_METHODS,
        "end_session_endpoint": f"{endpoints}/logout",
        "request_parameter_supported": True,
        "request_object_signing_alg_values_supported": _SIGNING,
        "device_authorization_endpoint": f"{endpoints}/device/authorize",
        "pushed_authorization_request_endpoint": f"{endpoints}/par",
    }


def oauth_metadata(org: Org, server: AuthorizationServer | None) -> dict[str, Any]:
    """``/.well-known/oauth-authorization-server`` (RFC 8414)."""
    found = _common(org, server)
    found["grant_types_supported"] = [
        *_PLAIN_GRANTS,
        "client_credentials",
        "urn:ietf:params:oauth:grant-type:token-exchange",
    ]
    found["dpop_signing_alg_values_supported"] = _DPOP_SIGNING
    if server is not None:
        found["jwks_uri"] = f"{found['issuer']}/v1/keys"
        return found
    found["frontchannel_logout_supported"] = False
    found["frontchannel_logout_session_supported"] = False
    found["identity_chaining_requested_token_types_supported"] = ["urn:ietf:params:oauth:token-type:id-jag"]
    return found


def oidc_metadata(org: Org, server: AuthorizationServer | None) -> dict[str, Any]:
    """``/.well-known/openid-configuration``. Okta's omits ``client_credentials`` from ``grant_types_supported``."""
    found = _common(org, server)
    endpoints = str(found["token_endpoint"]).removesuffix("/token")
    found["userinfo_endpoint"] = f"{endpoints}/userinfo"
    found["jwks_uri"] = f"{endpoints}/keys"
    found["grant_types_supported"] = _PLAIN_GRANTS
    found["id_token_signing_alg_values_supported"] = ["RS256"]
    return found


def keys() -> dict[str, Any]:
    """The public keys for verifying access tokens."""
    return {"keys": [signing_key().as_dict(private=False)]}
