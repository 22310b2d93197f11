"""What an app is allowed: ``/api/v1/apps/{id}/grants`` has its scopes, ``/oauth2/v1/clients/{id}/roles`` its admin roles.

Invariant: a grant is a scope in :attr:`App.scopes`, and an assignment is an entry of :attr:`App.roles`. One that was added
there directly is shown too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from .._access import Caller
from .._app import App
from .._messages import ReceivedRequest
from .._org import Org
from .._refusals import FieldError, Refused, not_found
from .requests import CUSTOM_ROLE, Collection, link, read_body, timestamp

_UNKNOWN_ADMIN = ("User", "00u0000000000000000")

#: The standard roles, with their names in the Admin Console. Any other role is a custom one.
_ROLES = {
    "ACCESS_CERTIFICATIONS_ADMIN": "Access Certifications Administrator",
    "ACCESS_REQUESTS_ADMIN": "Access Requests Administrator",
    "API_ACCESS_MANAGEMENT_ADMIN": "API Access Management Administrator",
    "APP_ADMIN": "Application Administrator",
    "GROUP_MEMBERSHIP_ADMIN": "Group Membership Administrator",
    "HELP_DESK_ADMIN": "Help Desk Administrator",
    "ORG_ADMIN": "Organization Administrator",
    "READ_ONLY_ADMIN": "Read Only Administrator",
    "REPORT_ADMIN": "Report Administrator",
    "SUPER_ADMIN": "Super Administrator",
    "USER_ADMIN": "Group Administrator",
    "WORKFLOWS_ADMIN": "Workflows Administrator",
}
#: Standard roles that Okta assigns through a resource set, like custom roles.
_IAM_ROLES = {"ACCESS_CERTIFICATIONS_ADMIN", "ACCESS_REQUESTS_ADMIN", "WORKFLOWS_ADMIN"}


def _add_grant(org: Org, request: ReceivedRequest, caller: Caller, app: App) -> str:
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
    return scope


def _remove_grant(org: Org, app: App, removed: str) -> None:
    app.change_follows(org.settling)
    app.scopes = [scope for scope in app.scopes if scope != removed]
    org.records.forget("grant", app.id, removed)


def _grant_document(org: Org, app: App, scope: str) -> dict[str, Any]:
    record = org.records.find("grant", app.id, scope, prefix="oag")
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


def _add_role(org: Org, request: ReceivedRequest, caller: Caller, app: App) -> str:
    role = _read_role(read_body(request))
    if role in app.roles:
        raise Refused("E0000090")
    app.change_follows(org.settling)
    app.roles = [*app.roles, role]
    return role


def _read_role(body: Mapping[str, Any]) -> str:
    role = body.get("type")
    if role == "CUSTOM":
        for member, prefix in (("role", "cr0"), ("resource-set", "iam")):
            value = body.get(member)
            if not isinstance(value, str) or not value:
                raise FieldError(member, f"{member}: The field cannot be left blank")
            if not value.startswith(prefix):
                raise not_found(value, "Role" if member == "role" else "ResourceSet")
        return f"{CUSTOM_ROLE}{body['role']}/{body['resource-set']}"
    if role not in _ROLES:
        raise FieldError("type", f"type: '{role}' is not a valid role type")
    return str(role)


def _remove_role(org: Org, app: App, removed: str) -> None:
    app.change_follows(org.settling)
    app.roles = [role for role in app.roles if role != removed]


def _role_document(org: Org, app: App, role: str) -> dict[str, Any]:
    through_iam = role in _IAM_ROLES or role.startswith(CUSTOM_ROLE)
    record = org.records.find("role", app.id, role, prefix="irb" if through_iam else "JBC")
    client = f"{org.url}/oauth2/v1/clients/{quote(app.client_id)}"
    document: dict[str, Any] = {
        "id": record.id if through_iam else record.id.upper(),
        "label": _ROLES.get(role, "Custom role"),
        "type": "CUSTOM" if role.startswith(CUSTOM_ROLE) else role,
        "status": "ACTIVE",
        "created": timestamp(record.created),
        "lastUpdated": timestamp(record.created),
        "assignmentType": "CLIENT",
    }
    if not through_iam:
        return {**document, "_links": {"assignee": {"href": client}}}
    role_id, resource_set = role, f"{role}_IAM_POLICY"
    if role.startswith(CUSTOM_ROLE):
        role_id, _, resource_set = role.removeprefix(CUSTOM_ROLE).partition("/")
    iam = f"{org.url}/api/v1/iam"
    links = {
        "assignee": {"href": client},
        "member": {"href": f"{iam}/resource-sets/{resource_set}/bindings/{role_id}/members/{record.id}"},
        "permissions": {"href": f"{iam}/roles/{role_id}/permissions"},
        "resource-set": {"href": f"{iam}/resource-sets/{resource_set}"},
        "role": {"href": f"{iam}/roles/{role_id}"},
    }
    return {**document, "resource-set": resource_set, "role": role_id, "_links": links}


GRANTS = Collection(
    "OAuth2ScopeConsentGrant", lambda org, app: app.scopes, _grant_document, add=_add_grant, remove=_remove_grant
)
# Okta's document says 200 for an assigned role, but recorded traffic has 201.
ROLES = Collection("RoleAssignment", lambda org, app: app.roles, _role_document, add=_add_role, remove=_remove_role)
