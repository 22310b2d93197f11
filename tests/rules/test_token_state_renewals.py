"""When a token is renewed: after a fetch that ended, failed or lost its thread, in a forked child, and from a store."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from okta_m2m import RateLimited
from okta_m2m._core import renewal_times, token_state
from okta_m2m._core.flights import ABANDONED
from okta_m2m._core.next_step import Fetch, Refused, Use, UseAndRenew, Wait
from okta_m2m._core.renewal_times import (
    ABANDONED_GROWTH,
    FAILED_GROWTH,
    FIRST_REFUSAL,
    is_due_for_all,
    moment_after_postponing,
    moment_of_renewal,
    pause_after,
)
from okta_m2m._core.token_state import RENEWAL_LOOK, TokenState
from okta_m2m._threads.landings import LOOK, forks
from state_tables import KEYS, MAX_WAIT, ORG, World

# ── fetches that end, and when a token is renewed ────────────────────────────────────────────────────────────────────


def test_a_token_from_a_fetch_that_was_given_up_does_not_end_the_next_fetch() -> None:
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


def test_a_forked_child_fetches_for_itself_at_its_own_time_of_renewal(
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


def test_a_fetch_that_was_not_started_is_given_up_after_a_second() -> None:
    """An exception out of a signal handler may come between beginning a fetch and starting it."""
    world = World()
    assert isinstance(world.state.next_step(world.time), Fetch)
    world.wait(LOOK - 0.01)
    assert isinstance(world.ask(), Wait), "its caller may be about to start it"
    world.wait(0.01)
    assert isinstance(world.ask(), Fetch)


def test_a_running_fetch_is_not_given_up_however_long_it_takes() -> None:
    """A slow endpoint is not a dead one: whether the thread lives is asked, not guessed."""
    world = World()
    flight = world.begin()
    world.wait(100 * MAX_WAIT)
    assert world.ask() == Wait(flight)


def test_a_renewal_that_lost_its_thread_is_started_again_within_half_a_minute() -> None:
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


def test_a_token_from_a_store_is_renewed_within_its_remaining_lifetime() -> None:
    """A process that meets a token late in its life does not renew it at once."""
    world = World()
    token = world.mint(sent_at=world.time - 0.8 * 3600)
    world.state.obtained(token)
    assert world.time < world.state.fresh_until <= token.sent_at + 0.82 * 3600


def test_a_token_from_a_store_is_used_if_it_is_valid_and_later_than_ours() -> None:
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


# ── refusals, pauses and forks ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("keys", [("a",), ("z",)])
def test_a_refusal_is_remembered_for_equal_keys_until_its_time_is_over(keys: Any) -> None:
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
def test_the_times_of_renewals_are_within_their_limits(monkeypatch: pytest.MonkeyPatch, end: int) -> None:
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


def test_a_renewal_that_ended_does_not_change_a_newer_token() -> None:
    world = World()
    _, flight = world.begin_renewal()
    world.wait(1)
    world.obtain()
    before = world.state.fresh_until
    world.state.postponed(flight, "others are renewing it", world.time)
    assert world.state.fresh_until == before


def test_a_postponed_renewal_is_not_postponed_again_when_its_thread_ends() -> None:
    world = World()
    _, flight = world.begin_renewal()
    world.state.postponed(flight, "not due yet", world.time)
    before = world.state.fresh_until
    world.wait(0.1)
    world.state.abandoned(flight)
    assert world.state.fresh_until == before


@pytest.mark.parametrize("error", [RateLimited("Too many."), ValueError("a bug")])
def test_a_renewal_that_fails_without_a_named_time_is_started_again_after_a_pause(error: Exception) -> None:
    world = World()
    _, flight = world.begin_renewal()
    pause = world.fail(flight, error)
    assert pause is not None
    assert 0 < pause <= 1


def test_a_forked_child_does_not_change_the_flight_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_fresh_until_is_set_last_for_a_new_token_and_first_for_none(end: str) -> None:
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
