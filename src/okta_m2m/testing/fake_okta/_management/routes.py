"""The routes of the management API: the endpoint for each path, and the scopes that it needs.

Invariant: the caller is authorized before anything else in the request is checked, even for a path that does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote

from .._access import authorize
from .._app import App
from .._messages import Answer, ReceivedRequest
from .._org import Org
from .._refusals import Refused, not_found
from .apps import create_app, delete_app, get_app, list_apps, put_app, set_app_status
from .clients import create_client, delete_client, get_client, list_clients, put_client
from .keys import KEYS, set_key_status
from .logs import list_logs
from .permissions import GRANTS, ROLES
from .requests import CUSTOM_ROLE, Collection, check_key_changes


class _Permission(NamedTuple):
    """What a caller needs: one of ``scopes``, of which a challenge names the first, and one of ``roles``."""

    scopes: tuple[str, ...]
    roles: tuple[str, ...] = ()  # empty: any role is enough
    changes_keys: bool = False  # whether check_key_changes applies too


#: Called with the org, the request, and its caller; below a collection, also with the app, and the other variable segments.
_Handler: TypeAlias = Callable[..., Answer]
_Routes: TypeAlias = dict[str, dict[str, tuple[_Handler, _Permission]]]


def answer_management(org: Org, request: ReceivedRequest) -> Answer:
    """``/api/v1/apps``, ``/api/v1/logs``, ``/oauth2/v1/clients``, and everything below them."""
    method = "GET" if request.method == "HEAD" else request.method
    for path, methods in _ROUTES.items():
        matched = re.fullmatch(path.replace("{}", "([^/]+)"), request.path)
        if matched is None:
            continue
        # Where the method does not exist, the caller needs the permission of the first one.
        handler, permission = methods.get(method) or next(iter(methods.values()))
        caller = authorize(org, request, *permission.scopes)
        if method not in methods:
            raise Refused("E0000022")
        with org.changing:
            kinds = {CUSTOM_ROLE if role.startswith(CUSTOM_ROLE) else role for role in caller.roles}
            if permission.roles and kinds.isdisjoint(permission.roles):
                raise Refused("E0000006")
            ids = [unquote(part) for part in matched.groups()]
            apps = [_find_app(org, path, id) for id in ids[:1]]
            if permission.changes_keys:
                check_key_changes(apps[0], caller)
            answer = handler(org, request, caller, *apps, *ids[1:])
        answer.headers += caller.headers
        return answer
    found = next((needed for start, needed in _UNKNOWN_PATHS.items() if request.path.startswith(start)), _READ_CLIENTS)
    authorize(org, request, *found.scopes)
    raise not_found(unquote(request.path), "Resource")


def _find_app(org: Org, path: str, id: str) -> App:
    """The app with this id at ``path``: an app id of the Apps API, which may differ from its client id, or a client id."""
    if path.startswith("/api/"):
        found, kind = next((app for app in org.apps.values() if app.id == id), None), "AppInstance"
    else:
        found, kind = org.apps.get(id), "PublicClientApp"
    if found is None:
        raise not_found(id, kind)
    return found


_SUPER_ADMIN = ("SUPER_ADMIN",)
_APP_MANAGERS = ("SUPER_ADMIN", "APP_ADMIN", "API_ACCESS_MANAGEMENT_ADMIN", CUSTOM_ROLE)

_READ_APPS = _Permission(("okta.apps.read", "okta.apps.manage"))
_MANAGE_APPS = _Permission(("okta.apps.manage",), _APP_MANAGERS)
_MANAGE_KEYS = _Permission(("okta.apps.manage",), _APP_MANAGERS, changes_keys=True)
_READ_LOGS = _Permission(("okta.logs.read",))
_READ_GRANTS = _Permission(("okta.appGrants.read", "okta.appGrants.manage"))
_MANAGE_GRANTS = _Permission(("okta.appGrants.manage",), _SUPER_ADMIN)
_READ_CLIENTS = _Permission(("okta.clients.read", "okta.clients.manage"))
_MANAGE_CLIENTS = _Permission(("okta.clients.manage",), _APP_MANAGERS)
_REGISTER = _Permission(("okta.clients.register", "okta.clients.manage"), _APP_MANAGERS)
_READ_ROLES = _Permission(("okta.roles.read", "okta.roles.manage"))
_MANAGE_ROLES = _Permission(("okta.roles.manage",), _SUPER_ADMIN)

#: The start of a path that does not exist -> what a caller needs to learn that; for any other start, :data:`_READ_CLIENTS`.
_UNKNOWN_PATHS = {"/api/v1/apps": _READ_APPS, "/api/v1/logs": _READ_LOGS}

_APP = "/api/v1/apps/{}"
_KEYS = f"{_APP}/credentials/jwks"
_CLIENT = "/oauth2/v1/clients/{}"
_LIFECYCLE = "lifecycle/(activate|deactivate)"


def _collection_routes(path: str, collection: Collection[Any], read: _Permission, manage: _Permission) -> _Routes:
    return {
        path: {"GET": (collection.answer_list, read), "POST": (collection.answer_post, manage)},
        f"{path}/{{}}": {"GET": (collection.answer_get, read), "DELETE": (collection.answer_delete, manage)},
    }


#: Path, in which each ``{}`` is one segment -> method -> the handler, and the permission that it needs.
_ROUTES: _Routes = {
    "/api/v1/apps": {"GET": (list_apps, _READ_APPS), "POST": (create_app, _MANAGE_APPS)},
    _APP: {"GET": (get_app, _READ_APPS), "PUT": (put_app, _MANAGE_APPS), "DELETE": (delete_app, _MANAGE_APPS)},
    f"{_APP}/{_LIFECYCLE}": {"POST": (set_app_status, _MANAGE_APPS)},
    **_collection_routes(_KEYS, KEYS, _READ_APPS, _MANAGE_KEYS),
    f"{_KEYS}/{{}}/{_LIFECYCLE}": {"POST": (set_key_status, _MANAGE_KEYS)},
    **_collection_routes(f"{_APP}/grants", GRANTS, _READ_GRANTS, _MANAGE_GRANTS),
    "/api/v1/logs": {"GET": (list_logs, _READ_LOGS)},
    "/oauth2/v1/clients": {"GET": (list_clients, _READ_CLIENTS), "POST": (create_client, _REGISTER)},
    _CLIENT: {
        "GET": (get_client, _READ_CLIENTS),
        "PUT": (put_client, _MANAGE_CLIENTS),
        "DELETE": (delete_client, _MANAGE_CLIENTS),
    },
    **_collection_routes(f"{_CLIENT}/roles", ROLES, _READ_ROLES, _MANAGE_ROLES),
}
