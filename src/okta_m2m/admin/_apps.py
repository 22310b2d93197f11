"""Service apps: create, find, change, delete, through the Apps API or through dynamic registration.

Invariant: creating an app twice makes one app, and an existing app is not changed by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from ..errors import ConfigurationError, quoted
from ..keys import thumbprint
from ._answers import not_as_described
from ._app_keys import AppKey, app_keys_from, public_jwk
from ._ids import path_segment
from .errors import NameTaken, NotFound
from .management import ManagementApi

__all__ = [
    "App",
    "Created",
    "Via",
    "activate_app",
    "create_app",
    "deactivate_app",
    "delete_app",
    "find_app",
    "get_app",
    "list_apps",
    "set_dpop",
]

Via = Literal["apps", "clients"]
"""The endpoint to use: ``"apps"`` is the Apps API (``/api/v1/apps``), ``"clients"`` dynamic registration
(``/oauth2/v1/clients``)."""

PAGE_SIZE: Final = "100"
"""Items per page, as the query parameter ``limit`` of either endpoint."""


@dataclass(frozen=True, slots=True)
class App:
    """A service app, as Okta describes it.

    - ``id``: Okta's id for the app; the functions here take it as ``app_id``.
    - ``client_id``: what a service signs in with. The same as ``id``, unless the app was created with a client id of choice.
    - ``name``: the label in the Admin Console.
    - ``status``: ``ACTIVE`` or ``INACTIVE``.
    - ``application_type``: ``service`` for a service app.
    - ``auth_method``: how it signs in to the token endpoint; ``private_key_jwt`` for one with a key.
    - ``grant_types``: ``client_credentials`` for a service app.
    - ``keys``: the public signing keys that are registered with it.
    - ``jwks_uri``: the URL from which Okta fetches its keys instead; ``None`` if they are registered.
    - ``dpop``: whether it requires DPoP; ``None`` if the endpoint that it was read from does not tell.
    """

    id: str
    client_id: str
    name: str
    status: str
    application_type: str
    auth_method: str
    grant_types: tuple[str, ...]
    keys: tuple[AppKey, ...]
    jwks_uri: str | None
    dpop: bool | None

    @property
    def usable(self) -> bool:
        """Whether it is an app that gets tokens with a key of its own."""
        return (
            self.application_type == "service"
            and self.auth_method == "private_key_jwt"
            and "client_credentials" in self.grant_types
        )


@dataclass(frozen=True, slots=True)
class Created:
    """What :func:`create_app` did.

    - ``app``: the app, new or existing.
    - ``created``: whether it is new.
    - ``keys_missing``: those of the given keys that an existing app does not have active, by ``kid`` or thumbprint.
    """

    app: App
    created: bool
    keys_missing: tuple[str, ...] = ()


def create_app(
    api: ManagementApi,
    name: str,
    *,
    jwks: Mapping[str, Any] | None = None,
    jwks_uri: str | None = None,
    via: Via = "apps",
    dpop: bool = False,
    client_id: str | None = None,
    twin: bool = False,
) -> Created:
    """Creates a service app (``private_key_jwt``, ``client_credentials``), or finds the one of that name.

    - ``api``: the org, signed in to.
    - ``name``: the label in the Admin Console.
    - ``jwks``: the public keys to register, as :meth:`okta_m2m.PrivateKey.jwks` gives them.
    - ``jwks_uri``: in place of ``jwks``, the ``https://`` URL from which Okta fetches the keys.
    - ``via``: ``"apps"``, the default, creates it through ``/api/v1/apps``; ``"clients"`` through dynamic registration at
      ``/oauth2/v1/clients``.
    - ``dpop``: whether the app requires DPoP. Default false. Registration cannot say so; there it is set afterwards
      through ``/api/v1/apps``.
    - ``client_id``: a client id of your choice, only through ``"apps"``. By default Okta chooses it.
    - ``twin``: creates another app even if one has that name. Default false.

    An existing app is not changed. Raises :class:`~okta_m2m.admin.errors.NameTaken` if it is not a service app with a key,
    or if several have the name, and :class:`~okta_m2m.errors.ConfigurationError` for arguments that cannot work, before
    anything is sent.
    """
    keys = _keys_to_register(jwks, jwks_uri)
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError("The app has no name.", remedy="Give it one by which you will recognize it.")
    if client_id is not None and via == "clients":
        raise ConfigurationError(
            "Dynamic registration chooses the client id itself.", remedy="Omit client_id, or use via='apps'."
        )
    if not twin:
        existing = _find_service_app(api, name, via)
        if existing is not None:
            return Created(existing, False, _missing_keys(existing, keys))
    if via == "apps":
        body = _app_body(name, keys, jwks_uri, dpop, client_id)
        app = _app(api.call("POST", "/api/v1/apps", body, query={"activate": "true"}))
    else:
        app = _client(api.call("POST", "/oauth2/v1/clients", _registration_body(name, keys, jwks_uri)))
        if dpop:
            app = set_dpop(api, app.id, True)
    return Created(app, True)


def list_apps(api: ManagementApi, *, via: Via = "apps", every: bool = False) -> Iterator[App]:
    """The org's service apps. Each page is fetched when it is reached.

    - ``api``: the org, signed in to.
    - ``via``: ``"apps"``, the default, or ``"clients"``; see :func:`create_app`.
    - ``every``: includes the org's other OAuth apps. Default false.
    """
    for app in _all_apps(api, via, {}):
        if every or app.application_type == "service":
            yield app


def get_app(api: ManagementApi, id: str, *, via: Via = "apps") -> App:
    """The app with an id.

    - ``api``: the org, signed in to.
    - ``id``: :attr:`App.id`; through ``"clients"``, :attr:`App.client_id`.
    - ``via``: ``"apps"``, the default, or ``"clients"``; see :func:`create_app`.

    Raises :class:`~okta_m2m.admin.errors.NotFound`.
    """
    if via == "clients":
        return _client(api.call("GET", f"/oauth2/v1/clients/{path_segment(id)}"))
    return _app(api.call("GET", f"/api/v1/apps/{path_segment(id)}"))


def find_app(api: ManagementApi, name_or_id: str, *, via: Via = "apps") -> App:
    """The app with a name, an id or a client id.

    - ``api``: the org, signed in to.
    - ``name_or_id``: the whole name, in its own upper and lower case; or an id (``0oa...``); or a client id.
    - ``via``: ``"apps"``, the default, or ``"clients"``; see :func:`create_app`.

    Raises :class:`~okta_m2m.admin.errors.NotFound`, and :class:`~okta_m2m.admin.errors.NameTaken` if several apps have the
    name.
    """
    if name_or_id.startswith("0oa") and name_or_id.isalnum():
        try:
            return get_app(api, name_or_id, via=via)
        except NotFound:
            pass
    found = [app for app in _all_apps(api, via, {"q": name_or_id}) if app.name == name_or_id]
    if not found:
        found = [app for app in _all_apps(api, via, {}) if app.client_id == name_or_id]
    if len(found) > 1:
        raise _several(name_or_id, found)
    if not found:
        raise NotFound(
            f"There is no app {quoted(name_or_id, 100)!r} in {api.org_url} that the account may see.",
            remedy="Give the exact name, with its upper and lower case. List the apps with: okta-m2m app list",
            status=404,
        )
    return found[0]


def set_dpop(api: ManagementApi, app_id: str, required: bool) -> App:
    """Switches "Require Demonstrating Proof of Possession" on or off. Nothing is sent if it already is so.

    - ``api``: the org, signed in to.
    - ``app_id``: :attr:`App.id`.
    - ``required``: whether the app requires DPoP from now on.
    """
    path = f"/api/v1/apps/{path_segment(app_id)}"
    document = api.call("GET", path)
    settings = document["settings"]["oauthClient"]
    if settings.get("dpop_bound_access_tokens", False) == required:
        return _app(document)
    settings["dpop_bound_access_tokens"] = required
    return _app(api.call("PUT", path, document))  # the Apps API takes only a whole app


def activate_app(api: ManagementApi, app_id: str) -> None:
    """Lets an app get tokens again.

    - ``api``: the org, signed in to.
    - ``app_id``: :attr:`App.id`.
    """
    api.call("POST", f"/api/v1/apps/{path_segment(app_id)}/lifecycle/activate")


def deactivate_app(api: ManagementApi, app_id: str) -> None:
    """Keeps an app from getting tokens, until it is activated again.

    - ``api``: the org, signed in to.
    - ``app_id``: :attr:`App.id`.
    """
    api.call("POST", f"/api/v1/apps/{path_segment(app_id)}/lifecycle/deactivate")


def delete_app(api: ManagementApi, app_id: str) -> None:
    """Deletes an app for good. It is deactivated first, because Okta deletes no active app (``E0000056``).

    - ``api``: the org, signed in to.
    - ``app_id``: :attr:`App.id`.
    """
    deactivate_app(api, app_id)
    api.call("DELETE", f"/api/v1/apps/{path_segment(app_id)}")


def _all_apps(api: ManagementApi, via: Via, query: Mapping[str, str]) -> Iterator[App]:
    if via == "clients":
        for item in api.pages("/oauth2/v1/clients", {"limit": PAGE_SIZE, **query}):
            yield _client(item)
        return
    for item in api.pages("/api/v1/apps", {"limit": PAGE_SIZE, **query}):
        if item.get("signOnMode") == "OPENID_CONNECT":
            yield _app(item)


def _find_service_app(api: ManagementApi, name: str, via: Via) -> App | None:
    found = [app for app in _all_apps(api, via, {"q": name}) if app.name == name]
    if len(found) > 1:
        raise _several(name, found)
    if found and not found[0].usable:
        app = found[0]
        raise NameTaken(
            f"The app {quoted(name, 100)!r} ({app.id}) already exists, and is not a service app that signs in with "
            f"a key (its type is {quoted(app.application_type, 40)}, its authentication "
            f"{quoted(app.auth_method, 40)}).",
            remedy="Choose another name, or ask for a second app of the same name (twin=True, --twin).",
        )
    return found[0] if found else None


def _several(name: str, found: Sequence[App]) -> NameTaken:
    return NameTaken(
        f"{len(found)} apps have the name {quoted(name, 100)!r}: {', '.join(app.id for app in found[:10])}.",
        remedy="Give the id of the one that you mean.",
    )


def _keys_to_register(jwks: Mapping[str, Any] | None, jwks_uri: str | None) -> list[dict[str, Any]]:
    if (jwks is None) == (jwks_uri is None):
        raise ConfigurationError(
            "A service app needs its public keys.", remedy="Give either jwks (key.jwks()) or jwks_uri."
        )
    if jwks is None:
        if not str(jwks_uri).startswith("https://"):
            raise ConfigurationError(
                "The jwks_uri does not begin with https://.", remedy="Give the URL from which Okta fetches the keys."
            )
        return []
    keys = [public_jwk(jwk) for jwk in jwks.get("keys", [jwks])]
    if not keys:
        raise ConfigurationError("The JWKS holds no key.", remedy="Give the one of the service's key: key.jwks().")
    if len(keys) > 1 and not all(jwk.get("kid") for jwk in keys):
        raise ConfigurationError("With more than one key, each needs a kid of its own.", remedy="Give every key a kid.")
    return keys


def _missing_keys(app: App, keys: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    active = {key.thumbprint for key in app.keys if key.active}
    return tuple(str(jwk.get("kid") or thumbprint(jwk)) for jwk in keys if thumbprint(jwk) not in active)


def _registered_keys(keys: Sequence[Mapping[str, Any]], jwks_uri: str | None) -> dict[str, Any]:
    return {"jwks": {"keys": list(keys)}} if jwks_uri is None else {"jwks_uri": jwks_uri}


def _app_body(
    name: str, keys: Sequence[Mapping[str, Any]], jwks_uri: str | None, dpop: bool, client_id: str | None
) -> dict[str, Any]:
    credentials = {"token_endpoint_auth_method": "private_key_jwt", "autoKeyRotation": True}
    return {
        "name": "oidc_client",
        "label": name,
        "signOnMode": "OPENID_CONNECT",
        "credentials": {"oauthClient": credentials if client_id is None else {**credentials, "client_id": client_id}},
        "settings": {
            "oauthClient": {
                "application_type": "service",
                "grant_types": ["client_credentials"],
                "response_types": ["token"],
                "consent_method": "TRUSTED",
                "dpop_bound_access_tokens": dpop,
                **_registered_keys(keys, jwks_uri),
            }
        },
    }


def _registration_body(name: str, keys: Sequence[Mapping[str, Any]], jwks_uri: str | None) -> dict[str, Any]:
    return {
        "client_name": name,
        "application_type": "service",
        "grant_types": ["client_credentials"],
        "response_types": ["token"],
        "token_endpoint_auth_method": "private_key_jwt",
        **_registered_keys(keys, jwks_uri),
    }


def _app(document: Any) -> App:
    """An app as the Apps API describes it."""
    try:
        settings = document["settings"]["oauthClient"]
        credentials = document["credentials"]["oauthClient"]
        return App(
            id=document["id"],
            client_id=credentials["client_id"],
            name=document["label"],
            status=document["status"],
            application_type=settings.get("application_type") or "",
            auth_method=credentials.get("token_endpoint_auth_method") or "",
            grant_types=tuple(settings.get("grant_types") or ()),
            keys=app_keys_from(settings.get("jwks")),
            jwks_uri=settings.get("jwks_uri"),
            dpop=bool(settings.get("dpop_bound_access_tokens", False)),
        )
    except (KeyError, TypeError, AttributeError):
        raise not_as_described("app") from None


def _client(document: Any) -> App:
    """An app as dynamic registration describes it, which tells neither its status nor whether it requires DPoP."""
    try:
        return App(
            id=document["client_id"],
            client_id=document["client_id"],
            name=document["client_name"],
            status="ACTIVE",
            application_type=document.get("application_type") or "",
            auth_method=document.get("token_endpoint_auth_method") or "",
            grant_types=tuple(document.get("grant_types") or ()),
            keys=app_keys_from(document.get("jwks")),
            jwks_uri=document.get("jwks_uri"),
            dpop=None,
        )
    except (KeyError, TypeError, AttributeError):
        raise not_as_described("client") from None
