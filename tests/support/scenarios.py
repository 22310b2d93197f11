"""The scenarios of tests/rules/test_schedules.py, and the exploration of their schedules."""

from __future__ import annotations

import gc
import random
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest

from okta_m2m import Token
from okta_m2m._core import conversation, fleet
from okta_m2m._threads import workers
from okta_m2m._threads.landings import LOOK
from schedule_world import FILES, LASTS, LIFETIME, ORG, OTHER, PATIENCE, World
from schedules import (
    Choices,
    Chooser,
    Exactly,
    Point,
    Schedule,
    Violation,
    Walk,
    each_kill,
    each_stall,
    each_switch,
    each_switch_and_kill,
    quiet,
    replace_threads,
)

needs_gil = pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="not tried on a free-threaded build: its trace functions may be called in two threads at once",
)


# ── scenarios ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Scenario:
    """What happens in a run.

    - ``most``: how many fetches may run at a time.
    - ``lease``: the seconds that a claim lasts.
    - ``stalls``: how many threads may be stalled.
    - ``files``: others than :data:`FILES` at whose lines threads switch.
    """

    name: str
    set_up: Callable[[World], None]
    most: int = 32
    lease: float = fleet.LEASE
    stalls: int = 1
    files: frozenset[str] = field(default=frozenset(), repr=False)


def cold_callers(world: World) -> None:
    app = world.app()
    for _ in range(3):
        world.call(app)


def two_cold_callers(world: World) -> None:
    app = world.app()
    world.call(app)
    world.call(app)


def cold_callers_and_a_loop(world: World) -> None:
    app = world.app()
    world.call(app)
    world.loop(app, 2)


def instant_response(world: World) -> None:
    """The token arrives while others begin to wait for it."""
    cold_callers(world)
    world.lasts, world.latest = [0.0], 0.0


def loop_that_comes_late(world: World) -> None:
    """Its tasks need the token in the moment in which it arrives."""
    app = world.app()
    world.call(app)
    world.loop(app, 2, after=LASTS, latest=0.0)


def renewal(world: World) -> None:
    app = world.app()
    world.warm(app, wait=0.9 * LIFETIME)
    for _ in range(3):
        world.call(app)
    world.latest = 0.0


def expiry(world: World) -> None:
    """The token expires while it is renewed."""
    app = world.app()
    token = world.warm(app)
    world.schedule.time = world.began = token.usable_until - LASTS / 2
    world.call(app)
    world.call(app, after=LASTS / 2)
    world.call(app, after=LASTS)
    world.latest = LASTS / 2


def rejection(world: World) -> None:
    """One origin rejects the token. Calls to the other do not wait."""
    app = world.app()
    world.rejects[OTHER] = {world.warm(app, wait=60.0).authorization}
    world.call(app, f"{OTHER}/users")
    world.call(app, f"{ORG}/users", latest=0.0)
    world.call(app, f"{OTHER}/users")


def rejection_by_many(world: World) -> None:
    """More calls report the same token than an origin may force renewals."""
    app = world.app()
    world.rejects[OTHER] = {world.warm(app, wait=60.0).authorization}
    for number in range(5):
        world.call(app, f"{OTHER}/users", takes=number * LASTS / 10)
    world.latest = 2 * LASTS


def two_rejections(world: World) -> None:
    app = world.app()
    token = world.warm(app, wait=60.0)
    world.rejects[OTHER] = world.rejects[ORG] = {token.authorization}
    for origin in (OTHER, ORG, OTHER, ORG):
        world.call(app, f"{origin}/users")


def failed_fetch(world: World) -> None:
    app = world.app()
    world.answers, world.may_fail = ["refusal"], True
    for _ in range(3):
        world.call(app)


def reset_connection(world: World) -> None:
    app = world.app()
    world.answers, world.most_requests, world.latest = ["reset"], 2, 3.0
    for _ in range(2):
        world.call(app)


def closing(world: World) -> None:
    app = world.app()
    world.call(app)
    world.close(app)
    world.call(app)


