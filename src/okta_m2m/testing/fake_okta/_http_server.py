"""The HTTP/1.1 server of FakeOkta: one thread per kept-alive connection; the handler sees each request exactly as sent.

Invariant: a response is sent in one write, so that no delayed acknowledgement slows a kept-alive connection.
"""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from http.client import HTTPMessage
from typing import Any, BinaryIO, cast

from pytest_httpserver import HTTPServer
from werkzeug.serving import BaseWSGIServer, DechunkedInput, ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wrappers import Request, Response

from ._messages import Answer, ReceivedRequest

_RESET_ON_CLOSE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_REASONS = {status.value: status.phrase for status in HTTPStatus}

_FAILED = Answer(500, [("Content-Type", "text/plain")], b"FakeOkta failed. It raises the cause when it stops.")

#: Answers a request. ``None`` passes it on to the handlers of pytest-httpserver.
Handler = Callable[[ReceivedRequest], Answer | None]


class _BadRequest(Exception):
    pass


class _ConnectionHandler(WSGIRequestHandler):
    # werkzeug's own handler closes the connection after every response and folds duplicate headers. Use only its WSGI
    # environment and its life cycle.
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        self.close_connection = True
        try:
            request = self._read_request()
        except _BadRequest:
            self._send(Answer(400, [("Content-Type", "text/plain")], b"Bad Request"))
            return
        if request is None:
            return
        answer = cast(_ConnectionServer, self.server).answer(request)
        if answer is None:
            try:
                answer = self._from_wsgi(request)
            except Exception:  # noqa: BLE001 (pytest-httpserver keeps it and raises it when it stops)
                answer = _FAILED
        if answer.drop:
            self.close_connection = True
            # Closed before its last file, it is reset when that one is, and not shut down first.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.connection.close()
            return
        self._send(answer)

    def _read_line(self) -> str:
        return self.rfile.readline().decode("latin-1").rstrip("\r\n")

    def _read_request(self) -> ReceivedRequest | None:
        self.requestline = self._read_line()
        if not self.requestline:
            return None
        words = self.requestline.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise _BadRequest
        self.command, self.path, self.request_version = words
        headers: list[tuple[str, str]] = []
        while line := self._read_line():
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise _BadRequest
            headers.append((name, value.strip(" \t")))
        found = ReceivedRequest(
            self.command, self.path, tuple(headers), b"", cast(_ConnectionServer, self.server).scheme
        )
        if len(found.all("host")) != 1:
            raise _BadRequest
        if (found.header("expect") or "").lower() == "100-continue":
            self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self._read_body(found)
        connection = (found.header("connection") or "").lower()
        self.close_connection = "close" in connection or self.request_version == "HTTP/1.0"
        return replace(found, body=body)

    def _read_body(self, request: ReceivedRequest) -> bytes:
        lengths = request.all("content-length")
        if request.all("transfer-encoding"):
            if lengths or (request.header("transfer-encoding") or "").lower() != "chunked":
                raise _BadRequest
            try:
                return DechunkedInput(cast(BinaryIO, self.rfile)).readall()
            except OSError:
                raise _BadRequest from None
        if not lengths:
            return b""
        if len(lengths) > 1 or not lengths[0].isdigit():
            raise _BadRequest
        length = int(lengths[0])
        data = self.rfile.read(length)
        if len(data) < length:
            raise ConnectionAbortedError("the client closed the connection in the middle of its body")
        return data

    def _send(self, answer: Answer) -> None:
        lines = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        without_body = answer.status in (204, 304) or answer.status < 200
        if not without_body:
            lines.append(f"Content-Length: {len(answer.body)}")
        if self.close_connection:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
        omit = without_body or getattr(self, "command", None) == "HEAD"
        self.connection.sendall(head if omit else head + answer.body)

    def _from_wsgi(self, request: ReceivedRequest) -> Answer:
        self.headers = HTTPMessage()
        for name, value in request.headers:
            self.headers[name] = value
        environ = self.make_environ()
        environ["wsgi.input"] = io.BytesIO(request.body)
        environ["CONTENT_LENGTH"] = str(len(request.body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        response = Response.from_app(self.server.app, environ)
        headers = [(name, value) for name, value in response.headers.items() if name.lower() != "content-length"]
        return Answer(response.status_code, headers, response.get_data())


class _Ended(Exception):
    """Leaves the loop of a server that is to end."""


class _ConnectionServer(ThreadedWSGIServer):
    # Room for 1,000 callers that connect at once, if the system's limit (somaxconn) allows it.
    request_queue_size = 2048
    daemon_threads = True

    def __init__(self, owner: OktaServer) -> None:
        # Do not give TLS to werkzeug: it wraps the listening socket, so one slow handshake would delay every caller.
        super().__init__(owner.host, owner.wanted_port, Request.application(owner.application), _ConnectionHandler)
        self.scheme = "http" if owner.ssl_context is None else "https"
        self._owner = owner
        self._mutex = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._closing = False

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        with contextlib.suppress(_Ended):
            super().serve_forever(poll_interval)

    def shutdown(self) -> None:
        """Ends :meth:`serve_forever` at once, not at its next poll: most tests are shorter than that. Closes every
        connection, idle ones included, and waits for their threads to end."""
        with self._mutex:
            self._closing = True
        # A connection wakes the server. If there can be none, it ends at its next poll.
        with contextlib.suppress(Exception), socket.create_connection((self.host, self.port), timeout=5):
            pass
        super().shutdown()
        with self._mutex:
            threads = dict(self._open)
        for connection in threads:
            # Call the plain socket's method: SSLSocket.shutdown drops the TLS state that another thread reads from.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in threads.values():
            thread.join(timeout=5)

    def service_actions(self) -> None:
        if self._closing:
            raise _Ended

    def answer(self, request: ReceivedRequest) -> Answer | None:
        try:
            return self._owner.handle(request)
        except Exception as error:  # noqa: BLE001 (kept, and raised when the server stops)
            self._owner.handler_errors.append(error)
            return _FAILED

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        connection: socket.socket = request
        try:
            if self._owner.ssl_context is not None:
                connection = self._owner.ssl_context.wrap_socket(
                    request, server_side=True, do_handshake_on_connect=False
                )
            with self._mutex:
                if self._closing:
                    return
                self._open[connection] = threading.current_thread()
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            self.finish_request(connection, client_address)
        except OSError:
            pass  # the client closed the connection or failed the handshake
        except Exception as error:  # noqa: BLE001 (kept, and raised when the server stops)
            self._owner.handler_errors.append(error)
        finally:
            with self._mutex:
                self._open.pop(connection, None)
            self.shutdown_request(connection)


class OktaServer(HTTPServer):
    """A pytest-httpserver that calls ``handle`` first. Its own handlers serve the requests that ``handle`` passes on."""

    def __init__(self, handle: Handler, not_found: Callable[[str], Answer], tls: ssl.SSLContext | None) -> None:
        super().__init__(host="127.0.0.1", port=0, ssl_context=tls, threaded=True)
        self.handle = handle
        self._not_found = not_found
        self.wanted_port = 0  # 0: any free port

    def start(self) -> None:
        self.server: BaseWSGIServer | None = _ConnectionServer(self)
        self.port = self.server.port
        self.server_thread = threading.Thread(target=self.thread_target, name="FakeOkta", daemon=True)
        self.server_thread.start()

    def respond_nohandler(self, request: Request, extra_message: str = "") -> Response:
        answer = self._not_found(request.path)
        return Response(answer.body, answer.status, headers=answer.headers)
