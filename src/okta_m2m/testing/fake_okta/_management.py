"""What administers the org: ``/api/v1/apps`` with keys and grants, ``/oauth2/v1/clients`` with roles.

Invariant: statuses, shapes and the words of a refusal are those of Okta's published OpenAPI documents and of traffic
recorded at Okta; what was made here is an :class:`~okta_m2m.testing.App` of the org like any other, in use at once.
Where Okta's words for a refusal are not published, the field is named and the words are ours.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote, unquote, urlencode

from ._http_server import Answer, ReceivedRequest
from ._jws import thumbprint
from ._org import App, Org
from ._refusals import ApiRefused, Refused
from ._resources import Caller, permitted
from ._token_endpoint import json_answer

__all__ = ["apps", "clients"]

T = TypeVar("T")

_MOST_KEYS = 50
_MIN_RSA_BITS = 2048
_PAGE = 20
_LARGEST_PAGE = 200
#: Standard roles; all others are custom ones. The names are those of the Admin Console.
_ROLES = {
    "ACCESS_CERTIFICATIONS_ADMIN": "Access Certifications Administrator",
    "ACCESS_REQUESTS_ADMIN": "Access Requests Administrator",
    "API_ACCESS_MANAGEMENT_ADMIN": "API Access Management Administrator",
    "APP_ADMIN": "Application Administrator",
    "GROUP_MEMBERSHIP_ADMIN": "Group Membership Administrator",
    "HELP_DESK_ADMIN": "Help Desk Administrator",
    "ORG_ADMIN": "Organization Administrator",
    "READ_ONLY_ADMIN": "Read Only Administrator",
    "REPORT_ADMIN": "Report Administrator",
    "SUPER_ADMIN": "Super Administrator",
    "USER_ADMIN": "Group Administrator",
    "WORKFLOWS_ADMIN": "Workflows Administrator",
}
#: Those that the resource-set machinery answers for, though their names are standard.
_IAM_ROLES = {"ACCESS_CERTIFICATIONS_ADMIN", "ACCESS_REQUESTS_ADMIN", "WORKFLOWS_ADMIN"}
_CUSTOM = "CUSTOM/"
_MAY_MANAGE_APPS = {"SUPER_ADMIN", "APP_ADMIN", "API_ACCESS_MANAGEMENT_ADMIN"}
_AUTH_METHODS = {"private_key_jwt", "client_secret_basic", "client_secret_post", "client_secret_jwt", "none"}
_APPLICATION_TYPES = {"browser", "native", "service", "web"}
_PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
_CURVES = {"P-256", "P-384", "P-521"}
_CLIENT_ID = re.compile(r"[A-Za-z0-9$\-_.+!*'(),]{6,100}")
_NAME_FILTER = re.compile(r'\s*(id|status|name)\s+eq\s+"([^"]*)"\s*')

_UNIQUE_KIDS = "All keys in the 'jwks' must have a unique `kid`."
_KIDS_WITH_SEVERAL = (
    "Each key should have a unique kid when adding multiple keys. Use the Apps API to update the JWKS to add a kid for the "
    "existing key, or delete the existing key and re-add the key with a kid using the JWKS APIs."
)
_RSA_TOO_SHORT = "RSA key length in the 'jwks' is less than '2,048' bits for the given key."
_TOO_MANY_KEYS = (
    "You can't create a new key. You have reached the maximum number of keys allowed (50). To add another key, you must "
    "first delete an existing one."
)
_DELETE_ACTIVE = "You can't delete an active JSON Web Key. Deactivate the key before deleting it."
_ONLY_ACTIVE = (
    "Can't deactivate the only active JSON Web Key when the value for `token_endpoint_auth_method` is "
    "`private_key_jwt`."
)
_SECRET_WITH_KEY = "'client_secret' can't be used when 'token_endpoint_auth_method' is 'private_key_jwt'."
_NO_KEYS = "'jwks' or 'jwks_uri' is needed when 'token_endpoint_auth_method' is 'private_key_jwt'."


class _Fault(Exception):
    """What is wrong with a field; each of the two registration endpoints has a shape of its own for it."""

    def __init__(self, field: str, cause: str) -> None:
        super().__init__(field, cause)
        self.field = field
        self.cause = cause


def apps(org: Org, request: ReceivedRequest) -> Answer:
    """``/api/v1/apps`` and below."""
    return _routed(org, request, _APPS)


def clients(org: Org, request: ReceivedRequest) -> Answer:
    """``/oauth2/v1/clients`` and below."""
    return _routed(org, request, _CLIENTS)


_Handler = Callable[[Org, ReceivedRequest, Caller, Sequence[str]], Answer]
_Route = tuple[re.Pattern[str], dict[str, tuple[tuple[str, ...], _Handler]]]


def _routed(org: Org, request: ReceivedRequest, routes: Sequence[_Route]) -> Answer:
    method = "GET" if request.method == "HEAD" else request.method
    for pattern, methods in routes:
        found = pattern.fullmatch(request.path)
        if found is None:
            continue
        scopes, handler = methods.get(method, next(iter(methods.values())))
        caller = permitted(org, request, *scopes)
        if method not in methods:
            raise ApiRefused("E0000022")
        with org.changing:
            answer = handler(org, request, caller, [unquote(part) for part in found.groups()])
        answer.headers += caller.headers
        return answer
    permitted(org, request, *next(iter(routes[0][1].values()))[0])
    raise _not_found(unquote(request.path), "Resource")


# ── apps ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _create_app(org: Org, request: ReceivedRequest, caller: Caller, _: Sequence[str]) -> Answer:
    _may_manage_apps(caller)
    body = _body(request)
    activate = parse_qs(request.query).get("activate", ["true"])[0]
    if activate not in ("true", "false"):
        raise _invalid("activate", "activate: The value must be true or false")
    app = _reporting(lambda: _app_from(org, body, None))
    app.status = "ACTIVE" if activate == "true" else "INACTIVE"
    app.change_follows(org.settling, created=True)
    org.apps[app.client_id] = app
    return json_answer(200, _app_document(org, app))


def _list_apps(org: Org, request: ReceivedRequest, caller: Caller, _: Sequence[str]) -> Answer:
    query = parse_qs(request.query)
    found: list[App] = list(org.apps.values())
    if "q" in query:
        start = query["q"][0].lower()
        found = [app for app in found if app.label.lower().startswith(start) or "oidc_client".startswith(start)]
    if "filter" in query:
        asked = _NAME_FILTER.fullmatch(query["filter"][0])
        if asked is None:
            raise _invalid("filter", "Invalid search criteria.")
        name, value = asked.groups()
        found = [
            app for app in found if {"id": app.id, "status": app.status, "name": "oidc_client"}[str(name)] == value
        ]
    return _page(org, request, found, lambda app: app.id, lambda app: _app_document(org, app))


def _get_app(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    return json_answer(200, _app_document(org, _app(org, ids[0])))


def _put_app(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    _may_manage_apps(caller)
    app = _app(org, ids[0])
    body = _body(request)
    changed = _reporting(lambda: _app_from(org, body, app))
    if _public_members(changed.jwks["keys"]) != _public_members(app.jwks["keys"]) or changed.jwks_uri != app.jwks_uri:
        _may_change_keys(app, caller)
    _take_over(org, app, changed)
    return json_answer(200, _app_document(org, app))


def _delete_app(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    _may_manage_apps(caller)
    app = _app(org, ids[0])
    if app.status == "ACTIVE":
        raise ApiRefused("E0000056")
    del org.apps[app.client_id]
    return Answer(204)


def _app_lifecycle(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    _may_manage_apps(caller)
    app = _app(org, ids[0])
    app.status = "ACTIVE" if ids[1] == "activate" else "INACTIVE"
    _touched(org, app.id)
    return json_answer(200, {})


def _app_from(org: Org, body: Mapping[str, Any], present: App | None) -> App:
    """An app of the Apps API's object; ``present`` is the one that it is to replace."""
    label = _text(body, "label")
    if _text(body, "name") != "oidc_client":
        raise _Fault("name", "name: The field must be oidc_client, the only kind of app that there is here")
    if _text(body, "signOnMode") != "OPENID_CONNECT":
        raise _Fault("signOnMode", "signOnMode: The field must be OPENID_CONNECT")
    credentials = _mapping(_mapping(body, "credentials"), "oauthClient")
    settings = _mapping(_mapping(body, "settings"), "oauthClient")
    id = org.new_id("0oa")
    client_id = present.client_id if present is not None else credentials.get("client_id") or id
    if not isinstance(client_id, str) or not _CLIENT_ID.fullmatch(client_id) or client_id == "ALL_CLIENTS":
        raise _Fault("client_id", "client_id: The field is not well-formed")
    if present is None and client_id in org.apps:
        raise _Fault("client_id", "client_id: An object with this field already exists in the current organization")
    if present is not None and credentials.get("client_id", client_id) != client_id:
        raise _Fault("client_id", "client_id: The field is immutable")
    method = credentials.get("token_endpoint_auth_method", "client_secret_basic")
    if method == "private_key_jwt" and credentials.get("client_secret"):
        raise _Fault("client_secret", _SECRET_WITH_KEY)
    app = _configured(App(client_id, {"keys": []}, []), settings, method, present)
    app.id = id
    app.label = label
    app.dpop_bound = _flag(settings, "dpop_bound_access_tokens", False)
    app.consent_method = str(settings.get("consent_method", "TRUSTED"))
    return app


