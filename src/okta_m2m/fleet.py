"""A token that many processes share through a store: one fetches, the others read.

    load ──found──▶ use it
      │ nothing
    claim ──lost──▶ wait a moment, load again          (a renewal does not wait: the token in use still works)
      │ won
    load again, exchange (the claim is extended meanwhile), save (only while the claim is ours), release

A claim is a lease: a holder that is killed costs the others at most :data:`LEASE` seconds. What is stored is sealed, and
holds the token with its life on Okta's clock, and the key that it is bound to if that was made for the fleet.

Invariant: a shared store can save work; it can never stop us. Whatever goes wrong with it is told once, and the call
goes on as if there were none.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from uuid import uuid4

from .clocks import Clock, OktaClock
from .effects import Claim, Flow, Load, Release, Save, Sleep, Spawn, StoreEffect, StoreFailed, Wait
from .errors import ConfigurationError, OktaM2MError, quoted
from .exchange import LONGEST_LIFETIME
from .keys import PrivateKey
from .stores.sealing import Seal, sealing_secret
from .tokens import Token

if TYPE_CHECKING:
    from .keys import Signer
    from .stores import Store

__all__ = ["LEASE", "Fleet", "Shared"]

T = TypeVar("T")
logger = logging.getLogger("okta_m2m")

LEASE = 5.0
"""Seconds of a claim. Its holder extends it every third of that, so only one that died, or was cut off, loses it."""

FIRST_LOOK = 0.05
LONGEST_LOOK = 0.5
"""Seconds between two looks into the store while another process fetches."""


Shared: TypeAlias = tuple[Token, "PrivateKey | None"]
"""A token out of the store, or for it, and the key it is bound to where that was made for the fleet."""


class Fleet:
    """One service app's place in a store.

    - ``identity``: what makes its tokens differ from others': endpoint, client, scopes, DPoP key.
    - ``seal_with``: secrets of at least 32 bytes, for where the private key cannot be read, or changes.
    - ``timeout``: seconds that one operation of the store may take.
    """

    __slots__ = ("_clock", "_down", "_identity", "_okta_clock", "_seal_with", "_store", "_timeout")

    def __init__(
        self,
        store: Store,
        *,
        identity: Iterable[str],
        keys: Sequence[Signer],
        seal_with: Sequence[bytes],
        timeout: float,
        clock: Clock,
        okta_clock: OktaClock,
    ) -> None:
        self._store = store
        self._identity = sha256(json.dumps(list(identity)).encode()).hexdigest()
        self._seal_with = tuple(seal_with)
        self._timeout = timeout
        self._clock = clock
        self._okta_clock = okta_clock
        self._down = False
        Seal(self._seal_with or [bytes(32)])  # refuses a secret that is too short, before there is anything to seal
        if not self._seal_with and not any(isinstance(key, PrivateKey) for key in keys):
            raise ConfigurationError(
                "A store needs something to seal its tokens with, and this signer's key cannot be read. "
                "Give seal_with=[secret], 32 random bytes or more, the same in every process."
            )

    def obtain(
        self,
        keys: Sequence[Signer],
        fetch: Callable[[], Flow[Shared]],
        *,
        wanted: Callable[[Token], bool],
        deadline: float,
        patient: bool,
    ) -> Flow[Shared | None]:
        """A token from the store, or one that ``fetch`` gets while others wait for it.

        ``wanted`` says whether a token found will do. With ``patient=False`` nobody else's fetch is waited for, and the
        answer is then ``None``. What ``fetch`` raises is raised.
        """
        seal = self._seal(keys)
        key = f"{self._identity}:{seal.fingerprint}"
        owner = str(uuid4())
        pause = FIRST_LOOK
        try:
            while True:
                found = yield from self._load(key, seal, wanted)
                if found is not None:
                    return found
                if (yield from self._ask(Claim(self._store, self._timeout, key, owner, LEASE))):
                    break
                if not patient:
                    self._up()
                    return None
                if self._clock.now() + pause >= deadline:
                    break  # whoever holds the claim does not come to an end: better two requests than no token
                yield from Sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 (spreads load; nothing secret hangs on it)
                pause = min(LONGEST_LOOK, pause * 1.5)
            # A second look: the last holder may have saved between our look and our claim.
            found = yield from self._load(key, seal, wanted)
        except StoreFailed as failed:
            self._failed(failed)
            return (yield from fetch())
        self._up()
        if found is None:
            found = yield from self._fetched(key, owner, seal, fetch)
        yield from self._released(key, owner)
        return found

    def _fetched(self, key: str, owner: str, seal: Seal, fetch: Callable[[], Flow[Shared]]) -> Flow[Shared]:
        finished: Future[None] = Future()
        finished.set_running_or_notify_cancel()
        yield from Spawn(self._keep(key, owner, finished), lambda: None)
        try:
            fetched = yield from fetch()
        except OktaM2MError:
            yield from self._released(key, owner)
            raise
        finally:
            finished.set_result(None)
        left = fetched[0].usable_until - self._clock.now()
        if left > 0:
            try:
                sealed = seal.seal(key, self._written(fetched))
                yield from self._ask(Save(self._store, self._timeout, key, sealed, left, owner))
            except StoreFailed as failed:
                self._failed(failed)
        return fetched

    def _ask(self, effect: StoreEffect[T]) -> Flow[T]:
        """Asks the store, and once more if it fails out of the blue: a machine that is busy starting many processes may
        leave one of them waiting for longer than an operation may take. All four may be repeated without harm."""
        if not self._down:
            try:
                return (yield from effect)
            except StoreFailed as failed:
                logger.debug("okta-m2m: asking the token store once more: %s", quoted(failed))
        return (yield from effect)

    def _keep(self, key: str, owner: str, finished: Future[None]) -> Flow[None]:
        """Extends the claim for as long as the exchange takes."""
        try:
            while not (yield from Wait(finished, LEASE / 3)):
                if not (yield from Claim(self._store, self._timeout, key, owner, LEASE)):
                    return
        except StoreFailed as failed:
            self._failed(failed)

    def _released(self, key: str, owner: str) -> Flow[None]:
        try:
            yield from Release(self._store, self._timeout, key, owner)
        except StoreFailed as failed:
            self._failed(failed)

    def _load(self, key: str, seal: Seal, wanted: Callable[[Token], bool]) -> Flow[Shared | None]:
        opened = seal.open(key, (yield from self._ask(Load(self._store, self._timeout, key))))
        found = None if opened is None else self._read(opened)
        return found if found is not None and wanted(found[0]) else None

    def _seal(self, keys: Sequence[Signer]) -> Seal:
        # In the configured order, whatever key Okta took last: the first names the place that the fleet shares.
        secrets = [*self._seal_with, *(secret for key in keys if (secret := sealing_secret(key)) is not None)]
        return Seal(secrets)

    # ── what is stored ───────────────────────────────────────────────────────────────────────────────────────────

    def _written(self, shared: Shared) -> bytes:
        token, key = shared
        document: dict[str, Any] = {
            "access_token": token.value,
            "token_type": token.token_type,
            "scope": " ".join(token.scopes),
            "expires_in": token.expires_in,
            # On Okta's clock: the steady clocks of two machines have nothing in common, and their wall clocks little.
            "sent_at": self._okta_clock.now() - (self._clock.now() - token.sent_at),
        }
        if key is not None:
            document["dpop_key"] = key.private_jwk()
        return json.dumps(document).encode()

    def _read(self, opened: bytes) -> Shared | None:
        try:
            document = json.loads(opened)
            value, token_type, scope = document["access_token"], document["token_type"], document["scope"]
            expires_in, sent_at = float(document["expires_in"]), float(document["sent_at"])
            if (
                not all(isinstance(text, str) for text in (value, token_type, scope))
                or not 0 < expires_in <= LONGEST_LIFETIME
            ):
                return None
            key = PrivateKey.from_jwk(document["dpop_key"]) if "dpop_key" in document else None
        except (ValueError, TypeError, KeyError, RecursionError):  # InvalidKey is a ValueError
            return None
        age = max(0.0, self._okta_clock.now() - sent_at)
        return Token(value, token_type, tuple(scope.split()), expires_in, self._clock.now() - age), key

    # ── its troubles ─────────────────────────────────────────────────────────────────────────────────────────────

    def _failed(self, failed: StoreFailed) -> None:
        if not self._down:
            self._down = True
            logger.warning(
                "okta-m2m: the token store %r does not work, so this process gets its own tokens meanwhile: %s. "
                "Check the store; nothing else needs to be done.",
                self._store,
                quoted(failed),
            )

    def _up(self) -> None:
        if self._down:
            self._down = False
            logger.warning("okta-m2m: the token store %r works again", self._store)
