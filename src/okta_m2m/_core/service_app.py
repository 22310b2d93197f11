"""The service app: all policy about its one token, written once, in flows.

A call that finds a fresh token asks :meth:`ServiceApp.ready` and starts no flow. Everybody else runs ``obtain`` or
``authorize`` through a runtime. What is remembered lies behind one mutex that is held for instants; the hit reads the
token in use without it, in an order in which what it sees is good.

    no usable token          one leader fetches, the others wait for its flight
    about 80 % spent         one flight renews in the background; everybody keeps using the token meanwhile
    renewal failed           a warning, a back-off, and the token in use goes on
    refused by Okta          remembered for a short, growing time, per version of the keys
    rejected by an API       renewed and replayed once; the next forced renewals are spaced

Invariant: at most one flight is in the air, and nobody waits for a renewal while a token works.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from hashlib import sha256
from sys import intern
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Self
from urllib.parse import urlencode

from ..effects import Attempt, Discard, Flow, Peek, Request, Response, Send, SendFailed, Snapshot, Spawn, Wait
from ..errors import (
    ConfigurationError,
    OktaM2MError,
    RateLimited,
    TokenRefused,
    TokenUnreachable,
    quoted,
)
from ..keys import PrivateKey, thumbprint
from .clocks import NEVER, SYSTEM_CLOCK, Clock, http_date
from .flights import ABANDONED, Failure, Flight, Flights, Outcome, fork_listeners
from .origins import Origins, as_sent, origin_of
from .proofs import ClientAssertions, DPoPProofs, Nonces, okta_htu, rfc_htu
from .records import Record
from .tokens import Token, not_picklable

if TYPE_CHECKING:
    from ..events import Event
    from ..keys import Signer
    from ..stores import Store
    from .fleet import Fleet

__all__ = ["Ready", "ServiceApp"]

logger = logging.getLogger("okta_m2m")

RENEWAL_SHARE: Final = (0.72, 0.82)
"""The part of a token's life after which it is renewed: anywhere in between, so that a fleet does not march in step."""

RENEWAL_SHARE_OF_MANY: Final = (0.93, 0.95)
"""The same where a token is shared. The first of many to find it due renews it for all, so that is close to the lower
end; and where all of them can try, it takes less time to be sure that one succeeds. Of an hour four minutes are left,
as with most SDKs, and a fleet asks at most 1.1 times for each life of a token."""

RENEWAL_STEPS: Final = 4096
"""The moments of renewal that a token's life is divided into, so that apps which renew at the same one share its float:
a hit reads it, and where there are very many apps, each object more is one more wait for memory."""

OVERDUE: Final = 2.0
"""Seconds after its deadline at which a flight that has not landed is given up: its event loop is gone."""

ABANDONED_PAUSE: Final = 0.25
"""Seconds until a renewal whose leader was cancelled is taken up by the next call; the token works meanwhile."""

OTHERS_PAUSE: Final = 1.0
"""Seconds until a renewal that another process has begun is looked for in the store."""

FIRST_REFUSAL: Final = 1.0
LONGEST_REFUSAL: Final = 60.0
"""Seconds for which a refusal is repeated without asking again: doubled from one to the next."""

FIRST_SPACING: Final = 5.0
LONGEST_SPACING: Final = 60.0
"""Seconds between forced renewals while renewed tokens keep being rejected (a wrong audience is not cured by another)."""

PEEKED: Final = 4096
"""Bytes of a 401's body by which it is judged."""

MOST_ORIGINS_TOLD: Final = 1000

MOST_FORMER: Final = 16
"""Tokens of ours that are known as such when they are met again on a request, and those that an API rejected."""

LAST_WORDS: Final = 10.0
"""Seconds for which closing waits for a token that is being fetched, and again for the answer to its revocation."""

# Each app has one of these: a process may speak for very many.
_NOTHING_TOLD: Final[frozenset[tuple[str, str]]] = frozenset()
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

_shared = lru_cache(maxsize=512)(float)  # as many as the span in which the renewals of now fall has steps

_SCOPE = r"[\x21\x23-\x5b\x5d-\x7e]+"  # RFC 6749 section 3.3
_SERVER_ID = r"[A-Za-z0-9._~-]+"


class Ready(Record, hidden=("authorization", "proof")):
    """What a call with a fresh token sends: its ``Authorization`` value, and its DPoP proof if the token is bound."""

    token: Token
    authorization: str
    proof: str | None


class _Refusal(Record):
    error: TokenRefused
    until: float
    keys: tuple[Signer, ...]


class _Hit:
    """What a hit looks at, side by side: where there are very many apps, each object more is one more wait for memory.

    Whoever changes it holds the mutex; a hit does not. So a hit reads ``_look_at`` first, and it is written last when a
    token is put into use and first when one is taken out: a moment in the future is never seen with an older token.
    """

    __slots__ = ("_authorization", "_look_at", "_now", "_prefixes")

    _authorization: str | None  # what a Bearer token sends; None for a bound one, whose proof differs from call to call
    _look_at: float  # until then (steady clock) the token in use is used without a second look
    _now: Callable[[], float]
    _prefixes: tuple[str, ...]


