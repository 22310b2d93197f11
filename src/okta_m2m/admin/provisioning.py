"""From nothing to a working service app: create it, give it keys, scopes and roles; and undo each of these.

Every function takes a :class:`~okta_m2m.admin.management.ManagementApi`, which says which org and who signs in::

    with ManagementApi("https://acme.okta.com", ApiToken.from_env()) as api:
        made = create_app(api, "billing", jwks=key.jwks())
        grant_scopes(api, made.app.id, ["okta.users.read"])

Invariant: each may be run again. What is there already is left as it is and told apart from what was done; nothing is
made twice unasked.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ..errors import ConfigurationError, quoted
from ..keys import thumbprint
from .management import (
    ApiToken,
    InvalidRequest,
    ManagementApi,
    NotFound,
    NotSignedIn,
    OktaUnreachable,
    Pause,
    PermissionMissing,
    ProvisioningError,
    RateLimitTooLong,
    ScopeMissing,
    listed,
    public_id,
    segment,
)

__all__ = [
    "STANDARD_ROLES",
    "ApiToken",
    "App",
    "AppKey",
    "Created",
    "Grant",
    "GrantResult",
    "InvalidRequest",
    "ManagementApi",
    "NameTaken",
    "NotFound",
    "NotSignedIn",
    "OktaUnreachable",
    "Pause",
    "PermissionMissing",
    "ProvisioningError",
    "RateLimitTooLong",
    "Role",
    "RoleResult",
    "ScopeMissing",
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
    "get_app",
    "grant_scopes",
    "list_apps",
    "list_grants",
    "list_keys",
    "list_roles",
    "okta_yaml",
    "public_jwk",
    "revoke_scopes",
    "set_dpop",
    "unassign_role",
]

STANDARD_ROLES: Final = (
    "ACCESS_CERTIFICATIONS_ADMIN",
    "ACCESS_REQUESTS_ADMIN",
    "API_ACCESS_MANAGEMENT_ADMIN",
    "APP_ADMIN",
    "GROUP_MEMBERSHIP_ADMIN",
    "HELP_DESK_ADMIN",
    "ORG_ADMIN",
    "READ_ONLY_ADMIN",
    "REPORT_ADMIN",
    "SUPER_ADMIN",
    "USER_ADMIN",
    "WORKFLOWS_ADMIN",
)
"""Types of Okta's standard admin roles (management API, "Assign a client role")."""

Via = Literal["apps", "clients"]
_PAGE = "100"
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class NameTaken(ProvisioningError):
    """Several apps have that name, or one that is no service app with a key."""


@dataclass(frozen=True, slots=True)
class AppKey:
    """A public key that is registered with an app.

    - ``id``: Okta's own for it (``pks...``), by which it is changed; empty where the endpoint does not tell it.
    - ``kid``: what a client assertion names; ``None`` if it was registered without.
    - ``status``: ``ACTIVE`` or ``INACTIVE``.
    - ``thumbprint``: RFC 7638, SHA-256.
    """

    id: str
    kid: str | None
    status: str
    alg: str | None
    thumbprint: str
    created: str | None = None
    public_jwk: Mapping[str, str] = field(repr=False, default_factory=dict)

    @property
    def active(self) -> bool:
        return self.status == "ACTIVE"


@dataclass(frozen=True, slots=True)
class App:
    """A service app as Okta has it. ``id`` and ``client_id`` are the same unless the app was given a client id of choice."""

    id: str
    client_id: str
    name: str
    status: str
    application_type: str
    auth_method: str
    grant_types: tuple[str, ...]
    keys: tuple[AppKey, ...]
    jwks_uri: str | None
    #: ``None``: the endpoint that it was read from does not tell.
    dpop: bool | None

    @property
    def usable(self) -> bool:
        """Whether it is an app that gets tokens by a key of its own."""
        return (
            self.application_type == "service"
            and self.auth_method == "private_key_jwt"
            and "client_credentials" in self.grant_types
        )


@dataclass(frozen=True, slots=True)
class Created:
    """The app; whether it was made just now; and which of the given keys (``kid`` or thumbprint) it does not have."""

    app: App
    created: bool
    keys_missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """An ``okta.*`` scope that is granted to an app."""

    id: str
    scope: str
    status: str


