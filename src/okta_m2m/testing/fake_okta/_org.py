"""The contents of an org: apps, authorization servers, tokens, nonces, and its own clock.

Invariant: a token's record, which was made when it was issued, and the org's clock decide whether it is valid. An identifier
that may be used once is remembered for as long as the org exists. A nonce is accepted until its lifetime ends on the org's clock
or it is rotated out, whichever comes first.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ._app import App
from ._tokens import (
    ID_JAG_LIFETIME,
    ORG_ISSUER,
    Account,
    IdJag,
    IdToken,
    IssuedToken,
    Subject,
    sign_access_token,
    sign_id_jag,
    sign_id_token,
)

_NONCE_RENEWAL = 24 * 3600  # seconds

_READ_AND_MANAGE = """
okta.agentPools okta.apiTokens okta.appGrants okta.apps okta.apps.interclientTrust okta.authenticators
okta.authorizationServers okta.behaviors okta.botProtection okta.brands okta.captchas okta.clients
okta.customTelephonyProvider okta.deviceAssurance okta.deviceIntegrations okta.devicePostureChecks okta.devices
okta.directories.groups okta.domains okta.dr okta.emailDomains okta.emailServers okta.eventHooks okta.features
okta.groups okta.identitySources okta.idps okta.inlineHooks okta.linkedObjects okta.logStreams okta.networkZones
okta.oauthIntegrations okta.orgs okta.personal.adminSettings okta.policies okta.principalRateLimits
okta.profileMappings okta.pushProviders okta.rateLimits okta.realmAssignments okta.realms okta.roles okta.schemas
okta.securityEventsProviders okta.serviceAccounts okta.serviceAccounts.okta okta.sessions okta.templates
okta.threatInsights okta.trustedOrigins okta.uischemas okta.userRisk okta.userTypes okta.users ssf
"""

#: The scopes of the management API, and the ``okta.*`` scopes of the OAuth document (dynamic client registration, universal
#: logout, Okta Workflows), in Okta's published OpenAPI documents (release 2026.06.3).
_OKTA_SCOPES = frozenset(
    {f"{resource}.{kind}" for resource in _READ_AND_MANAGE.split() for kind in ("read", "manage")}
    | {"okta.clients.register", "okta.logs.read", "okta.universalLogout.manage", "okta.workflows.invoke.manage"}
)


@dataclass(slots=True)
class ApiToken:
    """An SSWS token: the admin roles of its user, and whether it is still valid."""

    value: str = field(repr=False)
    roles: list[str]
    user_id: str
    active: bool = True


@dataclass(slots=True)
class AuthorizationServer:
    """A custom authorization server at ``/oauth2/{id}``. Every attribute may be changed while FakeOkta runs.

    - ``id``: its id.
    - ``scopes``: the scopes that it issues.
    - ``default_scopes``: the scopes for a request that names none; empty by default, so such a request is refused.
    - ``audience``: the ``aud`` of its tokens; ``"api://default"`` by default.
    - ``token_lifetime``: lifetime of its tokens in seconds; ``None`` (default) means the org's ``token_lifetime``.
    - ``clients``: the client ids that its access policy admits; ``None`` (default) admits all.
    - ``trusted_servers``: the ids of the custom servers whose access tokens it exchanges, beside its own; empty by default.
    - ``resources``: the resources that a request may name, as the ``aud`` of its token; empty by default.
    """

    id: str
    scopes: list[str] = field(default_factory=list)
    default_scopes: list[str] = field(default_factory=list)
    audience: str = "api://default"
    token_lifetime: float | None = None
    clients: list[str] | None = None
    trusted_servers: list[str] = field(default_factory=list)
    resources: list[str] = field(default_factory=list)


class Nonces:
    """The DPoP nonces of one kind of server, created daily and accepted for three days."""

    def __init__(self) -> None:
        self.lifetime: float = 3 * 24 * 3600  # seconds
        self._mutex = threading.Lock()
        self._made: dict[str, float] = {}
        self._current = ""

    def current(self, now: float) -> str:
        """The nonce to send to clients."""
        with self._mutex:
            made = self._made.get(self._current)
            if made is None or not 0 <= now - made < min(_NONCE_RENEWAL, self.lifetime):
                self._current = secrets.token_urlsafe(24)
                self._made[self._current] = now
            return self._current

    def accepts(self, nonce: object, now: float) -> bool:
        """Whether a proof with ``nonce`` is accepted."""
        with self._mutex:
            made = self._made.get(nonce) if isinstance(nonce, str) else None
        return made is not None and now - made < self.lifetime

    def rotate(self, keep_old: bool) -> None:
        """Makes the next :meth:`current` a new nonce, and rejects all earlier ones unless ``keep_old``."""
        with self._mutex:
            self._current = ""
            if not keep_old:
                self._made.clear()


def new_id(prefix: str) -> str:
    """An id in Okta's form: a prefix that names the kind, 20 characters in all."""
    return prefix + secrets.token_hex(10)[: 20 - len(prefix)]


