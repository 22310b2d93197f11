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


class TokenObtained(PublicRecord):
    """The token endpoint issued a token.

    - ``client_id``: the app's client id.
    - ``token_type``: ``"Bearer"`` or ``"DPoP"``.
    - ``scopes``: the granted scopes.
    - ``expires_in``: its lifetime in seconds.
    - ``attempts``: how many token requests were sent.
    - ``elapsed``: seconds that the fetch took, including retries.
    - ``background``: whether a token was still valid during that time, so that no call waited.
    """

    client_id: str
    token_type: str
    scopes: tuple[str, ...]
    expires_in: float
    attempts: int
    elapsed: float
    background: bool


class TokenFailed(PublicRecord):
    """A fetch returned no token. Reported once per fetch, no matter how many callers raise its error, but only once a minute
    if the signer fails each time, and not if the fetch repeats an earlier failure without a request.

    - ``client_id``: the app's client id.
    - ``error``: the OAuth error code, or the name of the error's class.
    - ``attempts``: how many token requests were sent.
    - ``elapsed``: seconds that the fetch took, including retries.
    - ``background``: whether a token was still valid at first. If so, no call waited for the fetch, and while the token is
      valid, :class:`RenewalFailed` follows.
    """

    client_id: str
    error: str
    attempts: int
    elapsed: float
    background: bool


class RenewalFailed(PublicRecord):
    """A renewal failed, while the current token still works.

    - ``client_id``: the app's client id.
    - ``error``: the OAuth error code, or the name of the error's class.
    - ``reason``: the error's message.
    - ``next_try_in``: seconds until the next attempt.
    """

    client_id: str
    error: str
    reason: str
    next_try_in: float


class TokenRejected(PublicRecord):
    """An API returned 401 for a token that should have been valid. Reported once for each token and origin, no matter how many
    calls used it.

    - ``client_id``: the app's client id.
    - ``origin``: the API's origin.
    - ``error``: the error code in ``WWW-Authenticate``; ``None`` if there is none.
    - ``renewing``: whether a new token was requested.
    - ``calls``: how many calls got the 401 so far.
    """

    client_id: str
    origin: str
    error: str | None
    renewing: bool
    calls: int


class ScopesReduced(PublicRecord):
    """Okta granted fewer scopes than requested. Okta returns no error for this.

    - ``client_id``: the app's client id.
    - ``granted``: the granted scopes.
    - ``missing``: the requested scopes that were not granted.
    """

    client_id: str
    granted: tuple[str, ...]
    missing: tuple[str, ...]


class KeyPassedOver(PublicRecord):
    """Okta refused a key, so the next configured key is used. Register the refused key, or remove it.

    - ``client_id``: the app's client id.
    - ``kid``: the refused key's ``kid``; ``None`` if it has none.
    - ``error``: the OAuth error code.
    """

    client_id: str
    kid: str | None
    error: str


class KeyChanged(PublicRecord):
    """The app now signs with another key, because its key file changed or its signer has a new key.

    - ``client_id``: the app's client id.
    - ``kid``: the new key's ``kid``; ``None`` if it has none.
    """

    client_id: str
    kid: str | None


class ClockCorrected(PublicRecord):
    """Okta's time differs from this machine's, and is used from now on. Set the machine's clock (NTP).

    - ``client_id``: the app's client id.
    - ``seconds``: how far Okta's time is ahead of the time that was used before; negative if it is behind.
    """

    client_id: str
    seconds: float


class StoreDown(PublicRecord):
    """The shared store does not work, so the process fetches its own tokens. Check the store.

    - ``client_id``: the app's client id.
    - ``store``: the store's ``repr``.
    - ``reason``: what happened.
    """

    client_id: str
    store: str
    reason: str


class StoreUp(PublicRecord):
    """The shared store works again.

    - ``client_id``: the app's client id.
    - ``store``: the store's ``repr``.
    """

    client_id: str
    store: str


class OriginPassedOver(PublicRecord):
    """A request was sent without a token, because its origin is not one of the app's, or because a proxy could have read the
    token. Reported once per origin.

    - ``client_id``: the app's client id.
    - ``origin``: the request's origin.
    """

    client_id: str
    origin: str


class AuthorizationKept(PublicRecord):
    """A request had its own ``Authorization`` header, which was kept. Reported once per origin.

    - ``client_id``: the app's client id.
    - ``origin``: the request's origin.
    """

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
"""Any of these events."""
