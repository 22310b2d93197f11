"""Every change to the token in use: the two tables of ``_core/token_state.py``, row by row.

Invariant: a row of the tables without a test fails, and so does a public method of :class:`TokenState` without a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar

import pytest

from okta_m2m import RateLimited, Token, TokenRefused, TokenUnreachable
from okta_m2m._base.clocks import NEVER
from okta_m2m._core import renewal_times, token_state
from okta_m2m._core.flights import ABANDONED, LANDING_GRACE, Failure, Flight
from okta_m2m._core.forced_renewals import MAX_ORIGINS, MINUTE, MOST_AT_ONCE, MOST_FORCED, PERIOD
from okta_m2m._core.next_step import Closed, Fetch, NextStep, Refused, Rejection, Use, UseAndRenew, Wait
from okta_m2m._core.renewal_times import (
    ABANDONED_GROWTH,
    FAILED_GROWTH,
    FIRST_REFUSAL,
    is_due_for_all,
    moment_after_postponing,
    moment_of_renewal,
    pause_after,
)
from okta_m2m._core.token_state import MAX_FORMER, RENEWAL_LOOK, TokenState
from okta_m2m._threads.landings import LOOK, forks
from okta_m2m._urls.origins import Origins

MAX_WAIT = 30.0
KEYS: Any = ("key",)  # they are only compared here
OTHER_KEYS: Any = ("another key",)
ORG = "https://acme.okta.com"
API = "https://api.example.com"
STRANGER = Token("not-ours")
QUESTIONS = {
    "flight_under_way",
    "forced_renewals",
    "has_rejections",
    "is_ours",
    "is_wanted",
    "rejecting_calls",
    "remembered_refusal",
}
FROM_STORE = {"adopt_forced"}
"""What a stored token says about other processes is no event of this one."""


def read_table(columns: int) -> list[list[str]]:
    """The rows of the table in the module's docstring that has so many columns."""
    table = re.search(rf"^( {{4}}-+(?: +-+){{{columns - 1}}})\n((?: {{4}}.*\n)+)", token_state.__doc__ or "", re.M)
    assert table is not None
    starts = [ruler.start() for ruler in re.finditer("-+", table[1])]
    rows: list[list[str]] = []
    for line in table[2].splitlines():
        cells = [line[start:end].strip() for start, end in pairwise([*starts, None])]
        if cells[0]:
            rows.append(cells)
        else:
            rows[-1] = [f"{begun} {cell}".strip() for begun, cell in zip(rows[-1], cells, strict=True)]
    return rows


ANSWERS = {known: answer.split()[0].strip(",:") for known, answer in read_table(2)}
CLAUSES = [(method, clause) for method, _, change in read_table(3) for clause in change.split("; ")]


class World:
    """A token state, and the clock it reads."""

    def __init__(self, made: type[TokenState] = TokenState) -> None:
        self.time = 1000.0
        self.minted = 0
        origins = Origins(["https://acme.okta.com"])
        self.state = made(lambda: self.time, origins, KEYS, max_wait=MAX_WAIT)

    def mint(self, life: float = 3600.0, token_type: str = "Bearer", sent_at: float | None = None) -> Token:
        self.minted += 1
        return Token(f"token-{self.minted}", token_type, (), life, self.time if sent_at is None else sent_at)

    def obtain(self, **about: Any) -> Token:
        token = self.mint(**about)
        self.state.obtained(token)
        return token

    def ask(self, origin: str = ORG) -> NextStep:
        step = self.state.next_step(self.time, origin)
        if isinstance(step, Fetch | UseAndRenew):
            step.flight.is_running = lambda: True  # as who has this answer does
        return step

    def begin(self, origin: str = ORG) -> Flight:
        step = self.ask(origin=origin)
        assert isinstance(step, Fetch | UseAndRenew)
        return step.flight

    def begin_renewal(self, **about: Any) -> tuple[Token, Flight]:
        token = self.obtain(**about)
        self.time = self.state.fresh_until
        return token, self.begin()

    def refuse(self, keys: Any = KEYS) -> None:
        self.state.refused(TokenRefused("No."), keys, self.time)

    def fail(self, flight: Flight, error: Exception | None = None) -> float | None:
        error = error or TokenUnreachable("No answer.")
        pause = self.state.failed(flight, error, self.time)
        self.state.landed(flight, Failure(error))
        return pause

    def reject(self, token: Token, origin: str = ORG) -> Rejection:
        return self.state.rejected(token, origin, self.time)

    def renew_by_force(self, origin: str = ORG) -> Rejection:
        """An origin rejects the token in use, and has another if it may."""
        token = self.state.token
        assert token is not None
        rejection = self.reject(token, origin)
        if rejection == "renew":
            flight = self.begin(origin)
            self.state.landed(flight, self.obtain())
            self.wait(0.01)
        return rejection

    def is_refusal_remembered(self, keys: Any = KEYS) -> bool:
        return self.state.remembered_refusal(keys, self.time) is not None

    def wait(self, seconds: float) -> None:
        self.time += seconds

    def vanish(self) -> None:
        """The thread of the fetch under way ends without a word."""
        flight = self.state.flight_under_way(self.time)
        assert flight is not None
        flight.is_running = lambda: False


# ── the first table ──────────────────────────────────────────────────────────────────────────────────────────────────

