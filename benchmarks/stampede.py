"""Many callers at once, and no token yet: how many token requests they make, and how long the last caller waits.

The floor is the endpoint's delay plus what as many callers take to set a constant header. They are started and released in
the same way as the callers of an auth object.

Each measurement is a process of its own, in which another endpoint's token has been fetched before: the token is cold, not
the interpreter. What one stampede takes varies a lot with the other load on the machine, most of all with threads. So floor
and okta-m2m take turns, each has several stampedes in its process, and the least counts.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from measure import ARGUMENTS, QUICK, explain_failure, report, run_python
from peers import FLOOR, OURS, PEERS, Peer, find_peer
from server import Endpoint, serving

DELAY = 0.05
TIMEOUT = 60
PEER_TIMEOUT = 20 if QUICK else 90  # seconds; the slowest peers take minutes
STAMPEDES = 5  # in one process; a peer has one

Stampede = Callable[[Peer, int, Endpoint], dict[str, float]]
"""Lets so many callers of a new auth object loose; with one caller it warms up."""


def best_of(taken: list[dict[str, float]]) -> dict[str, float]:
    """The least of each time, and the most token requests and failures."""
    return {what: (max if what in ("requests", "failed") else min)(each[what] for each in taken) for what in taken[0]}


def _run_stampedes(stampede: Stampede, peer: Peer, count: int, endpoint: Endpoint) -> dict[str, float]:
    # The other endpoint is another name of the same host: a library that keeps tokens for the whole process keeps them by URL.
    stampede(peer, 1, replace(endpoint, origin=endpoint.origin.replace("127.0.0.1", "localhost")))
    taken = []
    for _ in range(STAMPEDES if peer in (FLOOR, OURS) else 1):
        before = endpoint.count()
        taken.append({**stampede(peer, count, endpoint), "requests": endpoint.count() - before})
    best = best_of(taken)
    if peer is FLOOR:
        best["s"] += endpoint.delay
    return best


def _measure_process(script: str, peer: Peer, count: int) -> dict[str, float] | None:
    timeout = TIMEOUT if peer in (FLOOR, OURS) else PEER_TIMEOUT
    with serving(DELAY) as endpoint:
        try:
            return dict(run_python(script, peer.name, count, endpoint.origin, seconds=timeout))
        except subprocess.SubprocessError as error:
            explain_failure(f"{script} {peer.name} {count}", error)
            slow_peer = isinstance(error, subprocess.TimeoutExpired) and peer not in (FLOOR, OURS)
            return {"s": timeout} if slow_peer else None  # the table says that it takes longer


def _measure_all(script: str, stack: str, counts: tuple[int, ...], processes: int) -> dict[str, Any]:
    """By name and number of callers, the best of a few processes. Peers have one, and not of the sizes that take minutes."""
    ours = (FLOOR, OURS)
    peers = [peer for peer in PEERS if getattr(peer, stack)]
    result: dict[str, Any] = {peer.name: {} for peer in (*ours, *peers)}
    for count in counts:
        for turn in range(processes):
            for peer in ours if turn or count > 1_000 else (*ours, *peers):
                taken = _measure_process(script, peer, count)
                if taken is not None:
                    result[peer.name][count] = best_of([taken, result[peer.name].get(count, taken)])
    return result


def report_row(script: str, stack: str, counts: tuple[int, ...], processes: int, stampede: Stampede) -> None:
    """Measures a script's row or, in a process that this function has started, one size of one peer."""
    if ARGUMENTS:
        name, count, origin = ARGUMENTS
        report(_run_stampedes(stampede, find_peer(name), int(count), Endpoint(origin, DELAY, 3600)))
    else:
        report(_measure_all(script, stack, counts, processes))
