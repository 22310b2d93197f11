"""The doctor's row about an API call. It distinguishes a missing scope from a missing admin role."""

from __future__ import annotations

from typing import Any

import requests

from .._core.answers import json_object
from .._core.challenges import challenges
from ..errors import quoted
from ._doctor_rows import Check, Kind

__all__ = ["check_answer"]


def check_answer(name: str, method: str, path: str, response: requests.Response) -> Check:
    """The row about an API's response to a call with the token.

    - ``name``: the name of the row.
    - ``method``, ``path``: those of the call.
    - ``response``: the response.
    """
    status = response.status_code
    detail = f"{method} {quoted(path, 100)}: HTTP {status}"
    if 200 <= status < 300:
        return Check(name, "ok", detail, "", Kind.ROLE)
    values = [response.headers.get("WWW-Authenticate", "")]
    challenge = next((found for found in challenges(values) if found.error is not None), None)
    code = json_object(response.content).get("errorCode")
    said = challenge.error if challenge is not None and code is None else code
    detail += f" {quoted(said, 60)}" if said else ""
    if challenge is not None and challenge.error == "insufficient_scope":
        scope = quoted(challenge.parameters.get("scope", ""), 100)
        return Check(
            name,
            "fail",
            f"{detail}: the scope is missing",
            f"Grant it (okta-m2m app grant {scope}), and add it to the app's scopes.",
            Kind.SCOPE,
        )
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
