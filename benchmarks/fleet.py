"""A fleet of processes with one Redis: token requests of a cold start, and what a warm start costs beyond a plain GET."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from measure import ARGUMENTS, QUICK, report
from peers import pem, service_app
from server import Endpoint, serving

SIZES = (1, 4, 16, 64)


@contextmanager
def redis() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


def measure_process(url: str, origin: str) -> dict[str, float]:
    """In a process of the fleet: milliseconds to its first token, and to the first answer of a plain Redis client.

    Neither includes imports, which are part of a program's start; both include the connection. All processes have the same
    key, which they read from standard input.
    """
    import requests
    from redis import Redis

    from okta_m2m import PrivateKey
    from okta_m2m.requests import OktaAuth
    from okta_m2m.stores.redis import RedisStore

    key = PrivateKey.from_pem(sys.stdin.read())
    plain = Redis.from_url(url)
    plain.ping()
    began = time.perf_counter()
    Redis.from_url(url).get("nothing")
    get = time.perf_counter() - began
    app: Any = service_app(Endpoint(origin, 0.05, 3600), key=key, store=RedisStore(url), dpop=True)
    request = requests.Request("GET", origin + "/api/v1/users").prepare()
    began = time.perf_counter()
    OktaAuth(app)(request)
    took = time.perf_counter() - began
    assert "Authorization" in request.headers
    return {"get_ms": get * 1e3, "token_ms": took * 1e3}


def _run_fleet(size: int, url: str, endpoint: Endpoint) -> list[dict[str, float]]:
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, url, endpoint.origin],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(size)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(pem("ES256").decode())
        process.stdin.close()
    answers = []
    for process in processes:
        assert process.stdout is not None
        answers.append(json.loads(process.stdout.read().splitlines()[-1]))
        process.wait(60)
    return answers


def measure_fleets() -> dict[str, Any]:
    if shutil.which("redis-server") is None:
        return {"skipped": "redis-server is not installed"}
    result: dict[str, Any] = {"cold": {}}
    for size in SIZES[-1:] if QUICK else SIZES:
        with redis() as url, serving(0.05) as endpoint:
            began = time.perf_counter()
            answers = _run_fleet(size, url, endpoint)
            result["cold"][size] = {
                "requests": endpoint.count(),
                "s": time.perf_counter() - began,
                "slowest_ms": max(answer["token_ms"] for answer in answers),
            }
    with redis() as url, serving(0.05) as endpoint:
        _run_fleet(1, url, endpoint)
        warm = [_run_fleet(1, url, endpoint)[0] for _ in range(8 if QUICK else 20)]
        # The least of each, not the least of the differences, which would be that of the slowest GET.
        get, token = (min(answer[of] for answer in warm) for of in ("get_ms", "token_ms"))
        result["warm"] = {"get_ms": get, "token_ms": token, "over_ms": token - get, "requests": endpoint.count() - 1}
    return result


if __name__ == "__main__":
    report(measure_process(*ARGUMENTS) if ARGUMENTS else measure_fleets())
