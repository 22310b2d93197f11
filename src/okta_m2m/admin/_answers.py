"""Reads a response of Okta's management API: its JSON, or the error.

Invariant: only the method, path and origin of a request are shown. A body is never decompressed, and is read up to a limit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import requests

from .._clients.limits import MAX_DRAINED, AnswerBody, check_encoding
from .._core.answers import json_object
from .._core.challenges import challenges
from .._urls.origins import origin_of
from ..effects import SendFailed
from ..errors import quoted
from .errors import (
    InvalidRequest,
    NotFound,
    NotSignedIn,
    OktaUnreachable,
    PermissionMissing,
    ProvisioningError,
    RateLimitTooLong,
    ScopeMissing,
)

MAX_BODY: Final = 8 << 20
"""The maximum number of bytes that are read of a response. A page of 100 apps is much smaller."""

_PERMISSION = (
    "Sign in with an account whose admin role allows it: Application Administrator for apps and their keys; Super "
    "Administrator for grants and roles, and for the keys of an app that has scopes granted."
)


def read_body(response: requests.Response) -> None:
    """Reads the body of a response to a request that was sent with ``stream=True`` and asked for no compression.

    Raises :class:`ProvisioningError` if the body is compressed or too large.
    """
    body = AnswerBody()
    try:
        with response:
            check_encoding(response.headers.get("Content-Encoding", "").split(","))
            for chunk in response.iter_content(MAX_DRAINED):
                body.extend(chunk)
                if len(body) > MAX_BODY:
                    raise SendFailed(f"the response has more than {MAX_BODY >> 20} MiB")
    except SendFailed as error:
        raise ProvisioningError(
            f"{_path(response.url)}: {error}.",
            remedy="Check the org URL, and whether a proxy changes the response.",
            status=response.status_code,
        ) from None
    response._content = body.whole()  # where requests keeps a body that it has read itself


def json_of(response: requests.Response) -> Any:
    """The JSON of a response, ``None`` if it is empty."""
    if not response.content:
        return None
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        raise ProvisioningError(
            f"{_path(response.url)} returned HTTP {response.status_code} with a body that is not JSON.",
            remedy="Check the org URL, and whether there is a proxy or a login page between this machine and Okta.",
            status=response.status_code,
        ) from None


def items_of(document: Any, what: str) -> list[Mapping[str, Any]]:
    """The items of a list. Okta's reference shows keys as an array and, in an example, in ``jwks.keys``: both are
    accepted."""
    if isinstance(document, Mapping):
        document = document.get("jwks", document)
        document = document.get("keys", document) if isinstance(document, Mapping) else document
    if not isinstance(document, list) or not all(isinstance(item, Mapping) for item in document):
        raise ProvisioningError(
            f"Okta's response is not a list of {what}.",
            remedy="Check the org URL, and whether a proxy changes the response.",
        )
    return document


class NotAsDescribed(ProvisioningError):
    """A response that lacks what Okta's API reference promises."""


def not_as_described(what: str) -> NotAsDescribed:
    """The error for a response that lacks what Okta's API reference promises."""
    return NotAsDescribed(
        f"Okta's response does not describe the {what} as its API reference does.",
        remedy="Check whether a proxy changes the response.",
    )


def no_answer(
    method: str, url: str, error: requests.RequestException, attempts: int, repeatable: bool
) -> OktaUnreachable:
    """The error for a call that got no response. ``repeatable``: whether it may be retried automatically."""
    reason = "no response"
    if isinstance(error, requests.exceptions.SSLError):
        reason = "TLS failed"
    if isinstance(error, requests.exceptions.ProxyError):
        reason = "the proxy failed"
    if isinstance(error, requests.exceptions.Timeout):
        reason = "it timed out"
    unsure = "" if repeatable else "Okta may have made the change; it is safe to try again. "
    return OktaUnreachable(
        f"{method} {_path(url)} at {origin_of(url)}: {reason} ({quoted(type(error).__name__, 60)}), after "
        f"{attempts} attempt{'s' if attempts > 1 else ''}.",
        remedy=f"{unsure}Check the org URL, the network, proxy and CA settings, and Okta's status page.",
    )


