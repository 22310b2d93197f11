"""Real processes that share a store, and hosts of their own for them to run on (POSIX).

Each process has a service app with the defaults, from cold, and some threads that make calls with it.
Python and its packages are loaded once per host, and the processes forked from there, since nothing of interest to a store
happens before.

Invariant: whatever was started here is gone when the context is left.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from okta_m2m import PrivateKey
from okta_m2m.testing import FakeOkta

_ENDS = """
import hashlib, json, os, sys, threading, time
import cryptography.hazmat.primitives.kdf.hkdf, joserfc.jwe, redis, requests
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.requests import OktaAuth
from okta_m2m.stores import store_from_url
import okta_m2m._core.conversation, okta_m2m._core.fleet, okta_m2m.stores.file, okta_m2m.stores.redis

plan = json.loads(sys.stdin.readline())
if plan["patience"]:
    okta_m2m._core.conversation.PATIENCE = okta_m2m._core.fleet.LEASE = plan["patience"]
    okta_m2m._core.service_app.SETTLE_TIMEOUT = plan["patience"]

def process():
    app = ServiceApp(
        plan["org_url"],
        client_id=plan["client_id"],
        key=PrivateKey.from_jwk(plan["key"]),
        scopes=["okta.users.read"],
        store=store_from_url(plan["store"]),
        store_timeout=plan["store_timeout"],
    )
    auth = OktaAuth(app)
    seen, wrong, calls = set(), [], []

    def caller():
        with requests.Session() as session:
            session.trust_env = False
            session.auth = auth
            while True:
                try:
                    answer = session.get(plan["org_url"] + "/api/v1/users")
                    if answer.status_code != 200:
                        wrong.append(f"{answer.status_code} {answer.headers.get('www-authenticate')}")
                    sent = answer.request.headers["Authorization"]
                    seen.add(hashlib.sha256(sent.encode()).hexdigest())
                except Exception as error:
                    wrong.append(repr(error))
                calls.append(1)
                if plan["until"] is None or os.path.exists(plan["until"]):
                    return
                time.sleep(0.1)

    threads = [threading.Thread(target=caller) for _ in range(plan["threads"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    app.close()  # the token may still be on its way to the store
    return {"tokens": sorted(seen), "wrong": wrong[:5], "calls": len(calls)}

waiting, go = os.pipe()
children = []
for _ in range(plan["processes"]):
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(waiting, 1)
        os.write(1, json.dumps(process()).encode() + b"\\n")
        os._exit(0)
    children.append(child)
os.write(1, json.dumps(children).encode() + b"\\n")
sys.stdin.readline()
os.close(go)
for child in children:
    os.waitpid(child, 0)
"""

_RELAY = """
import asyncio, contextlib, socket, sys

async def copy(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()

async def passed(reader, writer):
    there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.gather(copy(reader, there_writer), copy(there_reader, writer))

async def relay():
    async with await asyncio.start_server(passed, sock=listening) as server:
        await server.serve_forever()

listening = socket.socket(fileno=int(sys.argv[1]))
port = listening.getsockname()[1]
asyncio.run(relay())
"""


@dataclass(frozen=True)
class Host:
    """Where processes run, and how they reach the Redis server from there."""

    command: Sequence[str] = ()
    redis: str = "127.0.0.1"


class Fleet:
    """``with Fleet(...) as fleet``: processes that wait for :meth:`go`; :meth:`reports` waits until they have ended."""

    def __init__(
        self,
        okta: FakeOkta,
        client_id: str,
        key: PrivateKey,
        store: str,
        *,
        processes: int,
        threads: int,
        host: Host | None = None,
        until: Path | None = None,
        store_timeout: float = 0.25,
        patience: float | None = None,
    ) -> None:
        host = host or Host()
        self._plan = {
            "org_url": okta.url,
            "client_id": client_id,
            "key": key.private_jwk(),
            "store": store.replace("127.0.0.1", host.redis),
            "store_timeout": store_timeout,
            "patience": patience,
            "processes": processes,
            "threads": threads,
            "until": None if until is None else str(until),
        }
        self._command = [*host.command, sys.executable, "-W", "error", "-c", _ENDS]
        self.pids: list[int] = []

    def __enter__(self) -> Fleet:
        # In a process group of its own, of which nobody outlives the test.
        self._parent = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._write(json.dumps(self._plan).encode())
        self.pids = json.loads(self._line())
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._parent.pid, signal.SIGKILL)
        self._parent.communicate()

    def go(self) -> None:
        self._write(b"go")

    def kill(self) -> None:
        """SIGKILL for all of them."""
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)

    def reports(self) -> list[dict[str, Any]]:
        """Of each process: ``tokens`` (digests of what it sent), ``calls`` (how many), ``wrong`` (what failed)."""
        return [json.loads(self._line()) for _ in self.pids]

    def _write(self, line: bytes) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.write(line + b"\n")
        self._parent.stdin.flush()

    def _line(self) -> bytes:
        assert self._parent.stdout is not None
        line = self._parent.stdout.readline()
        assert line, "a process of the fleet ended without a report"
        return line


@contextlib.contextmanager
def three_hosts(*ports: int, redis_port: int) -> Iterator[list[Host]]:
    """Three hosts from which those ports of 127.0.0.1 can be reached, as that or as :attr:`Host.redis`.

    They are network namespaces, each with a loopback of its own, where those can be made (Linux, root); otherwise three
    loopback addresses.
    """
    with contextlib.ExitStack() as stack:
        hosts = []
        for number in range(3):
            name = f"okta-m2m-{os.getpid()}-{number}"
            if _namespace(name, stack):
                hosts.append(Host(("ip", "netns", "exec", name)))
                listening = [_listening_in(name, port) for port in ports]
            else:
                hosts.append(Host(redis=f"127.0.0.{number + 2}"))
                try:
                    listening = [socket.create_server((f"127.0.0.{number + 2}", redis_port))]
                except OSError:
                    pytest.skip("this system has neither network namespaces nor other loopback addresses")
            for listener in listening:
                stack.enter_context(_relayed(listener))
        yield hosts


def _namespace(name: str, stack: contextlib.ExitStack) -> bool:
    def ip(*arguments: str) -> bool:
        try:
            return subprocess.run(["ip", *arguments], capture_output=True, timeout=30).returncode == 0
        except FileNotFoundError:
            return False

    if not (sys.platform == "linux" and os.geteuid() == 0 and ip("netns", "add", name)):
        return False
    stack.callback(ip, "netns", "del", name)
    return ip("-n", name, "link", "set", "lo", "up")


def _listening_in(namespace: str, port: int) -> socket.socket:
    made: list[socket.socket] = []

    def make() -> None:
        # A namespace is a thread's own, so this thread is not used for anything else.
        with open(f"/run/netns/{namespace}") as entry:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(entry.fileno(), 0x40000000):  # CLONE_NEWNET
                raise OSError(ctypes.get_errno(), "setns")
        made.append(socket.create_server(("127.0.0.1", port), backlog=512))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


@contextlib.contextmanager
def _relayed(listening: socket.socket) -> Iterator[None]:
    """Passes on what comes to that socket to the same port of this host's 127.0.0.1: in a process of its own, since this
    one is busy being Okta."""
    command = [sys.executable, "-c", _RELAY, str(listening.fileno())]
    with listening, subprocess.Popen(command, pass_fds=[listening.fileno()]) as relay:
        try:
            yield
        finally:
            relay.kill()