@dataclass(frozen=True, slots=True)
class GrantResult:
    """What became of one scope: ``granted``, or ``present`` already; ``revoked``, or ``absent`` already."""

    scope: str
    outcome: Literal["granted", "present", "revoked", "absent"]


@dataclass(frozen=True, slots=True)
class Role:
    """An admin role that is assigned to an app. ``role`` and ``resource_set`` are ids, and only a custom role has them."""

    id: str
    type: str
    label: str
    status: str
    role: str | None = None
    resource_set: str | None = None


@dataclass(frozen=True, slots=True)
class RoleResult:
    """The assignment, and whether it was made just now."""

    role: Role
    assigned: bool


# ── apps ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


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
    """Creates a service app (``private_key_jwt``, ``client_credentials``), or shows the one of that name.

    - ``jwks``: public keys as :meth:`okta_m2m.PrivateKey.jwks` gives them; or ``jwks_uri``, from which Okta fetches them.
    - ``via``: ``"apps"`` for ``/api/v1/apps``, or ``"clients"`` for dynamic registration at ``/oauth2/v1/clients``.
    - ``dpop``: whether the app requires DPoP. Registration has no word for it, so there it is switched on afterwards,
      through ``/api/v1/apps``.
    - ``client_id``: one of your choice; only through ``"apps"``.
    - ``twin``: makes another app although one of that name is there.

    An app that is there is not changed. Raises :class:`NameTaken` if it is no service app with a key, or not one alone.
    """
    keys = _keys_to_register(jwks, jwks_uri)
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError("The app has no name. Give it one by which you will know it again.")
    if client_id is not None and via == "clients":
        raise ConfigurationError(
            "Registration chooses the client id itself. Leave client_id away, or go via the Apps API."
        )
    if not twin:
        present = _named(api, name, via)
        if present is not None:
            return Created(present, False, _missing(present, keys))
    if via == "apps":
        app = _app(
            api.call(
                "POST", "/api/v1/apps", _app_body(name, keys, jwks_uri, dpop, client_id), query={"activate": "true"}
            )
        )
    else:
        app = _registered(api.call("POST", "/oauth2/v1/clients", _registration(name, keys, jwks_uri)))
        if dpop:
            app = set_dpop(api, app.id, True)
    return Created(app, True)


def list_apps(api: ManagementApi, *, via: Via = "apps", every: bool = False) -> Iterator[App]:
    """The org's service apps, as they come; with ``every``, its other OAuth apps too."""
    for app in _listed_apps(api, via, {}):
        if every or app.application_type == "service":
            yield app


def get_app(api: ManagementApi, id: str, *, via: Via = "apps") -> App:
    """The app with that id. Raises :class:`~okta_m2m.admin.management.NotFound`."""
    if via == "clients":
        return _registered(api.call("GET", f"/oauth2/v1/clients/{segment(id)}"))
    return _app(api.call("GET", f"/api/v1/apps/{segment(id)}"))


def find_app(api: ManagementApi, name_or_id: str, *, via: Via = "apps") -> App:
    """The app of that name, exactly, or with that id or client id.

    Raises :class:`~okta_m2m.admin.management.NotFound`, and :class:`NameTaken` where several apps have the name.
    """
    if name_or_id.startswith("0oa") and name_or_id.isalnum():
        try:
            return get_app(api, name_or_id, via=via)
        except NotFound:
            pass
    found = [app for app in _listed_apps(api, via, {"q": name_or_id}) if app.name == name_or_id]
    if not found:
        found = [app for app in _listed_apps(api, via, {}) if app.client_id == name_or_id]
    if len(found) > 1:
        raise _several(name_or_id, found)
    if not found:
        raise NotFound(
            f"There is no app {quoted(name_or_id, 100)!r} in {api.org_url} for whoever signs in. Its name counts "
            "exactly, upper "
            "and lower case included; list what is there with: okta-m2m app list",
            status=404,
        )
    return found[0]


