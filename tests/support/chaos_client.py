"""``python chaos_client.py``: one client that calls and calls, in a process whose wall clock somebody may set.

Reads its plan from the first line of standard input, calls until a second line comes, and then writes its report:
``calls``, ``lost`` (each: when it began and ended on the steady clock, and what came of it), and what was on the log.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

from clients import CLIENTS, Answer
from okta_m2m import PrivateKey, ServiceApp

plan: dict[str, Any] = json.loads(sys.stdin.readline())


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


kept = Kept()
logging.getLogger("okta_m2m").addHandler(kept)
app = ServiceApp(
    plan["org_url"],
    client_id=plan["client_id"],
    key=PrivateKey.from_file(Path(plan["key_file"])),
    scopes=["okta.users.read"],
    origins=[plan["api"].rpartition("/api/")[0]],
    max_wait=plan["max_wait"],
)
client = CLIENTS[plan["client"]](app)
over = threading.Event()
calls: list[tuple[float, float, str]] = []


def keep_calling() -> None:
    while not over.is_set():
        began = time.monotonic()
        try:
            outcome = client.call("GET", plan["api"])
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        else:
            assert isinstance(outcome, Answer)
            found = "" if outcome.status == 200 else f"HTTP {outcome.status} {outcome.header('www-authenticate')}"
        calls.append((began, time.monotonic(), found))
        time.sleep(0.05)


threads = [threading.Thread(target=keep_calling, daemon=True) for _ in range(plan["callers"])]
for thread in threads:
    thread.start()
print("ready", flush=True)
sys.stdin.readline()
over.set()
for thread in threads:
    thread.join(plan["max_wait"] + 10)
stuck = sum(thread.is_alive() for thread in threads)
print(
    json.dumps(
        {
            "calls": len(calls),
            "lost": [call for call in calls if call[2]],
            "slowest": max((end - began for began, end, _ in calls), default=0.0),
            "stuck": stuck,
            "log": kept.lines,
        }
    ),
    flush=True,
)
client.close()
