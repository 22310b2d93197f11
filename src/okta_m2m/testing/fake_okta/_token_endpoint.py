"""The token, introspection and revocation endpoints of the org authorization server and of custom ones.

Invariant: a token is issued only after every check has passed.
"""

from __future__ import annotations

import re

from ._app import App
from ._client_authentication import authenticate, read_form
from ._dpop import check_proof, find_proof
from ._messages import Answer, ReceivedRequest, json_answer
from ._org import ORG_ISSUER, AuthorizationServer, IssuedToken, Org
from ._refusals import Refused

_GRANT_TYPES = "authorization_code, refresh_token, password, client_credentials"
# RFC 6749 section 3.3
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")


def answer_token(org: Org, request: ReceivedRequest, server: AuthorizationServer | None) -> Answer:
    """Issues a token for the grant ``client_credentials``."""
    form = read_form(request)
    grant_type = form.get("grant_type")
    if grant_type is None:
        raise Refused("token_request_missing_grant_type", _GRANT_TYPES)
    if grant_type != "client_credentials":
        raise Refused("unsupported_grant_type", "client_credentials")
    app = authenticate(org, request, form, client_credentials_at_org=server is None)
    if server is None and app.application_type != "service":
        raise Refused("invalid_application_type_client_credentials")
    if "client_credentials" not in app.grant_types:
        raise Refused("unauthorized_client", ", ".join(app.grant_types))
    jkt = _check_dpop(org, request, app)
    if server is None:
        scopes = _org_scopes(org, app, form.get("scope"))
    else:
        if server.clients is not None and app.client_id not in server.clients:
            raise Refused("no_matching_policy")
        scopes = _custom_scopes(server, form.get("scope"))
    minted = org.mint(app, server, scopes, jkt)
    # Round first: the difference of two clock readings can be a nanosecond short of a whole second.
    lifetime = int(round(minted.expires_at - minted.issued_at, 3))
    content = {
        "token_type": minted.token_type,
        "expires_in": max(1, lifetime),
        "access_token": minted.value,
        "scope": " ".join(scopes),
    }
    nonce = [("dpop-nonce", org.nonces.current(org.now()))] if jkt is not None else []
    return json_answer(200, content, *nonce)


def answer_introspect(org: Org, request: ReceivedRequest, server: AuthorizationServer | None) -> Answer:
    """Introspects a token (RFC 7662). A token of another authorization server is inactive here."""
    app, found = _read_token(org, request, server)
    if found is None or found.revoked or not org.now() < found.expires_at:
        return json_answer(200, {"active": False})
    return json_answer(
        200,
        {
            "active": True,
            "token_type": found.token_type,
            "scope": " ".join(found.scopes),
            "client_id": found.client_id,
            "username": app.client_id,
            "exp": int(found.expires_at),
            "iat": int(found.issued_at),
            "sub": found.client_id,
            "aud": found.audience,
            "iss": org.issuer_url(found.issuer),
            "jti": found.jti,
        },
    )


def answer_revoke(org: Org, request: ReceivedRequest, server: AuthorizationServer | None) -> Answer:
    """Revokes a token (RFC 7009). A client can revoke only its own tokens; the response for another client's is the same."""
    app, found = _read_token(org, request, server)
    if found is not None and found.client_id == app.client_id:
        found.revoked = True
    return Answer(200, [("Cache-Control", "no-cache, no-store")])


def _read_token(
    org: Org, request: ReceivedRequest, server: AuthorizationServer | None
) -> tuple[App, IssuedToken | None]:
    """The client, and the token that its form names; ``None`` for a token that ``server`` did not issue."""
    form = read_form(request)
    app = authenticate(org, request, form)
    if "token" not in form:
        raise Refused("request_missing_token")
    found = org.token(form["token"])
    issued_here = found is not None and found.issuer == (server.id if server else ORG_ISSUER)
    return app, found if issued_here else None


def _check_dpop(org: Org, request: ReceivedRequest, app: App) -> str | None:
    """The thumbprint of the key that the token is to be bound to; ``None`` for a Bearer token."""
    if not app.dpop_bound and org.dpop != "required":
        return None  # Okta ignores a proof that it did not ask for
    proof = find_proof(request)
    if proof is None:
        raise Refused("invalid_dpop_proof_missing_header")
    jkt, nonce = check_proof(org, request, proof)
    if (org.require_dpop_nonce or nonce is not None) and not org.nonces.accepts(nonce, org.now()):
        raise Refused("use_dpop_nonce", nonce=org.nonces.current(org.now()))
    return jkt


def _parse_scope(scope: str) -> list[str]:
    asked = list(dict.fromkeys(scope.split(" ")))
    if not all(_SCOPE_TOKEN.fullmatch(name) for name in asked):
        raise Refused("invalid_scope")
    if "openid" in asked:
        raise Refused("openid_not_allowed_client_creds")
    return asked


def _org_scopes(org: Org, app: App, scope: str | None) -> list[str]:
    if scope is None:
        raise Refused("missing_scopes")
    asked = _parse_scope(scope)
    if any(name.startswith("okta.") and name.endswith(".self") for name in asked):
        raise Refused("client_credentials_self_scope_requested")
    if not org.scopes.issuperset(asked):
        raise Refused("no_matching_scope")
    in_force = app.in_force()
    granted = [name for name in asked if in_force is not None and name in in_force.scopes]
    if not granted:
        raise Refused("no_org_scopes_granted")
    return granted


def _custom_scopes(server: AuthorizationServer, scope: str | None) -> list[str]:
    if scope is None:
        if not server.default_scopes:
            raise Refused("no_default_scopes")
        return list(server.default_scopes)
    asked = _parse_scope(scope)
    if not all(name in server.scopes for name in asked):
        raise Refused("no_matching_scope")
    return asked
