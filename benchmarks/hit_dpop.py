"""What a call costs whose token is bound with DPoP, in requests: each call signs a proof.

The floor makes the raw signature, as any client with DPoP has to, and sets constant headers.
"""

from __future__ import annotations

from typing import Any

from measure import QUICK, interleave, report
from memory_endpoint import ORIGIN, MemoryEndpoint


def measure_hit() -> dict[str, Any]:
    import requests

    from okta_m2m import PrivateKey

    key = PrivateKey.generate("ES256")
    auth = MemoryEndpoint("DPoP").make_auth("requests", key)
    request = requests.Request("GET", f"{ORIGIN}/api/v1/users/00u1").prepare()
    headers, hooks = request.headers._store, request.hooks["response"]
    message = b"x" * 500  # as long as a proof's

    def remove_headers(_: object) -> None:
        headers.pop("authorization", None)
        headers.pop("dpop", None)
        hooks.clear()

    def floor(_: object) -> None:
        remove_headers(None)
        key.sign(message)
        request.headers["Authorization"] = "DPoP constant"
        request.headers["DPoP"] = "constant"

    def call(_: object) -> None:
        remove_headers(None)
        auth(request)

    call(None)
    assert request.headers["Authorization"].startswith("DPoP ")
    assert request.headers["DPoP"].count(".") == 2
    taken = interleave(
        {name: (each, None) for name, each in (("", remove_headers), ("floor", floor), ("okta-m2m", call))},
        calls=200,
        rounds=40 if QUICK else 100,
    )
    nothing = taken.pop("")
    return {name: {"us": us - nothing, "x": (us - nothing) / (taken["floor"] - nothing)} for name, us in taken.items()}


if __name__ == "__main__":
    report(measure_hit())
