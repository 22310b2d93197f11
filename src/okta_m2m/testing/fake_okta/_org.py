"""What an org holds: apps with their keys, authorization servers, tokens, nonces, and a clock of its own.

Invariant: whether a token is good is decided by the entry made when it was minted, on the org's clock, never by reading
the token; every identifier that may be used once is remembered for as long as the org lives.
"""

from __future__ import annotations

import copy
import json
import secrets
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from ._scopes import OKTA_SCOPES

__all__ = ["ApiToken", "App", "AuthorizationServer", "InForce", "IssuedToken", "Keys", "Nonces", "Org", "signing_key"]

_PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
ORG_ISSUER = ""


class HasJwks(Protocol):
    """Whatever offers the document to register; ``okta_m2m.PrivateKey`` does."""

    def jwks(self) -> Mapping[str, Any]:
        """A JWKS with public keys."""
        ...


Keys: TypeAlias = "Mapping[str, Any] | HasJwks | Sequence[Mapping[str, Any] | HasJwks]"


@lru_cache(maxsize=1)
def signing_key() -> RSAKey:
    """The key that signs access tokens; one per process, because making an RSA key takes a while."""
    return RSAKey.generate_key(2048, {"kid": secrets.token_urlsafe(32), "use": "sig", "alg": "RS256"}, private=True)


def _registered(keys: Keys) -> dict[str, list[dict[str, Any]]]:
    found: list[dict[str, Any]] = []
    for item in [keys] if isinstance(keys, Mapping) or not isinstance(keys, Sequence) else keys:
        document = item if isinstance(item, Mapping) else item.jwks()
        found += [dict(jwk) for jwk in document["keys"]] if "keys" in document else [dict(document)]
    for jwk in found:
        if _PRIVATE_MEMBERS & jwk.keys():
            raise ValueError("the JWKS holds a private key; register the public one: jwks=key.jwks()")
    return {"keys": copy.deepcopy(found)}


class InForce(NamedTuple):
    """What the org's other servers know of an app: lags behind while :attr:`Org.settling` is set."""

    active_keys: list[dict[str, Any]]
    scopes: list[str]
    roles: list[str]


class App:
    """A service app registered at the fake. Every attribute may be changed while the fake runs.

    - ``client_id``: 0oa...; ``id``: the app's own, the same unless the app was created with a client id of its choice.
    - ``label``: its name.
    - ``jwks``: ``{"keys": [...]}`` with public keys; a key with ``"status": "INACTIVE"`` does not count. Whatever
      ``add_app`` takes may be assigned.
    - ``scopes``: the ``okta.*`` scopes granted to it; the org server leaves out the others without a word.
    - ``dpop_bound``: "Require DPoP" is on.
    - ``roles``: admin roles, a custom one as ``CUSTOM/{role}/{resource set}``; ``READ_ONLY_ADMIN`` until you change it.
      With none, the management API answers 403 E0000006; with such as only read, it does so to a write.
    - ``jwks_uri``: where its keys are fetched from, in place of ``jwks``.
    - ``status``: ``ACTIVE`` or ``INACTIVE``.
    - ``application_type``, ``token_endpoint_auth_method``, ``grant_types``, ``response_types``, ``consent_method``: as in
      Okta's Apps API.
    - ``private_jwk``: the key made by ``add_app`` when none was given, else ``None``.
    """

    def __init__(self, client_id: str, keys: Keys, scopes: Iterable[str]) -> None:
        self.id = client_id
        self.client_id = client_id
        self.label = f"Service app {client_id}"
        self._jwks = _registered(keys)
        self.scopes: list[str] = list(scopes)
        self.dpop_bound = False
        self.roles: list[str] = ["READ_ONLY_ADMIN"]
        self.status: Literal["ACTIVE", "INACTIVE"] = "ACTIVE"
        self.application_type = "service"
        self.token_endpoint_auth_method = "private_key_jwt"
        self.grant_types: list[str] = ["client_credentials"]
        self.response_types: list[str] = ["token"]
        self.consent_method = "TRUSTED"
        self.jwks_uri: str | None = None
        self.private_jwk: dict[str, Any] | None = None
        self._earlier: list[tuple[float, InForce | None]] = []

    @property
    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        return self._jwks

    @jwks.setter
    def jwks(self, keys: Keys) -> None:
        self._jwks = _registered(keys)

    def active_keys(self) -> list[dict[str, Any]]:
        """The keys that count."""
        return [jwk for jwk in self._jwks["keys"] if jwk.get("status", "ACTIVE") == "ACTIVE"]

    def add_key(self, keys: Keys) -> None:
        """Registers further keys beside those that are there, as in a rotation."""
        self._jwks = _registered([*self._jwks["keys"], *_registered(keys)["keys"]])

    def deactivate_key(self, kid: str | None) -> None:
        """Makes the keys with that ``kid`` INACTIVE; ``KeyError`` if there is none."""
        found = [jwk for jwk in self._jwks["keys"] if jwk.get("kid") == kid]
        if not found:
            raise KeyError(kid)
        for jwk in found:
            jwk["status"] = "INACTIVE"

    def in_force(self) -> InForce | None:
        """What counts at this moment; ``None``: elsewhere in the org the app is not known yet."""
        now = time.monotonic()
        for until, earlier in list(self._earlier):
            if now < until:
                return earlier
        return InForce(self.active_keys(), list(self.scopes), list(self.roles))

    def change_follows(self, settling: float, *, created: bool = False) -> None:
        """From now on the app is changed; what counted before goes on for ``settling`` seconds."""
        if settling > 0:
            now = time.monotonic()
            self._earlier = [entry for entry in self._earlier if now < entry[0]]
            before = (
                None if created else InForce(copy.deepcopy(self.active_keys()), list(self.scopes), list(self.roles))
            )
            self._earlier.append((now + settling, before))

    def __repr__(self) -> str:
        return f"<App {self.client_id} {self.status} scopes={self.scopes}>"


