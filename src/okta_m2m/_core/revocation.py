"""Revokes a token (RFC 7009), when an app is closed or an administrator asks for it.

Invariant: each assertion is made for exactly the URL that it is sent to, and is sent once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .._base.crash_reports import Hidden
from .._threads.landings import fork_listeners
from ..effects import Flow, Response, Send, SendFailed, Wait
from ..errors import OktaM2MError, RateLimited, TokenUnreachable, quoted, refused
from .answers import error_of, json_object, request_id
from .proofs import CLOCK_TOLERANCE, ClientAssertions, signed_request, snapshot

if TYPE_CHECKING:
    from .._base.clocks import OktaClock
    from .._base.tokens import Token
    from ..keys import Signer
    from .engine import Engine

CLOSE_TIMEOUT: Final = 10.0
"""Seconds that closing waits for a token that is being fetched, and then for each step of its revocation: the key file, the
signature, the response."""


def ask_about_token(
    url: str, token: Token, key: Signer, assertions: ClientAssertions, okta_clock: OktaClock, timeout: float
) -> Flow[Response]:
    """The response of the revocation or introspection endpoint ``url`` about a token. If the first attempt is refused
    because of the clock, a second attempt uses Okta's time.

    Raises the :class:`~okta_m2m.errors.TokenError` for any response other than 200.
    """
    key = yield from snapshot(key, timeout)
    response = yield from _ask(url, token, key, assertions, okta_clock, timeout)
    if response.status == 401 and abs(okta_clock.learn(response.get("date"))) > CLOCK_TOLERANCE:
        response = yield from _ask(url, token, key, assertions, okta_clock, timeout)
    if response.status == 200:
        return response
    code, description = error_of(json_object(response.body))
    if response.status == 429:
        raise RateLimited(
            f"{url} is rate limited.",
            remedy="Try again in a minute.",
            status=429,
            error=quoted(code, 80) if code else None,
            request_id=request_id(response),
        )
    if response.status >= 500 or code is None:
        raise TokenUnreachable(
            f"{url} returned HTTP {response.status} without a reason.",
            remedy="Check the org URL, and Okta's status page.",
            status=response.status,
            request_id=request_id(response),
        )
    raise refused(response.status, code, description, response.get("x-okta-request-id"))


def _ask(
    url: str, token: Token, key: Signer, assertions: ClientAssertions, okta_clock: OktaClock, timeout: float
) -> Flow[Response]:
    assertion = yield from assertions.assertion(key, okta_clock.now(), timeout)
    request = Hidden(signed_request(url, {"token": token.value, "token_type_hint": "access_token"}, assertion))
    try:
        return (yield from Send(request.value, timeout))
    except (SendFailed, OSError) as failed:  # OSError is from the caller's own send
        reason = failed if isinstance(failed, SendFailed) else f"{type(failed).__name__}: {failed}"
        raise TokenUnreachable(
            f"No response from {url} ({quoted(reason)}).",
            remedy="Check the network, proxy and TLS settings, and Okta's status page.",
        ) from None


class RevocationOnClose:
    """Revokes an app's last token when the app is closed, through an adapter that uses the app.

    - ``run``: the function with which the app's last adapter runs a flow in a thread; ``None`` until there is one.
    """

    __slots__ = ("__weakref__", "_assertions", "_engine", "_url", "run")

    def __init__(self, engine: Engine, assertions: Callable[[str], ClientAssertions]) -> None:
        self._engine = engine
        self._url = engine.endpoint.url.removesuffix("/token") + "/revoke"
        self._assertions = assertions(self._url)
        self.run: Callable[[Flow[None]], None] | None = None
        fork_listeners.add(self)

    def after_fork(self) -> None:
        """In a forked child, the token belongs to the parent, which will revoke it."""
        self._engine.state.after_fork()

    def revoke(self) -> None:
        """Closes the state and revokes the token, if an adapter uses the app. An error of Okta's or of the key is logged."""
        if self.run is not None:
            self.run(self._revoke())
        else:
            self._engine.reports.not_revoked("no client uses the app")

    def _revoke(self) -> Flow[None]:
        """Revokes the current token, or the one that is being fetched."""
        state, endpoint = self._engine.state, self._engine.endpoint
        flight = state.flight_under_way(state.now())
        if flight is not None:
            yield from Wait(flight.landing, CLOSE_TIMEOUT)
        token, key = state.close(), self._engine.keys.signers[self._engine.keys.accepted]
        if token is None or not token.usable(state.now()):
            return
        try:
            yield from ask_about_token(self._url, token, key, self._assertions, endpoint.okta_clock, CLOSE_TIMEOUT)
        except OktaM2MError as error:
            why = f"HTTP {error.status} {error.error or ''}".rstrip() if error.status else str(error)
            self._engine.reports.not_revoked(why)
        else:
            self._engine.reports.token_revoked()
