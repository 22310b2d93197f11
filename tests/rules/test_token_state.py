"""Every change to the token in use: the two tables of ``_core/token_state.py``, row by row.

Invariant: a row of the tables without a test fails, and so does a public method of :class:`TokenState` without a row.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar

import pytest

from okta_m2m import RateLimited, Token, TokenRefused, TokenUnreachable
from okta_m2m._core import renewal_times, token_state
from okta_m2m._core.clocks import NEVER
from okta_m2m._core.flights import ABANDONED, LANDING_GRACE, OVERDUE, Failure, Flight, forks
from okta_m2m._core.forced_renewals import FORCED_AT_ONCE
from okta_m2m._core.next_step import Closed, Fetch, NextStep, Refused, Rejection, Use, UseAndRenew, Wait
from okta_m2m._core.origins import Origins
from okta_m2m._core.renewal_times import (
    ABANDONED_GROWTH,
    FAILED_GROWTH,
    FIRST_REFUSAL,
    is_due_for_all,
    moment_after_postponing,
    moment_of_renewal,
    pause_after,
)
from okta_m2m._core.token_state import MAX_FORMER, TokenState

MAX_WAIT = 30.0
KEYS: Any = ("key",)  # they are only compared here
OTHER_KEYS: Any = ("another key",)
LATENESS = MAX_WAIT / 3
STRANGER = Token("not-ours")
QUESTIONS = {"flight_under_way", "is_ours", "is_wanted", "remembered_refusal"}


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

    def ask(self, wait: float = MAX_WAIT) -> NextStep:
        step = self.state.next_step(self.time, self.time + wait)
        if isinstance(step, Fetch | UseAndRenew):
            step.flight.is_running = lambda: True  # as who has this answer does
        return step

    def begin(self) -> Flight:
        step = self.ask()
        assert isinstance(step, Fetch | UseAndRenew)
        return step.flight

    def begin_renewal(self, **about: Any) -> tuple[Token, Flight]:
        token = self.obtain(**about)
        self.time = self.state.fresh_until
        return token, self.begin()

    def refuse(self, keys: Any = KEYS) -> None:
        self.state.refused(TokenRefused("No."), keys, self.time)

    def fail(self, flight: Flight, error: Exception | None = None) -> float | None:
        return self.state.failed(flight, error or TokenUnreachable("No answer."), self.time)

    def reject(self, token: Token) -> Rejection:
        return self.state.rejected(token, self.time)

    def is_refusal_remembered(self, keys: Any = KEYS) -> bool:
        return self.state.remembered_refusal(keys, self.time) is not None

    def wait(self, seconds: float) -> None:
        self.time += seconds


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
    "a token, fresh (before ``fresh_until``)": [
        lambda w: w.obtain(),
        lambda w: (w.begin(), w.obtain()),
        lambda w: (w.obtain(), w.refuse()),
        lambda w: w.begin_renewal(),
    ],
    "a token, usable; no fetch under way": [
        lambda w: (w.obtain(), w.wait(w.state.fresh_until - w.time)),
        lambda w: (w.obtain(), w.refuse(), w.wait(0.82 * 3600)),
        lambda w: (w.begin_renewal(), w.wait(MAX_WAIT + OVERDUE)),
    ],
    "a token, usable; a fetch under way": [
        lambda w: (w.begin(), w.obtain(life=20), w.wait(17)),
    ],
    "no usable token; a fetch under way": [
        lambda w: w.begin(),
        lambda w: (w.obtain(life=20), w.wait(17), w.begin(), w.wait(2)),
        lambda w: (w.begin(), w.wait(LATENESS - 0.01)),
        lambda w: (w.begin(), w.refuse()),
    ],
    "no usable token; Okta refused these keys lately": [
        lambda w: w.refuse(),
        lambda w: (w.obtain(life=1), w.refuse(), w.wait(0.95)),
    ],
    "no usable token": [
        lambda w: None,
        lambda w: (w.obtain(), w.wait(3595)),
        lambda w: (w.refuse(), w.wait(1)),
        lambda w: w.refuse(OTHER_KEYS),
        lambda w: (w.begin(), w.wait(LATENESS)),
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
            assert now < state.fresh_until
            assert under_way is before
        case UseAndRenew(token, flight):
            assert token is state.token
            assert state.fresh_until == min(flight.due, token.usable_until)
        case Refused(error):
            assert error.retry_after is not None
            assert 0 < error.retry_after <= 60
        case Wait(flight, _):
            assert flight is before
    if isinstance(step, Fetch | UseAndRenew):
        assert before is None
        assert under_way is step.flight
        assert (step.flight.deadline, step.flight.due) == (now + MAX_WAIT, now + MAX_WAIT + OVERDUE)
        assert step.flight.expected == now + LATENESS
        assert step.flight.is_renewal is isinstance(step, UseAndRenew)


@pytest.mark.parametrize(
    ("wait", "after", "timeout"),
    [
        (MAX_WAIT, 0, MAX_WAIT + LANDING_GRACE),
        (MAX_WAIT, 1, MAX_WAIT + LANDING_GRACE),
        (80, 10, 70 - 10),
        (MAX_WAIT - 0.25, 0, MAX_WAIT - 0.25),
        (80, 0, 70),
        (-5, 0, 0),
    ],
)
def test_a_caller_waits_to_its_own_deadline_and_a_moment_longer_for_a_fetch_that_ends_by_then(
    wait: float, after: float, timeout: float
) -> None:
    """No wait outlasts its caller's deadline by more than a moment, nor the fetch."""
    world = World()
    world.begin().expected = world.time + 70
    world.wait(after)
    step = world.ask(wait)
    assert isinstance(step, Wait)
    assert step.timeout == pytest.approx(timeout)


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