@dataclass(slots=True)
class ApiToken:
    """An SSWS token: what its user may do, and whether it still counts."""

    value: str = field(repr=False)
    roles: list[str]
    user_id: str
    active: bool = True


@dataclass(slots=True)
class AuthorizationServer:
    """A custom authorization server: ``/oauth2/{id}``.

    ``default_scopes`` are granted when none is asked for; ``token_lifetime`` in seconds, ``None``: as the org;
    ``clients``: the client ids that an access policy lets in, ``None``: all.
    """

    id: str
    scopes: list[str] = field(default_factory=list)
    default_scopes: list[str] = field(default_factory=list)
    audience: str = "api://default"
    token_lifetime: float | None = None
    clients: list[str] | None = None


@dataclass(slots=True)
class IssuedToken:
    """An access token that was minted; times in seconds since the epoch on the org's clock."""

    value: str = field(repr=False)
    token_type: Literal["Bearer", "DPoP"]
    client_id: str
    scopes: tuple[str, ...]
    #: Id of the custom authorization server, ``""`` for the org's own.
    issuer: str
    audience: str
    jti: str
    issued_at: float
    expires_at: float
    #: RFC 7638 thumbprint of the DPoP key that it is bound to.
    jkt: str | None = None
    revoked: bool = False


class Nonces:
    """The DPoP nonces of one kind of server: a new one daily, old ones good for three days after they were made."""

    def __init__(self) -> None:
        self.renewal: float = 24 * 3600
        self.lifetime: float = 3 * 24 * 3600
        self._mutex = threading.Lock()
        self._made: dict[str, float] = {}
        self._current = ""

    def current(self, now: float) -> str:
        """The nonce to hand out."""
        with self._mutex:
            made = self._made.get(self._current)
            if made is None or not 0 <= now - made < min(self.renewal, self.lifetime):
                self._current = secrets.token_urlsafe(24)
                self._made[self._current] = now
            return self._current

    def accepts(self, nonce: object, now: float) -> bool:
        """Whether a proof may carry ``nonce``."""
        with self._mutex:
            made = self._made.get(nonce) if isinstance(nonce, str) else None
        return made is not None and now - made < self.lifetime

    def rotate(self, keep_old: bool) -> None:
        """From now on another one; those handed out before are refused at once unless ``keep_old``."""
        with self._mutex:
            self._current = ""
            if not keep_old:
                self._made.clear()


