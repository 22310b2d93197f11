"""A server of HTTP/2, over TLS, in front of an org: many calls at once share one connection.

Invariant: it passes every request on to the org as it came, ``Host`` included, and the org's answer back.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypercorn.asyncio
import trustme
from hypercorn.config import Config

from okta_m2m.testing import FakeOkta


@dataclass
class Http2:
    """``url``: where it listens. ``authority``: the file of its CA. ``connections``: who called, by address and port.
    ``versions``: in which versions of HTTP."""

    okta: FakeOkta
    url: str
    authority: Path
    connections: set[tuple[str, int]] = field(default_factory=set)
    versions: list[str] = field(default_factory=list)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self.connections.add(tuple(scope["client"]))
        self.versions.append(scope["http_version"])
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        status, fields, content = await asyncio.to_thread(self._passed_on, scope, body)
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": content})

    def _passed_on(self, scope: dict[str, Any], body: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        trusting = ssl.create_default_context(cafile=str(self.authority))
        connection = http.client.HTTPSConnection("127.0.0.1", self.okta.server.port, context=trusting, timeout=20)
        try:
            target = scope["raw_path"].decode() + (
                f"?{scope['query_string'].decode()}" if scope["query_string"] else ""
            )
            connection.putrequest(scope["method"], target, skip_host=True, skip_accept_encoding=True)
            for name, value in scope["headers"]:
                if name not in (b"content-length", b"transfer-encoding", b"connection"):
                    connection.putheader(name.decode(), value.decode())
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            passed = [
                (name.lower().encode(), value.encode())
                for name, value in response.getheaders()
                if name.lower() not in ("connection", "transfer-encoding", "keep-alive")
            ]
            return response.status, passed, response.read()
        finally:
            connection.close()


@contextmanager
def http2_front(folder: Path, authority: trustme.CA) -> Iterator[Http2]:
    """An org, and in front of it a server of HTTP/2."""
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    behind = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(behind)
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    port = listening.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listening.fileno()}"]
    config.certfile, config.keyfile = str(folder / "cert.pem"), str(folder / "key.pem")
    config.alpn_protocols = ["h2", "http/1.1"]
    config.loglevel = "CRITICAL"
    config.graceful_timeout = 0.5
    with FakeOkta(ssl_context=behind) as okta:
        front = Http2(okta, f"https://127.0.0.1:{port}", folder / "ca.pem")
        loop = asyncio.new_event_loop()
        ended = asyncio.Event()

        async def serve() -> None:
            serving = asyncio.create_task(
                hypercorn.asyncio.serve(front, config, shutdown_trigger=ended.wait)  # type: ignore[arg-type]  # ASGI
            )
            await ended.wait()
            await asyncio.wait({serving}, timeout=2)
            # A client that does not take leave is waited for half a minute.
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.wait({serving})

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
        thread.start()
        try:
            yield front
        finally:
            loop.call_soon_threadsafe(ended.set)
            thread.join(20)
            loop.close()
            listening.detach()  # hypercorn has closed it
