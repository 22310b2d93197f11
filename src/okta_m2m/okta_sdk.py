"""Okta's own SDK with the token of a service app: ``okta.client.Client(sdk_config(app))``.

The SDK (``okta``, 3.4 and newer) sends its requests with aiohttp. Its configuration can name the class that sends them, and
ours adds :class:`okta_m2m.aiohttp.OktaAuth` to each request. Everything else stays the SDK's: its methods, models, paging,
retries and cache.

Invariant: no policy here. One object sends concurrent calls, so it keeps nothing of a call. The placeholder that the SDK
has as its token is never sent. Of the SDK, only what it documents for an ``httpClient`` is used. Of aiohttp, one private
attribute is read, ``ClientSession._middlewares``: aiohttp has no public way to add a middleware for one request to those of
its session.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, ClassVar, Final

from ._clients.auth_object import missing_library
from ._core.service_app import ServiceApp
from .aiohttp import OktaAuth
from .errors import ConfigurationError, OktaM2MError, WrongType, install_command
from .settings._arguments import kind_of

try:
    import aiohttp
    import okta  # pyright: ignore[reportMissingImports]  # has an environment of its own: .ci/okta_environment
    from okta.http_client import HTTPClient  # pyright: ignore[reportMissingImports]  # the same
except ModuleNotFoundError as missing:
    raise missing_library("okta_sdk", missing, extra="okta") from None

__all__ = ["sdk_config"]

OLDEST: Final = (3, 4)
"""The oldest version of the SDK that this module works with."""

PLACEHOLDER: Final = "okta-m2m"
"""What the SDK gets as its token, because it refuses an empty one."""

OWN: Final = {"orgUrl", "authorizationMode", "token", "httpClient"}
"""The settings of the SDK that are made from the app."""


def sdk_config(app: ServiceApp, **more: Any) -> dict[str, Any]:
    """The configuration of Okta's SDK for a service app: ``okta.client.Client(sdk_config(app))``.

    - ``app``: the :class:`~okta_m2m.ServiceApp`, of the org authorization server.
    - ``more``: other settings of the SDK, as its README names them, such as ``requestTimeout`` in seconds, ``cache`` or
      ``proxy``. Token requests use the same proxy. The app's settings replace what the environment and ``okta.yaml`` have.

    Calls share the app's token with all other clients of the app. A revoked token costs no call, and DPoP works. A call that
    cannot get a token raises an :class:`~okta_m2m.errors.OktaM2MError`; the SDK returns all other errors as before.

    Raises :class:`~okta_m2m.errors.ConfigurationError` if the app's token is not for the org, if ``more`` has a setting that is
    made from the app, or if the SDK is older than 3.4.
    """
    if not isinstance(app, ServiceApp):
        raise WrongType(
            f"sdk_config needs a service app, but was given {kind_of(app)}.", remedy="Write: Client(sdk_config(app))"
        )
    if tuple(map(int, re.findall(r"\d+", okta.__version__)[:2])) < OLDEST:  # a preview's is 4.0b1
        raise ConfigurationError(
            f"sdk_config needs version 3.4 of Okta's SDK or a newer one, and {okta.__version__} is installed.",
            remedy=f"Install it: {install_command('okta')}",
        )
    if not app.origins.allow(app.org_url):
        raise ConfigurationError(
            "Okta's SDK calls the org, and the tokens of this app are for the APIs of a custom authorization server.",
            remedy="Pass an app without authorization_server.",
        )
    if twice := sorted(OWN & more.keys()):
        raise ConfigurationError(
            f"sdk_config makes {', '.join(twice)} from the app.", remedy=f"Remove {', '.join(twice)}: sdk_config(app)"
        )
    client = type("OktaM2MClient", (_TokenClient,), {"app": app})
    return {
        "orgUrl": app.org_url,
        "authorizationMode": "Bearer",
        "token": PLACEHOLDER,
        "httpClient": client,
        **more,
    }


class _TokenClient(HTTPClient):  # type: ignore[misc]  # Any, because the SDK has an environment of its own
    """Sends the SDK's requests with the token of ``app``. The SDK creates one object for each of its clients."""

    app: ClassVar[ServiceApp]

    def __init__(self, http_config: Mapping[str, Any]) -> None:
        super().__init__({**http_config, "headers": _without_placeholder(http_config["headers"])})
        self._callers_session: aiohttp.ClientSession | None = None
        self._auth = cache(partial(_auth_through, self.app))

    def set_session(self, session: Any) -> None:
        """Called by the SDK's user, and by the SDK in ``async with``."""
        super().set_session(session)
        self._callers_session = session

    async def send_request(self, request: dict[str, Any]) -> Any:
        """Called by the SDK for each attempt at a call."""
        if self._callers_session is None:
            async with aiohttp.ClientSession() as session:
                return await self._send(session, request)
        return await self._send(self._callers_session, request)

    async def _send(self, session: aiohttp.ClientSession, request: dict[str, Any]) -> Any:
        call = copy.copy(self)  # the SDK sends all calls through one object, and only this one has that session
        call.set_session(_TokenSession(session, self._auth))
        sent = await HTTPClient.send_request(call, {**request, "headers": _without_placeholder(request["headers"])})
        # The SDK returns an error of aiohttp, as ours are too. Some of its methods then look for a response, and raise an
        # AttributeError about None.
        if isinstance(sent[-1], OktaM2MError):
            raise sent[-1]
        return sent


class _TokenSession:
    """The session of the SDK's user, or the SDK's own, with our middleware for each request."""

    def __init__(self, session: aiohttp.ClientSession, auth: Callable[[str | None], OktaAuth]) -> None:
        self._session = session
        self._auth = auth

    def request(self, **options: Any) -> Any:
        """Called by the SDK, which passes its proxy with each request."""
        # Middlewares of a request replace those of its session, so these are passed along. The last is the innermost.
        middlewares: Any = (*self._session._middlewares, self._auth(options.get("proxy")))
        return self._session.request(**options, middlewares=middlewares)


def _auth_through(app: ServiceApp, proxy: str | None) -> OktaAuth:
    """Sends token requests through the SDK's proxy."""
    return OktaAuth(app, session=partial(aiohttp.ClientSession, proxy=proxy) if proxy else None)


def _without_placeholder(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers without the SDK's own ``Authorization``. It is recognized by the placeholder, because the SDK also writes
    ``Bearerokta-m2m``. Any other ``Authorization`` is the user's, and stays."""
    return {
        name: value
        for name, value in headers.items()
        if name.lower() != "authorization" or not value.endswith(PLACEHOLDER)
    }
