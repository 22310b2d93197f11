"""The service app: one client of one authorization server, and its token.

A call that finds a fresh token uses only :meth:`ServiceApp.ready` and starts no flow. Any other call has two flows:
``attach`` before the request is sent, and ``judge`` when the response has arrived. The modules that decide:

    when to fetch, whom to wait for, what to remember    token_state.py
    how a token is fetched, and waited for               fetching.py, conversation.py, fleet.py
    what a call sends                                    bindings.py
    what a response means, and what follows              verdict.py
    where a token may travel                             origins.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Self
from weakref import WeakValueDictionary

from .._base.clocks import SYSTEM_CLOCK, Clock, OktaClock
from .._base.crash_reports import HiddenText, without_locals
from .._base.tokens import Credentials, Token, not_picklable
from .._threads.landings import landing_of, mutex
from .._threads.waiting import wait_here
from .._threads.workers import start
from .._urls.org_url import check_org_url
from .._urls.origins import Origins, origin_of
from ..effects import Attempt, Flow, Response
from ..errors import ConfigurationError
from ..keys import thumbprint
from ..settings import _arguments as arguments
from ..settings import named_store, read_settings
from .bindings import Bindings
from .client_keys import ClientKeys
from .derived_apps import DerivedApps
from .engine import Engine
from .fetching import Fetching
from .fleet import Fleet
from .grants import ClientCredentials
from .politeness import Politeness
from .proofs import ClientAssertions, Nonces
from .reports import Reports
from .revocation import RevocationOnClose
from .token_endpoint import TokenEndpoint
from .token_state import TokenState
from .verdict import judge_response

if TYPE_CHECKING:
    from ..events import Event
    from ..keys import Signer
    from ..stores import Store

SETTLE_TIMEOUT: Final = 1.0
"""Seconds that closing an app gives to its store, and then to log and observers."""

_first_apps: WeakValueDictionary[tuple[object, ...], ServiceApp] = WeakValueDictionary()
"""The first live app with each token endpoint, client id and scopes."""

WATCHED: Final = 64
"""Such apps that are kept at a time: a process with more of them makes apps on purpose, and each would take 386 bytes."""

_reported: set[tuple[object, ...]] = set()
"""The settings of which more than one live app was reported."""


class ServiceApp(arguments.NotAnAuthObject):
    """An Okta OAuth service app, and its current access token.

    Any number of threads, event loops and clients can share one instance.

    - ``org_url``: ``https://acme.okta.com``, or the org's custom domain.
    - ``client_id``: the app's client id.
    - ``key``: the private key whose public half is registered with the app, or a list of keys. If Okta refuses one, the
      next is used. The key's id at Okta is an argument of the key: ``PrivateKey.from_file(path, kid="...")``.
    - ``scopes``: the scopes to request, such as ``okta.users.read``. Default none, which only a custom authorization server
      accepts.
    - ``authorization_server``: ``"default"`` or the id of a custom authorization server. Default ``None``, the org
      authorization server. Only that one grants ``okta.*`` scopes.
    - ``origins``: origins that the token may be sent to. The org itself is always included if the org authorization server
      issues the token. Default none.
    - ``dpop``: ``True``, the default, sends a DPoP proof and accepts both token types; ``"required"`` refuses a Bearer
      token; ``False`` sends no proof. To choose the key that tokens are bound to, pass a signer; it must not be the client's
      own key.
    - ``store``: where processes share the token (:mod:`okta_m2m.stores`). Default ``None``.
    - ``seal_with``: secrets of at least 32 bytes that encrypt the stored token. The first encrypts; all of them can decrypt.
      Default: a secret made from the private key.
    - ``store_timeout``: seconds that one store operation may take, at most 60. Default 0.25.
    - ``resource``: the URL of the one API that the token is for (RFC 8707), at a custom authorization server that requires it:
      the token's ``aud``. Default ``None``: the server's own audience.
    - ``max_subjects``: the number of users, and of resources, whose apps are kept (:meth:`on_behalf_of`, :meth:`cross_app`,
      :meth:`for_resource`). The least recently used is dropped first. Each takes about 2 KB, and its tokens. Default 10000.
    - ``require_all_scopes``: whether a token with fewer scopes than requested is an error. Default ``False``: it is a
      warning.
    - ``max_wait``: seconds that a call may wait for a token, including rate limits; at most a day. Default 30.
    - ``on_event``: called with each :data:`~okta_m2m.events.Event`, in a thread of its own, in order. It may be slow, raise,
      or make calls with this app: no call waits for it longer than 50 ms. Default ``None``.
    - ``assertion_lifetime``: seconds until a client assertion expires, less than 3600. Default 300.
    - ``assertion_claims``: claims to add to the assertion, or to replace; the value ``None`` removes a claim. Default
      ``None``.
    - ``assertion_audience``: the assertion's ``aud``. Default ``None``, the token endpoint's URL.
    - ``htu_origins``: for each origin that a reverse proxy rewrites, the origin that the server behind it sees. Default
      ``None``.
    - ``revoke_on_close``: whether :meth:`close` revokes the token. Cannot be combined with ``store``, because other processes
      use that token. Default ``False``.
    - ``clock``: another clock, for simulations. Default: the system's clocks.
    - ``profile``: ``"fapi"`` requires what the FAPI 2.0 Security Profile requires, and nothing can lower it: DPoP, ES256, https
      everywhere, and clients that verify servers with TLS 1.2 or newer. Default ``None``.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for a setting that cannot work.
    """

    __slots__ = (
        "__weakref__",
        "_derived",
        "_engine",
        "_fetching",
        "_fleet_for",
        "_max_subjects",
        "_revocation",
        "_run",
        "org_url",
        "profile",
        "token_state",
    )

    @without_locals
    def __init__(
        self,
        org_url: str,
        *,
        client_id: str,
        key: Signer | Sequence[Signer],
        scopes: Iterable[str] = (),
        authorization_server: str | None = None,
        origins: Iterable[str] = (),
        dpop: bool | Literal["required"] | Signer = True,
        store: Store | None = None,
        seal_with: Sequence[bytes] = (),
        store_timeout: float = 0.25,
        resource: str | None = None,
        max_subjects: int = 10_000,
        require_all_scopes: bool = False,
        max_wait: float = 30.0,
        on_event: Callable[[Event], None] | None = None,
        assertion_lifetime: float = 300.0,
        assertion_claims: Mapping[str, Any] | None = None,
        assertion_audience: str | None = None,
        htu_origins: Mapping[str, str] | None = None,
        revoke_on_close: bool = False,
        clock: Clock = SYSTEM_CLOCK,
        profile: Literal["fapi"] | None = None,
    ) -> None:
        self.org_url = check_org_url(org_url)
        client_id = arguments.check_client_id(client_id)
        scopes = arguments.check_scopes(scopes, authorization_server)
        max_wait = arguments.check_seconds(max_wait, "max_wait", 86_400, "a day")
        url = self.org_url + arguments.token_path(authorization_server)
        # A token from the org authorization server may always be sent to the org.
        own_origin = [self.org_url] if authorization_server is None else []
        allowed = Origins([*own_origin, *arguments.check_list(origins, "origins")])
        keys = arguments.check_keys(key)
        dpop_key = arguments.check_dpop(dpop, keys)
        self.profile: str | None = arguments.check_profile(
            profile, [self.org_url, *allowed.allowed], keys, dpop, dpop_key
        )
        reports = Reports(client_id, arguments.check_observer(on_event))

        grant = ClientCredentials(scopes, arguments.check_resource(resource))
        assertions = partial(
            ClientAssertions,
            client_id,
            lifetime=assertion_lifetime,
            claims=assertion_claims,
            alg=arguments.FAPI_ALG if self.profile else None,
        )
        endpoint = TokenEndpoint(
            url,
            client_id=client_id,
            assertions=assertions(assertion_audience or url),
            clock=arguments.check_clock(clock),
            max_wait=max_wait,
            dpop_required=dpop == "required" or self.profile is not None,
            require_all_scopes=require_all_scopes,
            okta_clock=OktaClock(clock),
            politeness=Politeness(),
            nonces=Nonces(),
        )
        fleet_for = None
        if store is not None:
            # With a profile, no token of an app without it is used: it may be a Bearer token.
            binding = (str(dpop) if dpop_key is None else thumbprint(dpop_key.public_jwk)) + (self.profile or "")
            fleet_for = partial(
                Fleet, store, endpoint, keys, reports, dpop=binding, seal_with=seal_with, timeout=store_timeout
            )
        bindings = Bindings(endpoint, allowed, dpop_key, htu_origins and arguments.check_htu_origins(htu_origins))

        self.token_state = TokenState(clock.now, allowed, keys, max_wait=max_wait)
        self._engine = Engine(
            self.token_state,
            endpoint,
            grant,
            reports,
            ClientKeys(keys),
            fleet=None if fleet_for is None else fleet_for(grant),
            offers_dpop=dpop is not False,
            bindings=bindings,
            profile=self.profile,
        )
        self._fetching = Fetching(self._engine)
        self._max_subjects = arguments.check_count(max_subjects, "max_subjects")
        self._fleet_for = fleet_for
        self._derived: DerivedApps | None = None
        self._run: Callable[[Flow[Any]], Any] | None = None
        self._revocation: RevocationOnClose | None = None
        if arguments.check_revoke_on_close(revoke_on_close, store):
            self._revocation = RevocationOnClose(self._engine, assertions)
        if store is None:
            self._report_if_made_again(resource)

    def _report_if_made_again(self, resource: str | None) -> None:
        """Reports, once, that another live app has the same settings: both fetch tokens."""
        settings = (self.token_endpoint, self.client_id, frozenset(self.scopes), self._engine.grant)
        first = _first_apps.get(settings)
        if first is None or first.token_state.is_closed:
            if first is not None or len(_first_apps) < WATCHED:
                _first_apps[settings] = self
        elif settings not in _reported and _have_same_keys(first, self):
            _reported.add(settings)
            self._engine.reports.made_again()

    @classmethod
    @without_locals
    def from_env(cls, *, files: bool = True, environ: Mapping[str, str] | None = None, **arguments: Any) -> ServiceApp:
        """The service app that is configured by the settings that Okta's own SDKs read. Each setting comes from the first of
        these places that has it: the arguments, the environment (``OKTA_CLIENT_*``), ``./okta.yaml``, ``~/.okta/okta.yaml``.

        - ``files``: whether to read ``okta.yaml``. Default ``True``.
        - ``environ``: variables to use instead of ``os.environ``. Default ``None``.
        - ``arguments``: any argument of :class:`ServiceApp`. Without ``store``, ``OKTA_M2M_STORE`` names the store where
          processes share the token (:func:`~okta_m2m.stores.store_from_url`).

        Raises :class:`~okta_m2m.errors.ConfigurationError`, which names the setting and where it comes from.
        """
        settings = read_settings(files=files, environ=environ, **arguments)
        own = settings.arguments()
        if own.get("store") is None:
            own["store"] = named_store(environ)
        return cls(**own)

    @property
    def client_id(self) -> str:
        """The app's client id."""
        return self._engine.endpoint.client_id

    @property
    def scopes(self) -> tuple[str, ...]:
        """The requested scopes."""
        return self._engine.grant.scopes

    @property
    def token_endpoint(self) -> str:
        """The URL of the token endpoint."""
        return self._engine.endpoint.url

    @property
    def max_wait(self) -> float:
        """Seconds that a call may wait for a token."""
        return self.token_state.max_wait

    @property
    def origins(self) -> Origins:
        """Where the token may be sent."""
        return self.token_state.origins

    @property
    def keys(self) -> tuple[Signer, ...]:
        """The private keys, as they were passed."""
        return self._engine.keys.signers

    @property
    def fleet(self) -> Fleet | None:
        """The app's side of a shared store; ``None`` without a store."""
        return self._engine.fleet

    # ── before a call ────────────────────────────────────────────────────────────────────────────────────────────

    def ready(self, method: str, url: str) -> Credentials | None:
        """The credentials for a call, if no flow is needed: the token is fresh, and the URL begins with an allowed origin.
        Otherwise ``None``: use :meth:`attach`.

        - ``method``, ``url``: those of the request that will be sent.

        Costs one clock read and one comparison of prefixes; for a bound token, also a signature with a key in memory.
        """
        state = self.token_state
        if state.fresh_until <= state.now() or not url.startswith(state.prefixes):
            return None
        token = state.token
        if token is None:  # another thread has just taken it out of use
            return None
        return self._engine.bindings.credentials_now(method, url, token) if token.dpop_bound else Credentials(token)

    def attach(self, method: str, url: str) -> Flow[Credentials | None]:
        """The credentials for a call. Waits for a token if necessary. If the token must not be sent to that URL, reports that
        and returns ``None``.

        - ``method``, ``url``: those of the request that will be sent.

        Raises a :class:`~okta_m2m.errors.TokenError`; each caller gets its own exception.
        """
        if not self.origins.allow(url):
            self._engine.reports.origin_passed_over(origin_of(url))
            yield from self._engine.reports.settled()
            return None
        token = yield from self._obtain_for(url)
        return (yield from self._engine.credentials(method, url, token))

    def headers(self, method: str, url: str) -> Flow[dict[str, str]]:
        """The headers for a call that no adapter makes (gRPC, a WebSocket, another SDK).

        - ``method``, ``url``: those of the call.

        Raises :class:`~okta_m2m.errors.ConfigurationError` if the token must not be sent to that URL, and a
        :class:`~okta_m2m.errors.TokenError` if there is no token.
        """
        if not self.origins.allow(url):
            raise ConfigurationError(
                f"The token of client {self.client_id} must not be sent to {origin_of(url) or 'that URL'}.",
                remedy="If that is the API it is meant for, add it to origins=[...].",
            )
        token = yield from self._obtain_for(url)
        return (yield from self._engine.credentials(method, url, token)).headers

    def _obtain_for(self, url: str) -> Flow[Token]:
        """A token that the URL's origin has not rejected."""
        origin = self.origins.find(url) if self.token_state.has_rejections() else None
        return self._fetching.fetch_token(origin or "")

    def obtain(self, rejected: Token | None = None) -> Flow[Token]:
        """A usable token: the current one, or a new one. Waits at most ``max_wait`` seconds.

        - ``rejected``: a token that a server rejected, and that this call should replace. The number of such renewals is limited.
          Default ``None``.

        Raises a :class:`~okta_m2m.errors.TokenError`; each caller gets its own exception.
        """
        return self._fetching.fetch_token(rejected=rejected)

    # ── after a call ─────────────────────────────────────────────────────────────────────────────────────────────

    def judge(self, sent: Token, response: Response, *, method: str, url: str, replayable: bool) -> Flow[None]:
        """Judges the response to a call that was sent with a token, and attempts the call again if that helps.

        - ``sent``: the token in the ``Authorization`` header of the request.
        - ``response``: its response.
        - ``method``, ``url``: those of the request; after redirects, those of the last hop.
        - ``replayable``: whether the whole body can be sent again.

        It does nothing if the token is not ours, or if our token must not be sent to the response's origin: a redirect may
        have led there, with other credentials. A token that was requested after the rejection is tried at most once, and so
        is one that was already on its way. For each token, a new nonce and a new proof are each tried once. The caller gets
        the response to the last attempt.
        """
        return judge_response(
            self._engine, self._fetching.fetch_token, sent, response, method=method, url=url, replayable=replayable
        )

    def authorize(self, method: str, url: str, *, replayable: bool) -> Flow[None]:
        """Makes one call with a valid token, for adapters that can send it from within a flow: attach, attempt, judge.

        - ``method``, ``url``: those of the request.
        - ``replayable``: whether the whole body can be sent again.
        """
        credentials = yield from self.attach(method, url)
        if credentials is None:
            yield from Attempt({})
            return
        response = yield from Attempt(credentials.headers, credentials.token)
        yield from self.judge(credentials.token, response, method=method, url=url, replayable=replayable)

    def is_callers_own(self, authorization: str) -> bool:
        """Whether the ``Authorization`` header of a request was set by the caller, and must be kept.

        - ``authorization``: the header's value.

        Returns ``False`` if we set the header before: a request that is sent again, by a retrying middleware for example,
        gets a new one.
        """
        return not self.token_state.is_ours(Token.sent(authorization))

    def report_kept(self, url: str) -> None:
        """Reports that a request was sent with the caller's own ``Authorization`` header.

        - ``url``: the URL of that request.
        """
        self._engine.reports.authorization_kept(origin_of(url))

    def report_proxy(self, url: str, *, is_certain: bool) -> None:
        """Reports a proxy for a plain-http URL of this machine. It could read the token.

        - ``url``: the URL of a call, or the beginning of the URLs of an origin.
        - ``is_certain``: whether a call went through it, and so got no token. Otherwise only the environment sets it.
        """
        origin = origin_of(url)
        if is_certain:
            self._engine.reports.proxied(origin)
        elif origin is not None:
            self._engine.reports.proxy_set(origin)

    # ── for a user, and for one resource ─────────────────────────────────────────────────────────────────────────

    @without_locals
    def on_behalf_of(self, subject_token: str, *, audience: str, scopes: Iterable[str] = ()) -> ServiceApp:
        """The app for one user who called this program's own API: its calls have a token for that user (RFC 8693). Pass it to
        an ``OktaAuth`` for each call, as in ``client.get(url, auth=OktaAuth(app.on_behalf_of(token, audience=...)))``.

        Verify ``subject_token`` first: Okta checks it too, but an API must not act on a token that was not meant for it.

        - ``subject_token``: the user's access token, as the API received it. It is sent only to the token endpoint.
        - ``audience``: the audience of the app's authorization server, which must be a custom one and trust the issuer of
          ``subject_token``.
        - ``scopes``: the scopes to request. Default none.

        The same arguments return the same app while it is kept (``max_subjects``). It has the keys, origins, events and settings
        of this app, and is closed with it. Its token is renewed while ``subject_token`` has not expired, never stored, and not
        revoked by ``revoke_on_close``.

        Raises :class:`~okta_m2m.errors.ConfigurationError` for an argument that cannot work, and
        :class:`~okta_m2m.errors.SubjectRefused` for a string that cannot be a token. Its calls raise the latter if Okta issues no
        token for that user.
        """
        return self._derived_apps().on_behalf_of(subject_token, audience, scopes)

    @without_locals
    def cross_app(
        self, subject_token: str, *, issuer: str, scopes: Iterable[str] = (), resource: str | None = None
    ) -> ServiceApp:
        """The app for one user at another authorization server of the org (Cross App Access). The org authorization server
        exchanges the user's token for an ID-JAG, and the other one exchanges that for an access token.

        - ``subject_token``: the user's ID token or access token.
        - ``issuer``: the issuer of the custom authorization server: ``https://acme.okta.com/oauth2/aus1a2b3c``.
        - ``scopes``: the scopes to request. Default none.
        - ``resource``: the URL of the API that the token is for. Default ``None``.

        For the rest, see :meth:`on_behalf_of`.
        """
        return self._derived_apps().cross_app(subject_token, issuer, scopes, resource)

    @without_locals
    def id_jag(
        self, subject_token: str, *, audience: str, resource: str | None = None, scopes: Iterable[str] = ()
    ) -> str:
        """A new ID-JAG for one user (Identity Assertion JWT Authorization Grant), for an authorization server that is not
        Okta's, or belongs to another org. Sends the request through the ``OktaAuth`` that was created last for this app, and
        blocks; see :meth:`id_jag_async`. It is valid for five minutes, and accepted once.

        - ``subject_token``: the user's ID token or access token.
        - ``audience``: the issuer of the authorization server that will accept the ID-JAG.
        - ``resource``: the URL of the API behind it. Default ``None``.
        - ``scopes``: the scopes to request. Default none.

        Raises :class:`~okta_m2m.errors.ConfigurationError` if no client uses this app, and a
        :class:`~okta_m2m.errors.TokenError` if Okta issues none.
        """
        derived = self._derived_apps()
        if self._run is None:
            raise ConfigurationError(
                "An ID-JAG is requested through a client that uses this app, and there is none.",
                remedy="Create one first, for example okta_m2m.httpx.OktaAuth(app).",
            )
        jag: str = self._run(derived.id_jag(subject_token, audience, resource, scopes))
        return jag

    async def id_jag_async(
        self, subject_token: str, *, audience: str, resource: str | None = None, scopes: Iterable[str] = ()
    ) -> str:
        """:meth:`id_jag` on an event loop: the same ``subject_token``, ``audience``, ``resource`` and ``scopes``."""
        work = partial(self.id_jag, HiddenText(subject_token), audience=audience, resource=resource, scopes=scopes)
        del subject_token
        sending = start(work, "id-jag")
        if sending is None:  # no thread can be started any more
            return work()
        await wait_here(landing_of(sending), float("inf"))
        return sending.result()

    @without_locals
    def for_resource(self, url: str) -> ServiceApp:
        """The app for one resource: the same client, with a token for that resource only (RFC 8707).

        - ``url``: the resource, as ``resource`` of :class:`ServiceApp`. It must also be among ``origins``.

        The same ``url`` returns the same app while it is kept (``max_subjects``). It has the keys, store, events and settings of
        this app, and is closed with it. Its token is not revoked by ``revoke_on_close``.

        Raises :class:`~okta_m2m.errors.ConfigurationError` for a ``url`` that cannot work.
        """
        return self._derived_apps().for_resource(url)

    def _derived_apps(self) -> DerivedApps:
        derived = self._derived
        if derived is None:
            if not self._max_subjects:
                raise ConfigurationError(
                    "This app is for one user or one resource, and makes no other apps.",
                    remedy="Use the ServiceApp that it was made from.",
                )
            made = DerivedApps(self._engine, self.org_url, _derived_app, self._max_subjects, self._fleet_for)
            with mutex():
                derived = self._derived = self._derived or made
        return derived

    # ── closing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def revoke_through(self, run: Callable[[Flow[Any]], Any]) -> None:
        """Called by each adapter with a function that runs a flow; :meth:`close` revokes through the last one, and
        :meth:`id_jag` sends through it.

        - ``run``: runs a flow with threads, and blocks. :meth:`aclose` calls it in a thread.
        """
        self._run = run
        if self._revocation is not None:
            self._revocation.run = run

    def close(self) -> None:
        """Closes the app. From then on, calls that need a token raise an error. Closing it twice has no effect.

        A token that is being saved in the store, and events that are being reported, get a second each for that.

        With ``revoke_on_close``, it revokes the token at Okta (RFC 7009), through the adapter that was created last for
        this app. Calls in progress may then get a 401. If the token cannot be revoked, that is logged as a warning, and the token
        expires by itself. ``with app:`` also closes the app.
        """
        if self._revocation is not None and not self.token_state.is_closed:
            self._revocation.revoke()
        self.forget_token()
        if self._derived is not None:
            self._derived.close()
        if self.fleet is not None:
            self.fleet.settle(SETTLE_TIMEOUT)
        self._engine.reports.close(SETTLE_TIMEOUT)

    def forget_token(self) -> None:
        """Closes the app without waiting for its store, log and observers."""
        self.token_state.close()
        self._engine.bindings.forget_all()

    async def aclose(self) -> None:
        """The same as :meth:`close`, on an event loop. ``async with app:`` also closes the app."""
        closing = start(self.close, "close")
        if closing is None:  # no thread can be started any more
            self.close()
        else:
            await wait_here(landing_of(closing), float("inf"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        if not all(hasattr(self, name) for name in ("org_url", "client_id", "scopes")):
            return "ServiceApp(not made)"  # in a traceback of its own failed creation
        return f"ServiceApp({self.org_url!r}, client_id={self.client_id!r}, scopes={list(self.scopes)!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        not_picklable("A service app", "Create it where it is used, from the same settings.")


def _derived_app(engine: Engine, org_url: str) -> ServiceApp:
    """An app that is derived from another: see :class:`DerivedApps`."""
    made = ServiceApp.__new__(ServiceApp)
    made.org_url = org_url
    made.profile = engine.profile
    made.token_state = engine.state
    made._engine = engine
    made._fetching = Fetching(engine)
    made._max_subjects = 0
    made._derived = made._fleet_for = made._run = made._revocation = None
    return made


def _have_same_keys(one: ServiceApp, other: ServiceApp) -> bool:
    return [getattr(key, "public_jwk", key) for key in one.keys] == [
        getattr(key, "public_jwk", key) for key in other.keys
    ]
