"""The public keys that are registered with an app: list, add, activate, deactivate, delete.

Invariant: a private key is refused before anything is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigurationError, quoted
from ..keys import thumbprint
from ._changes import change, moment, path_segment, read_back, set_active, shown_id
from .errors import NotFound
from .management import ManagementApi, described_as, items_of

_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})  # RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1


@dataclass(frozen=True, slots=True)
class AppKey:
    """A public key that is registered with an app.

    - ``id``: Okta's id for the key (``pks...``), for the functions that change it. Empty if the endpoint does not return
      it.
    - ``kid``: the ``kid`` of the client assertions that this key verifies. ``None`` if the key was registered without
      one.
    - ``status``: ``ACTIVE`` or ``INACTIVE``.
    - ``alg``: the algorithm that it was registered for; ``None`` if it was registered without one.
    - ``thumbprint``: RFC 7638, SHA-256. Empty for a key that is neither RSA nor EC.
    - ``created``: when it was registered, as Okta writes it (ISO 8601). ``None`` if the endpoint does not return it.
    - ``public_jwk``: the members that make up the thumbprint (``kty``, ``crv``, ``x``, ``y``; or ``kty``, ``e``,
      ``n``).
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
        """Whether Okta accepts signatures made with it."""
        return self.status == "ACTIVE"


def list_keys(api: ManagementApi, app_id: str) -> list[AppKey]:
    """The public keys that are registered with an app, including inactive ones. Keys for encryption are omitted.

    - ``api``: the management API of the org.
    - ``app_id``: :attr:`App.id`.
    """
    return list(app_keys_from({"keys": items_of(api.call("GET", keys_path(app_id)), "keys")}))


def add_key(api: ManagementApi, app_id: str, jwk: Mapping[str, Any]) -> AppKey:
    """Registers another public key. If it is already registered, it is returned unchanged.

    - ``api``: the management API of the org.
    - ``app_id``: :attr:`App.id`.
    - ``jwk``: the public key, as one of the keys of :meth:`okta_m2m.PrivateKey.jwks`.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for a private key, and if another key has the same ``kid``.
    """
    return confirm_key(api, app_id, register_key(api, app_id, jwk))


def register_key(api: ManagementApi, app_id: str, jwk: Mapping[str, Any]) -> AppKey:
    """Does what :func:`add_key` does, but does not read the change back."""
    wanted = public_jwk(jwk)
    present = list_keys(api, app_id)
    same = next((key for key in present if key.thumbprint == thumbprint(wanted)), None)
    if same is not None and same.kid == wanted.get("kid"):
        return same
    if wanted.get("kid") is not None and any(key.kid == wanted["kid"] for key in present):
        raise ConfigurationError(
            f"The app has another key with the kid {shown_id(wanted['kid'])!r}.",
            remedy="Give the new key another kid, such as its thumbprint.",
        )
    return _key(api.call("POST", keys_path(app_id), {**wanted, "status": "ACTIVE"}))


def confirm_key(api: ManagementApi, app_id: str, key: AppKey) -> AppKey:
    """A registered key, as Okta lists it."""
    return read_back(api, lambda: listed_key(api, app_id, key.id), f"the key {shown_id(key.kid)!r} is registered")


def find_key(api: ManagementApi, app_id: str, id_or_kid: str) -> AppKey:
    """The key of an app that has this id, or else this ``kid``.

    - ``api``: the management API of the org.
    - ``app_id``: :attr:`App.id`.
    - ``id_or_kid``: :attr:`AppKey.id` (``pks...``) or :attr:`AppKey.kid`.

    Raises :class:`~okta_m2m.admin.errors.NotFound`.
    """
    keys = list_keys(api, app_id)
    found = next((key for key in keys if key.id == id_or_kid), None)
    found = found or next((key for key in keys if key.kid == id_or_kid), None)
    if found is None:
        raise NotFound(
            f"The app {quoted(app_id, 100)} has no key {shown_id(id_or_kid)!r}.",
            remedy="List its keys with: okta-m2m key list",
            status=404,
        )
    return found


