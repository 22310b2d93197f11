"""The grants with which an app acts for a user: token exchange (RFC 8693), and the JWT bearer grant (RFC 7523) for an ID-JAG
(draft-ietf-oauth-identity-assertion-authz-grant).

- On behalf of a user: an access token for another access token, at a custom server. The ``audience`` is the server's own. The
  ``subject_token`` was issued by that server, or by one of its trusted servers.
- Cross App Access: at the org's server, an ID token of the same client, or an access token for which there is a delegation
  link, for an ID-JAG. The ``audience`` is the issuer of the server that accepts the ID-JAG.
- That server issues an access token for the ID-JAG. The scopes and the resource are those in the ID-JAG.

Invariant: the record of a token decides whether it is accepted, not its content. An ID-JAG is accepted once, and a request uses
it up even if it is then refused.

Okta documents the requests and the texts, but not which text belongs to which case, nor its order of checks. Here, the most
specific text is used. Parameters that are not documented are refused.
"""

from __future__ import annotations

from typing import Any

from ._app import App
from ._client_authentication import CREDENTIALS
from ._jws import NotAJws, parse
from ._messages import Answer, json_answer
from ._org import AuthorizationServer, Org
from ._refusals import Refused
from ._scopes import custom_scopes, parse_scope
from ._tokens import ORG_ISSUER, IdJag, IssuedToken, Subject

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"

_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
_ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
_ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"
_OPENID_REFUSAL = "openid_not_allowed_token_exchange"


def exchange_on_behalf(
    org: Org, app: App, server: AuthorizationServer, form: dict[str, str], jkt: str | None
) -> Answer:
    """An access token of ``server`` for a user, whose access token ``app`` received."""
    _check_parameters(form, ["subject_token", "subject_token_type", "audience"], ["requested_token_type", "scope"])
    if app.application_type != "service":
        raise Refused("on_behalf_invalid_client_type")
    if form["subject_token_type"] != _ACCESS_TOKEN:
        raise Refused("invalid_subject_token_type")
    if form.get("requested_token_type", _ACCESS_TOKEN) != _ACCESS_TOKEN:
        raise Refused("invalid_requested_token_type")
    if form["audience"] != server.audience:
        raise Refused("token_exchange_invalid_audience")
    found = _live_access_token(org, form["subject_token"], session_ended="token_exchange_subject_token_expired")
    if found.issuer == ORG_ISSUER:
        raise Refused("invalid_subject_token_authorization_server")
    if found.issuer != server.id and found.issuer not in server.trusted_servers:
        raise Refused("associated_server_not_trusted")
    if found.user_id is None:
        raise Refused("invalid_subject_token")
    scopes = custom_scopes(server, form.get("scope"), _OPENID_REFUSAL)
    minted = org.mint(app, server, scopes, jkt, subject=_subject_of(found))
    return token_answer(org, minted, issued_token_type=_ACCESS_TOKEN)


def exchange_for_jag(org: Org, app: App, form: dict[str, str], jkt: str | None) -> Answer:
    """An ID-JAG for the resource server whose issuer is the ``audience``."""
    required = ["subject_token", "subject_token_type", "audience"]
    _check_parameters(form, required, ["requested_token_type", "resource", "scope"])
    if form.get("requested_token_type") != _ID_JAG:
        raise Refused("invalid_requested_token_type")
    resources = app.resource_connections.get(form["audience"])
    if resources is None:
        raise Refused("token_exchange_invalid_audience")
    resource = form.get("resource")
    if resource is not None and resource not in resources:
        raise Refused("token_exchange_invalid_resource")
    subject = _delegated_subject(org, app, form)
    scopes = parse_scope(form["scope"], _OPENID_REFUSAL) if "scope" in form else []
    ours = next((one for one in org.authorization_servers.values() if org.issuer_url(one.id) == form["audience"]), None)
    if ours is not None and not all(name in ours.scopes for name in scopes):
        raise Refused("no_matching_scope")
    act: dict[str, Any] = {"sub": app.client_id, "sub_profile": "ai_agent"}
    if subject.act is not None:
        act["act"] = subject.act
    jag = org.issue_id_jag(app, subject._replace(act=act), form["audience"], scopes, resource)
    # Okta's API description has N_A, as the draft says; its guides have Bearer.
    content = {
        "token_type": org.id_jag_token_type,
        "expires_in": int(round(jag.expires_at - jag.issued_at, 3)),
        "access_token": jag.value,
        "issued_token_type": _ID_JAG,
    }
    return json_answer(200, content, *_nonce(org, jkt))


