"""What happens inside an app, for its log and its observer.

Invariant: an observer's fault is never the call's, and what is said of an origin is said once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..events import Event

__all__ = ["Reports"]

logger = logging.getLogger("okta_m2m")

MAX_ORIGINS_REPORTED: Final = 1000

_NOTHING: Final[frozenset[tuple[str, str]]] = frozenset()  # one for all apps: a process may have very many


class Reports:
    """One app's events. ``on_event`` is called with each :data:`~okta_m2m.events.Event`, in whatever thread it happens."""

    __slots__ = ("_client_id", "_on_event", "_reported")

    def __init__(self, client_id: str, on_event: Callable[[Event], None] | None) -> None:
        self._client_id = client_id
        self._on_event = on_event
        self._reported = _NOTHING

    def emit(self, event: str, *facts: object) -> None:
        """An event, by the name of its class."""
        if self._on_event is None:
            return
        from .. import events  # dataclasses, which double the time to import this package: only for who observes

        try:
            self._on_event(getattr(events, event)(self._client_id, *facts))
        except Exception as error:  # noqa: BLE001 (an observer's fault is not the call's)
            logger.warning("okta-m2m: on_event raised %s for %s", type(error).__name__, event)

    def origin_passed_over(self, origin: str | None) -> None:
        """A call to an origin that is not allowed went out without a token; ``None`` for an ambiguous URL."""
        self._report_once(
            "OriginPassedOver", origin, "not an allowed origin", "Name it in origins=[...] if it should be."
        )

    def authorization_kept(self, origin: str | None) -> None:
        """A request had its own ``Authorization`` header, and was sent as it is."""
        self._report_once(
            "AuthorizationKept", origin, "a request with its own Authorization header", "It was sent as it is."
        )

    def token_rejected(self, origin: str, code: str | None, renewing: bool, calls: int) -> None:
        """An API answered 401 to the token in so many calls; ``code`` is the OAuth error that it named."""
        logger.warning(
            "okta-m2m: %s rejected the token (401 %s) in %d call(s); %s",
            origin,
            code or "without a reason",
            calls,
            "renewing it and trying once more" if renewing else "the caller gets the answer",
        )
        self.emit("TokenRejected", origin, code, renewing, calls)

    def _report_once(self, event: str, origin: str | None, what: str, remedy: str) -> None:
        origin = origin or "a URL that can be read in two ways"
        if (event, origin) in self._reported or len(self._reported) >= MAX_ORIGINS_REPORTED:
            return
        self._reported |= {(event, origin)}
        logger.warning("okta-m2m: no token sent to %s: %s. %s", origin, what, remedy)
        self.emit(event, origin)
