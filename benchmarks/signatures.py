"""What is signed: a client assertion over its raw signature, and a DPoP proof over its own."""

from __future__ import annotations

import time
from typing import Any

from measure import QUICK, interleaved, report
from peers import OURS, PEERS, pem


def assertions(alg: str) -> dict[str, Any]:
    from okta_m2m import PrivateKey

    key = PrivateKey.from_pem(pem(alg))
    message = b"x" * 300
    entries: dict[str, Any] = {"raw sign": lambda: key.sign(message)}
    for peer in (OURS, *PEERS):
        if peer.assertion is not None and not (peer.name == "okta" and alg != "RS256"):
            entries[peer.name] = peer.assertion(pem(alg), alg)
    slow = {name: entries.pop(name) for name in ("okta",) if name in entries}
    taken = interleaved(entries, calls=20, rounds=150 if QUICK else 400)
    taken |= interleaved(slow, calls=1, rounds=3) if slow else {}
    raw = taken["raw sign"][0]
    return {name: {"us": least, "over": least - raw, "x": least / raw} for name, (least, _) in taken.items()}


def proofs() -> dict[str, Any]:
    from okta_m2m import PrivateKey, Token
    from okta_m2m.proofs import DPoPProofs, okta_htu

    key = PrivateKey.generate("ES256")
    proofs, token, message = DPoPProofs(key, okta_htu), Token("x" * 900, "DPoP"), b"x" * 500
    url = "https://acme.okta.com/api/v1/users/00u1"
    taken = interleaved(
        {
            "raw sign": lambda: key.sign(message),
            "okta-m2m": lambda: proofs.proof_now("GET", url, time.time(), "nonce-of-okta", token),
        },
        calls=200,
        rounds=40 if QUICK else 100,
    )
    raw = taken["raw sign"][0]
    return {name: {"us": least, "x": least / raw} for name, (least, _) in taken.items()}


if __name__ == "__main__":
    report({"RS256": assertions("RS256"), "ES256": assertions("ES256"), "proof": proofs()})