def set_dpop(api: ManagementApi, app_id: str, required: bool) -> App:
    """Switches "Require Demonstrating Proof of Possession" on or off; the Apps API takes an app only whole."""
    path = f"/api/v1/apps/{segment(app_id)}"
    document = api.call("GET", path)
    settings = document["settings"]["oauthClient"]
    if settings.get("dpop_bound_access_tokens", False) == required:
        return _app(document)
    settings["dpop_bound_access_tokens"] = required
    return _app(api.call("PUT", path, document))


def activate_app(api: ManagementApi, app_id: str) -> None:
    """Lets an app get tokens again."""
    api.call("POST", f"/api/v1/apps/{segment(app_id)}/lifecycle/activate")


def deactivate_app(api: ManagementApi, app_id: str) -> None:
    """Keeps an app from getting tokens."""
    api.call("POST", f"/api/v1/apps/{segment(app_id)}/lifecycle/deactivate")


def delete_app(api: ManagementApi, app_id: str) -> None:
    """Deactivates an app, without which Okta does not delete it (E0000056), and deletes it for good."""
    deactivate_app(api, app_id)
    api.call("DELETE", f"/api/v1/apps/{segment(app_id)}")


def _listed_apps(api: ManagementApi, via: Via, query: Mapping[str, str]) -> Iterator[App]:
    if via == "clients":
        for item in api.pages("/oauth2/v1/clients", {"limit": _PAGE, **query}):
            yield _registered(item)
        return
    for item in api.pages("/api/v1/apps", {"limit": _PAGE, **query}):
        if item.get("signOnMode") == "OPENID_CONNECT":
            yield _app(item)


def _named(api: ManagementApi, name: str, via: Via) -> App | None:
    found = [app for app in _listed_apps(api, via, {"q": name}) if app.name == name]
    if len(found) > 1:
        raise _several(name, found)
    if found and not found[0].usable:
        raise NameTaken(
            f"The app {quoted(name, 100)!r} ({found[0].id}) is there already, and is no service app that signs in "
            "with a key "
            f"(it is of type {quoted(found[0].application_type, 40)}, with {quoted(found[0].auth_method, 40)}). "
            "Choose another "
            "name, or ask for a second app of the same name outright."
        )
    return found[0] if found else None


def _several(name: str, found: Sequence[App]) -> NameTaken:
    return NameTaken(
        f"{len(found)} apps have the name {quoted(name, 100)!r}: {', '.join(app.id for app in found[:10])}. Name the "
        "one that "
        "is meant by its id."
    )


def _app_body(
    name: str, keys: Sequence[Mapping[str, Any]], jwks_uri: str | None, dpop: bool, client_id: str | None
) -> dict[str, Any]:
    own_id = {} if client_id is None else {"client_id": client_id}
    registered: dict[str, Any] = {"jwks": {"keys": list(keys)}} if jwks_uri is None else {"jwks_uri": jwks_uri}
    return {
        "name": "oidc_client",
        "label": name,
        "signOnMode": "OPENID_CONNECT",
        "credentials": {
            "oauthClient": {"token_endpoint_auth_method": "private_key_jwt", "autoKeyRotation": True, **own_id}
        },
        "settings": {
            "oauthClient": {
                "application_type": "service",
                "grant_types": ["client_credentials"],
                "response_types": ["token"],
                "consent_method": "TRUSTED",
                "dpop_bound_access_tokens": dpop,
                **registered,
            }
        },
    }


def _registration(name: str, keys: Sequence[Mapping[str, Any]], jwks_uri: str | None) -> dict[str, Any]:
    registered: dict[str, Any] = {"jwks": {"keys": list(keys)}} if jwks_uri is None else {"jwks_uri": jwks_uri}
    return {
        "client_name": name,
        "application_type": "service",
        "grant_types": ["client_credentials"],
        "response_types": ["token"],
        "token_endpoint_auth_method": "private_key_jwt",
        **registered,
    }


def _keys_to_register(jwks: Mapping[str, Any] | None, jwks_uri: str | None) -> list[dict[str, Any]]:
    if (jwks is None) == (jwks_uri is None):
        raise ConfigurationError("A service app needs its public keys: give either jwks (key.jwks()) or jwks_uri.")
    if jwks is None:
        if not str(jwks_uri).startswith("https://"):
            raise ConfigurationError(
                "The jwks_uri does not begin with https://. Give the URL from which Okta fetches the keys."
            )
        return []
    keys = [public_jwk(jwk) for jwk in jwks.get("keys", [jwks])]
    if not keys:
        raise ConfigurationError("The JWKS holds no key. Give that of the service's key: key.jwks().")
    if len(keys) > 1 and not all(jwk.get("kid") for jwk in keys):
        raise ConfigurationError("With more than one key, each needs a kid of its own. Give every key a kid.")
    return keys


