"""Ten minutes of a fleet's life on a simulated clock: how many tokens it asks for, and how long anybody waits.

Sixty workers with a service app each, all with the defaults, on clocks that differ; one store, one token endpoint. The
real flows are stepped by the runtime of ``test_interleavings``. A worker that is killed leaves everything as it stands,
as after SIGKILL, and a new one takes its place a second later.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from test_interleavings import ORG, Asked, Stub, Task, World

from herd import SimulatedStore
from okta_m2m import ServiceApp, Token
from okta_m2m._base.clocks import Clock
from okta_m2m._core.fleet import LEASE
from okta_m2m.effects import Claim, Effect, Response, SendFailed, Spawn, StoreEffect
from promises import in_matrix

WORKERS = 60
LIFETIME = 60.0
DURATION = 600.0
BETWEEN_CALLS = 2.5  # seconds from one call of a worker to its next, on average
SECRET = bytes(range(32))
NONCE = "a-nonce"

LIVES = DURATION / LIFETIME
"""Lives of a token that pass in that time."""


class Worker:
    """A process: its service app, and what is under way in it."""

    def __init__(self, world: FleetWorld) -> None:
        steady, skew = world.random.uniform(0, 1e6), world.random.uniform(-0.5, 0.5)
        self.steady = steady
        self.tasks: list[WorkersTask] = []
        self.alive = True
        self.app = ServiceApp(
            ORG,
            client_id="0oa1",
            key=Stub(),
            scopes=["okta.users.read"],
            store=world.store,
            seal_with=[SECRET],
            clock=Clock(now=lambda: world.time + steady, wall=lambda: world.epoch + world.time + skew),
        )


@dataclass(eq=False)
class WorkersTask(Task):
    worker: Worker = field(kw_only=True)
    steps_left: int | None = None  # of a holder that is about to be killed


class FleetWorld(World):
    """The simulated runtime for many service apps that share a store."""

    def __init__(self, seed: int, token_type: str, doomed: Callable[[int], bool] = lambda holder: False) -> None:
        super().__init__(seed)
        self.token_type = token_type
        self.doomed = doomed  # which holder of the claim is killed, counted from 0
        self.store = SimulatedStore(lambda: self.time)
        self.lifetime = lambda: LIFETIME
        self.holders: set[str] = set()
        self.deaths: list[float] = []  # when a holder was killed
        self.conversations: list[float] = []  # when each conversation with the token endpoint began
        end = self.time + DURATION
        for _ in range(WORKERS):
            self.employ(self.time + self.random.random(), end)
        self.end = end

    def employ(self, began: float, end: float) -> None:
        worker = Worker(self)
        moment = began
        while moment < end:
            self.at(moment, lambda: self.used(worker))
            moment += self.random.uniform(0.5, 1.5) * BETWEEN_CALLS

    def used(self, worker: Worker) -> None:
        if worker.alive:
            self.started(WorkersTask(worker.app.obtain(), self.time, "call", obtaining=True, worker=worker))

    def started(self, task: WorkersTask) -> None:
        if task.worker.alive:
            task.worker.tasks.append(task)
            self.begin(task)

    def sigkill(self, worker: Worker) -> None:
        worker.alive = False
        for task in worker.tasks:
            if not task.done:
                self.kill(task, "vanish")
        self.deaths.append(self.time)
        self.employ(self.time + 1.0, self.end)

    def perform(self, task: Task, effect: Effect[Any]) -> None:
        assert isinstance(task, WorkersTask)
        if task.steps_left is not None:
            task.steps_left -= 1
            if task.steps_left == 0:
                self.sigkill(task.worker)
                return
        match effect:
            case StoreEffect():
                self.ask_store(task, effect)
            case Spawn(flow, ended, awaited):
                spawned = WorkersTask(flow, self.time, "background", background=True, ended=ended, worker=task.worker)
                delay = 0.0 if awaited else self.random.choice([0.0, 0.0, 0.05])
                self.at(self.time + delay, lambda: self.started(spawned))
                self.step(task, True)  # at once, as every runtime does
            case _:
                super().perform(task, effect)

    def ask_store(self, task: WorkersTask, effect: StoreEffect[Any]) -> None:
        there, back = self.random.uniform(0.0002, 0.005), self.random.uniform(0.0002, 0.005)

        def arrived() -> None:
            answer = effect.call()
            if isinstance(effect, Claim) and answer and effect.owner not in self.holders:
                if self.doomed(len(self.holders)):
                    # At one of its next steps: before, during or after its request, or when it has saved.
                    task.steps_left = self.random.randint(1, 6)
                self.holders.add(effect.owner)
            self.wake_later(task, back, lambda: answer)

        self.at(self.time + there, arrived)

    def app_of(self, task: Task) -> ServiceApp:
        assert isinstance(task, WorkersTask)
        return task.worker.app

    def check_request(self, task: Task) -> None:
        if task.effects.count("StartSend") == 1:
            self.conversations.append(self.time)

    def answered(self, asked: Asked) -> Response | SendFailed:
        with_nonce = True
        if self.token_type == "DPoP":
            _, claims, _ = asked.request.headers["DPoP"].split(".")
            with_nonce = json.loads(urlsafe_b64decode(claims + "==")).get("nonce") == NONCE
        self.answer = lambda: self.good(self.token_type) if with_nonce else self.nonce_asked_for()
        return super().answered(asked)

    def nonce_asked_for(self) -> Response:
        return Response(400, [self.date(), ("DPoP-Nonce", NONCE)], b'{"error": "use_dpop_nonce"}')

    def check(self) -> None:
        calls = [task for task in self.tasks if task.obtaining and not task.killed]
        assert len(calls) > WORKERS * DURATION / BETWEEN_CALLS / 2
        for call in calls:
            assert isinstance(call.result, Token), call.error
            # A look into the store and an exchange of two requests, of half a second each at most.
            assert call.finished - call.began <= LEASE + 1.5, "waited for longer than a lease"
        served: dict[Worker, Task] = {}
        for call in calls:
            assert isinstance(call, WorkersTask)
            last = served.get(call.worker)
            if last is not None and last.finished < call.began:
                works = last.result.usable(call.worker.steady + call.began)
                assert not works or set(call.effects) <= {"Spawn"}, "a call waited although its token worked"
            served[call.worker] = call
        for one, other in pairwise(self.conversations):
            if other - one < LEASE:
                assert any(one <= death <= other for death in self.deaths), "two exchanges within one lease"


@pytest.mark.parametrize("token_type", ["DPoP", *in_matrix("Bearer")])
@pytest.mark.parametrize("seed", [0, *in_matrix(1, 2)])
def test_a_fleet_makes_one_token_request_for_each_life_of_a_token(seed: int, token_type: str) -> None:
    world = FleetWorld(seed, token_type)
    world.run()
    world.check()
    assert len(world.conversations) <= 1.1 * LIVES
    assert len(world.sends) == len(world.conversations) + (token_type == "DPoP"), "one asks for the nonce, for all"


@pytest.mark.parametrize("token_type", ["DPoP", *in_matrix("Bearer")])
@pytest.mark.parametrize("seed", [0, *in_matrix(1, 2, 3, 4)])
def test_claim_holders_that_are_killed_cost_few_token_requests(seed: int, token_type: str) -> None:
    killed = (3 * seed + 1) % 11  # one of eleven: more than 5 %
    # That one may find a token in the store, and need no more steps: then the next one is killed.
    world = FleetWorld(seed, token_type, lambda holder: holder >= killed and not world.deaths)
    world.run()
    world.check()
    assert world.deaths
    assert len(world.sends) <= 1.3 * LIVES


@pytest.mark.parametrize("token_type", ["DPoP", *in_matrix("Bearer")])
def test_tokens_with_a_shortened_lifetime_are_shared_too(token_type: str) -> None:
    """Some while before the first token's end there are later ones, which end before it."""
    world = FleetWorld(0, token_type)
    world.lifetime = lambda: 20.0 if world.minted else 560.0
    world.run()
    world.check()
    assert len(world.conversations) <= 1 + 1.2 * (DURATION - 0.93 * 560) / (0.93 * 20) + 1
