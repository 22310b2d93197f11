"""Client authentication with a signed assertion (RFC 7523), as Okta's endpoints check it.

Invariant: a request uses up its assertion once the assertion's signature is verified, even if it then fails.
"""

from __future__ import annotations

import json
import urllib.request
from typing import Any
from urllib.parse import parse_qsl

from ._app import App
from ._jws import ALGORITHMS, NotAJws, is_number, parse, verify
from ._messages import ReceivedRequest
from ._org import Org
from ._refusals import Refused

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
CREDENTIALS = {"client_id", "client_secret", "client_assertion", "client_assertion_type"}
_MAX_EXPIRY = 3600  # seconds


def read_form(request: ReceivedRequest) -> dict[str, str]:
    """The parameters of the form in the body."""
    content_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
    if content_type != "application/x-www-form-urlencoded":
        raise Refused("E0000021")
    if CREDENTIALS & {name for name, _ in parse_qsl(request.query, keep_blank_values=True)}:
        raise Refused("client_credentials_in_query")
    try:
        pairs = parse_qsl(request.body.decode("utf-8"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise Refused("invalid_request") from None
    form = dict(pairs)
    if [name for name, _ in pairs].count("resource") > 1:
        raise Refused("too_many_resources", "1")
    if len(form) != len(pairs):
        raise Refused("duplicate_oauth_params")
    # RFC 6749 section 3.2: a parameter without a value counts as omitted.
    return {name: value for name, value in form.items() if value}


def authenticate(
    org: Org, request: ReceivedRequest, form: dict[str, str], *, client_credentials_at_org: bool = False
) -> App:
    """The app that the client assertion in ``form`` authenticates.

    ``client_credentials_at_org``: whether this is a token request to the org's own server, which accepts no other
    method.
    """
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
    app = _check_assertion(org, request, form["client_assertion"], client_credentials_at_org)
    if form.get("client_id", app.client_id) != app.client_id:
        raise Refused("invalid_client_id")
    return app


def _check_assertion(org: Org, request: ReceivedRequest, assertion: str, client_credentials_at_org: bool) -> App:
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
    keys = in_force.active_keys if app.jwks_uri is None else _fetch_keys(app.jwks_uri)
    jwk = _select_key(keys, parsed.header.get("kid"))
    try:
        if not verify(parsed, jwk):
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


def _fetch_keys(jwks_uri: str) -> list[dict[str, Any]]:
    try:
        # Use no proxy, because a test's key server runs on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(jwks_uri, timeout=5) as response:
            keys = json.loads(response.read(1 << 20))["keys"]
        found = [dict(jwk) for jwk in keys]
    except (OSError, ValueError, KeyError, TypeError):
        raise Refused("jwks_uri_error") from None
    if not found:
        raise Refused("jwks_uri_no_key")
    return found


def _select_key(active: list[dict[str, Any]], kid: object) -> dict[str, Any]:
    if not active:
        raise Refused("client_assertion_jwks_not_configured")
    matching = [jwk for jwk in active if kid is not None and jwk.get("kid") == kid]
    if kid is None and len(active) == 1:
        matching = active
    if not matching:
        raise Refused("client_assertion_invalid_kid")
    if matching[0].get("use") not in (None, "sig"):
        raise Refused("client_assertion_not_signed_with_signing_key")
    return matching[0]


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
