"""What a caller that needs a token does: the answers of ``TokenState.next_step()``."""

from __future__ import annotations

from typing import Final, TypeAlias

from ..errors import TokenRefused
from .flights import Flight
from .records import Record
from .tokens import Token

__all__ = ["CLOSED", "Closed", "Fetch", "NextStep", "Refused", "Use", "UseAndRenew", "Wait"]


class Use(Record):
    """The token works."""

    token: Token


class UseAndRenew(Record):
    """The token works, and the caller that gets this answer starts the fetch that replaces it."""

    token: Token
    flight: Flight


class Fetch(Record):
    """No token works. The caller that gets this answer starts the fetch, and then waits for it like everybody else."""

    flight: Flight
    timeout: float


class Wait(Record):
    """No token works, and a fetch is under way: wait for it, for ``timeout`` seconds at most."""

    flight: Flight
    timeout: float

    def __init__(self, flight: Flight, timeout: float) -> None:
        # Written out, as the effect of that name is: each of very many callers that wait for one token makes both.
        put_flight, put_timeout = self._setters
        put_flight(self, flight)
        put_timeout(self, timeout)


class Refused(Record):
    """Okta refused these keys lately, and is not asked again yet. ``error`` is a pattern: raise its ``copy()``."""

    error: TokenRefused


class Closed(Record):
    """The app was closed."""


NextStep: TypeAlias = Use | UseAndRenew | Fetch | Wait | Refused | Closed

CLOSED: Final = Closed()
