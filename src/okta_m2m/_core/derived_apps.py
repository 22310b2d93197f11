"""The apps that a service app makes for its users and for single resources: the same client, each with a token of its own.

At most ``limit`` are kept; the least recently used is dropped first. A dropped app is only no longer found: calls that use it
continue, and it is closed together with the others.

Each has a state, a grant and bindings of its own. Keys, events, origins, endpoints and the DPoP key are those of the app.

Invariant: an app for a user is found only by that user's token, through a keyed digest. That token is in no store, and neither
is one that was obtained with it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from hashlib import blake2b
from math import inf
from secrets import token_bytes
from typing import TYPE_CHECKING
from weakref import WeakSet

from .._threads.landings import mutex
from ..effects import Flow
from ..errors import ConfigurationError
from ..settings import _arguments as arguments
from .conversation import Conversation
from .engine import Engine
from .flights import Flight
from .grants import (
    ACCESS_TOKEN,
    ClientCredentials,
    Grant,
    JwtBearer,
    TokenExchange,
    claims_in,
    expires_at,
    hidden,
    type_of,
)
from .token_state import TokenState

if TYPE_CHECKING:
    from .fleet import Fleet
    from .service_app import ServiceApp
    from .token_endpoint import TokenEndpoint


class DerivedApps:
    """The apps that were made from one service app.

    - ``engine``: that app's.
    - ``org_url``: the org's.
    - ``make``: makes an app from its engine, and the org's URL.
    - ``limit``: the number of apps that are kept.
    - ``fleet_for``: makes the app's side of its store for another grant; ``None`` without a store.
    """

    __slots__ = (
        "_apps",
        "_dropped",
        "_endpoints",
        "_engine",
        "_fleet_for",
        "_keyed",
        "_limit",
        "_make",
        "_org_url",
    )

    def __init__(
        self,
        engine: Engine,
        org_url: str,
        make: Callable[[Engine, str], ServiceApp],
        limit: int,
        fleet_for: Callable[[ClientCredentials], Fleet] | None,
    ) -> None:
        self._engine = engine
        self._org_url = org_url
        self._make = make
        self._limit = limit
        self._fleet_for = fleet_for
        self._apps: dict[Hashable, ServiceApp] = {}
        self._dropped: WeakSet[ServiceApp] = WeakSet()
        self._endpoints: dict[str, TokenEndpoint] = {engine.endpoint.url: engine.endpoint}
        # Copied for each use: to begin with the key each time would be a quarter of its time.
        self._keyed = blake2b(key=token_bytes(32), digest_size=16)

    # ── the apps ─────────────────────────────────────────────────────────────────────────────────────────────────

    def on_behalf_of(self, subject_token: str, audience: str, scopes: Iterable[str]) -> ServiceApp:
        """See :meth:`ServiceApp.on_behalf_of`."""
        key = self._digest(subject_token), audience, _in_key(scopes)
        app = self._find(key)
        return app if app is not None else self._add(key, self._exchange(subject_token, audience, key[2]))

    def cross_app(self, subject_token: str, issuer: str, scopes: Iterable[str], resource: str | None) -> ServiceApp:
        """See :meth:`ServiceApp.cross_app`."""
        key = self._digest(subject_token), issuer, _in_key(scopes), resource
        app = self._find(key)
        return app if app is not None else self._add(key, self._bearer(subject_token, issuer, key[2], resource))

    def for_resource(self, url: str) -> ServiceApp:
        """See :meth:`ServiceApp.for_resource`."""
        app = self._find((url,))
        if app is not None:
            return app
        engine = self._engine
        grant = ClientCredentials(engine.grant.scopes, arguments.check_resource(url))
        fleet = None if self._fleet_for is None else self._fleet_for(grant)
        return self._add((url,), self._derived(engine.endpoint, grant, fleet=fleet))

    def id_jag(self, subject_token: str, audience: str, resource: str | None, scopes: Iterable[str]) -> Flow[str]:
        """A new ID-JAG, from the org authorization server: see :meth:`ServiceApp.id_jag`."""
        return self._obtain_jag(self._jag(subject_token, arguments.check_audience(audience), _in_key(scopes), resource))

    # ── their grants ─────────────────────────────────────────────────────────────────────────────────────────────

    def _exchange(self, subject_token: str, audience: str, scopes: tuple[str, ...]) -> Engine:
        endpoint = self._engine.endpoint
        if endpoint.url == self._org_endpoint_url():
            raise ConfigurationError(
                "on_behalf_of() needs a custom authorization server, and this app uses that of the org.",
                remedy='Create the app with authorization_server="default", or the id of another one.',
            )
        subject = hidden(arguments.check_subject(subject_token))
        grant = TokenExchange(
            arguments.check_scopes(scopes, ""), subject, ACCESS_TOKEN, arguments.check_audience(audience)
        )
        return self._derived(endpoint, grant, expires=expires_at(claims_in(subject)))

    def _bearer(self, subject_token: str, issuer: str, scopes: tuple[str, ...], resource: str | None) -> Engine:
        server = arguments.check_issuer(issuer, self._org_url)
        jag = self._jag(subject_token, issuer, scopes, resource)
        grant = JwtBearer(jag.scopes, self._endpoint_at(self._org_endpoint_url()), jag)
        endpoint = self._endpoint_at(self._org_url + arguments.token_path(server))
        return self._derived(endpoint, grant, expires=expires_at(claims_in(jag.subject_token)))

    def _jag(self, subject_token: str, audience: str, scopes: tuple[str, ...], resource: str | None) -> TokenExchange:
        subject = hidden(arguments.check_subject(subject_token))
        return TokenExchange(
            arguments.check_scopes(scopes, ""),
            subject,
            type_of(claims_in(subject)),
            audience,
            arguments.check_resource(resource),
            requests_jag=True,
        )

    def _obtain_jag(self, grant: TokenExchange) -> Flow[str]:
        engine = self._engine
        if engine.state.is_closed:
            raise engine.endpoint.closed_error()
        flight = Flight(engine.state.now(), engine.state.max_wait, renews=None)
        keys = yield from engine.keys.snapshot(flight.deadline - engine.state.now())
        first = engine.keys.accepted
        conversation = Conversation(
            self._endpoint_at(self._org_endpoint_url()),
            grant,
            [*keys[first:], *keys[:first]],
            flight,
            engine.bindings.proofs if engine.offers_dpop else None,
            engine.reports,
        )
        obtained = yield from conversation.run()
        engine.keys.accepted = (first + obtained.key) % len(keys)
        return obtained.token.value

    # ── their parts ──────────────────────────────────────────────────────────────────────────────────────────────

    def _derived(
        self, endpoint: TokenEndpoint, grant: Grant, *, fleet: Fleet | None = None, expires: float = inf
    ) -> Engine:
        """The engine of another app. ``expires``: when its subject's token does, in Okta's time."""
        engine, state = self._engine, self._engine.state
        renew_until = state.now() + (expires - endpoint.okta_clock.now())
        return Engine(
            TokenState(state.now, state.origins, engine.keys.signers, max_wait=state.max_wait, renew_until=renew_until),
            endpoint,
            grant,
            engine.reports,
            engine.keys,
            fleet=fleet,
            offers_dpop=engine.offers_dpop,
            bindings=engine.bindings.derived(endpoint),
            profile=engine.profile,
        )

    def _org_endpoint_url(self) -> str:
        return self._org_url + arguments.token_path(None)

    def _endpoint_at(self, url: str) -> TokenEndpoint:
        """The endpoint with that URL: one for all apps, so that a rate limit of one holds for all."""
        endpoint = self._endpoints.get(url)
        if endpoint is None:
            endpoint = self._endpoints.setdefault(url, self._engine.endpoint.at(url))
        return endpoint

    # ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────────

    def _digest(self, subject_token: str) -> bytes:
        if not isinstance(subject_token, str):
            arguments.check_subject(subject_token)
        digest = self._keyed.copy()
        # "surrogatepass": the exception for a string that cannot be encoded would hold it.
        digest.update(subject_token.encode("utf-8", "surrogatepass"))
        return digest.digest()

    def _find(self, key: Hashable) -> ServiceApp | None:
        """The app with that key, which is now the one used last."""
        with mutex():
            try:
                app = self._apps[key] = self._apps.pop(key)
            except (KeyError, TypeError):  # it was never made, or was dropped; or an argument is not hashable
                return None
        return None if app.token_state.is_closed else app

    def _add(self, key: Hashable, engine: Engine) -> ServiceApp:
        made = self._make(engine, self._org_url)
        with mutex():
            if self._engine.state.is_closed:
                raise self._engine.endpoint.closed_error()
            first = self._apps.get(key)
            if first is not None and not first.token_state.is_closed:
                return first  # another thread was faster
            self._apps[key] = made
            while len(self._apps) > self._limit:
                self._dropped.add(self._apps.pop(next(iter(self._apps))))
        return made

    def close(self) -> None:
        """Closes all of them, also those that were dropped and are still in use. The app that they were made from is closed."""
        with mutex():
            apps = [*self._apps.values(), *self._dropped]
            self._apps.clear()
        for app in apps:
            app.forget_token()


def _in_key(scopes: Iterable[str]) -> tuple[str, ...]:
    return tuple(scopes if isinstance(scopes, tuple | list) else arguments.check_list(scopes, "scopes"))
