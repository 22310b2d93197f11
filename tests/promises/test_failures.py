"""What kept an answer from coming, over real sockets in every client: the stage, whether trying again can help, and why."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trustme

from clients import Client
from front import Exchange, Front
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.effects import Flow, Request, Send, SendFailed
from promises import TOKEN, Connect

Failing = Callable[..., SendFailed]
PROXIES = [f"{scheme}_proxy" for scheme in ("http", "https", "all", "no")]
BUNDLES = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, client_type: type[Client]) -> None:
    """Nothing of this machine's own way to the world."""
    if client_type.name == "docs-urllib3":
        pytest.skip("an adapter of one's own says what its library says")
    for name in [*PROXIES, *map(str.upper, PROXIES), *BUNDLES]:
        monkeypatch.delenv(name, raising=False)


class Revealing(ServiceApp):
    """A service app that keeps how its adapter runs a flow."""

    __slots__ = ("run",)

    def revoke_through(self, run: Any) -> None:
        self.run = run


def _send(url: str, failed: list[SendFailed]) -> Flow[None]:
    try:
        yield from Send(Request("POST", url), 3.0)
    except SendFailed as failure:
        failed.append(failure)


@pytest.fixture
def fail(connect: Connect, ec_key: PrivateKey) -> Failing:
    """``fail(url, **options of Client)``: how a request of our own to that URL fails. ``first``: called with the client
    there, before the request."""

    def failing(url: str, *, first: Callable[[], object] = lambda: None, **options: Any) -> SendFailed:
        app = Revealing("https://acme.okta.com", client_id="0oa1", key=ec_key, scopes=["okta.users.read"])
        connect(app, **options)
        first()
        failed: list[SendFailed] = []
        app.run(_send(url, failed))
        return failed[0]

    return failing


@contextmanager
def server(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """The port of a server that does that with each connection."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                    with connection:
                        answer(connection)
                except OSError:
                    if listener.fileno() == -1:
                        return

        thread = Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, Path]:
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made, tmp_path / "ca.pem"


@pytest.fixture
def tls_port(authority: tuple[trustme.CA, Path]) -> Iterator[int]:
    """The port of a server with a certificate for another name, of a CA that only ``authority`` trusts."""
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority[0].issue_cert("another.example").configure_cert(served)

    def answer(connection: socket.socket) -> None:
        with served.wrap_socket(connection, server_side=True) as secured:
            secured.recv(1)

    with server(answer) as port:
        yield port


def data(failed: SendFailed) -> tuple[str | None, bool]:
    return failed.stage, failed.permanent


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


def test_a_name_that_cannot_be_resolved_is_reported(fail: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: Any, *_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    failed = fail("https://acme.okta.example/oauth2/v1/token")
    assert data(failed) == ("name", False)
    assert str(failed) == "the name acme.okta.example could not be resolved"


def test_a_port_without_a_server_is_reported(fail: Failing) -> None:
    failed = fail(f"http://127.0.0.1:{free_port()}/oauth2/v1/token")
    assert data(failed) == ("tcp", False)
    assert str(failed) == "127.0.0.1 refused the connection"


def test_a_certificate_of_an_unknown_ca_is_reported(fail: Failing, tls_port: int) -> None:
    failed = fail(f"https://127.0.0.1:{tls_port}/oauth2/v1/token")
    assert data(failed) == ("tls", True)
    assert str(failed).startswith("the certificate is not trusted: ")


def test_a_certificate_for_another_name_is_reported(
    fail: Failing, tls_port: int, authority: tuple[trustme.CA, Path]
) -> None:
    failed = fail(f"https://127.0.0.1:{tls_port}/oauth2/v1/token", trusted=authority[1], token_client="other")
    assert data(failed) == ("tls", True)
    assert "127.0.0.1" in str(failed)


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "unreadable"])
def test_a_ca_bundle_that_cannot_be_read_is_reported(
    fail: Failing,
    client_type: type[Client],
    tls_port: int,
    tmp_path: Path,
    content: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if client_type.name == "aiohttp":
        pytest.skip("OpenSSL passes over what it cannot read")
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(bundle))
    failed = fail(f"https://127.0.0.1:{tls_port}/oauth2/v1/token")
    assert data(failed) == ("tls", True)
    assert "CA" in str(failed)


def test_a_server_without_tls_is_reported(fail: Failing) -> None:
    with server(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        failed = fail(f"https://127.0.0.1:{port}/oauth2/v1/token")
    assert failed.stage in ("tls", "http")  # some see the connection's end first
    assert not failed.permanent


def test_a_connection_closed_without_a_response_is_reported(fail: Failing) -> None:
    with server(lambda connection: connection.recv(65536)) as port:
        failed = fail(f"http://127.0.0.1:{port}/oauth2/v1/token")
    assert data(failed) == ("http", False)
    assert str(failed) in (
        "the connection was closed before the response was complete",
        "the connection was reset",
    )


def test_a_response_that_does_not_come_is_reported(fail: Failing, front: Front) -> None:
    front.pages[TOKEN] = lambda exchange: exchange._handler.rfile.read(1)
    failed = fail(front.url + TOKEN)
    assert data(failed) == ("http", False)
    assert str(failed) == "the response timed out"


def test_a_response_that_ends_early_is_reported(fail: Failing, front: Front) -> None:
    def page(exchange: Exchange) -> None:
        exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        exchange._handler.close_connection = True

    front.pages[TOKEN] = page
    failed = fail(front.url + TOKEN)
    assert data(failed) == ("http", False)
    assert str(failed) == "the connection was closed before the response was complete"


def test_an_unknown_url_scheme_is_reported(fail: Failing) -> None:
    failed = fail("gopher://acme.okta.example/")
    assert data(failed) == (None, True)


SECRET = "hunter2"


def test_a_proxy_without_a_server_is_reported(fail: Failing) -> None:
    proxy = f"http://user:{SECRET}@127.0.0.1:{free_port()}"
    failed = fail("https://acme.okta.example/oauth2/v1/token", proxy=proxy, token_client="other")
    assert data(failed) == ("proxy", False)
    assert str(failed) == "the proxy refused the connection"


def test_a_proxy_that_refuses_is_reported(fail: Failing) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    with server(refuse) as port:
        failed = fail(
            "https://acme.okta.example/oauth2/v1/token",
            proxy=f"http://user:{SECRET}@127.0.0.1:{port}",
            token_client="other",
        )
    assert data(failed) == ("proxy", False)
    assert str(failed) == "the proxy refused: 407 Proxy Authentication Required"
    assert SECRET not in str(failed)


@pytest.mark.parametrize("mark", list("/?#\\[@ "))
def test_a_proxy_password_that_is_not_encoded_is_reported(
    fail: Failing, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    """A part of the password is read as the port, and the libraries' own messages name it."""
    proxy = f"http://user:{SECRET}{mark}{SECRET}@127.0.0.1:{free_port()}"
    failed = fail("https://acme.invalid/oauth2/v1/token", first=lambda: monkeypatch.setenv("https_proxy", proxy))
    assert SECRET not in str(failed)
