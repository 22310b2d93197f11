"""What happens inside an app, for its log and its observer: one line of the log and one event each.

A line has fields of its own, for whoever reads the log by machine: ``okta_m2m.event``, the class of the event,
``okta_m2m.client_id``, and ``error.code`` and ``okta.request_id`` where there are any.

Invariant: an observer's fault is never the call's, and there is never a line for each call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..errors import OktaM2MError, TokenRefused, quoted

if TYPE_CHECKING:
    from ..events import Event
    from .tokens import Token

__all__ = ["Reports"]

logger = logging.getLogger("okta_m2m")

MAX_ORIGINS_REPORTED: Final = 1000

_NOTHING: Final[frozenset[tuple[str, str]]] = frozenset()  # one for all apps: a process may have very many


class Reports:
    """One app's events. ``on_event`` is called with each :data:`~okta_m2m.events.Event`, in whatever thread it happens."""

    __slots__ = ("_on_event", "_reported", "client_id")

    def __init__(self, client_id: str, on_event: Callable[[Event], None] | None) -> None:
        self.client_id = client_id
        self._on_event = on_event
        self._reported = _NOTHING

    # ── the token ────────────────────────────────────────────────────────────────────────────────────────────────

    def token_obtained(self, token: Token, attempts: int, elapsed: float, background: bool) -> None:
        """The token endpoint issued a token, after so many requests and seconds."""
        self._report(
            logging.INFO,
            "obtained a %s token for client %s: valid for %d s, scopes %s, after %d request(s)",
            (token.token_type, self.client_id, token.expires_in, quoted(" ".join(token.scopes)), attempts),
            "TokenObtained",
            (token.token_type, token.scopes, token.expires_in, attempts, elapsed, background),
        )

    def token_failed(self, error: Exception, attempts: int, elapsed: float, background: bool) -> None:
        """A fetch returned no token, after so many requests and seconds."""
        self._report(
            logging.INFO if background else logging.WARNING,  # the warning of a renewal says when it is tried again
            "no token for client %s, after %d request(s) in %.1f s: %s",
            (self.client_id, attempts, elapsed, _reason(error)),
            "TokenFailed",
            (_code(error), attempts, elapsed, background),
            error,
        )

    def renewal_failed(self, error: Exception, pause: float) -> None:
        """A renewal failed while the token in use works; the next attempt is in ``pause`` seconds."""
        reason = _reason(error)
        self._report(
            logging.WARNING,
            "renewal failed; keeping the current token. Next try in %.1f s: %s",
            (pause, reason),
            "RenewalFailed",
            (_code(error), reason, pause),
            error,
        )

    def retrying(self, trouble: OktaM2MError, attempts: int, pause: float) -> None:
        """An attempt at the token endpoint failed, and there will be another. A line only."""
        message = "no token for client %s yet, after %d request(s); next try in %.1f s: %s"
        logger.info(
            message,
            self.client_id,
            attempts,
            pause,
            trouble.problem,
            extra={"okta_m2m.client_id": self.client_id, **_fields(trouble)},
        )

    def scopes_reduced(self, granted: tuple[str, ...], missing: tuple[str, ...], remedy: str) -> None:
        """Okta granted fewer scopes than requested."""
        self._report(
            logging.WARNING,
            "Okta did not grant client %s these scopes: %s. %s",
            (self.client_id, quoted(" ".join(missing)), remedy),
            "ScopesReduced",
            (granted, missing),
        )

    def token_rejected(self, origin: str, code: str | None, renewing: bool, calls: int) -> None:
        """An API answered 401 to the token in so many calls; ``code`` is the OAuth error that it named."""
        self._report(
            logging.WARNING,
            "%s rejected the token (401 %s) in %d call(s); %s",
            (
                origin,
                code or "without a reason",
                calls,
                "renewing it and retrying once" if renewing else "the caller gets the response",
            ),
            "TokenRejected",
            (origin, code, renewing, calls),
        )

    # ── keys and clocks ──────────────────────────────────────────────────────────────────────────────────────────

    def key_passed_over(self, kid: str | None, refusal: TokenRefused) -> None:
        """Okta refused a key, and the next configured one is tried."""
        self._report(
            logging.WARNING,
            "%s Trying the next configured key.",
            (refusal,),
            "KeyPassedOver",
            (kid, _code(refusal)),
            refusal,
        )

    def key_changed(self, kid: str | None) -> None:
        """A key that is read from a file, or from wherever its signer has it, is another than before."""
        self._report(
            logging.INFO, "client %s now signs with another key, kid %s", (self.client_id, kid), "KeyChanged", (kid,)
        )

    def clock_corrected(self, seconds: float) -> None:
        """Okta's time is so many seconds ahead of what was taken for it."""
        self._report(
            logging.WARNING,
            "Okta's time is %.0f s %s this machine's; using Okta's time. Set this machine's clock (NTP).",
            (abs(seconds), "ahead of" if seconds > 0 else "behind"),
            "ClockCorrected",
            (seconds,),
        )

    # ── the store ────────────────────────────────────────────────────────────────────────────────────────────────

    def store_down(self, store: object, reason: object) -> None:
        """The store does not work, so the process fetches tokens of its own."""
        shown = quoted(reason)
        self._report(
            logging.WARNING,
            "the token store %r does not work, so this process fetches its own tokens until it does: %s. Check the "
            "store. No restart is needed.",
            (store, shown),
            "StoreDown",
            (repr(store), shown),
        )

    def store_up(self, store: object) -> None:
        """The store works again."""
        self._report(logging.WARNING, "the token store %r works again", (store,), "StoreUp", (repr(store),))

    # ── calls without the token ──────────────────────────────────────────────────────────────────────────────────

    def origin_passed_over(self, origin: str | None) -> None:
        """A call to an origin that is not allowed went out without a token; ``None`` for an ambiguous URL."""
        self._report_once(
            "OriginPassedOver", origin, "not an allowed origin", "Add it to origins=[...] if it should be."
        )

    def authorization_kept(self, origin: str | None) -> None:
        """A request had its own ``Authorization`` header, and was sent unchanged."""
        self._report_once(
            "AuthorizationKept", origin, "a request with its own Authorization header", "It was sent unchanged."
        )

    def _report_once(self, event: str, origin: str | None, what: str, remedy: str) -> None:
        origin = origin or "an ambiguous URL"
        if (event, origin) in self._reported or len(self._reported) >= MAX_ORIGINS_REPORTED:
            return
        self._reported |= {(event, origin)}
        self._report(logging.WARNING, "no token sent to %s: %s. %s", (origin, what, remedy), event, (origin,))

    # ── both ways ────────────────────────────────────────────────────────────────────────────────────────────────

    def _report(
        self,
        level: int,
        message: str,
        arguments: tuple[object, ...],
        event: str,
        facts: tuple[object, ...],
        error: Exception | None = None,
    ) -> None:
        """A line of the log, and an event."""
        extra = {"okta_m2m.event": event, "okta_m2m.client_id": self.client_id, **_fields(error)}
        logger.log(level, message, *arguments, extra=extra)
        self.emit(event, *facts)

    def emit(self, event: str, *facts: object) -> None:
        """An event, by the name of its class."""
        if self._on_event is None:
            return
        from .. import events  # dataclasses, which double the time to import this package: only for who observes

        try:
            self._on_event(getattr(events, event)(self.client_id, *facts))
        except Exception as fault:  # noqa: BLE001 (an observer's fault is not the call's)
            logger.warning("on_event raised %s for %s", type(fault).__name__, event)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, OktaM2MError) else quoted(error)


def _code(error: Exception) -> str:
    """The code of an OAuth error, or the class of another."""
    return (error.error if isinstance(error, OktaM2MError) else None) or type(error).__name__


def _fields(error: Exception | None) -> dict[str, Any]:
    if error is None:
        return {}
    fields: dict[str, Any] = {"error.code": _code(error)}
    if isinstance(error, OktaM2MError) and error.request_id is not None:
        fields["okta.request_id"] = error.request_id
    return fields