Known = Callable[[World], object]
KNOWN: dict[str, list[Known]] = {
    "closed": [
        lambda w: w.state.close(),
        lambda w: (w.obtain(), w.state.close()),
        lambda w: (w.begin(), w.state.close()),
        lambda w: (w.refuse(), w.state.close()),
        lambda w: (w.state.close(), w.obtain()),
    ],
    "a good token, fresh": [
        lambda w: w.obtain(),
        lambda w: (w.begin(), w.obtain()),
        lambda w: (w.obtain(), w.refuse()),
        lambda w: w.begin_renewal(),
        lambda w: w.reject(w.obtain(), API),
        lambda w: (w.reject(w.obtain(), API), w.begin(API)),
        lambda w: (w.reject(w.obtain()), w.wait(1), w.obtain()),
    ],
    "a good token, no fetch under way": [
        lambda w: (w.obtain(), w.wait(w.state.fresh_until - w.time)),
        lambda w: (w.obtain(), w.refuse(), w.wait(0.82 * 3600)),
        lambda w: (w.begin_renewal(), w.vanish(), w.wait(RENEWAL_LOOK), w.ask(), w.wait(1)),
        lambda w: (w.reject(w.obtain(), API), w.wait(0.82 * 3600)),
    ],
    "a good token, a fetch under way": [
        lambda w: (w.begin(), w.obtain(life=20), w.wait(17)),
        lambda w: (w.begin_renewal(), w.wait(RENEWAL_LOOK)),
        lambda w: (w.reject(w.obtain(), API), w.begin(API), w.wait(0.82 * 3600)),
    ],
    "no good token, a fetch under way": [
        lambda w: w.begin(),
        lambda w: (w.obtain(life=20), w.wait(17), w.begin(), w.wait(2)),
        lambda w: (w.begin(), w.wait(10 * MAX_WAIT)),
        lambda w: (w.begin(), w.refuse()),
        lambda w: (w.reject(w.obtain()), w.begin()),
        lambda w: w.reject(w.begin_renewal()[0]),
    ],
    "no good token, Okta refused these keys lately": [
        lambda w: w.refuse(),
        lambda w: (w.obtain(life=1), w.refuse(), w.wait(0.95)),
        lambda w: (w.reject(w.obtain()), w.refuse()),
    ],
    "no good token": [
        lambda w: None,
        lambda w: (w.obtain(), w.wait(3595)),
        lambda w: (w.refuse(), w.wait(1)),
        lambda w: w.refuse(OTHER_KEYS),
        lambda w: (w.begin(), w.vanish()),
        lambda w: w.reject(w.obtain()),
    ],
}


@pytest.mark.parametrize(
    ("known", "way"), [(known, way) for known in ANSWERS for way in range(len(KNOWN.get(known, [None])))]
)
def test_what_to_do_is_answered_from_the_first_row_that_fits(known: str, way: int) -> None:
    """Whatever led to what a row knows, its answer is given."""
    world = World()
    KNOWN[known][way](world)
    before = world.state.flight_under_way(world.time)
    step = world.ask()
    assert type(step).__name__ == ANSWERS[known]
    check_consequences(world, step, before)


def check_consequences(world: World, step: NextStep, before: Flight | None) -> None:
    """What holds of every answer; ``before`` is the flight that was under way when it was asked for."""
    state, now = world.state, world.time
    under_way = state.flight_under_way(now)
    match step:
        case Use(token):
            assert token is state.token
            assert now < state.fresh_until or state.has_rejections()
            assert under_way is before
        case UseAndRenew(token, flight):
            assert token is state.token is flight.renews
            looks = NEVER if state.has_rejections() else min(now + RENEWAL_LOOK, token.usable_until)
            assert state.fresh_until == looks
        case Fetch(flight):
            works = state.token is not None and state.token.usable(now)
            assert flight.renews is (state.token if works else None)
            assert flight.is_forced is works
        case Refused(error):
            assert error.retry_after is not None
            assert 0 < error.retry_after <= 60
        case Wait(flight):
            assert flight is before
    if isinstance(step, Fetch | UseAndRenew):
        assert before is None
        assert under_way is step.flight
        assert step.flight.deadline == now + MAX_WAIT
        assert step.flight.is_renewal is isinstance(step, UseAndRenew)


@pytest.mark.parametrize(
    ("wait", "after", "timeout"),
    [
        (MAX_WAIT, 0, LOOK),
        (80, 10, LOOK),
        (0.5, 0, 0.5),
        (0.5, MAX_WAIT - 0.5, LOOK),
        (0.05, MAX_WAIT - 0.9, 0.05 + LANDING_GRACE),
        (0.05, MAX_WAIT - 0.05, 0.05 + LANDING_GRACE),
        (0, MAX_WAIT, LANDING_GRACE),
        (-5, 0, 0),
    ],
)
def test_a_waiting_caller_looks_again_each_second_until_its_deadline_and_a_moment_longer_for_a_fetch_that_ends_by_then(
    wait: float, after: float, timeout: float
) -> None:
    """No wait outlasts its caller's deadline by more than a moment."""
    world = World()
    flight = world.begin()
    world.wait(after)
    assert world.ask() == Wait(flight)
    assert flight.patience(world.time, world.time + wait) == pytest.approx(timeout)


# ── the second table ─────────────────────────────────────────────────────────────────────────────────────────────────

CHANGES: dict[tuple[str, str], Callable[[], None]] = {}


