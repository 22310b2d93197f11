"""What a client assertion costs over its raw signature."""

from __future__ import annotations

from typing import Any

from measure import interleaved, report
from peers import OURS, PEERS, pem

CALLS = 32
"""In a round. OpenSSL makes a new blinding for every 32nd signature of an RSA key: so nearly each round has one, of every key."""


def measured(alg: str) -> dict[str, Any]:
    from okta_m2m import PrivateKey

    key = PrivateKey.from_pem(pem(alg))
    message = b"x" * 300  # as long as the assertion's
    entries: dict[str, Any] = {"raw sign": lambda: key.sign(message)}
    for peer in (OURS, *PEERS):
        if peer.assertion is not None and not (peer.name == "okta" and alg != "RS256"):
            entries[peer.name] = peer.assertion(pem(alg), alg)
    slow = {name: entries.pop(name) for name in ("okta",) if name in entries}
    taken = interleaved(entries, calls=CALLS, rounds=300)
    taken |= interleaved(slow, calls=1, rounds=3) if slow else {}
    raw = taken["raw sign"][1]
    return {name: {"us": quartile, "over": quartile - raw} for name, (_, quartile) in taken.items()}


if __name__ == "__main__":
    report({alg: measured(alg) for alg in ("RS256", "ES256")})