def _app_document(org: Org, app: App) -> dict[str, Any]:
    url = f"{org.url}/api/v1/apps/{quote(app.id)}"
    created, updated = _times(org, app.id)
    turn = "deactivate" if app.status == "ACTIVE" else "activate"
    client: dict[str, Any] = {
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
        client["jwks_uri"] = app.jwks_uri
    elif app.jwks["keys"]:
        client["jwks"] = {"keys": [_key_document(org, app, jwk, links=False) for jwk in _keys(org, app)]}
    return {
        "id": app.id,
        "name": "oidc_client",
        "label": app.label,
        "status": app.status,
        "lastUpdated": updated,
        "created": created,
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
            "oauthClient": client,
        },
        "_links": {
            turn: {"href": f"{url}/lifecycle/{turn}"},
            "users": {"href": f"{url}/users"},
            "groups": {"href": f"{url}/groups"},
        },
    }


# ── clients: dynamic client registration ─────────────────────────────────────────────────────────────────────────────


def _create_client(org: Org, request: ReceivedRequest, caller: Caller, _: Sequence[str]) -> Answer:
    _may_manage_apps(caller)
    body = _body(request)
    app = _in_metadata_words(lambda: _client_from(org, body, None))
    app.change_follows(org.settling, created=True)
    org.apps[app.client_id] = app
    return json_answer(201, _client_document(org, app))