@change("obtained", "suspect, refusal and failures are forgotten")
def check_forgetting() -> None:
    world = World()
    for _ in range(3):
        world.fail(world.begin_renewal()[1])
        world.refuse()
    world.reject(world.obtain())
    world.refuse()
    world.obtain()
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


@change("failed", "who waits for it has that error")
def check_failing() -> None:
    world = World()
    for error in (TokenUnreachable("No answer."), ValueError("Not ours.")):
        flight = world.begin()
        assert world.fail(flight, error) is None, "nothing is renewed"
        assert isinstance(flight.outcome, Failure)
        assert repr(flight.outcome.error) == repr(error)
        assert (flight.outcome.error is error) is isinstance(error, ValueError), "ours is kept as a copy"
        assert flight.landing.done()
        assert world.state.flight_under_way(world.time) is None


@change("failed", "a suspect is back in use, except after a refusal")
def check_suspect_returning() -> None:
    for error in (TokenUnreachable("No."), RateLimited("No.", retry_after=9.0), ValueError("No.")):
        world = World()
        token = world.obtain()
        world.reject(token)
        world.fail(world.begin(), TokenRefused("No."))
        assert world.state.token is None
        world.fail(world.begin(), error)
        assert world.state.token is token
        assert world.time + 0.5 <= world.state.fresh_until <= world.time + 1


@change("failed", "the forced renewal counts as none")
def check_budget_returning() -> None:
    world = World()
    token = world.obtain()
    for _ in range(10):
        assert world.reject(token) == "renew"
        world.fail(world.begin())


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


def accept(world: World) -> Token:
    """Another token, which an API takes."""
    token = world.obtain()
    world.state.accepted()
    world.wait(0.01)
    return token


@change("rejected", "if it has expired, it is not")
def check_rejecting_too_late() -> None:
    world = World()
    for _ in range(5):
        token = world.obtain(life=60)
        world.wait(57)
        assert world.reject(token) == "renewed"
        assert world.state.token is token
    for _ in range(3):
        assert world.reject(world.obtain()) == "renew", "the budget is whole"
        accept(world)


@change("rejected", "it is the suspect, if a forced renewal is left")
def check_rejecting() -> None:
    world = World()
    for _ in range(3):
        token = world.obtain()
        assert world.reject(token) == "renew"
        assert (world.state.token, world.state.authorization) == (None, None)
        assert not world.state.is_wanted(token, world.time), "it is in the store still"
        assert world.reject(token) == "renewed", "it is not in use any more"
        assert world.state.rejecting_calls == 2
        accept(world)
    last = world.obtain()
    for _ in range(3):
        assert world.reject(last) == "kept"
        assert world.state.rejecting_calls == 1
        assert world.reject(last) == "kept again"
        assert world.reject(STRANGER) == "renewed"
        assert world.state.token is last
        world.wait(59)
        assert world.reject(last) == "kept again"
        world.wait(1.1)
        assert world.reject(last) == "renew"
        last = accept(world)
    world.wait(3600)
    for _ in range(3):
        assert world.reject(world.obtain()) == "renew"
        accept(world)
    assert world.reject(world.obtain()) == "kept", "it does not grow beyond three"
    world.wait(60)
    assert world.reject(world.obtain()) == "renew"
    flight = world.begin()
    assert world.state.close() is not None, "a suspect can be revoked"
    assert world.state.close() is None
    world.fail(flight)
    assert world.state.token is None


