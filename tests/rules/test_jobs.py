"""``asyncio.run`` per job: few token requests, no job waits, and nothing of an ended loop stays.

The app's clock is simulated: it is put forward from one job to the next. The loops and threads are real.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

import pytest
import trio

from figures import Note
from herd import SECRET, SimulatedStore
from okta_m2m import ServiceApp, Token
from okta_m2m._base.clocks import Clock
from okta_m2m._threads import workers
from okta_m2m.effects import Effect, Request, Response, Wait
from okta_m2m.runtimes import Asyncio, Trio, arun
from promises import in_matrix
from services import eventually
from signers import Stub

LIFE = 3600.0
EVERY = 5.0
"""Seconds from one job to the next."""

TAKES = 1.5
"""Seconds of a renewal: it is under way when the job that began it has ended. A claim lasts for longer: none is extended on this
clock."""

PROCESSES = 4
"""How many processes share the store. Their jobs run in turn, each on a loop of its own."""


class Noting(Asyncio):
    """Notes how often a job waited for a token."""

    def __init__(self, send: Callable[[Request, float], Response]) -> None:
        super().__init__(send)
        self.waits = 0

    def perform(self, effect: Effect[Any]) -> Awaitable[Any]:
        self.waits += isinstance(effect, Wait)
        return super().perform(effect)


class World:
    """The clock, and what is on it: a token endpoint, a store, and loops."""

    def __init__(self) -> None:
        random.seed(0)  # the flows' own jitter
        self.time = 1000.0
        self.asked: list[float] = []
        self.is_slow = False
        """Whether a token request is answered only when its time has passed on the clock."""
        self.store = SimulatedStore(self.now)
        self.runtime = Noting(self.send)
        self.loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []
        self._moved = threading.Condition()
        self._answers_at: list[float] = []  # of the requests under way
        self._earlier = set(threading.enumerate())

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return 1_750_000_000.0 + self.time

    def new_app(self, store: SimulatedStore | None = None) -> ServiceApp:
        return ServiceApp(
            "https://acme.okta.com",
            client_id="0oa1",
            key=Stub(),
            dpop=False,
            authorization_server="default",
            scopes=["api:read"],
            store=store,
            seal_with=[SECRET] if store else (),
            store_timeout=30.0,
            clock=Clock(now=self.now, wall=self.wall),
        )

    def send(self, request: Request, timeout: float) -> Response:
        self.asked.append(self.time)
        token = {"access_token": f"t{len(self.asked)}", "token_type": "Bearer", "expires_in": LIFE}
        if self.is_slow:
            with self._moved:
                answers_at = self.time + TAKES
                self._answers_at.append(answers_at)
                assert self._moved.wait_for(lambda: self.time >= answers_at, timeout=60)
                self._answers_at.remove(answers_at)
        return Response(200, [("Date", formatdate(self.wall(), usegmt=True))], json.dumps(token).encode())

    def requests_under_way(self) -> int:
        return len(self._answers_at)

    def pass_time(self, seconds: float) -> None:
        """Puts the clock forward, to each answer that is due first. What is under way then comes to its end."""
        until = self.time + seconds
        while self._is_busy():
            with self._moved:
                self.time = max([self.time, *self._answers_at])
                self._moved.notify_all()
            time.sleep(0.001)
        self.time = max(self.time, until)

    def _is_busy(self) -> bool:
        """Whether a thread works, or was just given a job. Others wait for one."""
        alive = [thread for thread in set(threading.enumerate()) - self._earlier if thread.is_alive()]
        idle = [thread for thread in alive if thread.name == "okta-m2m idle"]
        return len(idle) < len(alive) or len(idle) > len(workers._idle)

    def job(self, app: ServiceApp, *, by: str = "asyncio.run") -> Token:
        """A job that needs a token, on a loop of its own."""

        async def main() -> Token:
            self.loops.append(weakref.ref(asyncio.get_running_loop()))
            return await arun(app.obtain(), self.runtime)

        if by == "asyncio.run":
            return asyncio.run(main())
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(main())
        finally:
            loop.close()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


ENDS = ["asyncio.run", "loop.close"]


@pytest.mark.parametrize("lives", [2, *in_matrix(20)])
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
@pytest.mark.parametrize("by", ENDS)
def test_short_jobs_need_few_token_requests_and_do_not_wait(by: str, shared: bool, lives: int, note: Note) -> None:
    world = World()
    apps = [world.new_app(world.store if shared else None) for _ in range(PROCESSES if shared else 1)]
    for app in apps:
        world.job(app, by=by)
    world.pass_time(0)
    world.is_slow = True
    world.runtime.waits = jobs = 0
    began, files = world.time, open_files()
    while world.time < began + lives * LIFE:
        world.job(apps[jobs % len(apps)], by=by)
        jobs += 1
        world.pass_time(EVERY)
    per_life = len(world.asked) / lives
    which = "jobs, one asyncio.run each" + (f", {PROCESSES} processes and a store" if shared else "")
    note(f"{which}: token requests for a token's life", f"{per_life:.1f} ({jobs} jobs)", "<= 2")
    assert per_life <= 2
    assert world.runtime.waits == 0, "no job waits for a token"
    assert open_files() <= files
    gc.collect()
    assert [loop for loop in world.loops if loop() is not None] == []


@pytest.mark.parametrize("by", ENDS)
def test_a_renewal_continues_after_the_job_that_started_it(by: str) -> None:
    world = World()
    app = world.new_app()
    first = world.job(app, by=by)
    world.pass_time(0.83 * LIFE)
    world.is_slow = True
    assert world.job(app, by=by) is first
    eventually(world.requests_under_way, "the renewal has asked")
    assert world.job(app, by=by) is first, "nobody waits for it"
    world.pass_time(EVERY)
    assert world.job(app, by=by) is not first
    assert len(world.asked) == 2


def test_jobs_dropped_while_they_wait_for_a_token_leave_no_loop_and_no_open_file() -> None:
    world = World()
    app = world.new_app()
    world.is_slow = True
    files = open_files()
    for _ in range(30):
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # which would be told that a task was destroyed
        world.loops.append(weakref.ref(loop))
        waiting = loop.create_task(arun(app.obtain(), world.runtime))
        for _ in range(3):
            loop.run_until_complete(asyncio.sleep(0))
        assert not waiting.done()
        loop.close()
        del loop, waiting
    world.pass_time(EVERY)
    assert world.job(app).value == "t1", "the fetch went on without them"
    assert len(world.asked) == 1
    gc.collect()
    assert [loop for loop in world.loops if loop() is not None] == []
    assert open_files() <= files


class Blocking(SimulatedStore):
    """Grants a claim some time after it was asked for it."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__(now)
        self.asked, self.granted = threading.Event(), threading.Event()

    def claim(self, key: str, owner: str, ttl: float) -> bool:
        self.asked.set()
        time.sleep(0.1)
        granted = super().claim(key, owner, ttl)
        self.granted.set()
        return granted


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_a_claim_obtained_after_its_loop_has_ended_is_released(library: str) -> None:
    world = World()
    store = Blocking(world.now)
    app = world.new_app(store)
    sleep = asyncio.sleep if library == "asyncio" else trio.sleep

    async def job() -> None:
        if library == "asyncio":
            task = asyncio.create_task(arun(app.obtain(), world.runtime))
            while not store.asked.is_set():
                await sleep(0.001)
            task.cancel()
        else:
            with trio.move_on_after(0.05):
                await arun(app.obtain(), Trio(world.send))

    asyncio.run(job()) if library == "asyncio" else trio.run(job)
    assert store.granted.wait(10.0)
    eventually(lambda: not store.is_claimed(), "the claim is released")
