"""Introspects and revokes tokens, and signs the client assertion that both need.

Invariant: the ``aud`` of an assertion is exactly the URL that it is sent to (Okta: "The audience claim for
client_assertion must be the endpoint invoked for the request"), and each assertion is sent once.
"""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NoReturn

import requests

from .. import Token
from .._base.clocks import SYSTEM_CLOCK, OktaClock
from .._base.crash_reports import without_locals
from .._base.tokens import not_picklable
from .._core.answers import json_object
from .._core.proofs import ClientAssertions
from .._core.revocation import ask_about_token
from ..effects import Request, Response
from ..errors import ConfigurationError, UnexpectedAnswer
from ..keys import Signer
from ..requests import LIBRARY
from ..runtimes import Threads, run
from ..settings import check_org_url

__all__ = [
    "ClientAssertion",
    "Endpoint",
    "Introspection",
    "client_assertion",
    "endpoint_url",
    "introspect_token",
    "revoke_token",
]

Endpoint = Literal["token", "revoke", "introspect"]
"""The endpoints that accept a client assertion."""


@dataclass(frozen=True, slots=True)
class ClientAssertion:
    """A signed client assertion (RFC 7523 section 3).

    - ``value``: the JWT, for the form parameter ``client_assertion``. It can be used once.
    - ``header``: its header, decoded.
    - ``claims``: its claims, decoded: ``aud`` is where it is valid, and ``exp`` is when it expires.
    """

    value: str = field(repr=False)
    header: Mapping[str, Any]
    claims: Mapping[str, Any]

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        not_picklable("A client assertion", "Create one where it is needed.")


@dataclass(frozen=True, slots=True)
class Introspection:
    """An authorization server's response about a token (RFC 7662 section 2.2).

    - ``active``: whether the token is valid now, at this server.
    - ``members``: everything that the server returned, including ``active``.
    """

    active: bool
    members: Mapping[str, Any]


def endpoint_url(org_url: str, endpoint: Endpoint, authorization_server: str | None = None) -> str:
    """The URL of an endpoint of an authorization server.

    - ``org_url``: ``https://acme.okta.com``, or the org's custom domain.
    - ``endpoint``: ``"token"``, ``"revoke"`` or ``"introspect"``.
    - ``authorization_server``: the id of a custom authorization server. Default ``None``, the org authorization server.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for an invalid org URL.
    """
    server = "" if authorization_server is None else f"/{authorization_server}"
    return f"{check_org_url(org_url)}/oauth2{server}/v1/{endpoint}"


@without_locals
def client_assertion(
    client_id: str,
    key: Signer,
    audience: str,
    *,
    lifetime: float = 300.0,
    claims: Mapping[str, Any] | None = None,
    now: float | None = None,
) -> ClientAssertion:
    """Signs a client assertion.

    - ``client_id``: the app that signs in.
    - ``key``: its private key.
    - ``audience``: the URL that the assertion is for, as :func:`endpoint_url` returns it.
    - ``lifetime``: seconds until it expires; less than 3600. Default 300.
    - ``claims``: claims to add or to replace; the value ``None`` removes one. Default ``None``.
    - ``now``: Okta's time, in seconds since the epoch. Default ``None``, this machine's time.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for invalid arguments, and
    :class:`~okta_m2m.errors.SigningFailed` if the key returns no signature.
    """
    snapshot = getattr(key, "snapshot", None)  # for a key that follows a file: the version to sign with
    signer: Signer = key if snapshot is None else snapshot()
    assertions = ClientAssertions(client_id, audience, lifetime=lifetime, claims=claims)
    value = run(assertions.assertion(signer, time.time() if now is None else now), Threads(refuse_to_send))
    header, payload = (json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in value.split(".")[:2])
    return ClientAssertion(value, header, payload)


@without_locals
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
    """Revokes an access token (RFC 7009). Okta's response is the same for a token that it does not know (section 2.2).

    - ``org_url``: ``https://acme.okta.com``, or the org's custom domain.
    - ``client_id``: the app that the token was issued to.
    - ``key``: the private key of that app.
    - ``token``: the token.
    - ``authorization_server``: the id of the custom authorization server that issued the token. Default ``None``, the
      org authorization server.
    - ``session``: a session whose proxies, CA bundle and adapters are used. Default ``None``: a new one, with the
      settings of the environment.
    - ``timeout``: seconds for the signature, and again for the complete response. Default 30.

    Raises a :class:`~okta_m2m.errors.TokenError`, and :class:`~okta_m2m.errors.ConfigurationError` for invalid
    arguments.
    """
    _ask_about_token(endpoint_url(org_url, "revoke", authorization_server), client_id, key, token, session, timeout)


@without_locals
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
    """Asks the authorization server that issued a token about it (RFC 7662). Any other server reports the token as inactive.

    - ``org_url``, ``client_id``, ``key``, ``token``, ``authorization_server``, ``session``: as for :func:`revoke_token`.
    - ``timeout``: seconds for the signature, and again for the complete response. Default 30.

    Raises the same errors as :func:`revoke_token`.
    """
    url = endpoint_url(org_url, "introspect", authorization_server)
    response = _ask_about_token(url, client_id, key, token, session, timeout)
    document = json_object(response.body)
    if not isinstance(document.get("active"), bool):
        raise UnexpectedAnswer(
            f"{url} did not say whether the token is active.",
            remedy="Check the org URL, and whether a proxy changes the response.",
            status=response.status,
        )
    return Introspection(document["active"], document)


def _ask_about_token(
    url: str, client_id: str, key: Signer, token: Token | str, session: requests.Session | None, timeout: float
) -> Response:
    asked = Token((token.value if isinstance(token, Token) else token).strip())
    if not asked.value:
        raise ConfigurationError("The token is empty.", remedy="Pass the complete token.")
    asking = ask_about_token(url, asked, key, ClientAssertions(client_id, url), OktaClock(SYSTEM_CLOCK), timeout)
    return run(asking, Threads(partial(LIBRARY.send, session)))


def refuse_to_send(request: Request, timeout: float) -> Response:
    """Performs no request, for what needs none: signing, and reading the store."""
    raise AssertionError("this sends nothing to Okta")
