"""Everybody at once, and no token yet: how many token requests that makes, and how long the last caller waits.

Each measurement is a process of its own, in which another client has fetched a token before: cold is the token, not the
interpreter. What one stampede takes is at the mercy of what else the machine does, threads more than all else; so floor
and okta-m2m take turns, each is let loose several times in its process, and the least counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from measure import QUICK, report
from peers import OURS, PEERS, Peer
from server import Endpoint, serving

DELAY = 0.05
BOUND = 60 if QUICK else 90  # seconds that the stampedes of one process may take; the slowest peers come near it
TURNS = 5  # stampedes of one process: few threads are ever undisturbed; a peer has one, which may take as long as all of ours

Stampedes = Callable[[Peer | None, int, Endpoint, Endpoint, int], list[dict[str, float]]]
"""So many of a peer's (of none: the floor's), one after another: of so many callers, at an endpoint, after a call at another;
and how often."""


def least(taken: list[dict[str, float]]) -> dict[str, float]:
    """Of each time the least; of token requests and of failures the most."""
    return {what: (max if what in ("requests", "failed") else min)(each[what] for each in taken) for what in taken[0]}


def _one(stampedes: Stampedes, name: str, count: int, endpoint: Endpoint) -> dict[str, float]:
    peer = next((peer for peer in (OURS, *PEERS) if peer.name == name), None)
    # Another name of the same host, so that what keeps tokens for a whole process has none of the endpoint's.
    before = replace(endpoint, origin=endpoint.origin.replace("127.0.0.1", "localhost"))
    return least(stampedes(peer, count, endpoint, before, TURNS if peer in (None, OURS) else 1))


def _in_a_process(script: str, name: str, count: int) -> dict[str, float] | None:
    with serving(DELAY) as endpoint:
        try:
            done = subprocess.run(
                [sys.executable, script, name, str(count), endpoint.origin],
                capture_output=True,
                text=True,
                timeout=BOUND,
                check=True,
            )
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
            print(f"{script} {name} {count}: {str(error.stderr or error)[-300:]}", file=sys.stderr)
            cut_short = isinstance(error, subprocess.TimeoutExpired) and name not in ("floor", OURS.name)
            return {"s": BOUND} if cut_short else None  # of a peer it is a result: it takes longer
        return dict(json.loads(done.stdout.splitlines()[-1]))


def _measured(script: str, offers: str, counts: tuple[int, ...], turns: int) -> dict[str, Any]:
    """By name and number of callers, the least of a few processes."""
    everybody = ["floor", OURS.name, *(peer.name for peer in PEERS if getattr(peer, offers))]
    result: dict[str, Any] = {name: {} for name in everybody}
    for count in counts:
        for turn in range(turns):
            for name in everybody:
                if name not in ("floor", OURS.name) and (count > 1_000 or turn):
                    continue  # peers once, and not in the size that takes them minutes
                taken = _in_a_process(script, name, count)
                if taken is None:
                    continue
                result[name][count] = least([taken, result[name].get(count, taken)])
    return result


def row(script: str, offers: str, counts: tuple[int, ...], turns: int, stampedes: Stampedes) -> None:
    """Measures a script's row; in a process that this has started, one size of one peer."""
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    if arguments:
        report(_one(stampedes, arguments[0], int(arguments[1]), Endpoint(arguments[2], DELAY, 3600)))
    else:
        report(_measured(script, offers, counts, turns))
