"""``/api/v1/apps``: creating, finding, changing and deleting apps; and what ``/oauth2/v1/clients`` requires of an app as well.

Invariant: a PUT replaces a whole app, except its ids, its status and its grants. An app is changed only after its whole new
description has been read without an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs, quote

from .._access import Caller
from .._app import App
from .._jws import thumbprint
from .._messages import Answer, ReceivedRequest, json_answer
from .._org import Org, new_id
from .._refusals import FieldError, Refused
from .keys import app_keys, check_key_set, key_document, read_key
from .requests import check_key_changes, page_answer, read_body, read_object, read_string, read_strings, timestamp

_CLIENT_ID = re.compile(r"[A-Za-z0-9$\-_.+!*'(),]{6,100}")
_NAME_FILTER = re.compile(r'\s*(id|status|name)\s+eq\s+"([^"]*)"\s*')
_SECRET_WITH_KEY = "'client_secret' can't be used when 'token_endpoint_auth_method' is 'private_key_jwt'."
_AUTH_METHOD = "token_endpoint_auth_method"
_AUTH_METHODS = {"private_key_jwt", "client_secret_basic", "client_secret_post", "client_secret_jwt", "none"}
_APPLICATION_TYPES = {"browser", "native", "service", "web"}
_NO_KEYS = "'jwks' or 'jwks_uri' is needed when 'token_endpoint_auth_method' is 'private_key_jwt'."
# Plain HTTP is for a test's key server.
_JWKS_URI = re.compile(r"https://|http://(?:127\.0\.0\.1|localhost)[:/]")


def create_app(org: Org, request: ReceivedRequest, caller: Caller) -> Answer:
    body = read_body(request)
    activate = parse_qs(request.query).get("activate", ["true"])[0]
    if activate not in ("true", "false"):
        raise FieldError("activate", "activate: The value must be true or false")
    app = _read_app(org, body, None)
    app.status = "ACTIVE" if activate == "true" else "INACTIVE"
    app.change_follows(org.settling, created=True)
    org.apps[app.client_id] = app
    return json_answer(200, _app_document(org, app))


def list_apps(org: Org, request: ReceivedRequest, caller: Caller) -> Answer:
    query = parse_qs(request.query)
    found: list[App] = list(org.apps.values())
    if "q" in query:
        start = query["q"][0].lower()
        found = [app for app in found if app.label.lower().startswith(start) or "oidc_client".startswith(start)]
    if "filter" in query:
        asked = _NAME_FILTER.fullmatch(query["filter"][0])
        if asked is None:
            raise FieldError("filter", "Invalid search criteria.")
        name, value = asked.groups()
        found = [
            app for app in found if {"id": app.id, "status": app.status, "name": "oidc_client"}[str(name)] == value
        ]
    return page_answer(org, request, found, lambda app: app.id, _app_document)


def get_app(org: Org, request: ReceivedRequest, caller: Caller, app: App) -> Answer:
    return json_answer(200, _app_document(org, app))


def put_app(org: Org, request: ReceivedRequest, caller: Caller, app: App) -> Answer:
    replace_app(org, app, _read_app(org, read_body(request), app), caller)
    return json_answer(200, _app_document(org, app))


def delete_app(org: Org, request: ReceivedRequest, caller: Caller, app: App) -> Answer:
    if app.status == "ACTIVE":
        raise Refused("E0000056")
    del org.apps[app.client_id]
    return Answer(204)


def set_app_status(org: Org, request: ReceivedRequest, caller: Caller, app: App, action: str) -> Answer:
    app.status = "ACTIVE" if action == "activate" else "INACTIVE"
    org.records.mark_updated("app", app.id)
    return json_answer(200, {})


def _read_app(org: Org, body: Mapping[str, Any], present: App | None) -> App:
    """The app that an object of the Apps API describes. ``present`` is the app that it replaces."""
    label = read_string(body, "label")
    if read_string(body, "name") != "oidc_client":
        raise FieldError("name", "name: The field must be oidc_client. FakeOkta supports no other kind of app.")
    if read_string(body, "signOnMode") != "OPENID_CONNECT":
        raise FieldError("signOnMode", "signOnMode: The field must be OPENID_CONNECT")
    credentials = read_object(read_object(body, "credentials"), "oauthClient")
    settings = read_object(read_object(body, "settings"), "oauthClient")
    id = new_id("0oa")
    client_id = present.client_id if present is not None else credentials.get("client_id") or id
    if not isinstance(client_id, str) or not _CLIENT_ID.fullmatch(client_id) or client_id == "ALL_CLIENTS":
        raise FieldError("client_id", "client_id: The field is not well-formed")
    if present is None and client_id in org.apps:
        raise FieldError("client_id", "client_id: An object with this field already exists in the current organization")
    if present is not None and credentials.get("client_id", client_id) != client_id:
        raise FieldError("client_id", "client_id: The field is immutable")
    method = credentials.get("token_endpoint_auth_method", "client_secret_basic")
    if method == "private_key_jwt" and credentials.get("client_secret"):
        raise FieldError("client_secret", _SECRET_WITH_KEY)
    app = read_settings(client_id, settings, method, present)
    app.id = id
    app.label = label
    app.dpop_bound = settings.get("dpop_bound_access_tokens", False)
    if not isinstance(app.dpop_bound, bool):
        raise FieldError("dpop_bound_access_tokens", "dpop_bound_access_tokens: The field must be true or false")
    app.consent_method = str(settings.get("consent_method", "TRUSTED"))
    return app


def read_settings(client_id: str, settings: Mapping[str, Any], method: object, present: App | None) -> App:
    """A new app with the settings that both endpoints share. ``present`` is the app that it is to replace."""
    app = App(client_id, {"keys": []}, [])
    app.roles = []
    app.application_type = str(settings.get("application_type") or "web")
    if app.application_type not in _APPLICATION_TYPES:
        raise FieldError("application_type", f"application_type: Invalid value {app.application_type!r}")
    if present is not None and app.application_type != present.application_type:
        raise FieldError("application_type", "application_type: The field is immutable")
    if method not in _AUTH_METHODS:
        raise FieldError(_AUTH_METHOD, f"{_AUTH_METHOD}: Invalid value {method!r}")
    app.token_endpoint_auth_method = str(method)
    _read_grant_types(app, settings)
    _read_keys(app, settings)
    return app


def _read_grant_types(app: App, settings: Mapping[str, Any]) -> None:
    app.grant_types = read_strings(settings, "grant_types", ["authorization_code"])
    app.response_types = read_strings(settings, "response_types", ["code"])
    if app.application_type == "service":
        if app.token_endpoint_auth_method == "none":
            raise FieldError(_AUTH_METHOD, f"{_AUTH_METHOD}: A service app is a confidential client")
        if "authorization_code" in app.grant_types or "implicit" in app.grant_types:
            raise FieldError(
                "grant_types", "grant_types: The grant type is not valid for the application type 'service'"
            )
    if "client_credentials" in app.grant_types and "token" not in app.response_types:
        raise FieldError("response_types", "response_types: 'token' is needed with the grant type 'client_credentials'")


def _read_keys(app: App, settings: Mapping[str, Any]) -> None:
    jwks, jwks_uri = settings.get("jwks"), settings.get("jwks_uri")
    if jwks is not None and jwks_uri is not None:
        raise FieldError("jwks", "'jwks' and 'jwks_uri' can't both be given.")
    if jwks_uri is not None:
        if not isinstance(jwks_uri, str) or not _JWKS_URI.match(jwks_uri):
            raise FieldError("jwks_uri", "jwks_uri: The field must be an https URL")
        app.jwks_uri = jwks_uri
    elif jwks is not None:
        keys = jwks.get("keys") if isinstance(jwks, Mapping) else None
        if not isinstance(keys, list):
            raise FieldError("jwks", "jwks: The field must have 'keys'")
        checked = [read_key(jwk) for jwk in keys]
        check_key_set(checked, [])
        app.jwks = {"keys": checked}
    if app.token_endpoint_auth_method == "private_key_jwt" and app.jwks_uri is None and not app.active_keys():
        raise FieldError("jwks", _NO_KEYS)


def _public_members(keys: Iterable[Mapping[str, Any]]) -> list[tuple[str, object, object]]:
    return sorted((thumbprint(jwk), str(jwk.get("kid")), jwk.get("status", "ACTIVE")) for jwk in keys)


def replace_app(org: Org, app: App, changed: App, caller: Caller) -> None:
    """Changes ``app`` to what a PUT describes. A key that keeps its ``kid`` keeps its id."""
    keys = changed.jwks["keys"]
    if _public_members(keys) != _public_members(app.jwks["keys"]) or changed.jwks_uri != app.jwks_uri:
        check_key_changes(app, caller)
    app.change_follows(org.settling)
    ids = {jwk.get("kid"): jwk["id"] for jwk in app_keys(org, app)}
    for jwk in keys:
        jwk.pop("id", None)
        if jwk.get("kid") in ids:
            jwk["id"] = ids[jwk.get("kid")]
    app.label = changed.label
    app.jwks = {"keys": keys}
    app.jwks_uri = changed.jwks_uri
    app.dpop_bound = changed.dpop_bound
    app.consent_method = changed.consent_method
    app.grant_types, app.response_types = changed.grant_types, changed.response_types
    app.token_endpoint_auth_method = changed.token_endpoint_auth_method
    org.records.mark_updated("app", app.id)


def _app_document(org: Org, app: App) -> dict[str, Any]:
    url = f"{org.url}/api/v1/apps/{quote(app.id)}"
    record = org.records.find("app", app.id)
    other_status = "deactivate" if app.status == "ACTIVE" else "activate"
    return {
        "id": app.id,
        "name": "oidc_client",
        "label": app.label,
        "status": app.status,
        "lastUpdated": timestamp(record.updated),
        "created": timestamp(record.created),
        "accessibility": {"selfService": False},
        "visibility": {
            "autoLaunch": False,
            "autoSubmitToolbar": False,
            "hide": {"iOS": True, "web": True},
            "appLinks": {"oidc_client_link": True},
        },
        "features": [],
        "signOnMode": "OPENID_CONNECT",
        "credentials": {
            "userNameTemplate": {"template": "${source.login}", "type": "BUILT_IN"},
            "oauthClient": {
                "autoKeyRotation": True,
                "client_id": app.client_id,
                "token_endpoint_auth_method": app.token_endpoint_auth_method,
            },
        },
        "settings": {
            "app": {},
            "implicitAssignment": False,
            "manualProvisioning": False,
            "oauthClient": _client_settings(org, app),
        },
        "_links": {
            other_status: {"href": f"{url}/lifecycle/{other_status}"},
            "users": {"href": f"{url}/users"},
            "groups": {"href": f"{url}/groups"},
        },
    }


def _client_settings(org: Org, app: App) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "response_types": app.response_types,
        "grant_types": app.grant_types,
        "application_type": app.application_type,
        "consent_method": app.consent_method,
        "issuer_mode": "DYNAMIC",
        "idp_initiated_login": {"mode": "DISABLED", "default_scope": []},
        "wildcard_redirect": "DISABLED",
        "dpop_bound_access_tokens": app.dpop_bound,
    }
    if app.jwks_uri is not None:
        settings["jwks_uri"] = app.jwks_uri
    elif app.jwks["keys"]:
        settings["jwks"] = {"keys": [key_document(org, app, jwk, links=False) for jwk in app_keys(org, app)]}
    return settings
