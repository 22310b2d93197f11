"""Identifies the caller of an API, and checks the token and its DPoP proof.

Invariant: every response follows a check of the token, its binding, its scopes and the caller's roles, in Okta's order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl

from ._dpop import IsHtu, check_proof, find_proof, is_okta_htu, is_same_uri
from ._messages import READING, ReceivedRequest
from ._org import Org
from ._refusals import Refused
from ._tokens import ORG_ISSUER, IssuedToken

_READ_ONLY_ROLES = {"READ_ONLY_ADMIN", "REPORT_ADMIN"}


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of the management API: a user with an SSWS token, which needs no scopes, or a service app."""

    id: str
    kind: Literal["User", "Client"]
    roles: tuple[str, ...]
    #: The scopes of its token; ``None`` for an SSWS token, which has none and needs none.
    scopes: tuple[str, ...] | None
    #: Headers to send with every response.
    headers: tuple[tuple[str, str], ...] = ()


def authorize(org: Org, request: ReceivedRequest, *scopes: str) -> Caller:
    """The caller, if it has one of ``scopes`` and an admin role; a write needs a role that is not read-only.

    A challenge names the first scope.
    """
    caller = identify(org, request)
    if caller.scopes is not None and not set(scopes) & set(caller.scopes):
        raise Refused("access_token_insufficient_scopes", scope=scopes[0])
    useful = caller.roles if request.method in READING else set(caller.roles) - _READ_ONLY_ROLES
    if not useful:
        raise Refused("E0000006")
    return caller


def identify(org: Org, request: ReceivedRequest) -> Caller:
    """The caller, whatever its permissions. Refuses an invalid token, and a path whose feature is off."""
    found = request.all("authorization")
    if len(found) == 1 and found[0].startswith("SSWS "):
        api_token = org.api_tokens.get(found[0][5:].strip(" "))
        if api_token is None or not api_token.active:
            raise Refused("E0000011")
        caller = Caller(api_token.user_id, "User", tuple(api_token.roles), None)
    else:
        token = check_okta_token(org, request)
        in_force = org.apps[token.client_id].in_force()
        roles = in_force.roles if in_force is not None else ()
        nonce = [("dpop-nonce", org.resource_nonces.current(org.now()))] if org.resource_nonce and token.jkt else []
        caller = Caller(token.client_id, "Client", tuple(roles), token.scopes, tuple(nonce))
    if any(request.path == path or request.path.startswith(f"{path}/") for path in org.features_off):
        raise Refused("E0000015")
    return caller


def check_okta_token(org: Org, request: ReceivedRequest) -> IssuedToken:
    """The valid token of a request to Okta's own API."""
    if any(name == "access_token" for name, _ in parse_qsl(request.query)):
        raise Refused("access_token_in_query")
    scheme, token = _find_token(org, request, missing="E0000011", unknown_scheme="E0000011")
    if token.issuer != ORG_ISSUER:
        raise Refused("access_token_invalid_audience")
    _check_binding(org, request, token, scheme, is_okta_htu)
    return token


def check_custom_token(org: Org, request: ReceivedRequest, issuer: str, scope: str | None) -> IssuedToken:
    """The valid token of a request to an API that accepts tokens of the custom authorization server ``issuer``."""
    scheme, token = _find_token(org, request, missing="access_token_missing", unknown_scheme="access_token_invalid")
    if token.issuer != issuer:
        raise Refused("access_token_invalid_issuer")
    _check_binding(org, request, token, scheme, is_same_uri)
    if scope is not None and scope not in token.scopes:
        raise Refused("access_token_insufficient_scopes")
    return token


def _find_token(org: Org, request: ReceivedRequest, *, missing: str, unknown_scheme: str) -> tuple[str, IssuedToken]:
    """The scheme of the request, ``bearer`` or ``dpop``, and its token, which is in force. The codes refuse it without either."""
    found = request.all("authorization")
    if not found:
        raise Refused(missing)
    if len(found) > 1:
        raise Refused("invalid_request")
    scheme, _, value = found[0].partition(" ")
    scheme = scheme.lower()  # RFC 9110 section 11.1: schemes are case-insensitive
    if scheme not in ("bearer", "dpop"):
        raise Refused(unknown_scheme)
    token = org.token(value.strip(" "))
    app = org.apps.get(token.client_id) if token else None
    if token is None or app is None or app.status != "ACTIVE":
        raise Refused("access_token_invalid")
    if token.revoked:
        raise Refused("access_token_revoked")
    if not org.now() < token.expires_at:
        raise Refused("token_expired")
    return scheme, token


def _check_binding(org: Org, request: ReceivedRequest, token: IssuedToken, scheme: str, is_htu: IsHtu) -> None:
    """Checks the scheme, and for a bound token the proof that it needs."""
    if token.jkt is None:
        if scheme == "dpop":
            raise Refused("access_token_not_dpop_bound")
        return
    proof = find_proof(request)
    if proof is None:
        raise Refused("dpop_proof_required_for_token")
    if scheme != "dpop":
        raise Refused("dpop_authentication_scheme_required")
    _, nonce = check_proof(org, request, proof, is_htu=is_htu, token=token)
    if org.resource_nonce and not org.resource_nonces.accepts(nonce, org.now()):
        refused = Refused("use_dpop_nonce", nonce=org.resource_nonces.current(org.now()))
        # At an API behind a custom server, the status is always 401.
        refused.status = 401 if org.resource_nonce == 401 else 400
        raise refused
