"""A token endpoint in chaos, keys and nonces that rotate, tokens that are revoked, and clocks, ours and Okta's, that jump.

Clients, each in a process of its own, call all the while. The model of a perfect client: whatever happens to the
token endpoint passes within a few seconds, so a client that may wait for 40 gets a token for each call. A call
that raises, or whose answer is a 401, is lost. Only if the tokens are revoked twice during a call may it end in a 401: a
call is sent again once.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from clients import CLIENTS
from figures import Note, Seconds
from front import Exchange, Front
from okta_m2m import PrivateKey
from okta_m2m.testing import FakeOkta

SUPPORT = Path(__file__).parents[1] / "support"
SHARE = 0.4
MAX_WAIT = 40.0
CALLING = [("requests", False), ("requests", True), ("httpx-asyncio", True), ("aiohttp", False)]
"""Each client, and whether its tokens are bound."""

LIFE = 5
"""Seconds that a token lives."""

STEPS = 40
"""Responses of servers whose clocks disagree. Each differs from the one before, or the key itself would be refused."""


def faketime() -> Path | None:
    """The library that sets the wall clock of a process, where it is installed."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


def replace(file: Path, content: str) -> None:
    """In one step: a reader meets the old content or the new."""
    new = file.with_suffix(".new")
    new.write_text(content)
    new.chmod(0o600)
    new.replace(file)