def change(method: str, clause: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Makes a function the check of one clause of the second table."""

    def register(check: Callable[[], None]) -> Callable[[], None]:
        CHANGES[method, clause] = check
        return check

    return register


@change("next_step", "a fetch may begin (see above)")
def check_beginning() -> None:
    world = World()
    flight = world.begin()
    assert world.state.flight_under_way(world.time) is flight
    assert not flight.landing.done()
    assert isinstance(world.ask(), Wait)


@change("begin", "its time begins")
def check_beginning_late() -> None:
    world = World()
    flight = world.begin()
    assert flight.is_in_line
    world.wait(100)
    assert isinstance(world.ask(), Wait), "it waits its turn"
    assert world.state.begin(flight, world.time)
    assert not flight.is_in_line
    assert flight.deadline == world.time + MAX_WAIT
    world.vanish()
    following = world.begin()
    assert not world.state.begin(flight, world.time), "it was given up, and its callers wait for another"
    flight = following
    flight.limit = world.time + 5
    assert world.state.begin(flight, world.time)
    assert flight.deadline == world.time + 5, "of a caller that runs it itself"


@change("obtained", "it is in use, unless a later one is")
def check_obtaining() -> None:
    world = World()
    first = world.obtain()
    assert (world.state.token, world.state.authorization) == (first, f"Bearer {first.value}")
    assert 0.72 <= (world.state.fresh_until - first.sent_at) / 3600 <= 0.82
    late, same_time = world.mint(sent_at=first.sent_at - 1, life=99999), world.mint(life=99999)
    for token in (late, same_time):
        world.state.obtained(token)
        assert world.state.token is first
        assert world.state.is_ours(token), "those who wait for it send it"
    world.wait(1)
    second = world.obtain(life=100, token_type="DPoP")
    assert (world.state.token, world.state.authorization) == (second, None)
    assert world.state.is_ours(first)
    world.wait(95)
    world.state.obtained(late)
    assert world.state.token is late, "the later one has expired"


@change("obtained", "rejections, refusal and failures are forgotten")
def check_forgetting() -> None:
    world = World()
    for _ in range(3):
        world.fail(world.begin_renewal()[1])
        world.refuse()
    world.reject(world.obtain(), API)
    world.reject(world.obtain())
    world.refuse()
    assert world.state.has_rejections()
    world.obtain()
    assert not world.state.has_rejections()
    assert isinstance(world.ask(), Use)
    assert not world.is_refusal_remembered()
    world.wait(1)
    token, flight = world.begin_renewal()
    assert (world.fail(flight) or 9) <= 1, "the first failure of this token"
    world.refuse()
    world.wait(1)
    assert not world.is_refusal_remembered(), "the first refusal since"
    assert world.state.close() is token


@change("refused", "remembered, for a growing time, for these keys")
def check_refusing() -> None:
    world = World()
    for pause in (1, 2, 4, 8, 16, 32, 60, 60):
        world.refuse()
        world.wait(pause - 0.25)
        step, refusal = world.ask(), world.state.remembered_refusal(KEYS, world.time)
        assert isinstance(step, Refused)
        assert refusal is not None
        assert step.error.retry_after == refusal.retry_after == 0.25
        assert not world.is_refusal_remembered(OTHER_KEYS)
        world.wait(0.25)
        assert not world.is_refusal_remembered()


@change("landed", "who waits for it has that token")
def check_landing() -> None:
    world = World()
    flight, token = world.begin(), world.obtain()
    world.state.landed(flight, token)
    world.state.abandoned(flight)
    world.state.landed(flight, STRANGER)
    world.fail(flight)
    assert flight.outcome is token
    assert flight.landing.done()
    assert world.state.flight_under_way(world.time) is None


@change("failed", "who waits for it will have that error")
def check_failing() -> None:
    world = World()
    for error in (TokenUnreachable("No answer."), ValueError("Not ours.")):
        flight = world.begin()
        assert world.state.failed(flight, error, world.time) is None, "nothing is renewed"
        assert not flight.landing.done(), "first it is reported"
        assert world.state.flight_under_way(world.time) is flight
        outcome = Failure(error)
        world.state.landed(flight, outcome)
        assert flight.outcome is outcome
        assert flight.landing.done()
        assert world.state.flight_under_way(world.time) is None


@change("failed", "a rejection that it was for is forgotten, and does not count")
def check_failing_by_force() -> None:
    for error in (TokenUnreachable("No."), RateLimited("No.", retry_after=9.0), TokenRefused("No."), ValueError("No.")):
        world = World()
        token = world.obtain()
        fresh_until = world.state.fresh_until
        for _ in range(MOST_FORCED + 2):
            assert world.reject(token) == "renew"
            flight = world.begin()
            assert flight.is_forced
            assert world.fail(flight, error) is None, "the renewal of the token is not due"
            assert not world.state.has_rejections()
            assert world.ask() == Use(token)
            assert world.state.fresh_until == fresh_until, "it is renewed when it would have been"
        for _ in range(MOST_FORCED):
            assert world.renew_by_force() == "renew", "none of them counted"
        assert world.renew_by_force() == "kept"


@change("failed", "a token in use stays fresh for a growing pause")
def check_pausing() -> None:
    world = World()
    token, flight = world.begin_renewal(life=86400)
    shares = set[float]()
    for longest in (1, 2, 4, 8, 16, 32, 60, 60):
        pause = world.fail(flight)
        assert pause is not None
        assert longest / 2 <= pause <= longest
        shares.add(pause / longest)
        assert world.state.fresh_until == world.time + pause
        world.time = world.state.fresh_until
        flight = world.begin()
    assert len(shares) == 8, "a fleet does not march in step"
    assert world.fail(flight, RateLimited("Later.", retry_after=120.0)) == 120
    assert world.state.fresh_until == world.time + 120
    world.wait(120)
    assert (world.fail(world.begin(), RateLimited("Later.", retry_after=3.0)) or 0) >= 30
    world.time = token.usable_until - 5
    world.fail(world.begin())
    assert world.state.fresh_until == token.usable_until


def check_asking_again(end: Callable[[World, Flight], None]) -> None:
    world = World()
    flight = world.begin()
    end(world, flight)
    assert flight.outcome is ABANDONED
    assert flight.landing.done()
    assert isinstance(world.ask(), Fetch)


def check_staying_fresh(end: Callable[[World, Flight], None], shortest: float, longest: float) -> None:
    world = World()
    _, flight = world.begin_renewal()
    end(world, flight)
    assert shortest <= world.state.fresh_until - world.time <= longest
    world.time = world.state.fresh_until
    assert isinstance(world.ask(), UseAndRenew)


@change("postponed", "who waits asks again")
def check_postponing() -> None:
    check_asking_again(lambda world, flight: world.state.postponed(flight, "others are renewing it", world.time))


@change("postponed", "a token in use stays fresh until then")
def check_freshness_when_postponed() -> None:
    check_staying_fresh(
        lambda world, flight: world.state.postponed(flight, "others are renewing it", world.time), 1.0, 1.0
    )
    for why, first, last in (("not due yet", 0.77, 0.87), ("store has just failed", 0.72, 0.98)):
        moments = set[float]()
        for _ in range(20):
            world = World()
            token, flight = world.begin_renewal()
            world.state.postponed(flight, why, world.time)
            moments.add((world.state.fresh_until - token.sent_at) / 3600)
        assert first <= min(moments) < max(moments) <= last
        assert len(moments) == 20, "a fleet does not march in step"
    world = World()
    token, flight = world.begin_renewal()
    looks = list[float]()
    while not is_due_for_all(token, world.time):
        world.state.postponed(flight, "not due yet", world.time)
        world.time = world.state.fresh_until
        looks.append((world.time - token.sent_at) / 3600)
        flight = world.begin()
    assert 3 <= len(looks) <= 5
    assert 0.93 <= looks[-1] <= 0.95


@change("abandoned", "who waits asks again")
def check_abandoning() -> None:
    check_asking_again(lambda world, flight: world.state.abandoned(flight))


@change("abandoned", "a token in use stays fresh for a growing pause")
def check_freshness_when_abandoned() -> None:
    check_staying_fresh(lambda world, flight: world.state.abandoned(flight), 0.75, 1.0)
    world = World()
    _, flight = world.begin_renewal(life=86400)
    for longest in (1, 4, 16, 60, 60):
        world.state.abandoned(flight)
        assert 0.75 * longest <= world.state.fresh_until - world.time <= longest
        world.time = world.state.fresh_until
        flight = world.begin()
    world = World()
    flight = world.begin()
    token = world.obtain()
    world.state.landed(flight, token)
    fresh_until = world.state.fresh_until
    world.state.abandoned(flight)
    assert world.state.fresh_until == fresh_until, "it had an outcome"


@change("rejected", "the token is not good for that origin, if it may force a renewal")
def check_rejecting() -> None:
    world = World()
    token = world.obtain()
    assert world.reject(token) == "renew"
    assert not world.state.is_wanted(token, world.time), "it is in the store still"
    assert world.reject(token) == "renewed", "that is known"
    assert world.state.rejecting_calls(ORG) == 2
    flight = world.begin()
    assert (flight.renews, flight.is_forced, flight.is_renewal) == (token, True, False)
    assert isinstance(world.ask(), Wait)
    world.wait(0.01)
    world.state.landed(flight, world.obtain())
    assert world.reject(token) == "renewed", "it is not in use any more"
    assert world.reject(STRANGER) == "renewed"
    for _ in range(MOST_FORCED - 1):
        assert world.renew_by_force() == "renew"
    last = world.state.token
    assert last is not None
    assert world.reject(last) == "kept"
    assert world.state.rejecting_calls(ORG) == 1
    assert world.reject(last) == "kept again"
    assert isinstance(world.ask(), Use)


@change("rejected", "all others keep using it")
def check_others_going_on() -> None:
    world = World()
    token = world.obtain()
    assert world.reject(token, API) == "renew"
    assert (world.state.token, world.state.authorization) == (token, token.authorization)
    assert world.state.fresh_until == NEVER, "each call says which origin it calls"
    assert [world.ask(origin=origin) for origin in (ORG, "")] == [Use(token)] * 2
    flight = world.begin(API)
    assert world.ask() == Use(token)
    assert isinstance(world.ask(origin=API), Wait)
    world.wait(0.01)
    better = world.obtain()
    world.state.landed(flight, better)
    assert world.ask(origin=API) == Use(better)
    assert world.time < world.state.fresh_until, "there are hits again"


@change("accepted", "it may force another renewal at once")
def check_accepting() -> None:
    world = World()
    world.obtain()
    for _ in range(5):
        for _ in range(MOST_FORCED):
            assert world.renew_by_force() == "renew"
        assert world.renew_by_force() == "kept"
        world.state.accepted(API)
        assert world.renew_by_force() == "kept again", "another origin accepted its own"
        world.state.accepted(ORG)


def test_an_origin_whose_servers_disagree_about_each_token_forces_twenty_renewals_a_minute_at_most() -> None:
    world = World()
    world.obtain()
    forced = []
    for _ in range(100):
        if world.renew_by_force() == "renew":
            forced.append(world.time)
            world.state.accepted(ORG)
        world.wait(1.0)
    assert len(forced) == 2 * MOST_AT_ONCE
    assert forced[MOST_AT_ONCE] - forced[0] >= MINUTE


@change("unanswered", "the token is renewed in the background, if the origin has forced none within an hour")
def check_not_seeing() -> None:
    world = World()
    token = world.obtain()
    world.state.unanswered(STRANGER, ORG, world.time)
    assert world.ask() == Use(token), "it is another's token"
    world.state.unanswered(token, ORG, world.time)
    step = world.ask()
    assert isinstance(step, UseAndRenew)
    world.state.unanswered(token, API, world.time)
    assert world.ask() == Use(token), "a renewal is under way"
    world.wait(0.01)
    world.state.landed(step.flight, world.obtain())
    for _ in range(5):
        token = world.state.token
        assert token is not None
        world.state.unanswered(token, ORG, world.time)
        assert world.ask() == Use(token), "perhaps there was no response"
        world.wait(PERIOD / 10)
    for _ in range(MOST_FORCED - 1):
        assert world.renew_by_force() == "renew", "what is left is for rejections that were seen"
    assert world.renew_by_force() == "kept"


@change("close", "no token, and none from now on")
def check_closing() -> None:
    world = World()
    token, flight = world.begin_renewal()
    assert world.state.close() is token
    world.state.landed(flight, world.obtain())
    assert (world.state.token, world.state.authorization, world.state.fresh_until) == (None, None, NEVER)
    assert isinstance(world.ask(), Closed)
    assert world.state.is_ours(token)
    assert world.state.close() is None


@change("after_fork", "no token")
@change("after_fork", "a fetch may begin")
def check_forking() -> None:
    for rejected in (False, True):
        world = World()
        token = world.obtain()
        if rejected:
            world.reject(token)
        world.state.after_fork()
        assert (world.state.token, world.state.authorization, world.state.fresh_until) == (None, None, NEVER)
        assert world.state.is_ours(token)
        assert not world.state.has_rejections()
        flight = world.begin()
        assert not flight.is_forced
        world.fail(flight)
        assert world.state.token is None


@pytest.mark.parametrize(("method", "clause"), CLAUSES, ids=[f"{method}: {clause}" for method, clause in CLAUSES])
def test_what_happens_changes_what_the_table_says(method: str, clause: str) -> None:
    """Each clause of the second table is true."""
    CHANGES[method, clause]()


def test_every_row_has_a_test_and_every_change_a_row() -> None:
    """The tables, their tests and the methods of the state are the same list."""
    public = {name for name, member in vars(TokenState).items() if callable(member) and not name.startswith("_")}
    assert list(KNOWN) == list(ANSWERS)
    assert set(CHANGES) == set(CLAUSES)
    assert {method for method, _ in CLAUSES} == public - QUESTIONS - FROM_STORE
    assert public >= QUESTIONS | FROM_STORE


def test_what_a_fetch_brings_after_it_was_given_up_changes_no_outcome() -> None:
    """Nobody waits for a thread that has ended."""
    world = World()
    flight = world.begin()
    world.vanish()
    following = world.begin()
    assert following is not flight
    world.state.landed(flight, world.obtain())
    assert world.state.flight_under_way(world.time) is following
    assert flight.outcome is ABANDONED
    assert flight.landing.done()


def test_a_forked_child_fetches_for_itself_and_draws_a_moment_of_renewal_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No child waits for its parent's fetch, and no two children renew at the same moment."""
    world, moments = World(), set[float]()
    world.obtain()
    world.begin_renewal()
    for child in range(1, 9):
        monkeypatch.setattr(token_state, "forks", lambda child=child: forks() + child)
        assert world.state.flight_under_way(world.time) is None
        moments.add(world.state.fresh_until)
    assert len(moments) == 8


def test_a_forked_child_does_not_wait_for_its_parents_first_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.begin()
    assert isinstance(world.ask(), Wait)
    monkeypatch.setattr(token_state, "forks", lambda: forks() + 1)
    assert isinstance(world.ask(), Fetch)


def test_a_fetch_that_nobody_started_is_given_up_after_a_second() -> None:
    """An exception out of a signal handler may come between beginning a fetch and starting it."""
    world = World()
    assert isinstance(world.state.next_step(world.time), Fetch)
    world.wait(LOOK - 0.01)
    assert isinstance(world.ask(), Wait), "its caller may be about to start it"
    world.wait(0.01)
    assert isinstance(world.ask(), Fetch)


def test_a_fetch_that_runs_is_not_given_up_however_long_it_takes() -> None:
    """A slow endpoint is not a dead one: whether the thread lives is asked, not guessed."""
    world = World()
    flight = world.begin()
    world.wait(100 * MAX_WAIT)
    assert world.ask() == Wait(flight)


def test_a_renewal_whose_thread_is_gone_is_begun_again_within_half_a_minute() -> None:
    world = World()
    token, flight = world.begin_renewal()
    world.vanish()
    world.time = world.state.fresh_until
    assert world.ask() == Use(token), "nobody waits for it"
    assert flight.outcome is ABANDONED
    world.time = world.state.fresh_until
    assert isinstance(world.ask(), UseAndRenew)
    assert world.time <= token.sent_at + 0.82 * 3600 + RENEWAL_LOOK + 1


def test_a_shared_token_is_due_for_all_late_in_its_life() -> None:
    """Before that, a process only looks whether the store is in order."""
    world = World()
    token = world.obtain()
    assert not is_due_for_all(token, token.sent_at + 0.92 * 3600)
    assert is_due_for_all(token, token.sent_at + 0.931 * 3600)


def test_a_token_from_a_store_is_renewed_in_what_is_left_of_its_life() -> None:
    """A process that meets a token late in its life does not renew it at once."""
    world = World()
    token = world.mint(sent_at=world.time - 0.8 * 3600)
    world.state.obtained(token)
    assert world.time < world.state.fresh_until <= token.sent_at + 0.82 * 3600


def test_a_token_from_a_store_is_wanted_if_it_works_and_is_later_than_ours() -> None:
    """A store's token is not put into use in the place of one that is as good."""
    world = World()
    dead, older, same_time = world.mint(sent_at=0, life=999), world.mint(sent_at=900), world.mint()
    assert [world.state.is_wanted(token, world.time) for token in (dead, older)] == [False, True]
    ours = world.obtain(life=60)
    later = world.mint(sent_at=world.time + 1)
    tokens = (older, ours, same_time, later)
    assert [world.state.is_wanted(token, world.time) for token in tokens] == [False, False, False, True]
    world.wait(57)
    assert world.state.is_wanted(older, world.time), "ours has expired"


# ── rejections ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_origin_forces_three_renewals_an_hour_and_each_origin_has_its_own() -> None:
    world = World()
    began = world.time
    world.obtain()
    for _ in range(MOST_FORCED):
        assert world.renew_by_force(API) == "renew"
        world.wait(600)
    for _ in range(5):
        assert world.renew_by_force(API) in ("kept", "kept again")
    assert world.renew_by_force(ORG) == "renew", "that origin has forced none"
    world.time = began + PERIOD - 1
    assert world.renew_by_force(API).startswith("kept")
    world.wait(2)
    assert world.renew_by_force(API) == "renew", "the first is an hour ago"
    assert world.renew_by_force(API) == "kept", "and the others are not"


def test_a_call_that_was_renewed_once_forces_no_second_renewal() -> None:
    world = World()
    token = world.obtain()
    assert world.state.rejected(token, ORG, world.time, may_renew=False) == "kept"
    assert world.ask() == Use(token)
    assert world.renew_by_force() == "renew"


def test_a_token_that_expired_on_its_way_is_replaced_without_a_forced_renewal() -> None:
    world = World()
    for _ in range(5):
        token = world.obtain(life=60)
        world.wait(57)
        assert world.reject(token) == "renewed"
        assert not world.state.has_rejections()
        flight = world.begin()
        assert not flight.is_forced
        world.state.abandoned(flight)
    world.obtain()
    for _ in range(MOST_FORCED):
        assert world.renew_by_force() == "renew", "the budget is whole"


def test_two_origins_that_reject_a_token_wait_for_one_fetch() -> None:
    world = World()
    token = world.obtain()
    assert [world.reject(token, origin) for origin in (ORG, API)] == ["renew", "renew"]
    flight = world.begin(ORG)
    assert world.ask(origin=API) == Wait(flight)
    world.wait(0.01)
    world.state.landed(flight, world.obtain())
    assert [type(world.ask(origin=origin)) for origin in (ORG, API)] == [Use, Use]


def test_a_forced_renewal_that_failed_leaves_the_token_to_all_and_its_own_moment_of_renewal() -> None:
    """A renewal that was due when the forced one failed waits for a pause."""
    world = World()
    token = world.obtain()
    world.reject(token, API)
    world.time = token.sent_at + 0.83 * 3600
    flight = world.begin(API)
    assert world.fail(flight) is None
    assert [world.ask(origin=origin) for origin in (ORG, API)] == [Use(token)] * 2
    assert world.time < world.state.fresh_until <= world.time + 1


def test_a_forced_renewal_that_was_abandoned_is_begun_again_by_who_waits_for_it() -> None:
    world = World()
    token = world.obtain()
    world.reject(token, API)
    flight = world.begin(API)
    world.vanish()
    assert world.ask() == Use(token)
    assert flight.outcome is ABANDONED
    assert world.begin(API).is_forced


def test_a_rejection_that_joins_a_renewal_whose_request_was_sent_before_costs_no_forced_renewal() -> None:
    """That token may have been revoked together with the rejected one, so the origin may force another."""
    for sent_before, left in ((True, MOST_FORCED), (False, MOST_FORCED - 1)):
        world = World()
        token, flight = world.begin_renewal()
        sent_at = world.time
        world.wait(1)
        assert world.reject(token) == "renew"
        assert world.ask() == Wait(flight)
        world.wait(1)
        renewed = world.mint(sent_at=sent_at if sent_before else world.time)
        world.state.obtained(renewed)
        world.state.landed(flight, renewed)
        assert world.ask() == Use(renewed)
        world.wait(1)
        assert [world.renew_by_force() for _ in range(left)] == ["renew"] * left
        assert world.renew_by_force() == "kept"


def test_a_rejection_that_joins_a_renewal_that_fails_stands() -> None:
    """The renewal was not for it: the next call of that origin forces one."""
    world = World()
    token, flight = world.begin_renewal()
    world.reject(token, API)
    assert world.fail(flight) is not None
    assert world.ask() == Use(token)
    assert world.begin(API).is_forced


def test_a_token_of_the_same_time_replaces_a_rejected_one() -> None:
    """A clock may be coarse."""
    world = World()
    assert world.reject(world.obtain()) == "renew"
    better = world.obtain()
    assert world.ask() == Use(better)
    assert world.ask(origin=API) == Use(better)


def test_processes_that_share_a_token_share_the_budget() -> None:
    one, other = World(), World()
    one.obtain()
    for _ in range(MOST_FORCED):
        assert one.renew_by_force(API) == "renew"
    assert one.renew_by_force(ORG) == "renew"
    stored = one.state.forced_renewals(one.time)
    assert {origin: len(times) for origin, times in stored.items()} == {API: MOST_FORCED, ORG: 1}
    other.state.obtained(other.mint(), is_shared=True)
    other.state.adopt_forced(stored)
    assert other.state.forced_renewals(other.time) == stored, "the next token that it stores says so too"
    other.state.adopt_forced(stored)
    assert other.renew_by_force(API) == "kept", "and that is not counted twice"
    for _ in range(MOST_FORCED - 1):
        assert other.renew_by_force(ORG) == "renew"
    assert other.renew_by_force(ORG) == "kept"
    other.state.accepted(API)
    assert other.renew_by_force(API) == "renew"
    other.wait(PERIOD + 1)
    assert other.state.forced_renewals(other.time) == {}
    other.obtain()
    assert other.renew_by_force(ORG) == "renew"


def test_a_rejection_that_a_token_from_the_store_answers_costs_this_process_no_forced_renewal() -> None:
    """The process that fetched it has counted it, and the stored token says so."""
    world = World()
    world.obtain()
    for _ in range(10):
        token = world.state.token
        assert token is not None
        assert world.reject(token, API) == "renew"
        flight = world.begin(API)
        world.wait(0.01)
        shared = world.mint()
        world.state.obtained(shared, is_shared=True)
        world.state.adopt_forced({API: {"theirs": world.time}})
        world.state.landed(flight, shared)
    assert world.state.forced_renewals(world.time) == {API: {"theirs": world.time}}


def test_a_forced_renewal_that_comes_back_from_the_store_counts_once() -> None:
    world = World()
    world.obtain()
    assert world.renew_by_force() == "renew"
    ((own, time),) = world.state.forced_renewals(world.time)[ORG].items()
    world.state.adopt_forced({ORG: {own: time + 2.5, "theirs": time}})  # by another machine's clock
    assert len(world.state.forced_renewals(world.time)[ORG]) == 2
    assert [world.renew_by_force() for _ in range(2)] == ["renew", "kept"]


def test_an_accepted_renewal_that_a_stored_token_still_names_does_not_count_again() -> None:
    world = World()
    world.obtain()
    for _ in range(MOST_FORCED):
        assert world.renew_by_force() == "renew"
    stored = world.state.forced_renewals(world.time)
    world.state.accepted(ORG)
    world.state.adopt_forced(stored)
    assert world.state.forced_renewals(world.time) == {}
    assert [world.renew_by_force() for _ in range(MOST_FORCED + 1)] == ["renew"] * MOST_FORCED + ["kept"]


def test_rejections_of_very_many_origins_are_not_kept() -> None:
    world = World()
    world.obtain()
    for number in range(3 * MAX_ORIGINS):
        assert world.renew_by_force(f"https://{number}.example.com") == "renew"
    assert len(world.state.forced_renewals(world.time)) == MAX_ORIGINS


def test_so_many_former_tokens_are_ours_and_no_more() -> None:
    """What is remembered of former tokens does not grow without bound."""
    world, tokens = World(), list[Token]()
    for _ in range(MAX_FORMER + 2):
        world.wait(60)
        tokens.append(world.obtain())
    world.state.close()
    assert [world.state.is_ours(token) for token in tokens] == [False] * 2 + [True] * MAX_FORMER


def named(value: str, sent_at: float = 1000.0) -> Token:
    """A token whose value is another object each time, as one that was read from a header or a store."""
    return Token("".join(["token ", value]), "Bearer", (), 3600.0, sent_at)


@pytest.mark.parametrize("value", ["a", "z"])
def test_tokens_are_told_apart_by_their_values_and_not_by_their_order(value: str) -> None:
    world = World()
    world.state.obtained(named(value, 990))
    world.state.obtained(named("m"))
    assert world.state.is_ours(named("m"))
    assert world.state.is_ours(named(value)), "a former one"
    assert not world.state.is_ours(named(f"{value} of another app"))
    assert world.state.is_wanted(named(value, 1001), world.time)
    assert not world.state.is_wanted(named("m", 1001), world.time), "it is in use already"
    assert world.reject(named(value)) == "renewed"
    assert world.state.token == named("m")


def test_a_token_that_is_used_again_pushes_no_former_one_out() -> None:
    world = World()
    world.state.obtained(named("former"))
    for moment in range(MAX_FORMER + 1):
        world.state.obtained(named("used", 1001.0 + moment))
    assert world.state.is_ours(named("former"))


def test_only_a_call_with_the_token_that_was_rejected_last_is_counted() -> None:
    world = World()
    first = world.obtain()
    assert world.renew_by_force() == "renew"
    second = world.state.token
    assert second is not None
    assert world.reject(second) == "renew"
    assert (world.reject(first), world.state.rejecting_calls(ORG)) == ("renewed", 1)
    assert (world.reject(second), world.state.rejecting_calls(ORG)) == ("renewed", 2)
    assert (world.reject(second, API), world.state.rejecting_calls(ORG)) == ("renew", 2), "another origin's call"
    assert world.state.rejecting_calls(API) == 1


@pytest.mark.parametrize("keys", [("a",), ("z",)])
def test_a_refusal_holds_for_equal_keys_until_its_time_is_over_and_longer_for_none(keys: Any) -> None:
    world = World()
    world.refuse(keys)
    assert isinstance(world.ask(), Fetch)
    assert not world.is_refusal_remembered()
    assert world.is_refusal_remembered((*keys,))
    world = World()
    world.refuse((*KEYS,))
    assert isinstance(world.ask(), Refused)
    world.wait(FIRST_REFUSAL + 0.1)
    assert not world.is_refusal_remembered()
    assert isinstance(world.ask(), Fetch)


@pytest.mark.parametrize("end", [0, 1])
def test_the_times_of_renewals_lie_between_these_ends(monkeypatch: pytest.MonkeyPatch, end: int) -> None:
    monkeypatch.setattr(renewal_times.random, "uniform", lambda *ends: ends[end])
    world = World()
    token = world.mint(life=1000.0)
    assert moment_of_renewal(token, world.time) == world.time + (720, 820)[end]
    assert moment_after_postponing("not due yet", token, world.time + 920) == world.time + (930, 950)[end]
    assert moment_after_postponing("store has just failed", token, world.time + 500) == world.time + (500, 980)[end]
    pauses = [[pause_after(count, growth) for count in range(1, 9)] for growth in (FAILED_GROWTH, ABANDONED_GROWTH)]
    longest = [[1, 2, 4, 8, 16, 32, 60, 60], [1, 4, 16, 60, 60, 60, 60, 60]]
    assert pauses == [[pause * (0.75, 1)[end] for pause in each] for each in longest]
    assert pause_after(10_000, FAILED_GROWTH) == pauses[0][-1]


def test_a_renewal_that_ended_changes_nothing_about_a_token_that_came_meanwhile() -> None:
    world = World()
    _, flight = world.begin_renewal()
    world.wait(1)
    world.obtain()
    before = world.state.fresh_until
    world.state.postponed(flight, "others are renewing it", world.time)
    assert world.state.fresh_until == before


def test_a_renewal_that_was_put_off_is_not_put_off_again_when_its_task_ends() -> None:
    world = World()
    _, flight = world.begin_renewal()
    world.state.postponed(flight, "not due yet", world.time)
    before = world.state.fresh_until
    world.wait(0.1)
    world.state.abandoned(flight)
    assert world.state.fresh_until == before


@pytest.mark.parametrize("error", [RateLimited("Too many."), ValueError("a bug")])
def test_a_renewal_that_fails_without_a_time_to_wait_is_begun_again_after_a_pause(error: Exception) -> None:
    world = World()
    _, flight = world.begin_renewal()
    pause = world.fail(flight, error)
    assert pause is not None
    assert 0 < pause <= 1


def test_a_forced_renewal_that_fails_gives_back_what_it_cost_once() -> None:
    world = World()
    token = world.obtain()
    for _ in range(MOST_FORCED - 1):
        assert world.renew_by_force() == "renew"
    token = world.state.token
    assert token is not None
    assert world.reject(token) == "renew"
    flight = world.begin()
    for _ in range(3):
        world.fail(flight, TokenRefused("No."))
    assert [world.renew_by_force() for _ in range(2)] == ["renew", "kept"]


def test_a_forked_child_leaves_the_flight_of_its_parent_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    flight = world.begin()
    monkeypatch.setattr(token_state, "forks", lambda: forks() + 1)
    flight.is_running = lambda: False
    assert isinstance(world.ask(), Fetch)
    assert flight.outcome is None


class Recorder(TokenState):
    """Lists what is assigned to what a hit reads, in order."""

    __slots__ = ()
    writes: ClassVar[list[str]] = []

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name in ("authorization", "fresh_until", "token"):
            self.writes.append(name)


@pytest.mark.parametrize("end", ["close", "after_fork", "rejected"])
def test_fresh_until_is_written_last_for_a_token_and_first_for_none(end: str) -> None:
    """A hit, which reads it first and without the mutex, meets no older token than it was written for."""
    world = World(Recorder)
    Recorder.writes.clear()
    token = world.obtain()
    assert sorted(Recorder.writes) == ["authorization", "fresh_until", "token"]
    assert Recorder.writes[-1] == "fresh_until"
    Recorder.writes.clear()
    getattr(world.state, end)(*[token, ORG, world.time] if end == "rejected" else [])
    if end == "rejected":
        assert Recorder.writes == ["fresh_until"], "other origins go on with it"
    else:
        assert sorted(Recorder.writes) == ["authorization", "fresh_until", "token"]
        assert Recorder.writes[0] == "fresh_until"
