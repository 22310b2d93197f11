"""Service apps: create, find, change, delete, through the Apps API or through dynamic registration.

Invariant: creating an app again finds the existing one, and does not change it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from ..errors import ConfigurationError, OktaM2MError, quoted
from ..keys import thumbprint
from ._app_keys import AppKey, app_keys_from, public_jwk
from ._changes import change, path_segment, read_back, set_active, shown_id
from .errors import NameTaken, NotConfirmed, NotFound, PermissionMissing, ScopeMissing, response_details
from .management import ManagementApi, NotAsDescribed, described_as

Via = Literal["apps", "clients"]
"""The endpoint to use: ``"apps"`` is the Apps API (``/api/v1/apps``), ``"clients"`` dynamic registration
(``/oauth2/v1/clients``)."""

PAGE_SIZE: Final = "100"
"""Items per page: the query parameter ``limit`` of both endpoints."""

ALL_APPS: Final = {"filter": 'name eq "oidc_client"'}
"""Okta names every OAuth app so that was not installed from its catalog. Nothing says that ``q`` may be used with a filter."""


@dataclass(frozen=True, slots=True)
class App:
    """A service app, as Okta describes it.

    - ``id``: Okta's id for the app; the functions here take it as ``app_id``.
    - ``client_id``: the client id that a service signs in with. The same as ``id``, unless the app was created with a
      chosen client id.
    - ``name``: the label in the Admin Console.
    - ``status``: ``ACTIVE`` or ``INACTIVE``; ``None`` if the endpoint does not return it.
    - ``application_type``: ``service`` for a service app.
    - ``auth_method``: how it signs in to the token endpoint; ``private_key_jwt`` for an app with a key.
    - ``grant_types``: ``client_credentials`` for a service app.
    - ``keys``: the public signing keys that are registered with it.
    - ``jwks_uri``: the URL from which Okta fetches its keys instead; ``None`` if they are registered.
    - ``dpop``: whether it requires DPoP; ``None`` if the endpoint does not return it.
    - ``created``: when it was created (ISO 8601); ``None`` if the endpoint does not return it.
    """

    id: str
    client_id: str
    name: str
    status: str | None
    application_type: str
    auth_method: str
    grant_types: tuple[str, ...]
    keys: tuple[AppKey, ...]
    jwks_uri: str | None
    dpop: bool | None
    created: str | None = None

    @property
    def usable(self) -> bool:
        """Whether this is an app that gets tokens with its own key."""
        return (
            self.application_type == "service"
            and self.auth_method == "private_key_jwt"
            and "client_credentials" in self.grant_types
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting of the app that differs from the request.

    - ``setting``: ``dpop``, ``jwks_uri``, ``client_id`` or ``status``.
    - ``wanted``: the requested value.
    - ``found``: the app's value; ``None`` if it has none, or if the account may not see it.
    """

    setting: Literal["dpop", "jwks_uri", "client_id", "status"]
    wanted: str | bool
    found: str | bool | None


