"""Every change to the token in use in any order, beside a model of what the tables of ``_core/token_state.py`` say.

Invariant: whatever happens, and in whatever order, the state and the model answer alike.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from okta_m2m import RateLimited, Token, TokenRefused, TokenUnreachable
from okta_m2m._base.clocks import NEVER
from okta_m2m._core import token_state
from okta_m2m._core.flights import ABANDONED, LANDING_GRACE, Failure, Flight, Outcome
from okta_m2m._core.forced_renewals import MOST_FORCED, PERIOD
from okta_m2m._core.next_step import Fetch, Refused, UseAndRenew, Wait
from okta_m2m._core.token_state import MAX_FORMER, RENEWAL_LOOK
from okta_m2m._threads.landings import LOOK
from state_tables import ANSWERS, API, KEYS, MAX_WAIT, ORG, OTHER_KEYS, STRANGER, World, check_consequences

MOMENTS = st.sampled_from([0.25, 1.0, 5.0, 5.0, 20.0, 60.0, 60.0, 120.0, 700.0, "renewal", "end", "refusal", "an hour"])
ORIGINS = st.sampled_from([ORG, ORG, API])
RECENT = st.sampled_from([-1, -1, -1, -2, -3])
ERRORS: list[Callable[[], Exception]] = [
    lambda: TokenUnreachable("No answer."),
    lambda: RateLimited("Later."),
    lambda: RateLimited("Later.", retry_after=100.0),
    lambda: TokenRefused("No."),
    lambda: ValueError("Not ours."),
]
Span = tuple[float, float]


class AnyOrder(RuleBasedStateMachine):
    """What the tables say in a few plain fields, beside a token state to which the same happens."""

    def __init__(self) -> None:
        super().__init__()
        self.forks = 0
        self.forks_seen = 0
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(token_state, "forks", lambda: self.forks)
        self.world = World()
        self.state = self.world.state
        self.token: Token | None = None  # in use
        self.renew_at: Span = (NEVER, NEVER)  # in which its moment of renewal lies
        self.rejected_by: dict[str, Token] = {}  # the origins that wait for a better token
        self.forced: dict[str, list[float]] = {ORG: [], API: []}  # when each forced a renewal that it did not accept
        self.reported: dict[str, list[Token]] = {ORG: [], API: []}
        self.flight: Flight | None = None  # under way
        self.outcomes: dict[Flight, Outcome | type[Exception] | None] = {}  # of each flight that began
        self.landings: list[Flight] = []
        self.refusal: tuple[float, Any] = (NEVER, None)  # until when, and of which keys
        self.refusals = self.failures = 0
        self.is_running = True
        self.tokens: list[Token] = []
        self.former: list[Token] = []
        self.is_closed = False

    def teardown(self) -> None:
        self.patch.undo()

    # ── the model ──

    @property
    def now(self) -> float:
        return self.world.time

    def is_usable(self) -> bool:
        return self.token is not None and self.token.usable(self.now)

    def is_good(self, origin: str) -> bool:
        return self.is_usable() and self.rejected_by.get(origin) != self.token

    def put(self, token: Token) -> None:
        if self.token is not None and self.token != token:
            self.former.append(self.token)
        share = max(0.72, (self.now - token.sent_at) / token.expires_in)
        self.token = token
        self.renew_at = (token.sent_at + min(share, 0.82) * token.expires_in, token.sent_at + 0.82 * token.expires_in)

    def take_out(self) -> None:
        if self.token is not None:
            self.former.append(self.token)
        self.token = None

    def recent(self, origin: str) -> list[float]:
        return [time for time in self.forced[origin] if self.now - PERIOD < time]

    def forget_rejections(self, sent_at: float = NEVER) -> None:
        """A renewal that failed does not count, nor one whose token was requested before the rejection."""
        for origin in self.rejected_by:
            if self.forced[origin] and self.forced[origin][-1] > sent_at:
                self.forced[origin].pop()
        self.rejected_by = {}

    def is_to_replace_the_token(self, flight: Flight) -> bool:
        return self.token is not None and self.token is flight.renews and self.is_usable()

    def stay_fresh(self, flight: Flight, shortest: float, longest: float) -> None:
        if self.is_to_replace_the_token(flight):  # a later token keeps its own moment
            pause = (self.now + shortest, self.now + longest)
            if flight.is_forced:  # the token's own moment of renewal may be later
                pause = max(pause[0], self.renew_at[0]), max(pause[1], self.renew_at[1])
            self.renew_at = pause

    def land(self, flight: Flight, outcome: Outcome | type[Exception]) -> None:
        if self.flight is flight:
            self.flight = None
        self.outcomes[flight] = self.outcomes[flight] or outcome

    def note_landing(self, flight: Flight, _: object) -> None:
        self.landings.append(flight)

    def notice(self) -> None:
        """What any question notices."""
        if self.forks != self.forks_seen:
            self.forks_seen, self.flight = self.forks, None
            if self.token is not None:
                self.put(self.token)
        elif self.flight is not None and not self.is_running:
            self.abandon(self.flight)

    def abandon(self, flight: Flight) -> None:
        if self.outcomes[flight] is None and self.is_to_replace_the_token(flight):
            self.failures += 1
            longest = min(60.0, 4.0 ** (self.failures - 1))
            self.stay_fresh(flight, 0.75 * longest, longest)
        self.land(flight, ABANDONED)

    def facts(self, origin: str) -> dict[str, bool]:
        good, flies = self.is_good(origin), self.flight is not None
        refused = self.now < self.refusal[0] and self.refusal[1] == KEYS
        return {
            "closed": self.is_closed,
            "a good token, fresh": good and self.now < self.renew_at[1],
            "a good token, but its subject has expired": False,  # no subject: see test_token_state.py
            "a good token, no fetch under way": good and not flies,
            "a good token, a fetch under way": good and flies,
            "no good token, a fetch under way": not good and flies,
            "no good token, Okta refused these keys lately": not good and refused,
            "no good token": not good,
        }

    # ── what happens ──

    @initialize()
    def first_call(self) -> None:
        self.next_step(0.0, MAX_WAIT, ORG)

    @rule(
        until=st.sampled_from([0.0, "renewal"]) | MOMENTS,
        wait=st.sampled_from([-1.0, 0.0, 0.5, 10.0, MAX_WAIT, 60.0]),
        origin=ORIGINS,
    )
    def next_step(self, until: float | str, wait: float, origin: str) -> None:
        self.time_passes(until)
        self.state.flight_under_way(self.now)
        self.notice()
        self.the_state_is_as_the_model_says()
        self.learn_moment_of_renewal()
        facts, before = self.facts(origin), self.flight
        known = next(known for known in ANSWERS if facts[known])
        step = self.world.ask(origin)
        assert type(step).__name__ == ANSWERS[known]
        if isinstance(step, Fetch | UseAndRenew):
            self.flight, self.is_running = step.flight, True
            assert self.outcomes.setdefault(step.flight, None) is None
            step.flight.landing.add_done_callback(partial(self.note_landing, step.flight))
        if known in ("a good token, no fetch under way", "a good token, a fetch under way"):
            self.renew_at = (self.now + RENEWAL_LOOK, self.now + RENEWAL_LOOK)
        if isinstance(step, Fetch | Wait):
            assert step.flight is self.flight
            grace = LANDING_GRACE if step.flight.deadline < self.now + wait + LANDING_GRACE else 0
            assert step.flight.patience(self.now, self.now + wait) == pytest.approx(max(0, min(wait + grace, LOOK)))
        if isinstance(step, Refused):
            assert step.error.retry_after == self.refusal[0] - self.now
        if not self.is_closed:
            check_consequences(self.world, step, before)

    @rule(which=RECENT, keys=st.sampled_from([KEYS, OTHER_KEYS]))
    def ask(self, which: int, keys: Any) -> None:
        token = self.tokens[which] if len(self.tokens) >= -which else STRANGER
        is_later = self.token is None or not self.is_usable() or token.sent_at > self.token.sent_at
        is_new = token not in (self.token if self.is_usable() else None, *self.rejected_by.values())
        before = self.state.token, self.state.fresh_until
        assert self.state.is_wanted(token, self.now) is (token.usable(self.now) and is_new and is_later)
        assert self.world.is_refusal_remembered(keys) is (self.now < self.refusal[0] and self.refusal[1] == keys)
        assert before == (self.state.token, self.state.fresh_until), "a question changes nothing"
        self.notice()
        assert self.state.flight_under_way(self.now) is self.flight

    @rule(
        which=RECENT,
        share=st.sampled_from([0.0, 0.5, 1.0]),
        life=st.sampled_from([60.0, 3600.0, 86400.0]),
        token_type=st.sampled_from(["Bearer", "DPoP"]),
        lands=st.booleans(),
        is_shared=st.sampled_from([False, False, True]),
    )
    def obtained(
        self, which: int, share: float, life: float, token_type: str, lands: bool, is_shared: bool = False
    ) -> None:
        flight = self.flight_at(which)
        begun = flight.deadline - MAX_WAIT
        token = self.world.mint(life=life, token_type=token_type, sent_at=begun + share * (self.now - begun))
        self.state.obtained(token, is_shared=is_shared)
        self.tokens.append(token)
        used = self.token
        is_later = used is None or token.sent_at > used.sent_at or not self.is_usable()
        if used is not None and token.sent_at == used.sent_at and used in self.rejected_by.values():
            is_later = True
        self.forget_rejections(NEVER if is_shared else token.sent_at)
        self.refusal, self.refusals, self.failures = (NEVER, None), 0, 0
        if is_later and not self.is_closed:
            self.put(token)
        else:
            self.former.append(token)
        if lands:
            self.state.landed(flight, token)
            self.land(flight, token)

    def flight_at(self, which: int) -> Flight:
        flights = list(self.outcomes)
        return flights[max(which, -len(flights))]

    @precondition(lambda self: self.flight)
    @rule()
    def what_fetches_ends(self) -> None:
        """Its thread, without a word."""
        assert self.flight is not None
        self.flight.is_running = lambda: False
        self.is_running = False

    @rule(
        which=RECENT, end=st.sampled_from(["postponed", "abandoned", *ERRORS]), keys=st.sampled_from([KEYS, OTHER_KEYS])
    )
    def ended_without_a_token(self, which: int, end: str | Callable[[], Exception], keys: Any) -> None:
        flight = self.flight_at(which)
        if callable(end):
            self.failed(flight, end(), keys)
        elif end == "postponed":
            self.state.postponed(flight, "others are renewing it", self.now)
            self.stay_fresh(flight, 1.0, 1.0)
            self.land(flight, ABANDONED)
        else:
            self.state.abandoned(flight)
            self.abandon(flight)

    def failed(self, flight: Flight, error: Exception, keys: Any) -> None:
        if isinstance(error, TokenRefused):
            self.world.refuse(keys)
            self.refusal = self.now + min(60.0, 2.0**self.refusals), keys
            self.refusals += 1
        if flight.is_forced:
            self.forget_rejections()
        pause = self.world.fail(flight, error)
        if self.is_to_replace_the_token(flight):
            self.failures += 1
            longest = min(60.0, 2.0 ** (self.failures - 1))
            least = getattr(error, "retry_after", None) or 0.0
            self.stay_fresh(flight, max(longest / 2, least), max(longest, least))
            assert (pause is None) is flight.is_forced
        else:
            assert pause is None
        self.land(flight, type(error))

    @rule(
        which=st.sampled_from(["in use", "in use", "former", "stranger"]),
        origin=ORIGINS,
        follows=st.booleans(),
        may_renew=st.booleans(),
    )
    def rejected(self, which: str, origin: str, follows: bool, may_renew: bool) -> None:
        token = {"in use": self.token, "former": self.former[-1] if self.former else None}.get(which) or STRANGER
        answer = self.state.rejected(token, origin, self.now, may_renew=may_renew)
        if token != self.token or not token.usable(self.now) or self.rejected_by.get(origin) == token:
            assert answer == "renewed"
            return
        reported = self.reported[origin]
        is_news = token not in reported[-4:]
        if is_news:
            reported.append(token)
        if len(self.recent(origin)) >= MOST_FORCED or not may_renew:
            assert answer == ("kept" if is_news else "kept again")
        else:
            assert answer == "renew"
            self.forced[origin].append(self.now)
            self.rejected_by[origin] = token
            if follows:
                self.obtained(-1, 1.0, 3600.0, "Bearer", lands=True)

    @rule(origin=ORIGINS)
    def accepted(self, origin: str) -> None:
        self.state.accepted(origin)
        self.forced[origin].clear()

    @rule(which=st.sampled_from(["in use", "in use", "stranger"]), origin=ORIGINS)
    def unanswered(self, which: str, origin: str) -> None:
        token = self.token if which == "in use" and self.token else STRANGER
        self.learn_moment_of_renewal()
        self.state.unanswered(token, origin, self.now)
        is_due = self.now >= self.renew_at[1] or self.flight is not None
        if token == self.token and not is_due and not self.recent(origin):
            self.forced[origin].append(self.now)
            self.renew_at = (self.now, self.now)

    @precondition(lambda self: len(self.outcomes) > 2)
    @rule()
    def close(self) -> None:
        assert self.state.close() is self.token
        self.is_closed, self.rejected_by = True, {}
        self.take_out()

    @rule(revokes=st.sampled_from([False, False, True]))
    def fork(self, revokes: bool) -> None:
        self.forks += 1
        if revokes:
            self.state.after_fork()
            self.rejected_by = {}
            self.take_out()

    @rule(until=MOMENTS)
    def time_passes(self, until: float | str) -> None:
        moments = {
            "renewal": self.renew_at[1],
            "end": self.token.usable_until if self.token else NEVER,
            "refusal": self.refusal[0],
            "an hour": self.now + PERIOD,
        }
        self.world.time = max(self.now, self.now + until if isinstance(until, float) else moments[until])

    def learn_moment_of_renewal(self) -> None:
        """A part of it is random."""
        first, end = self.renew_at
        if self.token is not None:
            assert first - 1e-6 <= self.state._renew_at <= end + 1e-6
            self.renew_at = (self.state._renew_at, self.state._renew_at)

    @invariant()
    def the_state_is_as_the_model_says(self) -> None:
        state, token = self.state, self.token
        assert state.token is token
        self.learn_moment_of_renewal()
        has_hits = token is not None and not self.rejected_by
        assert state.fresh_until == (min(self.renew_at[1], token.usable_until) if token and has_hits else NEVER)
        assert state.has_rejections() is bool(self.rejected_by)
        forced = {origin: len(self.recent(origin)) for origin in self.forced}
        seen_forced = state.forced_renewals(self.now)
        assert {origin: len(seen_forced.get(origin, ())) for origin in forced} == forced
        assert state.authorization == (None if token is None or token.dpop_bound else token.authorization)
        assert state.is_closed is self.is_closed
        for flight, outcome in self.outcomes.items():
            assert flight.landing.done() is (outcome is not None)
            seen = flight.outcome
            assert (type(seen.error) if isinstance(seen, Failure) else seen) is outcome
        assert len(self.landings) == len(set(self.landings))
        assert all(map(state.is_ours, [*self.former[-MAX_FORMER:], *([token] if token else [])]))
        assert not state.is_ours(STRANGER)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(derandomize=True, deadline=None, max_examples=200, stateful_step_count=50)
