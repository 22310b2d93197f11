"""Four threads use the nonces of an app at once. Without the GIL, a structure that is not safe for that ends the interpreter: an
``OrderedDict`` does within seconds in CPython 3.13t."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import okta_m2m

PROGRAM = """
import sys, threading
from okta_m2m._core.proofs import Nonces

nonces, start = Nonces(), threading.Barrier(4)
servers = [f"https://api{number}.example.com" for number in range(8)]

def use():
    start.wait()
    for number in range(int(sys.argv[1])):
        server = servers[number % len(servers)]
        assert nonces.learn(server, f"n{number}")
        assert nonces.get(server)

threads = [threading.Thread(target=use) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("done", getattr(sys, "_is_gil_enabled", lambda: True)())
"""


@pytest.mark.parametrize(
    ("name", "rounds"), [(sys.executable, 2_000), ("python3.13t", 200_000), ("python3.14t", 200_000)]
)
def test_four_threads_may_use_the_nonces_at_once(name: str, rounds: int) -> None:
    python = shutil.which(name)
    if python is None:
        pytest.skip(f"{name} is not installed; uv python install gets it from GitHub, if that is reached")
    source = str(Path(okta_m2m.__file__).parents[1])
    done = subprocess.run(
        [python, "-c", PROGRAM, str(rounds)],
        env={**os.environ, "PYTHONPATH": source},
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.split() == ["done", str(not name.endswith("t"))]
