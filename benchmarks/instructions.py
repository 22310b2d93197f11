"""Instructions that a hit takes, counted under callgrind: the same on every machine of one architecture, however busy.

    python benchmarks/instructions.py            compares with the baseline of this Python and architecture, if there is one:
                                                 exit 1 if a hit takes over 5 % more
    python benchmarks/instructions.py --update   writes that baseline

A count is the difference between a process that makes many hits and one that makes few, so that starting it falls out.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

RISE = 1.05
FEW, MANY = 200, 1_200
STACKS = ("requests", "httpx", "httpx_async", "aiohttp")
BASELINE = (
    Path(__file__).parent
    / "baselines"
    / f"callgrind-{sys.implementation.name}-{sys.version_info[0]}.{sys.version_info[1]}-{platform.machine()}.json"
)


def hit(stack: str, times: int) -> None:
    """Makes so many hits; run under callgrind."""
    import hit_aiohttp
    import hit_httpx
    import hit_requests
    import peers
    from measure import run
    from server import Endpoint

    from okta_m2m import Token

    endpoint = Endpoint("https://acme.okta.com", 0, 3600)

    class Key:  # never signs: making a real one takes another number of instructions each time
        alg, kid, public_jwk = "ES256", None, {"kty": "EC"}

        def sign(self, message: bytes) -> bytes:
            raise AssertionError

    def held(of: Endpoint, **_: Any) -> Any:
        app = app_of(of, key=Key())
        app._take(Token("x" * 900, "Bearer", (peers.SCOPE,), 3600.0, app._now()))
        return app

    app_of, peers.service_app = peers.service_app, held  # it has its token: nobody is asked
    made = {
        "requests": hit_requests.blocking,
        "httpx": hit_httpx.blocking,
        "httpx_async": hit_httpx.asynchronous,
        "aiohttp": hit_aiohttp.asynchronous,
    }
    run(made[stack](peers.OURS, endpoint), times)


def _counted(stack: str, times: int) -> int:
    done = subprocess.run(
        [
            *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
            *(sys.executable, "-X", "frozen_modules=on", __file__, stack, str(times)),
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


def measured() -> dict[str, int]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = {(stack, times): pool.submit(_counted, stack, times) for stack in STACKS for times in (FEW, MANY)}
    return {stack: (counts[stack, MANY].result() - counts[stack, FEW].result()) // (MANY - FEW) for stack in STACKS}


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"python": platform.python_version(), **{name: version(name) for name in ("requests", "httpx", "aiohttp")}}


def main() -> int:
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: nothing is compared.")
        return 1 if os.environ.get("CI") else 0
    if "--update" in sys.argv:
        BASELINE.parent.mkdir(exist_ok=True)
        BASELINE.write_text(json.dumps({"versions": versions(), "instructions": measured()}, indent=2) + "\n")
        print(BASELINE.read_text())
        return 0
    if not BASELINE.exists():
        print(f"There is no baseline {BASELINE.name}: nothing is compared. --update writes one.")
        return 0
    baseline = json.loads(BASELINE.read_text())
    worse = 0
    for stack, count in measured().items():
        before = baseline["instructions"][stack]
        worse += count > before * RISE
        print(
            f"{stack:12} {count:8} instructions a hit, {count / before - 1:+.1%}{'  TOO MANY' * (count > before * RISE)}"
        )
    if worse and baseline["versions"] != versions():
        print(f"The baseline was taken with {baseline['versions']}, and this is {versions()}.")
    return 1 if worse else 0


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in STACKS:
        hit(sys.argv[1], int(sys.argv[2]))
    else:
        sys.exit(main())
