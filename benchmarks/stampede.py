"""Many callers at once, and no token yet: how many token requests they make, and how long the last caller waits.

The floor is what as many callers take to set a constant header, or the endpoint's delay if that is longer, because they can do
the one while the other passes. They are started and released in the same way as the callers of an auth object.

Each measurement is a process of its own, in which another endpoint's token has been fetched before: the token is cold, not
the interpreter. All libraries take turns. In its process, each has several stampedes, as many as begin in :data:`SECONDS`, so a
library that takes longer than that has one.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

from measure import ARGUMENTS, QUICK, explain_failure, report, run_python, spread
from peers import FLOOR, OURS, PEERS, Peer, find_peer
from server import Endpoint, serving

DELAY = 0.05
TIMEOUT = 20 if QUICK else 90  # seconds; the slowest peers take minutes
STAMPEDES, SECONDS = 5, 5.0
PROCESSES = {"requests": 2, "httpx_async": 4, "aiohttp": 4}  # some peers take a minute for a thousand threads

Stampede = Callable[[Peer, int, Endpoint], dict[str, float]]
"""Lets so many callers of a new auth object loose; with one caller it warms up."""
Samples = list[dict[str, float]]


def _run_stampedes(stampede: Stampede, peer: Peer, count: int, endpoint: Endpoint) -> Samples:
    # Each has another URL: a library that keeps tokens for the whole process keeps them by URL.
    stampede(peer, 1, replace(endpoint, prefix="/warm"))
    taken: Samples = []
    until = time.monotonic() + SECONDS
    while len(taken) < STAMPEDES and (not taken or time.monotonic() < until):
        before, one = endpoint.count(), replace(endpoint, prefix=f"/{len(taken)}")
        taken.append({**stampede(peer, count, one), "requests": endpoint.count() - before})
    return taken


def _measure_process(script: str, stack: str, peer: Peer, count: int) -> Samples:
    with serving(DELAY) as endpoint:
        try:
            return list(run_python(script, stack, peer.name, count, endpoint.origin, seconds=TIMEOUT))
        except subprocess.SubprocessError as error:
            explain_failure(f"{script} {peer.name} {count}", error)
            slow = isinstance(error, subprocess.TimeoutExpired)
            return [{"s": TIMEOUT, "requests": endpoint.count() - 1}] if slow else []


def _summary(taken: Samples, floor: Samples) -> dict[str, Any]:
    """Medians, and the spread of the time's ratio to the floor; the most token requests and failures."""
    least = spread([max(DELAY, sample["s"]) for sample in floor])["median"]
    summary: dict[str, Any] = {
        "x": spread([sample["s"] / least for sample in taken]),
        "requests": round(median(sample["requests"] for sample in taken)),
        "most_requests": max(sample["requests"] for sample in taken),
        "samples": len(taken),
    }
    if timed := [sample for sample in taken if "failed" in sample]:
        summary["failed"] = max(sample["failed"] for sample in timed)
    for what in ("s", "cpu", "stall"):
        if values := [sample[what] for sample in taken if what in sample]:
            summary[what] = spread(values)["median"]
    return summary


def _measure_all(script: str, stack: str, counts: tuple[int, ...]) -> dict[str, Any]:
    """By name and number of callers."""
    peers = [FLOOR, OURS, *(peer for peer in PEERS if getattr(peer, stack) and not peer.has_token)]
    taken: dict[str, dict[int, Samples]] = {peer.name: {count: [] for count in counts} for peer in peers}
    for count in counts:
        for _ in range(1 if QUICK else PROCESSES[stack]):
            for peer in peers:
                taken[peer.name][count] += _measure_process(script, stack, peer, count)
    return {
        name: {count: _summary(samples, taken[FLOOR.name][count]) for count, samples in sizes.items() if samples}
        for name, sizes in taken.items()
    }


def report_rows(script: str, counts: tuple[int, ...], stampede: dict[str, Stampede]) -> None:
    """Measures the rows of a stack or, in a process that this function has started, one size of one library."""
    stack, *of_process = ARGUMENTS
    if of_process:
        name, count, origin = of_process
        report(_run_stampedes(stampede[stack], find_peer(name), int(count), Endpoint(origin, DELAY, 3600)))
    else:
        report(_measure_all(script, stack, counts))
