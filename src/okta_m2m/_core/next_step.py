"""The next step of a caller: of one that needs a token (``TokenState.next_step()``), and of one whose token was rejected
(``TokenState.rejected()``)."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from .._base.records import Record
from .._base.tokens import Token
from ..errors import TokenRefused
from .flights import Flight


class Use(Record):
    """The token works."""

    token: Token


class UseAndRenew(Record):
    """The token works, and this caller starts the fetch that replaces it."""

    token: Token
    flight: Flight


class Fetch(Record):
    """No token works. This caller starts the fetch, and then waits for it like all others."""

    flight: Flight


class Wait(Record):
    """No token works, and a fetch is in progress: wait for it."""

    flight: Flight


class Refused(Record):
    """Okta refused these keys recently, and it is too early for another request. Raise a ``copy()`` of ``error``."""

    error: TokenRefused


class Closed(Record):
    """The app was closed."""


NextStep: TypeAlias = Use | UseAndRenew | Fetch | Wait | Refused | Closed

CLOSED: Final = Closed()

Rejection: TypeAlias = Literal["renew", "renewed", "kept", "kept again"]
"""The next step of a call after an API rejected its token.

- ``renew``: the call gets a new token; it is the first to report this one.
- ``renewed``: the call gets the current token, or the one that is being fetched.
- ``kept``: the response goes to the caller, because no forced renewal is left; this call is the first to report this
  token.
- ``kept again``: the response goes to the caller.
"""
