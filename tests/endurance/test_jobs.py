"""``asyncio.run`` per job, a hundred short jobs a minute, tokens of 300 seconds: few token requests, and no job waits.

A job is over before a renewal that it starts could end. The loops are real; time runs :data:`FASTER` times as fast, for the
app's clock as for what a token request takes.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from email.utils import formatdate

import pytest

from figures import Note, Seconds
from herd import SimulatedStore
from okta_m2m import PrivateKey, ServiceApp, Token
from okta_m2m._core.clocks import Clock
from okta_m2m.effects import Request, Response
from okta_m2m.runtimes import Asyncio, arun

FASTER = 20.0
LIFE = 300.0
EVERY = 0.6
"""Seconds from one job to the next: a hundred a minute."""

TAKES = 0.5
"""Seconds of a token request; a job that needs no token takes a fifth of that."""

SHARE = 0.1
PROCESSES = 4
"""How many apps share the store: each of their jobs on a loop of its own, in turn."""


class Scaled:
    """An endpoint and a clock in that time."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.asked: list[float] = []

    def now(self) -> float:
        return 1000.0 + (time.monotonic() - self._began) * FASTER

    def wall(self) -> float:
        return 1_750_000_000.0 + self.now()

    async def send(self, request: Request, timeout: float) -> Response:
        self.asked.append(self.now())
        await asyncio.sleep(TAKES / FASTER)
        token = {"access_token": f"t{len(self.asked)}", "token_type": "Bearer", "expires_in": LIFE}
        return Response(200, [("Date", formatdate(self.wall(), usegmt=True))], json.dumps(token).encode())


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
def test_short_jobs_cost_few_token_requests_and_do_not_wait(
    shared: bool, ec_key: PrivateKey, note: Note, seconds: Seconds
) -> None:
    scaled = Scaled()
    store = SimulatedStore(scaled.now) if shared else None
    apps = [
        ServiceApp(
            "https://acme.okta.com",
            client_id="0oa1",
            key=ec_key,
            dpop=False,
            authorization_server="default",
            scopes=["api:read"],
            store=store,
            clock=Clock(now=scaled.now, wall=scaled.wall),
        )
        for _ in range(PROCESSES if shared else 1)
    ]
    runtime = Asyncio(scaled.send)
    waits: list[float] = []

    async def job(app: ServiceApp) -> None:
        began = scaled.now()
        token = await arun(app.obtain(), runtime)
        waits.append(scaled.now() - began)
        assert isinstance(token, Token)
        await asyncio.sleep(TAKES / 5 / FASTER)

    lives = max(1.0, seconds(SHARE) / 2 * FASTER / LIFE)
    run_jobs(lambda number: asyncio.run(job(apps[number % len(apps)])), scaled.now, lives * LIFE)
    which = "jobs, one asyncio.run each" + (f", {PROCESSES} apps and a store" if shared else "")
    per_life = len(scaled.asked) / lives
    # The first of each app waits for its first token.
    later = waits[len(apps) :]
    slow = sum(wait > 1.0 for wait in later)
    note(f"{which}: token requests for a token's life", f"{per_life:.1f} ({len(waits)} jobs)", f"<= {6 * len(apps)}")
    note(f"{which}: that waited for more than 1 s", f"{slow}, the longest {max(later):.1f} s", "0")
    # Each process has its own renewals that die, and its own pauses after them.
    assert per_life <= 6 * len(apps) + 1 / lives
    # The real machine's hiccups count twentyfold.
    assert slow <= len(later) // 200
    assert max(later) <= 3.0


def run_jobs(job: Callable[[int], None], now: Callable[[], float], duration: float) -> None:
    began, number = now(), 0
    while now() < began + duration:
        job(number)
        number += 1
        time.sleep(max(0.0, (began + number * EVERY - now()) / FASTER))
