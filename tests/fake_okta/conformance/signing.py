"""Client assertions and proofs as this project makes them, with single claims changed.

Invariant: production code makes everything that is not changed.
"""

from __future__ import annotations

import time
from hashlib import sha256
from typing import Any

from okta_m2m import PrivateKey
from okta_m2m._core.proofs import ClientAssertions, DPoPProofs
from okta_m2m.effects import Flow

__all__ = ["ASSERTION_TYPE", "assertion", "proof"]

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def assertion(client_id: str, key: PrivateKey, audience: str, **claims: Any) -> str:
    """A client assertion. ``claims`` replace ours; ``None`` removes one."""
    return _signed(ClientAssertions(client_id, audience, claims=claims).assertion(key, time.time()), key)


def proof(
    key: PrivateKey,
    method: str,
    url: str,
    *,
    now: float | None = None,
    nonce: str | None = None,
    token: str | None = None,
) -> str:
    """A DPoP proof. With ``token`` it is a proof for a resource."""
    bound = None if token is None else sha256(token.encode()).digest()
    made = DPoPProofs(key, str).proof(method, url, time.time() if now is None else now, nonce, bound)
    return _signed(made, key)


def _signed(flow: Flow[str], key: PrivateKey) -> str:
    effect: Any = next(flow)
    try:
        flow.send(key.sign(effect.message))
    except StopIteration as stop:
        return str(stop.value)
    raise AssertionError("the flow needed more than one signature")
