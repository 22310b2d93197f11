"""The token, introspection and revocation endpoints of the org authorization server and of custom ones.

Invariant: a token is issued only after every check has passed.
"""

from __future__ import annotations

from ._app import App
from ._client_authentication import authenticate, read_form
from ._dpop import check_proof, find_proof
from ._messages import Answer, ReceivedRequest, json_answer
from ._org import AuthorizationServer, Org
from ._refusals import Refused
from ._scopes import custom_scopes, org_scopes
from ._token_exchange import (
    JWT_BEARER,
    TOKEN_EXCHANGE,
    exchange_for_jag,
    exchange_on_behalf,
    redeem_jag,
    token_answer,
)
from ._tokens import ORG_ISSUER, IssuedToken

_GRANT_TYPES = "authorization_code, refresh_token, password, client_credentials"


def answer_token(org: Org, request: ReceivedRequest, server: AuthorizationServer | None) -> Answer:
    """Issues a token."""
    form = read_form(request)
    grant_type = form.get("grant_type")
    supported = ["client_credentials", TOKEN_EXCHANGE, *([] if server is None else [JWT_BEARER])]
    if grant_type is None:
        raise Refused("token_request_missing_grant_type", _GRANT_TYPES)
    if grant_type not in supported:
        raise Refused("unsupported_grant_type", ", ".join(supported))
    own_token_at_org = server is None and grant_type == "client_credentials"
    app = authenticate(org, request, form, client_credentials_at_org=own_token_at_org)
    if own_token_at_org and app.application_type != "service":
        raise Refused("invalid_application_type_client_credentials")
    if grant_type not in app.grant_types:
        raise Refused("unauthorized_client", ", ".join(app.grant_types))
    jkt = _check_dpop(org, request, app)
    if server is not None and server.clients is not None and app.client_id not in server.clients:
        raise Refused("no_matching_policy")
    if grant_type == "client_credentials":
        return _client_credentials(org, app, server, form, jkt)
    if server is None:
        return exchange_for_jag(org, app, form, jkt)
    return (exchange_on_behalf if grant_type == TOKEN_EXCHANGE else redeem_jag)(org, app, server, form, jkt)


def _client_credentials(
    org: Org, app: App, server: AuthorizationServer | None, form: dict[str, str], jkt: str | None
) -> Answer:
    resource = form.get("resource")
    if resource is not None and (server is None or resource not in server.resources):
        raise Refused("unsupported_resource", resource)
    if server is None:
        scopes = org_scopes(org, app, form.get("scope"))
    else:
        scopes = custom_scopes(server, form.get("scope"), "openid_not_allowed_client_creds")
    return token_answer(org, org.mint(app, server, scopes, jkt, audience=resource))


def answer_introspect(org: Org, request: ReceivedRequest, server: AuthorizationServer | None) -> Answer:
    """Introspects a token (RFC 7662). A token of another authorization server is inactive here."""
    _, found = _read_token(org, request, server)
    if found is None or found.revoked or not org.now() < found.expires_at:
        return json_answer(200, {"active": False})
    return json_answer(
        200,
        {
            "active": True,
            "token_type": found.token_type,
            "scope": " ".join(found.scopes),
            "client_id": found.client_id,
            "username": found.subject,
            "exp": int(found.expires_at),
            "iat": int(found.issued_at),
            "sub": found.subject,
            "aud": found.audience,
            "iss": org.issuer_url(found.issuer),
            "jti": found.jti,
            **({} if found.user_id is None else {"uid": found.user_id}),
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
