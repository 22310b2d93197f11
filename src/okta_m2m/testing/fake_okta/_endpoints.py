"""The endpoints of the org, found by path: those of authorization servers, the management API, and resources that a token gives
access to: users, groups, and APIs behind a custom authorization server.

Invariant: the choice depends on the path alone. An unknown path is left to the handlers of pytest-httpserver. Discovery
documents have exactly the same members as Okta's: as recorded, the org's OAuth metadata has neither ``jwks_uri`` nor
``token_endpoint_auth_signing_alg_values_supported``, and its ``scopes_supported`` does not depend on an app's grants. Every
user and group exists, and a write reports the length and the hash of the body that it received.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import parse_qs, unquote

from ._access import authorize, check_custom_token, check_okta_token, identify
from ._jws import ALGORITHMS
from ._management.routes import answer_management
from ._messages import READING, Answer, ReceivedRequest, json_answer
from ._org import AuthorizationServer, Org
from ._refusals import Refused, not_found
from ._token_endpoint import answer_introspect, answer_revoke, answer_token
from ._token_exchange import JWT_BEARER, TOKEN_EXCHANGE
from ._tokens import signing_key

_SERVER_PATH = re.compile(r"/oauth2(?:/(?P<id>[^/]+))?/v1/(?P<name>token|introspect|revoke|keys)")
_METADATA_PATH = re.compile(
    r"(?:/oauth2/(?P<id>[^/]+))?/\.well-known/(?P<name>openid-configuration|oauth-authorization-server)"
    r"|/\.well-known/(?P<rfc8414>oauth-authorization-server)/oauth2/(?P<suffix>[^/]+)"
)
_MANAGEMENT_PATH = re.compile(r"(?:/api/v1/apps|/api/v1/logs|/oauth2/v1/clients)(?:/.*)?")
_COLLECTIONS = ("users", "groups")

_AUTH_METHODS = ["client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "none"]
_RESPONSE_TYPES = ["code", "id_token", "code id_token", "code token", "id_token token", "code id_token token"]
_OIDC_SCOPES = ["openid", "email", "profile", "address", "phone", "offline_access"]
_PLAIN_GRANTS = [
    "authorization_code",
    "implicit",
    "refresh_token",
    "password",
    "urn:ietf:params:oauth:grant-type:device_code",
]

#: An endpoint of an authorization server; ``None`` is the org's.
_ServerEndpoint: TypeAlias = Callable[[Org, ReceivedRequest, AuthorizationServer | None], Answer]


class Endpoint(NamedTuple):
    """The endpoint at a path."""

    #: Answers a request or raises a refusal; ``None`` if the path is unknown.
    answer: Callable[[Org, ReceivedRequest], Answer] | None
    is_token: bool = False
    #: Whether it needs a token, so that a refusal is a challenge.
    is_api: bool = False
    #: For a path of :meth:`FakeOkta.protect`: the authorization server's id, and the scope that is needed.
    protected: tuple[str, str | None] | None = None


def find_endpoint(org: Org, path: str) -> Endpoint:
    """The endpoint at ``path``, which is undecoded."""
    around = (needed for prefix, needed in org.protected.items() if path == prefix or path.startswith(f"{prefix}/"))
    protected = next(around, None)
    if found := _SERVER_PATH.fullmatch(path):
        answer = partial(_answer_at_server, found["id"], found["name"])
        return Endpoint(answer, found["name"] == "token", protected is not None, protected)
    if protected is not None:
        return Endpoint(partial(_answer_protected, protected), is_api=True, protected=protected)
    if path == "/redirect":
        return Endpoint(_answer_redirect, is_api=True)
    if _MANAGEMENT_PATH.fullmatch(path):
        return Endpoint(answer_management, is_api=True)
    if path.startswith("/api/v1/"):
        return Endpoint(_answer_directory, is_api=True)
    if found := _METADATA_PATH.fullmatch(path):
        return Endpoint(partial(_answer_at_server, found["id"] or found["suffix"], found["name"] or found["rfc8414"]))
    return Endpoint(None)


# ── authorization servers ────────────────────────────────────────────────────────────────────────────────────────────


def _answer_at_server(id: str | None, name: str, org: Org, request: ReceivedRequest) -> Answer:
    if id is not None and id not in org.authorization_servers:
        raise not_found(id, "AuthorizationServer")
    methods, answer = _SERVER_ENDPOINTS[name]
    if request.method not in methods:
        raise Refused("E0000022")
    return answer(org, request, None if id is None else org.authorization_servers[id])


def _answer_keys(org: Org, request: ReceivedRequest, server: AuthorizationServer | None) -> Answer:
    """The public keys for verifying access tokens."""
    answer = json_answer(200, {"keys": [signing_key().as_dict(private=False)]})
    answer.headers[1] = ("Cache-Control", "max-age=3600, must-revalidate")
    return answer


def _metadata(org: Org, server: AuthorizationServer | None) -> dict[str, Any]:
    """The members that both discovery documents have."""
    endpoints = f"{org.url}/oauth2/{server.id}/v1" if server else f"{org.url}/oauth2/v1"
    return {
        "issuer": org.issuer_url(server.id if server else ""),
        "authorization_endpoint": f"{endpoints}/authorize",
        "token_endpoint": f"{endpoints}/token",
        "registration_endpoint": f"{org.url}/oauth2/v1/clients",
        "response_types_supported": _RESPONSE_TYPES,
        "response_modes_supported": ["query", "fragment", "form_post", "okta_post_message"],
        "subject_types_supported": ["public"],
        "scopes_supported": [*_OIDC_SCOPES, *(server.scopes if server else ["groups"])],
        "token_endpoint_auth_methods_supported": _AUTH_METHODS,
        "claims_supported": ["ver", "jti", "iss", "aud", "iat", "exp", "cid", "uid", "scp", "sub"],
        "code_challenge_methods_supported": ["S256"],
        "introspection_endpoint": f"{endpoints}/introspect",
        "introspection_endpoint_auth_methods_supported": _AUTH_METHODS,
        "revocation_endpoint": f"{endpoints}/revoke",
        "revocation_endpoint_auth_methods_supported": _AUTH_METHODS,
        "end_session_endpoint": f"{endpoints}/logout",
        "request_parameter_supported": True,
        "request_object_signing_alg_values_supported": ["HS256", "HS384", "HS512", *ALGORITHMS],
        "device_authorization_endpoint": f"{endpoints}/device/authorize",
        "pushed_authorization_request_endpoint": f"{endpoints}/par",
    }


def _answer_oauth_metadata(org: Org, request: ReceivedRequest, server: AuthorizationServer | None) -> Answer:
    """``/.well-known/oauth-authorization-server`` (RFC 8414)."""
    content = _metadata(org, server) | {
        "grant_types_supported": [
            *_PLAIN_GRANTS,
            "client_credentials",
            TOKEN_EXCHANGE,
            *([] if server is None else [JWT_BEARER]),
        ],
        "dpop_signing_alg_values_supported": list(ALGORITHMS),
    }
    if server is not None:
        content["jwks_uri"] = f"{content['issuer']}/v1/keys"
    else:
        content["frontchannel_logout_supported"] = False
        content["frontchannel_logout_session_supported"] = False
        content["identity_chaining_requested_token_types_supported"] = ["urn:ietf:params:oauth:token-type:id-jag"]
    return json_answer(200, content)


def _answer_oidc_metadata(org: Org, request: ReceivedRequest, server: AuthorizationServer | None) -> Answer:
    """``/.well-known/openid-configuration``. Okta's omits ``client_credentials`` from ``grant_types_supported``."""
    content = _metadata(org, server)
    endpoints = content["token_endpoint"].removesuffix("/token")
    content |= {
        "userinfo_endpoint": f"{endpoints}/userinfo",
        "jwks_uri": f"{endpoints}/keys",
        "grant_types_supported": _PLAIN_GRANTS,
        "id_token_signing_alg_values_supported": ["RS256"],
    }
    return json_answer(200, content)


