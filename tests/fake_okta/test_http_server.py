"""FakeOkta's HTTP server: connections, malformed requests, TLS, and pages of your own.

Invariant: the tests talk to it over plain sockets, and use nothing of the client.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import struct
from typing import Any

import pytest
import trustme
from joserfc.jwk import ECKey

from okta_m2m.testing import FakeOkta
from plain_caller import Caller


def test_connections_are_kept_alive_and_idle_ones_do_not_delay_stop() -> None:
    with FakeOkta() as okta:
        app = okta.add_app()
        assert app.private_jwk
        caller = Caller(okta, app, ECKey.import_key(app.private_jwk))
        token = caller.token()
        used = caller.connection.sock
        assert caller.call(token).status == 200
        assert caller.connection.sock is used
        idle = [socket.create_connection(("127.0.0.1", okta.server.port)) for _ in range(5)]
        for connection in idle:
            connection.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 404 ")
    for connection in [*idle, used]:
        assert connection.recv(1) == b""
        connection.close()
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", okta.server.port))
    caller.connection.close()


def test_a_thousand_callers_connect_at_once(okta: FakeOkta) -> None:
    app = okta.add_app()
    assert app.private_jwk
    caller = Caller(okta, app, ECKey.import_key(app.private_jwk))
    token = caller.token()
    caller.connection.close()
    request = f"GET /api/v1/users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    connections = [socket.create_connection(("127.0.0.1", okta.server.port)) for _ in range(1000)]
    for connection in connections:
        connection.sendall(request)
    answers = [connection.recv(12) for connection in connections]
    for connection in connections:
        connection.close()
    assert set(answers) == {b"HTTP/1.1 200"}
    assert okta.api_calls == 1000


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
    ],
)
def test_malformed_http_is_refused_and_the_connection_closed(okta: FakeOkta, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", okta.server.port)) as connection:
        connection.settimeout(30)
        connection.sendall(request_bytes)
        received = b""
        while chunk := connection.recv(4096):
            received += chunk
    assert received.startswith(b"HTTP/1.1 400 ")
    assert okta.requests == []


def test_a_client_that_resets_its_connection_does_not_affect_others(okta: FakeOkta, caller: Caller) -> None:
    rude = socket.create_connection(("127.0.0.1", okta.server.port))
    rude.sendall(b"POST /oauth2/v1/token HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    rude.close()
    assert caller.token_request().status == 200


def test_it_serves_https() -> None:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    with FakeOkta(ssl_context=server) as okta:
        assert okta.url.startswith("https://127.0.0.1:")
        silent = socket.create_connection(
            ("127.0.0.1", okta.server.port)
        )  # never begins the handshake, and must delay nobody
        app = okta.add_app(dpop_bound=True)
        assert app.private_jwk
        caller = Caller(okta, app, ECKey.import_key(app.private_jwk), tls=client)
        assert caller.bound_call(caller.bound_token()).status == 200
        caller.connection.close()
    silent.close()


def test_pages_of_your_own_come_from_pytest_httpserver(okta: FakeOkta, caller: Caller) -> None:
    okta.server.expect_request("/weather", method="POST", data="x=1").respond_with_json({"sun": True})
    reply = caller.send("POST", "/weather", body=b"x=1")
    assert (reply.status, reply.json) == (200, {"sun": True})


def test_an_error_in_your_own_page_is_raised_by_stop() -> None:
    def broken(_: object) -> Any:
        raise LookupError("mine")

    fake = FakeOkta()
    fake.start()
    fake.server.expect_request("/broken").respond_with_handler(broken)
    connection = http.client.HTTPConnection("127.0.0.1", fake.server.port, timeout=30)
    connection.request("GET", "/broken")
    assert connection.getresponse().status == 500
    connection.close()
    with pytest.raises(LookupError, match="mine"):
        fake.stop()


def test_the_address_is_unknown_before_the_start() -> None:
    with pytest.raises(RuntimeError, match="with FakeOkta"):
        _ = FakeOkta().url