def _list_clients(org: Org, request: ReceivedRequest, caller: Caller, _: Sequence[str]) -> Answer:
    start = parse_qs(request.query).get("q", [""])[0].lower()
    found = [app for app in org.apps.values() if app.label.lower().startswith(start)]
    return _page(org, request, found, lambda app: app.client_id, lambda app: _client_document(org, app))


def _get_client(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    return json_answer(200, _client_document(org, _client(org, ids[0])))


def _put_client(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    _may_manage_apps(caller)
    app = _client(org, ids[0])
    body = _body(request)
    changed = _in_metadata_words(lambda: _client_from(org, body, app))
    if _public_members(changed.jwks["keys"]) != _public_members(app.jwks["keys"]) or changed.jwks_uri != app.jwks_uri:
        _may_change_keys(app, caller)
    changed.dpop_bound, changed.consent_method = app.dpop_bound, app.consent_method
    _take_over(org, app, changed)
    return json_answer(200, _client_document(org, app))


def _delete_client(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    _may_manage_apps(caller)
    del org.apps[_client(org, ids[0]).client_id]
    return Answer(204)


def _client_from(org: Org, body: Mapping[str, Any], present: App | None) -> App:
    name = body.get("client_name")
    if not isinstance(name, str) or not name.strip():
        raise _Fault("client_name", "`client_name`: The field can't be left blank.")
    if present is not None:
        for member in ("client_secret_expires_at", "client_id_issued_at"):
            if member in body:
                raise _Fault(member, f"`{member}`: The field can't be set.")
        for member in ("application_type", "grant_types", "redirect_uris", "response_types"):
            if member not in body:
                raise _Fault(member, f"`{member}`: The field can't be left blank.")
        if body.get("client_id", present.client_id) != present.client_id:
            raise _Fault("client_id", "`client_id`: The field is immutable.")
    elif body.get("client_id") is not None or body.get("client_secret") is not None:
        raise _Fault("client_id", "`client_id`: The field can't be set.")
    client_id = org.new_id("0oa") if present is None else present.client_id
    method = body.get("token_endpoint_auth_method", "client_secret_basic")
    app = _configured(App(client_id, {"keys": []}, []), body, method, present)
    app.label = name
    app.consent_method = "REQUIRED"
    return app


def _client_document(org: Org, app: App) -> dict[str, Any]:
    _times(org, app.id)
    document: dict[str, Any] = {
        "client_id": app.client_id,
        "client_id_issued_at": int(org.ids["app", app.id][1]),
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


# ── what both registration endpoints check ───────────────────────────────────────────────────────────────────────────


def _configured(app: App, settings: Mapping[str, Any], method: object, present: App | None) -> App:
    app.roles = []
    app.application_type = str(settings.get("application_type") or "web")
    if app.application_type not in _APPLICATION_TYPES:
        raise _Fault("application_type", f"application_type: Invalid value {app.application_type!r}")
    if present is not None and app.application_type != present.application_type:
        raise _Fault("application_type", "application_type: The field is immutable")
    if method not in _AUTH_METHODS:
        raise _Fault("token_endpoint_auth_method", f"token_endpoint_auth_method: Invalid value {method!r}")
    app.token_endpoint_auth_method = str(method)
    app.grant_types = _texts(settings, "grant_types", ["authorization_code"])
    app.response_types = _texts(settings, "response_types", ["code"])
    if app.application_type == "service":
        if app.token_endpoint_auth_method == "none":
            raise _Fault(
                "token_endpoint_auth_method", "token_endpoint_auth_method: A service app is a confidential client"
            )
        if "authorization_code" in app.grant_types or "implicit" in app.grant_types:
            raise _Fault("grant_types", "grant_types: The grant type is not valid for the application type 'service'")
    if "client_credentials" in app.grant_types and "token" not in app.response_types:
        raise _Fault("response_types", "response_types: 'token' is needed with the grant type 'client_credentials'")
    jwks, jwks_uri = settings.get("jwks"), settings.get("jwks_uri")
    if jwks is not None and jwks_uri is not None:
        raise _Fault("jwks", "'jwks' and 'jwks_uri' can't both be given.")
    if jwks_uri is not None:
        if not isinstance(jwks_uri, str) or not re.match(r"https://|http://(?:127\.0\.0\.1|localhost)[:/]", jwks_uri):
            raise _Fault("jwks_uri", "jwks_uri: The field must be an https URL")
        app.jwks_uri = jwks_uri
    elif jwks is not None:
        keys = jwks.get("keys") if isinstance(jwks, Mapping) else None
        if not isinstance(keys, list):
            raise _Fault("jwks", "jwks: The field must have 'keys'")
        checked = [_checked_key(jwk) for jwk in keys]
        _check_set(checked, [])
        app.jwks = {"keys": checked}
    if app.token_endpoint_auth_method == "private_key_jwt" and app.jwks_uri is None and not app.active_keys():
        raise _Fault("jwks", _NO_KEYS)
    return app


def _checked_key(jwk: object) -> dict[str, Any]:
    if not isinstance(jwk, Mapping):
        raise _Fault("JsonWebKey", "The key must be a JSON object.")
    if _PRIVATE_MEMBERS & jwk.keys():
        raise _Fault("JsonWebKey", "The key must be a public key.")
    kid, status = jwk.get("kid"), jwk.get("status")
    if kid is not None and not isinstance(kid, str):
        raise _Fault("JsonWebKey", "kid: The field must be a string.")
    if status not in (None, "ACTIVE", "INACTIVE"):
        raise _Fault("JsonWebKey", "status: The field must be ACTIVE or INACTIVE.")
    if jwk.get("use") not in (None, "sig"):
        raise _Fault("JsonWebKey", "use: The field must be sig, the only use that there is here.")
    try:
        thumbprint(jwk)
    except ValueError:
        raise _Fault("JsonWebKey", "kty: The key must be an RSA or EC key with all members of its kind.") from None
    if jwk["kty"] == "EC" and jwk["crv"] not in _CURVES:
        raise _Fault("JsonWebKey", "crv: The curve must be P-256, P-384 or P-521.")
    if jwk["kty"] == "RSA" and _bits(jwk["n"]) < _MIN_RSA_BITS:
        raise _Fault("JsonWebKey", _RSA_TOO_SHORT)
    kept = ("kty", "kid", "alg", "use", "e", "n", "crv", "x", "y", "status", "id")
    return {name: jwk[name] for name in kept if jwk.get(name) is not None}


def _bits(number: str) -> int:
    try:
        return int.from_bytes(base64.urlsafe_b64decode(number + "=" * (-len(number) % 4))).bit_length()
    except ValueError:
        return 0


def _check_set(new: Sequence[Mapping[str, Any]], present: Sequence[Mapping[str, Any]]) -> None:
    """Whether ``new`` keys may stand beside those that are ``present``."""
    together = [*present, *new]
    if len(together) > _MOST_KEYS:
        raise _Fault("JsonWebKey", _TOO_MANY_KEYS)
    kids = [jwk.get("kid") for jwk in together]
    if len(together) > 1 and None in kids:
        raise _Fault("JsonWebKey", _KIDS_WITH_SEVERAL if present else _UNIQUE_KIDS)
    if len(set(kids)) < len(kids):
        raise _Fault("JsonWebKey", _UNIQUE_KIDS)


def _take_over(org: Org, app: App, changed: App) -> None:
    app.change_follows(org.settling)
    ids = {jwk.get("kid"): jwk["id"] for jwk in _keys(org, app)}
    keys = changed.jwks["keys"]
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
    _touched(org, app.id)


def _public_members(keys: Iterable[Mapping[str, Any]]) -> list[tuple[str, object, object]]:
    return sorted((thumbprint(jwk), str(jwk.get("kid")), jwk.get("status", "ACTIVE")) for jwk in keys)


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _list_keys(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    app = _app(org, ids[0])
    return json_answer(200, [_key_document(org, app, jwk) for jwk in _keys(org, app)])


def _add_key(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    _may_manage_apps(caller)
    app = _app(org, ids[0])
    _may_change_keys(app, caller)
    body = _body(request)
    present = _keys(org, app)

    def add() -> dict[str, Any]:
        jwk = _checked_key(body)
        _check_set([jwk], present)
        return jwk

    jwk = _reporting(add)
    jwk.pop("id", None)
    app.change_follows(org.settling)
    # With keys of its own, the app's are fetched from nowhere.
    app.jwks_uri = None
    app.jwks = {"keys": [*present, jwk]}
    return json_answer(201, _key_document(org, app, _keys(org, app)[-1]))


def _get_key(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    app = _app(org, ids[0])
    return json_answer(200, _key_document(org, app, _key(org, app, ids[1])))


def _delete_key(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    _may_manage_apps(caller)
    app = _app(org, ids[0])
    _may_change_keys(app, caller)
    jwk = _key(org, app, ids[1])
    if jwk["status"] == "ACTIVE":
        raise _invalid("JsonWebKey", _DELETE_ACTIVE)
    app.change_follows(org.settling)
    app.jwks = {"keys": [other for other in app.jwks["keys"] if other is not jwk]}
    return Answer(204)


def _key_lifecycle(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    _may_manage_apps(caller)
    app = _app(org, ids[0])
    _may_change_keys(app, caller)
    jwk = _key(org, app, ids[1])
    wanted = "ACTIVE" if ids[2] == "activate" else "INACTIVE"
    active = [other for other in _keys(org, app) if other["status"] == "ACTIVE"]
    if wanted == "INACTIVE" and active == [jwk] and app.token_endpoint_auth_method == "private_key_jwt":
        raise _invalid("JsonWebKey", _ONLY_ACTIVE)
    if jwk["status"] != wanted:
        app.change_follows(org.settling)
        jwk["status"] = wanted
        _touched(org, jwk["id"], "key")
    return json_answer(200, _key_document(org, app, jwk))


def _keys(org: Org, app: App) -> list[dict[str, Any]]:
    """The app's own list; keys that came by another way than this API get their id when they are first looked at."""
    for jwk in app.jwks["keys"]:
        jwk.setdefault("id", org.new_id("pks"))
        jwk.setdefault("status", "ACTIVE")
        _times(org, jwk["id"], "key")
    return app.jwks["keys"]


def _key(org: Org, app: App, id: str) -> dict[str, Any]:
    found = next((jwk for jwk in _keys(org, app) if jwk["id"] == id), None)
    if found is None:
        raise _not_found(id, "JsonWebKey")
    return found


def _key_document(org: Org, app: App, jwk: Mapping[str, Any], *, links: bool = True) -> dict[str, Any]:
    created, updated = _times(org, jwk["id"], "key")
    shown = ("id", "kid", "kty", "alg", "use", "e", "n", "crv", "x", "y", "status")
    document = {name: jwk[name] for name in shown if name in jwk}
    document |= {"use": jwk.get("use", "sig"), "kid": jwk.get("kid"), "created": created, "lastUpdated": updated}
    if not links:
        return document
    url = f"{org.url}/api/v1/apps/{quote(app.id)}/credentials/jwks/{jwk['id']}"
    if jwk["status"] == "ACTIVE":
        document["_links"] = {"deactivate": _link(f"{url}/lifecycle/deactivate", "POST")}
    else:
        document["_links"] = {"activate": _link(f"{url}/lifecycle/activate", "POST"), "delete": _link(url, "DELETE")}
    return document


# ── grants ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _list_grants(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    app = _app(org, ids[0])
    return json_answer(200, [_grant_document(org, app, scope) for scope in app.scopes])


def _add_grant(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    _super_admin(caller)
    app = _app(org, ids[0])
    body = _body(request)
    issuer, scope = body.get("issuer"), body.get("scopeId")
    if not isinstance(scope, str) or scope not in org.scopes:
        raise _invalid("scopeId", f"'{scope}' is not a valid scope")
    if issuer != org.url:
        raise _invalid("issuer", "'issuer' is invalid.")
    if scope not in app.scopes:
        app.change_follows(org.settling)
        app.scopes = [*app.scopes, scope]
        org.ids["grant", app.id, scope] = (org.new_id("oag"), org.now())
        org.ids["granted by", app.id, scope] = (f"{caller.kind} {caller.id}", org.now())
    return json_answer(201, _grant_document(org, app, scope))


def _get_grant(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    app = _app(org, ids[0])
    return json_answer(200, _grant_document(org, app, _granted(org, app, ids[1])))


def _delete_grant(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    _super_admin(caller)
    app = _app(org, ids[0])
    gone = _granted(org, app, ids[1])
    app.change_follows(org.settling)
    app.scopes = [scope for scope in app.scopes if scope != gone]
    del org.ids["grant", app.id, gone]
    return Answer(204)


def _granted(org: Org, app: App, id: str) -> str:
    found = next((scope for scope in app.scopes if _named(org, "oag", "grant", app.id, scope)[0] == id), None)
    if found is None:
        raise _not_found(id, "OAuth2ScopeConsentGrant")
    return found


def _grant_document(org: Org, app: App, scope: str) -> dict[str, Any]:
    id, created = _named(org, "oag", "grant", app.id, scope)
    kind, _, actor = org.ids.get(("granted by", app.id, scope), ("User 00u0000000000000000", 0.0))[0].partition(" ")
    url = f"{org.url}/api/v1/apps/{quote(app.id)}"
    return {
        "id": id,
        "status": "ACTIVE",
        "created": _timestamp(created),
        "createdBy": {"id": actor, "type": kind},
        "lastUpdated": _timestamp(created),
        "issuer": org.url,
        "clientId": app.client_id,
        "scopeId": scope,
        "source": "ADMIN",
        "_embedded": {"scope": {"id": scope}},
        "_links": {
            "app": {"href": url, "title": app.label},
            "self": _link(f"{url}/grants/{id}", "GET", "DELETE"),
            "client": {"href": f"{org.url}/oauth2/v1/clients/{quote(app.client_id)}", "title": app.label},
        },
    }


# ── roles ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _list_roles(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    app = _client(org, ids[0])
    return json_answer(200, [_role_document(org, app, role) for role in app.roles])


def _add_role(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    _super_admin(caller)
    app = _client(org, ids[0])
    body = _body(request)
    role = body.get("type")
    if role == "CUSTOM":
        for member, prefix in (("role", "cr0"), ("resource-set", "iam")):
            value = body.get(member)
            if not isinstance(value, str) or not value:
                raise _invalid(member, f"{member}: The field cannot be left blank")
            if not value.startswith(prefix):
                raise _not_found(value, "Role" if member == "role" else "ResourceSet")
        role = f"{_CUSTOM}{body['role']}/{body['resource-set']}"
    elif role not in _ROLES:
        raise _invalid("type", f"type: '{role}' is not a valid role type")
    if role in app.roles:
        raise ApiRefused("E0000090")
    app.change_follows(org.settling)
    app.roles = [*app.roles, str(role)]
    # The specification says 200; recorded is 201.
    return json_answer(201, _role_document(org, app, str(role)))


def _get_role(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    app = _client(org, ids[0])
    return json_answer(200, _role_document(org, app, _assigned(org, app, ids[1])))


def _delete_role(org: Org, request: ReceivedRequest, caller: Caller, ids: Sequence[str]) -> Answer:
    _super_admin(caller)
    app = _client(org, ids[0])
    gone = _assigned(org, app, ids[1])
    app.change_follows(org.settling)
    app.roles = [role for role in app.roles if role != gone]
    return Answer(204)


def _assigned(org: Org, app: App, id: str) -> str:
    found = next((role for role in app.roles if _role_document(org, app, role)["id"] == id), None)
    if found is None:
        raise _not_found(id, "RoleAssignment")
    return found


def _role_document(org: Org, app: App, role: str) -> dict[str, Any]:
    through_iam = role in _IAM_ROLES or role.startswith(_CUSTOM)
    id, created = _named(org, "irb" if through_iam else "JBC", "role", app.id, role)
    client = f"{org.url}/oauth2/v1/clients/{quote(app.client_id)}"
    document: dict[str, Any] = {
        "id": id if through_iam else id.upper(),
        "label": _ROLES.get(role, "Custom role"),
        "type": "CUSTOM" if role.startswith(_CUSTOM) else role,
        "status": "ACTIVE",
        "created": _timestamp(created),
        "lastUpdated": _timestamp(created),
        "assignmentType": "CLIENT",
    }
    if not through_iam:
        return {**document, "_links": {"assignee": {"href": client}}}
    role_id, resource_set = role, f"{role}_IAM_POLICY"
    if role.startswith(_CUSTOM):
        role_id, _, resource_set = role.removeprefix(_CUSTOM).partition("/")
    iam = f"{org.url}/api/v1/iam"
    links = {
        "assignee": {"href": client},
        "member": {"href": f"{iam}/resource-sets/{resource_set}/bindings/{role_id}/members/{id}"},
        "permissions": {"href": f"{iam}/roles/{role_id}/permissions"},
        "resource-set": {"href": f"{iam}/resource-sets/{resource_set}"},
        "role": {"href": f"{iam}/roles/{role_id}"},
    }
    return {**document, "resource-set": resource_set, "role": role_id, "_links": links}


# ── who may do what ──────────────────────────────────────────────────────────────────────────────────────────────────


def _may_manage_apps(caller: Caller) -> None:
    if not any(role in _MAY_MANAGE_APPS or role.startswith(_CUSTOM) for role in caller.roles):
        raise ApiRefused("E0000006")


def _may_change_keys(app: App, caller: Caller) -> None:
    """Guide "Implement OAuth for Okta with a service app": once scopes are granted, only a Super Admin rotates the keys."""
    if app.scopes:
        _super_admin(caller)


def _super_admin(caller: Caller) -> None:
    if not caller.is_super_admin:
        raise ApiRefused("E0000006")


# ── the rest ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _app(org: Org, id: str) -> App:
    found = org.app_by_id(id)
    if found is None:
        raise _not_found(id, "AppInstance")
    return found


def _client(org: Org, client_id: str) -> App:
    if client_id not in org.apps:
        raise _not_found(client_id, "PublicClientApp")
    return org.apps[client_id]


def _not_found(id: str, kind: str) -> ApiRefused:
    return ApiRefused("E0000007", f"Resource not found: {id} ({kind})")


def _invalid(field: str, cause: str) -> ApiRefused:
    return ApiRefused("E0000001", field, cause)


def _reporting(checked: Callable[[], T]) -> T:
    """A fault in the management API's shape: E0000001 with its cause."""
    try:
        return checked()
    except _Fault as fault:
        raise _invalid(fault.field, fault.cause) from None


def _in_metadata_words(checked: Callable[[], T]) -> T:
    """A fault in the registration endpoint's shape (RFC 7591 section 3.2.2)."""
    try:
        return checked()
    except _Fault as fault:
        refused = Refused("invalid_client_metadata")
        refused.description = fault.cause
        raise refused from None


def _body(request: ReceivedRequest) -> dict[str, Any]:
    if (request.header("content-type") or "").partition(";")[0].strip().lower() != "application/json":
        raise ApiRefused("E0000021")
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError):
        raise ApiRefused("E0000003") from None
    if not isinstance(body, dict):
        raise ApiRefused("E0000003")
    return body


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise _Fault(name, f"{name}: The field cannot be left blank")
    return value


def _mapping(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = body.get(name)
    if not isinstance(value, Mapping):
        raise _Fault(name, f"{name}: The field cannot be left blank")
    return value


def _texts(body: Mapping[str, Any], name: str, default: list[str]) -> list[str]:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _Fault(name, f"{name}: The field must be an array of strings")
    return list(value)


def _flag(body: Mapping[str, Any], name: str, default: bool) -> bool:
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise _Fault(name, f"{name}: The field must be true or false")
    return value


def _page(
    org: Org,
    request: ReceivedRequest,
    found: Sequence[T],
    id_of: Callable[[T], str],
    document: Callable[[T], dict[str, Any]],
) -> Answer:
    """One page with its ``Link`` headers; the cursor is opaque, and good as long as what it points to is there."""
    query = parse_qs(request.query)
    try:
        limit = int(query.get("limit", ["-1"])[0])
    except ValueError:
        limit = 0
    limit = _PAGE if limit == -1 else limit
    if not 1 <= limit <= _LARGEST_PAGE:
        raise _invalid("limit", f"limit: The field must be between 1 and {_LARGEST_PAGE}")
    after = query.get("after", [None])[0]
    begin = 0 if after is None else next((i + 1 for i, item in enumerate(found) if id_of(item) == after), len(found))
    shown = found[begin : begin + limit]
    answer = json_answer(200, [document(item) for item in shown])
    own = f"?{request.query}" if request.query else ""
    answer.headers.append(("link", f'<{org.url}{request.path}{own}>; rel="self"'))
    if begin + limit < len(found):
        kept = {name: values[0] for name, values in query.items() if name not in ("after", "limit")}
        following = urlencode({"after": id_of(shown[-1]), "limit": limit, **kept})
        answer.headers.append(("link", f'<{org.url}{request.path}?{following}>; rel="next"'))
    return answer


def _link(href: str, *methods: str) -> dict[str, Any]:
    return {"href": href, "hints": {"allow": list(methods)}}


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _named(org: Org, prefix: str, *what: str) -> tuple[str, float]:
    """Id and time of creation of something that has none itself; the same whenever it is asked for."""
    return org.ids.setdefault(what, (org.new_id(prefix), org.now()))


def _times(org: Org, id: str, kind: str = "app") -> tuple[str, str]:
    created = org.ids.setdefault((kind, id), ("", org.now()))[1]
    updated = org.ids.get(("updated", id), ("", created))[1]
    return _timestamp(created), _timestamp(updated)


def _touched(org: Org, id: str, kind: str = "app") -> None:
    _times(org, id, kind)
    org.ids["updated", id] = ("", org.now())


_READ_APPS = ("okta.apps.read", "okta.apps.manage")
_MANAGE_APPS = ("okta.apps.manage",)
_READ_GRANTS = ("okta.appGrants.read", "okta.appGrants.manage")
_MANAGE_GRANTS = ("okta.appGrants.manage",)
_READ_CLIENTS = ("okta.clients.read", "okta.clients.manage")
_MANAGE_CLIENTS = ("okta.clients.manage",)
_REGISTER = ("okta.clients.register", "okta.clients.manage")
_READ_ROLES = ("okta.roles.read", "okta.roles.manage")
_MANAGE_ROLES = ("okta.roles.manage",)

_ID = "([^/]+)"
_APP = f"/api/v1/apps/{_ID}"
_CLIENT = f"/oauth2/v1/clients/{_ID}"
_TURN = "(activate|deactivate)"

_APPS: list[_Route] = [
    (re.compile("/api/v1/apps"), {"GET": (_READ_APPS, _list_apps), "POST": (_MANAGE_APPS, _create_app)}),
    (
        re.compile(_APP),
        {"GET": (_READ_APPS, _get_app), "PUT": (_MANAGE_APPS, _put_app), "DELETE": (_MANAGE_APPS, _delete_app)},
    ),
    (re.compile(f"{_APP}/lifecycle/{_TURN}"), {"POST": (_MANAGE_APPS, _app_lifecycle)}),
    (
        re.compile(f"{_APP}/credentials/jwks"),
        {"GET": (_READ_APPS, _list_keys), "POST": (_MANAGE_APPS, _add_key)},
    ),
    (
        re.compile(f"{_APP}/credentials/jwks/{_ID}"),
        {"GET": (_READ_APPS, _get_key), "DELETE": (_MANAGE_APPS, _delete_key)},
    ),
    (re.compile(f"{_APP}/credentials/jwks/{_ID}/lifecycle/{_TURN}"), {"POST": (_MANAGE_APPS, _key_lifecycle)}),
    (re.compile(f"{_APP}/grants"), {"GET": (_READ_GRANTS, _list_grants), "POST": (_MANAGE_GRANTS, _add_grant)}),
    (
        re.compile(f"{_APP}/grants/{_ID}"),
        {"GET": (_READ_GRANTS, _get_grant), "DELETE": (_MANAGE_GRANTS, _delete_grant)},
    ),
]
_CLIENTS: list[_Route] = [
    (
        re.compile("/oauth2/v1/clients"),
        {"GET": (_READ_CLIENTS, _list_clients), "POST": (_REGISTER, _create_client)},
    ),
    (
        re.compile(_CLIENT),
        {
            "GET": (_READ_CLIENTS, _get_client),
            "PUT": (_MANAGE_CLIENTS, _put_client),
            "DELETE": (_MANAGE_CLIENTS, _delete_client),
        },
    ),
    (re.compile(f"{_CLIENT}/roles"), {"GET": (_READ_ROLES, _list_roles), "POST": (_MANAGE_ROLES, _add_role)}),
    (
        re.compile(f"{_CLIENT}/roles/{_ID}"),
        {"GET": (_READ_ROLES, _get_role), "DELETE": (_MANAGE_ROLES, _delete_role)},
    ),
]