def closing_in_mid_fetch(world: World) -> None:
    app = world.app()
    world.call(app)
    world.call(app, after=LASTS)
    world.close(app, after=LASTS)


def no_threads(world: World) -> None:
    """No thread can be started, so a caller runs the fetch."""
    world.schedule.has_threads = False
    app = world.app()
    for _ in range(3):
        world.call(app)
    # One caller may stall before it runs the fetch, which the others notice by a look. The one that then runs it may be killed
    # near its end, which they notice by another.
    world.latest = 2 * LASTS + LOOK


def patience(world: World) -> None:
    """The first request is slow. A second one goes out beside it, and no third."""
    app = world.app()
    world.lasts, world.most_requests, world.latest = [12.0, LASTS], 2, PATIENCE + LASTS
    for _ in range(2):
        world.call(app)


def line_of_fetches(world: World) -> None:
    """Three apps, and one fetch at a time."""
    for number in range(3):
        world.call(world.app(f"0oa{number}"))
    world.latest = 3 * LASTS


def jobs_in_a_line(world: World) -> None:
    """Whoever puts one may start the thread of another one's."""
    world.job()
    world.job(is_queued=True)
    world.job()
    world.latest = 4 * LASTS


def job_behind_another(world: World) -> None:
    """Nobody asks for the first one any more."""
    world.job(is_queued=True, is_asked_for=False)
    world.job(is_queued=True)
    world.latest = LOOK + 4 * LASTS


def shared_store(world: World) -> None:
    """Two processes without a token."""
    world.shared_store()
    for app in (world.app(), world.app()):
        world.call(app)
    world.latest = 2.0


def shared_store_and_an_instant_response(world: World) -> None:
    shared_store(world)
    world.lasts = [0.0]


def slow_request_with_a_store(world: World) -> None:
    """The token request takes longer than a claim lasts."""
    shared_store(world)
    world.lasts, world.latest = [3.0], 5.0


def two_arrivals(world: World) -> None:
    """Two tokens arrive in any order, as if an inline fetch had been suspended."""
    app = world.app()
    state, now = app.token_state, world.schedule.time
    for number in range(2):
        token = Token(f"token-{number}", "Bearer", app.scopes, LIFETIME, now - 2 + number)
        world.mint(token.authorization, app.client_id, token.sent_at)
        world.schedule.start("arrival", lambda token=token: state.obtained(token))
    world.latest = LASTS
    world.call(app)


CONVERSATION = frozenset({conversation.__file__})
SCENARIOS = {
    one.name: one
    for one in (
        Scenario("cold callers", cold_callers),
        Scenario("two cold callers", two_cold_callers),
        Scenario("cold callers and a loop", cold_callers_and_a_loop),
        Scenario("instant response", instant_response),
        Scenario("a loop that comes late", loop_that_comes_late),
        Scenario("renewal", renewal),
        Scenario("expiry", expiry),
        Scenario("rejection", rejection),
        Scenario("rejection by many", rejection_by_many),
        Scenario("two rejections", two_rejections),
        Scenario("failed fetch", failed_fetch),
        Scenario("reset connection", reset_connection),
        Scenario("closing", closing),
        Scenario("closing in mid-fetch", closing_in_mid_fetch),
        Scenario("no threads", no_threads),
        Scenario("patience", patience, files=CONVERSATION),
        Scenario("line of fetches", line_of_fetches, most=1),
        Scenario("jobs in a line", jobs_in_a_line),
        Scenario("a job behind another", job_behind_another),
        Scenario("shared store", shared_store),
        Scenario("shared store and an instant response", shared_store_and_an_instant_response),
        # Who is stalled for longer than a lease has lost the claim.
        Scenario("slow request with a store", slow_request_with_a_store, lease=1.0, stalls=0),
        Scenario("two arrivals", two_arrivals),
    )
}