class Record(NamedTuple):
    """An id, with times in seconds since the epoch on the org's clock."""

    id: str
    created: float
    updated: float


class Records:
    """The management API's ids and times of apps, keys, grants and roles. ``key`` is a kind, followed by the parts that identify
    the object.

    An object that was not recorded gets its id and creation time when it is first looked up, and keeps them until it is
    forgotten.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._records: dict[tuple[str, ...], Record] = {}
        #: App id and scope -> the type and id of the caller that granted it.
        self.granted_by: dict[tuple[str, str], tuple[str, str]] = {}

    def find(self, *key: str, prefix: str = "") -> Record:
        """The record of ``key``; made now, with a new id that has this prefix, if there is none."""
        if key not in self._records:
            now = self._now()
            self._records[key] = Record(new_id(prefix), now, now)
        return self._records[key]

    def mark_updated(self, *key: str) -> None:
        """Sets the time of the last update to now."""
        self._records[key] = self.find(*key)._replace(updated=self._now())

    def forget(self, *key: str) -> None:
        """Removes the record, so that the next :meth:`find` makes another."""
        self._records.pop(key, None)


class Org:
    """The state that the endpoints share. :class:`okta_m2m.testing.FakeOkta` adds the server and the controls."""

    # The constructor of FakeOkta sets these two.
    token_lifetime: float  # seconds
    dpop: Literal["optional", "required"]

    def __init__(self) -> None:
        self.require_dpop_nonce = True
        self.resource_nonce: bool | Literal[400, 401] = False
        self.features_off: set[str] = set()
        self.scopes: set[str] = set(_OKTA_SCOPES)
        self.apps: dict[str, App] = {}
        self.authorization_servers: dict[str, AuthorizationServer] = {}
        self.nonces = Nonces()
        self.resource_nonces = Nonces()
        self.protected: dict[str, tuple[str, str | None]] = {}
        self.settling: float = 0.0  # seconds
        self.token_delay: float = 0.0  # seconds
        self.api_tokens: dict[str, ApiToken] = {}
        self.accounts: dict[str, Account] = {}
        self.id_jag_token_type: Literal["N_A", "Bearer"] = "N_A"
        self.records = Records(self.now)
        #: A lock that is held while the management API changes something.
        self.changing = threading.RLock()
        self.tokens_minted = 0
        self._mutex = threading.Lock()
        self._tokens: dict[str, IssuedToken] = {}
        self._id_tokens: dict[str, IdToken] = {}
        self._id_jags: dict[str, IdJag] = {}
        self._used: set[tuple[str, str]] = set()
        self._skew = 0.0

    @property
    def url(self) -> str:
        """The org URL, without a trailing slash."""
        raise NotImplementedError

    def now(self) -> float:
        """Seconds since the epoch on the org's clock."""
        return time.time() + self._skew

    def issuer_url(self, issuer: str) -> str:
        """The URL of an issuer, by its name in :attr:`IssuedToken.issuer`."""
        return f"{self.url}/oauth2/{issuer}" if issuer else self.url

    def first_use(self, kind: str, jti: str) -> bool:
        """Uses up an identifier. Returns whether this was its first use."""
        with self._mutex:
            before = len(self._used)
            self._used.add((kind, jti))
            return len(self._used) > before

    def add_api_token(self, *roles: str) -> str:
        """Creates an SSWS token for the management API, and returns its value, which follows ``SSWS`` in the header.

        - ``roles``: the admin roles of its user; ``SUPER_ADMIN`` if none is given.
        """
        value = f"00{secrets.token_urlsafe(30)}"
        self.api_tokens[value] = ApiToken(value, list(roles or ("SUPER_ADMIN",)), new_id("00u"))
        return value

    def token(self, value: str) -> IssuedToken | None:
        """The token with this value; ``None`` if it was not issued here."""
        with self._mutex:
            return self._tokens.get(value)

    def tokens(self) -> list[IssuedToken]:
        """Every access token issued so far, oldest first."""
        with self._mutex:
            return list(self._tokens.values())

    def id_token(self, value: str) -> IdToken | None:
        """The ID token with this value; ``None`` if it was not issued here."""
        with self._mutex:
            return self._id_tokens.get(value)

    def id_jag(self, value: str) -> IdJag | None:
        """The ID-JAG with this value; ``None`` if it was not issued here."""
        with self._mutex:
            return self._id_jags.get(value)

    def mint(
        self,
        app: App,
        server: AuthorizationServer | None,
        scopes: Sequence[str],
        jkt: str | None,
        *,
        audience: str | None = None,
        subject: Subject | None = None,
    ) -> IssuedToken:
        """Issues an access token to ``app`` with these ``scopes``.

        - ``server``: the custom authorization server; ``None`` for the org's.
        - ``jkt``: binds the token to a DPoP key.
        - ``audience``: its ``aud``, instead of the server's.
        - ``subject``: whom it is for, if that is not ``app`` itself.
        """
        lifetime = self.token_lifetime if server is None or server.token_lifetime is None else server.token_lifetime
        now = self.now()
        subject = subject or Subject(app.client_id)
        token = IssuedToken(
            value="",
            token_type="Bearer" if jkt is None else "DPoP",
            client_id=app.client_id,
            scopes=tuple(scopes),
            issuer=server.id if server else ORG_ISSUER,
            audience=audience or (server.audience if server else self.url),
            jti=f"AT.{secrets.token_urlsafe(32)}",
            issued_at=now,
            expires_at=now + lifetime,
            jkt=jkt,
            subject=subject.name,
            user_id=subject.user_id,
            act=subject.act,
            session=subject.session,
        )
        token.value = sign_access_token(token, self.issuer_url(token.issuer))
        with self._mutex:
            self._tokens[token.value] = token
            self.tokens_minted += 1
        return token

    def issue_id_token(self, account: Account, client_id: str, issuer: str, lifetime: float) -> str:
        """Issues an ID token of ``account`` to a client (OpenID Connect Core, section 2). ``issuer`` is a server's id."""
        now = self.now()
        value = sign_id_token(account, client_id, self.issuer_url(issuer), now, lifetime)
        subject = Subject(account.login, account.id, account.session)
        with self._mutex:
            self._id_tokens[value] = IdToken(client_id, subject, now + lifetime)
        return value

    def issue_id_jag(
        self, app: App, subject: Subject, audience: str, scopes: Sequence[str], resource: str | None
    ) -> IdJag:
        """Issues an ID-JAG to ``app`` for the issuer ``audience``."""
        now = self.now()
        jag = IdJag(
            value="",
            jti=f"IJ.{secrets.token_urlsafe(32)}",
            client_id=app.client_id,
            subject=subject,
            audience=audience,
            scopes=tuple(scopes),
            resource=resource,
            issued_at=now,
            expires_at=now + ID_JAG_LIFETIME,
        )
        jag.value = sign_id_jag(jag, self.url)
        with self._mutex:
            self._id_jags[jag.value] = jag
        return jag
