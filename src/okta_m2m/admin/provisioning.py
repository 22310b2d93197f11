"""Creates a service app, gives it keys, scopes and roles, and undoes each of these.

Every function takes a :class:`~okta_m2m.admin.management.ManagementApi`, which holds the org and the account::

    with ManagementApi("https://acme.okta.com", ApiToken.from_env()) as api:
        created = create_app(api, "billing", jwks=key.jwks())
        grant_scopes(api, created.app.id, ["okta.users.read"])
        assign_role(api, created.app.client_id, "READ_ONLY_ADMIN")

Each may raise a :class:`~okta_m2m.admin.errors.ProvisioningError`, or, if a service app signs in, a
:class:`~okta_m2m.errors.TokenError`.

Invariant: each function may be called again. Existing objects are not changed, and are reported separately from
changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, Literal

from ..errors import ConfigurationError, policy_remedy, quoted
from ._app_keys import AppKey, activate_key, add_key, deactivate_key, delete_key, find_key, list_keys
from ._apps import (
    App,
    Created,
    Difference,
    Via,
    activate_app,
    create_app,
    deactivate_app,
    delete_app,
    find_app,
    get_app,
    list_apps,
    set_dpop,
)
from ._changes import change, path_segment, read_back, shown_id
from .errors import InvalidRequest, NotFound, ProvisioningError, response_details
from .management import ManagementApi, described_as, items_of

__all__ = [
    "STANDARD_ROLES",
    "App",
    "AppKey",
    "Created",
    "Difference",
    "Grant",
    "GrantResult",
    "Role",
    "RoleResult",
    "Via",
    "activate_app",
    "activate_key",
    "add_key",
    "assign_custom_role",
    "assign_role",
    "create_app",
    "deactivate_app",
    "deactivate_key",
    "delete_app",
    "delete_key",
    "find_app",
    "find_key",
    "find_role",
    "get_app",
    "grant_scopes",
    "list_apps",
    "list_grants",
    "list_keys",
    "list_roles",
    "revoke_scopes",
    "set_dpop",
    "unassign_role",
]

# ── scopes ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_READ_AND_MANAGE: Final = """
okta.agentPools okta.apiTokens okta.appGrants okta.apps okta.apps.interclientTrust okta.authenticators
okta.authorizationServers okta.behaviors okta.botProtection okta.brands okta.captchas okta.clients
okta.customTelephonyProvider okta.deviceAssurance okta.deviceIntegrations okta.devicePostureChecks okta.devices
okta.directories.groups okta.domains okta.dr okta.emailDomains okta.emailServers okta.eventHooks okta.features
okta.groups okta.identitySources okta.idps okta.inlineHooks okta.linkedObjects okta.logStreams okta.networkZones
okta.oauthIntegrations okta.orgs okta.personal.adminSettings okta.policies okta.principalRateLimits
okta.profileMappings okta.pushProviders okta.rateLimits okta.realmAssignments okta.realms okta.roles okta.schemas
okta.securityEventsProviders okta.serviceAccounts okta.serviceAccounts.okta okta.sessions okta.templates
okta.threatInsights okta.trustedOrigins okta.uischemas okta.userRisk okta.userTypes okta.users ssf
"""

KNOWN_SCOPES: Final = frozenset(
    {f"{resource}.{kind}" for resource in _READ_AND_MANAGE.split() for kind in ("read", "manage")}
    | {"okta.clients.register", "okta.logs.read", "okta.universalLogout.manage", "okta.workflows.invoke.manage"}
)
"""The scopes of Okta's published OpenAPI documents (release 2026.06.3), to recognize a misspelled one. An unknown scope is not
refused, because Okta adds scopes."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A scope of Okta's own API that is granted to an app.

    - ``id``: Okta's id for the grant.
    - ``scope``: the scope, such as ``okta.users.read``.
    - ``status``: ``ACTIVE``, or ``REVOKED``.
    - ``created``: when it was granted, as Okta writes it (ISO 8601). Default ``None``.
    """

    id: str
    scope: str
    status: str
    created: str | None = None


@dataclass(frozen=True, slots=True)
class GrantResult:
    """The result for one scope.

    - ``scope``: the scope.
    - ``outcome``: ``granted``, or ``present`` if it was granted before; ``revoked``, or ``absent`` if it was not granted.
    """

    scope: str
    outcome: Literal["granted", "present", "revoked", "absent"]


def list_grants(api: ManagementApi, app_id: str) -> list[Grant]:
    """The scopes of Okta's own API that are granted to an app.

    - ``api``: the management API of the org.
    - ``app_id``: :attr:`App.id`.
    """
    return [_grant_from(item) for item in items_of(api.call("GET", _grants_path(app_id)), "grants")]


def grant_scopes(
    api: ManagementApi,
    app_id: str,
    scopes: Iterable[str],
    *,
    progress: Callable[[GrantResult], None] | None = None,
    authorization_server: str = "SERVER",
) -> list[GrantResult]:
    """Grants scopes to an app. Okta lets only a Super Admin do so.

    - ``api``: the management API of the org.
    - ``app_id``: :attr:`App.id`.
    - ``scopes``: scopes of Okta's own API (``okta.*``, ``ssf.*``). Scopes of a custom authorization server are granted
      by its access policies.
    - ``progress``: called with each result as soon as it is known, but not for a scope that failed. Default ``None``.
    - ``authorization_server``: the custom authorization server to name in the error for a scope that is not Okta's own.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for a scope that cannot be granted, before anything is sent. If a
    scope fails, the others are tried too. Then the first failure is raised, and the granted scopes stay granted.
    """
    wanted = _check_scopes(scopes, authorization_server)
    present = _granted(api, app_id)

    def grant(scope: str) -> GrantResult:
        if scope in present:
            return GrantResult(scope, "present")
        _grant_scope(api, app_id, scope)
        read_back(api, lambda: scope in _granted(api, app_id), f"{quoted(scope, 80)} is granted")
        return GrantResult(scope, "granted")

    return _try_all(wanted, grant, progress)


def revoke_scopes(
    api: ManagementApi,
    app_id: str,
    scopes: Iterable[str],
    *,
    progress: Callable[[GrantResult], None] | None = None,
) -> list[GrantResult]:
    """Revokes grants of an app. Tokens that were already issued keep their scopes until they expire.

    - ``api``: the management API of the org.
    - ``app_id``: :attr:`App.id`.
    - ``scopes``, ``progress``: as for :func:`grant_scopes`.

    Raises the same errors as :func:`grant_scopes`.
    """
    wanted = _check_scopes(scopes)
    present = {grant.scope: grant.id for grant in list_grants(api, app_id)}

    def revoke(scope: str) -> GrantResult:
        if scope not in present:
            return GrantResult(scope, "absent")
        path = f"{_grants_path(app_id)}/{path_segment(present[scope])}"
        change(api, "DELETE", path, lambda: scope not in _granted(api, app_id), f"{quoted(scope, 80)} is revoked")
        return GrantResult(scope, "revoked")

    return _try_all(wanted, revoke, progress)


def _try_all(
    scopes: Iterable[str], attempt: Callable[[str], GrantResult], progress: Callable[[GrantResult], None] | None
) -> list[GrantResult]:
    results: list[GrantResult] = []
    failure: ProvisioningError | None = None
    for scope in scopes:
        try:
            results.append(attempt(scope))
        except ProvisioningError as error:
            failure = failure or error
            continue
        if progress is not None:
            progress(results[-1])
    if failure is not None:
        raise failure
    return results


def _check_scopes(scopes: Iterable[str], server: str = "SERVER") -> list[str]:
    """The scopes, checked, without duplicates, in order. ``server``: the custom authorization server that an error names."""
    if isinstance(scopes, str):
        raise ConfigurationError("scopes must be a list, not a string.", remedy=f"Write scopes={scopes.split()!r}.")
    wanted = list(dict.fromkeys(scopes))
    for scope in wanted:
        if not scope.startswith(("okta.", "ssf.")):
            near = _similar_scope(f"okta.{scope}") or _similar_scope(scope)
            raise ConfigurationError(
                f"{quoted(scope, 80)!r} is not a scope of Okta's own API, and only those can be granted to an app.",
                remedy=(f"Did you mean {near!r}? " if near else "") + policy_remedy(server),
            )
        if scope.endswith(".self"):
            raise ConfigurationError(
                f"{quoted(scope, 80)!r} is about the user who is signed in, and a service app has no user.",
                remedy=f"Use {scope.removesuffix('.self')!r}.",
            )
    return wanted


def _similar_scope(scope: str) -> str | None:
    """The most similar known scope, which is the scope itself if it is known; ``None`` if none is similar."""
    by_folded = {name.lower(): name for name in KNOWN_SCOPES}
    near = get_close_matches(scope.lower(), by_folded, n=1, cutoff=0.75)
    return by_folded[near[0]] if near else None


def _grant_scope(api: ManagementApi, app_id: str, scope: str) -> None:
    try:
        api.call("POST", _grants_path(app_id), {"issuer": api.org_url, "scopeId": scope})
    except InvalidRequest as error:
        near = _similar_scope(scope)
        if near is None or near == scope:
            raise
        raise InvalidRequest(
            f"Okta does not grant {quoted(scope, 80)!r}.",
            remedy=f"Did you mean {near!r}?",
            **response_details(error),
        ) from error


def _granted(api: ManagementApi, app_id: str) -> set[str]:
    return {grant.scope for grant in list_grants(api, app_id) if grant.status == "ACTIVE"}


def _grants_path(app_id: str) -> str:
    return f"/api/v1/apps/{path_segment(app_id)}/grants"


def _grant_from(item: Mapping[str, Any]) -> Grant:
    with described_as("grant"):
        return Grant(item["id"], item["scopeId"], item.get("status") or "ACTIVE", item.get("created"))


# ── admin roles: an API call needs one as well as a scope ────────────────────────────────────────────────────────────

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

    @property
    def name(self) -> str:
        """The type of a standard role; of a custom one, its id and that of its resource set: ``cr0.../iam...``."""
        return f"{self.role}/{self.resource_set}" if self.type == "CUSTOM" else self.type


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
    return [_role_from(item) for item in items_of(api.call("GET", _roles_path(client_id)), "roles")]


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
        raise _no_role(type_or_id)
    return found


def unassign_role(api: ManagementApi, client_id: str, assignment_id: str) -> None:
    """Unassigns a role from an app.

    - ``api``: the management API of the org.
    - ``client_id``: :attr:`App.client_id`.
    - ``assignment_id``: :attr:`Role.id`.

    Raises :class:`~okta_m2m.admin.errors.NotFound` if the app has no such assignment.
    """
    if _with_id(api, client_id, assignment_id) is None:
        raise _no_role(assignment_id)
    change(
        api,
        "DELETE",
        f"{_roles_path(client_id)}/{path_segment(assignment_id)}",
        lambda: _with_id(api, client_id, assignment_id) is None,
        f"the role {shown_id(assignment_id)!r} is unassigned",
    )


def _assign(api: ManagementApi, client_id: str, body: Mapping[str, str]) -> RoleResult:
    made = _role_from(api.call("POST", _roles_path(client_id), body))
    listed = read_back(api, lambda: _with_id(api, client_id, made.id), f"the role {quoted(made.label, 80)} is assigned")
    return RoleResult(listed, True)


def _no_role(id: str) -> NotFound:
    remedy = "List its roles with: okta-m2m app role list"
    return NotFound(f"The app has no role {shown_id(id)!r}.", remedy=remedy, status=404)


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


def _roles_path(client_id: str) -> str:
    return f"/oauth2/v1/clients/{path_segment(client_id)}/roles"


def _role_from(item: Any) -> Role:
    with described_as("role"):
        return Role(
            id=item["id"],
            type=item["type"],
            label=item.get("label") or item["type"],
            status=item.get("status") or "ACTIVE",
            role=item.get("role"),
            resource_set=item.get("resource-set"),
        )
