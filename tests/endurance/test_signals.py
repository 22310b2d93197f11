"""A signal's handler that raises, at any moment of a call: the call ends, and nobody else is harmed.

Real ``SIGALRM`` handlers, untraced, in a process of its own. An hour of ``--minutes`` makes about 20,000 interruptions.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from figures import Note, Seconds

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGALRM is POSIX")

SCRIPT = """
import json, os, random, signal, sys, threading, time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.effects import Response
from okta_m2m.runtimes import Threads, run

plan = json.loads(sys.argv[1])
chance = random.Random(1)
key = PrivateKey.generate("ES256")
TOKEN = json.dumps({"access_token": "t", "token_type": "Bearer", "expires_in": 3600, "scope": "okta.users.read"}).encode()

class SoftTimeLimitExceeded(Exception):
    pass

def interrupt(*_):
    raise SoftTimeLimitExceeded

signal.signal(signal.SIGALRM, interrupt)

def send(request, timeout):
    time.sleep(chance.choice([0.0, 0.0005, 0.002]))
    return Response(200, [], TOKEN)

threads = Threads(send)
seen = Counter()
slowest = 0.0

def bystander(app):
    began = time.monotonic()
    try:
        run(app.obtain(), threads)
    except Exception as error:
        return f"{type(error).__name__}: {error}", time.monotonic() - began
    return None, time.monotonic() - began

with ThreadPoolExecutor(4) as pool:
    ends = time.monotonic() + plan["seconds"]
    while seen["interrupted"] < plan["least"] or (time.monotonic() < ends and seen["interrupted"] < plan["most"]):
        app = ServiceApp("https://acme.okta.com", client_id="0oa1", key=key, scopes=["okta.users.read"], max_wait=10,
                         dpop=chance.random() < 0.3)
        others = [pool.submit(bystander, app)] if chance.random() < 0.5 else []
        moment = chance.uniform(0.00002, plan["longest"])
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, moment)
                run(app.obtain(), threads)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except SoftTimeLimitExceeded:
            seen["interrupted"] += 1
        except Exception as error:
            # The handler's exception must come out as it is.
            seen[f"{type(error).__name__} in its place: {error}"] += 1
        others += [pool.submit(bystander, app) for _ in range(2)]
        for other in others:
            failed, waited = other.result()
            seen["bystanders"] += 1
            slowest = max(slowest, waited)
            if failed is not None:
                seen[f"failed: {failed}"] += 1
            elif waited > 8.0:
                seen["stranded"] += 1
print(json.dumps({"seen": seen, "slowest": slowest}))
"""

SHARE = 0.15


def test_a_handler_that_raises_ends_only_its_own_call(note: Note, seconds: Seconds) -> None:
    plan = {"seconds": seconds(SHARE), "least": 100, "most": 20_000, "longest": 0.003}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, json.dumps(plan)],
        capture_output=True,
        text=True,
        env=os.environ,
        timeout=seconds(SHARE) + 120,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    seen = report["seen"]
    harmed = {what: count for what, count in seen.items() if what not in ("interrupted", "bystanders")}
    note("signals: interruptions", seen["interrupted"], "20,000 at --minutes 60")
    note(f"signals: harmed of {seen['bystanders']} other calls", sum(harmed.values()), "0")
    note("signals: longest wait of another call", f"{report['slowest']:.2f} s", "<= 8 s, of 10 allowed")
    assert harmed == {}
    # An exception inside of Thread.start() has CPython forget a thread that it has started, and say so on stderr. The fetch
    # is then given up at once, so nobody waits for it.
    forgotten = done.stderr.count("del _limbo[self]")
    note("signals: threads that Python forgot at their start", forgotten, "")
    # Beside that, an exception inside of a finaliser or a weak reference's callback is ignored by Python, and told.
    assert "Exception in thread" not in done.stderr, done.stderr