@dataclass(frozen=True, slots=True)
class Created:
    """The result of :func:`create_app`.

    - ``app``: the app, new or existing.
    - ``created``: whether it is new.
    - ``keys_missing``: the requested keys that are not active in the app, by ``kid`` or thumbprint.
    - ``differences``: the other settings of the app that differ from the request. An inactive app differs in its
      ``status``.
    """

    app: App
    created: bool
    keys_missing: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()


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
    """Creates a service app (``private_key_jwt``, ``client_credentials``), or finds the existing one with that name.

    - ``api``: the management API of the org.
    - ``name``: the label in the Admin Console.
    - ``jwks``: the public keys to register, as :meth:`okta_m2m.PrivateKey.jwks` returns them.
    - ``jwks_uri``: instead of ``jwks``, the ``https://`` URL from which Okta fetches the keys.
    - ``via``: ``"apps"``, the default, creates it through ``/api/v1/apps``; ``"clients"`` through dynamic registration at
      ``/oauth2/v1/clients``.
    - ``dpop``: whether the app requires DPoP. Default ``False``. Dynamic registration cannot set it, so it is set
      afterwards through ``/api/v1/apps``.
    - ``client_id``: a client id of your choice, only through ``"apps"``. By default Okta chooses it.
    - ``twin``: creates another app even if one has that name. Default ``False``.

    An existing app is not changed; the result shows which of its settings differ from the request.

    Raises :class:`~okta_m2m.admin.errors.NameTaken` if the app with that name is not a service app with a key, or if
    several apps have the name. It is also raised if another process created an app with that name at the same time: then
    both exist, and the error says how to go on.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for invalid arguments, before anything is sent.
    """
    keys = _keys_to_register(jwks, jwks_uri)
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError("The app has no name.", remedy="Give it a name that you will recognize.")
    if client_id is not None and via == "clients":
        raise ConfigurationError(
            "Dynamic registration chooses the client id itself.",
            remedy="Omit client_id (--client-id), or use the Apps API (via='apps', --via apps).",
        )
    existing = None if twin else _find_service_app(api, name, via)
    if existing is not None:
        app = _complete(api, existing)
    elif via == "apps":
        body = _app_body(name, keys, jwks_uri, dpop, client_id)
        app = _app(api.call("POST", "/api/v1/apps", body, query={"activate": "true"}))
    else:
        sign_in = {"client_name": name, "token_endpoint_auth_method": "private_key_jwt"}
        app = _client(api.call("POST", "/oauth2/v1/clients", {**sign_in, **_client_settings(keys, jwks_uri)}))
    if existing is None:
        if not twin:
            _check_no_twin(api, app, via)
        if via == "apps":
            app = get_app(api, app.id)  # as Okta has stored it
        elif dpop:
            app = _require_dpop(api, app)
    compared = (
        Difference("dpop", dpop, app.dpop),
        Difference("jwks_uri", jwks_uri or "", app.jwks_uri),
        Difference("client_id", client_id or "", app.client_id),
        Difference("status", "ACTIVE" if app.status else "", app.status),
    )
    differences = tuple(each for each in compared if each.wanted and each.wanted != each.found)
    return Created(app, existing is None, _missing_keys(app, keys), differences)


def _complete(api: ManagementApi, app: App) -> App:
    """The app with its status, and whether it requires DPoP, which dynamic registration does not return."""
    if app.dpop is None:
        with suppress(ScopeMissing, PermissionMissing, NotFound):
            return get_app(api, app.id)
    return app


def _require_dpop(api: ManagementApi, app: App) -> App:
    try:
        return set_dpop(api, app.id, True)
    except OktaM2MError as error:
        raise NotConfirmed(
            f"The app {quoted(app.name, 100)!r} was created ({app.id}), but it does not require DPoP yet. {error.problem}",
            remedy=f"{error.remedy or ''} Then run: okta-m2m app edit {app.id} --dpop".strip(),
            **response_details(error),
        ) from error


def _check_no_twin(api: ManagementApi, created: App, via: Via) -> None:
    """Raises if another process has created an app with the same name in the meantime."""
    others = [app.id for app in _apps_named(api, created.name, via) if app.id != created.id]
    if others:
        raise NameTaken(
            f"The app {quoted(created.name, 100)!r} was created ({created.id}), and another process created one with "
            f"that name at the same time ({', '.join(others[:10])}).",
            remedy=f"Keep one of them, and delete the other, for example with: okta-m2m app delete {created.id}. Then run "
            "this again, which finds the one that you kept.",
        )


def list_apps(api: ManagementApi) -> Iterator[App]:
    """The org's service apps. Each page is fetched when iteration reaches it.

    - ``api``: the management API of the org.
    """
    return (app for app in _apps(api, "apps", ALL_APPS) if app.application_type == "service")


def get_app(api: ManagementApi, id: str) -> App:
    """The app with an id.

    - ``api``: the management API of the org.
    - ``id``: :attr:`App.id`.

    Raises :class:`~okta_m2m.admin.errors.NotFound`.
    """
    return _app(api.call("GET", f"/api/v1/apps/{path_segment(id)}"))


