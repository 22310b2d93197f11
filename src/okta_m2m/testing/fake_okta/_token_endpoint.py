"""The endpoints that a client authenticates at: token, introspect and revoke, of the org and of custom servers.

Invariant: a client assertion is used up by every request in which its signature held, whatever is answered then; a
token is minted only after every check has passed.
"""

from __future__ import annotations

import json
import re
import urllib.request
from typing import Any
from urllib.parse import parse_qsl

from ._dpop import check_proof, presented_proof
from ._http_server import Answer, ReceivedRequest
from ._jws import ALGORITHMS, NotAJws, is_number, parse, verified
from ._org import ORG_ISSUER, App, AuthorizationServer, IssuedToken, Org
from ._refusals import ApiRefused, Refused

__all__ = ["introspect", "json_answer", "revoke", "token"]

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_CREDENTIALS = {"client_id", "client_secret", "client_assertion", "client_assertion_type"}
_GRANT_TYPES = "authorization_code, refresh_token, password, client_credentials"
_MAX_EXPIRY = 3600
# RFC 6749 section 3.3
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")


def json_answer(status: int, content: Any, *headers: tuple[str, str]) -> Answer:
    kept = [("Content-Type", "application/json"), ("Cache-Control", "no-cache, no-store"), ("Pragma", "no-cache")]
    return Answer(status, [*kept, *headers], json.dumps(content).encode())


def token(org: Org, request: ReceivedRequest, server: AuthorizationServer | None) -> tuple[Answer, IssuedToken]:
    """Answers a token request; raises a refusal otherwise."""
    form = _form(request)
    grant_type = form.get("grant_type")
    if grant_type is None:
        raise Refused("token_request_missing_grant_type", _GRANT_TYPES)
    if grant_type != "client_credentials":
        raise Refused("unsupported_grant_type", "client_credentials")
    app = _authenticated(org, request, form, client_credentials_at_org=server is None)
    if server is None and app.application_type != "service":
        raise Refused("invalid_application_type_client_credentials")
    if "client_credentials" not in app.grant_types:
        raise Refused("unauthorized_client", ", ".join(app.grant_types))
    jkt = _proven_key(org, request, app)
    if server is None:
        scopes = _org_scopes(org, app, form.get("scope"))
    else:
        if server.clients is not None and app.client_id not in server.clients:
            raise Refused("no_matching_policy")
        scopes = _custom_scopes(server, form.get("scope"))
    minted = org.mint(app, server, scopes, jkt)
    # Rounded first: the difference of two clock readings may lack a nanosecond of a whole second.
    lifetime = int(round(minted.expires_at - minted.issued_at, 3))
    content = {
        "token_type": minted.token_type,
        "expires_in": max(1, lifetime),
        "access_token": minted.value,
        "scope": " ".join(scopes),
    }
    nonce = [("dpop-nonce", org.nonces.current(org.now()))] if jkt is not None else []
    return json_answer(200, content, *nonce), minted


def introspect(org: Org, request: ReceivedRequest, server: AuthorizationServer | None) -> Answer:
    """RFC 7662; a token of another authorization server is inactive here."""
    form = _form(request)
    app = _authenticated(org, request, form)
    value = form.get("token")
    if value is None:
        raise Refused("request_missing_token")
    found = org.token(value)
    now = org.now()
    if found is None or found.revoked or found.issuer != _issuer(server) or not now < found.expires_at:
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


def revoke(org: Org, request: ReceivedRequest, server: AuthorizationServer | None) -> Answer:
    """RFC 7009; a client revokes only its own tokens, and is told the same about those of others."""
    form = _form(request)
    app = _authenticated(org, request, form)
    value = form.get("token")
    if value is None:
        raise Refused("request_missing_token")
    found = org.token(value)
    if found is not None and found.client_id == app.client_id and found.issuer == _issuer(server):
        found.revoked = True
    return Answer(200, [("Cache-Control", "no-cache, no-store")])


def _issuer(server: AuthorizationServer | None) -> str:
    return server.id if server else ORG_ISSUER


