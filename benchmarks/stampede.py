"""Everybody at once, and no token yet: how many token requests that makes, and how long the last caller waits.

The floor is the same number of threads, or tasks, of which one asks the endpoint with the stack's own client, and the
others wait for its answer. Among threads that one makes a raw signature first, as whoever asks with private_key_jwt has
to: signing lets the others run, so that it stands in their queue once more. Each measurement is a process of its own, in
which another client has fetched a token before: cold is the token, not the interpreter. What one stampede takes is at the
mercy of what else the machine does, threads more than all else; so floor and okta-m2m take turns, each is let loose
several times in its process, and the least counts.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import Any

from measure import QUICK, report
from peers import OURS, PEERS, Peer, pem
from server import Endpoint, serving

DELAY = 0.05
BOUND = 90  # seconds that the stampedes of one process may take
TURNS = 5  # stampedes of one process; of a peer it is one, which may take as long as all of ours
THREADS = (1, 10, 100, 1_000)
TASKS = (1, 10, 100, 1_000, 10_000)


def threads(call: Any, count: int) -> dict[str, float]:
    """Seconds from the start signal to the last thread's end, and CPU."""
    ready, start = threading.Barrier(count + 1), threading.Event()
    failed: list[str] = []

    def one() -> None:
        ready.wait()
        start.wait()
        try:
            call()
        except Exception as error:
            failed.append(type(error).__name__)

    running = [threading.Thread(target=one, daemon=True) for _ in range(count)]
    for thread in running:
        thread.start()
    ready.wait()
    began, cpu = time.perf_counter(), time.process_time()
    start.set()
    for thread in running:
        thread.join()
    return {"s": time.perf_counter() - began, "cpu": time.process_time() - cpu, "failed": len(failed)}


async def tasks(call: Any, count: int) -> dict[str, float]:
    """The same with tasks, and the longest time in which the event loop did nothing else."""
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


# ── what one caller does, by stack ───────────────────────────────────────────────────────────────────────────────────


def _floor_threads(endpoint: Endpoint) -> Any:
    import concurrent.futures

    import requests
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding

    key: Any = serialization.load_pem_private_key(pem(), None)
    landing: concurrent.futures.Future[str] = concurrent.futures.Future()
    first = threading.Lock()

    def call() -> None:
        request = requests.Request("GET", endpoint.origin + "/api/v1/users").prepare()
        if first.acquire(blocking=False):
            key.sign(b"x" * 300, padding.PKCS1v15(), hashes.SHA256())
            landing.set_result(requests.post(endpoint.token_url, data=b"x", timeout=60).json()["access_token"])
        request.headers["Authorization"] = f"Bearer {landing.result()}"

    return call


def _of_requests(peer: Peer, endpoint: Endpoint) -> Any:
    import requests

    auth = peer.requests(endpoint)  # type: ignore[misc]

    def call() -> None:
        request = requests.Request("GET", endpoint.origin + "/api/v1/users").prepare()
        assert auth(request).headers["Authorization"].startswith("Bearer xxx")

    return call


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


def least(taken: list[dict[str, float]]) -> dict[str, float]:
    """Of each time the least; of token requests and of failures the most."""
    return {what: (max if what in ("requests", "failed") else min)(each[what] for each in taken) for what in taken[0]}


def one(kind: str, name: str, count: int, endpoint: Endpoint) -> dict[str, float]:
    peer = next((peer for peer in (OURS, *PEERS) if peer.name == name), None)
    turns = TURNS if peer in (None, OURS) else 1
    # Another name of the same host, so that what keeps tokens for a whole process has none of the endpoint's.
    before = replace(endpoint, origin=endpoint.origin.replace("127.0.0.1", "localhost"))
    if kind == "threads":
        threading.stack_size(256 * 1024)

        def caller(of: Endpoint) -> Any:
            return _floor_threads(of) if peer is None else _of_requests(peer, of)

        caller(before)()
        taken = []
        for _ in range(turns):
            call, warm = caller(endpoint), endpoint.count()
            taken.append({**threads(call, count), "requests": endpoint.count() - warm})
        return least(taken)

    async def main() -> dict[str, float]:
        def caller(of: Endpoint) -> Any:
            return _floor_tasks(of) if peer is None else _of_httpx(peer, of)

        await caller(before)()
        taken = []
        for _ in range(turns):
            call, warm = caller(endpoint), endpoint.count()
            taken.append({**await tasks(call, count), "requests": endpoint.count() - warm})
        return least(taken)

    return asyncio.run(main())


def _in_a_process(kind: str, name: str, count: int) -> dict[str, float] | None:
    with serving(DELAY) as endpoint:
        try:
            done = subprocess.run(
                [sys.executable, __file__, kind, name, str(count), endpoint.origin],
                capture_output=True,
                text=True,
                timeout=BOUND,
                check=True,
            )
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
            print(f"{kind} {name} {count}: {str(error.stderr or error)[-300:]}", file=sys.stderr)
            return None
        return dict(json.loads(done.stdout.splitlines()[-1]))


def measured(kind: str) -> dict[str, Any]:
    """By name and number of callers, the least of a few processes."""
    offers = "requests" if kind == "threads" else "httpx_async"
    everybody = ["floor", OURS.name, *(peer.name for peer in PEERS if getattr(peer, offers))]
    counts = THREADS if kind == "threads" else TASKS
    result: dict[str, Any] = {name: {} for name in everybody}
    for count in counts[-2:] if QUICK else counts:
        for turn in range(12 if kind == "threads" else 3 if QUICK else 5):
            for name in everybody:
                if name not in ("floor", OURS.name) and (count > 1_000 or turn):
                    continue  # peers once, and not in the size that takes them minutes
                taken = _in_a_process(kind, name, count)
                if taken is None:
                    continue
                result[name][count] = least([taken, result[name].get(count, taken)])
    return result


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    if arguments:
        report(one(arguments[0], arguments[1], int(arguments[2]), Endpoint(arguments[3], DELAY, 3600)))
    else:
        report({kind: measured(kind) for kind in ("threads", "tasks")})
