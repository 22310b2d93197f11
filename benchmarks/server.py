"""A token endpoint and an API behind one port, in a process of its own: so quick that what is measured is the client.

Invariant: what it does is fixed when it starts; ``GET /count`` says how many token requests came in, and ``GET /expired``
how many API calls brought a token that was over.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.request import urlopen


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the server listens, and how it answers: after ``delay`` seconds, with tokens that live ``lifetime`` seconds."""

    origin: str
    delay: float
    lifetime: int

    @property
    def token_url(self) -> str:
        return f"{self.origin}/oauth2/v1/token"

    def count(self) -> int:
        """Token requests so far."""
        return _asked(f"{self.origin}/count")

    def expired(self) -> int:
        """API calls so far that brought a token whose life was over."""
        return _asked(f"{self.origin}/expired")


def _asked(url: str) -> int:
    with urlopen(url, timeout=10) as answer:
        return int(answer.read())


@contextmanager
def serving(delay: float = 0.0, lifetime: int = 3600) -> Iterator[Endpoint]:
    """The server, running; stopped at the end of the block."""
    process = subprocess.Popen([sys.executable, __file__, str(delay), str(lifetime)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Endpoint(f"http://127.0.0.1:{port}", delay, lifetime)
    finally:
        process.terminate()
        process.wait(10)


class _Connection(asyncio.Protocol):
    tokens = expired = 0
    delay = 0.0
    lifetime = 3600

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.read = b""

    def data_received(self, data: bytes) -> None:
        self.read += data
        while True:
            head, found, rest = self.read.partition(b"\r\n\r\n")
            if not found:
                return
            lines = head.split(b"\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
            length = int(fields.get(b"content-length", b"0"))
            if len(rest) < length:
                return
            self.read = rest[length:]
            self._answer(lines[0].split(b" ")[1], fields.get(b"authorization", b""))

    def _answer(self, path: bytes, authorization: bytes) -> None:
        kind = type(self)
        if path.endswith(b"/token"):
            kind.tokens += 1
            number = kind.tokens
            asyncio.get_running_loop().call_later(kind.delay, self._token, number)
        elif path == b"/count":
            self._write(str(kind.tokens).encode())
        elif path == b"/expired":
            self._write(str(kind.expired).encode())
        else:
            ends = authorization.rpartition(b"~")[2]
            kind.expired += bool(ends) and time.time() > float(ends)
            self._write(b"{}")

    def _token(self, number: int) -> None:
        lifetime = type(self).lifetime
        # As long as an access token of Okta's, and with its end in it, so that the API can tell one that is over.
        value = f"{'x' * 900}{number}~{time.time() + lifetime:.3f}"
        self._write(json.dumps({"access_token": value, "token_type": "Bearer", "expires_in": lifetime}).encode())

    def _write(self, body: bytes) -> None:
        self.transport.write(  # type: ignore[attr-defined]  # it is a transport of both directions
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )


async def _serve() -> None:
    _Connection.delay, _Connection.lifetime = float(sys.argv[1]), int(sys.argv[2])
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
