"""What an import costs beside its HTTP library's own: milliseconds and MiB, each in processes of their own.

The least of several, because a process's start is at the mercy of everything else.
"""

from __future__ import annotations

import compileall
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from measure import QUICK, report
from peers import OURS, PEERS

PROBE = """
import gc, resource, sys, time
import {library}
gc.collect()  # or what is imported next pays for looking through what the library has left
def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
before, began = held(), time.process_time()
import {module}
print((time.process_time() - began) * 1e3, (held() - before) / 2**20)
"""


def _probed(library: str, module: str) -> tuple[float, float] | None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(library=library, module=module)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode:
        print(f"{module}: {done.stderr[-300:]}", file=sys.stderr)
        return None
    milliseconds, mebibytes = done.stdout.split()
    return float(milliseconds), float(mebibytes)


def measured() -> dict[str, Any]:
    spec = find_spec("okta_m2m")
    assert spec is not None
    assert spec.origin is not None
    # As pip leaves an installed package: the peers have their bytecode, and so must a work tree.
    compileall.compile_dir(Path(spec.origin).parent, quiet=1)
    result: dict[str, Any] = {}
    pairs = [(peer.name, library, module) for peer in (OURS, *PEERS) for library, module in peer.imports.items()]
    for _ in range(8 if QUICK else 20):
        for name, library, module in pairs:
            taken = _probed(library, module)
            if taken is None:
                continue
            best = result.setdefault(f"{name}, {library}", {"ms": 1e9, "MiB": 1e9})
            best["ms"], best["MiB"] = min(best["ms"], taken[0]), min(best["MiB"], taken[1])
    return result


if __name__ == "__main__":
    report(measured())