def find_app(api: ManagementApi, name_or_id: str) -> App:
    """The app with a name, an id or a client id.

    - ``api``: the management API of the org.
    - ``name_or_id``: the exact name, including upper and lower case; or an id (``0oa...``); or a client id.

    Raises :class:`~okta_m2m.admin.errors.NotFound`, and :class:`~okta_m2m.admin.errors.NameTaken` if several apps have the
    name.
    """
    if name_or_id.startswith("0oa") and name_or_id.isalnum():
        with suppress(NotFound):
            return get_app(api, name_or_id)
    found = _only(name_or_id, _apps_named(api, name_or_id, "apps"))
    found = found or next((app for app in _apps(api, "apps", ALL_APPS) if app.client_id == name_or_id), None)
    if found is None:
        raise NotFound(
            f"There is no app {quoted(name_or_id, 100)!r} in {api.org_url} that the account may see.",
            remedy="Use the exact name, including upper and lower case. List the apps with: okta-m2m app list",
            status=404,
        )
    return found


def set_dpop(api: ManagementApi, app_id: str, required: bool) -> App:
    """Turns "Require Demonstrating Proof of Possession" on or off. Changes nothing if the app already has that setting.

    - ``api``: the management API of the org.
    - ``app_id``: :attr:`App.id`.
    - ``required``: whether the app requires DPoP from now on.
    """
    path = f"/api/v1/apps/{path_segment(app_id)}"
    document = api.call("GET", path)
    settings = document["settings"]["oauthClient"]
    if settings.get("dpop_bound_access_tokens", False) == required:
        return _app(document)
    settings["dpop_bound_access_tokens"] = required
    api.call("PUT", path, document)  # the Apps API replaces the whole app

    def look() -> App | None:
        app = get_app(api, app_id)
        return app if app.dpop is required else None

    return read_back(api, look, f"the app {shown_id(app_id)!r} {'requires' if required else 'does not require'} DPoP")


def activate_app(api: ManagementApi, app_id: str) -> None:
    """Lets an app get tokens again.

    - ``api``: the management API of the org.
    - ``app_id``: :attr:`App.id`.
    """
    _set_active(api, app_id, True)


def deactivate_app(api: ManagementApi, app_id: str) -> None:
    """Prevents an app from getting tokens until it is activated again.

    - ``api``: the management API of the org.
    - ``app_id``: :attr:`App.id`.
    """
    _set_active(api, app_id, False)


def delete_app(api: ManagementApi, app_id: str) -> None:
    """Deletes an app permanently. It is deactivated first, because Okta does not delete an active app (``E0000056``).

    - ``api``: the management API of the org.
    - ``app_id``: :attr:`App.id`.
    """
    deactivate_app(api, app_id)
    path = f"/api/v1/apps/{path_segment(app_id)}"

    def is_gone() -> bool:
        with suppress(NotFound):
            return not api.call("GET", path)
        return True

    change(api, "DELETE", path, is_gone, f"the app {shown_id(app_id)!r} is deleted")


def _set_active(api: ManagementApi, app_id: str, active: bool) -> None:
    status = "ACTIVE" if active else "INACTIVE"
    path = f"/api/v1/apps/{path_segment(app_id)}"
    set_active(api, path, active, lambda: get_app(api, app_id).status == status, f"the app {shown_id(app_id)!r}")


def _apps(api: ManagementApi, via: Via, query: Mapping[str, str]) -> Iterator[App]:
    """The apps that a query finds. One that is not described as an OAuth app, such as one for SAML, is skipped."""
    path, describe = ("/api/v1/apps", _app) if via == "apps" else ("/oauth2/v1/clients", _client)
    for item in api.pages(path, {"limit": PAGE_SIZE, **query}):
        with suppress(NotAsDescribed):
            yield describe(item)


def _apps_named(api: ManagementApi, name: str, via: Via) -> list[App]:
    # The search also finds names that only begin with this one.
    return [app for app in _apps(api, via, {"q": name}) if app.name == name]


