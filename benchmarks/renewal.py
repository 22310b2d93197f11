"""Tokens that live two seconds, an endpoint that takes 200 ms, and callers that never pause: what a renewal costs them.

Measured is the time in the auth object alone, in eight threads of some 240 calls a second each. The floor adds a constant
header in the same loop. Each renewal that callers had to wait for would delay eight of some 3,000 calls, so p99.9 shows it.
Ideal is one token request whenever 80 % of a token's life is spent.
"""

from __future__ import annotations

import subprocess
import threading
import time
from typing import Any

from measure import ARGUMENTS, QUICK, explain_failure, report, run_python
from peers import FLOOR, OURS, PEERS, Peer, find_peer
from server import Endpoint, serving

DELAY, LIFETIME, THREADS, PAUSE = 0.2, 2, 8, 0.004
SECONDS = 6 if QUICK else 20


def measure_peer(peer: Peer, endpoint: Endpoint) -> dict[str, float]:
    import requests

    auth = peer.requests(endpoint)  # type: ignore[misc]
    url = endpoint.origin + "/api/v1/users"
    auth(requests.Request("GET", url).prepare())
    first, until = endpoint.count(), time.perf_counter() + SECONDS
    waits: list[float] = []
    expired = 0
    mutex = threading.Lock()

    def keep_calling() -> None:
        nonlocal expired
        own_waits: list[float] = []
        own_expired = 0
        while time.perf_counter() < until:
            request = requests.Request("GET", url).prepare()
            began = time.perf_counter()
            auth(request)
            own_waits.append(time.perf_counter() - began)
            if peer is not FLOOR:
                end_of_life = float(request.headers["Authorization"].rpartition("~")[2])
                own_expired += time.time() > end_of_life
            time.sleep(PAUSE)
        with mutex:
            waits.extend(own_waits)
            expired += own_expired

    threads = [threading.Thread(target=keep_calling) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    waits.sort()
    return {
        "p50_ms": waits[len(waits) // 2] * 1e3,
        "p999_ms": waits[int(len(waits) * 0.999)] * 1e3,
        "max_ms": waits[-1] * 1e3,
        "calls": len(waits),
        "expired": expired,
        "requests": endpoint.count() - first,
        "ideal": SECONDS / (LIFETIME * 0.8),
    }


def measure_all() -> dict[str, Any]:
    result: dict[str, Any] = {}
    for peer in (FLOOR, OURS, *(peer for peer in PEERS if peer.requests)):
        with serving(DELAY, LIFETIME) as endpoint:
            try:
                result[peer.name] = run_python(__file__, peer.name, endpoint.origin, seconds=SECONDS + 60)
            except subprocess.SubprocessError as error:
                explain_failure(peer.name, error)
    return result


if __name__ == "__main__":
    if ARGUMENTS:
        report(measure_peer(find_peer(ARGUMENTS[0]), Endpoint(ARGUMENTS[1], DELAY, LIFETIME)))
    else:
        report(measure_all())