def refusal(
    method: str, url: str, response: requests.Response, with_token: bool, *, retry_after: float | None = None
) -> ProvisioningError:
    """The error for a response other than 2xx. ``with_token``: whether an SSWS token signs in.

    The code and the reason have one of three formats: that of the management API, that of dynamic registration (RFC
    7591 section 3.2.2), and that of the OAuth filter in front of both (``WWW-Authenticate``, RFC 6750 section 3).
    """
    status = response.status_code
    document = json_object(response.content)
    code, reason, scope = document.get("errorCode"), document.get("errorSummary"), ""
    if code is None:
        code, reason = document.get("error"), document.get("error_description")
    if code is None:
        for challenge in challenges([response.headers.get("WWW-Authenticate", "")]):
            code, reason = challenge.error, challenge.parameters.get("error_description")
            scope = challenge.parameters.get("scope", "")
    causes = _causes(document)
    kind, remedy = _kind_and_remedy(status, code, scope, with_token, retry_after)
    request_id = response.headers.get("X-Okta-Request-Id")
    words = "; ".join(causes) or (quoted(reason) if reason else "")
    words = words if not words or words.endswith((".", "!", "?")) else f"{words}."
    error = kind(
        f"{method} {_path(url)} failed with {quoted(code, 80) if code else 'no code'}: "
        f"{words or 'no reason given.'} "
        f"[HTTP {status}{f', request id {quoted(request_id, 80)}' if request_id else ''}]",
        remedy=remedy,
        status=status,
        error=quoted(code, 80) if code else None,
        error_description=quoted(reason) if reason else None,
        request_id=quoted(request_id, 80) if request_id else None,
        retry_after=retry_after,
    )
    error.causes = causes
    if isinstance(error, ScopeMissing):
        error.scope = quoted(scope, 100)
    return error


def _kind_and_remedy(
    status: int, code: str | None, scope: str, with_token: bool, retry_after: float | None
) -> tuple[type[ProvisioningError], str]:
    if status == 429:
        return RateLimitTooLong, (
            f"Try again in {math.ceil(retry_after or 60)} seconds, or allow a longer wait (max_wait, --max-wait)."
        )
    if code == "E0000015":
        return PermissionMissing, "The org lacks a feature that this needs. Ask Okta's support to turn it on."
    if status == 401:
        return NotSignedIn, (
            "The SSWS token is wrong, was revoked, or expired (30 days without use). Create a new one (Admin Console: "
            "Security > API > Tokens), and check that it belongs to this org."
            if with_token
            else "Okta does not accept the token of the service app that signs in. Check it with: okta-m2m doctor"
        )
    if code == "insufficient_scope":
        return ScopeMissing, (
            f"Grant {quoted(scope, 100) or 'the scope'} to the service app that signs in, and add it to the app's scopes."
        )
    if status == 403:
        return PermissionMissing, _PERMISSION
    if status == 404:
        return NotFound, "Check the id and the org URL. List the apps with: okta-m2m app list"
    if status == 409:
        return InvalidRequest, "It already exists."
    if status == 405:
        return (
            InvalidRequest,
            "This org does not support that operation. Check the org URL, and whether there is a proxy in between.",
        )
    if 300 <= status < 400:
        return OktaUnreachable, (
            "The response is a redirect, which is not followed with credentials. Use Okta's own URL for the org, "
            "without -admin."
        )
    if status >= 500:
        return OktaUnreachable, "Try again, and look at Okta's status page."
    if code in ("invalid_dpop_proof", "use_dpop_nonce"):
        return NotSignedIn, "Check this machine's clock, and whether a proxy rewrites the host or drops headers."
    return InvalidRequest, "Correct what the message names, and try again."


def _causes(document: Mapping[str, Any]) -> tuple[str, ...]:
    causes = document.get("errorCauses")
    return tuple(
        quoted(cause.get("errorSummary"))
        for cause in (causes if isinstance(causes, list) else [])
        if isinstance(cause, dict) and cause.get("errorSummary")
    )


def _path(url: str) -> str:
    return quoted(urlsplit(url).path, 200)
