"""The profile fapi in every client, over TLS: an unverified server gets neither an assertion nor, where the library shows it in
time, a token."""

from __future__ import annotations

import asyncio
import os
import ssl
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import trustme

from clients import Client
from okta_m2m import ConfigurationError
from okta_m2m.testing import FakeOkta
from promises import USERS, Connect, Service, credentials, sent_to

SHOWS_ONLY_AFTERWARDS = {"requests", "niquests", "niquests-async"}
"""Clients that show how a call was sent only with its response (docs/fapi.md)."""


@pytest.fixture
def only_ours(client_type: type[Client]) -> None:
    if client_type.name == "docs-urllib3":
        pytest.skip("an adapter of one's own verifies by itself")


@pytest.fixture
def okta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOkta]:
    """An org with TLS, which the environment trusts."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(bundle))
    with FakeOkta(ssl_context=context) as running:
        yield running


@pytest.fixture
def binding() -> str:
    return "dpop"


@pytest.fixture
def bundle(okta: FakeOkta, tmp_path: Path) -> Path:
    return tmp_path / "ca.pem"


@pytest.mark.usefixtures("only_ours")
def test_a_client_that_verifies_makes_calls(connect: Connect, service: Service, okta: FakeOkta, bundle: Path) -> None:
    client = connect(service(profile="fapi"), trusted=bundle)
    assert client.call("GET", okta.url + USERS).status == 200
    (call,) = [request for request in sent_to(okta) if credentials(request)]
    assert call.all("authorization")[0].startswith("DPoP ")


@pytest.mark.usefixtures("only_ours")
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_call_of_a_client_that_does_not_verify_is_refused(
    connect: Connect,
    service: Service,
    okta: FakeOkta,
    bundle: Path,
    client_type: type[Client],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = service(profile="fapi")
    connect(app, trusted=bundle).call("GET", okta.url + USERS)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")  # with which requests and niquests verify in any case
    okta.reset()
    client = connect(app, unverified=True)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="does not verify") as refused:
            client.call("GET", okta.url + USERS)
        assert isinstance(refused.value, client.refused)
    sent = [request for request in sent_to(okta) if credentials(request)]
    assert len(sent) == (client_type.name in SHOWS_ONLY_AFTERWARDS)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_after_a_call_without_verification_nothing_more_is_sent(
    new_service: Service, okta: FakeOkta, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes out once, where nothing shows ``verify`` before: one token with one proof."""
    library = "niquests" if find_spec("niquests") else "requests"
    client, adapter = import_module(library), import_module(f"okta_m2m.{library}")
    trusted = os.environ["REQUESTS_CA_BUNDLE"]
    auth = adapter.OktaAuth(new_service(okta, dpop_bound=True, profile="fapi"))
    auth.token()
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")  # with which both verify in any case
    with client.Session() as session:
        session.auth = auth
        for verify in (False, False, trusted):
            with pytest.raises(client.RequestException, match="refuses all calls from now on"):
                session.get(okta.url + USERS, verify=verify)
        (sent,) = sent_to(okta)
        assert sent.all("authorization")[0].startswith("DPoP ")
        assert len(sent.all("dpop")) == 1
        assert session.get(okta.url + USERS, verify=trusted, auth=adapter.OktaAuth(auth.app)).status_code == 200


def test_a_cached_response_of_requests_is_not_refused(new_service: Service, okta: FakeOkta) -> None:
    """A cache may call the hook without the settings of a send, and has sent nothing."""
    library = "niquests" if find_spec("niquests") else "requests"
    client, adapter = import_module(library), import_module(f"okta_m2m.{library}")
    auth = adapter.OktaAuth(new_service(okta, dpop_bound=True, profile="fapi"))
    response = client.Response()
    response.status_code, response.request = 200, client.Request("GET", okta.url + USERS, auth=auth).prepare()
    (hook,) = response.request.hooks["response"]
    assert hook(response) is response


