"""What okta-m2m adds to the start of a program that already has its HTTP library.

Measured in milliseconds of CPU time, and each time in a fresh process; the least of several counts.

- ``import``: the adapter's module, beside each HTTP library. That library is imported before.
- ``first app``: that import beside requests, and the first ``ServiceApp`` with its ``OktaAuth``. The key is loaded in
  between, and not counted.
- ``start``: all that a program does until it has its first auth object for requests, the key included. The floor is
  cryptography, imported and loading the same RSA key, which no client with private_key_jwt can do without.
"""

from __future__ import annotations

import compileall
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from measure import QUICK, explain_failure, report, run_python
from peers import FLOOR, OURS, PEERS, pem

# What the HTTP library has left is collected before, or what is timed would pay for it.
IMPORT = """
import gc, json, time
import {library}
gc.collect()
began = time.process_time()
import {module}
print(json.dumps((time.process_time() - began) * 1e3))
"""
FIRST_APP = """
import gc, json, sys, time
import requests
gc.collect()
began = time.process_time()
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.requests import OktaAuth
took = time.process_time() - began
key = PrivateKey.from_pem(sys.stdin.read())
gc.collect()
began = time.process_time()
app = ServiceApp("https://acme.okta.com", client_id="0oa1b2c3", key=key, scopes=["okta.users.read"])
auth = OktaAuth(app)
print(json.dumps((took + time.process_time() - began) * 1e3))
"""
START = """
import gc, json, sys, time
import requests
pem = sys.stdin.read()
gc.collect()
began = time.process_time()
{start}
print(json.dumps((time.process_time() - began) * 1e3))
"""
FLOOR_START = """
from cryptography.hazmat.primitives.serialization import load_pem_private_key
key = load_pem_private_key(pem.encode(), None)
"""


def _probes() -> dict[str, dict[str, str]]:
    """By row, the code of each peer."""
    result: dict[str, dict[str, str]] = {}
    for peer in (OURS, *PEERS):
        for library, module in peer.imports.items():
            result.setdefault(library, {})[peer.name] = IMPORT.format(library=library, module=module)
    result["first app"] = {OURS.name: FIRST_APP}
    starts = {FLOOR.name: FLOOR_START, **{peer.name: peer.start for peer in (OURS, *PEERS) if peer.start}}
    result["start"] = {name: START.format(start=start) for name, start in starts.items()}
    return result


def measure_starts() -> dict[str, Any]:
    spec = find_spec("okta_m2m")
    assert spec is not None
    assert spec.origin is not None
    # pip compiles what it installs, so the peers have their bytecode. A work tree may not.
    compileall.compile_dir(Path(spec.origin).parent, quiet=1)
    result: dict[str, dict[str, float]] = {}
    for turn in range(8 if QUICK else 25):
        for row, codes in _probes().items():
            best = result.setdefault(row, {})
            for name, code in codes.items():
                if turn >= 3 and name not in (FLOOR.name, OURS.name):
                    continue  # peers are an order of magnitude away, and some take over a second
                try:
                    took = run_python("-c", code, seconds=60, stdin=pem().decode())
                except subprocess.SubprocessError as error:
                    explain_failure(f"{row}, {name}", error)
                    continue
                best[name] = min(best.get(name, took), took)
    return result


if __name__ == "__main__":
    report(measure_starts())