class Org:
    """State shared by the endpoints; :class:`okta_m2m.testing.FakeOkta` adds the server and what steers it."""

    def __init__(self, *, token_lifetime: float, dpop: Literal["optional", "required"]) -> None:
        self.token_lifetime: float = token_lifetime
        self.dpop: Literal["optional", "required"] = dpop
        self.require_dpop_nonce = True
        self.resource_nonce: bool | Literal[400, 401] = False
        self.features_off: set[str] = set()
        self.scopes: set[str] = set(OKTA_SCOPES)
        self.apps: dict[str, App] = {}
        self.authorization_servers: dict[str, AuthorizationServer] = {}
        self.nonces = Nonces()
        self.resource_nonces = Nonces()
        self.protected: dict[str, tuple[str, str | None]] = {}
        self.settling: float = 0.0
        self.api_tokens: dict[str, ApiToken] = {}
        #: Held while the management API changes something.
        self.changing = threading.RLock()
        self.ids: dict[tuple[str, ...], tuple[str, float]] = {}
        self._mutex = threading.Lock()
        self._tokens: dict[str, IssuedToken] = {}
        self._used: set[tuple[str, str]] = set()
        self._minted = 0
        self._skew = 0.0

    @property
    def url(self) -> str:
        """The org URL, without a trailing slash."""
        raise NotImplementedError

    def now(self) -> float:
        """Seconds since the epoch on the org's clock."""
        return time.time() + self._skew

    def issuer_url(self, issuer: str) -> str:
        return f"{self.url}/oauth2/{issuer}" if issuer else self.url

    def first_use(self, kind: str, jti: str) -> bool:
        """Uses up an identifier; false if it was used before."""
        with self._mutex:
            before = len(self._used)
            self._used.add((kind, jti))
            return len(self._used) > before

    def add_api_token(self, *roles: str) -> str:
        """An SSWS token whose user has these admin roles (none given: ``SUPER_ADMIN``); gives what goes after ``SSWS``."""
        value = f"00{secrets.token_urlsafe(30)}"
        self.api_tokens[value] = ApiToken(value, list(roles or ("SUPER_ADMIN",)), self.new_id("00u"))
        return value

    @staticmethod
    def new_id(prefix: str) -> str:
        """An id as Okta makes them: a prefix that tells the kind, 20 characters in all."""
        return prefix + secrets.token_hex(10)[: 20 - len(prefix)]

    def app_by_id(self, id: str) -> App | None:
        """The app with that id, which may differ from its client id."""
        found = self.apps.get(id)
        if found is not None and found.id == id:
            return found
        return next((app for app in list(self.apps.values()) if app.id == id), None)

    def requires_dpop(self, app: App) -> bool:
        return app.dpop_bound or self.dpop == "required"

    def token(self, value: str) -> IssuedToken | None:
        with self._mutex:
            return self._tokens.get(value)

    def tokens(self) -> list[IssuedToken]:
        """Every token minted so far, oldest first."""
        with self._mutex:
            return list(self._tokens.values())

    def mint(self, app: App, server: AuthorizationServer | None, scopes: Sequence[str], jkt: str | None) -> IssuedToken:
        issuer = server.id if server else ORG_ISSUER
        lifetime = self.token_lifetime if server is None or server.token_lifetime is None else server.token_lifetime
        key = signing_key()
        now = self.now()
        audience = server.audience if server else self.url
        jti = f"AT.{secrets.token_urlsafe(32)}"
        claims: dict[str, Any] = {
            "ver": 1,
            "jti": jti,
            "iss": self.issuer_url(issuer),
            "aud": audience,
            "sub": app.client_id,
            "iat": int(now),
            "exp": int(now + lifetime),
            "cid": app.client_id,
            "scp": list(scopes),
        }
        if jkt is not None:
            claims["cnf"] = {"jkt": jkt}
        header = {"kid": key.kid, "alg": "RS256"}
        if server is None:
            header["typ"] = "application/okta-internal-at+jwt"
        value = jws.serialize_compact(header, json.dumps(claims), key)
        token = IssuedToken(
            value,
            "Bearer" if jkt is None else "DPoP",
            app.client_id,
            tuple(scopes),
            issuer,
            audience,
            jti,
            now,
            now + lifetime,
            jkt,
        )
        with self._mutex:
            self._tokens[value] = token
            self._minted += 1
        return token

    def generated_key(self) -> ECKey:
        """An ES256 key for an app that was added without one."""
        return ECKey.generate_key("P-256", {"kid": secrets.token_urlsafe(16), "use": "sig"}, private=True)
