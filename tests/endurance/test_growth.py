"""Nothing grows: memory, open files, threads, tasks, objects, garbage; however often a thing is done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from figures import Note, Seconds
from okta_m2m import PrivateKey
from okta_m2m.testing import FakeOkta

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read from /proc")

SCRIPT = Path(__file__).parents[1] / "support" / "growth.py"
KINDS = ["hits", "renewals", "apps", "loops", "forks", "requests sockets", "aiohttp sockets"]
SHARE = 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_memory_threads_and_files_do_not_grow(
    kind: str, okta: FakeOkta, ec_key: PrivateKey, note: Note, seconds: Seconds
) -> None:
    client_id = okta.add_app(ec_key).client_id
    plan = {"org_url": okta.url, "client_id": client_id, "key": ec_key.private_jwk()}
    duration = max(4.0, seconds(SHARE) / len(KINDS))
    done = subprocess.run(
        [sys.executable, "-W", "error", SCRIPT, kind, str(duration), json.dumps(plan)],
        capture_output=True,
        text=True,
        timeout=duration + 120,
    )
    assert done.returncode == 0, done.stderr
    grown = json.loads(done.stdout)
    rounds = grown.pop("rounds")
    figures = ", ".join(f"{what} {count:+}" for what, count in grown.items())
    note(f"growth: {rounds} x {kind}", figures, "kilobytes < 2048, objects < 100, else 0")
    assert grown["files"] == grown["threads"] == grown["garbage"] == 0
    assert grown["objects"] < 100
    assert grown["kilobytes"] < 2048
