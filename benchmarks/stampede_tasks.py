"""A cold stampede of tasks on one event loop, with httpx, and for how long they keep everything else waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from measure import QUICK, loop
from peers import Peer
from server import Endpoint
from stampede import report_row

COUNTS = (1_000, 10_000) if QUICK else (1, 10, 100, 1_000, 10_000)
PROCESSES = 3 if QUICK else 5


async def release_tasks(call: Callable[[], Awaitable[object]], count: int) -> dict[str, float]:
    """Seconds until the last task has its token, CPU seconds, and the longest time in which another task did not run."""
    longest, last, running, failed = 0.0, time.perf_counter(), True, 0

    async def watch_loop() -> None:
        nonlocal longest, last
        while running:
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
            await asyncio.sleep(0)

    async def run_one() -> None:
        nonlocal failed
        try:
            await call()
        except Exception:
            failed += 1

    watching = asyncio.create_task(watch_loop())
    await asyncio.sleep(0)
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(run_one() for _ in range(count)))
    took, spent, running = time.perf_counter() - began, time.process_time() - cpu, False
    await watching
    return {"s": took, "cpu": spent, "stall": longest, "failed": failed}


def stampede(peer: Peer, count: int, endpoint: Endpoint) -> dict[str, float]:
    httpx: Any = import_module(peer.httpx_library)
    auth = peer.httpx_async(endpoint)  # type: ignore[misc]

    async def call() -> None:
        request = httpx.Request("GET", endpoint.origin + "/api/v1/users")
        flow = auth.async_auth_flow(request)
        sent = await anext(flow)
        await flow.aclose()
        assert sent.headers["Authorization"].startswith("Bearer xxx")

    return loop.run_until_complete(release_tasks(call, count))


if __name__ == "__main__":
    report_row(__file__, "httpx_async", COUNTS, PROCESSES, stampede)
