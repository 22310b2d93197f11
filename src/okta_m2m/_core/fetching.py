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

from ..effects import Effect, Flow, Sleep, Spawn, Wait
from ..errors import ConfigurationError, RateLimited, SigningFailed, TokenRefused, TokenUnreachable
from . import next_step
from .clocks import NEVER
from .flights import Failure, mutex
from .proofs import snapshot
from .renewal_times import Postponed, is_due_for_all
from .tokens import Credentials, Token

if TYPE_CHECKING:
    from ..keys import PrivateKey, Signer
    from .bindings import Bindings
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
        "_first",
        "_given_bindings",
        "_offers_dpop",
        "_quiet_until",
        "_versions",
        "endpoint",
        "fleet",
        "keys",
        "reports",
        "state",
    )

    def __init__(
        self,
        keys: tuple[Signer, ...],
        state: TokenState,
        endpoint: TokenEndpoint,
        bindings: Bindings | None,
        reports: Reports,
        *,
        offers_dpop: bool,
        fleet: Fleet | None,
    ) -> None:
        self.keys = keys
        self._versions: tuple[Signer, ...] = ()  # the version of each changeable key at the last fetch
        self._first = 0
        self._quiet_until = NEVER
        self.state = state
        self.endpoint = endpoint
        self._given_bindings = bindings
        self.reports = reports
        self._offers_dpop = offers_dpop
        self.fleet = fleet

    @property
    def bindings(self) -> Bindings:
        bindings = self._given_bindings
        if bindings is None:
            # Imported with the first fetch, which saves 2 % of the import time (benchmarks/imports.py), and not under the mutex.
            from .bindings import Bindings

            with mutex():
                bindings = self._given_bindings = self._given_bindings or Bindings(self.endpoint)
        return bindings

    @property
    def key(self) -> Signer:
        """The key that Okta accepted last."""
        return self.keys[self._first]

    def credentials(
        self, method: str, url: str, token: Token, nonce: str | None = None, server_time: float | None = None
    ) -> Flow[Credentials]:
        """The credentials for one attempt; see :meth:`Bindings.credentials`."""
        if not token.dpop_bound:
            return Credentials(token)
        return (yield from self.bindings.credentials(method, url, token, nonce, server_time))

    # ── a caller ─────────────────────────────────────────────────────────────────────────────────────────────────

    def obtain(self, rejected: Token | None = None) -> Flow[Token]:
        """A usable token, for one caller: see :meth:`ServiceApp.obtain`."""
        state = self.state
        now = state.now()
        deadline = now + state.max_wait
        if rejected is not None:
            state.rejected(rejected, now)
        while True:
            match state.next_step(now, deadline):
                case next_step.Use(token):
                    return token
                case next_step.UseAndRenew(token, flight):
                    yield from self._start(flight, deadline)
                    return token
                case next_step.Wait(flight, timeout):
                    # Not "yield from", which would create a generator for each of many callers.
                    yield Wait(flight.landing, timeout)
                case next_step.Fetch(flight, timeout):
                    yield from self._start(flight, deadline)
                    if flight.outcome is None:
                        yield from Wait(flight.landing, timeout)
                case next_step.Refused(error):
                    raise error
                case next_step.Closed():
                    raise ConfigurationError(
                        f"The service app {self.endpoint.client_id} is closed.",
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
                    f"No token within {state.max_wait:g} seconds: the token request is still under way.",
                    remedy="Check the network to Okta, or raise max_wait.",
                )

    def _has_longer(self, deadline: float, flight: Flight, error: Exception, now: float) -> bool:
        """Whether a caller has time for another attempt: the fetch had less time, and failed because of that."""
        if not isinstance(error, RateLimited | TokenUnreachable):
            return False
        if error.retry_after is not None:  # the endpoint asked to wait longer than the fetch could
            return now < self.endpoint.not_before < deadline
        return flight.deadline <= now < deadline

    # ── the fetch ────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, flight: Flight, deadline: float) -> Flow[None]:
        """Starts the fetch of a flight in the background. ``deadline`` is the caller's."""
        fetch, started = self._fetch(flight), False
        try:
            answer = yield from Spawn(fetch, partial(self.state.abandoned, flight), awaited=not flight.is_renewal)
            started, flight.is_running = bool(answer), answer if callable(answer) else lambda: True
            if not started and not flight.is_renewal:
                # The interpreter is shutting down, so the fetch cannot run in the background.
                flight.deadline = min(flight.deadline, deadline)
                yield from fetch
        finally:
            if not started:
                self.state.abandoned(flight)

    def _fetch(self, flight: Flight) -> Flow[None]:
        state = self.state
        if flight.outcome is not None:  # it started so late that it was abandoned
            return
        began = state.now()
        try:
            obtained = yield from self._watch(flight, self._obtain(flight))
        except Exception as error:  # noqa: BLE001 (each waiter raises its own)
            now = state.now()
            pause = state.failed(flight, error, now)
            if self._is_news(error, flight, now):
                self.reports.token_failed(error, flight.attempts, now - began, flight.is_renewal)
            if pause is not None:
                self.reports.renewal_failed(error, pause)
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
                now = self.state.now()
                flight.expect(now + _time_of(effect, flight.deadline - now))
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
            keys.append((yield from snapshot(signer, flight.deadline - self.state.now())))
        self._notice_change(tuple(keys))
        refusal = self.state.remembered_refusal(tuple(keys), self.state.now())
        if refusal is not None:
            raise refusal
        if self.fleet is None:
            token, _ = yield from self._exchange(keys, flight)
            return token
        shared = yield from self.fleet.obtain(
            keys,
            lambda: self._exchange(keys, flight),
            is_wanted=lambda token: self.state.is_wanted(token, self.state.now()),
            deadline=flight.deadline,
            renews=flight.renews,
            is_due=flight.renews is None or is_due_for_all(flight.renews, self.state.now()),
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
                    self.reports.key_changed(key.kid)

    def _exchange(self, keys: Sequence[Signer], flight: Flight) -> Flow[tuple[Token, PrivateKey | None]]:
        """A token from the token endpoint, and the key that it is bound to, if that key was made here."""
        # Imported with the first token request, which saves 6 % of the import time (benchmarks/imports.py).
        from .conversation import Conversation

        first = self._first
        conversation = Conversation(
            self.endpoint,
            [*keys[first:], *keys[:first]],
            flight,
            self.bindings.proofs if self._offers_dpop else None,
            self.reports,
        )
        try:
            obtained = yield from conversation.run()
        except TokenRefused as error:
            self.state.refused(error, tuple(keys), self.state.now())
            raise
        token = obtained.token
        # From now on, the accepted key comes first. The others stay, in case it is refused.
        self._first = (first + obtained.key) % len(keys)
        self._take(token)
        self._quiet_until = NEVER
        self.reports.token_obtained(token, flight.attempts, obtained.elapsed, flight.is_renewal)
        return token, self.bindings.key_to_share() if token.dpop_bound else None

    def _take(self, token: Token) -> None:
        if token.dpop_bound:
            self.bindings.bind(token)  # first, so that a call that finds the token can make its proof
        self.state.obtained(token)