class ServiceApp(_Hit):
    """An Okta OAuth service app, and the access token it has just now.

    One instance may serve any number of threads, event loops and clients at once.

    - ``org_url``: ``https://acme.okta.com``, or the org's custom domain.
    - ``client_id``: the app's client id.
    - ``key``: the private key whose public half is registered with the app; or several, of which one that is refused
      gives way to the next.
    - ``scopes``: what to ask for (``okta.users.read``). A custom authorization server may have defaults.
    - ``authorization_server``: ``None`` for the org's own, which alone gives ``okta.*`` scopes; ``"default"`` or an id
      for a custom one.
    - ``origins``: where the token may travel, besides the org itself when the org's own server gave it.
    - ``dpop``: ``True`` offers a DPoP proof and takes what the app is set to; ``"required"`` refuses a Bearer token;
      ``False`` offers none; a signer is the key to bind tokens to (never the client's own).
    - ``store``: where processes share the token (:mod:`okta_m2m.stores`); what rests there is sealed with the private
      key, or with the first of the ``seal_with`` secrets (32 bytes or more each), and opened by any of them.
      ``store_timeout`` is the seconds that one operation of it may take.
    - ``require_all_scopes``: whether a token with fewer scopes than asked for is an error instead of a warning.
    - ``max_wait``: seconds that a call may wait for a token, rate limits included.
    - ``on_event``: called with each :data:`~okta_m2m.events.Event`, from whatever thread it happens in. What it raises
      is logged and has no effect.
    - ``assertion_lifetime`` (seconds), ``assertion_claims``, ``assertion_audience``: the client assertion's ``exp``,
      further claims, and ``aud`` where it is not the token endpoint's URL.
    - ``htu_origins``: for each origin that a reverse proxy rewrites, the origin that the server behind it sees.
    - ``revoke_on_close``: whether :meth:`close` has Okta revoke the token. Not together with a ``store``: the token is
      others' too.
    - ``clock``: for simulations.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for a setting that cannot work.
    """

    __slots__ = (
        "__weakref__",
        "_api_nonces",
        "_arun",
        "_bound",
        "_clock",
        "_closed",
        "_dpop",
        "_endpoint",
        "_first",
        "_fleet",
        "_flights",
        "_forced",
        "_forced_not_before",
        "_former",
        "_htu_origins",
        "_keys",
        "_offers_dpop",
        "_on_event",
        "_org_origin",
        "_proofs",
        "_refusal",
        "_refusals",
        "_rejects",
        "_renewal_failures",
        "_revocation",
        "_run",
        "_suspect",
        "_token",
        "_told",
        "client_id",
        "max_wait",
        "org_url",
        "origins",
        "scopes",
        "token_endpoint",
    )

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
        # Half of this package: not for who only imports it.
        from ..settings import check_org_url
        from .token_endpoint import TokenEndpoint

        self.org_url = intern(check_org_url(org_url))
        self.client_id = _checked_client_id(client_id)
        self.scopes = _checked_scopes(scopes, authorization_server)
        # Kept once for all the apps of an org: a process may speak for very many of them.
        self.token_endpoint = intern(self.org_url + _token_path(authorization_server))
        self.max_wait = _checked_wait(max_wait)
        self.origins = Origins(
            [*([self.org_url] if authorization_server is None else []), *_listed(origins, "origins")]
        )
        self._prefixes = self.origins.prefixes
        self._org_origin = intern(origin_of(self.org_url) or "")
        self._keys = _checked_keys(key)
        self._dpop = _checked_dpop(dpop, self._keys)
        self._offers_dpop = dpop is not False
        self._htu_origins = _checked_htu_origins(htu_origins) if htu_origins is not None else _NOTHING
        self._on_event = _checked_observer(on_event)
        self._clock = _checked_clock(clock)
        self._now = clock.now
        self._api_nonces: Nonces | None = None
        self._proofs: DPoPProofs | None = None
        self._endpoint = TokenEndpoint(
            self.token_endpoint,
            client_id=self.client_id,
            scopes=self.scopes,
            assertions=ClientAssertions(
                self.client_id,
                assertion_audience or self.token_endpoint,
                lifetime=assertion_lifetime,
                claims=assertion_claims,
            ),
            clock=clock,
            max_wait=self.max_wait,
            dpop_required=dpop == "required",
            require_all_scopes=require_all_scopes,
        )
        self._fleet = None if store is None else self._joined(store, seal_with, store_timeout, dpop, require_all_scopes)
        self._flights = Flights()
        self._token: Token | None = None  # the one in use
        self._authorization, self._look_at = None, NEVER
        self._bound: Mapping[str, DPoPProofs] = _NOTHING  # by token value; swapped whole
        self._former: tuple[bytes, ...] = ()  # digests of the last tokens that were in use
        self._rejects: tuple[bytes, ...] = ()  # digests of the last tokens that were rejected
        self._first = 0  # index of the key that was taken last
        self._suspect: Token | None = None  # rejected, and out of use while another is fetched
        self._refusal: _Refusal | None = None
        self._refusals = 0
        self._renewal_failures = 0
        self._forced = 0
        self._forced_not_before = NEVER
        self._told: frozenset[tuple[str, str]] = _NOTHING_TOLD
        self._closed = False
        self._run: Callable[[Flow[None]], None] | None = None
        self._arun: Callable[[Flow[None]], Awaitable[None]] | None = None
        self._revocation: ClientAssertions | None = None
        if revoke_on_close:
            if store is not None:
                raise ConfigurationError(
                    "revoke_on_close would take the token from every process that shares the store. Leave one of the two away."
                )
            self._revocation = ClientAssertions(
                self.client_id, self._revocation_endpoint, lifetime=assertion_lifetime, claims=assertion_claims
            )
            fork_listeners.add(self)

    def _joined(
        self,
        store: Store,
        seal_with: Sequence[bytes],
        timeout: float,
        dpop: bool | Literal["required"] | Signer,
        require_all_scopes: bool,
    ) -> Fleet:
        from .fleet import Fleet  # who shares nothing loads neither JOSE's encryption nor a store

        return Fleet(
            store,
            identity=(
                self.token_endpoint,
                self.client_id,
                *sorted(self.scopes),
                str(dpop) if self._dpop is None else thumbprint(self._dpop.public_jwk),
                *(["require_all_scopes"] if require_all_scopes else []),
            ),
            token_endpoint=self.token_endpoint,
            nonces=self._endpoint.nonces,
            keys=self._keys,
            seal_with=seal_with,
            timeout=timeout,
            clock=self._clock,
            okta_clock=self._endpoint.okta_clock,
        )

    @classmethod
    def from_env(
        cls,
        *,
        files: bool = True,
        environ: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> ServiceApp:
        """The service app of the settings that Okta's own SDKs read: argument > environment (``OKTA_CLIENT_*``) >
        ``./okta.yaml`` > ``~/.okta/okta.yaml``, setting by setting.

        ``OKTA_M2M_STORE`` names the store where processes share the token (:func:`~okta_m2m.stores.store_from_url`),
        unless ``store`` is given. ``files=False`` reads no file; ``environ`` stands in for ``os.environ``. Every other
        argument is one of :class:`ServiceApp`'s own. Raises :class:`~okta_m2m.errors.ConfigurationError` naming the
        setting and its source.
        """
        from ..settings import named_store, read_settings

        settings = read_settings(files=files, environ=environ, **arguments)
        own = settings.arguments()
        if own.get("store") is None:
            own["store"] = named_store(environ)
        return cls(**own)

    # ── the hit ──────────────────────────────────────────────────────────────────────────────────────────────────

    def ready(self, method: str, url: str) -> Ready | None:
        """What to send with a call if that needs no flow: a fresh token, and an origin that is plainly allowed.

        One clock read and one comparison of prefixes; for a bound token also a signature, where the key is in memory.
        The adapters of this package look at the same facts by themselves, because a frame and an answer of its own are
        half of what a hit costs.
        """
        if self._look_at <= self._now() or not url.startswith(self._prefixes):
            return None
        token = self._token
        if token is None:  # taken out of use just now
            return None
        if not token.dpop_bound:
            return Ready(token, token.authorization, None)
        proofs = self._bound.get(token.value)
        if proofs is None or not proofs.in_memory:
            return None
        url = as_sent(url)
        proof = proofs.proof_now(method, url, self._endpoint.okta_clock.now(), self._nonces.get(url), token)
        return Ready(token, token.authorization, proof)

    # ── flows ────────────────────────────────────────────────────────────────────────────────────────────────────

    def obtain(self, rejected: Token | None = None) -> Flow[Token]:
        """A usable token: the one in use, or a new one, waiting at most ``max_wait`` seconds.

        ``rejected`` is a token that a server would not take: it is not handed out again, within the limits set on
        forced renewals. Raises a :class:`~okta_m2m.errors.TokenError` of the caller's own.
        """
        if rejected is not None:
            self._reject(rejected)
        deadline = self._now() + self.max_wait
        while True:
            now = self._now()
            token, flight, leads = self._board(now, deadline)
            if token is not None:
                if flight is not None:
                    yield from self._renew(flight)
                return token
            if flight is not None and leads:
                obtained = yield from self._lead(flight, deadline, background=False)
                if obtained is not None:
                    return obtained
                continue
            if flight is None or now >= deadline:
                raise TokenUnreachable(
                    f"No token within {self.max_wait:g} seconds: another caller's token request is still under way. "
                    "Check the network to Okta, or allow more time with max_wait."
                )
            if not (yield from Wait(flight.landing, max(0.0, min(deadline, flight.due) - now))):
                continue
            outcome = flight.outcome
            if isinstance(outcome, Failure):
                raise outcome.error.copy()
            if isinstance(outcome, Token) and (rejected is None or outcome.value != rejected.value):
                return outcome

    def headers(self, method: str, url: str) -> Flow[dict[str, str]]:
        """The header or two for a call that no adapter makes (gRPC, a WebSocket, another SDK).

        Raises :class:`~okta_m2m.errors.ConfigurationError` if the token may not travel to that URL.
        """
        if not self.origins.allow(url):
            raise ConfigurationError(
                f"The token of client {self.client_id} may not travel to {origin_of(url) or 'that URL'}. "
                "If that is the API it is meant for, name it in origins=[...]."
            )
        token = yield from self.obtain()
        return (yield from self._headers(method, url, token))

    def authorize(
        self,
        method: str,
        url: str,
        *,
        replayable: bool,
        answered: tuple[Token, Response] | None = None,
    ) -> Flow[None]:
        """One call with a good token: attempts it, judges the answer, and attempts it again where that helps.

        ``replayable`` says whether the body can be sent again from where it began. ``answered`` is the token that has
        been sent already, and the answer; the flow then takes over from there, unless that token is none of ours, or
        the answer comes from where ours may not travel: a redirect may have led there, with credentials from elsewhere.
        A new token is tried at most once, and for each token a new nonce once and a new proof once. The last response
        attempted is the caller's.
        """
        if answered is None:
            if not self.origins.allow(url):
                self._tell_once(
                    "OriginPassedOver", url, "not an allowed origin", "Name it in origins=[...] if it should be."
                )
                yield from Attempt({})
                return
            token = yield from self.obtain()
            response = yield from Attempt((yield from self._headers(method, url, token)), token)
        else:
            token, response = answered
            if not self._is_ours(token) or not self.origins.allow(url):
                return
        cured: set[str] = set()
        renewed = False
        while True:
            fresh_nonce = token.dpop_bound and self._nonces.learn(url, response.get("dpop-nonce"))
            cure = yield from self._verdict(url, token, response, fresh_nonce)
            if cure is None:
                if renewed and response.status not in (400, 401):
                    self._accepted()
                return
            if cure == "renew":
                another = self._reject(token) and not renewed and replayable
                self._rejected(url, response, another)
                if not another:
                    return
                yield from Discard()
                token = yield from self.obtain()
                renewed, told = True, None
                cured.clear()
            else:
                # An answer from a cache tells an old time.
                date = response.get("date") if cure == "proof" and not response.get("age") else None
                if date is not None and origin_of(url) == self._org_origin:
                    # A process that has its token from a store may not have heard Okta's time yet.
                    self._endpoint.okta_clock.learn(date)
                told = http_date(date)
                if cure in cured or not replayable:
                    return
                cured.add(cure)
                yield from Discard()
            # Its own nonce, not the last one learnt: that may be of an answer that left before and came in after this.
            nonce = response.get("dpop-nonce") if cure == "nonce" else None
            response = yield from Attempt((yield from self._headers(method, url, token, nonce, told)), token)

    def leaves_alone(self, url: str, authorization: str) -> bool:
        """Whether the ``Authorization`` header that a request brings along is the caller's own, which is kept, and told.

        One that we set ourselves is not: a request object that is sent again (by a retrying middleware, say) is given a
        new one, and the proof that goes with it.
        """
        if self._is_ours(Token.sent(authorization)):
            return False
        self._tell_once(
            "AuthorizationKept", url, "a request with its own Authorization header", "It was sent as it is."
        )
        return True

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────

    def revoke_through(
        self,
        run: Callable[[Flow[None]], None] | None = None,
        arun: Callable[[Flow[None]], Awaitable[None]] | None = None,
    ) -> None:
        """To be told by an adapter that this app is given to: how it runs a flow, under threads or on an event loop. The
        last one told is asked, as the app itself sends nothing."""
        if self._revocation is None:
            return  # nothing will be sent
        self._run = run or self._run
        self._arun = arun or self._arun

    def close(self) -> None:
        """Ends the app: calls that need a token are refused from now on. Closed twice is closed once.

        With ``revoke_on_close`` the token is revoked at Okta (RFC 7009), through the adapter that the app was given to
        last. Calls that are under way with it may then get a 401. That it could not be revoked is a warning in the log:
        it ends by itself. ``with app:`` closes, too.
        """
        flow = self._ending()
        if self._revocation is None:
            flow.close()
        elif self._run is not None:
            self._run(flow)
        else:
            flow.close()
            self._not_revoked("no adapter that works under threads has the app; await aclose() instead")
        self._close()

    async def aclose(self) -> None:
        """The same on an event loop: ``async with app:``."""
        flow = self._ending()
        if self._revocation is None:
            flow.close()
        elif self._arun is not None:
            await self._arun(flow)
        else:
            flow.close()
            self._not_revoked("no adapter that works on an event loop has the app; call close() instead")
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.aclose()

    def _close(self) -> None:
        with self._flights.mutex:
            self._closed, self._suspect = True, None
            self._put(None)

    @property
    def _revocation_endpoint(self) -> str:
        return self.token_endpoint.removesuffix("/token") + "/revoke"

    def _ending(self) -> Flow[None]:
        """Closes, and has the token revoked: the one in use, or the one that is being fetched just now."""
        if self._closed or self._revocation is None:
            return
        flight = self._flights.current()
        if flight is not None:
            yield from Wait(flight.landing, max(0.0, min(flight.due - self._now(), LAST_WORDS)))
        token = self._token or self._suspect
        self._close()
        if token is None or not token.usable(self._now()):
            return
        try:
            key: Signer = self._keys[self._first]
            if hasattr(key, "snapshot") and type(key) is not PrivateKey:
                key = yield from Snapshot(key)
            form = {
                "token": token.value,
                "token_type_hint": "access_token",
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": (yield from self._revocation.assertion(key, self._endpoint.okta_clock.now())),
            }
            headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode(form).encode("ascii")
            response = yield from Send(Request("POST", self._revocation_endpoint, headers, body), LAST_WORDS)
        except (OktaM2MError, SendFailed, OSError) as error:  # the last from a send of the caller's own
            self._not_revoked(f"{type(error).__name__}")
            return
        if response.status == 200:
            logger.info("okta-m2m: the token of client %s is revoked", self.client_id)
        else:
            from .token_endpoint import error_code

            self._not_revoked(f"HTTP {response.status} {error_code(response.body) or ''}".rstrip())

    def _not_revoked(self, why: str) -> None:
        logger.warning("okta-m2m: the token of client %s was not revoked: %s. It ends by itself.", self.client_id, why)

    # ── one call ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _nonces(self) -> Nonces:
        """Those of APIs, made when first needed, as those of the token endpoint are. If two threads make them at once, what
        one has learnt is lost, and costs one more round."""
        nonces = self._api_nonces
        if nonces is None:
            nonces = self._api_nonces = Nonces()
        return nonces

    def _headers(
        self, method: str, url: str, token: Token, nonce: str | None = None, told: float | None = None
    ) -> Flow[dict[str, str]]:
        """``told`` is the time of a server that has refused a proof for its time: an API's of one's own need not be Okta's."""
        headers = {"Authorization": token.authorization}
        if token.dpop_bound:
            url = as_sent(url)
            now, nonce = told or self._endpoint.okta_clock.now(), nonce or self._nonces.get(url)
            proofs = self._bound.get(token.value) or self._dpop_proofs()
            headers["DPoP"] = yield from proofs.proof(method, url, now, nonce, token)
        return headers

    def _verdict(
        self, url: str, token: Token, response: Response, fresh_nonce: bool
    ) -> Flow[Literal["renew", "nonce", "proof"] | None]:
        """What would make the same call succeed; ``None`` if nothing that we could do.

        RFC 6750 section 3.1 and RFC 9449 sections 7.1 and 9; Okta answers a bad proof with 400 instead of 401, and its
        management API may answer 401 with ``errorCode`` and no challenge.
        """
        if response.status not in (400, 401):
            return None
        from .challenges import challenges

        asked = challenges(response.all("www-authenticate"))
        oauth = [challenge for challenge in asked if challenge.scheme in ("bearer", "dpop")]
        codes = {challenge.error for challenge in oauth if challenge.error}
        if token.dpop_bound and "use_dpop_nonce" in codes:
            return "nonce" if fresh_nonce else None
        if token.dpop_bound and "invalid_dpop_proof" in codes:
            return "proof"
        if response.status != 401:
            return None
        if codes or asked:
            return "renew" if "invalid_token" in codes or (oauth and not codes) else None
        if origin_of(url) != self._org_origin:
            return "renew"
        # E0000015 (a feature is off) is a 401 that no new token cures; E0000011 is "Invalid token provided".
        from .token_endpoint import error_code

        code = error_code((yield from Peek(PEEKED)))
        return "renew" if code in (None, "E0000011") else None

    # ── the token in use ─────────────────────────────────────────────────────────────────────────────────────────

    def _board(self, now: float, deadline: float) -> tuple[Token | None, Flight | None, bool]:
        """The usable token, if any; the flight to lead or to wait for, if any; and whether to lead it."""
        with self._flights.mutex:
            if self._closed:
                raise ConfigurationError(
                    f"The service app {self.client_id} is closed. Make another ServiceApp, or close this one later."
                )
            token = self._token
            if self._flights.forked() and token is not None:
                # A time of its own, or all the children would renew the token they share at the same moment.
                self._put(token)
            if token is None or not token.usable(now):
                return None, *self._flights.board(now, deadline + OVERDUE)
            if now < self._look_at:
                return token, None, False
            flight, leads = self._flights.board(now, now + self.max_wait + OVERDUE)
            # While the renewal is under way the hit goes on without a second look.
            self._put(token, flight.due)
            return token, flight if leads else None, leads

    def _renew(self, flight: Flight) -> Flow[None]:
        """Has the flight led in the background. Where nothing can be spawned any more, the token in use still works."""
        spawned = False
        try:
            yield from Spawn(self._renewal(flight), partial(self._end, flight, ABANDONED))
            spawned = True
        except Exception as error:  # noqa: BLE001 (whatever it is, this caller has a good token)
            logger.warning("okta-m2m: a renewal could not be started: %s", type(error).__name__)
        finally:
            if not spawned:
                self._end(flight, ABANDONED)

    def _renewal(self, flight: Flight) -> Flow[None]:
        """A flight in the background: nobody waits for it, unless the token in use ends before it lands."""
        if flight.outcome is not None:  # it started so late that it was given up
            return
        try:
            # The deadline counts from when it was spawned: one that starts late must not outlast its flight.
            token = yield from self._lead(flight, flight.due - OVERDUE, background=True)
        except OktaM2MError as error:
            self._renewal_failed(error)
        else:
            if token is None:  # another process is at it
                self._look_again(self._now() + OTHERS_PAUSE)

    def _lead(self, flight: Flight, deadline: float, *, background: bool) -> Flow[Token | None]:
        """Fetches a token for everybody who waits for the flight, and lands it whatever happens.

        ``None`` in the background only: another process fetches, and its token can be had from the store a little later.
        """
        outcome: Outcome = ABANDONED
        try:
            token = yield from self._fetch(deadline, background)
            outcome = ABANDONED if token is None else token
            return token
        except OktaM2MError as error:
            outcome = Failure(error.copy())
            if not isinstance(error, TokenRefused):
                self._restore()
            raise
        finally:
            self._end(flight, outcome)

    def _fetch(self, deadline: float, background: bool) -> Flow[Token | None]:
        signers = self._keys
        keys: list[Signer] = []
        for signer in signers:
            # One that may follow a file is read off any event loop; a plain key in memory is its own snapshot.
            follows = hasattr(signer, "snapshot") and type(signer) is not PrivateKey
            keys.append((yield from Snapshot(signer)) if follows else signer)
        remembered = self._refusal
        if remembered is not None and remembered.keys == tuple(keys) and self._now() < remembered.until:
            raise remembered.error.copy(retry_after=remembered.until - self._now())
        if self._fleet is None:
            token, _ = yield from self._exchanged(keys, deadline, background)
            return token
        shared = yield from self._fleet.obtain(
            keys,
            lambda: self._exchanged(keys, deadline, background),
            wanted=self._wanted,
            deadline=deadline,
            patient=not background,
        )
        if shared is None:
            return None
        token, dpop_key = shared
        if dpop_key is not None and not self._has(dpop_key):
            # The fleet's key, made by whichever process was first: tokens of ours are bound to it from now on.
            self._proofs = DPoPProofs(dpop_key, self._htu)
        elif token.dpop_bound:
            self._dpop_proofs()  # of a key that was given; no exchange has called for it yet
        self._take(token)
        return token

    def _exchanged(
        self, keys: Sequence[Signer], deadline: float, background: bool
    ) -> Flow[tuple[Token, PrivateKey | None]]:
        """A token from the token endpoint, and the key it is bound to where that was made here."""
        first = self._first
        try:
            obtained = yield from self._endpoint.exchange(
                [*keys[first:], *keys[:first]], deadline, self._dpop_proofs if self._offers_dpop else None, self._tell
            )
        except TokenRefused as error:
            self._remember(error, tuple(keys))
            raise
        token = obtained.token
        # The key that was taken goes first from now on; the others stay for when it is refused.
        self._first = (first + obtained.key) % len(keys)
        self._take(token)
        logger.info(
            "okta-m2m: %s token for client %s, %d s, scopes %s, after %d request(s)",
            token.token_type,
            self.client_id,
            token.expires_in,
            quoted(" ".join(token.scopes)),
            obtained.attempts,
        )
        self._tell(
            "TokenObtained",
            token.token_type,
            token.scopes,
            token.expires_in,
            obtained.attempts,
            obtained.elapsed,
            background,
        )
        signer = self._proofs.signer if self._proofs is not None and token.dpop_bound and self._dpop is None else None
        return token, signer if isinstance(signer, PrivateKey) else None

    def _take(self, token: Token) -> None:
        """Puts a new token into use, unless a later one is."""
        proofs = self._proofs if token.dpop_bound else None
        with self._flights.mutex:
            self._refusal, self._refusals, self._renewal_failures, self._suspect = None, 0, 0, None
            held = self._token
            if proofs is not None and token.value not in self._bound:
                # For calls that began with an earlier token: a few of those are kept.
                kept = list(self._bound.items())[-3:]
                self._bound = {**dict(kept), token.value: proofs}
            # Not the one that lives longer: where an admin has shortened the life of tokens, none would ever replace it.
            later = held is None or token.sent_at > held.sent_at or not held.usable(self._now())
            if later and not self._closed:
                self._put(token)
            else:
                self._remember_ours(token)  # whoever fetched it uses it

    def _wanted(self, token: Token) -> bool:
        """Whether a token found in the store is worth having: alive, not one we saw rejected, later than ours."""
        now, held = self._now(), self._token
        if not token.usable(now) or _digest(token) in self._rejects:
            return False
        if held is None or not held.usable(now):
            return True
        return token.value != held.value and token.sent_at > held.sent_at

    def _is_ours(self, token: Token) -> bool:
        """Whether it was this app's, now or some renewals ago."""
        used = self._token
        return (used is not None and token.value == used.value) or _digest(token) in self._former

    def _has(self, key: PrivateKey) -> bool:
        proofs = self._proofs
        return proofs is not None and dict(proofs.signer.public_jwk) == dict(key.public_jwk)

    def _put(self, token: Token | None, look_at: float | None = None) -> None:
        """Puts a token into use, until it is looked at again; or takes the one in use out of it. Under the mutex."""
        former = self._token
        if former is not None and (token is None or token.value != former.value):
            self._remember_ours(former)
        if token is None:
            self._look_at, self._authorization, self._token = NEVER, None, None
            return
        if look_at is None:
            first, last = RENEWAL_SHARE if self._fleet is None else RENEWAL_SHARE_OF_MANY
            first = min(max(first, (self._now() - token.sent_at) / token.expires_in), last)
            spent = random.uniform(first, last)  # noqa: S311 (spreads load; nothing secret hangs on it)
            step = token.expires_in / RENEWAL_STEPS
            look_at = _shared(((token.sent_at + spent * token.expires_in) // step + 1) * step)
        until, authorization = min(look_at, token.usable_until), None if token.dpop_bound else token.authorization
        self._token = token
        self._authorization = authorization
        # A signal's handler may have closed the app in between, as it may enter the mutex that its own thread holds.
        self._look_at = NEVER if self._closed else until

    def _remember_ours(self, token: Token) -> None:
        self._former = (*self._former[1 - MOST_FORMER :], _digest(token))

    def _end(self, flight: Flight, outcome: Outcome) -> None:
        """Lands a flight. If it was abandoned, the next call looks after the token again at once."""
        if outcome is ABANDONED and flight.outcome is None:
            self._look_again(self._now() + ABANDONED_PAUSE)
        self._flights.land(flight, outcome)

    def _look_again(self, at: float) -> None:
        with self._flights.mutex:
            if self._token is not None:
                self._put(self._token, at)

    def _renewal_failed(self, error: OktaM2MError) -> None:
        with self._flights.mutex:
            self._renewal_failures += 1
            pause = min(60.0, 2.0 ** min(self._renewal_failures - 1, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 (load)
        if isinstance(error, RateLimited) and error.retry_after is not None:
            pause = max(pause, error.retry_after)
        self._look_again(self._now() + pause)
        logger.warning("okta-m2m: renewal failed, the token in use goes on; next try in %.1f s: %s", pause, error)
        self._tell("RenewalFailed", error.error or type(error).__name__, str(error), pause)

    # ── refusals and rejections ──────────────────────────────────────────────────────────────────────────────────

    def _remember(self, error: TokenRefused, keys: tuple[Signer, ...]) -> None:
        with self._flights.mutex:
            pause = min(LONGEST_REFUSAL, FIRST_REFUSAL * 2.0 ** min(self._refusals, 10))
            self._refusals += 1
            self._refusal = _Refusal(error.copy(), self._now() + pause, keys)

    def _reject(self, token: Token) -> bool:
        """Takes a rejected token out of use; says whether another is there, or may be fetched now."""
        with self._flights.mutex:
            held = self._token
            if held is None or held.value != token.value:
                return True
            now = self._now()
            if now < self._forced_not_before:
                return False
            if now > self._forced_not_before + LONGEST_SPACING:
                self._forced = 0
            self._forced_not_before = now + min(LONGEST_SPACING, FIRST_SPACING * 2.0 ** min(self._forced, 10))
            self._forced += 1
            self._put(None)
            self._suspect = held
            self._rejects = (*self._rejects[1 - MOST_FORMER :], _digest(token))
            return True

    def _restore(self) -> None:
        """No new token could be had for a rejected one. It may have been rejected by one wrongly configured API only,
        so it is better than nothing for the others, until it may be renewed again."""
        with self._flights.mutex:
            token, self._suspect = self._suspect, None
            if token is not None and self._token is None:
                self._put(token, self._forced_not_before)

    def _accepted(self) -> None:
        """A renewed token was taken: the next rejection is a new story."""
        with self._flights.mutex:
            self._forced = 0
            self._forced_not_before = NEVER

    def _rejected(self, url: str, response: Response, renewing: bool) -> None:
        from .challenges import challenges

        codes = [challenge.error for challenge in challenges(response.all("www-authenticate")) if challenge.error]
        code = quoted(codes[0], 80) if codes else None
        origin = origin_of(url) or ""
        logger.warning(
            "okta-m2m: %s rejected the token (401 %s); %s",
            origin,
            code or "without a reason",
            "renewing it and trying once more" if renewing else "the answer goes to the caller",
        )
        self._tell("TokenRejected", origin, code, renewing)

    # ── the rest ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _dpop_proofs(self) -> DPoPProofs:
        """The proofs of the one DPoP key, which is made when it is first needed and kept for good."""
        proofs = self._proofs
        if proofs is None:
            if self._dpop is None:
                made = DPoPProofs(PrivateKey.generate("ES256"), self._htu)
            else:
                made = DPoPProofs(self._dpop, self._htu)
            with self._flights.mutex:
                proofs = self._proofs = self._proofs or made
        return proofs

    def _htu(self, url: str) -> str:
        origin = origin_of(url)
        htu = okta_htu(url) if origin == self._org_origin else rfc_htu(url)
        seen = self._htu_origins.get(origin or "")
        return htu if seen is None or origin is None else seen + htu[len(origin) :]

    def _tell(self, event: str, *facts: object) -> None:
        if self._on_event is None:
            return
        from .. import events  # dataclasses take their time to be made: not for who wants none of them

        try:
            self._on_event(getattr(events, event)(self.client_id, *facts))
        except Exception as error:  # noqa: BLE001 (an observer's fault is not the call's)
            logger.warning("okta-m2m: on_event raised %s for %s", type(error).__name__, event)

    def _tell_once(self, kind: str, url: str, what: str, remedy: str) -> None:
        origin = origin_of(url) or "a URL that can be read in two ways"
        if (kind, origin) in self._told or len(self._told) >= MOST_ORIGINS_TOLD:
            return
        self._told |= {(kind, origin)}
        logger.warning("okta-m2m: no token sent to %s: %s. %s", origin, what, remedy)
        self._tell(kind, origin)

    def after_fork(self) -> None:
        """In a forked child: the token is the parent's, who will have it revoked."""
        self._put(None)
        self._suspect = None

    def __repr__(self) -> str:
        return f"ServiceApp({self.org_url!r}, client_id={self.client_id!r}, scopes={list(self.scopes)!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        not_picklable("A service app", "Build it where it is used, from the same settings.")


def _digest(token: Token) -> bytes:
    """By which a token is known again, without keeping it."""
    return sha256(token.value.encode()).digest()


# ── what the constructor checks ──────────────────────────────────────────────────────────────────────────────────────


def _listed(values: Iterable[str], name: str) -> list[str]:
    if isinstance(values, str):
        raise ConfigurationError(f"{name} is a list, not one text. Write {name}={values.split()!r}.")
    if not isinstance(values, Iterable):
        raise ConfigurationError(f"{name} is a list, not {type(values).__name__}. Give a list, or leave it away.")
    return list(values)


def _checked_observer(on_event: Callable[[Event], None] | None) -> Callable[[Event], None] | None:
    if on_event is not None and not callable(on_event):
        raise ConfigurationError(
            f"on_event is a {type(on_event).__name__}. Give a function that is called with each event."
        )
    return on_event


def _checked_clock(clock: Clock) -> Clock:
    if not (callable(getattr(clock, "now", None)) and callable(getattr(clock, "wall", None))):
        raise ConfigurationError(
            f"clock is a {type(clock).__name__}. Give a Clock (from okta_m2m._core.clocks import Clock), or leave it away."
        )
    return clock


def _checked_client_id(client_id: str) -> str:
    if not isinstance(client_id, str) or not client_id or not all("!" <= char <= "~" for char in client_id):
        raise ConfigurationError(
            "The client id is empty, or not text, or has spaces. Copy it from the app (Admin Console: Applications > the "
            "app > Client ID)."
        )
    if "{" in client_id:
        raise ConfigurationError(f"The client id is a placeholder, {client_id!r}. Put the app's own there.")
    return client_id


def _checked_scopes(scopes: Iterable[str], authorization_server: str | None) -> tuple[str, ...]:
    checked = tuple(dict.fromkeys(_listed(scopes, "scopes")))
    for scope in checked:
        if not isinstance(scope, str) or not re.fullmatch(_SCOPE, scope):
            raise ConfigurationError(f"The scope {scope!r} is not one scope. Give a list with one name in each place.")
    if not checked and authorization_server is None:
        raise ConfigurationError(
            'No scopes were given, and the org authorization server has no defaults. Name some: scopes=["okta.users.read"].'
        )
    return _kept_once(checked)


@lru_cache(maxsize=256)  # for all the apps that ask for the same: a process may speak for very many of them
def _kept_once(scopes: tuple[str, ...]) -> tuple[str, ...]:
    return scopes


def _token_path(authorization_server: str | None) -> str:
    if authorization_server is None:
        return "/oauth2/v1/token"
    if not isinstance(authorization_server, str) or not re.fullmatch(_SERVER_ID, authorization_server):
        raise ConfigurationError(
            'authorization_server is the id alone ("default", "aus1a2b3c"), without a URL. It is the part of the issuer '
            "after /oauth2/."
        )
    return f"/oauth2/{authorization_server}/v1/token"


def _checked_wait(max_wait: float) -> float:
    if isinstance(max_wait, bool) or not isinstance(max_wait, int | float) or not 0 < max_wait <= 86_400:
        raise ConfigurationError(f"max_wait is {max_wait!r}. Give seconds, more than 0 and at most a day.")
    return float(max_wait)


def _checked_keys(key: Signer | Sequence[Signer]) -> tuple[Signer, ...]:
    keys: tuple[Any, ...] = tuple(key) if isinstance(key, list | tuple) else (key,)
    if not keys:
        raise ConfigurationError("key is an empty list. Give at least one key.")
    for one in keys:
        if not (hasattr(one, "sign") and hasattr(one, "alg")):
            # Its value may be the key's text, so only its type is named.
            raise ConfigurationError(
                f"key is a {type(one).__name__}, not a signer. "
                'Use PrivateKey.from_file("key.pem"), PrivateKey.from_pem(text) or PrivateKey.from_jwk(jwk).'
            )
    return keys


def _checked_dpop(dpop: bool | Literal["required"] | Signer, keys: tuple[Signer, ...]) -> Signer | None:
    """The DPoP key that was given, if one was."""
    if isinstance(dpop, bool) or dpop == "required":
        return None
    if isinstance(dpop, str) or not (hasattr(dpop, "sign") and hasattr(dpop, "public_jwk")):
        raise ConfigurationError(f'dpop is a {type(dpop).__name__}. Give True, False, "required", or a signer.')
    if any(dict(dpop.public_jwk) == dict(key.public_jwk) for key in keys):
        raise ConfigurationError(
            "The DPoP key is the client's own key, which Okta's guide forbids. Leave dpop=True, or give another key."
        )
    # One version for good: tokens are bound to it, and a key file that changes must not change it under them.
    return dpop.snapshot() if isinstance(dpop, PrivateKey) else dpop


def _checked_htu_origins(origins: Mapping[str, str]) -> dict[str, str]:
    checked: dict[str, str] = {}
    for ours, theirs in origins.items() if isinstance(origins, Mapping) else [("", "")]:
        one, other = (origin_of(text) if isinstance(text, str) else None for text in (ours, theirs))
        if one is None or other is None:
            raise ConfigurationError(
                'htu_origins maps origins to origins. Write {"https://proxy.example": "https://acme.okta.com"}.'
            )
        checked[one] = other
    return checked
