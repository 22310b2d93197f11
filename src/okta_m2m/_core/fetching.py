"""Fetches a token for all callers, from the token endpoint or from the store that processes share.

No caller owns a fetch. The first caller that needs a token has a thread of ours start the fetch, and then waits for it
like all others, on whatever thread or event loop it runs. A renewal is the same, but no caller waits. So a caller that is
canceled, interrupted, blocked or out of time does not affect the fetch, and no caller's frame ever holds an assertion.

Invariant: once started, a fetch always lands its flight, no matter how it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from .._base.clocks import NEVER
from .._base.tokens import Token
from ..effects import Flow, Spawn, Wait
from ..errors import OktaM2MError, RateLimited, SigningFailed, TokenRefused, TokenUnreachable
from . import next_step
from .conversation import Conversation, counted
from .flights import Failure, Flight
from .renewal_times import Postponed, is_due_for_all

if TYPE_CHECKING:
    from ..keys import PrivateKey, Signer
    from .engine import Engine

SIGNER_QUIET: Final = 60.0
"""Seconds after a reported failure of the signer in which further ones are not reported."""


class Fetching:
    """Fetches the token of one app."""

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # ── a caller ─────────────────────────────────────────────────────────────────────────────────────────────────

    def fetch_token(self, origin: str = "", rejected: Token | None = None) -> Flow[Token]:
        """A usable token, for one caller: see :meth:`ServiceApp.obtain`. ``origin``: the origin that it will call; empty if
        it did not say."""
        state = self._engine.state
        now = state.now()
        deadline = now + state.max_wait
        if rejected is not None:
            state.rejected(rejected, origin, now)
        while True:
            match state.next_step(now, origin):
                case next_step.Use(token):
                    return token
                case next_step.UseAndRenew(token, flight):
                    yield from self._start(flight, deadline)
                    return token
                case next_step.Wait(flight):
                    pass
                case next_step.Fetch(flight):
                    yield from self._start(flight, deadline)
                case next_step.Refused(error):
                    raise error
                case next_step.Closed():
                    raise self._engine.endpoint.closed_error()
            while (
                flight.outcome is None and (timeout := flight.patience(now, deadline)) > 0 and not flight.is_lost(now)
            ):
                # Not "yield from", which would create a generator for each of many callers.
                yield Wait(flight.landing, timeout)
                now = state.now()
            outcome = flight.outcome
            if isinstance(outcome, Token) and (rejected is None or outcome.value != rejected.value):
                return outcome
            if isinstance(outcome, Failure) and not self._has_longer(deadline, flight, outcome.error, now):
                raise outcome.copy()
            if now >= flight.latest(deadline):
                raise self._out_of_time(flight)

    def _has_longer(self, deadline: float, flight: Flight, error: Exception, now: float) -> bool:
        """Whether a caller has time for another attempt: the fetch had less time, and failed because of that."""
        if not isinstance(error, RateLimited | TokenUnreachable):
            return False
        if error.retry_after is not None:  # the endpoint asked to wait longer than the fetch could
            return now < self._engine.endpoint.politeness.not_before < deadline
        return flight.deadline <= now < deadline

    def _out_of_time(self, flight: Flight) -> TokenUnreachable:
        """The error of a caller whose time is over before the fetch ends."""
        problem = f"No token within {self._engine.state.max_wait:g} seconds"
        if flight.is_in_line:
            return TokenUnreachable(
                f"{problem}: the token request waits its turn behind other token requests of this process.",
                remedy="Use one ServiceApp for all calls of an app, or raise max_wait.",
            )
        last_error = self._engine.endpoint.politeness.last_error
        so_far = (
            f"no response yet, after {counted(flight.attempts)}"
            if last_error is None
            else last_error.problem.rstrip(".")
        )
        return TokenUnreachable(
            f"{problem}: the token request is still under way ({so_far}).",
            remedy="Check the network to Okta, or raise max_wait.",
        )

    # ── the fetch ────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, flight: Flight, deadline: float) -> Flow[None]:
        """Has a thread start the fetch of a flight, when it is its turn. ``deadline`` is the caller's."""
        fetch, started, runs_here = self._fetch(flight), False, False
        try:
            answer = yield from Spawn(
                fetch,
                partial(self._engine.state.abandoned, flight),
                awaited=not flight.is_renewal,
                purpose="fetch",
                in_turn_of=self._engine.endpoint.url,
            )
            started, flight.is_running = bool(answer), answer if callable(answer) else lambda: True
            if not started and not flight.is_renewal:
                # No thread can be started, for example while the interpreter shuts down.
                flight.limit, runs_here = deadline, True
                yield from fetch
        finally:
            if not started:
                # An exception may interrupt this at any line, also when the thread has begun the fetch.
                self._engine.state.abandoned(flight, unless_begun=not runs_here)

    def _fetch(self, flight: Flight) -> Flow[None]:
        state, began = self._engine.state, self._engine.state.now()
        if not state.begin(flight, began):
            return
        try:
            obtained = yield from self._obtain(flight)
        except Exception as error:  # noqa: BLE001 (each waiter raises its own)
            now = state.now()
            pause = state.failed(flight, error, now)
            failure = Failure(error.copy() if isinstance(error, OktaM2MError) else error)
            if flight.is_renewal:
                state.landed(flight, failure)  # no one waits for it
            if self._is_news(error, flight, now):
                self._engine.reports.token_failed(error, flight.attempts, now - began, flight.is_renewal)
                if isinstance(error, SigningFailed):
                    self._engine.keys.quiet_until = now + SIGNER_QUIET
            if pause is not None:
                self._engine.reports.renewal_failed(error, pause)
            state.landed(flight, failure)
        else:
            if isinstance(obtained, str):
                state.postponed(flight, obtained, state.now())
            else:
                state.landed(flight, obtained)

    def _is_news(self, error: Exception, flight: Flight, now: float) -> bool:
        """Whether to report a failed fetch. If nothing was sent, the failure was already reported, unless the signer failed. A
        failure of the signer is reported once a minute, because every call may fail with it."""
        return now >= self._engine.keys.quiet_until if isinstance(error, SigningFailed) else flight.attempts > 0

    def _obtain(self, flight: Flight) -> Flow[Token | Postponed]:
        """A token, or the reason why the renewal is postponed."""
        keys = yield from self._engine.keys.snapshot(flight.deadline - self._engine.state.now())
        self._engine.keys.notice_changes(tuple(keys), self._engine.reports)
        refusal = self._engine.state.remembered_refusal(tuple(keys), self._engine.state.now())
        if refusal is not None:
            raise refusal
        if self._engine.fleet is None:
            return (yield from self._exchange(keys, flight))[0]
        renews = None if flight.is_forced else flight.renews
        shared = yield from self._engine.fleet.shared_token(
            keys,
            lambda: self._exchange(keys, flight),
            is_wanted=lambda token: self._engine.state.is_wanted(token, self._engine.state.now()),
            forced=lambda: self._engine.state.forced_renewals(self._engine.state.now()),
            deadline=flight.deadline,
            renews=renews,
            is_due=renews is None or is_due_for_all(renews, self._engine.state.now()),
        )
        if isinstance(shared, str):
            return shared
        if shared.is_ours:
            return shared.token
        if shared.key is not None:
            self._engine.bindings.adopt(shared.key)
        self._take(shared.token, is_shared=True)
        self._engine.state.adopt_forced(shared.forced)
        return shared.token

    def _exchange(self, keys: Sequence[Signer], flight: Flight) -> Flow[tuple[Token, PrivateKey | None]]:
        """A token from the token endpoint, and the key that it is bound to, if that key was made here."""
        first = self._engine.keys.accepted
        conversation = Conversation(
            self._engine.endpoint,
            self._engine.grant,
            [*keys[first:], *keys[:first]],
            flight,
            self._engine.bindings.proofs if self._engine.offers_dpop else None,
            self._engine.reports,
        )
        try:
            obtained = yield from conversation.run()
        except TokenRefused as error:
            self._engine.state.refused(error, tuple(keys), self._engine.state.now())
            raise
        token = obtained.token
        # From now on, the accepted key comes first. The others stay, in case it is refused.
        self._engine.keys.accepted = (first + obtained.key) % len(keys)
        self._take(token)
        self._engine.keys.quiet_until = NEVER
        self._engine.reports.token_obtained(token, flight.attempts, obtained.elapsed, flight.is_renewal)
        return token, self._engine.bindings.key_to_share() if token.dpop_bound else None

    def _take(self, token: Token, *, is_shared: bool = False) -> None:
        if token.dpop_bound:
            self._engine.bindings.bind(token)  # first, so that a call that finds the token can make its proof
        else:
            self._engine.bindings.forget_unused_key()
        self._engine.state.obtained(token, is_shared=is_shared)
