"""Real threads and event loops, of which one runs at a time, and may be interrupted at each line of the token's state, the
flight, its waiters, the line of fetches and the shared store. What the package promises holds in each order of these lines.

A failure names the schedule that led to it, as a call of :func:`scenarios.replay` that shows it again.
"""

from __future__ import annotations

from itertools import islice

import pytest

from scenarios import EACH, FEW, MANY, SCENARIOS, WALKS, Scenario, attempt, each_pair, explore, needs_gil
from schedules import Point, Walk, quiet

pytestmark = [needs_gil, pytest.mark.usefixtures("no_log")]


@pytest.fixture(params=SCENARIOS.values(), ids=list(SCENARIOS))
def scenario(request: pytest.FixtureRequest) -> Scenario:
    return request.param


@pytest.mark.parametrize("kind", list(WALKS)[:3])
def test_the_promises_hold_in_random_orders_of_lines(scenario: Scenario, kind: str) -> None:
    explore(scenario, WALKS[kind](scenario, FEW))


@pytest.mark.matrix
@pytest.mark.parametrize("kind", WALKS)
def test_the_promises_hold_in_more_random_orders_of_lines(scenario: Scenario, kind: str) -> None:
    explore(scenario, WALKS[kind](scenario, MANY[len(FEW) : len(MANY) // 6]))


@pytest.mark.matrix
@pytest.mark.parametrize("kind", EACH)
def test_the_promises_hold_if_a_thread_is_disturbed_at_any_line(scenario: Scenario, kind: str) -> None:
    """A thread that stands still, or a caller that is killed, costs the others at most that time, and one look.

    Every sixth of these schedules, because all of them take five minutes of two processors.
    """
    explore(scenario, islice(EACH[kind](scenario), None, None, 6))


@pytest.mark.matrix
@pytest.mark.parametrize("part", range(3))
def test_the_promises_hold_for_two_switches_between_two_callers_without_a_token(part: int) -> None:
    """A twentieth of all pairs of lines, because all of them take twenty minutes. In three parts, so that none is slow."""
    scenario = SCENARIOS["two cold callers"]
    explore(scenario, islice(each_pair(scenario), 20 * part, None, 60))


def test_the_same_choices_give_the_same_schedule(scenario: Scenario) -> None:
    seen = []
    for _ in range(2):
        points: list[Point] = []
        with quiet():
            _, schedule = attempt(scenario, Walk(3, 500), points)
        seen.append((schedule.choices, schedule.places, [(point.running, point.others) for point in points]))
    assert seen[0] == seen[1]
