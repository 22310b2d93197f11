"""The admin roles that are assigned to an app: list, assign, unassign. A call needs a role as well as a scope.

Invariant: a role that is already assigned is returned, and not assigned twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ..errors import ConfigurationError, quoted
from ._answers import items_of, not_as_described
from ._ids import path_segment
from .management import ManagementApi

__all__ = ["STANDARD_ROLES", "Role", "RoleResult", "assign_custom_role", "assign_role", "list_roles", "unassign_role"]

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
    """What became of a role.

    - ``role``: the assignment, new or existing.
    - ``assigned``: whether it is new.
    """

    role: Role
    assigned: bool


def list_roles(api: ManagementApi, client_id: str) -> list[Role]:
    """The admin roles that are assigned to an app.

    - ``api``: the org, signed in to.
    - ``client_id``: :attr:`App.client_id`.
    """
    return [_role(item) for item in items_of(api.call("GET", _path(client_id)), "roles")]


def assign_role(api: ManagementApi, client_id: str, type: str) -> RoleResult:
    """Assigns a standard admin role. Okta lets only a Super Admin do so.

    - ``api``: the org, signed in to.
    - ``client_id``: :attr:`App.client_id`.
    - ``type``: one of :data:`STANDARD_ROLES`.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for any other type.
    """
    if type not in STANDARD_ROLES:
        raise ConfigurationError(
            f"{quoted(type, 60)!r} is not a standard role.",
            remedy=(
                f"It must be one of {', '.join(STANDARD_ROLES)}. A custom role is assigned by its id and that "
                "of a resource set."
            ),
        )
    existing = next((role for role in list_roles(api, client_id) if role.type == type), None)
    if existing is not None:
        return RoleResult(existing, False)
    return RoleResult(_role(api.call("POST", _path(client_id), {"type": type})), True)


def assign_custom_role(api: ManagementApi, client_id: str, role: str, resource_set: str) -> RoleResult:
    """Assigns a custom admin role for a resource set. Okta lets only a Super Admin do so.

    - ``api``: the org, signed in to.
    - ``client_id``: :attr:`App.client_id`.
    - ``role``: the id of the custom role (``cr0...``).
    - ``resource_set``: the id of the resource set (``iam...``).
    """
    for existing in list_roles(api, client_id):
        if existing.type == "CUSTOM" and (existing.role, existing.resource_set) == (role, resource_set):
            return RoleResult(existing, False)
    body = {"type": "CUSTOM", "role": role, "resource-set": resource_set}
    return RoleResult(_role(api.call("POST", _path(client_id), body)), True)


def unassign_role(api: ManagementApi, client_id: str, assignment_id: str) -> None:
    """Takes a role from an app.

    - ``api``: the org, signed in to.
    - ``client_id``: :attr:`App.client_id`.
    - ``assignment_id``: :attr:`Role.id`.
    """
    api.call("DELETE", f"{_path(client_id)}/{path_segment(assignment_id)}")


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
