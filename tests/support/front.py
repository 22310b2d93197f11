"""A server in front of an org, for what a proxy or another server does to answers: send them in pieces, hold them back, never
end them.

Invariant: what it has no page for, it passes on to the org as it came, ``Host`` included, and the org's answer back.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Exchange", "Front", "front_of"]


class Exchange:
    """One request at the front, and the way to answer it."""

    def __init__(self, handler: _Handler, body: bytes) -> None:
        self.method = handler.command
        self.path = handler.path
        self.headers = handler.headers
        self.body = body
        self._handler = handler

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answers whole; ``content_type=...`` becomes ``content-type``."""
        self._head(status, {"content-length": str(len(body)), **_fields(headers)})
        self.write(body)

    def begin(self, status: int, **headers: str) -> None:
        """Begins an answer in chunks, which :meth:`chunk` continues and :meth:`end` ends."""
        self._head(status, {"transfer-encoding": "chunked", **_fields(headers)})

    def chunk(self, data: bytes) -> None:
        self.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def end(self) -> None:
        self.write(b"0\r\n\r\n")

    def write(self, data: bytes) -> None:
        self._handler.wfile.write(data)
        self._handler.wfile.flush()

    def _head(self, status: int, fields: dict[str, str]) -> None:
        self._handler.send_response(status)
        for name, value in fields.items():
            self._handler.send_header(name, value)
        self._handler.end_headers()


def _fields(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


Page = Callable[[Exchange], object]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.front.open.add(self.client_address)

    def finish(self) -> None:
        self.server.front.open.discard(self.client_address)
        super().finish()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:  # the client went away
            self.close_connection = True

    def _answer(self) -> None:
        body = self._body()
        if not self.path.startswith("/"):  # the absolute form, as sent to a proxy
            self.server.front.proxied.append(self.path)
            _scheme, _, host, path = self.path.split("/", 3)
            self.path = "/" + path
            # A proxy minds no other Host than that of the absolute form (RFC 9112 section 3.2.2); niquests sends the proxy's.
            self.headers.replace_header("Host", host)
        page = self.server.front.page_for(self.path)
        if page is not None and page(Exchange(self, body)) is not False:
            return
        self._pass_on(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = []
        while length := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(length))
            self.server.front.arriving(parts[-1])
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _pass_on(self, body: bytes) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.front.org_port)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            content = response.read()
            self.send_response_only(response.status)
            for name, value in response.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
        finally:
            connection.close()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    front: Front


class Front:
    """``url``: where it listens. ``pages``: what it answers itself, by path without query; a page that gives ``False``
    passes the request on. ``proxied``: the URLs that it was asked for as a proxy. ``open``: who is connected. ``arriving``:
    called with each part of a body that is sent in chunks, before the rest has come."""

    def __init__(self, org_port: int) -> None:
        self.org_port = org_port
        self.pages: dict[str, Page] = {}
        self.proxied: list[str] = []
        self.open: set[tuple[str, int]] = set()
        self.arriving: Callable[[bytes], object] = lambda part: None
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.front = self
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def page_for(self, path: str) -> Page | None:
        return self.pages.get(path.partition("?")[0])


@contextmanager
def front_of(org_port: int) -> Iterator[Front]:
    front = Front(org_port)
    thread = threading.Thread(target=front.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield front
    finally:
        front.server.shutdown()
        front.server.server_close()
        thread.join()
