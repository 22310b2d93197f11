"""Which rejections of a token force a renewal, how many may, and which tokens are known as this app's own."""

from __future__ import annotations

import pytest

from okta_m2m import Token, TokenRefused
from okta_m2m._core.flights import ABANDONED
from okta_m2m._core.forced_renewals import MAX_ORIGINS, MINUTE, MOST_AT_ONCE, MOST_FORCED, PERIOD
from okta_m2m._core.next_step import Use, Wait
from okta_m2m._core.token_state import MAX_FORMER
from state_tables import API, ORG, World


def test_an_origin_forces_at_most_twenty_renewals_a_minute() -> None:
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


def test_each_origin_may_force_three_renewals_an_hour() -> None:
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


def test_a_token_that_expired_during_the_call_is_replaced_without_a_forced_renewal() -> None:
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


def test_after_a_failed_forced_renewal_all_use_the_token_until_its_time_of_renewal() -> None:
    """A renewal that was due when the forced one failed waits for a pause."""
    world = World()
    token = world.obtain()
    world.reject(token, API)
    world.time = token.sent_at + 0.83 * 3600
    flight = world.begin(API)
    assert world.fail(flight) is None
    assert [world.ask(origin=origin) for origin in (ORG, API)] == [Use(token)] * 2
    assert world.time < world.state.fresh_until <= world.time + 1


def test_an_abandoned_forced_renewal_is_started_again_by_a_waiting_caller() -> None:
    world = World()
    token = world.obtain()
    world.reject(token, API)
    flight = world.begin(API)
    world.vanish()
    assert world.ask() == Use(token)
    assert flight.outcome is ABANDONED
    assert world.begin(API).is_forced


def test_a_rejection_during_a_renewal_that_was_already_sent_forces_none() -> None:
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


def test_a_rejection_is_kept_if_the_renewal_under_way_fails() -> None:
    """The renewal was not for it: the next call of that origin forces one."""
    world = World()
    token, flight = world.begin_renewal()
    world.reject(token, API)
    assert world.fail(flight) is not None
    assert world.ask() == Use(token)
    assert world.begin(API).is_forced


def test_a_token_requested_at_the_same_time_replaces_a_rejected_one() -> None:
    """A clock may be coarse."""
    world = World()
    assert world.reject(world.obtain()) == "renew"
    better = world.obtain()
    assert world.ask() == Use(better)
    assert world.ask(origin=API) == Use(better)


def test_processes_that_share_a_token_share_the_limit_of_forced_renewals() -> None:
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


def test_a_rejection_that_is_solved_by_a_stored_token_costs_no_forced_renewal() -> None:
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


def test_a_forced_renewal_that_is_read_back_from_the_store_counts_once() -> None:
    world = World()
    world.obtain()
    assert world.renew_by_force() == "renew"
    ((own, time),) = world.state.forced_renewals(world.time)[ORG].items()
    world.state.adopt_forced({ORG: {own: time + 2.5, "theirs": time}})  # by another machine's clock
    assert len(world.state.forced_renewals(world.time)[ORG]) == 2
    assert [world.renew_by_force() for _ in range(2)] == ["renew", "kept"]


def test_an_accepted_renewal_is_not_counted_again_from_a_stored_token() -> None:
    world = World()
    world.obtain()
    for _ in range(MOST_FORCED):
        assert world.renew_by_force() == "renew"
    stored = world.state.forced_renewals(world.time)
    world.state.accepted(ORG)
    world.state.adopt_forced(stored)
    assert world.state.forced_renewals(world.time) == {}
    assert [world.renew_by_force() for _ in range(MOST_FORCED + 1)] == ["renew"] * MOST_FORCED + ["kept"]


def test_rejections_of_very_many_origins_take_limited_memory() -> None:
    world = World()
    world.obtain()
    for number in range(3 * MAX_ORIGINS):
        assert world.renew_by_force(f"https://{number}.example.com") == "renew"
    assert len(world.state.forced_renewals(world.time)) == MAX_ORIGINS


def test_a_limited_number_of_earlier_tokens_is_known_as_ours() -> None:
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
def test_tokens_are_compared_by_their_values(value: str) -> None:
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


def test_using_a_token_again_forgets_no_earlier_one() -> None:
    world = World()
    world.state.obtained(named("former"))
    for moment in range(MAX_FORMER + 1):
        world.state.obtained(named("used", 1001.0 + moment))
    assert world.state.is_ours(named("former"))


def test_only_calls_with_the_last_rejected_token_are_counted() -> None:
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


def test_a_failed_forced_renewal_does_not_count() -> None:
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