# ── exploring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def attempt(
    scenario: Scenario, choose: Chooser, points: list[Point] | None = None
) -> tuple[Violation | None, Schedule]:
    """One run, and the promise that it breaks."""
    random.seed(1)
    schedule = Schedule(choose, FILES | scenario.files)
    line = partial(workers.Line, scenario.most, scenario.most)
    with replace_threads(schedule, line), pytest.MonkeyPatch.context() as patch:
        patch.setattr(fleet, "LEASE", scenario.lease)
        try:
            world = World(schedule)
            scenario.set_up(world)
            schedule.look, schedule.points = world.look, points
            schedule.run(explore=True)
            world.check_rest()
        except Violation as violation:
            return violation, schedule
    return None, schedule


def replay(name: str, choices: Choices) -> None:
    """Shows a failure again."""
    with quiet():
        violation, schedule = attempt(SCENARIOS[name], Exactly(choices))
    if violation is not None:
        places = "\n".join(schedule.places)
        raise Violation(f"{violation}\n  replay({name!r}, {schedule.choices})\n{places}")


def simplest_points(scenario: Scenario) -> list[Point]:
    """The points of the simplest schedule."""
    points: list[Point] = []
    with quiet():
        violation, _ = attempt(scenario, Exactly({}), points)
    if violation is not None:
        raise violation
    return points


def first_violation(scenario: Scenario, choosers: Iterable[Chooser]) -> tuple[int, Choices | None]:
    """The number of schedules that were explored, and the choices of the first that breaks a promise, without those that
    do not matter."""
    explored = 0
    with quiet():
        for choose in choosers:
            explored += 1
            violation, schedule = attempt(scenario, choose)
            if explored % 20 == 0:
                gc.collect(0)
            if violation is not None:
                return explored, shorten(scenario, schedule.choices)
    return explored, None


def shorten(scenario: Scenario, choices: Choices) -> Choices:
    """Fewer choices that break a promise too."""
    size = len(choices)
    while size:
        numbers = sorted(choices)
        for first in range(0, len(numbers), size):
            fewer = {number: choices[number] for number in numbers if number not in numbers[first : first + size]}
            violation, schedule = attempt(scenario, Exactly(fewer))
            if violation is not None and len(schedule.choices) < len(choices):
                choices = schedule.choices
                break
        else:
            size //= 2
    return choices


def explore(scenario: Scenario, choosers: Iterable[Chooser]) -> int:
    """The number of schedules, none of which breaks a promise."""
    explored, choices = first_violation(scenario, choosers)
    if choices is not None:
        replay(scenario.name, choices)
        raise AssertionError(f"not deterministic: replay({scenario.name!r}, {choices})")
    return explored


FEW = range(15)
MANY = range(300)
LENGTHS: dict[str, int] = {}


def walks(scenario: Scenario, seeds: range, *, stalls: int = 0, kills: int = 0) -> Iterator[Chooser]:
    """Random schedules, in which so many threads are stalled, and so many callers killed."""
    length = LENGTHS.get(scenario.name) or LENGTHS.setdefault(scenario.name, len(simplest_points(scenario)))
    return (Walk(seed, length, stalls=min(stalls, scenario.stalls), kills=kills) for seed in seeds)


def each_pair(scenario: Scenario) -> Iterator[Chooser]:
    """All schedules with two switches more than the simplest one."""
    for first in each_switch(simplest_points(scenario)):
        points: list[Point] = []
        attempt(scenario, first, points)
        for second in each_switch(points):
            if max(second.choices) > max(first.choices):
                yield Exactly({**first.choices, **second.choices})


WALKS: dict[str, Callable[[Scenario, range], Iterator[Chooser]]] = {
    "switches": walks,
    "switches and a stall": partial(walks, stalls=1),
    "switches and a kill": partial(walks, kills=1),
    "switches, a stall and a kill": partial(walks, stalls=1, kills=1),
}
EACH: dict[str, Callable[[Scenario], Iterator[Chooser]]] = {
    "each switch": lambda scenario: each_switch(simplest_points(scenario)),
    "each stall": lambda scenario: each_stall(simplest_points(scenario) if scenario.stalls else []),
    "each kill": lambda scenario: each_kill(simplest_points(scenario)),
    "each switch and kill": lambda scenario: each_switch_and_kill(simplest_points(scenario)),
}