def redeem_jag(org: Org, app: App, server: AuthorizationServer, form: dict[str, str], jkt: str | None) -> Answer:
    """An access token of ``server`` for an ID-JAG."""
    if "scope" in form:
        raise Refused("id_jag_scopes_in_request")
    _check_parameters(form, ["assertion"], ["resource"])
    jag = _find_jag(org, form["assertion"])
    first_use = org.first_use("id-jag", jag.jti)
    if jag.audience != org.issuer_url(server.id):
        raise Refused("jwt_bearer_grant_invalid_audience")
    if jag.client_id != app.client_id:
        raise Refused("id_jag_client_mismatch")
    if not org.now() < jag.expires_at:
        raise Refused("id_jag_expired")
    if not first_use:
        raise Refused("id_jag_replayed")
    if jag.subject.user_id is not None and org.accounts[jag.subject.user_id].status != "ACTIVE":
        raise Refused("id_jag_invalid_subject")
    if not jag.scopes:
        raise Refused("id_jag_lacking_scopes")
    if form.get("resource", jag.resource) != jag.resource:
        raise Refused("id_jag_resource_mismatch")
    if jag.resource is not None and jag.resource not in server.resources:
        raise Refused("id_jag_resource_not_allowed_for_as")
    scopes = custom_scopes(server, " ".join(jag.scopes), _OPENID_REFUSAL)
    return token_answer(org, org.mint(app, server, scopes, jkt, audience=jag.resource, subject=jag.subject))


def token_answer(org: Org, token: IssuedToken, **more: str) -> Answer:
    """The response with a token that was just issued, and ``more`` members."""
    # Round first: the difference of two clock readings can be a nanosecond short of a whole second.
    lifetime = int(round(token.expires_at - token.issued_at, 3))
    content = {
        "token_type": token.token_type,
        "expires_in": max(1, lifetime),
        "access_token": token.value,
        "scope": " ".join(token.scopes),
        **more,
    }
    return json_answer(200, content, *_nonce(org, token.jkt))


def _nonce(org: Org, jkt: str | None) -> list[tuple[str, str]]:
    return [("dpop-nonce", org.nonces.current(org.now()))] if jkt is not None else []


def _check_parameters(form: dict[str, str], required: list[str], optional: list[str]) -> None:
    for name in required:
        if name not in form:
            raise Refused("missing_token_request_parameter", name)
    if "actor_token_type" in form:
        raise Refused("invalid_actor_token_type")
    if "actor_token" in form:
        raise Refused("invalid_actor_token")
    if form.keys() - {"grant_type", *CREDENTIALS, *required, *optional}:
        raise Refused("invalid_request")


def _live_access_token(org: Org, value: str, *, session_ended: str) -> IssuedToken:
    """The access token with this value, if it can be exchanged."""
    found = org.token(value)
    if found is None or found.revoked:
        raise Refused("invalid_subject_token")
    if not org.now() < found.expires_at:
        raise Refused("token_exchange_subject_token_expired")
    client = org.apps.get(found.client_id)
    if client is None or client.status != "ACTIVE":
        raise Refused("invalid_subject_token_client_inactive")
    _check_user(org, _subject_of(found), session_ended)
    return found


def _delegated_subject(org: Org, app: App, form: dict[str, str]) -> Subject:
    """The subject of a token that ``app`` may exchange for an ID-JAG."""
    session_ended = "invalid_subject_token_session_expired"
    if form["subject_token_type"] == _ID_TOKEN:
        id_token = org.id_token(form["subject_token"])
        if id_token is None:
            raise Refused("invalid_subject_token")
        if not org.now() < id_token.expires_at:
            raise Refused("token_exchange_subject_token_expired")
        if id_token.client_id != app.client_id:
            raise Refused("invalid_subject_token_client_not_registered")
        _check_user(org, id_token.subject, session_ended)
        return id_token.subject
    if form["subject_token_type"] != _ACCESS_TOKEN:
        raise Refused("invalid_subject_token_type")
    found = _live_access_token(org, form["subject_token"], session_ended=session_ended)
    if found.issuer == ORG_ISSUER:
        raise Refused("invalid_subject_token_issuer_not_allowed")
    if app.delegation_links.get(found.client_id) != found.audience:
        raise Refused("invalid_subject_token_no_delegation_link")
    return _subject_of(found)


def _subject_of(token: IssuedToken) -> Subject:
    return Subject(token.subject, token.user_id, token.session, token.act)


def _check_user(org: Org, subject: Subject, session_ended: str) -> None:
    if subject.user_id is None:
        return
    account = org.accounts[subject.user_id]
    if account.status != "ACTIVE":
        raise Refused("invalid_subject_token_user_inactive")
    if account.session != subject.session:
        raise Refused(session_ended)


def _find_jag(org: Org, value: str) -> IdJag:
    found = org.id_jag(value)
    if found is not None:
        return found
    try:
        issuer = parse(value).claims.get("iss")
    except NotAJws:
        issuer = org.url
    raise Refused("id_jag_invalid_signature" if issuer == org.url else "id_jag_untrusted_issuer")
