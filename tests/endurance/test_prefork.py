"""Servers of worker processes, whose service app is made and used before the fork: no call fails, and they end at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from figures import Note, Seconds, need
from okta_m2m import PrivateKey
from okta_m2m.testing import FakeOkta
from services import RedisServer, eventually, free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="servers that fork")

SUPPORT = Path(__file__).parents[1] / "support"
SHARE = 0.05
WORKERS = 3
CALLERS = 6
# The control socket would be one file for all servers of this account.
GUNICORN = ["gunicorn", "prefork_app:wsgi", "--workers", str(WORKERS), "--log-level", "warning", "--no-control-socket"]
SERVERS: dict[str, list[str]] = {
    "gthread": [*GUNICORN, "--preload", "--worker-class", "gthread", "--threads", "4", "--bind", "127.0.0.1:{port}"],
    "gevent": [*GUNICORN, "--preload", "--worker-class", "gevent", "--bind", "127.0.0.1:{port}"],
    "uvicorn": ["uvicorn", "prefork_app:asgi", "--workers", str(WORKERS), "--port", "{port}", "--log-level", "warning"],
}


@pytest.fixture
def brief() -> Iterator[FakeOkta]:
    with FakeOkta(token_lifetime=2) as running:
        yield running


def plan_for(server: str, brief: FakeOkta, key: PrivateKey, **more: Any) -> dict[str, str]:
    plan = {
        "server": server,
        "org_url": brief.url,
        "client_id": brief.add_app(key).client_id,
        "key": key.private_jwk(),
        **more,
    }
    return {**os.environ, "PLAN": json.dumps(plan), "PYTHONPATH": str(SUPPORT)}


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment,
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def keep_asking(ask: Callable[[], str], duration: float) -> list[str]:
    answers: list[str] = []
    ends = time.monotonic() + duration

    def caller() -> None:
        while time.monotonic() < ends:
            answers.append(ask())

    threads = [threading.Thread(target=caller) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def judge(server: str, answers: list[str], process: subprocess.Popen[bytes], log: Path, note: Note) -> None:
    """Ends the server, and looks at what it did."""
    began = time.monotonic()
    process.terminate()
    process.wait(60)
    ended = time.monotonic() - began
    failed = [answer for answer in answers if not answer.endswith(" 200")]
    workers = {answer.split()[0] for answer in answers}
    note(f"prefork: {server}, lost of {len(answers)} calls by {len(workers)} workers", len(failed), "0")
    note(f"prefork: {server}, ends after SIGTERM", f"{ended:.1f} s", "")
    text = log.read_text()
    assert failed == [], text
    assert len(workers) > 1
    assert "Traceback" not in text, text
    assert "okta" not in text, text


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_of_workers_loses_no_call(
    server: str, brief: FakeOkta, ec_key: PrivateKey, tmp_path: Path, note: Note, seconds: Seconds
) -> None:
    need("uvicorn" if server == "uvicorn" else "gunicorn")
    if server == "gevent":
        need("gevent")
    port = free_port()
    command = [word.format(port=port) for word in SERVERS[server]]
    log = tmp_path / "log"
    url = f"http://127.0.0.1:{port}/"

    def ask() -> str:
        try:
            return requests.get(url, timeout=60).text
        except requests.RequestException as error:
            return f"0 {error}"

    with running(command, plan_for(server, brief, ec_key), log) as process:
        eventually(lambda: process.poll() is None and ask().endswith(" 200"), f"{server} serves")
        answers = keep_asking(ask, max(5.0, seconds(SHARE) / 4))
        judge(server, answers, process, log, note)


def test_celery_loses_no_call(
    brief: FakeOkta, ec_key: PrivateKey, tmp_path: Path, note: Note, seconds: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("celery")
    with RedisServer() as redis:
        environment = plan_for("celery", brief, ec_key, broker=redis.url)
        monkeypatch.setenv("PLAN", environment["PLAN"])
        log = tmp_path / "log"
        worker = ["celery", "-A", "prefork_app:celery", "worker", "--pool", "prefork", "--concurrency", str(WORKERS)]
        asking = subprocess.Popen(
            [sys.executable, "-c", ASKING, str(max(5.0, seconds(SHARE) / 4)), str(CALLERS)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        with asking, running([*worker, "--loglevel", "warning"], environment, log) as process:
            printed, _ = asking.communicate(timeout=120)
            judge("celery", json.loads(printed), process, log, note)


ASKING = """
import json, sys, threading, time
from prefork_app import celery
duration, callers = float(sys.argv[1]), int(sys.argv[2])
assert celery.send_task("call").get(timeout=60).endswith(" 200")
answers, ends = [], time.monotonic() + duration
def caller():
    while time.monotonic() < ends:
        answers.append(celery.send_task("call").get(timeout=60))
threads = [threading.Thread(target=caller) for _ in range(callers)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(answers))
"""
