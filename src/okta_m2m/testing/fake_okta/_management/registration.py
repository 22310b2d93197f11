"""The checks that both registration endpoints make before they create or replace an app.

Invariant: an app is changed only after its whole new description has been read without an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .._access import Caller
from .._app import App
from .._jws import thumbprint
from .._org import Org
from .keys import app_keys, check_key_set, read_key
from .requests import FieldError, check_key_changes, read_strings

__all__ = ["read_settings", "replace_app"]

_AUTH_METHOD = "token_endpoint_auth_method"
_AUTH_METHODS = {"private_key_jwt", "client_secret_basic", "client_secret_post", "client_secret_jwt", "none"}
_APPLICATION_TYPES = {"browser", "native", "service", "web"}
_NO_KEYS = "'jwks' or 'jwks_uri' is needed when 'token_endpoint_auth_method' is 'private_key_jwt'."
# Plain http is for a test's key server.
_JWKS_URI = re.compile(r"https://|http://(?:127\.0\.0\.1|localhost)[:/]")


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
