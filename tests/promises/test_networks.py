"""The way to Okta in a company's network: proxies, private CAs, client certificates; the token request takes it too.

The proxy is a real one (proxy.py) and tunnels TLS. Only it knows the org's name, so whatever arrives has come by way of it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import requests
import trustme

import okta_m2m.aiohttp
import okta_m2m.httpx
import okta_m2m.httpx2
import okta_m2m.requests
from named_by_proxy import HOST
from okta_m2m import ServiceApp, TokenUnreachable
from okta_m2m.testing import FakeOkta
from services import eventually

USERS = "/api/v1/users"
NewService = Callable[..., ServiceApp]
PROXIES = [f"{scheme}_proxy" for scheme in ("http", "https", "all", "no")]
BUNDLES = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"]


@dataclass
class Way:
    """A way to Okta: a proxy, the file of a CA, that of a client certificate; ``None``: as the environment says."""

    proxy: str | None = None
    authority: Path | None = None
    certificate: Path | None = None

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate)
        return context


# ── a call through each client, on that way; its token request on the same or on its own ─────────────────────────────


def by_requests(app: ServiceApp, url: str, way: Way, given: bool) -> int:
    with requests.Session() as session:
        session.trust_env = way == Way()
        if way.proxy is not None:
            session.proxies = {"https": way.proxy}
        if way.authority is not None:
            session.verify = str(way.authority)
        session.cert = None if way.certificate is None else str(way.certificate)
        session.auth = okta_m2m.requests.OktaAuth(app, session=session if given else None)
        return session.get(url, timeout=20).status_code


def _httpx_options(way: Way) -> dict[str, Any]:
    return {} if way == Way() else {"proxy": way.proxy, "verify": way.context(), "trust_env": False}


def _blocking(library: Any, adapter: Any) -> Callable[..., int]:
    def call(app: ServiceApp, url: str, way: Way, given: bool) -> int:
        with library.Client(timeout=20, **_httpx_options(way)) as client:
            client.auth = adapter.OktaAuth(app, client=client if given else None)
            return int(client.get(url).status_code)

    return call


def _on_loop(call: Callable[..., Coroutine[Any, Any, int]]) -> Callable[..., int]:
    return lambda *arguments: asyncio.run(call(*arguments))


def _async(library: Any, adapter: Any) -> Callable[..., int]:
    async def call(app: ServiceApp, url: str, way: Way, given: bool) -> int:
        async with library.AsyncClient(timeout=20, **_httpx_options(way)) as client:
            # Token requests are sent from threads, so what is lent is a client that blocks: here, a function that makes one.
            lent = partial(library.Client, timeout=20, **_httpx_options(way)) if given else None
            client.auth = adapter.OktaAuth(app, client=lent)
            return int((await client.get(url)).status_code)

    return _on_loop(call)


async def _by_aiohttp(app: ServiceApp, url: str, way: Way, given: bool) -> int:
    auth = okta_m2m.aiohttp.OktaAuth(app)  # it takes over the settings of the session that makes the call
    # aiohttp reads the CAs of the environment when it is imported.
    connector = aiohttp.TCPConnector(ssl=way.context())
    async with (
        aiohttp.ClientSession(
            connector=connector, proxy=way.proxy, trust_env=way.proxy is None, middlewares=[auth]
        ) as session,
        session.get(url) as response,
    ):
        return response.status


CALLS: dict[str, Callable[..., int]] = {
    "requests": by_requests,
    "httpx": _blocking(httpx, okta_m2m.httpx),
    "httpx-async": _async(httpx, okta_m2m.httpx),
    "httpx2": _blocking(httpx2, okta_m2m.httpx2),
    "httpx2-async": _async(httpx2, okta_m2m.httpx2),
    "aiohttp": _on_loop(_by_aiohttp),
}
every_client = pytest.mark.parametrize("name", list(CALLS))


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's own way to the world."""
    for name in [*PROXIES, *map(str.upper, PROXIES), *BUNDLES]:
        monkeypatch.delenv(name, raising=False)


