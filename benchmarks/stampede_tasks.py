"""A cold stampede of tasks on one event loop, and for how long they keep everything else waiting.

python benchmarks/stampede_tasks.py httpx_async
python benchmarks/stampede_tasks.py aiohttp
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from measure import QUICK, loop
from peers import Peer
from server import Endpoint
from stampede import report_rows

COUNTS = (1_000, 10_000) if QUICK else (10, 100, 1_000, 10_000)


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


def with_httpx(peer: Peer, count: int, endpoint: Endpoint) -> dict[str, float]:
    httpx: Any = import_module(peer.httpx_library)
    auth = peer.httpx_async(endpoint)  # type: ignore[misc]

    async def call() -> None:
        request = httpx.Request("GET", endpoint.origin + "/api/v1/users")
        flow = auth.async_auth_flow(request)
        sent = await anext(flow)
        await flow.aclose()
        assert sent.headers["Authorization"].startswith("Bearer xxx")

    return loop.run_until_complete(release_tasks(call, count))


def with_aiohttp(peer: Peer, count: int, endpoint: Endpoint) -> dict[str, float]:
    from aiohttp import ClientRequest, ClientResponse, ClientSession
    from aiohttp.client_middlewares import build_client_middlewares
    from yarl import URL

    auth, url = peer.aiohttp(endpoint), URL(endpoint.origin + "/api/v1/users")  # type: ignore[misc]
    response: Any = SimpleNamespace(status=200, headers={})

    async def handler(request: ClientRequest) -> Any:
        assert request.headers["Authorization"].startswith("Bearer xxx")
        return response

    async def release() -> dict[str, float]:
        async with ClientSession() as session:

            async def call() -> None:
                request = ClientRequest("GET", url, loop=loop, session=session, response_class=ClientResponse)
                await build_client_middlewares(handler, (auth,))(request)

            return await release_tasks(call, count)

    return loop.run_until_complete(release())


if __name__ == "__main__":
    report_rows(__file__, COUNTS, {"httpx_async": with_httpx, "aiohttp": with_aiohttp})
