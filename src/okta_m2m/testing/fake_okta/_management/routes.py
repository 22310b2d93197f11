"""The routes of the management API: the endpoint for each path, and the scopes that it needs.

Invariant: the caller is authorized before anything else in the request is checked, even for a path that does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote

from .._access import Caller, authorize
from .._messages import Answer, ReceivedRequest
from .._org import Org
from .._refusals import ApiRefused
from .apps import create_app, delete_app, get_app, list_apps, put_app, set_app_status
from .clients import create_client, delete_client, get_client, list_clients, put_client
from .grants import add_grant, delete_grant, get_grant, list_grants
from .keys import add_key, delete_key, get_key, list_keys, set_key_status
from .requests import check_may_manage_apps, check_super_admin, find_app, find_client, not_found
from .roles import add_role, delete_role, get_role, list_roles

__all__ = ["answer_management"]


class _Permission(NamedTuple):
    """Any of ``scopes`` is enough, and a challenge names the first. ``check_roles`` refuses a caller whose roles are not."""

    scopes: tuple[str, ...]
    check_roles: Callable[[Caller], None] = lambda caller: None


#: Called with the org, the request, and its caller; below a collection, also with the app, and the other variable segments.
_Handler: TypeAlias = Callable[..., Answer]


def answer_management(org: Org, request: ReceivedRequest) -> Answer:
    """``/api/v1/apps``, ``/oauth2/v1/clients``, and everything below them."""
    method = "GET" if request.method == "HEAD" else request.method
    for path, methods in _ROUTES.items():
        found = re.fullmatch(path.replace("{}", "([^/]+)"), request.path)
        if found is None:
            continue
        # Where the method does not exist, the caller needs the permission of the first one.
        handler, permission = methods.get(method) or next(iter(methods.values()))
        caller = authorize(org, request, *permission.scopes)
        if method not in methods:
            raise ApiRefused("E0000022")
        with org.changing:
            permission.check_roles(caller)
            ids = [unquote(part) for part in found.groups()]
            find = find_app if path.startswith("/api/") else find_client
            answer = handler(org, request, caller, *(find(org, id) for id in ids[:1]), *ids[1:])
        answer.headers += caller.headers
        return answer
    authorize(org, request, *(_READ_APPS if request.path.startswith("/api/") else _READ_CLIENTS).scopes)
    raise not_found(unquote(request.path), "Resource")


_READ_APPS = _Permission(("okta.apps.read", "okta.apps.manage"))
_MANAGE_APPS = _Permission(("okta.apps.manage",), check_may_manage_apps)
_READ_GRANTS = _Permission(("okta.appGrants.read", "okta.appGrants.manage"))
_MANAGE_GRANTS = _Permission(("okta.appGrants.manage",), check_super_admin)
_READ_CLIENTS = _Permission(("okta.clients.read", "okta.clients.manage"))
_MANAGE_CLIENTS = _Permission(("okta.clients.manage",), check_may_manage_apps)
_REGISTER = _Permission(("okta.clients.register", "okta.clients.manage"), check_may_manage_apps)
_READ_ROLES = _Permission(("okta.roles.read", "okta.roles.manage"))
_MANAGE_ROLES = _Permission(("okta.roles.manage",), check_super_admin)

_APP = "/api/v1/apps/{}"
_KEY = f"{_APP}/credentials/jwks/{{}}"
_CLIENT = "/oauth2/v1/clients/{}"
_LIFECYCLE = "lifecycle/(activate|deactivate)"

#: Path, in which each ``{}`` is one segment -> method -> the handler, and the permission that it needs.
_ROUTES: dict[str, dict[str, tuple[_Handler, _Permission]]] = {
    "/api/v1/apps": {"GET": (list_apps, _READ_APPS), "POST": (create_app, _MANAGE_APPS)},
    _APP: {"GET": (get_app, _READ_APPS), "PUT": (put_app, _MANAGE_APPS), "DELETE": (delete_app, _MANAGE_APPS)},
    f"{_APP}/{_LIFECYCLE}": {"POST": (set_app_status, _MANAGE_APPS)},
    f"{_APP}/credentials/jwks": {"GET": (list_keys, _READ_APPS), "POST": (add_key, _MANAGE_APPS)},
    _KEY: {"GET": (get_key, _READ_APPS), "DELETE": (delete_key, _MANAGE_APPS)},
    f"{_KEY}/{_LIFECYCLE}": {"POST": (set_key_status, _MANAGE_APPS)},
    f"{_APP}/grants": {"GET": (list_grants, _READ_GRANTS), "POST": (add_grant, _MANAGE_GRANTS)},
    f"{_APP}/grants/{{}}": {"GET": (get_grant, _READ_GRANTS), "DELETE": (delete_grant, _MANAGE_GRANTS)},
    "/oauth2/v1/clients": {"GET": (list_clients, _READ_CLIENTS), "POST": (create_client, _REGISTER)},
    _CLIENT: {
        "GET": (get_client, _READ_CLIENTS),
        "PUT": (put_client, _MANAGE_CLIENTS),
        "DELETE": (delete_client, _MANAGE_CLIENTS),
    },
    f"{_CLIENT}/roles": {"GET": (list_roles, _READ_ROLES), "POST": (add_role, _MANAGE_ROLES)},
    f"{_CLIENT}/roles/{{}}": {"GET": (get_role, _READ_ROLES), "DELETE": (delete_role, _MANAGE_ROLES)},
}
