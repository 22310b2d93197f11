"""The routes of the management API: the endpoint for each path, and the scopes that it needs.

Invariant: the caller is authorized before anything else in the request is checked, even for a path that does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from .._access import Caller, authorize
from .._messages import Answer, ReceivedRequest
from .._org import Org
from .._refusals import ApiRefused
from .apps import create_app, delete_app, get_app, list_apps, put_app, set_app_status
from .clients import create_client, delete_client, get_client, list_clients, put_client
from .grants import add_grant, delete_grant, get_grant, list_grants
from .keys import add_key, delete_key, get_key, list_keys, set_key_status
from .requests import not_found
from .roles import add_role, delete_role, get_role, list_roles

__all__ = ["answer_apps", "answer_clients"]

_Handler = Callable[[Org, ReceivedRequest, Caller, Sequence[str]], Answer]


@dataclass(frozen=True)
class _Endpoint:
    """A method of a path. Any of ``scopes`` is enough, and a challenge names the first."""

    method: str
    scopes: tuple[str, ...]
    handler: _Handler


class _Route:
    """A path, in which each ``{}`` is one segment, and its endpoints."""

    def __init__(self, path: str, *endpoints: _Endpoint) -> None:
        self.pattern = re.compile(path.replace("{}", "([^/]+)"))
        self.endpoints = {endpoint.method: endpoint for endpoint in endpoints}

    @property
    def first(self) -> _Endpoint:
        return next(iter(self.endpoints.values()))


def answer_apps(org: Org, request: ReceivedRequest) -> Answer:
    """``/api/v1/apps`` and everything below it."""
    return _answer(org, request, _APPS)


def answer_clients(org: Org, request: ReceivedRequest) -> Answer:
    """``/oauth2/v1/clients`` and everything below it."""
    return _answer(org, request, _CLIENTS)


def _answer(org: Org, request: ReceivedRequest, routes: Sequence[_Route]) -> Answer:
    method = "GET" if request.method == "HEAD" else request.method
    for route in routes:
        found = route.pattern.fullmatch(request.path)
        if found is None:
            continue
        endpoint = route.endpoints.get(method)
        caller = authorize(org, request, *(endpoint or route.first).scopes)
        if endpoint is None:
            raise ApiRefused("E0000022")
        with org.changing:
            answer = endpoint.handler(org, request, caller, [unquote(part) for part in found.groups()])
        answer.headers += caller.headers
        return answer
    authorize(org, request, *routes[0].first.scopes)
    raise not_found(unquote(request.path), "Resource")


_READ_APPS = ("okta.apps.read", "okta.apps.manage")
_MANAGE_APPS = ("okta.apps.manage",)
_READ_GRANTS = ("okta.appGrants.read", "okta.appGrants.manage")
_MANAGE_GRANTS = ("okta.appGrants.manage",)
_READ_CLIENTS = ("okta.clients.read", "okta.clients.manage")
_MANAGE_CLIENTS = ("okta.clients.manage",)
_REGISTER = ("okta.clients.register", "okta.clients.manage")
_READ_ROLES = ("okta.roles.read", "okta.roles.manage")
_MANAGE_ROLES = ("okta.roles.manage",)

_APP = "/api/v1/apps/{}"
_KEY = f"{_APP}/credentials/jwks/{{}}"
_CLIENT = "/oauth2/v1/clients/{}"
_LIFECYCLE = "lifecycle/(activate|deactivate)"

_APPS = [
    _Route(
        "/api/v1/apps",
        _Endpoint("GET", _READ_APPS, list_apps),
        _Endpoint("POST", _MANAGE_APPS, create_app),
    ),
    _Route(
        _APP,
        _Endpoint("GET", _READ_APPS, get_app),
        _Endpoint("PUT", _MANAGE_APPS, put_app),
        _Endpoint("DELETE", _MANAGE_APPS, delete_app),
    ),
    _Route(f"{_APP}/{_LIFECYCLE}", _Endpoint("POST", _MANAGE_APPS, set_app_status)),
    _Route(
        f"{_APP}/credentials/jwks",
        _Endpoint("GET", _READ_APPS, list_keys),
        _Endpoint("POST", _MANAGE_APPS, add_key),
    ),
    _Route(
        _KEY,
        _Endpoint("GET", _READ_APPS, get_key),
        _Endpoint("DELETE", _MANAGE_APPS, delete_key),
    ),
    _Route(f"{_KEY}/{_LIFECYCLE}", _Endpoint("POST", _MANAGE_APPS, set_key_status)),
    _Route(
        f"{_APP}/grants",
        _Endpoint("GET", _READ_GRANTS, list_grants),
        _Endpoint("POST", _MANAGE_GRANTS, add_grant),
    ),
    _Route(
        f"{_APP}/grants/{{}}",
        _Endpoint("GET", _READ_GRANTS, get_grant),
        _Endpoint("DELETE", _MANAGE_GRANTS, delete_grant),
    ),
]
_CLIENTS = [
    _Route(
        "/oauth2/v1/clients",
        _Endpoint("GET", _READ_CLIENTS, list_clients),
        _Endpoint("POST", _REGISTER, create_client),
    ),
    _Route(
        _CLIENT,
        _Endpoint("GET", _READ_CLIENTS, get_client),
        _Endpoint("PUT", _MANAGE_CLIENTS, put_client),
        _Endpoint("DELETE", _MANAGE_CLIENTS, delete_client),
    ),
    _Route(
        f"{_CLIENT}/roles",
        _Endpoint("GET", _READ_ROLES, list_roles),
        _Endpoint("POST", _MANAGE_ROLES, add_role),
    ),
    _Route(
        f"{_CLIENT}/roles/{{}}",
        _Endpoint("GET", _READ_ROLES, get_role),
        _Endpoint("DELETE", _MANAGE_ROLES, delete_role),
    ),
]
