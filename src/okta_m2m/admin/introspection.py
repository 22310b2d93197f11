"""A token's other two endpoints, and the assertion that opens them: revoke it, ask what it is, sign in by hand.

Invariant: an assertion's ``aud`` is exactly the URL that it is sent to (Okta: "The audience claim for client_assertion must
be the endpoint invoked for the request"), and each is sent once.
"""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import requests

from .._core.clocks import SYSTEM_CLOCK, OktaClock
from .._core.proofs import ClientAssertions
from .._core.tokens import Token, not_picklable
from ..effects import Request, Response
from ..errors import ConfigurationError, RateLimited, TokenUnreachable, UnexpectedAnswer, quoted, refused
from ..keys import Signer
from ..runtimes import Threads, run
from ..settings import check_org_url

__all__ = ["ClientAssertion", "Introspection", "client_assertion", "endpoint_url", "introspect_token", "revoke_token"]

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_CLOCK_TOLERANCE = 3.0  # seconds by which Date must move our clock for a refusal to be put down to it

Endpoint = Literal["token", "revoke", "introspect"]


@dataclass(frozen=True, slots=True)
class ClientAssertion:
    """A signed client assertion (RFC 7523 section 3): good once, until ``exp``, at ``aud``."""

    value: str = field(repr=False)
    header: Mapping[str, Any]
    claims: Mapping[str, Any]

    def __reduce_ex__(self, protocol: object) -> Any:
        not_picklable("A client assertion", "Make one where it is needed.")


@dataclass(frozen=True, slots=True)
class Introspection:
    """What the authorization server says of a token (RFC 7662). ``members``: all that it said, ``active`` among them."""

    active: bool
    members: Mapping[str, Any]

    @property
    def scopes(self) -> tuple[str, ...]:
        scope = self.members.get("scope")
        return tuple(scope.split()) if isinstance(scope, str) else ()


def endpoint_url(org_url: str, endpoint: Endpoint, authorization_server: str | None = None) -> str:
    """The URL of an endpoint of the org's own authorization server, or of a custom one."""
    server = "" if authorization_server is None else f"/{authorization_server}"
    return f"{check_org_url(org_url)}/oauth2{server}/v1/{endpoint}"


def client_assertion(
    client_id: str,
    key: Signer,
    audience: str,
    *,
    lifetime: float = 300.0,
    claims: Mapping[str, Any] | None = None,
    now: float | None = None,
) -> ClientAssertion:
    """A fresh assertion for the endpoint ``audience``, as :func:`endpoint_url` writes it.

    ``lifetime`` in seconds, under one hour; ``claims`` are added, ``None`` takes one away; ``now`` is Okta's time in seconds
    since the epoch, by default this machine's. Raises :class:`~okta_m2m.errors.ConfigurationError`.
    """
    snapshot = getattr(key, "snapshot", None)
    signer: Signer = snapshot() if snapshot is not None else key
    assertions = ClientAssertions(client_id, audience, lifetime=lifetime, claims=claims)
    value = run(assertions.assertion(signer, time.time() if now is None else now), Threads(_sends_nothing))
    header, payload = (json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in value.split(".")[:2])
    return ClientAssertion(value, header, payload)


def revoke_token(
    org_url: str,
    client_id: str,
    key: Signer,
    token: Token | str,
    *,
    authorization_server: str | None = None,
    session: requests.Session | None = None,
    timeout: float = 30.0,
) -> None:
    """Revokes an access token of this client (RFC 7009). Okta says the same of a token that it does not know.

    Raises the :class:`~okta_m2m.errors.TokenError` that fits.
    """
    url = endpoint_url(org_url, "revoke", authorization_server)
    _asked(url, client_id, key, token, session, timeout)


def introspect_token(
    org_url: str,
    client_id: str,
    key: Signer,
    token: Token | str,
    *,
    authorization_server: str | None = None,
    session: requests.Session | None = None,
    timeout: float = 30.0,
) -> Introspection:
    """What the server that minted a token says of it; any other server calls it inactive (RFC 7662).

    Raises the :class:`~okta_m2m.errors.TokenError` that fits.
    """
    url = endpoint_url(org_url, "introspect", authorization_server)
    response = _asked(url, client_id, key, token, session, timeout)
    document = _document(response)
    if not isinstance(document.get("active"), bool):
        raise UnexpectedAnswer(
            f"{url} answered without saying whether the token is active. Check the org URL, and for a proxy in "
            "between.",
            status=response.status_code,
        )
    return Introspection(document["active"], document)


def _asked(
    url: str, client_id: str, key: Signer, token: Token | str, session: requests.Session | None, timeout: float
) -> requests.Response:
    value = (token.value if isinstance(token, Token) else token).strip()
    if not value:
        raise ConfigurationError("The token is empty. Give the whole token.")
    clock = OktaClock(SYSTEM_CLOCK)
    if session is None:
        with requests.Session() as own:
            return _answered(own, url, client_id, key, value, clock, timeout)
    return _answered(session, url, client_id, key, value, clock, timeout)


def _answered(
    session: requests.Session, url: str, client_id: str, key: Signer, value: str, clock: OktaClock, timeout: float
) -> requests.Response:
    response = _sent(session, url, client_id, key, value, clock, timeout)
    moved = clock.learn(response.headers.get("Date"))
    if response.status_code == 401 and abs(moved) > _CLOCK_TOLERANCE:
        response = _sent(session, url, client_id, key, value, clock, timeout)
    if response.status_code == 200:
        return response
    document = _document(response)
    code = document.get("error") or document.get("errorCode")
    said = document.get("error_description") or document.get("errorSummary")
    request_id = response.headers.get("X-Okta-Request-Id")
    if response.status_code == 429:
        raise RateLimited(
            f"{url} is rate limited. Try again in a minute.",
            status=429,
            error=quoted(code, 80) if code else None,
            request_id=quoted(request_id, 80) if request_id else None,
        )
    if response.status_code >= 500 or code is None:
        raise TokenUnreachable(
            f"{url} answered HTTP {response.status_code} without a reason. Check the org URL, and Okta's status page.",
            status=response.status_code,
            request_id=quoted(request_id, 80) if request_id else None,
        )
    raise refused(response.status_code, str(code), str(said) if said else None, request_id)


def _sent(
    session: requests.Session, url: str, client_id: str, key: Signer, value: str, clock: OktaClock, timeout: float
) -> requests.Response:
    assertion = client_assertion(client_id, key, url, now=clock.now())
    form = {
        "token": value,
        "token_type_hint": "access_token",
        "client_assertion_type": _ASSERTION_TYPE,
        "client_assertion": assertion.value,
    }
    try:
        # No auth of the session's own, nor of a .netrc: the assertion is the sign-in, and Okta takes one only.
        return session.post(
            url,
            data=form,
            headers={"Accept": "application/json"},
            auth=lambda request: request,
            timeout=timeout,
            allow_redirects=False,
        )
    except requests.RequestException as error:
        raise TokenUnreachable(
            f"No answer from {url} ({type(error).__name__}). Check the network, proxy and TLS settings, and Okta's "
            "status page."
        ) from None


def _document(response: requests.Response) -> dict[str, Any]:
    try:
        document = response.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _sends_nothing(request: Request, timeout: float) -> Response:
    raise AssertionError("signing sends nothing")
