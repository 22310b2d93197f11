"""The rows of the doctor's report: how one is made from a result, from an error, and from an API's response.

Invariant: every row that failed or warns has a remedy; no other row does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal

import requests

from .._core.answers import json_object
from .._core.challenges import challenges
from .._core.conversation import DIAGNOSIS
from ..errors import ConfigurationError, OktaM2MError, RateLimited, SigningFailed, TokenRefused, quoted

State = Literal["ok", "warn", "fail", "skipped"]
"""``ok``: passed. ``warn``: a warning. ``fail``: failed. ``skipped``: could not be checked."""


class Kind(StrEnum):
    """The kind of problem that a row is about. The command has an exit code for each."""

    CONFIGURATION = "configuration"
    UNREACHABLE = "unreachable"
    CLOCK = "clock"
    REFUSED = "refused"
    SCOPE = "scope"
    ROLE = "role"
    RATE_LIMIT = "rate limit"
    SIGNING = "signing"


@dataclass(frozen=True, slots=True)
class Check:
    """One row.

    - ``name``: the subject of the check, in a word or two.
    - ``state``: ``ok``, ``warn``, ``fail``, or ``skipped``.
    - ``detail``: the result of the check.
    - ``remedy``: what to do about it; empty if there is nothing to do.
    - ``kind``: the kind of problem that the row is about, whatever its state.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""
    kind: Kind = Kind.CONFIGURATION


_KINDS: Final[tuple[tuple[type[OktaM2MError], Kind], ...]] = (
    (ConfigurationError, Kind.CONFIGURATION),
    (TokenRefused, Kind.REFUSED),
    (RateLimited, Kind.RATE_LIMIT),
    (SigningFailed, Kind.SIGNING),
)

CONNECTION_ROWS: Final = ("DNS", "proxy", "TCP", "TLS", "discovery", "clock")
"""The names of the rows about the connection to Okta, in order."""

NOT_POSSIBLE: Final = "not possible after the failure above"
"""The detail of a row that depends on a failed one."""

_ROW_KINDS: Final = {
    **dict.fromkeys(CONNECTION_ROWS, Kind.UNREACHABLE),
    "clock": Kind.CLOCK,
    "token": Kind.REFUSED,
    "scopes": Kind.SCOPE,
    "rate limit": Kind.RATE_LIMIT,
    "API call": Kind.ROLE,
}


def row(name: str, state: State, detail: str, remedy: str = "", kind: Kind | None = None) -> Check:
    """The row with a name. ``kind``: by default the one that rows with this name have."""
    return Check(name, state, detail, remedy, kind or _ROW_KINDS.get(name, Kind.CONFIGURATION))


def error_row(name: str, error: OktaM2MError) -> Check:
    """The row for an error. An error that is not in ``_KINDS`` means that the endpoint returned no usable
    response."""
    kind = next((kind for family, kind in _KINDS if isinstance(error, family)), Kind.UNREACHABLE)
    return Check(name, "fail", error.problem, (error.remedy or "").removesuffix(DIAGNOSIS).rstrip(), kind)


def check_answer(name: str, method: str, path: str, response: requests.Response) -> Check:
    """The row about an API's response to a call with the token.

    - ``name``: the name of the row.
    - ``method``, ``path``: those of the call.
    - ``response``: the response.
    """
    status = response.status_code
    detail = f"{method} {quoted(path, 100)}: HTTP {status}"
    if 200 <= status < 300:
        return Check(name, "ok", detail, kind=Kind.ROLE)
    values = [response.headers.get("WWW-Authenticate", "")]
    challenge = next((found for found in challenges(values) if found.error is not None), None)
    code = json_object(response.content).get("errorCode")
    said = challenge.error if challenge is not None and code is None else code
    detail += f" {quoted(said, 60)}" if said else ""
    if challenge is not None and challenge.error == "insufficient_scope":
        scope = quoted(challenge.parameters.get("scope", ""), 100)
        remedy = f"Grant it (okta-m2m app grant {scope}), and add it to the app's scopes."
        return Check(name, "fail", f"{detail}: the scope is missing", remedy, Kind.SCOPE)
    reason, remedy, kind = _reason(status, code, challenged=challenge is not None)
    return Check(name, "fail", f"{detail}{reason}", remedy, kind)


def _reason(status: int, code: Any, *, challenged: bool) -> tuple[str, str, Kind]:
    """The meaning of a refusal, its remedy, and its kind."""
    if code == "E0000006" or (status == 403 and not challenged):
        return (
            ": the scope is granted, but an admin role is missing",
            "Assign one that allows this: okta-m2m app role add (Admin Console: Applications > the app > Admin roles)",
            Kind.ROLE,
        )
    if code == "E0000015":
        return ": the org lacks the feature", "Ask Okta's support to turn it on.", Kind.REFUSED
    if status == 404:
        return "", "Check the path: the API has nothing there.", Kind.REFUSED
    if status == 429:
        return "", "The API's rate limit is used up. Try again in a minute.", Kind.RATE_LIMIT
    if status >= 500:
        return "", "Try again, and look at the API's status page.", Kind.UNREACHABLE
    if status in (400, 401):
        return (
            ": the token is not accepted",
            "Check that the API accepts tokens of this authorization server, and for a proxy that rewrites hosts or "
            "headers.",
            Kind.REFUSED,
        )
    return "", "Check the path, and what the API requires.", Kind.REFUSED
