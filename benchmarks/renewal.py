"""Callers that never pause while tokens are renewed: what a renewal costs them.

Measured is the time in the auth object alone, in eight threads of some 240 calls a second each. The floor adds a constant
header in the same loop. Tokens live two seconds, and the endpoint takes 200 ms. Each renewal that callers had to wait for would
delay eight of some 3,000 calls, so p99.9 shows it. The same is measured with tokens that live an hour, none of which is
renewed meanwhile. Ideal is one token request whenever 80% of a token's life is spent.
"""

from __future__ import annotations

import subprocess
import threading
import time
from statistics import median
from typing import Any

from measure import ARGUMENTS, QUICK, explain_failure, report, run_python
from peers import FLOOR, OURS, PEERS, Peer, find_peer
from server import Endpoint, serving

DELAY, THREADS, PAUSE = 0.2, 8, 0.004
LIFETIMES = {2: 6.0, 3600: 2.0}
"""Of a token, and for how many seconds it is measured."""
TURNS = 1 if QUICK else 2


def measure_peer(peer: Peer, endpoint: Endpoint) -> dict[str, float]:
    import requests

    auth = peer.requests(endpoint)  # type: ignore[misc]
    url = endpoint.origin + "/api/v1/users"
    auth(requests.Request("GET", url).prepare())
    seconds = LIFETIMES[endpoint.lifetime]
    first, until = endpoint.count(), time.perf_counter() + seconds
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
        "p999_ms": waits[int(len(waits) * 0.999)] * 1e3,
        "max_ms": waits[-1] * 1e3,
        "expired": expired,
        "requests": endpoint.count() - first,
        "ideal": seconds / (endpoint.lifetime * 0.8),
    }


def measure_all() -> dict[str, Any]:
    """By a token's lifetime and the name: the median of the turns, the most expired tokens, and all token requests."""
    taken: dict[tuple[int, str], list[dict[str, float]]] = {}
    for _ in range(TURNS):
        for lifetime, seconds in LIFETIMES.items():
            for peer in (FLOOR, OURS, *(peer for peer in PEERS if peer.requests)):
                with serving(DELAY, lifetime) as endpoint:
                    try:
                        sample = run_python(__file__, peer.name, endpoint.origin, lifetime, seconds=seconds + 60)
                    except subprocess.SubprocessError as error:
                        explain_failure(peer.name, error)
                        continue
                taken.setdefault((lifetime, peer.name), []).append(sample)
    result: dict[str, Any] = {str(lifetime): {} for lifetime in LIFETIMES}
    for (lifetime, name), samples in taken.items():
        by_kind = {kind: [sample[kind] for sample in samples] for kind in samples[0]}
        result[str(lifetime)][name] = {
            **{kind: median(by_kind[kind]) for kind in ("p999_ms", "max_ms")},
            "expired": max(by_kind["expired"]),
            "asked": sum(by_kind["requests"]) / sum(by_kind["ideal"]),
        }
    return result


if __name__ == "__main__":
    if ARGUMENTS:
        name, origin, lifetime = ARGUMENTS
        report(measure_peer(find_peer(name), Endpoint(origin, DELAY, int(lifetime))))
    else:
        report(measure_all())
