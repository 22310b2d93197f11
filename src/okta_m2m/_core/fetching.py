"""Fetches a token for all callers, from the token endpoint or from the store that processes share.

No caller owns a fetch. The first caller that needs a token starts the fetch in the background, and then waits for it
like all others. A renewal is the same, but no caller waits. So a caller that is cancelled, interrupted or out of time
does not affect the fetch, and no caller's frame ever holds an assertion.

Invariant: once started, a fetch always lands its flight, no matter how it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ..effects import Effect, Flow, Sleep, Spawn
from ..errors import SigningFailed, TokenRefused
from .bindings import Bindings
from .clocks import NEVER
from .flights import mutex
from .proofs import snapshot
from .token_state import Postponed
from .tokens import Token

if TYPE_CHECKING:
    from ..keys import PrivateKey, Signer
    from .fleet import Fleet
    from .flights import Flight
    from .reports import Reports
    from .token_endpoint import TokenEndpoint
    from .token_state import TokenState

__all__ = ["Fetching"]

T = TypeVar("T")

SIGNER_QUIET: Final = 60.0
"""Seconds after a reported failure of the signer in which further ones are not reported."""


def _time_of(effect: Effect[Any], at_most: float) -> float:
    """Seconds that an effect may take."""
    if isinstance(effect, Sleep):
        return effect.seconds
    return float(getattr(effect, "timeout", max(0.0, at_most)))


class Fetching:
    """Fetches the token of one app.

    - ``keys``: tried in turn, beginning with the one that was accepted last.
    - ``offers_dpop``: whether the token request has a DPoP proof.
    - ``bindings``: ``None`` to create them when first needed: most apps have Bearer tokens, and a process may have very
      many apps.
    - ``fleet``: the app's side of a shared store, if it has one.
    """

    __slots__ = (
        "_endpoint",
        "_first",
        "_given_bindings",
        "_offers_dpop",
        "_quiet_until",
        "_reports",
        "_state",
        "_versions",
        "fleet",
        "keys",
    )

    def __init__(
        self,
        keys: tuple[Signer, ...],
        *,
        state: TokenState,
        endpoint: TokenEndpoint,
        bindings: Bindings | None,
        reports: Reports,
        offers_dpop: bool,
        fleet: Fleet | None,
    ) -> None:
        self.keys = keys
        self._versions: tuple[Signer, ...] = ()  # the version of each changeable key at the last fetch
        self._first = 0
        self._quiet_until = NEVER
        self._state = state
        self._endpoint = endpoint
        self._given_bindings = bindings
        self._reports = reports
        self._offers_dpop = offers_dpop
        self.fleet = fleet

    @property
    def bindings(self) -> Bindings:
        bindings = self._given_bindings
        if bindings is None:
            with mutex():
                bindings = self._given_bindings = self._given_bindings or Bindings(self._endpoint)
        return bindings

    @property
    def key(self) -> Signer:
        """The key that Okta accepted last."""
        return self.keys[self._first]

    def start(self, flight: Flight, deadline: float) -> Flow[None]:
        """Starts the fetch of a flight in the background. ``deadline`` is the caller's."""
        fetch, started = self._fetch(flight), False
        try:
            answer = yield from Spawn(fetch, partial(self._state.abandoned, flight), awaited=not flight.is_renewal)
            started, flight.is_running = bool(answer), answer if callable(answer) else lambda: True
            if not started and not flight.is_renewal:
                # The interpreter is shutting down, so the fetch cannot run in the background.
                flight.deadline = min(flight.deadline, deadline)
                yield from fetch
        finally:
            if not started:
                self._state.abandoned(flight)

    def _fetch(self, flight: Flight) -> Flow[None]:
        state = self._state
        if flight.outcome is not None:  # it started so late that it was abandoned
            return
        began = state.now()
        try:
            obtained = yield from self._watch(flight, self._obtain(flight))
        except Exception as error:  # noqa: BLE001 (each waiter raises its own)
            now = state.now()
            pause = state.failed(flight, error, now)
            if self._is_news(error, flight, now):
                self._reports.token_failed(error, flight.attempts, now - began, flight.is_renewal)
            if pause is not None:
                self._reports.renewal_failed(error, pause)
        else:
            if isinstance(obtained, str):
                state.postponed(flight, obtained, state.now())
            else:
                state.landed(flight, obtained)

    def _is_news(self, error: Exception, flight: Flight, now: float) -> bool:
        """Whether to report a failed fetch. If nothing was sent, the failure was already reported, unless the signer failed. A
        failure of the signer is reported once a minute, because every call may fail with it."""
        if not isinstance(error, SigningFailed):
            return flight.attempts > 0
        if now < self._quiet_until:
            return False
        self._quiet_until = now + SIGNER_QUIET
        return True

    def _watch(self, flight: Flight, flow: Flow[T]) -> Flow[T]:
        """Runs the fetch. At each effect, it records the time by which the fetch should continue. This reveals an event
        loop that no longer runs."""
        resume: Callable[[], Effect[Any]] = partial(next, flow)
        try:
            while True:
                effect = resume()
                now = self._state.now()
                flight.expected = now + _time_of(effect, flight.deadline - now) + self._state.lateness
                try:
                    resume = partial(flow.send, (yield effect))
                except GeneratorExit:
                    raise
                except BaseException as failure:  # noqa: BLE001 (passed into the fetch, even a cancellation)
                    resume = partial(flow.throw, failure)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            flow.close()

    def _obtain(self, flight: Flight) -> Flow[Token | Postponed]:
        """A token, or the reason why the renewal is postponed."""
        keys: list[Signer] = []
        for signer in self.keys:
            keys.append((yield from snapshot(signer, flight.deadline - self._state.now())))
        self._notice_change(tuple(keys))
        refusal = self._state.remembered_refusal(tuple(keys), self._state.now())
        if refusal is not None:
            raise refusal
        if self.fleet is None:
            token, _ = yield from self._exchange(keys, flight)
            return token
        shared = yield from self.fleet.obtain(
            keys,
            lambda: self._exchange(keys, flight),
            is_wanted=lambda token: self._state.is_wanted(token, self._state.now()),
            deadline=flight.deadline,
            renews=flight.renews,
            is_due=flight.renews is None or self._state.is_due_for_all(flight.renews, self._state.now()),
        )
        if isinstance(shared, str):
            return shared
        token, dpop_key = shared
        if dpop_key is not None:
            self.bindings.adopt(dpop_key)
        self._take(token)
        return token

    def _notice_change(self, keys: tuple[Signer, ...]) -> None:
        """Reports a key that differs from the last fetch's. A key that cannot change is the same object that was
        passed."""
        if keys != self.keys:
            before, self._versions = self._versions, keys
            for former, key in zip(before, keys, strict=False):
                if former != key:
                    self._reports.key_changed(key.kid)

    def _exchange(self, keys: Sequence[Signer], flight: Flight) -> Flow[tuple[Token, PrivateKey | None]]:
        """A token from the token endpoint, and the key that it is bound to, if that key was made here."""
        # Imported with the first token request, which saves 6 % of the import time (benchmarks/imports.py).
        from .conversation import Conversation

        first = self._first
        conversation = Conversation(
            self._endpoint,
            [*keys[first:], *keys[:first]],
            flight,
            self.bindings.proofs if self._offers_dpop else None,
            self._reports,
        )
        try:
            obtained = yield from conversation.run()
        except TokenRefused as error:
            self._state.refused(error, tuple(keys), self._state.now())
            raise
        token = obtained.token
        # From now on, the accepted key comes first. The others stay, in case it is refused.
        self._first = (first + obtained.key) % len(keys)
        self._take(token)
        self._quiet_until = NEVER
        self._reports.token_obtained(token, flight.attempts, obtained.elapsed, flight.is_renewal)
        return token, self.bindings.key_to_share() if token.dpop_bound else None

    def _take(self, token: Token) -> None:
        if token.dpop_bound:
            self.bindings.bind(token)  # first, so that a call that finds the token can make its proof
        self._state.obtained(token)
