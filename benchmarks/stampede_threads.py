"""A cold stampede of threads.

python benchmarks/stampede_threads.py requests
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from measure import QUICK
from peers import Peer
from server import Endpoint
from stampede import report_rows

COUNTS = (1_000,) if QUICK else (10, 100, 1_000)


def release_threads(call: Callable[[], object], count: int) -> dict[str, float]:
    """Seconds from the start signal to the last thread's end, and CPU seconds."""
    ready, start = threading.Barrier(count + 1), threading.Event()
    failures: list[str] = []

    def run_one() -> None:
        ready.wait()
        start.wait()
        try:
            call()
        except Exception as error:
            failures.append(type(error).__name__)

    threads = [threading.Thread(target=run_one, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    ready.wait()
    began, cpu = time.perf_counter(), time.process_time()
    start.set()
    for thread in threads:
        thread.join()
    return {"s": time.perf_counter() - began, "cpu": time.process_time() - cpu, "failed": len(failures)}


def stampede(peer: Peer, count: int, endpoint: Endpoint) -> dict[str, float]:
    import requests

    auth = peer.requests(endpoint)  # type: ignore[misc]

    def call() -> None:
        request = requests.Request("GET", endpoint.origin + "/api/v1/users").prepare()
        assert auth(request).headers["Authorization"].startswith("Bearer xxx")

    threading.stack_size(256 * 1024)
    return release_threads(call, count)


if __name__ == "__main__":
    report_rows(__file__, COUNTS, {"requests": stampede})
