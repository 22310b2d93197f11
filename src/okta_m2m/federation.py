"""The service app as an identity at clouds and AI services that take a JWT of another issuer instead of a key of their own.

They call it workload identity federation. Each has a library that asks a function for such a token, the *subject token* (RFC
8693 section 2.1), and exchanges it for a token of its own.

Invariant: no policy here. The function gives the app's current token, and none that every cloud refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._clients.httpx_flows import ClientAuth
from ._clients.requests_flows import SessionAuth
from .errors import ConfigurationError, WrongType
from .settings._arguments import kind_of

__all__ = ["subject_token"]

REMEDY = (
    'Create the app with a custom authorization server and without DPoP: ServiceApp(..., authorization_server="default", '
    'dpop=False). At Okta, turn off "Require Demonstrating Proof of Possession" for the app.'
)


def subject_token(auth: Any) -> Callable[[], str]:
    """A function that returns the app's access token as a subject token, for google-auth, botocore, azure-identity, openai,
    anthropic and others. It may be called from any thread, and waits at most the app's ``max_wait`` seconds.

    - ``auth``: an ``OktaAuth`` of a blocking client, such as :class:`okta_m2m.requests.OktaAuth`. Its app needs a custom
      authorization server, because the clouds check the token by the keys that its issuer publishes, and Okta publishes no keys
      for access tokens of the org authorization server. It needs ``dpop=False``, because no cloud takes a bound token.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for an app of the org authorization server. The function raises it for
    a bound token, and otherwise what ``auth.token()`` raises.
    """
    if not isinstance(auth, SessionAuth | ClientAuth):
        raise WrongType(
            f"subject_token needs the OktaAuth of a blocking client, but was given {kind_of(auth)}.",
            remedy="Write: subject_token(okta_m2m.requests.OktaAuth(app))",
        )
    app = auth.app
    if app.token_endpoint == f"{app.org_url}/oauth2/v1/token":
        raise ConfigurationError(
            "No cloud can check a token of the org authorization server, because Okta does not publish its keys.",
            remedy=REMEDY,
        )

    def current() -> str:
        token = auth.token()
        if token.dpop_bound:
            raise ConfigurationError(
                "The token is bound to a key (DPoP), and no cloud takes such a token.", remedy=REMEDY
            )
        return token.value

    return current
