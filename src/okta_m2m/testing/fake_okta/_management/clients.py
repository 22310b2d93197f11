"""``/oauth2/v1/clients``: dynamic client registration (RFC 7591, RFC 7592).

Invariant: a client that is registered here is an app, which the Apps API knows too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from .._access import Caller
from .._app import App
from .._messages import Answer, ReceivedRequest, json_answer
from .._org import Org, new_id
from .._refusals import FieldError, Refused
from .apps import read_settings, replace_app
from .requests import page_answer, read_body


def create_client(org: Org, request: ReceivedRequest, caller: Caller) -> Answer:
    app = _read_client(read_body(request), None)
    app.change_follows(org.settling, created=True)
    org.apps[app.client_id] = app
    return json_answer(201, _client_document(org, app))


def list_clients(org: Org, request: ReceivedRequest, caller: Caller) -> Answer:
    start = parse_qs(request.query).get("q", [""])[0].lower()
    found = [app for app in org.apps.values() if app.label.lower().startswith(start)]
    return page_answer(org, request, found, lambda app: app.client_id, _client_document)


def get_client(org: Org, request: ReceivedRequest, caller: Caller, app: App) -> Answer:
    return json_answer(200, _client_document(org, app))


def put_client(org: Org, request: ReceivedRequest, caller: Caller, app: App) -> Answer:
    changed = _read_client(read_body(request), app)
    changed.dpop_bound, changed.consent_method = app.dpop_bound, app.consent_method
    replace_app(org, app, changed, caller)
    return json_answer(200, _client_document(org, app))


def delete_client(org: Org, request: ReceivedRequest, caller: Caller, app: App) -> Answer:
    del org.apps[app.client_id]
    return Answer(204)


def _read_client(body: Mapping[str, Any], present: App | None) -> App:
    """The app that client metadata describes. ``present`` is the app that it replaces."""
    try:
        return _read_metadata(body, present)
    except FieldError as error:
        # The registration endpoint's own error: RFC 7591 section 3.2.2.
        refused = Refused("invalid_client_metadata")
        [refused.description] = error.causes
        raise refused from None


def _read_metadata(body: Mapping[str, Any], present: App | None) -> App:
    name = body.get("client_name")
    if not isinstance(name, str) or not name.strip():
        raise FieldError("client_name", "`client_name`: The field can't be left blank.")
    if present is not None:
        for member in ("client_secret_expires_at", "client_id_issued_at"):
            if member in body:
                raise FieldError(member, f"`{member}`: The field can't be set.")
        for member in ("application_type", "grant_types", "redirect_uris", "response_types"):
            if member not in body:
                raise FieldError(member, f"`{member}`: The field can't be left blank.")
        if body.get("client_id", present.client_id) != present.client_id:
            raise FieldError("client_id", "`client_id`: The field is immutable.")
    elif body.get("client_id") is not None or body.get("client_secret") is not None:
        raise FieldError("client_id", "`client_id`: The field can't be set.")
    client_id = new_id("0oa") if present is None else present.client_id
    method = body.get("token_endpoint_auth_method", "client_secret_basic")
    app = read_settings(client_id, body, method, present)
    app.label = name
    app.consent_method = "REQUIRED"
    return app


def _client_document(org: Org, app: App) -> dict[str, Any]:
    document: dict[str, Any] = {
        "client_id": app.client_id,
        "client_id_issued_at": int(org.records.find("app", app.id).created),
        "client_name": app.label,
        "client_uri": None,
        "logo_uri": None,
        "redirect_uris": [],
        "response_types": app.response_types,
        "grant_types": app.grant_types,
        "token_endpoint_auth_method": app.token_endpoint_auth_method,
        "application_type": app.application_type,
    }
    if app.jwks_uri is not None:
        document["jwks_uri"] = app.jwks_uri
    elif app.jwks["keys"]:
        shown = ("kty", "kid", "alg", "e", "n", "crv", "x", "y")
        document["jwks"] = {
            "keys": [
                {**{name: jwk[name] for name in shown if name in jwk}, "use": jwk.get("use")}
                for jwk in app.jwks["keys"]
            ]
        }
    return document
