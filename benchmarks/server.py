"""A token endpoint behind one port, in a process of its own: so fast that what is measured is the client.

Invariant: its behavior is fixed when it starts. ``GET /count`` answers how many token requests came in.

With a certificate, it speaks TLS, and is far away: each round trip takes :data:`ROUND_TRIP`, that of TCP's handshake included.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.request import urlopen

ROUND_TRIP = 0.03  # seconds


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the server listens, and how it answers: after ``delay`` seconds, with tokens that live ``lifetime`` seconds."""

    origin: str
    delay: float
    lifetime: int
    prefix: str = ""
    """Of the token endpoint's path, for another URL."""

    @property
    def token_url(self) -> str:
        return f"{self.origin}{self.prefix}/oauth2/v1/token"

    def count(self) -> int:
        """Token requests so far."""
        with urlopen(f"{self.origin}/count", timeout=10) as answer:
            return int(answer.read())


@contextmanager
def serving(delay: float = 0.0, lifetime: int = 3600, certificate: str = "") -> Iterator[Endpoint]:
    """The server, running; stopped at the end of the block. ``certificate``: a file with its key and certificate."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(delay), str(lifetime), certificate],
        stdin=subprocess.PIPE,  # closes when this process is killed, and then the server ends
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Endpoint(f"{'https' if certificate else 'http'}://127.0.0.1:{port}", delay, lifetime)
    finally:
        process.terminate()
        process.wait(10)


class _Connection(asyncio.Protocol):
    tokens = 0
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
            self._answer(lines[0].split(b" ")[1])

    def _answer(self, path: bytes) -> None:
        kind = type(self)
        if path.endswith(b"/token"):
            kind.tokens += 1
            number = kind.tokens
            asyncio.get_running_loop().call_later(kind.delay, self._write_token, number)
        elif path == b"/count":
            self._write(str(kind.tokens).encode())
        else:
            self._write(b"{}")

    def _write_token(self, number: int) -> None:
        lifetime = type(self).lifetime
        # As long as an access token of Okta's. It says when its life ends, so that a caller can tell whether it has expired.
        value = f"{'x' * 900}{number}~{time.time() + lifetime:.3f}"
        self._write(json.dumps({"access_token": value, "token_type": "Bearer", "expires_in": lifetime}).encode())

    def _write(self, body: bytes) -> None:
        self.transport.write(  # type: ignore[attr-defined]  # it is a transport of both directions
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    while data := await reader.read(1 << 16):
        loop.call_later(ROUND_TRIP / 2, writer.write, data)
    loop.call_later(ROUND_TRIP / 2, writer.close)


async def _serve_from_afar(certificate: str) -> asyncio.Server:
    """Serves TLS behind a relay that delays what it passes on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    near = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0, ssl=context)
    port = near.sockets[0].getsockname()[1]

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(ROUND_TRIP)  # TCP's handshake
        to_server = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pass_on(reader, to_server[1]), _pass_on(to_server[0], writer))

    return await asyncio.start_server(relay, "127.0.0.1", 0)


async def _serve() -> None:
    _Connection.delay, _Connection.lifetime, certificate = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    if certificate:
        server = await _serve_from_afar(certificate)
    else:
        server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(_serve())