def activate_key(api: ManagementApi, app_id: str, id_or_kid: str) -> AppKey:
    """Activates a key, so that Okta accepts signatures made with it. An active key is returned unchanged.

    - ``api``: the management API of the org.
    - ``app_id``: :attr:`App.id`.
    - ``id_or_kid``: as for :func:`find_key`.
    """
    return _set_active(api, app_id, id_or_kid, True)


def deactivate_key(api: ManagementApi, app_id: str, id_or_kid: str) -> AppKey:
    """Deactivates a key. It stays registered, and can be activated again. An inactive key is returned unchanged.

    - ``api``: the management API of the org.
    - ``app_id``: :attr:`App.id`.
    - ``id_or_kid``: as for :func:`find_key`.

    Raises :class:`~okta_m2m.admin.errors.InvalidRequest` for the only active key, which Okta keeps active.
    """
    return _set_active(api, app_id, id_or_kid, False)


def delete_key(api: ManagementApi, app_id: str, id_or_kid: str) -> None:
    """Deletes a key permanently.

    - ``api``: the management API of the org.
    - ``app_id``: :attr:`App.id`.
    - ``id_or_kid``: as for :func:`find_key`.

    Raises :class:`~okta_m2m.admin.errors.InvalidRequest` for an active key, which Okta does not delete.
    """
    key = find_key(api, app_id, id_or_kid)
    change(
        api,
        "DELETE",
        key_path(app_id, key.id),
        lambda: listed_key(api, app_id, key.id) is None,
        f"the key {shown_id(key.kid or key.id)!r} is deleted",
    )


def key_age(api: ManagementApi, key: AppKey) -> int | None:
    """The whole days since a key was registered, by Okta's clock; ``None`` if Okta does not return when that was.

    ``api`` has been called before, so it knows Okta's time.
    """
    created = moment(key.created)
    return None if created is None else int((api.now() - created) // 86_400)


def public_jwk(jwk: Mapping[str, Any]) -> dict[str, Any]:
    """The JWK to register. A private JWK is refused, because Okta would then know that key."""
    if _PRIVATE_MEMBERS & jwk.keys():
        remedy = "Register the public one: key.jwks(), okta-m2m key jwks"
        raise ConfigurationError("The JWK to register is a private key.", remedy=remedy)
    return {"use": "sig", **{name: value for name, value in jwk.items() if value is not None}}


def app_keys_from(jwks: Any) -> tuple[AppKey, ...]:
    """The signing keys of a JWKS in Okta's response. Raises :class:`NotAsDescribed`."""
    if jwks is None:
        return ()
    return tuple(_key(jwk) for jwk in jwks["keys"] if jwk.get("use") in (None, "sig"))


def _set_active(api: ManagementApi, app_id: str, id_or_kid: str, active: bool) -> AppKey:
    key = find_key(api, app_id, id_or_kid)
    if key.active == active:
        return key

    def look() -> AppKey | None:
        found = find_key(api, app_id, key.id)
        return found if found.active == active else None

    return set_active(api, key_path(app_id, key.id), active, look, f"the key {shown_id(key.kid or key.id)!r}")


def listed_key(api: ManagementApi, app_id: str, id: str) -> AppKey | None:
    """The key with this id; ``None`` if the app has none."""
    return next((key for key in list_keys(api, app_id) if key.id == id), None)


def key_path(app_id: str, key_id: str) -> str:
    return f"{keys_path(app_id)}/{path_segment(key_id)}"


def keys_path(app_id: str) -> str:
    return f"/api/v1/apps/{path_segment(app_id)}/credentials/jwks"


def _key(jwk: Any) -> AppKey:
    with described_as("key"):
        members = {"RSA": ("kty", "e", "n"), "EC": ("kty", "crv", "x", "y")}.get(jwk["kty"], ())
        # Okta's reference shows no crv, although its responses have one. Without crv, the length of x identifies the curve.
        found = {name: jwk.get(name) or _curve(jwk) for name in members}
        return AppKey(
            id=jwk.get("id") or "",
            kid=jwk.get("kid"),
            status=jwk.get("status") or "ACTIVE",
            alg=jwk.get("alg"),
            thumbprint=thumbprint(found) if found else "",
            created=jwk.get("created"),
            public_jwk=found,
        )


def _curve(jwk: Mapping[str, Any]) -> str:
    return {43: "P-256", 64: "P-384", 88: "P-521"}[len(jwk["x"])]
