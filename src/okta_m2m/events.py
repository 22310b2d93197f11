"""What happens inside, as frozen data that ``ServiceApp(on_event=...)`` is called with.

Invariant: no event holds a token, an assertion, a proof or a key; an event's ``repr`` may go into any log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "AuthorizationKept",
    "ClockCorrected",
    "Event",
    "KeyChanged",
    "KeyPassedOver",
    "OriginPassedOver",
    "RenewalFailed",
    "ScopesReduced",
    "StoreDown",
    "StoreUp",
    "TokenFailed",
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
class TokenFailed:
    """A fetch brought no token: once for each fetch, however many callers waited for it and raise the error.

    ``error`` is its OAuth code, or the name of its class; ``attempts`` counts the requests; ``elapsed`` is in seconds.
    ``background`` says that a token worked meanwhile: then nobody got the error, and :class:`RenewalFailed` follows.
    """

    client_id: str
    error: str
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
class KeyPassedOver:
    """Okta refused a key with that error, and the next configured one is tried. Register it, or take it out."""

    client_id: str
    kid: str | None
    error: str


@dataclass(frozen=True, slots=True)
class KeyChanged:
    """The app signs with another key than before: its file, or wherever its signer has it, was changed."""

    client_id: str
    kid: str | None


@dataclass(frozen=True, slots=True)
class ClockCorrected:
    """Okta's time was found to be so many seconds ahead of (negative: behind) what was taken for it, and is used from now
    on. Set the machine's clock (NTP)."""

    client_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StoreDown:
    """The shared store does not work, so the process fetches tokens of its own. Check the store."""

    client_id: str
    store: str
    reason: str


@dataclass(frozen=True, slots=True)
class StoreUp:
    """The shared store works again."""

    client_id: str
    store: str


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


Event: TypeAlias = (
    TokenObtained
    | TokenFailed
    | RenewalFailed
    | TokenRejected
    | ScopesReduced
    | KeyPassedOver
    | KeyChanged
    | ClockCorrected
    | StoreDown
    | StoreUp
    | OriginPassedOver
    | AuthorizationKept
)
"""Any of them."""
