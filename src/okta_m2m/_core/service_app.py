"""The service app: one client of one authorization server, and its token.

A call that finds a fresh token uses only :meth:`ServiceApp.ready` and starts no flow. Any other call has two flows:
``attach`` before the request is sent, and ``judge`` when the response has arrived. The modules that decide:

    when to fetch, whom to wait for, what to remember    token_state.py
    how a token is fetched                               fetching.py, conversation.py, fleet.py
    what a call sends                                    bindings.py
    what a response means                                verdict.py
    where a token may travel                             origins.py
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from sys import intern
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

from ..effects import Attempt, Discard, Flow, Response, Wait
from ..errors import ConfigurationError, RateLimited, TokenUnreachable
from ..keys import thumbprint
from . import arguments, next_step
from .bindings import Bindings, Credentials
from .clocks import SYSTEM_CLOCK, Clock, http_date
from .crash_reports import without_locals
from .fetching import Fetching
from .flights import Failure
from .org_url import check_org_url
from .origins import Origins, origin_of
from .proofs import ClientAssertions
from .reports import Reports
from .token_endpoint import TokenEndpoint
from .token_state import TokenState
from .tokens import Token, not_picklable

if TYPE_CHECKING:
    from ..events import Event
    from ..keys import Signer
    from ..stores import Store
    from .fleet import Fleet
    from .flights import Flight
    from .revocation import RevocationOnClose

__all__ = ["ServiceApp"]


class ServiceApp:
    """An Okta OAuth service app, and its current access token.

    Any number of threads, event loops and clients can share one instance.

    - ``org_url``: ``https://acme.okta.com``, or the org's custom domain.
    - ``client_id``: the app's client id.
    - ``key``: the private key whose public half is registered with the app, or a list of keys. If Okta refuses one, the
      next is used.
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
    - ``require_all_scopes``: whether a token with fewer scopes than requested is an error. Default ``False``: it is a
      warning.
    - ``max_wait``: seconds that a call may wait for a token, including rate limits; at most a day. Default 30.
    - ``on_event``: called with each :data:`~okta_m2m.events.Event`, in the thread where it happens. An exception that it
      raises is logged and has no other effect. Default ``None``.
    - ``assertion_lifetime``: seconds until a client assertion expires, less than 3600. Default 300.
    - ``assertion_claims``: claims to add to the assertion, or to replace; the value ``None`` removes a claim. Default
      ``None``.
    - ``assertion_audience``: the assertion's ``aud``. Default ``None``, the token endpoint's URL.
    - ``htu_origins``: for each origin that a reverse proxy rewrites, the origin that the server behind it sees. Default
      ``None``.
    - ``revoke_on_close``: whether :meth:`close` revokes the token. Cannot be combined with ``store``, because other processes
      use that token. Default ``False``.
    - ``clock``: another clock, for simulations. Default: the system's clocks.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for a setting that cannot work.
    """

    __slots__ = (
        "__weakref__",
        "_endpoint",
        "_fetching",
        "_reports",
        "_revocation",
        "org_url",
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
        require_all_scopes: bool = False,
        max_wait: float = 30.0,
        on_event: Callable[[Event], None] | None = None,
        assertion_lifetime: float = 300.0,
        assertion_claims: Mapping[str, Any] | None = None,
        assertion_audience: str | None = None,
        htu_origins: Mapping[str, str] | None = None,
        revoke_on_close: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        # Strings and tuples that many apps share are kept once: a process may have many apps.
        self.org_url = intern(check_org_url(org_url))
        client_id = arguments.check_client_id(client_id)
        checked_scopes = arguments.check_scopes(scopes, authorization_server)
        max_wait = arguments.check_max_wait(max_wait)
        endpoint_url = intern(self.org_url + arguments.token_path(authorization_server))
        # A token from the org authorization server may always be sent to the org.
        own_origin = [self.org_url] if authorization_server is None else []
        allowed = Origins([*own_origin, *arguments.check_list(origins, "origins")])
        keys = arguments.check_keys(key)
        dpop_key = arguments.check_dpop(dpop, keys)
        self._reports = Reports(client_id, arguments.check_observer(on_event))
        assertions = partial(ClientAssertions, client_id, lifetime=assertion_lifetime, claims=assertion_claims)
        self._endpoint = TokenEndpoint(
            endpoint_url,
            client_id=client_id,
            scopes=checked_scopes,
            assertions=assertions(assertion_audience or endpoint_url),
            clock=arguments.check_clock(clock),
            max_wait=max_wait,
            dpop_required=dpop == "required",
            require_all_scopes=require_all_scopes,
        )
        bindings = None
        if dpop_key is not None or htu_origins is not None:
            bindings = Bindings(self._endpoint, dpop_key, arguments.check_htu_origins(htu_origins or {}))
        self.token_state = TokenState(clock.now, allowed, keys, max_wait=max_wait)
        fleet: Fleet | None = None
        if store is not None:
            from .fleet import Fleet  # imports JOSE's encryption, several times the cost of this whole package

            fleet = Fleet(
                store,
                endpoint=self._endpoint,
                keys=keys,
                dpop=str(dpop) if dpop_key is None else thumbprint(dpop_key.public_jwk),
                seal_with=seal_with,
                timeout=store_timeout,
                reports=self._reports,
            )
        self._fetching = Fetching(
            keys,
            state=self.token_state,
            endpoint=self._endpoint,
            bindings=bindings,
            reports=self._reports,
            offers_dpop=dpop is not False,
            fleet=fleet,
        )
        self._revocation: RevocationOnClose | None = None
        if revoke_on_close:
            if store is not None:
                raise ConfigurationError(
                    "revoke_on_close would revoke the token of every process that shares the store.",
                    remedy="Remove revoke_on_close or store.",
                )
            from .revocation import RevocationOnClose  # saves 2 % of the import time (benchmarks/imports.py)

            self._revocation = RevocationOnClose(
                endpoint_url,
                client_id,
                state=self.token_state,
                fetching=self._fetching,
                okta_clock=self._endpoint.okta_clock,
                assertions=assertions,
            )

    @classmethod
    @without_locals
    def from_env(
        cls,
        *,
        files: bool = True,
        environ: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> ServiceApp:
        """The service app that is configured by the settings that Okta's own SDKs read. Each setting comes from the first of
        these places that has it: the arguments, the environment (``OKTA_CLIENT_*``), ``./okta.yaml``, ``~/.okta/okta.yaml``.

        - ``files``: whether to read ``okta.yaml``. Default ``True``.
        - ``environ``: variables to use instead of ``os.environ``. Default ``None``.
        - ``arguments``: any argument of :class:`ServiceApp`. Without ``store``, ``OKTA_M2M_STORE`` names the store where
          processes share the token (:func:`~okta_m2m.stores.store_from_url`).

        Raises :class:`~okta_m2m.errors.ConfigurationError`, which names the setting and where it comes from.
        """
        # Imported only here: reading settings would add half to the package's import time.
        from ..settings import named_store, read_settings

        settings = read_settings(files=files, environ=environ, **arguments)
        own = settings.arguments()
        if own.get("store") is None:
            own["store"] = named_store(environ)
        return cls(**own)

    # Each value is kept once, where it is used: a process may have many apps.

    @property
    def client_id(self) -> str:
        """The app's client id."""
        return self._endpoint.client_id

    @property
    def scopes(self) -> tuple[str, ...]:
        """The requested scopes."""
        return self._endpoint.scopes

    @property
    def token_endpoint(self) -> str:
        """The URL of the token endpoint."""
        return self._endpoint.url

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
        return self._fetching.keys

    @property
    def fleet(self) -> Fleet | None:
        """The app's side of a shared store; ``None`` without a store."""
        return self._fetching.fleet

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
        return self._fetching.bindings.credentials_now(method, url, token) if token.dpop_bound else Credentials(token)

    def attach(self, method: str, url: str) -> Flow[Credentials | None]:
        """The credentials for a call. Waits for a token if necessary. If the token must not be sent to that URL, reports that
        and returns ``None``.

        - ``method``, ``url``: those of the request that will be sent.

        Raises a :class:`~okta_m2m.errors.TokenError`; each caller gets its own exception.
        """
        if not self.origins.allow(url):
            self._reports.origin_passed_over(origin_of(url))
            return None
        token = yield from self.obtain()
        return (yield from self._credentials(method, url, token))

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
        token = yield from self.obtain()
        return (yield from self._credentials(method, url, token)).headers

    def obtain(self, rejected: Token | None = None) -> Flow[Token]:
        """A usable token: the current one, or a new one. Waits at most ``max_wait`` seconds.

        - ``rejected``: a token that a server rejected, and that this call should replace. The number of such renewals is limited.
          Default ``None``.

        Raises a :class:`~okta_m2m.errors.TokenError`; each caller gets its own exception.
        """
        state = self.token_state
        now = state.now()
        deadline = now + self.max_wait
        if rejected is not None:
            state.rejected(rejected, now)
        while True:
            match state.next_step(now, deadline):
                case next_step.Use(token):
                    return token
                case next_step.UseAndRenew(token, flight):
                    yield from self._fetching.start(flight, deadline)
                    return token
                case next_step.Wait(flight, timeout):
                    yield Wait(
                        flight.landing, timeout
                    )  # not "yield from", which would create a generator for each of many callers
                case next_step.Fetch(flight, timeout):
                    yield from self._fetching.start(flight, deadline)
                    if flight.outcome is None:
                        yield from Wait(flight.landing, timeout)
                case next_step.Refused(error):
                    raise error
                case next_step.Closed():
                    raise ConfigurationError(
                        f"The service app {self.client_id} is closed.",
                        remedy="Create another ServiceApp, or close this one later.",
                    )
            outcome = flight.outcome
            if isinstance(outcome, Token) and (rejected is None or outcome.value != rejected.value):
                return outcome
            now = state.now()
            if isinstance(outcome, Failure) and not self._has_longer(deadline, flight, outcome.error, now):
                raise outcome.copy()
            if now >= deadline:
                raise TokenUnreachable(
                    f"No token within {self.max_wait:g} seconds: the token request is still under way.",
                    remedy="Check the network to Okta, or raise max_wait.",
                )

    def _has_longer(self, deadline: float, flight: Flight, error: Exception, now: float) -> bool:
        """Whether a caller has time for another attempt: the fetch had less time, and failed because of that."""
        if not isinstance(error, RateLimited | TokenUnreachable):
            return False
        if error.retry_after is not None:  # the endpoint asked to wait longer than the fetch could
            return now < self._endpoint.not_before < deadline
        return flight.deadline <= now < deadline

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
        from .verdict import reach_verdict  # saves 6 % of the import time (benchmarks/imports.py)

        state = self.token_state
        if not state.is_ours(sent) or not self.origins.allow(url):
            return
        token, renewed, older_tried, cured = sent, False, False, set[str]()
        origin = origin_of(url)
        from_org = origin == origin_of(self.org_url)
        while True:
            has_new_nonce = token.dpop_bound and self._fetching.bindings.nonces.learn(url, response.get("dpop-nonce"))
            verdict = yield from reach_verdict(
                response, dpop_bound=token.dpop_bound, has_new_nonce=has_new_nonce, from_org=from_org
            )
            nonce = server_time = None
            if verdict.cure is None:
                if renewed and response.status not in (400, 401):
                    state.accepted()
                return
            if verdict.cure == "renew":
                now = state.now()
                rejection = state.rejected(token, now, may_renew=not renewed)
                again = rejection in ("renew", "renewed") and not renewed and replayable
                try:
                    if again:
                        yield from Discard()
                        token = yield from self.obtain()
                        # A token that was requested before the rejection may have been revoked together with the rejected one.
                        renewed, cured = older_tried or token.sent_at >= now, set()
                        older_tried = True
                finally:
                    # Report the token once for all calls that used it, after all of them.
                    if rejection in ("renew", "kept"):
                        self._reports.token_rejected(origin or "", verdict.error, again, state.rejecting_calls)
                if not again:
                    return
            else:
                if verdict.cure == "proof":
                    server_time = self._learn_time(response, from_org)
                else:
                    # Use this response's nonce, not the last one learned, which may be from the response to an earlier
                    # call.
                    nonce = response.get("dpop-nonce")
                if verdict.cure in cured or not replayable:
                    return
                cured.add(verdict.cure)
                yield from Discard()
            credentials = yield from self._credentials(method, url, token, nonce, server_time)
            response = yield from Attempt(credentials.headers, token)

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
        self._reports.authorization_kept(origin_of(url))

    def _credentials(
        self, method: str, url: str, token: Token, nonce: str | None = None, server_time: float | None = None
    ) -> Flow[Credentials]:
        if not token.dpop_bound:
            return Credentials(token)
        return (yield from self._fetching.bindings.credentials(method, url, token, nonce, server_time))

    def _learn_time(self, response: Response, from_org: bool) -> float | None:
        """The server's time, for its next proof. A response from a cache has an old ``Date``."""
        date = None if response.get("age") else response.get("date")
        if date is not None and from_org:
            # A process that got its token from a store may not know Okta's time yet.
            self._endpoint.okta_clock.learn(date)
        return http_date(date)

    # ── closing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def revoke_through(
        self,
        run: Callable[[Flow[None]], None] | None = None,
        run_async: Callable[[Flow[None]], Awaitable[None]] | None = None,
    ) -> None:
        """Called by each adapter with functions that run a flow; :meth:`close` revokes through the last one.

        - ``run``: runs a flow and blocks. Default ``None``: the adapter has none.
        - ``run_async``: runs a flow on an event loop. Default ``None``: the adapter has none.
        """
        if self._revocation is not None:
            self._revocation.run = run or self._revocation.run
            self._revocation.run_async = run_async or self._revocation.run_async

    def close(self) -> None:
        """Closes the app. From then on, calls that need a token raise an error. Closing it twice has no effect.

        With ``revoke_on_close``, it revokes the token at Okta (RFC 7009), through the adapter that was created last for
        this app. Calls in progress may then get a 401. If the token cannot be revoked, that is logged as a warning, and the token
        expires by itself. ``with app:`` also closes the app.
        """
        if self._revocation is not None and not self.token_state.is_closed:
            self._revocation.revoke()
        self.token_state.close()

    async def aclose(self) -> None:
        """The same as :meth:`close`, on an event loop. ``async with app:`` also closes the app."""
        if self._revocation is not None and not self.token_state.is_closed:
            await self._revocation.arevoke()
        self.token_state.close()

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

    if not TYPE_CHECKING:  # a type checker knows that this is not an auth object

        def __call__(self, request: object = None, handler: object = None) -> NoReturn:
            """Called by an HTTP client if it was given the app itself."""
            raise arguments.attached_wrongly("the service app instead of its OktaAuth", request)

        def __len__(self) -> NoReturn:
            """Called by aiohttp if it was given the app as its list of middlewares."""
            raise arguments.attached_wrongly("the service app instead of a list with its OktaAuth", None, "aiohttp")

        def __iter__(self) -> NoReturn:
            """Called by a client if it was given the app as its headers."""
            raise arguments.attached_wrongly("the service app instead of its OktaAuth", None)

        items = __iter__

        def __bool__(self) -> bool:
            return True