def _find_service_app(api: ManagementApi, name: str, via: Via) -> App | None:
    app = _only(name, _apps_named(api, name, via))
    if app is not None and not app.usable:
        raise NameTaken(
            f"The app {quoted(name, 100)!r} ({app.id}) already exists, and is not a service app that signs in with "
            f"a key (its type is {quoted(app.application_type, 40)}, its authentication "
            f"{quoted(app.auth_method, 40)}).",
            remedy="Choose another name, or create a second app with the same name (twin=True, --twin).",
        )
    return app


def _only(name: str, found: Sequence[App]) -> App | None:
    if len(found) > 1:
        raise NameTaken(
            f"{len(found)} apps have the name {quoted(name, 100)!r}: {', '.join(app.id for app in found[:10])}.",
            remedy="Use the id of the one that you mean.",
        )
    return found[0] if found else None


def _keys_to_register(jwks: Mapping[str, Any] | None, jwks_uri: str | None) -> list[dict[str, Any]]:
    if (jwks is None) == (jwks_uri is None):
        raise ConfigurationError(
            "A service app needs its public keys.", remedy="Pass either jwks (key.jwks()) or jwks_uri."
        )
    if jwks is None:
        if not str(jwks_uri).startswith("https://"):
            raise ConfigurationError(
                "The jwks_uri does not begin with https://.",
                remedy="Use an https:// URL from which Okta can fetch the keys.",
            )
        return []
    keys = [public_jwk(jwk) for jwk in jwks.get("keys", [jwks])]
    if not keys:
        raise ConfigurationError("The JWKS contains no key.", remedy="Use that of the service: okta-m2m key jwks")
    if len(keys) > 1 and not all(jwk.get("kid") for jwk in keys):
        raise ConfigurationError("With more than one key, each needs a different kid.", remedy="Give every key a kid.")
    return keys


def _missing_keys(app: App, keys: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    active = {key.thumbprint for key in app.keys if key.active}
    return tuple(str(jwk.get("kid") or thumbprint(jwk)) for jwk in keys if thumbprint(jwk) not in active)


def _client_settings(keys: Sequence[Mapping[str, Any]], jwks_uri: str | None) -> dict[str, Any]:
    """The settings that both endpoints spell in the same way."""
    return {
        "application_type": "service",
        "grant_types": ["client_credentials"],
        "response_types": ["token"],
        **({"jwks": {"keys": list(keys)}} if jwks_uri is None else {"jwks_uri": jwks_uri}),
    }


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
                "consent_method": "TRUSTED",
                "dpop_bound_access_tokens": dpop,
                **_client_settings(keys, jwks_uri),
            }
        },
    }


def _app(document: Any) -> App:
    """An app as the Apps API describes it."""
    with described_as("app"):
        client, sign_in = document["settings"]["oauthClient"], document["credentials"]["oauthClient"]
        dpop = bool(client.get("dpop_bound_access_tokens", False))
        about = {**client, **sign_in, "client_name": document["label"], "id": document["id"]}
        return _described_app(about, document["status"], dpop, document.get("created"))


def _client(document: Any) -> App:
    """An app as dynamic registration describes it, without its status and whether it requires DPoP."""
    with described_as("client"):
        issued = document.get("client_id_issued_at")
        created = None if issued is None else datetime.fromtimestamp(issued, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return _described_app({**document, "id": document["client_id"]}, None, None, created)


def _described_app(about: Mapping[str, Any], status: str | None, dpop: bool | None, created: str | None) -> App:
    """An app from what both endpoints say in the same words."""
    return App(
        id=about["id"],
        client_id=about["client_id"],
        name=about["client_name"] or "",
        status=status,
        application_type=about.get("application_type") or "",
        auth_method=about.get("token_endpoint_auth_method") or "",
        grant_types=tuple(about.get("grant_types") or ()),
        keys=app_keys_from(about.get("jwks")),
        jwks_uri=about.get("jwks_uri"),
        dpop=dpop,
        created=created,
    )
