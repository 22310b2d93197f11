"""The tokens of an org: access tokens, ID tokens and ID-JAGs, and how each is signed.

Invariant: a token is signed with the content of its record, which decides whether it is valid. The token itself is never read.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from joserfc import jws
from joserfc.jwk import RSAKey

ORG_ISSUER = ""
ID_JAG_LIFETIME = 300  # seconds


@lru_cache(maxsize=1)
def signing_key() -> RSAKey:
    """The key that signs access tokens: one per process, because an RSA key is slow to generate."""
    return RSAKey.generate_key(2048, {"kid": secrets.token_urlsafe(32), "use": "sig", "alg": "RS256"}, private=True)


@dataclass(slots=True)
class IssuedToken:
    """An access token that FakeOkta issued. Times are seconds since the epoch on the org's clock.

    - ``value``: the token itself.
    - ``token_type``: ``"Bearer"`` or ``"DPoP"``.
    - ``client_id``: the client id of its app.
    - ``scopes``: its scopes.
    - ``issuer``: the id of the custom authorization server; ``""`` for the org authorization server.
    - ``audience``: its ``aud``.
    - ``jti``: its id.
    - ``issued_at``, ``expires_at``: when it was issued and when it expires, in seconds.
    - ``jkt``: RFC 7638 thumbprint of the DPoP key that it is bound to. Default ``None``, for a Bearer token.
    - ``revoked``: whether it was revoked. Default ``False``.
    - ``subject``: its ``sub``: a user's login, or the client id if it is the app's own.
    - ``user_id``: the user's id; ``None`` (default) for the app's own.
    - ``act``: the apps that act for the subject, as the claim ``act`` names them: the latest has the one before in its own
      ``act``. Default ``None``.
    - ``session``: which of the user's sessions it belongs to. Default 0.
    """

    value: str = field(repr=False)
    token_type: Literal["Bearer", "DPoP"]
    client_id: str
    scopes: tuple[str, ...]
    issuer: str
    audience: str
    jti: str
    issued_at: float
    expires_at: float
    jkt: str | None = None
    revoked: bool = False
    subject: str = ""
    user_id: str | None = None
    act: Mapping[str, Any] | None = None
    session: int = 0


class Account:
    """What the org knows of a user."""

    def __init__(self, id: str, login: str) -> None:
        self.id = id
        self.login = login
        self.status: Literal["ACTIVE", "SUSPENDED"] = "ACTIVE"
        #: Counts the user's sessions. A token of an earlier one cannot be exchanged.
        self.session = 0


class Subject(NamedTuple):
    """Whom a token is for: a user, or an app."""

    #: A user's login, or a client id.
    name: str
    user_id: str | None = None
    session: int = 0
    act: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class IdToken:
    """An ID token that was issued for a user to a client."""

    client_id: str
    subject: Subject
    expires_at: float


@dataclass(slots=True)
class IdJag:
    """An Identity Assertion JWT Authorization Grant that was issued to a client, for the issuer ``audience``."""

    value: str = field(repr=False)
    jti: str
    client_id: str
    subject: Subject
    audience: str
    scopes: tuple[str, ...]
    resource: str | None
    issued_at: float
    expires_at: float


def sign_access_token(token: IssuedToken, issuer: str) -> str:
    """``token`` as a JWT. ``issuer``: the URL of its issuer."""
    claims: dict[str, Any] = {
        "ver": 1,
        "jti": token.jti,
        "iss": issuer,
        "aud": token.audience,
        "sub": token.subject,
        "iat": int(token.issued_at),
        "exp": int(token.expires_at),
        "cid": token.client_id,
        "scp": list(token.scopes),
    }
    if token.user_id is not None:
        claims["uid"] = token.user_id
    if token.act is not None:
        claims["act"] = token.act
    if token.jkt is not None:
        claims["cnf"] = {"jkt": token.jkt}
    return _sign({"typ": "application/okta-internal-at+jwt"} if token.issuer == ORG_ISSUER else {}, claims)


def sign_id_token(account: Account, client_id: str, issuer: str, now: float, lifetime: float) -> str:
    """An ID token of ``account`` for a client (OpenID Connect Core, section 2). ``issuer``: the URL of its issuer."""
    claims = {
        "ver": 1,
        "jti": f"ID.{secrets.token_urlsafe(32)}",
        "iss": issuer,
        "aud": client_id,
        "sub": account.id,
        "iat": int(now),
        "exp": int(now + lifetime),
        "auth_time": int(now),
        "preferred_username": account.login,
    }
    return _sign({}, claims)


def sign_id_jag(jag: IdJag, issuer: str) -> str:
    """``jag`` as a JWT (draft-ietf-oauth-identity-assertion-authz-grant, section 3). ``issuer``: the org's URL."""
    claims: dict[str, Any] = {
        "jti": jag.jti,
        "iss": issuer,
        "sub": jag.subject.user_id or jag.subject.name,
        "aud": jag.audience,
        "client_id": jag.client_id,
        "iat": int(jag.issued_at),
        "exp": int(jag.expires_at),
        "act": jag.subject.act,
    }
    if jag.scopes:
        claims["scope"] = " ".join(jag.scopes)
    if jag.resource is not None:
        claims["resource"] = jag.resource
    return _sign({"typ": "oauth-id-jag+jwt"}, claims)


def _sign(header: Mapping[str, str], claims: Mapping[str, Any]) -> str:
    key = signing_key()
    return jws.serialize_compact({"kid": key.kid, "alg": "RS256", **header}, json.dumps(claims), key)
