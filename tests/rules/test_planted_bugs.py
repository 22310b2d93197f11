"""The schedules of ``test_schedules.py`` find each bug that is planted in the source: what finds nothing in a wrong program
proves nothing about a right one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from okta_m2m._core import conversation, fleet
from okta_m2m._core.fetching import Fetching
from okta_m2m._core.flights import Flight
from okta_m2m._core.token_state import TokenState
from okta_m2m._threads import landings, waiting, workers
from scenarios import EACH, MANY, SCENARIOS, WALKS, explore, first_violation, needs_gil, replay
from schedules import Choices, Chooser, Violation, plant

pytestmark = [needs_gil, pytest.mark.usefixtures("no_log")]

PLANTED: dict[str, tuple[str, str, Any, str, tuple[tuple[str, str], ...]]] = {
    "next_step without the mutex": (
        "cold callers",
        "switches",
        TokenState,
        "next_step",
        (("with mutex():", "if True:"),),
    ),
    "an ended flight stays under way": (
        "cold callers",
        "switches",
        TokenState,
        "_end",
        (("self._flight = None", "pass"),),
    ),
    "a waiting thread looks before it can be woken": (
        "instant response",
        "switches",
        landings.Landing,
        "wait",
        (
            ("    self._locks[lock] = None\n", "    has_landed = self._has_landed\n    self._locks[lock] = None\n"),
            ("if not self._has_landed:", "if not has_landed:"),
        ),
    ),
    "threads are woken before they see that it has landed": (
        "instant response",
        "switches",
        landings.Landing,
        "land",
        (
            ("    self._has_landed = True\n", ""),
            ("    self._call_back()\n", "    self._call_back()\n    self._has_landed = True\n"),
        ),
    ),
    "a loop that comes to a landed flight is not woken": (
        "a loop that comes late",
        "switches",
        waiting,
        "_waiters_of",
        (("landing.add_done_callback(", "landing.done() or landing.add_done_callback("),),
    ),
    "an older token replaces a later one": (
        "two arrivals",
        "switches",
        TokenState,
        "obtained",
        (("later = used is None or token.sent_at > used.sent_at or not used.usable(self.now())", "later = True"),),
    ),
    "a token is fresh before it is in use": (
        "expiry",
        "switches",
        TokenState,
        "_use",
        (("    self._renew_at = renew_at\n", "    self._renew_at = self.fresh_until = renew_at\n"),),
    ),
    "a token is not put into use": (
        "cold callers",
        "switches",
        Fetching,
        "_exchange",
        (("    self._take(token)\n", ""),),
    ),
    "an abandoned fetch begins": (
        "cold callers",
        "switches and a stall",
        TokenState,
        "begin",
        (("return False", "pass"),),
    ),
    "a fetch is given up while it begins": (
        "cold callers",
        "switches and a stall",
        TokenState,
        "_give_up_lost",
        (("unless_begun=may_begin", "unless_begun=False"),),
    ),
    "a flight is no longer under way before it has ended": (
        "cold callers",
        "switches, a stall and a kill",
        TokenState,
        "_end",
        (
            (
                "    is_first = flight.outcome is None\n",
                "    is_first = flight.outcome is None\n    self._flight = None\n",
            ),
        ),
    ),
    "a fetch that has begun is given up with its starter": (
        "cold callers",
        "each switch and kill",
        Fetching,
        "_start",
        (("unless_begun=not runs_here", "unless_begun=False"),),
    ),
    "a fetch that nobody started is not given up": (
        "cold callers",
        "each kill",
        Flight,
        "is_lost",
        (("return not self._began and now >= self._requested + LOOK", "return False"),),
    ),
    "a fetch that ran in its killed caller is not given up": (
        "no threads",
        "each kill",
        Fetching,
        "_start",
        (("unless_begun=not runs_here", "unless_begun=True"),),
    ),
    "a line waits for a thread that was not started": (
        "line of fetches",
        "each kill",
        workers.Line,
        "move_on",
        (("self._give_up(job)", "pass"),),
    ),
    "a job that runs counts as ended if its starter is killed": (
        "jobs in a line",
        "each switch and kill",
        workers.Line,
        "_give_up",
        (('if job.state in ("running", "ended"):', "if False:"),),
    ),
    "the job of a killed caller holds up the line": (
        "a job behind another",
        "switches",
        workers.Line,
        "move_on_for",
        (("if is_first or time.monotonic() >= self._moved_at + LOOK:", "if is_first:"),),
    ),
    "a line forgets to move on": (
        "line of fetches",
        "switches",
        workers.Line,
        "_work",
        (("job = self._next()", "job = None"),),
    ),
    "close forgets that it is closed": (
        "closing",
        "switches",
        TokenState,
        "close",
        (("self.is_closed, self._rejected_by = True, _NO_REJECTIONS", "self._rejected_by = _NO_REJECTIONS"),),
    ),
    "a token that arrives after the end is put into use": (
        "closing",
        "switches",
        TokenState,
        "obtained",
        (("if later and not self.is_closed:", "if later:"),),
    ),
    "a second report of a token counts": (
        "rejection by many",
        "switches",
        TokenState,
        "rejected",
        (("if not is_current or self._rejected_by.get(origin) == digest:", "if not is_current:"),),
    ),
    "a rejection concerns all origins": (
        "rejection",
        "switches",
        TokenState,
        "next_step",
        (("self._rejected_by.get(origin) != token.digest", "not self._rejected_by"),),
    ),
    "the store is not read again after the claim": (
        "shared store and an instant response",
        "switches",
        fleet.Fleet,
        "_fetch_with_claim",
        (("found = yield from self._load(places, is_wanted)", "found = None"),),
    ),
    "a token is saved after the claim is released": (
        "shared store",
        "switches",
        fleet.Fleet,
        "_keep_claim",
        (
            (
                "    if claimed.fetched is not None:\n",
                "    yield from self._release(place.key, owner)\n    if claimed.fetched is not None:\n",
            ),
        ),
    ),
    "a claim is not extended": (
        "slow request with a store",
        "switches",
        fleet.Fleet,
        "_keep_claim",
        (("if not (yield from Claim(self.store, self._timeout, place.key, owner, LEASE)):", "if False:"),),
    ),
    "a third request goes out": (
        "patience",
        "switches",
        conversation.Conversation,
        "_may_ask",
        (("len(self._open) == 1 and ", ""),),
    ),
    "a second request goes out too early": (
        "patience",
        "switches",
        conversation.Conversation,
        "_moment_beside",
        (("+ PATIENCE", "+ PATIENCE / 2"),),
    ),
}
"""What is wrong: the scenario and the kind of schedules that show it, the function, and what is replaced in its source."""

RARE = {"a fetch is given up while it begins": range(1500)}
"""Those that need more random schedules than others."""

SLOW = {
    "a fetch that has begun is given up with its starter",
    "a flight is no longer under way before it has ended",
    "a line waits for a thread that was not started",
    "the store is not read again after the claim",
    "threads are woken before they see that it has landed",
}
"""Those that take some seconds to be found."""


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.matrix) if one in RARE or one in SLOW else one for one in PLANTED]
)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By schedules that find nothing without it, and then it is shown again."""
    scenario = SCENARIOS[PLANTED[name][0]]
    if name in RARE:
        explore(scenario, schedules_for(name))
    explored, choices = find_planted_bug(name, monkeypatch)
    print(f"found by schedule {explored}")
    assert choices is not None
    with pytest.raises(Violation, match="replay"):
        replay(scenario.name, choices)


def schedules_for(name: str) -> Iterator[Chooser]:
    scenario, kind = SCENARIOS[PLANTED[name][0]], PLANTED[name][1]
    return EACH[kind](scenario) if kind in EACH else WALKS[kind](scenario, RARE.get(name, MANY))


def find_planted_bug(name: str, patch: pytest.MonkeyPatch) -> tuple[int, Choices | None]:
    """The number of schedules until it is found, and the choices of the last."""
    scenario, _, owner, function, changes = PLANTED[name]
    choosers = list(schedules_for(name))  # before it is planted
    plant(patch, owner, function, *changes)
    return first_violation(SCENARIOS[scenario], choosers)
