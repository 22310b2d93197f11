"""The admin roles that are assigned to an app: list, assign, unassign. An API call needs a role as well as a scope.

Invariant: a role that is already assigned is returned, not assigned twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from ..errors import ConfigurationError, quoted
from ._answers import items_of, not_as_described
from ._changes import change, path_segment, read_back, shown_id
from .errors import NotFound
from .management import ManagementApi

__all__ = [
    "STANDARD_ROLES",
    "Role",
    "RoleResult",
    "assign_custom_role",
    "assign_role",
    "find_role",
    "list_roles",
    "unassign_role",
]

STANDARD_ROLES: Final = (
    "ACCESS_CERTIFICATIONS_ADMIN",
    "ACCESS_REQUESTS_ADMIN",
    "API_ACCESS_MANAGEMENT_ADMIN",
    "APP_ADMIN",
    "GROUP_MEMBERSHIP_ADMIN",
    "HELP_DESK_ADMIN",
    "ORG_ADMIN",
    "READ_ONLY_ADMIN",
    "REPORT_ADMIN",
    "SUPER_ADMIN",
    "USER_ADMIN",
    "WORKFLOWS_ADMIN",
)
"""The types of Okta's standard admin roles (management API, "Assign a client role")."""


@dataclass(frozen=True, slots=True)
class Role:
    """An admin role that is assigned to an app.

    - ``id``: Okta's id for the assignment.
    - ``type``: one of :data:`STANDARD_ROLES`, or ``CUSTOM``.
    - ``label``: the role's name in the Admin Console.
    - ``status``: ``ACTIVE`` or ``INACTIVE``.
    - ``role``: the id of a custom role (``cr0...``); ``None`` for a standard one.
    - ``resource_set``: the id of a custom role's resource set (``iam...``); ``None`` for a standard one.
    """

    id: str
    type: str
    label: str
    status: str
    role: str | None = None
    resource_set: str | None = None


@dataclass(frozen=True, slots=True)
class RoleResult:
    """The result for a role.

    - ``role``: the assignment, new or existing.
    - ``assigned``: whether it is new.
    """

    role: Role
    assigned: bool


def list_roles(api: ManagementApi, client_id: str) -> list[Role]:
    """The admin roles that are assigned to an app.

    - ``api``: the management API of the org.
    - ``client_id``: :attr:`App.client_id`.
    """
    return [_role(item) for item in items_of(api.call("GET", _path(client_id)), "roles")]


def assign_role(api: ManagementApi, client_id: str, type: str) -> RoleResult:
    """Assigns a standard admin role. Okta lets only a Super Admin do so.

    - ``api``: the management API of the org.
    - ``client_id``: :attr:`App.client_id`.
    - ``type``: one of :data:`STANDARD_ROLES`, in upper or lower case.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for any other type.
    """
    type = _standard_role(type)
    existing = next((role for role in list_roles(api, client_id) if role.type == type), None)
    if existing is not None:
        return RoleResult(existing, False)
    return _assign(api, client_id, {"type": type})


def assign_custom_role(api: ManagementApi, client_id: str, role: str, resource_set: str) -> RoleResult:
    """Assigns a custom admin role for a resource set. Okta lets only a Super Admin do so.

    - ``api``: the management API of the org.
    - ``client_id``: :attr:`App.client_id`.
    - ``role``: the id of the custom role (``cr0...``).
    - ``resource_set``: the id of the resource set (``iam...``).
    """
    for existing in list_roles(api, client_id):
        if existing.type == "CUSTOM" and (existing.role, existing.resource_set) == (role, resource_set):
            return RoleResult(existing, False)
    return _assign(api, client_id, {"type": "CUSTOM", "role": role, "resource-set": resource_set})


def find_role(api: ManagementApi, client_id: str, type_or_id: str) -> Role:
    """The role of an app that has this type, or else this id.

    - ``api``: the management API of the org.
    - ``client_id``: :attr:`App.client_id`.
    - ``type_or_id``: :attr:`Role.type` of a standard role, in upper or lower case, or :attr:`Role.id`.

    Raises :class:`~okta_m2m.admin.errors.NotFound`.
    """
    roles = list_roles(api, client_id)
    found = next((role for role in roles if role.id == type_or_id), None)
    found = found or next((role for role in roles if role.type != "CUSTOM" and role.type == _folded(type_or_id)), None)
    if found is None:
        raise NotFound(
            f"The app has no role {shown_id(type_or_id)!r}.",
            remedy="List its roles with: okta-m2m app role list",
            status=404,
        )
    return found


def unassign_role(api: ManagementApi, client_id: str, assignment_id: str) -> None:
    """Unassigns a role from an app.

    - ``api``: the management API of the org.
    - ``client_id``: :attr:`App.client_id`.
    - ``assignment_id``: :attr:`Role.id`.

    Raises :class:`~okta_m2m.admin.errors.NotFound` if the app has no such assignment.
    """
    if _with_id(api, client_id, assignment_id) is None:
        raise NotFound(
            f"The app has no role assignment {shown_id(assignment_id)!r}.",
            remedy="List them with: okta-m2m app role list",
            status=404,
        )
    change(
        api,
        "DELETE",
        f"{_path(client_id)}/{path_segment(assignment_id)}",
        lambda: _with_id(api, client_id, assignment_id) is None,
        f"the role {shown_id(assignment_id)!r} is unassigned",
    )


def _assign(api: ManagementApi, client_id: str, body: Mapping[str, str]) -> RoleResult:
    made = _role(api.call("POST", _path(client_id), body))
    listed = read_back(api, lambda: _with_id(api, client_id, made.id), f"the role {quoted(made.label, 80)} is assigned")
    return RoleResult(listed, True)


def _with_id(api: ManagementApi, client_id: str, assignment_id: str) -> Role | None:
    return next((role for role in list_roles(api, client_id) if role.id == assignment_id), None)


def _folded(type: str) -> str:
    return type.strip().upper().replace("-", "_").replace(" ", "_")


def _standard_role(type: str) -> str:
    folded = _folded(type)
    if folded in STANDARD_ROLES:
        return folded
    near = get_close_matches(folded, STANDARD_ROLES, n=1)
    remedy = f"Did you mean {near[0]}?" if near else f"It must be one of {', '.join(STANDARD_ROLES)}."
    raise ConfigurationError(
        f"{quoted(type, 60)!r} is not a standard role.",
        remedy=f"{remedy} A custom role is assigned by its id and that of a resource set.",
    )


def _path(client_id: str) -> str:
    return f"/oauth2/v1/clients/{path_segment(client_id)}/roles"


def _role(item: Any) -> Role:
    try:
        return Role(
            id=item["id"],
            type=item["type"],
            label=item.get("label") or item["type"],
            status=item.get("status") or "ACTIVE",
            role=item.get("role"),
            resource_set=item.get("resource-set"),
        )
    except (KeyError, TypeError, AttributeError):
        raise not_as_described("role") from None
