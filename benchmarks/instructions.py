"""Counts the instructions of a hit under callgrind: the same on every machine of one architecture, however busy it is. The
same for a call with a token that is bound with DPoP, with its response and without the signature.

    python benchmarks/instructions.py            compares with the baseline of this Python and architecture, if there is one;
                                                 exit 1 if a hit takes over 5% more
    python benchmarks/instructions.py --update   writes that baseline

A count is the difference between a process that makes many hits and one that makes few, so the start of the process is not in
it.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from measure import Call

RISE = 1.05
FEW, MANY = 200, 1_200
STACKS = ("requests", "httpx", "httpx_async", "aiohttp")
BOUND = "_bound"
"""The end of the name of a stack whose token is bound."""
COUNTED = (*STACKS, *(stack + BOUND for stack in STACKS))
BASELINE = (
    Path(__file__).parent
    / "baselines"
    / f"callgrind-{sys.implementation.name}-{sys.version_info[0]}.{sys.version_info[1]}-{platform.machine()}.json"
)


class ConstantKey:
    """A signer that computes nothing: a real signature takes a different number of instructions each time."""

    alg, kid, in_memory = "ES256", "key-1", True
    public_jwk: ClassVar[dict[str, str]] = {"kty": "EC", "crv": "P-256", "x": "x", "y": "y"}

    def sign(self, message: bytes) -> bytes:
        return bytes(64)


class ConstantDPoPKey(ConstantKey):
    public_jwk: ClassVar[dict[str, str]] = {"kty": "EC", "crv": "P-256", "x": "another", "y": "y"}


def make_hits(stack: str, count: int) -> None:
    """Makes so many hits; run under callgrind."""
    from hits import CALLS, argument_for
    from measure import run_calls
    from memory_endpoint import ORIGIN, MemoryEndpoint

    auth = argument_for(stack, MemoryEndpoint().make_auth(stack, ConstantKey()))
    _, call, request = CALLS[stack](ORIGIN, stack.removesuffix("_async"))
    run_calls(call, repeat(auth, count))
    assert request.headers["Authorization"].startswith("Bearer ")


def make_bound_calls(stack: str, count: int) -> None:
    """Makes so many calls with a bound token; run under callgrind."""
    from hits import CALLS, argument_for
    from measure import run_calls
    from memory_endpoint import ORIGIN, MemoryEndpoint

    auth = argument_for(stack, MemoryEndpoint("DPoP").make_auth(stack, ConstantKey(), dpop=ConstantDPoPKey()))
    _, call, request = CALLS[stack](ORIGIN, stack.removesuffix("_async"))
    run_calls(WHOLE[stack](call, request), repeat(auth, count))
    assert request.headers["Authorization"].startswith("DPoP ")
    assert request.headers["DPoP"].count(".") == 2


def with_response(call: Call, request: Any) -> Call:
    """A call of requests, and its response hook."""
    from requests import Response
    from requests.hooks import dispatch_hook

    response = Response()
    response.status_code, response.request = 200, request

    def complete(auth: Any) -> None:
        call(auth)
        dispatch_hook("response", request.hooks, response)

    return complete


def with_trace(call: Call, request: Any) -> Call:
    """A call of httpx, and what httpcore calls before it writes the request."""
    from httpcore import URL, Request

    url = URL(str(request.url))

    def complete(auth: Any) -> None:
        call(auth)
        request.extensions.pop("trace")(SENDING, {"request": Request("GET", url, headers=request.headers.raw)})

    return complete


def with_async_trace(call: Call, request: Any) -> Call:
    from httpcore import URL, Request

    url = URL(str(request.url))

    async def complete(auth: Any) -> None:
        await call(auth)
        await request.extensions.pop("trace")(SENDING, {"request": Request("GET", url, headers=request.headers.raw)})

    return complete


SENDING = "http11.send_request_headers.started"
WHOLE: dict[str, Callable[[Call, Any], Call]] = {
    "requests": with_response,
    "httpx": with_trace,
    "httpx_async": with_async_trace,
    "aiohttp": lambda call, _: call,
}
"""For each stack, what makes a whole call of the hit."""


def _count_process(stack: str, hits: int) -> int:
    done = subprocess.run(
        [
            *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
            *(sys.executable, "-X", "frozen_modules=on", __file__, stack, str(hits)),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, done.stderr[-500:]
    return int(found[1])


def count_instructions() -> dict[str, int]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = {(stack, hits): pool.submit(_count_process, stack, hits) for stack in COUNTED for hits in (FEW, MANY)}
    return {stack: (counts[stack, MANY].result() - counts[stack, FEW].result()) // (MANY - FEW) for stack in COUNTED}


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"python": platform.python_version(), **{name: version(name) for name in ("requests", "httpx", "aiohttp")}}


def main() -> int:
    if shutil.which("valgrind") is None:
        print("valgrind is not installed, so nothing was compared.")
        return 1 if os.environ.get("CI") else 0
    if "--update" in sys.argv:
        BASELINE.parent.mkdir(exist_ok=True)
        BASELINE.write_text(json.dumps({"versions": versions(), "instructions": count_instructions()}, indent=2) + "\n")
        print(BASELINE.read_text())
        return 0
    if not BASELINE.exists():
        print(f"Nothing was compared: {BASELINE.name} does not exist. Write it with --update.")
        return 0
    baseline = json.loads(BASELINE.read_text())
    worse = 0
    for stack, count in count_instructions().items():
        before = baseline["instructions"][stack]
        worse += count > before * RISE
        print(
            f"{stack:17} {count:8} instructions a call, {count / before - 1:+.1%}{'  TOO MANY' * (count > before * RISE)}"
        )
    if worse and baseline["versions"] != versions():
        print(f"The baseline was measured with {baseline['versions']}; this environment has {versions()}.")
    return 1 if worse else 0


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in COUNTED:
        gc.disable()  # when it collects depends on every object that was ever made, so a change elsewhere would show here
        make = make_bound_calls if sys.argv[1].endswith(BOUND) else make_hits
        make(sys.argv[1].removesuffix(BOUND), int(sys.argv[2]))
    else:
        sys.exit(main())
