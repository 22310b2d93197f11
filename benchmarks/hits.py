"""What a call costs that finds a fresh token: the auth object's work alone, no network.

Measured is what an auth object adds to a call, as its HTTP library calls it: the same call without one is subtracted, and
taking the header off again for the next turn with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from measure import QUICK, interleaved, report
from peers import FLOOR, OURS, PEERS, Peer
from server import Endpoint, serving

PATH = "/api/v1/users"

Make = Callable[[Peer | None, Endpoint], Callable[[], object]]
"""Makes a call of a peer's auth object, ready to be measured; of none, the same call without."""


def measured(stack: str, make: Make, endpoint: Endpoint) -> dict[str, Any]:
    peers = {peer.name: peer for peer in (FLOOR, OURS, *PEERS) if getattr(peer, stack)}
    calls = {"": make(None, endpoint), **{name: make(peer, endpoint) for name, peer in peers.items()}}
    taken = interleaved(calls, calls=2_000, rounds=40 if QUICK else 100)
    nothing = taken.pop("")[0]
    floor = taken["floor"][0] - nothing
    return {name: {"us": least - nothing, "x": (least - nothing) / floor} for name, (least, _) in taken.items()}


def row(**stacks: Make) -> None:
    """Measures a script's row: what it makes for each stack that it speaks of."""
    with serving() as endpoint:
        report({stack: measured(stack, make, endpoint) for stack, make in stacks.items()})