def test_the_warning_of_urllib3_as_an_error_ends_the_first_call_before_it_is_sent(
    new_service: Service, okta: FakeOkta, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = "niquests" if find_spec("niquests") else "requests"
    client, adapter = import_module(library), import_module(f"okta_m2m.{library}")
    warning = import_module("urllib3.exceptions").InsecureRequestWarning
    auth = adapter.OktaAuth(new_service(okta, dpop_bound=True, profile="fapi"))
    auth.token()
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with client.Session() as session, warnings.catch_warnings():
        warnings.simplefilter("error", warning)
        with pytest.raises(warning):
            session.get(okta.url + USERS, verify=False, auth=auth)
    assert not sent_to(okta)


@pytest.mark.usefixtures("only_ours")
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_token_request_of_a_client_that_does_not_verify_is_not_sent(
    connect: Connect, service: Service, okta: FakeOkta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    client = connect(service(profile="fapi"), unverified=True, token_client="made")
    with pytest.raises(ConfigurationError, match="does not verify"):
        client.call("GET", okta.url + USERS)
    assert not okta.token_requests


@pytest.mark.usefixtures("only_ours")
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_without_the_profile_the_callers_choice_stands(
    connect: Connect, service: Service, okta: FakeOkta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    client = connect(service(), unverified=True, token_client="made")
    assert client.call("GET", okta.url + USERS).status == 200


def test_an_open_connection_of_httpx_that_did_not_verify_is_refused(new_service: Service, okta: FakeOkta) -> None:
    """httpcore shows the SSL context only while it connects, so one token with one proof goes out."""
    httpx, adapter = (
        pytest.importorskip("httpx", reason="this environment has only niquests"),
        import_module("okta_m2m.httpx"),
    )
    auth = adapter.OktaAuth(new_service(okta, dpop_bound=True, profile="fapi"))
    with httpx.Client() as client:
        assert client.get(okta.url + USERS, auth=auth).status_code == 200
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200))) as client:
        assert client.get("https://other.example", auth=auth).status_code == 200, "it gets no token"
    okta.reset()
    with httpx.Client(verify=False) as client:
        client.get(okta.url + USERS)
        for _ in range(2):
            with pytest.raises(httpx.HTTPError, match="refuses all calls from now on") as refused:
                client.get(okta.url + USERS, auth=auth)
    assert isinstance(refused.value, ConfigurationError)
    assert len([request for request in sent_to(okta) if credentials(request)]) == 1


def test_an_httpx_that_hides_its_ssl_context_sends_no_token_request(new_service: Service, okta: FakeOkta) -> None:
    """docs/decisions.md: only private attributes show it before the request is sent."""
    httpx = pytest.importorskip("httpx", reason="this environment has only niquests")
    okta_auth = import_module("okta_m2m.httpx").OktaAuth
    app = new_service(okta, dpop_bound=True, profile="fapi")
    with httpx.Client() as client:
        assert okta_auth(new_service(okta, dpop_bound=True, profile="fapi"), client=client).token().dpop_bound
        okta.reset()
        del client._transport._pool._ssl_context
        with pytest.raises(ConfigurationError, match="does not verify"):
            okta_auth(app, client=client).token()
    assert not okta.token_requests


def test_an_own_transport_of_httpx_is_not_checked(new_service: Service, okta: FakeOkta) -> None:
    """docs/fapi.md says so: no one knows how it sends."""
    httpx = pytest.importorskip("httpx", reason="this environment has only niquests")
    app = new_service(okta, dpop_bound=True, profile="fapi")
    with httpx.HTTPTransport(verify=False) as inner:
        transport = type(
            "Own", (httpx.BaseTransport,), {"handle_request": lambda _, request: inner.handle_request(request)}
        )
        client = httpx.Client(transport=transport())
        assert import_module("okta_m2m.httpx").OktaAuth(app, client=client).token().dpop_bound


def test_a_session_that_a_function_makes_for_aiohttp_must_verify(new_service: Service, okta: FakeOkta) -> None:

    aiohttp = pytest.importorskip("aiohttp", reason="this environment has only niquests")

    async def obtain() -> None:
        def make() -> Any:
            return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False))

        app = new_service(okta, dpop_bound=True, profile="fapi")
        await import_module("okta_m2m.aiohttp").OktaAuth(app, session=make).atoken()

    with pytest.raises(ConfigurationError, match="does not verify"):
        asyncio.run(obtain())
    assert not okta.token_requests


@pytest.mark.parametrize("lowered", ["certificate", "name", "version"])
def test_an_ssl_context_that_lowers_one_thing_is_refused(
    new_service: Service, okta: FakeOkta, bundle: Path, lowered: str
) -> None:
    context = ssl.create_default_context(cafile=bundle)
    if lowered == "version":
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # at level 1, OpenSSL 3 allows no old version
    else:
        context.check_hostname = False
    if lowered == "certificate":
        context.verify_mode = ssl.CERT_NONE
    httpx, adapter = (
        pytest.importorskip("httpx", reason="this environment has only niquests"),
        import_module("okta_m2m.httpx"),
    )
    auth = adapter.OktaAuth(new_service(okta, dpop_bound=True, profile="fapi"))
    with httpx.Client(verify=context) as client, pytest.raises(ConfigurationError, match="does not verify"):
        client.get(okta.url + USERS, auth=auth)
    assert not sent_to(okta)