class Caller:
    """A process that calls and calls."""

    def __init__(self, client: str, dpop_bound: bool, okta: FakeOkta, front: Front, folder: Path) -> None:
        self.client = f"{client}, {'DPoP' if dpop_bound else 'Bearer'}"
        self.key_file = folder / "key.json"
        self.wall = folder / "wall"
        self.app = okta.add_app(dpop_bound=dpop_bound)
        self.keys: list[PrivateKey] = []
        self.rotate()
        replace(self.wall, "+0")
        environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
        library = faketime()
        if library is not None:
            environment |= {
                "LD_PRELOAD": str(library),
                "FAKETIME_TIMESTAMP_FILE": str(self.wall),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        self.process = subprocess.Popen(
            [sys.executable, SUPPORT / "chaos_client.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        plan = {
            "client": client,
            "org_url": front.url,
            "api": f"{okta.url}/api/v1/users",
            "client_id": self.app.client_id,
            "key_file": str(self.key_file),
            "callers": 4,
            "max_wait": MAX_WAIT,
        }
        self.tell(json.dumps(plan))

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def rotate(self) -> None:
        """A new key, registered first beside the last one."""
        key = PrivateKey.generate("ES256", kid=f"kid-{random.random()}")
        self.keys = [key, *self.keys[:1]]
        self.app.jwks = {"keys": [jwk for one in self.keys for jwk in one.jwks()["keys"]]}
        replace(self.key_file, json.dumps(key.private_jwk()))


class Chaos:
    """What happens to an org, each thing for some seconds, drawn from a seed."""

    def __init__(self, okta: FakeOkta, front: Front, callers: list[Caller]) -> None:
        self.okta, self.front, self.callers = okta, front, callers
        self.random = random.Random(7)
        self.happened: Counter[str] = Counter()
        self.revoked_at: list[float] = []
        self.kinds: dict[str, Callable[[], None]] = {
            "429": lambda: okta.next(429, times=3, reset=self.random.choice([1, 2])),
            "429 of a concurrency limit": lambda: okta.next(429, times=3, concurrency=True),
            "500": lambda: okta.next(500, times=6),
            "502 and 503": lambda: (okta.next(502, times=3, html=True), okta.next(503, times=3)),
            "reset": lambda: okta.next(drop=True, times=6),
            "hang": lambda: okta.next(delay=60, times=3),
            "slow": lambda: okta.next(delay=1.5, times=3),
            "garbage": lambda: okta.next(garbage=True, times=6),
            "a login page": lambda: okta.next(200, html=True, times=3),
            "drip": self.drip,
            "outage": lambda: okta.next(503, times=10_000),
            "revocation": self.revoke,
            "revocation in an outage": lambda: (okta.next(503, times=10_000), self.revoke()),
            "nonces": lambda: okta.rotate_nonces(keep_old=self.random.random() < 0.5),
            "nonces, before each request": self.rotate_each_time,
            "Okta's clock": lambda: okta.skew(minutes=self.random.choice([-10, 0, 10])),
            "Okta's clocks, which disagree": self.disagree,
            "keys": lambda: [caller.rotate() for caller in callers],
        }
        if faketime() is not None:
            self.kinds["clock"] = self.jump

    def run(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        order: list[str] = []
        while time.monotonic() < ends:
            if not order:
                order = self.random.sample(sorted(self.kinds), len(self.kinds))
            kind = order.pop()
            self.happened[kind] += 1
            self.kinds[kind]()
            time.sleep(self.random.uniform(0.5, 2.0))
            self.okta.clear_faults()
            self.front.pages.clear()
            # Well for longer than not, or chance alone has all attempts of 40 seconds meet trouble now and then.
            time.sleep(self.random.uniform(1.0, 3.0))

    def revoke(self) -> None:
        self.revoked_at.append(time.monotonic())
        self.okta.revoke_all()

    def is_lost(self, began: float, ended: float, what: str) -> bool:
        return not what.startswith("HTTP 401") or sum(began <= at <= ended for at in self.revoked_at) < 2

    def drip(self) -> None:
        def dripping(exchange: Exchange) -> None:
            exchange.begin(200, content_type="application/json")
            with contextlib.suppress(OSError):
                for _ in range(60):
                    exchange.chunk(b" ")
                    time.sleep(0.5)

        self.front.pages["/oauth2/v1/token"] = dripping

    def rotate_each_time(self) -> None:
        def rotating(_: Exchange) -> bool:
            self.okta.nonces.rotate(keep_old=False)
            return False

        self.front.pages["/oauth2/v1/token"] = rotating

    def disagree(self) -> None:
        for step in range(STEPS):
            # Never the time of a wall clock that jumped: a refusal at the time that the client believes in means its key.
            seconds = self.random.uniform(420, 480) * (1 + step) * self.random.choice([-1, 1])
            date = formatdate(time.time() + seconds, usegmt=True)
            self.okta.next("invalid_client", headers={"Date": date})

    def jump(self) -> None:
        for caller in self.callers:
            replace(caller.wall, self.random.choice(["+600", "-600", "+86400", "+0"]))


@pytest.fixture
def org() -> Iterator[FakeOkta]:
    with FakeOkta(token_lifetime=LIFE) as running:
        yield running


@pytest.fixture
def okta(org: FakeOkta) -> FakeOkta:
    """The org behind ``front``."""
    return org


def test_no_call_is_lost_in_chaos(okta: FakeOkta, front: Front, tmp_path: Path, note: Note, seconds: Seconds) -> None:
    callers = []
    for client, dpop_bound in CALLING:
        if client in CLIENTS:
            folder = tmp_path / f"{client}-{dpop_bound}"
            folder.mkdir()
            callers.append(Caller(client, dpop_bound, okta, front, folder))
    chaos = Chaos(okta, front, callers)
    reports: dict[str, dict[str, Any]] = {}
    try:
        for caller in callers:
            assert caller.hear() == "ready\n"
        chaos.run(max(20.0, seconds(SHARE)))
        for caller in callers:
            caller.tell("over")
        for caller in callers:
            reports[caller.client] = json.loads(caller.hear())
    finally:
        for caller in callers:
            caller.process.kill()
            caller.process.communicate()
    happened = ", ".join(f"{kind} {count}" for kind, count in sorted(chaos.happened.items()))
    print(f"\nhappened: {happened}; {okta.tokens_minted} tokens; {okta.token_requests} token requests")
    note("chaos: things that happened", sum(chaos.happened.values()), f"{len(chaos.kinds)} kinds")
    for client, report in reports.items():
        every = report["lost"]
        report["lost"] = [call for call in every if chaos.is_lost(*call)]
        note(f"chaos: {client}, calls that met two revocations", len(every) - len(report["lost"]), "")
        print(f"{client}: {Counter(what for _, _, what in report['lost'])}")
        if report["lost"]:
            print(*report["log"], sep="\n")
        note(f"chaos: {client}, lost of {report['calls']} calls", len(report["lost"]), "0")
        note(f"chaos: {client}, longest wait", f"{report['slowest']:.1f} s", f"{MAX_WAIT:g} s are allowed")
    if faketime() is None:
        note("chaos: jumps of the wall clock", "skipped: libfaketime is not installed", "")
    for report in reports.values():
        assert report["lost"] == []
        assert report["stuck"] == 0
