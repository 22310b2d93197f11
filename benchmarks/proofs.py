"""What a DPoP proof costs, next to its raw signature."""

from __future__ import annotations

import time
from typing import Any

from measure import QUICK, interleaved, report


def measured() -> dict[str, Any]:
    from okta_m2m import PrivateKey, Token
    from okta_m2m._core.proofs import DPoPProofs, okta_htu

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
    report(measured())