def public_jwk(jwk: Mapping[str, Any]) -> dict[str, Any]:
    """The JWK to register, refused where it is a private one: that key would be Okta's to know from then on."""
    if _PRIVATE_MEMBERS & jwk.keys():
        raise ConfigurationError("The JWK to register is a private key. Register the public one: key.jwks().")
    return {"use": "sig", **{name: value for name, value in jwk.items() if value is not None}}


def _missing(app: App, keys: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    registered = {key.thumbprint for key in app.keys if key.active}
    return tuple(str(jwk.get("kid") or thumbprint(jwk)) for jwk in keys if thumbprint(jwk) not in registered)


def _app(document: Any) -> App:
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
            keys=_keys(settings.get("jwks")),
            jwks_uri=settings.get("jwks_uri"),
            dpop=bool(settings.get("dpop_bound_access_tokens", False)),
        )
    except (KeyError, TypeError, AttributeError):
        raise _strange("app") from None


def _registered(document: Any) -> App:
    try:
        return App(
            id=document["client_id"],
            client_id=document["client_id"],
            name=document["client_name"],
            status="ACTIVE",
            application_type=document.get("application_type") or "",
            auth_method=document.get("token_endpoint_auth_method") or "",
            grant_types=tuple(document.get("grant_types") or ()),
            keys=_keys(document.get("jwks")),
            jwks_uri=document.get("jwks_uri"),
            dpop=None,
        )
    except (KeyError, TypeError, AttributeError):
        raise _strange("client") from None


def _strange(what: str) -> ProvisioningError:
    return ProvisioningError(
        f"Okta's answer is no {what} as its API describes it. Check for a proxy that changes answers."
    )


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def list_keys(api: ManagementApi, app_id: str) -> list[AppKey]:
    """The public keys that are registered with an app."""
    return list(_keys({"keys": listed(api.call("GET", _jwks_path(app_id)), "keys")}))


def add_key(api: ManagementApi, app_id: str, jwk: Mapping[str, Any]) -> AppKey:
    """Registers a public key beside those that are there; one that is there already is given back as it is.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for a private key, and where another key has the same ``kid``.
    """
    wanted = public_jwk(jwk)
    present = list_keys(api, app_id)
    same = next((key for key in present if key.thumbprint == thumbprint(wanted)), None)
    if same is not None and same.kid == wanted.get("kid"):
        return same
    if wanted.get("kid") is not None and any(key.kid == wanted["kid"] for key in present):
        raise ConfigurationError(
            f"The app has another key with the kid {public_id(wanted['kid'])!r}. Give the new key a kid of its own, "
            "such as its thumbprint."
        )
    return _key(api.call("POST", _jwks_path(app_id), {**wanted, "status": "ACTIVE"}))


def find_key(api: ManagementApi, app_id: str, id_or_kid: str) -> AppKey:
    """The app's key with that id (``pks...``), or else that ``kid``. Raises :class:`~okta_m2m.admin.management.NotFound`."""
    keys = list_keys(api, app_id)
    found = next((key for key in keys if key.id == id_or_kid), None)
    found = found or next((key for key in keys if key.kid == id_or_kid), None)
    if found is None:
        raise NotFound(
            f"The app {quoted(app_id, 100)} has no key {public_id(id_or_kid)!r}. List its keys with: okta-m2m key list",
            status=404,
        )
    return found


def activate_key(api: ManagementApi, app_id: str, id_or_kid: str) -> AppKey:
    """Makes a key count again."""
    return _turned(api, app_id, id_or_kid, "activate")


def deactivate_key(api: ManagementApi, app_id: str, id_or_kid: str) -> AppKey:
    """Makes a key count no more, though it can be activated again. Okta refuses it for the only active one."""
    return _turned(api, app_id, id_or_kid, "deactivate")


