"""Tokens of two seconds, an endpoint that takes 200 ms, and callers that never pause: what a renewal costs them.

Measured is the time in the auth object alone, in eight threads of some 240 calls a second each; the floor adds a constant
header in the same loop. Ideal is one request for each time that a token is renewed at 80 % of its life.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import Any

from measure import QUICK, report
from peers import FLOOR, OURS, PEERS
from server import Endpoint, serving

DELAY, LIFETIME, THREADS, PAUSE = 0.2, 2, 8, 0.004
SECONDS = 8 if QUICK else 20


def one(name: str, endpoint: Endpoint) -> dict[str, float]:
    import requests

    peer = next(peer for peer in (FLOOR, OURS, *PEERS) if peer.name == name)
    auth = peer.requests(endpoint)  # type: ignore[misc]
    url = endpoint.origin + "/api/v1/users"
    auth(requests.Request("GET", url).prepare())
    first, until = endpoint.count(), time.perf_counter() + SECONDS
    waits: list[float] = []
    expired = [0]

    def call() -> None:
        mine: list[float] = []
        over = 0
        while time.perf_counter() < until:
            request = requests.Request("GET", url).prepare()
            began = time.perf_counter()
            auth(request)
            mine.append(time.perf_counter() - began)
            ends = request.headers["Authorization"].rpartition("~")[2]
            over += name != "floor" and time.time() > float(ends)
            time.sleep(PAUSE)
        waits.extend(mine)
        expired[0] += over

    running = [threading.Thread(target=call) for _ in range(THREADS)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    waits.sort()
    return {
        "p50_ms": waits[len(waits) // 2] * 1e3,
        "p99_ms": waits[int(len(waits) * 0.99)] * 1e3,
        "max_ms": waits[-1] * 1e3,
        "calls": len(waits),
        "expired": expired[0],
        "requests": endpoint.count() - first,
        "ideal": SECONDS / (LIFETIME * 0.8),
    }


def measured() -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in ("floor", OURS.name, *(peer.name for peer in PEERS if peer.requests)):
        with serving(DELAY, LIFETIME) as endpoint:
            try:
                done = subprocess.run(
                    [sys.executable, __file__, name, endpoint.origin, *sys.argv[1:]],
                    capture_output=True,
                    text=True,
                    timeout=SECONDS + 60,
                    check=True,
                )
                result[name] = json.loads(done.stdout.splitlines()[-1])
            except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
                print(f"{name}: {str(error.stderr or error)[-300:]}", file=sys.stderr)
    return result


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    report(one(arguments[0], Endpoint(arguments[1], DELAY, LIFETIME)) if arguments else measured())
