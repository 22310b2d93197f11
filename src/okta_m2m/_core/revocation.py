"""Revokes a token (RFC 7009): the one way, for an app that closes and for an administrator.

Invariant: each assertion is made for the very URL that it is sent to, and is sent once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from ..effects import Flow, Request, Response, Send, SendFailed, Snapshot
from ..errors import RateLimited, TokenUnreachable, quoted, refused
from ..keys import PrivateKey
from .answers import error_of, json_object, request_id
from .proofs import ASSERTION_TYPE, CLOCK_TOLERANCE, FORM_HEADERS, ClientAssertions

if TYPE_CHECKING:
    from ..keys import Signer
    from .clocks import OktaClock

__all__ = ["ask_about_token", "snapshot"]


def snapshot(key: Signer) -> Flow[Signer]:
    """The version of a key to sign with. One that follows a file is read again; a key in memory is its own snapshot."""
    if hasattr(key, "snapshot") and type(key) is not PrivateKey:
        return (yield from Snapshot(key))
    return key


def ask_about_token(
    url: str, value: str, key: Signer, assertions: ClientAssertions, okta_clock: OktaClock, timeout: float
) -> Flow[Response]:
    """The answer of the revocation or introspection endpoint ``url`` about a token; a second attempt on Okta's time, if
    the first was refused because of the clock.

    Raises the :class:`~okta_m2m.errors.TokenError` for any answer but 200.
    """
    key = yield from snapshot(key)
    response = yield from _ask(url, value, key, assertions, okta_clock, timeout)
    if response.status == 401 and abs(okta_clock.learn(response.get("date"))) > CLOCK_TOLERANCE:
        response = yield from _ask(url, value, key, assertions, okta_clock, timeout)
    if response.status == 200:
        return response
    code, description = error_of(json_object(response.body))
    if response.status == 429:
        raise RateLimited(
            f"{url} is rate limited. Try again in a minute.",
            status=429,
            error=quoted(code, 80) if code else None,
            request_id=request_id(response),
        )
    if response.status >= 500 or code is None:
        raise TokenUnreachable(
            f"{url} answered HTTP {response.status} without a reason. Check the org URL, and Okta's status page.",
            status=response.status,
            request_id=request_id(response),
        )
    raise refused(response.status, code, description, response.get("x-okta-request-id"))


def _ask(
    url: str, value: str, key: Signer, assertions: ClientAssertions, okta_clock: OktaClock, timeout: float
) -> Flow[Response]:
    form = {
        "token": value,
        "token_type_hint": "access_token",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": (yield from assertions.assertion(key, okta_clock.now())),
    }
    try:
        return (yield from Send(Request("POST", url, FORM_HEADERS, urlencode(form).encode("ascii")), timeout))
    except (SendFailed, OSError) as failed:  # the latter from a send of the caller's own
        reason = failed if isinstance(failed, SendFailed) else f"{type(failed).__name__}: {failed}"
        raise TokenUnreachable(
            f"No answer from {url} ({quoted(reason)}). Check the network, proxy and TLS settings, and Okta's status page."
        ) from None