@change("accepted", "its rejection would be one like any other")
def check_accepting() -> None:
    for is_accepted, renewals in ((False, 2), (True, 3)):
        world, answers = World(), list[Rejection]()
        for _ in range(4):
            answers.append(world.reject(world.obtain()))
            if is_accepted:
                accept(world)
            world.wait(0.01)
        assert answers.count("renew") == renewals, "a token that nobody accepted costs two"


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
        world.fail(world.begin())
        assert world.state.token is None, "nor is a suspect of the parent's back in use"


@pytest.mark.parametrize(("method", "clause"), CLAUSES, ids=[f"{method}: {clause}" for method, clause in CLAUSES])
def test_what_happens_changes_what_the_table_says(method: str, clause: str) -> None:
    """Each clause of the second table is true."""
    CHANGES[method, clause]()


def test_every_row_has_a_test_and_every_change_a_row() -> None:
    """The tables, their tests and the methods of the state are the same list."""
    public = {name for name, member in vars(TokenState).items() if callable(member) and not name.startswith("_")}
    assert list(KNOWN) == list(ANSWERS)
    assert set(CHANGES) == set(CLAUSES)
    assert {method for method, _ in CLAUSES} == public - QUESTIONS
    assert public >= QUESTIONS


def test_an_overdue_fetch_is_given_up_at_the_next_question() -> None:
    """Nobody waits for a fetch whose event loop is gone, and what it brings later changes no outcome."""
    world = World()
    flight = world.begin()
    world.time = flight.expected
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


def test_a_fetch_whose_thread_or_loop_is_gone_is_given_up_at_once() -> None:
    """Nobody waits for a thread that has ended or a loop that is closed."""
    world = World()
    flight = world.begin()
    flight.is_running = lambda: False
    assert isinstance(world.ask(), Fetch)
    assert flight.outcome is ABANDONED


def test_a_fetch_that_nobody_started_is_given_up_by_the_thread_that_began_it() -> None:
    """An exception out of a signal handler may come between beginning a fetch and starting it."""
    world = World()
    begun = [world.state.next_step(world.time, world.time + MAX_WAIT)]
    other = threading.Thread(target=lambda: begun.append(world.state.next_step(world.time, world.time + MAX_WAIT)))
    other.start()
    other.join()
    begun.append(world.ask())
    assert [type(step) for step in begun] == [Fetch, Wait, Fetch]


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


def test_the_budget_of_forced_renewals_is_spent_whole_and_no_further() -> None:
    world = World()
    for outcome in ["renew"] * int(FORCED_AT_ONCE) + ["kept", "kept again"]:
        token = world.state.token or world.obtain()
        world.state.accepted()
        assert world.state.rejected(token, world.time) == outcome


def test_so_many_former_tokens_are_ours_and_no_more() -> None:
    """What is remembered of former tokens, and of rejected ones, does not grow without bound."""
    world, tokens = World(), list[Token]()
    for _ in range(MAX_FORMER + 2):
        world.wait(60)
        tokens.append(world.obtain())
        world.state.accepted()
        world.reject(tokens[-1])
    assert [world.state.is_ours(token) for token in tokens] == [False] * 2 + [True] * MAX_FORMER
    assert [world.state.is_wanted(token, world.time) for token in tokens] == [True] * 2 + [False] * MAX_FORMER


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
    first, second = world.obtain(), None
    assert world.reject(first) == "renew"
    world.wait(1)
    second = world.obtain()
    assert world.reject(second) == "renew", "the second costs two, and two are left"
    assert (world.reject(first), world.state.rejecting_calls) == ("renewed", 1)
    assert (world.reject(second), world.state.rejecting_calls) == ("renewed", 2)


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


def test_a_refused_renewal_gives_back_what_it_cost_once() -> None:
    world = World()

    def reject_another() -> Rejection:
        world.wait(0.001)
        token = world.obtain()
        world.state.accepted()
        return world.reject(token)

    assert [reject_another() for _ in range(int(FORCED_AT_ONCE))] == ["renew"] * int(FORCED_AT_ONCE)
    for _ in range(3):
        world.fail(world.begin(), TokenRefused("No."))
    assert [reject_another() for _ in range(2)] == ["renew", "kept"]


def test_a_forked_child_leaves_the_flight_of_its_parent_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    flight = world.begin()
    monkeypatch.setattr(token_state, "forks", lambda: forks() + 1)
    world.wait(MAX_WAIT + OVERDUE + 1)
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
    getattr(world.state, end)(*[token, world.time] if end == "rejected" else [])
    assert sorted(Recorder.writes) == ["authorization", "fresh_until", "token"]
    assert Recorder.writes[0] == "fresh_until"