@dataclass
class Proxy:
    url: str
    written: Path

    @property
    def asked(self) -> list[str]:
        return self.written.read_text("utf-8").splitlines()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("proxy")
    port, written = folder / "port", folder / "asked"
    written.touch()
    command = [sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", "0", "--port-file", str(port)]
    command += [
        "--num-acceptors",
        "1",
        "--num-workers",
        "1",
        "--plugins",
        "named_by_proxy.Named",
        "--log-level",
        "ERROR",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support"), "ASKED": str(written)}
    with subprocess.Popen(command, env=environment, cwd=folder) as process:
        try:
            eventually(lambda: port.exists() and port.read_text().strip(), "the proxy listens")
            yield Proxy(f"http://127.0.0.1:{port.read_text().strip()}", written)
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    made, path = trustme.CA(), tmp_path_factory.mktemp("ca") / "ca.pem"
    made.cert_pem.write_to_path(str(path))
    return made, path


@pytest.fixture
def org(authority: tuple[trustme.CA, Path]) -> Iterator[FakeOkta]:
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority[0].issue_cert(HOST, "127.0.0.1").configure_cert(served)
    with FakeOkta(ssl_context=served) as running:
        yield running


@every_client
def test_by_default_the_token_request_uses_the_environments_proxy(
    org: FakeOkta,
    new_service: NewService,
    proxy: Proxy,
    authority: tuple[trustme.CA, Path],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"https://{HOST}:{org.server.port}"
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    for bundle in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(bundle, str(authority[1]))
    assert CALLS[name](new_service(org, org_url=url), url + USERS, Way(), False) == 200
    assert [request.path for request in org.requests] == ["/oauth2/v1/token", USERS]
    assert proxy.asked[-1] == f"CONNECT {HOST}:{org.server.port}"


@pytest.mark.parametrize("adapter", [okta_m2m.requests, okta_m2m.httpx, okta_m2m.httpx2])
def test_token_requests_load_the_ca_bundle_once(
    org: FakeOkta,
    new_service: NewService,
    authority: tuple[trustme.CA, Path],
    adapter: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle, loaded = tmp_path / "bundle.pem", []
    bundle.write_bytes(authority[1].read_bytes())
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(bundle))
    load = ssl.SSLContext.load_verify_locations

    def count(context: ssl.SSLContext, *arguments: Any, **named: Any) -> None:
        loaded.append(context)
        load(context, *arguments, **named)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", count)
    for _ in range(3):
        adapter.OktaAuth(new_service(org)).token()
    assert [request.path for request in org.requests] == ["/oauth2/v1/token"] * 3
    assert len(loaded) == 1


@every_client
def test_hosts_in_no_proxy_are_reached_directly(
    org: FakeOkta,
    new_service: NewService,
    authority: tuple[trustme.CA, Path],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for bundle in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(bundle, str(authority[1]))
    assert CALLS[name](new_service(org), org.url + USERS, Way(), False) == 200


@every_client
def test_the_token_request_uses_the_proxy_and_ca_of_the_client_that_is_passed(
    org: FakeOkta, new_service: NewService, proxy: Proxy, authority: tuple[trustme.CA, Path], name: str
) -> None:
    url = f"https://{HOST}:{org.server.port}"
    way = Way(proxy.url, authority[1])
    assert CALLS[name](new_service(org, org_url=url), url + USERS, way, True) == 200
    assert [request.path for request in org.requests] == ["/oauth2/v1/token", USERS]
    if name != "aiohttp":  # which takes over its session's settings
        with pytest.raises(TokenUnreachable):
            CALLS[name](new_service(org, org_url=url, max_wait=0.5), url + USERS, way, False)


@every_client
def test_the_token_request_uses_the_client_certificate_of_the_client_that_is_passed(
    new_service: NewService, authority: tuple[trustme.CA, Path], name: str, tmp_path: Path
) -> None:
    made, path = authority
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert("127.0.0.1").configure_cert(served)
    made.configure_trust(served)
    served.verify_mode = ssl.CERT_REQUIRED
    certificate = tmp_path / "client.pem"
    made.issue_cert("service@acme.example").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    with FakeOkta(ssl_context=served) as org:
        app = new_service(org)
        assert CALLS[name](app, org.url + USERS, Way(None, path, certificate), True) == 200
        with pytest.raises(TokenUnreachable):
            CALLS[name](new_service(org, max_wait=0.5), org.url + USERS, Way(None, path), True)
        assert org.tokens_minted == 1