def delete_key(api: ManagementApi, app_id: str, id_or_kid: str) -> None:
    """Removes a key for good. Okta refuses it while the key is active."""
    key = find_key(api, app_id, id_or_kid)
    api.call("DELETE", f"{_jwks_path(app_id)}/{segment(key.id)}")


def _turned(api: ManagementApi, app_id: str, id_or_kid: str, turn: Literal["activate", "deactivate"]) -> AppKey:
    key = find_key(api, app_id, id_or_kid)
    if key.active == (turn == "activate"):
        return key
    return _key(api.call("POST", f"{_jwks_path(app_id)}/{segment(key.id)}/lifecycle/{turn}"))


def _jwks_path(app_id: str) -> str:
    return f"/api/v1/apps/{segment(app_id)}/credentials/jwks"


def _keys(jwks: Any) -> tuple[AppKey, ...]:
    """The signing keys; those for encryption are none of ours."""
    if jwks is None:
        return ()
    return tuple(_key(jwk) for jwk in jwks["keys"] if jwk.get("use") in (None, "sig"))


def _key(jwk: Any) -> AppKey:
    try:
        members = ("kty", "e", "n") if jwk["kty"] == "RSA" else ("kty", "crv", "x", "y")
        # Okta's document has no crv, and its traffic has; without it the coordinates' length tells the curve.
        found = {name: jwk.get(name) or _curve(jwk) for name in members}
        return AppKey(
            id=jwk.get("id") or "",
            kid=jwk.get("kid"),
            status=jwk.get("status") or "ACTIVE",
            alg=jwk.get("alg"),
            thumbprint=thumbprint(found),
            created=jwk.get("created"),
            public_jwk=found,
        )
    except (KeyError, TypeError, AttributeError):
        raise _strange("key") from None


def _curve(jwk: Mapping[str, Any]) -> str:
    return {43: "P-256", 64: "P-384", 88: "P-521"}[len(jwk["x"])]


# ── grants ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def list_grants(api: ManagementApi, app_id: str) -> list[Grant]:
    """The ``okta.*`` scopes that are granted to an app."""
    return [_grant(item) for item in listed(api.call("GET", _grants_path(app_id)), "grants")]


def grant_scopes(
    api: ManagementApi,
    app_id: str,
    scopes: Iterable[str],
    *,
    progress: Callable[[GrantResult], None] | None = None,
) -> list[GrantResult]:
    """Grants scopes to an app, one call each; what is granted already stays as it is. Only a Super Admin may.

    ``progress`` is told of each scope as it is done. What was granted before a failure stays granted.
    """
    wanted = _distinct(scopes)
    present = {grant.scope for grant in list_grants(api, app_id) if grant.status == "ACTIVE"}
    results: list[GrantResult] = []
    for scope in wanted:
        if scope in present:
            results.append(GrantResult(scope, "present"))
        else:
            api.call("POST", _grants_path(app_id), {"issuer": api.org_url, "scopeId": scope})
            results.append(GrantResult(scope, "granted"))
        if progress is not None:
            progress(results[-1])
    return results


def revoke_scopes(
    api: ManagementApi,
    app_id: str,
    scopes: Iterable[str],
    *,
    progress: Callable[[GrantResult], None] | None = None,
) -> list[GrantResult]:
    """Takes grants back, one call each. Tokens that were minted before keep their scopes until they end."""
    wanted = _distinct(scopes)
    present = {grant.scope: grant.id for grant in list_grants(api, app_id)}
    results: list[GrantResult] = []
    for scope in wanted:
        if scope in present:
            api.call("DELETE", f"{_grants_path(app_id)}/{segment(present[scope])}")
            results.append(GrantResult(scope, "revoked"))
        else:
            results.append(GrantResult(scope, "absent"))
        if progress is not None:
            progress(results[-1])
    return results


def _distinct(scopes: Iterable[str]) -> list[str]:
    if isinstance(scopes, str):
        raise ConfigurationError(f"scopes is a list, not one text. Write {scopes.split()!r}.")
    wanted = list(dict.fromkeys(scopes))
    for scope in wanted:
        if not scope.startswith(("okta.", "ssf.")):
            raise ConfigurationError(
                f"{quoted(scope, 80)!r} is no scope of Okta's own API, and only those are granted to an app. Scopes "
                "of a custom "
                "authorization server are given by its access policies."
            )
        if scope.endswith(".self"):
            raise ConfigurationError(f"A service app has no self. Ask for {scope.removesuffix('.self')!r}.")
    return wanted


