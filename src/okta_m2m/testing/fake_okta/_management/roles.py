"""``/oauth2/v1/clients/{id}/roles``: the admin roles that are assigned to an app.

Invariant: an assignment is an entry of :attr:`App.roles`; a role that was added there directly is also an assignment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from .._access import Caller
from .._app import App
from .._messages import Answer, ReceivedRequest, json_answer
from .._org import Org
from .._refusals import ApiRefused
from .requests import CUSTOM_ROLE, FieldError, find_by_id, not_found, read_body, timestamp

__all__ = ["add_role", "delete_role", "get_role", "list_roles"]

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


def list_roles(org: Org, request: ReceivedRequest, caller: Caller, app: App) -> Answer:
    return json_answer(200, [_document(org, app, role) for role in app.roles])


def add_role(org: Org, request: ReceivedRequest, caller: Caller, app: App) -> Answer:
    role = _read_role(read_body(request))
    if role in app.roles:
        raise ApiRefused("E0000090")
    app.change_follows(org.settling)
    app.roles = [*app.roles, role]
    # Okta's document says 200, but recorded traffic has 201.
    return json_answer(201, _document(org, app, role))


def get_role(org: Org, request: ReceivedRequest, caller: Caller, app: App, id: str) -> Answer:
    return json_answer(200, _document(org, app, _find_role(org, app, id)))


def delete_role(org: Org, request: ReceivedRequest, caller: Caller, app: App, id: str) -> Answer:
    removed = _find_role(org, app, id)
    app.change_follows(org.settling)
    app.roles = [role for role in app.roles if role != removed]
    return Answer(204)


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


def _find_role(org: Org, app: App, id: str) -> str:
    return find_by_id(app.roles, lambda role: _document(org, app, role)["id"], id, "RoleAssignment")


def _document(org: Org, app: App, role: str) -> dict[str, Any]:
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
