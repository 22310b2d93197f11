"""What a token opens: a few resources of Okta's management API, and APIs behind a custom authorization server.

Invariant: at the management API an OAuth failure has an empty body and says why in ``WWW-Authenticate``, as recorded at
Okta (status 400 for proofs); an API behind a custom server answers as RFC 6750 and RFC 9449 say (401).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs, parse_qsl, unquote

from ._dpop import check_proof, presented_proof, same_uri
from ._http_server import Answer, ReceivedRequest
from ._jws import ALGORITHMS
from ._org import ORG_ISSUER, IssuedToken, Org
from ._refusals import ApiRefused, Refused
from ._token_endpoint import json_answer

__all__ = ["Caller", "as_the_rfcs_say", "custom_resource", "management", "okta_challenge", "permitted", "redirect"]

_ALGS = " ".join(ALGORITHMS)
_READING = ("GET", "HEAD")
_READING_ROLES = {"READ_ONLY_ADMIN", "REPORT_ADMIN"}
_COLLECTIONS = ("users", "groups", "logs")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls the management API: a user by an SSWS token, which needs no scopes, or a service app by its token."""

    id: str
    kind: Literal["User", "Client"]
    roles: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def is_super_admin(self) -> bool:
        return "SUPER_ADMIN" in self.roles


def permitted(org: Org, request: ReceivedRequest, *scopes: str) -> Caller:
    """Who calls, if it has one of ``scopes`` and an admin role, for a write one that does not only read.

    The first scope is the one that a challenge names.
    """
    caller, granted = _signed_in(org, request, scopes[0])
    if granted is not None and not set(scopes) & set(granted):
        raise Refused("access_token_insufficient_scopes", scope=scopes[0])
    useful = caller.roles if request.method in _READING else set(caller.roles) - _READING_ROLES
    if not useful:
        raise ApiRefused("E0000006")
    return caller


def _signed_in(org: Org, request: ReceivedRequest, scope: str) -> tuple[Caller, tuple[str, ...] | None]:
    """Who calls, with the scopes of its token; an SSWS token has none and needs none."""
    caller = _caller(org, request, scope)
    if any(request.path == path or request.path.startswith(f"{path}/") for path in org.features_off):
        raise ApiRefused("E0000015")
    return caller


def _caller(org: Org, request: ReceivedRequest, scope: str) -> tuple[Caller, tuple[str, ...] | None]:
    found = request.all("authorization")
    if len(found) == 1 and found[0].startswith("SSWS "):
        api_token = org.api_tokens.get(found[0][5:].strip(" "))
        if api_token is None or not api_token.active:
            raise ApiRefused("E0000011")
        return Caller(api_token.user_id, "User", tuple(api_token.roles)), None
    token = _okta_token(org, request, scope)
    in_force = org.apps[token.client_id].in_force()
    nonce = [("dpop-nonce", org.resource_nonces.current(org.now()))] if org.resource_nonce and token.jkt else []
    roles = in_force.roles if in_force is not None else ()
    return Caller(token.client_id, "Client", tuple(roles), tuple(nonce)), token.scopes


def management(org: Org, request: ReceivedRequest) -> Answer:
    """``/api/v1/users``, ``/groups``, ``/logs``, each with anything below it; ``/apps`` is in a module of its own."""
    segments = request.path.split("/")
    collection = segments[3] if len(segments) > 3 else ""
    reading = request.method in _READING
    manage = f"okta.{collection}.manage"
    scopes = (f"okta.{collection}.read", manage) if reading else (manage,)
    if collection not in _COLLECTIONS:
        _signed_in(org, request, scopes[0])
        raise ApiRefused("E0000007", f"Resource not found: {unquote(request.path)} (Resource)")
    caller = permitted(org, request, *scopes)
    if request.method not in (*_READING, "POST", "PUT", "PATCH", "DELETE"):
        raise ApiRefused("E0000022")
    if request.method == "DELETE":
        return Answer(204, list(caller.headers))
    name = unquote("/".join(segments[4:]), errors="replace")
    return json_answer(200, _content(collection, name, request), *caller.headers)


