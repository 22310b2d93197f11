"""A token that many processes share through a store: one fetches, the others read.

    load ──found──▶ use it
      │ nothing                                        (a renewal that is not due yet only checks that the store works)
    claim ──lost──▶ wait a moment, load again          (a renewal does not wait: the current token still works)
      │ won
    load again, exchange (the claim is extended meanwhile), save (only while the claim is ours), release

A thread of its own keeps the claim, saves and releases, so that no caller waits for a slow store when there is a token.

A claim is a lease: if its holder is killed, the others wait at most :data:`LEASE` seconds. Someone who can write to the store
can keep a claim for longer. So no process waits for longer than a lease and a half, unless the holder has saved a sign of
life.

Each stored value is encrypted ("sealed"). It contains the token and its expiry on Okta's clock, and the origins that forced
its renewal; for a bound token, also the token endpoint's nonce, and the key if it was made for the fleet.

Invariant: a shared store can save work, but can never stop a call. If it fails, that is logged once, and the call
continues as if there were no store.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from math import isfinite
from secrets import token_bytes, token_hex
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .._base.clocks import NEVER
from .._base.records import Record
from .._base.tokens import Token
from .._threads.landings import Landing
from .._threads.workers import on_event_loop
from ..effects import Claim, Flow, Load, Release, Save, Sleep, Spawn, StoreEffect, StoreFailed, Wait
from ..errors import ConfigurationError
from ..keys import PrivateKey
from ..settings._arguments import check_seconds, kind_of
from ..stores.sealing import Seal, sealing_secret
from .answers import LONGEST_LIFETIME, SHORTEST_LIFETIME, granted_token, json_object
from .forced_renewals import PERIOD, ForcedByOrigin
from .renewal_times import Postponed

if TYPE_CHECKING:
    from ..keys import Signer
    from ..stores import Store
    from .grants import ClientCredentials
    from .reports import Reports
    from .token_endpoint import TokenEndpoint

T = TypeVar("T")

LEASE = 2.0
"""The seconds that a claim lasts. Its holder extends it after each third of that time, so only a holder that died or
was disconnected loses it."""

DOUBT: Final = 1 / 2
"""The part of a lease for which a claim is still believed after it should have ended. Another process may just have taken it
over, and gives its first sign of life after a third of a lease."""

DISTRUST = 60.0
"""Seconds for which claims of others are not believed, after one without a sign of life."""

FIRST_LOOK = 0.05
LONGEST_LOOK = 0.3
"""The longest pause in seconds between two reads of the store while another process fetches."""

LAST_RESORT = (5.0, 10.0)
"""A process stops waiting for the others and fetches its own token when this many seconds of its time are left, but not
before half of it has passed. The moment is random, so that not all do so at once."""

SIGN_OF_LIFE: Final = ":alive"
"""Follows a place's key in that of its sign of life."""

TOMBSTONE_TTL = 0.001
"""To remove a value, an empty one is stored for this many seconds, so a store needs no method for removal."""

SAVING: Final = 0.05
"""Seconds for which a fetch waits until its token is saved and its claim released. After that, its callers continue."""

_NONE_FORCED: Final[ForcedByOrigin] = MappingProxyType({})


class Shared(Record):
    """A token from or for the store.

    - ``token``: the token.
    - ``key``: the key that it is bound to, if that key was made for the fleet.
    - ``forced``: when each origin forced a renewal without accepting its token (``TokenState.forced_renewals``).
    - ``is_ours``: whether this process fetched it just now.
    - ``nonce``: the token endpoint's nonce that was stored with it.
    """

    token: Token
    key: PrivateKey | None
    forced: ForcedByOrigin = _NONE_FORCED
    is_ours: bool = False
    nonce: str | None = None


class _Place(Record):
    """A place where a token may be stored: the cache key, and the seal that opens it."""

    key: str
    seal: Seal


class _Claimed:
    """What a fetch gives to the thread that keeps its claim, and what that thread found in the store instead."""

    __slots__ = ("better", "ended", "fetched", "released")

    def __init__(self) -> None:
        self.ended = Landing()
        self.released = Landing()
        self.fetched: Shared | None = None
        self.better: Shared | None = None