def _form(request: ReceivedRequest) -> dict[str, str]:
    content_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
    if content_type != "application/x-www-form-urlencoded":
        raise ApiRefused("E0000021")
    if _CREDENTIALS & {name for name, _ in parse_qsl(request.query, keep_blank_values=True)}:
        raise Refused("client_credentials_in_query")
    try:
        pairs = parse_qsl(request.body.decode("utf-8"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise Refused("invalid_request") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise Refused("duplicate_oauth_params")
    # RFC 6749 section 3.2: a parameter without a value counts as left out
    return {name: value for name, value in form.items() if value}


def _authenticated(
    org: Org, request: ReceivedRequest, form: dict[str, str], *, client_credentials_at_org: bool = False
) -> App:
    kinds = ["authorization"] if request.all("authorization") else []
    kinds += [name for name in ("client_secret", "client_assertion") if name in form]
    if len(kinds) > 1:
        raise Refused("multiple_client_credentials")
    if not kinds and "client_assertion_type" not in form:
        raise Refused("missing_client_credentials")
    if kinds and kinds[0] != "client_assertion":
        if client_credentials_at_org:
            raise Refused("unsupported_auth_method_client_creds")
        raise Refused("invalid_basic_auth_creds" if kinds[0] == "authorization" else "invalid_client")
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        raise Refused("client_assertion_type_invalid")
    if "client_assertion" not in form:
        raise Refused("missing_client_credentials")
    app = _asserted(org, request, form["client_assertion"], client_credentials_at_org)
    if form.get("client_id", app.client_id) != app.client_id:
        raise Refused("invalid_client_id")
    return app


def _asserted(org: Org, request: ReceivedRequest, assertion: str, client_credentials_at_org: bool) -> App:
    try:
        parsed = parse(assertion)
    except NotAJws:
        raise Refused("client_assertion_invalid_jwt") from None
    claims = parsed.claims
    if parsed.header.get("alg") not in ALGORITHMS:
        raise Refused("client_assertion_invalid_signature_algorithm")
    client_id = claims.get("iss")
    app = org.apps.get(client_id) if isinstance(client_id, str) else None
    in_force = app.in_force() if app is not None else None
    if app is None or in_force is None:
        raise Refused("client_assertion_invalid_issuer")
    if claims.get("sub") != app.client_id:
        raise Refused("client_assertion_invalid_subject")
    if app.status != "ACTIVE":
        raise Refused("invalid_client")
    if app.token_endpoint_auth_method != "private_key_jwt":
        raise Refused("unsupported_auth_method_client_creds" if client_credentials_at_org else "invalid_client")
    keys = in_force.active_keys if app.jwks_uri is None else _fetched(app.jwks_uri)
    jwk = _signing_key(keys, parsed.header.get("kid"))
    try:
        if not verified(parsed, jwk):
            raise Refused("client_assertion_invalid_signature")
    except ValueError:
        raise Refused("client_assertion_invalid_jwks") from None
    jti = claims.get("jti")
    if jti is not None and (not isinstance(jti, str) or not jti):
        raise Refused("client_assertion_invalid_jwt")
    first_use = jti is None or org.first_use(f"assertion {app.client_id}", jti)
    audience = claims.get("aud")
    endpoint = request.base_url + request.path
    if endpoint not in (audience if isinstance(audience, list) else [audience]):
        raise Refused("client_assertion_invalid_audience")
    _check_times(claims, org.now())
    if not first_use:
        raise Refused("client_assertion_already_used")
    return app


def _fetched(jwks_uri: str) -> list[dict[str, Any]]:
    try:
        # No proxy: what is tested here runs on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(jwks_uri, timeout=5) as response:
            keys = json.loads(response.read(1 << 20))["keys"]
        found = [dict(jwk) for jwk in keys]
    except (OSError, ValueError, KeyError, TypeError):
        raise Refused("jwks_uri_error") from None
    if not found:
        raise Refused("jwks_uri_no_key")
    return found


def _signing_key(active: list[dict[str, Any]], kid: object) -> dict[str, Any]:
    if not active:
        raise Refused("client_assertion_jwks_not_configured")
    if kid is None and len(active) == 1:
        found = active[0]
    else:
        matching = [jwk for jwk in active if kid is not None and jwk.get("kid") == kid]
        if not matching:
            raise Refused("client_assertion_invalid_kid")
        found = matching[0]
    if found.get("use") not in (None, "sig"):
        raise Refused("client_assertion_not_signed_with_signing_key")
    return found


def _check_times(claims: dict[str, Any], now: float) -> None:
    exp, iat = claims.get("exp"), claims.get("iat")
    if not is_number(exp):
        raise Refused("client_assertion_expiration_required")
    if exp <= now:
        raise Refused("client_assertion_expired_token")
    if exp - now > _MAX_EXPIRY:
        raise Refused("client_assertion_expires_too_far_in_future")
    if iat is None:
        return
    if not is_number(iat):
        raise Refused("client_assertion_invalid_jwt")
    if iat > int(now):
        raise Refused("client_assertion_issued_at_in_future")


def _proven_key(org: Org, request: ReceivedRequest, app: App) -> str | None:
    if not org.requires_dpop(app):
        return None  # an unasked-for proof is not looked at
    proof = presented_proof(request)
    if proof is None:
        raise Refused("invalid_dpop_proof_missing_header")

    def judge(nonce: object) -> None:
        now = org.now()
        if (org.require_dpop_nonce or nonce is not None) and not org.nonces.accepts(nonce, now):
            raise Refused("use_dpop_nonce", nonce=org.nonces.current(now))

    return check_proof(org, request, proof, nonce=judge)


def _asked_for(scope: str) -> list[str]:
    asked = list(dict.fromkeys(scope.split(" ")))
    if not all(_SCOPE_TOKEN.fullmatch(name) for name in asked):
        raise Refused("invalid_scope")
    if "openid" in asked:
        raise Refused("openid_not_allowed_client_creds")
    return asked


def _org_scopes(org: Org, app: App, scope: str | None) -> list[str]:
    if scope is None:
        raise Refused("missing_scopes")
    asked = _asked_for(scope)
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
    asked = _asked_for(scope)
    if not all(name in server.scopes for name in asked):
        raise Refused("no_matching_scope")
    return asked
