"""A cold stampede of tasks on one event loop, and for how long they keep it from everything else.

The floor is the same number of tasks, of which one asks the endpoint with httpx, and the others wait for its answer.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from measure import QUICK
from peers import Peer
from server import Endpoint
from stampede import row

COUNTS = (1_000, 10_000) if QUICK else (1, 10, 100, 1_000, 10_000)
PROCESSES = 3 if QUICK else 5


async def at_once(call: Any, count: int) -> dict[str, float]:
    """Seconds until the last task has its token, CPU, and the longest time in which the event loop did nothing else."""
    longest, last, on = 0.0, time.perf_counter(), True

    async def beat() -> None:
        nonlocal longest, last
        while on:
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
            await asyncio.sleep(0)

    failed = 0

    async def one() -> None:
        nonlocal failed
        try:
            await call()
        except Exception:
            failed += 1

    beating = asyncio.create_task(beat())
    await asyncio.sleep(0)
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one() for _ in range(count)))
    took, spent, on = time.perf_counter() - began, time.process_time() - cpu, False
    await beating
    return {"s": took, "cpu": spent, "stall": longest, "failed": failed}


def _floor_tasks(endpoint: Endpoint) -> Any:
    import httpx

    landing: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    asked = False

    async def call() -> None:
        nonlocal asked
        request = httpx.Request("GET", endpoint.origin + "/api/v1/users")
        if not asked:
            asked = True
            async with httpx.AsyncClient() as client:
                landing.set_result((await client.post(endpoint.token_url, content=b"x")).json()["access_token"])
        request.headers["Authorization"] = f"Bearer {await asyncio.wait_for(asyncio.shield(landing), 60)}"

    return call


def _of_httpx(peer: Peer, endpoint: Endpoint) -> Any:
    import httpx

    auth, client = peer.httpx_async(endpoint), None  # type: ignore[misc]
    library: Any = httpx
    if peer.name == "Authlib":
        import httpx2

        auth, client, library = auth.token_auth, auth, httpx2

    async def call() -> None:
        request = library.Request("GET", endpoint.origin + "/api/v1/users")
        if client is not None:
            await client.ensure_active_token(client.token)
            auth = client.token_auth
        else:
            auth = given
        flow = auth.async_auth_flow(request)
        sent = await anext(flow)
        await flow.aclose()
        assert sent.headers["Authorization"].startswith("Bearer xxx")

    given = auth
    return call


def stampedes(
    peer: Peer | None, count: int, endpoint: Endpoint, before: Endpoint, times: int
) -> list[dict[str, float]]:
    async def main() -> list[dict[str, float]]:
        def caller(of: Endpoint) -> Any:
            return _floor_tasks(of) if peer is None else _of_httpx(peer, of)

        await caller(before)()
        taken = []
        for _ in range(times):
            call, warm = caller(endpoint), endpoint.count()
            taken.append({**await at_once(call, count), "requests": endpoint.count() - warm})
        return taken

    return asyncio.run(main())


if __name__ == "__main__":
    row(__file__, "httpx_async", COUNTS, PROCESSES, stampedes)
