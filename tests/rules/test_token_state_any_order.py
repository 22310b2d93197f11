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
from test_token_state import ANSWERS, KEYS, MAX_WAIT, OTHER_KEYS, STRANGER, World, check_consequences

from okta_m2m import RateLimited, Token, TokenRefused, TokenUnreachable
from okta_m2m._core import token_state
from okta_m2m._core.clocks import NEVER
from okta_m2m._core.flights import ABANDONED, LANDING_GRACE, Failure, Flight, Outcome
from okta_m2m._core.forced_renewals import MAX_REJECTED
from okta_m2m._core.next_step import Fetch, Refused, UseAndRenew, Wait
from okta_m2m._core.token_state import MAX_FORMER

MOMENTS = st.sampled_from([0.25, 1.0, 5.0, 5.0, 20.0, 60.0, 60.0, 120.0, 700.0, "renewal", "end", "due", "refusal"])
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
        self.fresh: Span = (NEVER, NEVER)  # in which fresh_until lies
        self.suspect: Token | None = None
        self.flight: Flight | None = None  # under way
        self.outcomes: dict[Flight, Outcome | type[Exception] | None] = {}  # of each flight that began
        self.landings: list[Flight] = []
        self.refusal: tuple[float, Any] = (NEVER, None)  # until when, and of which keys
        self.refusals = self.failures = 0
        self.budget, self.budget_at = 3.0, NEVER  # forced renewals that are left
        self.last_cost, self.paid_at = 0.0, NEVER
        self.is_unproven = False
        self.is_running = True
        self.tokens: list[Token] = []
        self.former: list[Token] = []
        self.rejects: list[Token] = []
        self.is_closed = False

    def teardown(self) -> None:
        self.patch.undo()

    # ── the model ──

    @property
    def now(self) -> float:
        return self.world.time

    @property
    def flight_ends(self) -> float:
        """When the flight under way is given up."""
        assert self.flight is not None
        return self.flight.due if self.is_usable() else self.flight.expected

    def is_usable(self) -> bool:
        return self.token is not None and self.token.usable(self.now)

    def put(self, token: Token, fresh: Span | None = None) -> None:
        if self.token not in (None, token):
            self.former.append(self.token)
        if fresh is None:
            share = max(0.72, (self.now - token.sent_at) / token.expires_in)
            fresh = (token.sent_at + min(share, 0.82) * token.expires_in, token.sent_at + 0.82 * token.expires_in)
        self.token, self.fresh = token, fresh

    def take_out(self) -> None:
        if self.token is not None:
            self.former.append(self.token)
        self.token, self.fresh = None, (NEVER, NEVER)

    def is_to_replace_the_token(self, flight: Flight) -> bool:
        return self.token is not None and self.token is flight.renews and self.is_usable()

    def stay_fresh(self, flight: Flight, shortest: float, longest: float) -> None:
        if self.is_to_replace_the_token(flight):  # a later token keeps its own moment
            self.fresh = (self.now + shortest, self.now + longest)

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
        elif self.flight is not None and self.now >= self.flight_ends - 0.001:
            self.land(self.flight, ABANDONED)
        elif self.flight is not None and not self.is_running:
            self.abandon(self.flight)

    def abandon(self, flight: Flight) -> None:
        if self.outcomes[flight] is None and self.is_to_replace_the_token(flight):
            self.failures += 1
            longest = min(60.0, 4.0 ** (self.failures - 1))
            self.stay_fresh(flight, 0.75 * longest, longest)
        self.land(flight, ABANDONED)

    def facts(self) -> dict[str, bool]:
        usable, flies = self.is_usable(), self.flight is not None
        refused = self.now < self.refusal[0] and self.refusal[1] == KEYS
        return {
            "closed": self.is_closed,
            "a token, fresh (before ``fresh_until``)": usable and self.now < self.fresh[1],
            "a token, usable; no fetch under way": usable and not flies,
            "a token, usable; a fetch under way": usable and flies,
            "no usable token; a fetch under way": not usable and flies,
            "no usable token; Okta refused these keys lately": not usable and refused,
            "no usable token": not usable,
        }

    # ── what happens ──

    @initialize()
    def first_call(self) -> None:
        self.next_step(0.0, MAX_WAIT)

    @rule(until=st.sampled_from([0.0, "renewal"]) | MOMENTS, wait=st.sampled_from([-1.0, 0.0, 10.0, MAX_WAIT, 60.0]))
    def next_step(self, until: float | str, wait: float) -> None:
        self.time_passes(until)
        self.state.flight_under_way(self.now)
        self.notice()
        self.the_state_is_as_the_model_says()
        facts, before = self.facts(), self.flight
        known = next(known for known in ANSWERS if facts[known])
        step = self.world.ask(wait)
        assert type(step).__name__ == ANSWERS[known]
        if isinstance(step, Fetch | UseAndRenew):
            self.flight, self.is_running = step.flight, True
            assert self.outcomes.setdefault(step.flight, None) is None
            step.flight.landing.add_done_callback(partial(self.note_landing, step.flight))
        if self.token is not None and known.startswith("a token, usable") and self.flight is not None:
            self.fresh = (self.flight.due, self.flight.due)
        if isinstance(step, Fetch | Wait):
            assert step.flight is self.flight
            grace = LANDING_GRACE if step.flight.deadline <= self.now + wait else 0
            assert step.timeout == pytest.approx(max(0, min(wait + grace, step.flight.expected - self.now)))
        if isinstance(step, Refused):
            assert step.error.retry_after == self.refusal[0] - self.now
        if not self.is_closed:
            check_consequences(self.world, step, before)

    @rule(which=RECENT, keys=st.sampled_from([KEYS, OTHER_KEYS]))
    def ask(self, which: int, keys: Any) -> None:
        token = self.tokens[which] if len(self.tokens) >= -which else STRANGER
        is_later = self.token is None or not self.is_usable() or token.sent_at > self.token.sent_at
        is_new = token not in (self.token if self.is_usable() else None, *self.rejects[-MAX_REJECTED:])
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
    )
    def obtained(self, which: int, share: float, life: float, token_type: str, lands: bool) -> None:
        flight = self.flight_at(which)
        begun = flight.deadline - MAX_WAIT
        token = self.world.obtain(life=life, token_type=token_type, sent_at=begun + share * (self.now - begun))
        self.is_unproven = self.suspect is not None and token.sent_at >= self.paid_at
        if self.suspect is not None and not self.is_unproven:  # it was already on its way: no renewal was forced
            self.budget += self.last_cost
            self.last_cost = 0
        self.tokens.append(token)
        self.refusal, self.refusals, self.failures, self.suspect = (NEVER, None), 0, 0, None
        is_later = self.token is None or token.sent_at > self.token.sent_at or not self.is_usable()
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
        """Its thread, or the loop that it ran on, without a word."""
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
        if self.suspect is not None and self.token is None:
            self.budget += self.last_cost
            self.last_cost = 0
            if not isinstance(error, TokenRefused):
                self.failures += 1
                longest = min(60.0, 2.0 ** (self.failures - 1))
                self.put(self.suspect, (self.now + longest / 2, self.now + longest))
                self.suspect = None
        pause = self.world.fail(flight, error)
        if self.is_to_replace_the_token(flight):
            self.failures += 1
            longest = min(60.0, 2.0 ** (self.failures - 1))
            least = getattr(error, "retry_after", None) or 0.0
            self.stay_fresh(flight, max(longest / 2, least), max(longest, least))
            assert pause is not None
        else:
            assert pause is None
        self.land(flight, type(error))

    @rule(
        which=st.sampled_from(["in use", "in use", "former", "stranger"]),
        follows=st.booleans(),
        may_renew=st.booleans(),
    )
    def rejected(self, which: str, follows: bool, may_renew: bool) -> None:
        token = {"in use": self.token, "former": self.former[-1] if self.former else None}.get(which) or STRANGER
        answer = self.state.rejected(token, self.now, may_renew=may_renew)
        if token != self.token or not token.usable(self.now):
            assert answer == "renewed"
            return
        cost = 2.0 if self.is_unproven else 1.0
        self.budget = min(3.0, self.budget + (self.now - self.budget_at) / 60)
        self.budget_at = self.now
        is_news = token not in self.rejects[-MAX_REJECTED:]
        if is_news:
            self.rejects.append(token)
        if self.budget < cost or not may_renew:
            assert answer == ("kept" if is_news else "kept again")
        else:
            assert answer == "renew"
            self.budget, self.last_cost, self.paid_at = self.budget - cost, cost, self.now
            self.take_out()
            self.suspect = token
            if follows:
                self.obtained(-1, 1.0, 3600.0, "Bearer", lands=True)

    @rule()
    def accepted(self) -> None:
        self.state.accepted()
        self.is_unproven = False

    @precondition(lambda self: len(self.outcomes) > 2)
    @rule()
    def close(self) -> None:
        assert self.state.close() is (self.token or self.suspect)
        self.is_closed, self.suspect = True, None
        self.take_out()

    @rule(revokes=st.sampled_from([False, False, True]))
    def fork(self, revokes: bool) -> None:
        self.forks += 1
        if revokes:
            self.state.after_fork()
            self.suspect = None
            self.take_out()

    @rule(until=MOMENTS)
    def time_passes(self, until: float | str) -> None:
        moments = {
            "renewal": self.fresh[1],
            "end": self.token.usable_until if self.token else NEVER,
            "due": self.flight_ends if self.flight else NEVER,
            "refusal": self.refusal[0],
        }
        self.world.time = max(self.now, self.now + until if isinstance(until, float) else moments[until])

    @invariant()
    def the_state_is_as_the_model_says(self) -> None:
        state, token = self.state, self.token
        assert state.token is token
        last = NEVER if token is None else token.usable_until
        first, end = (min(moment, last) for moment in self.fresh)
        assert first - 1e-6 <= state.fresh_until <= end + 1e-6
        self.fresh = (state.fresh_until, state.fresh_until)
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
