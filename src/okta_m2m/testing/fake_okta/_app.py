"""A service app in the org: its keys, scopes, roles and settings.

Invariant: an app has only public keys. If ``add_app`` created a private key, it is kept separately.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from ._jws import PRIVATE_MEMBERS


class HasJwks(Protocol):
    """An object that offers its public keys; ``okta_m2m.PrivateKey`` is one."""

    def jwks(self) -> Mapping[str, Any]:
        """A JWKS of public keys."""
        ...


Keys: TypeAlias = "Mapping[str, Any] | HasJwks | Sequence[Mapping[str, Any] | HasJwks]"


def public_jwks(keys: Keys) -> dict[str, list[dict[str, Any]]]:
    """``keys`` as one JWKS of copies. Raises ``ValueError`` if one of them is private."""
    found: list[dict[str, Any]] = []
    for item in [keys] if isinstance(keys, Mapping) or not isinstance(keys, Sequence) else keys:
        document = item if isinstance(item, Mapping) else item.jwks()
        found += [dict(jwk) for jwk in document["keys"]] if "keys" in document else [dict(document)]
    for jwk in found:
        if PRIVATE_MEMBERS & jwk.keys():
            raise ValueError("jwks contains a private key. Register the public key: jwks=key.jwks().")
    return {"keys": copy.deepcopy(found)}


class InForce(NamedTuple):
    """An app's state as the org's servers know it. It lags behind the app while :attr:`Org.settling` is set."""

    active_keys: list[dict[str, Any]]
    scopes: list[str]
    roles: list[str]


class App:
    """A service app registered with FakeOkta. Every attribute may be changed while FakeOkta runs.

    - ``client_id``: its client id, ``0oa...``.
    - ``id``: its app id. It equals ``client_id`` unless the app was created with a chosen client id.
    - ``label``: its name.
    - ``keys``: anything that :meth:`FakeOkta.add_app` accepts as its keys.
    - ``jwks``: ``{"keys": [...]}`` with its public keys. A key with ``"status": "INACTIVE"`` does not count. You can
      assign anything that :meth:`FakeOkta.add_app` accepts.
    - ``jwks_uri``: a URL from which to fetch its keys, instead of ``jwks``; ``None`` by default.
    - ``scopes``: the ``okta.*`` scopes granted to it. Like Okta, the org's server silently omits the others from a token.
    - ``dpop_bound``: whether "Require DPoP" is on; ``False`` by default.
    - ``roles``: its admin roles; ``["READ_ONLY_ADMIN"]`` by default. A custom role is ``CUSTOM/{role}/{resource set}``.
      Without a role, the management API returns 403 E0000006; with only read-only roles, it returns the same for a write.
    - ``status``: ``"ACTIVE"`` (default) or ``"INACTIVE"``.
    - ``application_type``, ``token_endpoint_auth_method``, ``grant_types``, ``response_types``, ``consent_method``: as in
      Okta's Apps API.
      A grant that is not in ``grant_types`` is refused. ``["client_credentials"]`` by default.
    - ``delegation_links``: whose access tokens the app may exchange for an ID-JAG: client id -> the ``aud`` that such a token
      must have. Empty by default.
    - ``resource_connections``: for which authorization servers the app gets an ID-JAG: issuer -> the resources that it may name
      there. Empty by default.
    - ``private_jwk``: the private key that ``add_app`` created because no key was passed; otherwise ``None``.
    """

    def __init__(self, client_id: str, keys: Keys, scopes: Iterable[str]) -> None:
        self.id = client_id
        self.client_id = client_id
        self.label = f"Service app {client_id}"
        self.scopes: list[str] = list(scopes)
        self.dpop_bound = False
        self.roles: list[str] = ["READ_ONLY_ADMIN"]
        self.status: Literal["ACTIVE", "INACTIVE"] = "ACTIVE"
        self.application_type = "service"
        self.token_endpoint_auth_method = "private_key_jwt"
        self.grant_types: list[str] = ["client_credentials"]
        self.response_types: list[str] = ["token"]
        self.delegation_links: dict[str, str] = {}
        self.resource_connections: dict[str, list[str]] = {}
        self.consent_method = "TRUSTED"
        self.jwks_uri: str | None = None
        self.private_jwk: dict[str, Any] | None = None
        self._earlier: list[tuple[float, InForce | None]] = []
        self._jwks = public_jwks(keys)

    @property
    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        return self._jwks

    @jwks.setter
    def jwks(self, keys: Keys) -> None:
        self._jwks = public_jwks(keys)

    def active_keys(self) -> list[dict[str, Any]]:
        """The keys that are ACTIVE."""
        return [jwk for jwk in self._jwks["keys"] if jwk.get("status", "ACTIVE") == "ACTIVE"]

    def add_key(self, keys: Keys) -> None:
        """Registers more keys, as in a rotation.

        - ``keys``: public keys, as :meth:`FakeOkta.add_app` accepts them.

        Raises ``ValueError`` for a private key.
        """
        self._jwks = public_jwks([*self._jwks["keys"], *public_jwks(keys)["keys"]])

    def deactivate_key(self, kid: str | None) -> None:
        """Makes the keys with this ``kid`` INACTIVE. Raises ``KeyError`` if there are none."""
        found = [jwk for jwk in self._jwks["keys"] if jwk.get("kid") == kid]
        if not found:
            raise KeyError(kid)
        for jwk in found:
            jwk["status"] = "INACTIVE"

    def in_force(self) -> InForce | None:
        """The app's state as the org's servers know it now; ``None`` while they do not know the app yet."""
        now = time.monotonic()
        for until, earlier in self._earlier:
            if now < until:
                return earlier
        return InForce(self.active_keys(), list(self.scopes), list(self.roles))

    def change_follows(self, settling: float, *, created: bool = False) -> None:
        """Call this before changing the app: the org's servers keep its previous state for ``settling`` seconds.

        ``created``: whether the app is new, so that the servers do not know it at all for that time.
        """
        if settling > 0:
            before = InForce(copy.deepcopy(self.active_keys()), list(self.scopes), list(self.roles))
            self._earlier.append((time.monotonic() + settling, None if created else before))

    def __repr__(self) -> str:
        if not hasattr(self, "_jwks"):
            return "<App not made>"  # in a traceback of its own failed creation
        return f"<App {self.client_id} {self.status} scopes={self.scopes}>"