#: The last part of the path -> the methods that exist, and the function that answers.
_SERVER_ENDPOINTS: dict[str, tuple[tuple[str, ...], _ServerEndpoint]] = {
    "token": (("POST",), answer_token),
    "introspect": (("POST",), answer_introspect),
    "revoke": (("POST",), answer_revoke),
    "keys": (("GET",), _answer_keys),
    "oauth-authorization-server": (READING, _answer_oauth_metadata),
    "openid-configuration": (READING, _answer_oidc_metadata),
}


# ── resources ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _answer_directory(org: Org, request: ReceivedRequest) -> Answer:
    """``/api/v1/users`` and ``/groups``, each with everything below it. Any other path is not found."""
    segments = request.path.split("/")
    collection = segments[3] if len(segments) > 3 else ""
    manage = f"okta.{collection}.manage"
    scopes = (f"okta.{collection}.read", manage) if request.method in READING else (manage,)
    if collection not in _COLLECTIONS:
        identify(org, request)
        raise not_found(unquote(request.path), "Resource")
    caller = authorize(org, request, *scopes)
    if request.method not in (*READING, "POST", "PUT", "PATCH", "DELETE"):
        raise Refused("E0000022")
    if request.method == "DELETE":
        return Answer(204, list(caller.headers))
    name = unquote("/".join(segments[4:]), errors="replace")
    content = _document(collection, name, request)
    return json_answer(200, content, *caller.headers)


def _document(collection: str, name: str, request: ReceivedRequest) -> Any:
    digest = hashlib.sha256(f"{collection}/{name}".encode()).hexdigest()[:16]
    if collection == "users":
        login = name or "ada@example.com"
        found: dict[str, Any] = {"id": f"00u{digest}", "status": "ACTIVE", "profile": {"login": login, "email": login}}
    else:
        found = {"id": f"00g{digest}", "profile": {"name": name or "Everyone"}}
    if request.method not in READING:
        found["received"] = _describe_body(request)
        return found
    return found if name else [found]


def _describe_body(request: ReceivedRequest) -> dict[str, Any]:
    return {"length": len(request.body), "sha256": hashlib.sha256(request.body).hexdigest()}


def _answer_redirect(org: Org, request: ReceivedRequest) -> Answer:
    """``/redirect?to=URL&status=302``, which Okta does not have. A token or proof in the request is checked."""
    if request.all("authorization"):
        check_okta_token(org, request)
    query = parse_qs(request.query)
    return Answer(int(query.get("status", ["302"])[0]), [("Location", query.get("to", ["/"])[0])])


def _answer_protected(protected: tuple[str, str | None], org: Org, request: ReceivedRequest) -> Answer:
    """An API that accepts tokens of a custom authorization server."""
    token = check_custom_token(org, request, *protected)
    nonce = [("DPoP-Nonce", org.resource_nonces.current(org.now()))] if org.resource_nonce and token.jkt else []
    content = {
        "path": request.path,
        "client_id": token.client_id,
        "scopes": token.scopes,
        "subject": token.subject,
        "audience": token.audience,
        "act": token.act,
        "received": _describe_body(request),
    }
    return json_answer(200, content, *nonce)
