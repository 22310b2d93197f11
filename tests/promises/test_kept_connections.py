"""What token requests share: with aiohttp, those in turn a connection, if they have the same settings; with requests, all an SSL
context, but not with a proxy."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

import okta_m2m.requests
from okta_m2m import Event, PrivateKey, ServiceApp, TokenUnreachable
from okta_m2m._threads import workers
from okta_m2m.aiohttp import OktaAuth
from okta_m2m.events import TokenObtained
from services import eventually

IN_TURN = 4


class TokenServer(ThreadingHTTPServer):
    """A token endpoint. ``accepted``: the number of connections so far; ``open``: how many are open. ``closes``: whether it
    closes each connection after an answer, without having said so. ``answered``: the number of token requests. ``tunnels``:
    how often it was asked to be a proxy, which it refuses."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.accepted = self.open = self.answered = self.tunnels = 0
        self.closes = False
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.server_port}"
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, *_: Any) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: TokenServer

    def setup(self) -> None:
        super().setup()
        self.server.accepted += 1
        self.server.open += 1

    def finish(self) -> None:
        self.server.open -= 1
        super().finish()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.answered += 1
        token = {"token_type": "Bearer", "expires_in": 3600, "access_token": f"t{self.server.answered}", "scope": "s"}
        body = json.dumps(token).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.server.closes

    def do_CONNECT(self) -> None:
        self.server.tunnels += 1
        self.send_error(502)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@contextmanager
def running(authority: trustme.CA | None) -> Iterator[TokenServer]:
    """A server, with TLS if there is an authority."""
    context = None
    if authority is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
    server = TokenServer(context)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(params=["http", "https"])
def server(request: pytest.FixtureRequest, authority: trustme.CA) -> Iterator[TokenServer]:
    with running(authority if request.param == "https" else None) as server:
        yield server


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is kept for longer, so that no pause of this machine ends it."""
    monkeypatch.setattr(workers, "LONGEST_IDLE", 8.0)


Obtain = Callable[..., str]


@pytest.fixture
def obtain(server: TokenServer, trusting: ssl.SSLContext, ec_key: PrivateKey) -> Obtain:
    """``obtain(**options of ClientSession)``: the token of a new app, as a call of a session with these options gets it, with
    the first request."""

    async def call(trust: ssl.SSLContext, options: dict[str, Any]) -> str:
        events: list[Event] = []
        app = ServiceApp(server.url, client_id="0oa1", key=ec_key, scopes=["s"], dpop=False, on_event=events.append)
        sent: list[str] = []

        async def note(request: Any, handler: Any) -> Any:
            sent.append(request.headers["Authorization"])
            raise aiohttp.ClientConnectionError("the call itself is not sent")

        connector = aiohttp.TCPConnector(ssl=trust)
        async with aiohttp.ClientSession(connector=connector, middlewares=[OktaAuth(app), note], **options) as session:
            with pytest.raises(aiohttp.ClientConnectionError, match="not sent"):
                await session.get(server.url)
        assert [isinstance(event, TokenObtained) and event.attempts for event in events] == [1]
        return sent[0]

    return lambda trust=trusting, **options: asyncio.run(call(trust, options))


@pytest.mark.usefixtures("busy_machine")
def test_token_requests_in_turn_use_one_connection(server: TokenServer, obtain: Obtain) -> None:
    tokens = [obtain() for _ in range(IN_TURN)]
    assert tokens == [f"Bearer t{number + 1}" for number in range(IN_TURN)]
    assert server.accepted == 1


def test_a_connection_that_is_not_used_again_is_closed_after_a_moment(server: TokenServer, obtain: Obtain) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        obtain()
        assert server.open == 1
        eventually(lambda: server.open == 0, "the end of the connection")
        gc.collect()
    obtain()
    assert server.accepted == 2


@pytest.mark.usefixtures("busy_machine")
def test_a_connection_that_the_server_closed_is_not_used_again(server: TokenServer, obtain: Obtain) -> None:
    server.closes = True
    for _ in range(IN_TURN):
        obtain()
        eventually(lambda: server.open == 0, "the end of the connection")
    assert server.answered == server.accepted == IN_TURN


@pytest.mark.usefixtures("busy_machine")
def test_other_settings_have_another_connection(
    server: TokenServer, obtain: Obtain, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another CA, or credentials for a proxy: what one session trusts or knows, another does not use."""
    obtain()
    other = ssl.create_default_context()
    authority.configure_trust(other)
    obtain(trust=other)
    obtain(trust=other, trust_env=True)
    obtain(trust=other, trust_env=True)
    assert server.accepted == 3
    eventually(lambda: server.open == 1, "the end of the connections of other settings")


@pytest.mark.usefixtures("busy_machine")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_does_not_share_a_kept_connection(server: TokenServer, obtain: Obtain) -> None:
    obtain()
    assert server.open == 1
    child = os.fork()
    if child == 0:
        status = 1
        try:
            gc.collect()
            status = 0 if obtain() == "Bearer t2" and server.accepted == 1 else 2  # the server runs in the parent
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert obtain() == "Bearer t3"
    assert server.accepted == 3


@pytest.fixture
def new_app(ec_key: PrivateKey, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ServiceApp]:
    """``new_app(org_url)``: an app whose calls fail soon. The environment names no proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return lambda org_url: ServiceApp(
        org_url, client_id="0oa1", key=ec_key, scopes=["s"], authorization_server="default", dpop=False, max_wait=1
    )


@pytest.mark.usefixtures("busy_machine")
def test_a_connection_that_needs_no_proxy_is_not_kept_for_a_host_that_needs_one(
    new_app: Callable[[str], ServiceApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain HTTP to localhost uses no proxy of the environment."""
    with running(None) as server, running(None) as other, running(None) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        asyncio.run(OktaAuth(new_app(server.url)).atoken())
        with pytest.raises(TokenUnreachable):
            asyncio.run(OktaAuth(new_app(f"https://127.0.0.1:{other.server_port}")).atoken())
        assert proxy.tunnels >= 1
        assert other.accepted == 0


def test_a_proxy_with_tls_is_verified_with_the_bundle_that_requests_uses(
    new_app: Callable[[str], ServiceApp], authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So with such a proxy, token requests do not share an SSL context."""
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with running(authority) as proxy:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(TokenUnreachable):
            okta_m2m.requests.OktaAuth(new_app("https://acme.okta.com")).token()
        assert proxy.tunnels >= 1
