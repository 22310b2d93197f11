"""``asyncio.run`` per job: few token requests, no job waits, and a renewal that ends with its job keeps nobody waiting.

The loops are asyncio's own, on a simulated clock: where a loop would sleep, the clock is set forward.
"""

from __future__ import annotations

import asyncio
import json
import random
import selectors
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from email.utils import formatdate
from typing import Any, TypeVar

import pytest
import trio

from figures import Note
from herd import SECRET, SimulatedStore, Stub
from okta_m2m import ServiceApp, Token
from okta_m2m._core.clocks import Clock
from okta_m2m.effects import Request, Response
from okta_m2m.runtimes import Asyncio, Trio, arun
from promises import in_matrix
from services import eventually

T = TypeVar("T")

LIFE = 300.0
EVERY = 0.6
"""Seconds from one job to the next: a hundred a minute."""

TAKES = 0.5
"""Seconds of a token request; a job that needs no token takes a fifth of that."""

TRIP = 0.002
"""Seconds to the store and back."""

PROCESSES = 4
"""How many processes share the store. Their jobs run in turn, each on a loop of its own."""


class World:
    """The clock, and what is on it: a token endpoint, a store, and loops."""

    def __init__(self, trip: float = TRIP, takes: float = TAKES) -> None:
        random.seed(0)  # the flows' own jitter
        self.time = 1000.0
        self.takes = takes
        self.asked: list[float] = []
        self.store = Store(self.now, trip)
        self.runtime = Asyncio(self.send)

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return 1_750_000_000.0 + self.time

    def new_app(self, store: SimulatedStore | None) -> ServiceApp:
        return ServiceApp(
            "https://acme.okta.com",
            client_id="0oa1",
            key=Stub(),
            dpop=False,
            authorization_server="default",
            scopes=["api:read"],
            store=store,
            seal_with=[SECRET] if store else (),
            clock=Clock(now=self.now, wall=self.wall),
        )

    async def send(self, request: Request, timeout: float) -> Response:
        self.asked.append(self.time)
        await asyncio.sleep(self.takes)
        token = {"access_token": f"t{len(self.asked)}", "token_type": "Bearer", "expires_in": LIFE}
        return Response(200, [("Date", formatdate(self.wall(), usegmt=True))], json.dumps(token).encode())

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """``asyncio.run``, on this clock."""
        with asyncio.Runner(loop_factory=lambda: Loop(self)) as runner:
            return runner.run(main)

    def job(self, app: ServiceApp, rest: Callable[[], Awaitable[object]]) -> float:
        """A job that needs a token, and then does the ``rest``. Returns how long it waited for the token."""

        async def main() -> float:
            began = self.time
            assert isinstance(await arun(app.obtain(), self.runtime), Token)
            waited = self.time - began
            await rest()
            return waited

        return self.run(main())


class Loop(asyncio.SelectorEventLoop):
    def __init__(self, world: World) -> None:
        super().__init__(Selector(world))
        self._world = world

    def time(self) -> float:
        return self._world.time


class Selector(selectors.SelectSelector):
    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "the loop waits for something that is not on the clock"
        self._world.time += max(timeout, 0.0)
        return super().select(0)


class Store(SimulatedStore):
    """On the loop. As with a real server, what was sent to it happens, even if nobody waits for the answer any more."""

    on_loop = True

    def __init__(self, now: Callable[[], float], trip: float) -> None:
        super().__init__(now)
        self._trip_takes = trip

    async def load(self, key: str) -> bytes | None:
        return await self._trip(lambda: super(Store, self).load(key))

    async def claim(self, key: str, owner: str, ttl: float) -> bool:
        return await self._trip(lambda: super(Store, self).claim(key, owner, ttl))

    async def save(self, key: str, value: bytes, ttl: float, owner: str) -> bool:
        return await self._trip(lambda: super(Store, self).save(key, value, ttl, owner))

    async def release(self, key: str, owner: str) -> None:
        await self._trip(lambda: super(Store, self).release(key, owner))

    async def _trip(self, do: Callable[[], T]) -> T:
        await asyncio.sleep(self._trip_takes / 2)
        answer = do()
        await asyncio.sleep(self._trip_takes / 2)
        return answer


@pytest.mark.parametrize("lives", [2, *in_matrix(20)])
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
def test_short_jobs_cost_few_token_requests_and_do_not_wait(shared: bool, lives: int, note: Note) -> None:
    world = World()
    apps = [world.new_app(world.store if shared else None) for _ in range(PROCESSES if shared else 1)]
    waits: list[float] = []
    tokens: set[str] = set()
    began = world.time
    while world.time < began + lives * LIFE:
        starts, app = world.time, apps[len(waits) % len(apps)]
        waits.append(world.job(app, lambda: asyncio.sleep(TAKES / 5)))
        tokens.add(app.token_state.token.value)
        world.time = max(world.time, starts + EVERY)
    per_life = len(world.asked) / len(tokens)
    which = "jobs, one asyncio.run each" + (f", {PROCESSES} processes and a store" if shared else "")
    note(f"{which}: token requests for a token's life", f"{per_life:.1f} ({len(waits)} jobs)", f"<= {6 * len(apps)}")
    note(f"{which}: the longest wait", f"{max(waits):.2f} s", "<= 1 s")
    # Each process has its own renewals that die, and its own pauses after them.
    assert per_life <= 6 * len(apps)
    assert max(waits) <= 1.0


async def iterations(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


CUTS = {
    "moments": (lambda: World(takes=10 * TRIP), lambda number: asyncio.sleep(number * TRIP / 4), 100),
    "iterations": (lambda: World(trip=0.0, takes=0.0), iterations, 60),
}


@pytest.mark.parametrize("by", CUTS)
def test_a_renewal_that_ends_with_its_job_keeps_nobody_waiting(by: str) -> None:
    """Whenever its job ends: at such a moment, or after so many iterations of the loop."""
    new_world, cut, count = CUTS[by]
    slow, renewed = {}, 0
    for number in range(count):
        world = new_world()
        one, other = world.new_app(world.store), world.new_app(world.store)
        world.job(one, lambda: asyncio.sleep(0))
        token = one.token_state.token
        assert token is not None
        # The job comes late in the token's life, and the next one after its end.
        world.time = token.usable_until - 1.0
        world.job(one, lambda number=number: cut(number))
        renewed += one.token_state.token is not token
        world.time = token.usable_until
        waited = world.job(other, lambda: asyncio.sleep(0))
        if waited > 1.0:
            slow[number] = round(waited, 2)
    assert slow == {}
    assert 0 < renewed < count, "some end before the renewal does, and some after it"


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
def test_a_claim_that_a_thread_gets_after_its_loop_has_ended_is_released(library: str) -> None:
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
