"""However a process ends, it says nothing and is gone within two seconds, and calls that are made meanwhile succeed.

On this Python and on the newest one of the machine: since 3.12 no thread can be started once the main thread has ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ends import ENDS, PRELUDE
from figures import Note
from front import Front
from okta_m2m import PrivateKey
from okta_m2m.testing import FakeOkta
from wheel import build, new_environment, pythons

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and forks of POSIX")

ROOT = Path(__file__).parents[2]

WITHIN = 2.0
"""Seconds from the beginning of the end to the end."""

TRIES = 3
"""A process that was too slow may try again: the machine may have stood still."""

BY_SIGNAL = {"SIGTERM": -signal.SIGTERM, "SIGTERM during a fetch that hangs": -signal.SIGTERM}


class Ended(NamedTuple):
    seconds: float
    errors: str
    code: int
    slowest: dict[str, float]

    @property
    def in_time(self) -> bool:
        # With a token that works, a call takes as long as the API does; from cold, as long as a token request.
        return self.seconds <= WITHIN and self.slowest["quick"] <= 0.5 and self.slowest["call"] <= 1.5


@pytest.fixture(scope="module", params=["this Python", "newest Python"])
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "this Python":
        return Path(sys.executable)
    newest = list(pythons().values())[-1]
    if newest == Path(sys.executable):
        pytest.skip("this is the newest Python of this machine")
    wheel = build(ROOT, tmp_path_factory.mktemp("dist"))
    folder = tmp_path_factory.mktemp("newest") / "venv"
    return new_environment(newest, folder, {"okta-m2m[requests,httpx,aiohttp,trio,file]": wheel})


@pytest.fixture(scope="module")
def all_ended(note: Note) -> Iterator[dict[str, list[Ended]]]:
    found: dict[str, list[Ended]] = defaultdict(list)
    yield found
    for which, ends in found.items():
        noisy = sum(bool(ended.errors) for ended in ends)
        slowest = max(ended.seconds for ended in ends)
        quick = max(ended.slowest["quick"] for ended in ends)
        note(f"{len(ends)} ends of a process, {which}: noisy", noisy, "0")
        note(f"{len(ends)} ends of a process, {which}: slowest", f"{slowest:.2f} s", f"<= {WITHIN:g} s")
        note(f"{len(ends)} ends of a process, {which}: slowest call with a token", f"{quick:.2f} s", "<= 0.5 s")


@pytest.mark.parametrize("stored", [False, True], ids=["alone", "store"])
@pytest.mark.parametrize("end", ENDS)
def test_a_process_ends_silently_and_at_once(
    end: str,
    stored: bool,
    python: Path,
    okta: FakeOkta,
    front: Front,
    ec_key: PrivateKey,
    tmp_path: Path,
    all_ended: dict[str, list[Ended]],
    request: pytest.FixtureRequest,
) -> None:
    front.pages["/hang"] = lambda exchange: (okta.next(delay=60, times=1000), exchange.answer(200))
    plan = {
        "org_url": okta.url,
        "control": front.url,
        "client_id": okta.add_app(ec_key, ["okta.users.read"]).client_id,
        "key": ec_key.private_jwk(),
    }
    for attempt in range(TRIES):
        okta.clear_faults()
        plan["store"] = f"file:{tmp_path / str(attempt)}" if stored else None
        ended = run_to_its_end(python, PRELUDE + ENDS[end], plan)
        if ended.in_time:
            break
    all_ended[f"{request.node.callspec.params['python']}{', with a store' if stored else ''}"].append(ended)
    assert ended.errors == ""
    assert ended.code == BY_SIGNAL.get(end, 0)
    assert ended.in_time, ended


def run_to_its_end(python: Path, script: str, plan: dict[str, object]) -> Ended:
    process = subprocess.Popen(
        [python, "-X", "dev", "-W", "error", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PLAN": json.dumps(plan)},
        text=True,
        start_new_session=True,
    )
    try:
        printed, errors = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        printed, errors = process.communicate()
    over = time.time()
    lines = [line.split() for line in printed.splitlines()]
    began = next((float(line[1]) for line in lines if line[0] == "ending"), over)
    slowest = {
        name: max((float(line[1]) for line in lines if line[0] == name), default=0.0) for name in ("quick", "call")
    }
    return Ended(over - began, errors, process.returncode, slowest)
