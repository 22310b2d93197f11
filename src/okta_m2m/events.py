"""Events as frozen data. An app calls the function in ``ServiceApp(on_event=...)`` with each event.

Every event has a ``client_id``: the client id of its service app.

Invariant: no event holds a token, an assertion, a proof or a key, so its ``repr`` is safe to log.
"""

from __future__ import annotations

from typing import TypeAlias

from ._base.records import PublicRecord

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


class _AppEvent(PublicRecord):
    """What every event has.

    - ``client_id``: the client id of its service app.
    """

    client_id: str


class TokenObtained(_AppEvent):
    """The token endpoint issued a token.

    - ``token_type``: ``"Bearer"`` or ``"DPoP"``.
    - ``scopes``: the granted scopes.
    - ``expires_in``: its lifetime in seconds.
    - ``attempts``: how many token requests were sent.
    - ``elapsed``: seconds that the fetch took, including retries.
    - ``background``: whether a token was still valid during that time, so that no call waited.
    """

    token_type: str
    scopes: tuple[str, ...]
    expires_in: float
    attempts: int
    elapsed: float
    background: bool


class TokenFailed(_AppEvent):
    """A fetch returned no token. Reported once per fetch, no matter how many callers raise its error, but only once a minute
    if the signer fails each time, and not if the fetch repeats an earlier failure without a request.

    - ``error``: the OAuth error code, or the name of the error's class.
    - ``attempts``: how many token requests were sent.
    - ``elapsed``: seconds that the fetch took, including retries.
    - ``background``: whether a token was still valid at first. If so, no call waited for the fetch, and while the token is
      valid, :class:`RenewalFailed` follows.
    """

    error: str
    attempts: int
    elapsed: float
    background: bool


class RenewalFailed(_AppEvent):
    """A renewal failed, while the current token still works.

    - ``error``: the OAuth error code, or the name of the error's class.
    - ``reason``: the error's message.
    - ``next_try_in``: seconds until the next attempt.
    """

    error: str
    reason: str
    next_try_in: float


class TokenRejected(_AppEvent):
    """An API returned 401 for a token that should have been valid. Reported once for each token and origin, no matter how many
    calls used it.

    - ``origin``: the API's origin.
    - ``error``: the error code in ``WWW-Authenticate``; ``None`` if there is none.
    - ``renewing``: whether a new token was requested.
    - ``calls``: how many calls got the 401 so far.
    """

    origin: str
    error: str | None
    renewing: bool
    calls: int


class ScopesReduced(_AppEvent):
    """Okta granted fewer scopes than requested. Okta returns no error for this.

    - ``granted``: the granted scopes.
    - ``missing``: the requested scopes that were not granted.
    """

    granted: tuple[str, ...]
    missing: tuple[str, ...]


class KeyPassedOver(_AppEvent):
    """Okta refused a key, so the next configured key is used. Register the refused key, or remove it.

    - ``kid``: the refused key's ``kid``; ``None`` if it has none.
    - ``error``: the OAuth error code.
    """

    kid: str | None
    error: str


class KeyChanged(_AppEvent):
    """The app now signs with another key, because its key file changed or its signer has a new key.

    - ``kid``: the new key's ``kid``; ``None`` if it has none.
    """

    kid: str | None


class ClockCorrected(_AppEvent):
    """Okta's time differs from this machine's, and is used from now on. Set the machine's clock (NTP).

    - ``seconds``: how far Okta's time is ahead of the time that was used before; negative if it is behind.
    """

    seconds: float


class StoreDown(_AppEvent):
    """The shared store does not work, so the process fetches its own tokens. Check the store.

    - ``store``: the store's ``repr``.
    - ``reason``: what happened.
    """

    store: str
    reason: str


class StoreUp(_AppEvent):
    """The shared store works again.

    - ``store``: the store's ``repr``.
    """

    store: str


class OriginPassedOver(_AppEvent):
    """A request was sent without a token, because its origin is not one of the app's, or because a proxy could have read the
    token. Reported once per origin.

    - ``origin``: the request's origin.
    """

    origin: str


class AuthorizationKept(_AppEvent):
    """A request had its own ``Authorization`` header, which was kept. Reported once per origin.

    - ``origin``: the request's origin.
    """

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
"""Any of these events."""
