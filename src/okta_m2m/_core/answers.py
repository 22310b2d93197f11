"""Reads Okta's responses: the JSON, the error, the token, and when to try again.

Invariant: parsing never fails. A response that is not from an OAuth server counts as empty.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from .._base.clocks import http_date
from .._base.records import Record
from ..effects import Response
from ..errors import quoted

ASSUMED_LIFETIME: Final = 300.0
"""The assumed lifetime in seconds if the response has none: the shortest that can be configured at Okta."""

SHORTEST_LIFETIME: Final = 1.0
"""Seconds. Shorter than any token's lifetime, and not zero, because it is a divisor."""

LONGEST_LIFETIME: Final = 86_400.0
"""Seconds. The longest lifetime that can be configured at Okta (``accessTokenLifetimeMinutes``, 24 hours)."""


class Granted(Record, hidden=("value",)):
    """The content of a successful response: the token's value, and its type: ``Bearer``, ``DPoP``, or ``N_A`` for an assertion,
    which is not for an API."""

    value: str
    token_type: str

    @property
    def dpop_bound(self) -> bool:
        """Whether it is bound to a key."""
        return self.token_type == "DPoP"


def json_object(body: bytes) -> Mapping[str, Any]:
    """The body's JSON object; empty if the body is HTML, empty or anything else."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def error_of(answer: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The code and description of an error in OAuth's format (RFC 6749 section 5.2) or that of Okta's API (``errorCode``)."""
    code = answer.get("error") or answer.get("errorCode")
    description = answer.get("error_description") or answer.get("errorSummary")
    return code if isinstance(code, str) else None, description if isinstance(description, str) else None


def error_code(body: bytes) -> str | None:
    """The error code at the start of a JSON body, in either format; ``None`` if it has none."""
    return error_of(json_object(body))[0]


def request_id(response: Response) -> str | None:
    """Okta's id for the request, made safe to show."""
    found = response.get("x-okta-request-id")
    return None if found is None else quoted(found, 80)


def granted_token(answer: Mapping[str, Any]) -> Granted | None:
    """The token of a 2xx response (RFC 6749 section 5.1); ``None`` if it has none."""
    token_type = answer.get("token_type")
    known = {"bearer": "Bearer", "dpop": "DPoP"}.get(token_type.lower() if isinstance(token_type, str) else "")
    return None if known is None else _granted(answer, known)


def granted_assertion(answer: Mapping[str, Any], issued_type: str) -> Granted | None:
    """The assertion of a 2xx response to a token exchange (RFC 8693 section 2.2.1); ``None`` if it has none of that type."""
    return _granted(answer, "N_A") if answer.get("issued_token_type") == issued_type else None


def _granted(answer: Mapping[str, Any], token_type: str) -> Granted | None:
    value = answer.get("access_token")
    # Only what a header can hold (b64token in RFC 6750 section 2.1, read generously): no line breaks and no spaces.
    is_token = isinstance(value, str) and value and all("!" <= char <= "~" for char in value)
    return Granted(value, token_type) if isinstance(value, str) and is_token else None


def lifetime(expires_in: object) -> tuple[float, bool]:
    """``expires_in`` in seconds, and whether it was assumed: a number in a string is accepted, a number that is too small or too
    large is limited, and anything else becomes :data:`ASSUMED_LIFETIME`."""
    seconds = math.nan
    if isinstance(expires_in, int | float | str) and not isinstance(expires_in, bool):
        try:
            seconds = float(expires_in)
        except (ValueError, OverflowError):
            seconds = math.nan
    if SHORTEST_LIFETIME <= seconds <= LONGEST_LIFETIME:
        return seconds, False
    assumed = min(max(seconds, SHORTEST_LIFETIME), LONGEST_LIFETIME) if seconds > 0 else ASSUMED_LIFETIME
    return assumed, True


def rate_limit_pause(response: Response, okta_now: float) -> float | None:
    """Seconds to wait after a 429; ``None`` if the response gives no time, or reports a concurrency limit.

    The result is the reset time - ``Date`` + 1 s, both from Okta, so this machine's clock does not matter (Okta: rate limits,
    best practices; all of Okta's SDKs). Of several ``X-Rate-Limit-Reset`` headers, the earliest counts. Okta sends no
    ``Retry-After``, but a proxy in front of it may.
    """
    after = retry_after(response, okta_now)
    if after is not None:
        return after
    date = http_date(response.get("date"))
    now = okta_now if date is None else date
    if any(limit.strip() == "0" for limit in response.all("x-rate-limit-limit")):
        return None
    resets = [value.strip() for header in response.all("x-rate-limit-reset") for value in header.split(",")]
    moments = [int(value) for value in resets if value.isdecimal() and len(value) < 12]
    return max(min(moments) - now, 0.0) + 1 if moments else None


def retry_after(response: Response, okta_now: float) -> float | None:
    """Seconds to wait, from ``Retry-After`` (RFC 9110 section 10.2.3); ``None`` without one."""
    after = (response.get("retry-after") or "").strip()
    if after.isdecimal() and len(after) < 10:
        return float(after)
    moment, date = http_date(after), http_date(response.get("date"))
    return None if moment is None else max(moment - (okta_now if date is None else date), 0.0) + 1
