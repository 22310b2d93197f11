"""However a process ends, it says nothing and is gone at once, and calls that are made meanwhile succeed.

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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from ends import ENDS, PRELUDE
from figures import Note
from front import front_of
from okta_m2m import PrivateKey
from okta_m2m.testing import FakeOkta
from wheel import build, new_environment, pythons

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and forks of POSIX")

ROOT = Path(__file__).parents[2]

HANGS = 4.0
"""Seconds after which an end, or a call that has a token, counts as one that waits for a fetch that hangs: that would take 5 or
more. What is meant is 2 s for an end and 0.5 s for a call; the table shows what they took."""

BY_SIGNAL = {"SIGTERM": -signal.SIGTERM, "SIGTERM during a fetch that hangs": -signal.SIGTERM}


class Ended(NamedTuple):
    seconds: float
    errors: str
    code: int
    quick: float

    @property
    def hangs(self) -> bool:
        return max(self.seconds, self.quick) >= HANGS


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
        quick = max(ended.quick for ended in ends)
        note(f"{len(ends)} ends of a process, {which}: noisy", noisy, "0")
        note(f"{len(ends)} ends of a process, {which}: slowest", f"{slowest:.2f} s", "<= 2 s on an idle machine")
        note(
            f"{len(ends)} ends of a process, {which}: slowest call with a token", f"{quick:.2f} s", "<= 0.5 s, likewise"
        )


@pytest.mark.parametrize("end", ENDS)
def test_a_process_ends_silently_and_at_once(
    end: str,
    python: Path,
    ec_key: PrivateKey,
    tmp_path: Path,
    all_ended: dict[str, list[Ended]],
    request: pytest.FixtureRequest,
) -> None:
    which = request.node.callspec.params["python"]
    stores = {which: None, f"{which}, with a store": f"file:{tmp_path}"}
    with ThreadPoolExecutor(len(stores)) as pool:
        both = pool.map(lambda store: run_twice_if_slow(python, PRELUDE + ENDS[end], ec_key, store), stores.values())
        for name, ended in zip(stores, both, strict=True):
            all_ended[name].append(ended)
            assert ended.errors == "", name
            assert ended.code == BY_SIGNAL.get(end, 0), name
            assert not ended.hangs, name


def run_twice_if_slow(python: Path, script: str, key: PrivateKey, store: str | None) -> Ended:
    """What waits for a fetch that hangs does so every time; a machine that stood still for a while does not."""
    ended = run_at_an_org(python, script, key, store)
    if ended.hangs and not ended.errors:
        ended = run_at_an_org(python, script, key, store)
    return ended


def run_at_an_org(python: Path, script: str, key: PrivateKey, store: str | None) -> Ended:
    with FakeOkta() as okta, front_of(okta.server.port) as front:
        front.pages["/hang"] = lambda exchange: (okta.next(delay=60, times=1000), exchange.answer(200))
        plan = {
            "org_url": okta.url,
            "control": front.url,
            "client_id": okta.add_app(key, ["okta.users.read"]).client_id,
            "key": key.private_jwk(),
            "store": store,
        }
        return run_to_its_end(python, script, plan)


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
    quick = max((float(line[1]) for line in lines if line[0] == "quick"), default=0.0)
    return Ended(over - began, errors, process.returncode, quick)
