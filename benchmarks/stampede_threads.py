"""A cold stampede of threads.

The floor is the same number of threads, of which one asks the endpoint with requests, and the others wait for its answer.
That one makes a raw signature first, as whoever asks with private_key_jwt has to: signing lets the others run, so that it
stands in their queue once more.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from measure import QUICK
from peers import Peer, pem
from server import Endpoint
from stampede import row

COUNTS = (1_000,) if QUICK else (1, 10, 100, 1_000)
PROCESSES = 12


def at_once(call: Any, count: int) -> dict[str, float]:
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


def stampedes(
    peer: Peer | None, count: int, endpoint: Endpoint, before: Endpoint, times: int
) -> list[dict[str, float]]:
    threading.stack_size(256 * 1024)

    def caller(of: Endpoint) -> Any:
        return _floor_threads(of) if peer is None else _of_requests(peer, of)

    caller(before)()
    taken = []
    for _ in range(times):
        call, warm = caller(endpoint), endpoint.count()
        taken.append({**at_once(call, count), "requests": endpoint.count() - warm})
    return taken


if __name__ == "__main__":
    row(__file__, "requests", COUNTS, PROCESSES, stampedes)