def _content(collection: str, name: str, request: ReceivedRequest) -> Any:
    digest = hashlib.sha256(f"{collection}/{name}".encode()).hexdigest()[:16]
    if collection == "users":
        login = name or "ada@example.com"
        found: dict[str, Any] = {"id": f"00u{digest}", "status": "ACTIVE", "profile": {"login": login, "email": login}}
    elif collection == "logs":
        found = {"uuid": digest, "eventType": "app.oauth2.token.grant.access_token"}
    else:
        found = {"id": f"00g{digest}", "profile": {"name": name or "Everyone"}}
    if request.method not in _READING:
        found["received"] = _received(request)
        return found
    return found if name else [found]


def _received(request: ReceivedRequest) -> dict[str, Any]:
    return {"length": len(request.body), "sha256": hashlib.sha256(request.body).hexdigest()}


def redirect(org: Org, request: ReceivedRequest) -> Answer:
    """``/redirect?to=URL&status=302``: the fake's own. A token or proof that comes along is checked."""
    if request.all("authorization"):
        _okta_token(org, request, "")
    query = parse_qs(request.query)
    return Answer(int(query.get("status", ["302"])[0]), [("Location", query.get("to", ["/"])[0])])


def custom_resource(org: Org, request: ReceivedRequest, issuer: str, scope: str | None) -> Answer:
    """An API that takes tokens of the custom authorization server ``issuer``."""

    def judge(nonce: object) -> None:
        now = org.now()
        if org.resource_nonce and not org.resource_nonces.accepts(nonce, now):
            raise Refused("use_dpop_nonce", nonce=org.resource_nonces.current(now))

    try:
        if not request.all("authorization"):
            raise Refused("access_token_missing")
        scheme, value = _credentials(request)
        if scheme not in ("Bearer", "DPoP"):
            raise Refused("access_token_invalid")
        token = _good(org, value)
        if token.issuer != issuer:
            raise Refused("access_token_invalid_issuer")
        _check_binding(org, request, token, scheme, judge, same_uri)
        if scope is not None and scope not in token.scopes:
            raise Refused("access_token_insufficient_scopes")
    except Refused as refused:
        raise as_the_rfcs_say(request, refused, scope) from None
    nonce = [("DPoP-Nonce", org.resource_nonces.current(org.now()))] if org.resource_nonce and token.jkt else []
    content = {
        "path": request.path,
        "client_id": token.client_id,
        "scopes": token.scopes,
        "received": _received(request),
    }
    return json_answer(200, content, *nonce)


class _Challenged(Refused):
    """A refusal whose challenge is already written."""

    def __init__(self, refused: Refused, status: int, error: str, challenge: str) -> None:
        super().__init__(refused.code, nonce=refused.nonce, scope=refused.scope)
        self.status, self.error, self.description = status, error, refused.description
        self.challenge = challenge


def as_the_rfcs_say(request: ReceivedRequest, refused: Refused, scope: str | None) -> Refused:
    """Okta's refusal as RFC 6750 and RFC 9449 have it, at an API that needs ``scope``."""
    if isinstance(refused, _Challenged):
        return refused
    status, error = refused.status, refused.error
    if refused.code == "access_token_missing":
        # RFC 6750 section 3.1: no error code for a request that brought no token
        return _Challenged(refused, status, error, f'Bearer, DPoP algs="{_ALGS}"')
    if refused.code in ("dpop_proof_required_for_token", "dpop_authentication_scheme_required"):
        # RFC 9449 section 7.2: a bound token that comes without what it is bound to is no token
        status, error = 401, "invalid_token"
    elif error in ("invalid_dpop_proof", "use_dpop_nonce"):
        # RFC 9449 section 7.1: 401, not Okta's 400
        status = 401
    of_dpop = "dpop" in refused.code or (request.header("authorization") or "").lower().startswith("dpop ")
    parts = [f'error="{error}"', f'error_description="{refused.description}"']
    parts += [f'algs="{_ALGS}"'] if of_dpop else []
    parts += [f'scope="{scope}"'] if scope is not None else []
    return _Challenged(refused, status, error, f"{'DPoP' if of_dpop else 'Bearer'} {', '.join(parts)}")


