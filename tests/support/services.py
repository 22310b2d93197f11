"""Real servers for the tests: Redis or Valkey on free ports, and a port at which nothing ever answers.

Invariant: a server is gone when its context is left, and has written nowhere but in a directory of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

SERVERS = ("redis-server", "valkey-server")
USER, PASSWORD = "okta", "p@ss/w:rd?#%"  # made up; of characters that a URL must escape
ESCAPED = "p%40ss%2Fw%3Ard%3F%23%25"
PERMISSIONS = "~okta-m2m:* resetchannels -@all +getrange +eval +get +set +pttl +del"
"""All that a user of the store needs; docs/sharing.md says the same."""


def binary(name: str = "redis-server") -> str:
    """Its path. Where it is not installed the test is skipped; in CI it fails, unless it is Valkey, which is a second one."""
    found = shutil.which(name)
    if found is not None:
        return found
    reason = f"{name} is not installed"
    if os.environ.get("CI") and name == SERVERS[0]:
        pytest.fail(reason)
    pytest.skip(reason)


class RedisServer:
    """``with RedisServer() as server``: a server of its own on a free loopback port, without persistence.

    ``tls=True`` serves TLS only, and one user only, who may do what a store needs; :attr:`url` has its name, password and
    CA in it. ``certified`` are the names in its certificate, ``settings`` further lines of its configuration.
    """

    def __init__(
        self,
        name: str = "redis-server",
        *,
        tls: bool = False,
        certified: tuple[str, ...] = ("127.0.0.1", "localhost"),
        settings: tuple[str, ...] = (),
    ) -> None:
        self._binary = binary(name)
        self._settings = settings
        self._certified = certified
        self.tls = tls
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> RedisServer:
        with contextlib.ExitStack() as stack:
            # Short: the path of a unix socket has 100 bytes or so.
            self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="m2m")))
            if self.tls:
                self._certify()
            stack.callback(self.stop)
            for _ in range(5):
                self.port = free_port()
                with contextlib.suppress(PortTaken):
                    self.start()
                    self._stack = stack.pop_all()
                    return self
            raise AssertionError("no port stayed free for long enough to start a server on it")

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        if self.tls:
            return f"rediss://{USER}:{ESCAPED}@127.0.0.1:{self.port}/0?ssl_ca_certs={self.ca}"
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.directory}/redis.sock"

    def _certify(self) -> None:
        self.ca = self.directory / "ca.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca)
        certificate = authority.issue_cert(*self._certified)
        certificate.private_key_pem.write_to_path(self.directory / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(self.directory / "cert.pem")

    def start(self) -> None:
        """Starts it, also again and on the same port after :meth:`stop`; it remembers nothing."""
        port = f"port {self.port}"
        lines = [
            "bind 127.0.0.1",
            f"unixsocket {self.directory}/redis.sock",
            f"dir {self.directory}",
            'save ""',
            "appendonly no",
            "daemonize no",
            "enable-debug-command yes",
            "databases 1",
            *self._settings,
        ]
        if self.tls:
            port = f"port 0\ntls-port {self.port}"
            lines += [
                f"tls-cert-file {self.directory}/cert.pem",
                f"tls-key-file {self.directory}/key.pem",
                f"tls-ca-cert-file {self.ca}",
                "tls-auth-clients no",
                "user default off",
                f"user admin on >admin{PASSWORD} ~* &* +@all",
                f"user {USER} on >{PASSWORD} {PERMISSIONS}",
            ]
        config = self.directory / "server.conf"
        config.write_text("\n".join([port, *lines, ""]))
        log = (self.directory / "log").open("ab")
        with log:
            self._process = subprocess.Popen([self._binary, str(config)], stdout=log, stderr=log)
        patience = time.monotonic() + 30
        while True:
            if self._process.poll() is not None:
                text = (self.directory / "log").read_text()
                self._process = None
                if "in use" in text:
                    raise PortTaken
                raise AssertionError(f"{self._binary} did not start:\n{text}")
            # First without redis-py, some versions of which leak a socket when there is nobody yet.
            with contextlib.suppress(OSError, redis.RedisError), socket.socket(socket.AF_UNIX) as knocking:
                knocking.connect(f"{self.directory}/redis.sock")
                with self.admin() as admin:
                    admin.ping()
                return
            assert time.monotonic() < patience, f"{self._binary} does not answer"
            time.sleep(0.01)

    def stop(self) -> None:
        """Kills it; its clients' connections break."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """It lives and keeps its connections, and does nothing (POSIX)."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def admin(self, **options: Any) -> redis.Redis:
        """A client that may do everything. Close it."""
        if self.tls:
            options = {"username": "admin", "password": "admin" + PASSWORD, **options}
        return redis.Redis(unix_socket_path=f"{self.directory}/redis.sock", **options)


class PortTaken(Exception):
    """Somebody else was quicker."""


def free_port() -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < 55536:  # a Cluster's bus has a port that is 10,000 higher
            return port


@contextlib.contextmanager
def stalling() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield listening.getsockname()[1]


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A port at which everybody is told the same, whatever he asked, and shown the door."""

    class Notifier(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                self.request.recv(65536)
                self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Notifier) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            serving.join()


def eventually(came: Callable[[], object], what: str) -> None:
    """Waits until something has come about; fails after half a minute."""
    patience = time.monotonic() + 30
    while not came():
        assert time.monotonic() < patience, f"never came about: {what}"
        time.sleep(0.01)
