"""``/api/v1/apps/{id}/grants``: the scopes that an app is granted.

Invariant: a grant is a scope in :attr:`App.scopes`; a scope that was added there directly is also a grant.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from .._access import Caller
from .._app import App
from .._messages import Answer, ReceivedRequest, json_answer
from .._org import Org, Record
from .requests import FieldError, find_by_id, link, read_body, timestamp

__all__ = ["add_grant", "delete_grant", "get_grant", "list_grants"]

_UNKNOWN_ADMIN = ("User", "00u0000000000000000")


def list_grants(org: Org, request: ReceivedRequest, caller: Caller, app: App) -> Answer:
    return json_answer(200, [_document(org, app, scope) for scope in app.scopes])


def add_grant(org: Org, request: ReceivedRequest, caller: Caller, app: App) -> Answer:
    body = read_body(request)
    issuer, scope = body.get("issuer"), body.get("scopeId")
    if not isinstance(scope, str) or scope not in org.scopes:
        raise FieldError("scopeId", f"'{scope}' is not a valid scope")
    if issuer != org.url:
        raise FieldError("issuer", "'issuer' is invalid.")
    if scope not in app.scopes:
        app.change_follows(org.settling)
        app.scopes = [*app.scopes, scope]
        org.records.forget("grant", app.id, scope)
        org.records.granted_by[app.id, scope] = (caller.kind, caller.id)
    return json_answer(201, _document(org, app, scope))


def get_grant(org: Org, request: ReceivedRequest, caller: Caller, app: App, id: str) -> Answer:
    return json_answer(200, _document(org, app, _find_scope(org, app, id)))


def delete_grant(org: Org, request: ReceivedRequest, caller: Caller, app: App, id: str) -> Answer:
    revoked = _find_scope(org, app, id)
    app.change_follows(org.settling)
    app.scopes = [scope for scope in app.scopes if scope != revoked]
    org.records.forget("grant", app.id, revoked)
    return Answer(204)


def _record(org: Org, app: App, scope: str) -> Record:
    return org.records.find("grant", app.id, scope, prefix="oag")


def _find_scope(org: Org, app: App, id: str) -> str:
    return find_by_id(app.scopes, lambda scope: _record(org, app, scope).id, id, "OAuth2ScopeConsentGrant")


def _document(org: Org, app: App, scope: str) -> dict[str, Any]:
    record = _record(org, app, scope)
    kind, admin = org.records.granted_by.get((app.id, scope), _UNKNOWN_ADMIN)
    url = f"{org.url}/api/v1/apps/{quote(app.id)}"
    return {
        "id": record.id,
        "status": "ACTIVE",
        "created": timestamp(record.created),
        "createdBy": {"id": admin, "type": kind},
        "lastUpdated": timestamp(record.created),
        "issuer": org.url,
        "clientId": app.client_id,
        "scopeId": scope,
        "source": "ADMIN",
        "_embedded": {"scope": {"id": scope}},
        "_links": {
            "app": {"href": url, "title": app.label},
            "self": link(f"{url}/grants/{record.id}", "GET", "DELETE"),
            "client": {"href": f"{org.url}/oauth2/v1/clients/{quote(app.client_id)}", "title": app.label},
        },
    }