def okta_challenge(org: Org, request: ReceivedRequest, refused: Refused) -> str:
    """The ``WWW-Authenticate`` of a refusal, with the members and the order that Okta's have."""
    if isinstance(refused, _Challenged):
        return refused.challenge
    # Okta writes http:// here whatever the scheme is, as recorded.
    host = f"http://{request.header('host')}"
    segments = request.path.split("/")
    kind = "read" if request.method in _READING else "manage"
    scope = f"okta.{segments[3]}.{kind}" if request.path.startswith("/api/v1/") and segments[3] else ""
    scope = refused.scope or scope
    dpop = refused.error in ("invalid_dpop_proof", "use_dpop_nonce")
    dpop = dpop or (request.header("authorization") or "").lower().startswith("dpop ")
    parts = [f'algs="{_ALGS}"'] if dpop else []
    parts += [f'authorization_uri="{host}/oauth2/v1/authorize"', f'realm="{host}"', f'scope="{scope}"']
    parts += [f'error="{refused.error}"', f'error_description="{refused.description}"', f'resource="{request.path}"']
    return f"{'DPoP' if dpop else 'Bearer'} {', '.join(parts)}"


def _credentials(request: ReceivedRequest) -> tuple[str, str]:
    found = request.all("authorization")
    if len(found) > 1:
        raise Refused("invalid_request")
    scheme, _, value = found[0].partition(" ")
    # RFC 9110 section 11.1: schemes are case-insensitive
    return {"bearer": "Bearer", "dpop": "DPoP"}.get(scheme.lower(), scheme), value.strip(" ")


def _okta_token(org: Org, request: ReceivedRequest, scope: str) -> IssuedToken:
    if any(name == "access_token" for name, _ in parse_qsl(request.query)):
        raise Refused("access_token_in_query")
    if not request.all("authorization"):
        raise ApiRefused("E0000011")
    scheme, value = _credentials(request)
    if scheme not in ("Bearer", "DPoP"):
        raise ApiRefused("E0000011")
    token = _good(org, value)
    if token.issuer != ORG_ISSUER:
        raise Refused("access_token_invalid_audience")

    def judge(nonce: object) -> None:
        now = org.now()
        if org.resource_nonce and not org.resource_nonces.accepts(nonce, now):
            refused = Refused("use_dpop_nonce", nonce=org.resource_nonces.current(now))
            refused.status = 401 if org.resource_nonce == 401 else 400
            raise refused

    _check_binding(org, request, token, scheme, judge, None)
    return token


def _good(org: Org, value: str) -> IssuedToken:
    token = org.token(value)
    app = org.apps.get(token.client_id) if token else None
    if token is None or app is None or app.status != "ACTIVE":
        raise Refused("access_token_invalid")
    if token.revoked:
        raise Refused("access_token_revoked")
    if not org.now() < token.expires_at:
        raise Refused("token_expired")
    return token


def _check_binding(
    org: Org,
    request: ReceivedRequest,
    token: IssuedToken,
    scheme: str,
    judge: Callable[[object], None],
    same: Callable[[str, ReceivedRequest], bool] | None,
) -> None:
    if token.jkt is None:
        if scheme == "DPoP":
            raise Refused("access_token_not_dpop_bound")
        return
    proof = presented_proof(request)
    if proof is None:
        raise Refused("dpop_proof_required_for_token")
    if scheme != "DPoP":
        raise Refused("dpop_authentication_scheme_required")
    if same is None:
        check_proof(org, request, proof, access_token=token.value, jkt=token.jkt, nonce=judge)
    else:
        check_proof(org, request, proof, access_token=token.value, jkt=token.jkt, nonce=judge, same=same)
