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
from ._grants import Grant, GrantResult, grant_scopes, list_grants, revoke_scopes
from ._roles import (
    STANDARD_ROLES,
    Role,
    RoleResult,
    assign_custom_role,
    assign_role,
    find_role,
    list_roles,
    unassign_role,
)
from ._settings_text import environment_lines, okta_yaml

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
    "environment_lines",
    "find_app",
    "find_key",
    "find_role",
    "get_app",
    "grant_scopes",
    "list_apps",
    "list_grants",
    "list_keys",
    "list_roles",
    "okta_yaml",
    "revoke_scopes",
    "set_dpop",
    "unassign_role",
]
