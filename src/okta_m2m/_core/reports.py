"""Reports what happens inside an app, with one log line each, and mostly one event.

The log record of an event has extra fields, for log processors: ``okta_m2m.event``, the class of the event,
``okta_m2m.client_id``, and ``error.code`` and ``okta.request_id`` if there are any.

Log and observers are notified in a thread of their own (``notifiers.py``).

Invariant: an observer never fails a call, nor delays it for long, and there is never a log line for each call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from .._threads.landings import mutex
from .._threads.notifiers import PATIENCE, Notifier
from .._threads.workers import on_event_loop
from ..effects import Flow, Wait
from ..errors import OktaM2MError, TokenRefused, quoted
from ..events import (
    AuthorizationKept,
    ClockCorrected,
    Event,
    KeyChanged,
    KeyPassedOver,
    OriginPassedOver,
    RenewalFailed,
    ScopesReduced,
    StoreDown,
    StoreUp,
    TokenFailed,
    TokenObtained,
    TokenRejected,
)

if TYPE_CHECKING:
    from .._base.tokens import Token

logger = logging.getLogger("okta_m2m")

MAX_ORIGINS_REPORTED: Final = 1000

NO_PROXY: Final = "Add its host to NO_PROXY, or use https."


class Reports:
    """One app's events. ``on_event`` is called with each :data:`~okta_m2m.events.Event`."""

    __slots__ = ("_notifier", "_on_event", "_rejections", "_reported", "client_id")

    def __init__(self, client_id: str, on_event: Callable[[Event], None] | None) -> None:
        self.client_id = client_id
        self._on_event = on_event
        self._reported: dict[Event, None] = {}
        self._rejections: tuple[Callable[[], None], ...] = ()
        self._notifier = Notifier()

    # ── the token ────────────────────────────────────────────────────────────────────────────────────────────────

    def token_obtained(self, token: Token, attempts: int, elapsed: float, background: bool) -> None:
        """The token endpoint issued a token, after ``attempts`` requests and ``elapsed`` seconds."""
        self.report_rejections()
        self._report(
            logging.INFO,
            "obtained a %s token for client %s: valid for %d s, scopes %s, after %d request(s)",
            (token.token_type, self.client_id, token.expires_in, quoted(" ".join(token.scopes)), attempts),
            TokenObtained(
                self.client_id, token.token_type, token.scopes, token.expires_in, attempts, elapsed, background
            ),
        )

    def token_failed(self, error: Exception, attempts: int, elapsed: float, background: bool) -> None:
        """A fetch returned no token, after ``attempts`` requests and ``elapsed`` seconds."""
        self.report_rejections()
        self._report(
            logging.INFO if background else logging.WARNING,  # the warning about the renewal has the next attempt
            "no token for client %s, after %d request(s) in %.1f s: %s",
            (self.client_id, attempts, elapsed, _with_help(error)),
            TokenFailed(self.client_id, _code(error), attempts, elapsed, background),
            error,
        )

    def renewal_failed(self, error: Exception, pause: float) -> None:
        """A renewal failed while the token in use works; the next attempt is in ``pause`` seconds."""
        self._report(
            logging.WARNING,
            "renewal failed; keeping the current token. Next try in %.1f s: %s",
            (pause, _with_help(error)),
            RenewalFailed(self.client_id, _code(error), _reason(error), pause),
            error,
        )

    def retrying(self, trouble: OktaM2MError, attempts: int, pause: float) -> None:
        """An attempt at the token endpoint failed, and there will be another. Logged only."""
        message = "no token for client %s yet, after %d request(s); next try in %.1f s: %s"
        extra = {"okta_m2m.client_id": self.client_id, **_fields(trouble)}
        self._notifier.notify(logger.info, message, self.client_id, attempts, pause, trouble.problem, extra=extra)

    def lifetime_assumed(self, seconds: float) -> None:
        """The token response has no valid ``expires_in``. Logged only."""
        message = "expires_in is missing from the token response or invalid; assuming %d s"
        self._notifier.notify(logger.warning, message, seconds)

    def scopes_reduced(self, granted: tuple[str, ...], missing: tuple[str, ...], remedy: str) -> None:
        """Okta granted fewer scopes than requested."""
        self._report(
            logging.WARNING,
            "Okta did not grant client %s these scopes: %s. %s",
            (self.client_id, quoted(" ".join(missing)), remedy),
            ScopesReduced(self.client_id, granted, missing),
        )

    def token_rejected(self, origin: str, code: str | None, renewing: bool, calls: Callable[[], int]) -> None:
        """An API returned 401 for the token; ``code`` is its OAuth error. It is reported before the renewal that it causes
        ends, or by :meth:`report_rejections`, because other calls may get the same response: ``calls`` counts them."""

        def report() -> None:
            count = calls()
            what = "renewing it and retrying once" if renewing else "the caller gets the response"
            self._report(
                logging.WARNING,
                "%s rejected the token (401 %s) in %d call(s); %s",
                (origin, code or "without a reason", count, what),
                TokenRejected(self.client_id, origin, code, renewing, count),
            )

        self._rejections = (*self._rejections, report)

    def report_rejections(self) -> None:
        """Reports the rejections that were not reported yet."""
        with mutex():
            rejections, self._rejections = self._rejections, ()
        for report in rejections:
            report()

    def token_revoked(self) -> None:
        """Okta revoked the token of a closed app. Logged only."""
        self._notifier.notify(logger.info, "revoked the token of client %s", self.client_id)

    def not_revoked(self, why: str) -> None:
        """The token of a closed app was not revoked. Logged only."""
        message = "the token of client %s was not revoked: %s. It will expire by itself."
        self._notifier.notify(logger.warning, message, self.client_id, why.rstrip("."))

    def made_again(self) -> None:
        """Another live app of this process has the same settings. Logged only."""
        message = "more than one ServiceApp for client %s: each fetches its own token. Make it once, at module level."
        self._notifier.notify(logger.warning, message, self.client_id)

    # ── keys and clocks ──────────────────────────────────────────────────────────────────────────────────────────

    def key_passed_over(self, kid: str | None, refusal: TokenRefused) -> None:
        """Okta refused a key, so the next configured key is used."""
        self._report(
            logging.WARNING,
            "%s Trying the next configured key.",
            (refusal,),
            KeyPassedOver(self.client_id, kid, _code(refusal)),
            refusal,
        )

    def key_changed(self, kid: str | None) -> None:
        """A key that is read from a file, or that a signer provides, differs from the one before."""
        self._report(
            logging.INFO,
            "client %s now signs with another key, kid %s",
            (self.client_id, quoted(kid, 100)),  # a kid may have any characters
            KeyChanged(self.client_id, kid),
        )

    def key_file_unusable(self, key: object, trouble: str) -> None:
        """The file of a key has no valid key any more. Logged only."""
        message = "client %s: key file %s: %s Keeping the last good key: %r"
        self._notifier.notify(logger.warning, message, self.client_id, getattr(key, "path", None), trouble, key)

    def clock_corrected(self, seconds: float) -> None:
        """Okta's time is ``seconds`` ahead of the time that was used before."""
        self._report(
            logging.WARNING,
            "Okta's time is %.0f s %s this machine's; using Okta's time. Set this machine's clock (NTP).",
            (abs(seconds), "ahead of" if seconds > 0 else "behind"),
            ClockCorrected(self.client_id, seconds),
        )

    # ── the store ────────────────────────────────────────────────────────────────────────────────────────────────

    def store_down(self, store: object, reason: object) -> None:
        """The store does not work, so the process fetches its own tokens."""
        shown = quoted(reason)
        self._report(
            logging.WARNING,
            "the token store %r does not work, so this process fetches its own tokens until it does: %s. Check the "
            "store. No restart is needed.",
            (store, shown),
            StoreDown(self.client_id, repr(store), shown),
        )

    def retrying_store(self, reason: object) -> None:
        """An operation of the store failed, and is tried once more. Logged only."""
        self._notifier.notify(logger.debug, "retrying the token store: %s", quoted(reason))

    def store_up(self, store: object) -> None:
        """The store works again."""
        self._report(logging.WARNING, "the token store %r works again", (store,), StoreUp(self.client_id, repr(store)))

    # ── calls without the token ──────────────────────────────────────────────────────────────────────────────────

    def origin_passed_over(self, origin: str | None) -> None:
        """A call to an origin that is not allowed was sent without a token; ``None`` for an ambiguous URL."""
        self._report_once(OriginPassedOver, origin, "not an allowed origin", "Add it to origins=[...] if it should be.")

    def proxied(self, origin: str | None) -> None:
        """A call to plain HTTP to localhost was sent without a token, because it goes through a proxy."""
        self._report_once(OriginPassedOver, origin, "the call goes through a proxy, which could read it", NO_PROXY)

    def proxy_set(self, origin: str) -> None:
        """The environment sets a proxy for plain HTTP to localhost, and the client does not show what it uses. Logged
        only."""
        message = "the environment sets a proxy for %s, which could read the token of each call. %s"
        self._notifier.notify(logger.warning, message, origin, NO_PROXY)
        self._notifier.settle()

    def authorization_kept(self, origin: str | None) -> None:
        """A request had its own ``Authorization`` header, and was sent unchanged."""
        self._report_once(
            AuthorizationKept, origin, "a request with its own Authorization header", "It was sent unchanged."
        )

    def _report_once(
        self, kind: type[OriginPassedOver | AuthorizationKept], origin: str | None, what: str, remedy: str
    ) -> None:
        event = kind(self.client_id, origin or "an ambiguous URL")
        if event in self._reported or len(self._reported) >= MAX_ORIGINS_REPORTED:
            return
        self._reported[event] = None
        self._report(logging.WARNING, "no token sent to %s: %s. %s", (event.origin, what, remedy), event)

    # ── both ways ────────────────────────────────────────────────────────────────────────────────────────────────

    def _report(
        self,
        level: int,
        message: str,
        arguments: tuple[object, ...],
        event: Event,
        error: Exception | None = None,
    ) -> None:
        """Writes a log line and emits an event."""
        if self._on_event is None and not logger.isEnabledFor(level):
            return
        extra = {"okta_m2m.event": type(event).__name__, "okta_m2m.client_id": self.client_id, **_fields(error)}
        self._notifier.notify(logger.log, level, message, *arguments, extra=extra)
        if self._on_event is not None:
            self._notifier.notify(_observe, self._on_event, event)
        self._notifier.settle()

    def settled(self) -> Flow[None]:
        """Waits a moment on an event loop until log and observers were notified. A thread has already waited."""
        pending = self._notifier.landing
        if pending is not None and on_event_loop():
            yield from Wait(pending, PATIENCE)

    def close(self, seconds: float) -> None:
        """Gives log and observers a bounded time for notifications that are still pending."""
        self._notifier.settle(seconds)


def _observe(on_event: Callable[[Event], None], event: Event) -> None:
    try:
        on_event(event)
    except Exception as fault:  # noqa: BLE001 (no caller can catch it)
        logger.warning("on_event raised %s for %s", type(fault).__name__, type(event).__name__)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, OktaM2MError) else quoted(error)


def _with_help(error: Exception) -> str:
    return f"{error} (see {error.help})" if isinstance(error, OktaM2MError) else quoted(error)


def _code(error: Exception) -> str:
    """The code of an OAuth error, or the class name of any other error."""
    return (error.error if isinstance(error, OktaM2MError) else None) or type(error).__name__


def _fields(error: Exception | None) -> dict[str, Any]:
    if error is None:
        return {}
    fields: dict[str, Any] = {"error.code": _code(error)}
    if isinstance(error, OktaM2MError) and error.request_id is not None:
        fields["okta.request_id"] = error.request_id
    return fields
