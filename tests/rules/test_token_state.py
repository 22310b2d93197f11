"""Every change to the token in use: the two tables of ``_core/token_state.py``, row by row.

Invariant: a row of the tables without a test fails, and so does a public method of :class:`TokenState` without a row.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from okta_m2m import RateLimited, TokenRefused, TokenUnreachable
from okta_m2m._base.clocks import NEVER
from okta_m2m._core.flights import ABANDONED, LANDING_GRACE, Failure, Flight
from okta_m2m._core.forced_renewals import MOST_FORCED, PERIOD
from okta_m2m._core.next_step import Closed, Fetch, Refused, Use, UseAndRenew, Wait
from okta_m2m._core.renewal_times import is_due_for_all
from okta_m2m._core.token_state import RENEWAL_LOOK, TokenState
from okta_m2m._threads.landings import LOOK
from okta_m2m.errors import SubjectRefused
from state_tables import (
    ANSWERS,
    API,
    CLAUSES,
    FROM_STORE,
    KEYS,
    MAX_WAIT,
    ORG,
    OTHER_KEYS,
    QUESTIONS,
    STRANGER,
    World,
    check_consequences,
)

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
    "a good token, but its subject has expired": [
        lambda w: (w.end_subject(), w.obtain(), w.wait(0.82 * 3600)),
        lambda w: (w.obtain(), w.end_subject(), w.wait(3594)),
        lambda w: (w.reject(w.obtain(), API), w.end_subject(), w.wait(0.82 * 3600)),
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
def test_next_step_answers_from_the_first_row_that_applies(known: str, way: int) -> None:
    """Whatever led to what a row knows, its answer is given."""
    world = World()
    KNOWN[known][way](world)
    before = world.state.flight_under_way(world.time)
    step = world.ask()
    assert type(step).__name__ == ANSWERS[known]
    check_consequences(world, step, before)


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
def test_a_waiting_caller_looks_at_the_fetch_each_second_until_its_deadline(
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


@change("failed", "a token in use stays fresh until it expires, if its subject was refused")
def check_refused_subjects() -> None:
    world = World()
    token, flight = world.begin_renewal()
    assert world.fail(flight, SubjectRefused("No.")) is None
    assert world.state.fresh_until == token.usable_until
    world.time = token.usable_until
    assert isinstance(world.ask(), Fetch)  # perhaps Okta accepts the subject now
    world = World()
    world.begin_renewal()
    world.state.close()
    world.state.failed(flight, SubjectRefused("No."), world.time)
    assert world.state.fresh_until == NEVER


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
def test_each_clause_of_the_second_table_is_true(method: str, clause: str) -> None:
    """Each clause of the second table is true."""
    CHANGES[method, clause]()


def test_every_row_has_a_test_and_every_method_a_row() -> None:
    """The tables, their tests and the methods of the state are the same list."""
    public = {name for name, member in vars(TokenState).items() if callable(member) and not name.startswith("_")}
    assert list(KNOWN) == list(ANSWERS)
    assert set(CHANGES) == set(CLAUSES)
    assert {method for method, _ in CLAUSES} == public - QUESTIONS - FROM_STORE
    assert public >= QUESTIONS | FROM_STORE