class Fleet:
    """One service app's side of a shared store.

    - ``endpoint``: the endpoint that issues the tokens; its DPoP nonces are shared too.
    - ``grant``: what is requested there. A subject's token is never stored.
    - ``keys``: the app's keys, from which the secrets for sealing are made.
    - ``dpop``: the binding of the tokens: a key's thumbprint, or how the app uses DPoP.
    - ``seal_with``: secrets of at least 32 bytes, for keys that cannot be read, or that change.
    - ``timeout``: seconds that one operation of the store may take.
    """

    __slots__ = (
        "_believed_until",
        "_distrusted_until",
        "_doubted_until",
        "_down",
        "_endpoint",
        "_identity",
        "_released",
        "_reports",
        "_seal_with",
        "_sign_of_life",
        "_timeout",
        "store",
    )

    def __init__(
        self,
        store: Store,
        endpoint: TokenEndpoint,
        keys: Sequence[Signer],
        reports: Reports,
        grant: ClientCredentials,
        *,
        dpop: str,
        seal_with: Sequence[bytes],
        timeout: float,
    ) -> None:
        self.store = _check_store(store)
        self._reports = reports
        identity = [
            endpoint.url,
            endpoint.client_id,
            *sorted(grant.scopes),
            dpop,
            *(["require_all_scopes"] if endpoint.require_all_scopes else []),
            *([] if grant.resource is None else ["resource", grant.resource]),
        ]
        self._identity = sha256(json.dumps(identity).encode()).hexdigest()
        self._endpoint = endpoint
        self._timeout = check_seconds(timeout, "store_timeout", 60, "60")
        self._down = False
        self._believed_until = self._doubted_until = self._distrusted_until = NEVER
        self._sign_of_life = NEVER  # when the holder of the claim last gave one, in Okta's time
        self._released: Landing | None = None
        # This refuses a secret that is too short, and imports what sealing needs: no call waits for that.
        Seal(seal_with or [token_bytes()])
        self._seal_with = tuple(seal_with)
        if not self._seal_with and not any(isinstance(key, PrivateKey) for key in keys):
            raise ConfigurationError(
                "A shared store needs a secret to encrypt tokens with, and this signer's key cannot be read to make one.",
                remedy="Pass seal_with=[secret], at least 32 random bytes, the same in every process.",
            )

    def shared_token(
        self,
        keys: Sequence[Signer],
        fetch: Callable[[], Flow[tuple[Token, PrivateKey | None]]],
        *,
        is_wanted: Callable[[Token], bool],
        forced: Callable[[], ForcedByOrigin],
        deadline: float,
        renews: Token | None,
        is_due: bool,
    ) -> Flow[Shared | Postponed]:
        """A token from the store, or one that ``fetch`` obtains while others wait for it.

        ``is_wanted`` says whether a stored token is acceptable. ``forced`` says which renewals origins forced, to be stored
        with the token. ``renews`` is the current token, if it still works.
        In that case, this does not wait for another process's fetch, and fetches nothing before the renewal is due.
        After a failure of the store, it leaves time for all processes, which now need their own tokens. Raises what
        ``fetch`` raises.
        """
        places = self._places(keys)
        owner = token_hex(16)

        def fetch_own() -> Flow[Shared]:
            token, key = yield from fetch()
            return Shared(token, key, forced(), is_ours=True)

        now, was_down = self._endpoint.clock.now(), self._down
        last_look = deadline - min(random.uniform(*LAST_RESORT), (deadline - now) / 2)  # noqa: S311 (spreads load)
        pause = FIRST_LOOK
        try:
            while True:
                found = yield from self._load(places, is_wanted)
                if found is not None:
                    self._believed_until = self._doubted_until = NEVER
                    self._report_up()
                    return found
                if not is_due:
                    self._report_up()
                    return "not due yet"
                if (yield from self._ask(Claim(self.store, self._timeout, places[0].key, owner, LEASE))):
                    break
                if not (yield from self._believes_claim(places[0])):
                    break  # two requests are better than no token
                if renews is not None:
                    self._report_up()
                    return "others are renewing it"
                if self._endpoint.clock.now() + pause >= last_look:
                    break  # the claim's holder is not finishing
                yield from Sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 (spreads load; it is not a secret)
                pause = min(LONGEST_LOOK, pause * 1.5)
        except StoreFailed as failed:
            self._report_down(failed)
            if renews is not None and not was_down:
                return "store has just failed"
            return (yield from fetch_own())
        return (yield from self._fetch_with_claim(places, owner, fetch_own, is_wanted, deadline))

    def _believes_claim(self, place: _Place) -> Flow[bool]:
        """Whether to believe that another process holds the claim and is alive: for one lease and a half, and for as long
        again after each sign of life."""
        now = self._endpoint.clock.now()
        if now < self._distrusted_until:
            return False
        if now < self._believed_until:
            return True
        is_first = now > max(self._believed_until, self._doubted_until) + LEASE  # of this claim, or of this wait
        before, self._sign_of_life = self._sign_of_life, (yield from self._load_sign_of_life(place))
        if is_first or self._sign_of_life > before:
            self._believed_until = now + LEASE
            return True
        if self._doubted_until <= self._believed_until:
            self._doubted_until = now + LEASE * DOUBT
        if now < self._doubted_until:
            return True
        self._distrusted_until = now + DISTRUST
        return False

    def _load_sign_of_life(self, place: _Place) -> Flow[float]:
        """When the claim's holder last gave a sign of life; never, if that is older than any that it can still give."""
        key = place.key + SIGN_OF_LIFE
        opened = place.seal.open(key, _check_value((yield from self._ask(Load(self.store, self._timeout, key)))))
        given = float(opened or "-inf")
        return given if abs(self._endpoint.okta_clock.now() - given) < DISTRUST else NEVER

    def _give_sign_of_life(self, place: _Place, owner: str) -> Flow[None]:
        key, okta_now = place.key + SIGN_OF_LIFE, self._endpoint.okta_clock.now()
        if (yield from Claim(self.store, self._timeout, key, owner, LEASE)):
            sealed = place.seal.seal(key, str(okta_now).encode())
            yield from Save(self.store, self._timeout, key, sealed, LEASE, owner)

    def look(self, keys: Sequence[Signer]) -> Flow[Shared | None]:
        """The stored token, usable or not. Raises :class:`StoreFailed`."""
        for place in self._places(keys):
            found = self._open(place, (yield from Load(self.store, self._timeout, place.key)))
            if found is not None:
                return found
        return None

    def clear(self, keys: Sequence[Signer]) -> Flow[bool]:
        """Removes the stored token. ``False`` if another process is fetching at the moment. Raises
        :class:`StoreFailed`."""
        owner = token_hex(16)
        for place in self._places(keys):
            if not (yield from Claim(self.store, self._timeout, place.key, owner, LEASE)):
                return False
            yield from Save(self.store, self._timeout, place.key, b"", TOMBSTONE_TTL, owner)
            yield from Release(self.store, self._timeout, place.key, owner)
        return True

    def settle(self, seconds: float) -> None:
        """Waits until the last token is saved and its claim released, but not if that would block an event loop."""
        if self._released is not None and not on_event_loop():
            self._released.wait(seconds)

    def okta_time_of(self, steady: float) -> float:
        """Converts a reading of the steady clock to Okta's time, in seconds since the epoch."""
        return self._endpoint.okta_clock.at(steady)

    def _fetch_with_claim(
        self,
        places: Sequence[_Place],
        owner: str,
        fetch: Callable[[], Flow[Shared]],
        is_wanted: Callable[[Token], bool],
        deadline: float,
    ) -> Flow[Shared]:
        """Fetches, and has the token saved and the claim released."""
        claimed = _Claimed()
        self._released = claimed.released
        keeper = self._keep_claim(places[0], owner, claimed, is_wanted, deadline)
        is_kept, found = False, None
        try:
            is_kept = bool((yield from Spawn(keeper, claimed.released.land, awaited=False, purpose="claim")))
            try:
                # Read again: the last holder may have saved between our read and our claim.
                found = yield from self._load(places, is_wanted)
            except StoreFailed as failed:
                self._report_down(failed)
            if found is not None:
                self._report_up()
            else:
                claimed.fetched = yield from fetch()
        finally:
            claimed.ended.land()
            # If no thread can be started any more, no one releases the claim, and its lease expires.
            if not is_kept:
                claimed.released.land()
        yield from Wait(claimed.released, SAVING)
        return found or claimed.better or claimed.fetched  # type: ignore[return-value]  # one of them is set

    def _keep_claim(
        self,
        place: _Place,
        owner: str,
        claimed: _Claimed,
        is_wanted: Callable[[Token], bool],
        deadline: float,
    ) -> Flow[None]:
        """Extends the claim for as long as the exchange takes. Then saves the token, and releases the claim.

        One flow does all this, in this order: an extension after the release would renew the claim.
        """
        extended = self._endpoint.clock.now()
        while not (yield from Wait(claimed.ended, LEASE / 3)):
            asked = self._endpoint.clock.now()
            if asked >= deadline:
                break
            if asked >= extended + LEASE:
                return  # we were suspended for too long; claiming again could let an older token overwrite a newer one
            try:
                if not (yield from Claim(self.store, self._timeout, place.key, owner, LEASE)):
                    return
                extended = asked
                yield from self._give_sign_of_life(place, owner)
            except StoreFailed as failed:
                self._report_down(failed)
        if claimed.fetched is not None:
            claimed.better = yield from self._save(place, owner, claimed.fetched, is_wanted)
        yield from self._release(place.key, owner)

    def _release(self, key: str, owner: str) -> Flow[None]:
        try:
            yield from Release(self.store, self._timeout, key, owner)
        except StoreFailed as failed:
            self._report_down(failed)

    def _save(
        self, place: _Place, owner: str, fetched: Shared, is_wanted: Callable[[Token], bool]
    ) -> Flow[Shared | None]:
        """Saves the fetched token. If our claim was lost and the store now has a better token, returns that one
        instead."""
        left = fetched.token.usable_until - self._endpoint.clock.now()
        if left <= 0:
            return None
        try:
            better = yield from self._load([place], is_wanted)
            if better is None:
                sealed = place.seal.seal(place.key, self._serialize(fetched))
                yield from self._ask(Save(self.store, self._timeout, place.key, sealed, left, owner))
        except StoreFailed as failed:
            self._report_down(failed)
            return None
        self._report_up()
        return better

    def _load(self, places: Sequence[_Place], is_wanted: Callable[[Token], bool]) -> Flow[Shared | None]:
        for place in places:
            found = self._open(place, (yield from self._ask(Load(self.store, self._timeout, place.key))))
            if found is not None and is_wanted(found.token):
                self._endpoint.nonces.learn(self._endpoint.url, found.nonce)
                return found
        return None

    def _ask(self, effect: StoreEffect[T]) -> Flow[T]:
        """Calls the store, and retries once if it worked before: on a machine that starts many processes, an operation
        may take longer than allowed. All four operations can be repeated safely."""
        if not self._down:
            try:
                return (yield from effect)
            except StoreFailed as failed:
                self._reports.retrying_store(failed)
        return (yield from effect)

    def _places(self, keys: Sequence[Signer]) -> list[_Place]:
        """The places where tokens may be stored, ours first. While keys or secrets are being changed, other processes of
        the fleet still use the other places."""
        # In the configured order, no matter which key Okta accepted last: the first key determines the place that the
        # fleet shares.
        secrets = [*self._seal_with, *(secret for key in keys if (secret := sealing_secret(key)) is not None)]
        seals = [Seal([secret]) for secret in dict.fromkeys(secrets)]
        return [_Place(f"{self._identity}:{seal.fingerprint}", seal) for seal in seals]

    # ── what is stored ───────────────────────────────────────────────────────────────────────────────────────────

    def _serialize(self, shared: Shared) -> bytes:
        token, key, forced = shared.token, shared.key, shared.forced
        document: dict[str, Any] = {
            "access_token": token.value,
            "token_type": token.token_type,
            "scope": " ".join(token.scopes),
            "expires_in": token.expires_in,
            # On Okta's clock: the steady clocks of two machines have nothing in common, and their wall clocks may differ.
            "sent_at": self.okta_time_of(token.sent_at),
        }
        if forced:
            document["forced"] = {
                origin: {name: self.okta_time_of(time) for name, time in renewals.items()}
                for origin, renewals in forced.items()
            }
        if key is not None:
            document["dpop_key"] = key.private_jwk()
        if token.dpop_bound:
            # Without the nonce, each process that renews would first be refused for lack of one.
            document["dpop_nonce"] = self._endpoint.nonces.get(self._endpoint.url)
        return json.dumps(document).encode()

    def _open(self, place: _Place, sealed: object) -> Shared | None:
        """The content of a place; ``None`` if there is nothing, or nothing that this seal can open."""
        opened = place.seal.open(place.key, _check_value(sealed))
        if opened is None:
            return None
        document = json_object(opened)
        granted, scope, nonce = granted_token(document), document.get("scope"), document.get("dpop_nonce")
        try:
            expires_in, sent_at = float(document["expires_in"]), float(document["sent_at"])
            key = PrivateKey.from_jwk(document["dpop_key"]) if "dpop_key" in document else None
            forced = self._forced_of(document)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):  # InvalidKey is a ValueError
            return None
        if granted is None or not isinstance(scope, str):
            return None
        if not SHORTEST_LIFETIME <= expires_in <= LONGEST_LIFETIME or not isfinite(sent_at):
            return None
        age = max(0.0, self._endpoint.okta_clock.now() - sent_at)
        token_type = "DPoP" if granted.dpop_bound else "Bearer"
        scopes, begin = tuple(scope.split()), self._endpoint.clock.now() - age
        token = Token(granted.value, token_type, scopes, expires_in, begin, sent_at + expires_in)
        return Shared(token, key, forced, nonce=nonce if isinstance(nonce, str) else None)

    def _forced_of(self, document: Mapping[str, Any]) -> ForcedByOrigin:
        """The forced renewals in a stored document, on this machine's steady clock."""
        now, okta_now = self._endpoint.clock.now(), self._endpoint.okta_clock.now()
        found: dict[str, dict[str, float]] = {}
        for origin, renewals in document.get("forced", {}).items():
            ages = {name: max(0.0, okta_now - time) for name, time in renewals.items()}
            found[origin] = {name: now - age for name, age in ages.items() if age < PERIOD}
        return found

    # ── failures ─────────────────────────────────────────────────────────────────────────────────────────────

    def _report_down(self, failed: StoreFailed) -> None:
        if not self._down:
            self._down = True
            self._reports.store_down(self.store, failed)

    def _report_up(self) -> None:
        if self._down:
            self._down = False
            self._reports.store_up(self.store)


def _check_value(loaded: object) -> bytes | None:
    if loaded is not None and not isinstance(loaded, bytes):
        raise StoreFailed(f"load returned a value of type {type(loaded).__name__}, not bytes")
    return loaded


def _check_store(store: Store) -> Store:
    if isinstance(store, str):
        # The string may contain a password, so it is not shown here.
        raise ConfigurationError(
            "store must be a store, not a string.",
            remedy="Write store=store_from_url(...) (from okta_m2m.stores import store_from_url).",
        )
    needed = ("load", "claim", "save", "release")
    if isinstance(store, type) or not all(callable(getattr(store, name, None)) for name in needed):
        raise ConfigurationError(
            f"store must be a store, not {kind_of(store)}.",
            remedy="Pass a RedisStore, a FileStore, or an object with the four methods of okta_m2m.stores.Store.",
        )
    from inspect import iscoroutinefunction  # heavy; only an app with a store needs it

    for name in needed:
        if iscoroutinefunction(getattr(store, name)):
            raise ConfigurationError(
                f"{type(store).__name__}.{name} is a coroutine function, but a store is called in threads.",
                remedy="Write load, claim, save and release as plain functions that block.",
            )
    return store
