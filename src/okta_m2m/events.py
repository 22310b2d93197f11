"""What happens inside, as frozen data that ``ServiceApp(on_event=...)`` is called with.

Invariant: no event holds a token, an assertion, a proof or a key; an event's ``repr`` may go into any log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "AuthorizationKept",
    "Event",
    "OriginPassedOver",
    "RenewalFailed",
    "ScopesReduced",
    "TokenObtained",
    "TokenRejected",
]


@dataclass(frozen=True, slots=True)
class TokenObtained:
    """The token endpoint issued a token.

    ``expires_in`` and ``elapsed`` (the whole conversation, retries included) are seconds; ``attempts`` counts requests;
    ``background`` says that a token worked meanwhile, so that nobody waited.
    """

    client_id: str
    token_type: str
    scopes: tuple[str, ...]
    expires_in: float
    attempts: int
    elapsed: float
    background: bool


@dataclass(frozen=True, slots=True)
class RenewalFailed:
    """A renewal failed while the token in use still works; the next attempt is in ``next_try_in`` seconds."""

    client_id: str
    error: str
    reason: str
    next_try_in: float


@dataclass(frozen=True, slots=True)
class TokenRejected:
    """A resource server answered 401 to a token that should have been good: once for each token, however many calls had it.

    ``renewing`` says whether a new one was requested; ``calls`` is the number of calls that were answered so until then.
    """

    client_id: str
    origin: str
    error: str | None
    renewing: bool
    calls: int


@dataclass(frozen=True, slots=True)
class ScopesReduced:
    """Okta granted fewer scopes than requested, which it does without an error."""

    client_id: str
    granted: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OriginPassedOver:
    """A request to an origin that is not the token's was sent without it. Reported once per origin."""

    client_id: str
    origin: str


@dataclass(frozen=True, slots=True)
class AuthorizationKept:
    """A request that brought its own ``Authorization`` header was sent as it is. Reported once per origin."""

    client_id: str
    origin: str


Event: TypeAlias = TokenObtained | RenewalFailed | TokenRejected | ScopesReduced | OriginPassedOver | AuthorizationKept
"""Any of them."""