def _grants_path(app_id: str) -> str:
    return f"/api/v1/apps/{segment(app_id)}/grants"


def _grant(item: Mapping[str, Any]) -> Grant:
    try:
        return Grant(item["id"], item["scopeId"], item.get("status") or "ACTIVE")
    except (KeyError, TypeError):
        raise _strange("grant") from None


# ── roles ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def list_roles(api: ManagementApi, client_id: str) -> list[Role]:
    """The admin roles that are assigned to an app; a call needs one as well as the scope."""
    return [_role(item) for item in listed(api.call("GET", _roles_path(client_id)), "roles")]


def assign_role(api: ManagementApi, client_id: str, type: str) -> RoleResult:
    """Assigns a standard admin role, one of :data:`STANDARD_ROLES`. Only a Super Admin may."""
    if type not in STANDARD_ROLES:
        raise ConfigurationError(
            f"{quoted(type, 60)!r} is no standard role. It is one of {', '.join(STANDARD_ROLES)}; a custom role is "
            "assigned with "
            "its id and that of a resource set."
        )
    present = next((role for role in list_roles(api, client_id) if role.type == type), None)
    if present is not None:
        return RoleResult(present, False)
    return RoleResult(_role(api.call("POST", _roles_path(client_id), {"type": type})), True)


def assign_custom_role(api: ManagementApi, client_id: str, role: str, resource_set: str) -> RoleResult:
    """Assigns a custom admin role (id ``cr0...``) for a resource set (id ``iam...``). Only a Super Admin may."""
    for assigned in list_roles(api, client_id):
        if assigned.type == "CUSTOM" and (assigned.role, assigned.resource_set) == (role, resource_set):
            return RoleResult(assigned, False)
    body = {"type": "CUSTOM", "role": role, "resource-set": resource_set}
    return RoleResult(_role(api.call("POST", _roles_path(client_id), body)), True)


def unassign_role(api: ManagementApi, client_id: str, assignment_id: str) -> None:
    """Takes a role back; ``assignment_id`` is :attr:`Role.id`."""
    api.call("DELETE", f"{_roles_path(client_id)}/{segment(assignment_id)}")


def _roles_path(client_id: str) -> str:
    return f"/oauth2/v1/clients/{segment(client_id)}/roles"


def _role(item: Any) -> Role:
    try:
        return Role(
            id=item["id"],
            type=item["type"],
            label=item.get("label") or item["type"],
            status=item.get("status") or "ACTIVE",
            role=item.get("role"),
            resource_set=item.get("resource-set"),
        )
    except (KeyError, TypeError, AttributeError):
        raise _strange("role") from None


# ── settings for what was made ───────────────────────────────────────────────────────────────────────────────────────


def environment_lines(org_url: str, client_id: str, key_file: str, scopes: Iterable[str]) -> list[str]:
    """``export`` lines for a shell: the variables that :meth:`okta_m2m.ServiceApp.from_env` and Okta's SDKs read."""
    values = {
        "OKTA_CLIENT_ORGURL": org_url,
        "OKTA_CLIENT_AUTHORIZATIONMODE": "PrivateKey",
        "OKTA_CLIENT_CLIENTID": client_id,
        "OKTA_CLIENT_PRIVATEKEY": key_file,
        "OKTA_CLIENT_SCOPES": ",".join(scopes),
    }
    return [f"export {name}={shlex.quote(value)}" for name, value in values.items()]


def okta_yaml(org_url: str, client_id: str, key_file: str, scopes: Iterable[str]) -> str:
    """The text of an ``okta.yaml``. The key is named by its path and not copied into it."""
    lines = ["okta:", "  client:"]
    values: dict[str, object] = {
        "orgUrl": org_url,
        "authorizationMode": "PrivateKey",
        "clientId": client_id,
        "privateKey": key_file,
        "scopes": list(scopes),
    }
    # JSON is YAML too, and says without doubt what is text.
    lines += [f"    {name}: {json.dumps(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"
