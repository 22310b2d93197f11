"""With every client, how token requests and calls are sent: by which client, through which proxy, trusting which CA."""

from __future__ import annotations

import copy
import pickle
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import trustme

from clients import CLIENTS, AsyncClient, Body, Client
from clients.interface import trusting
from front import Front
from okta_m2m import TokenUnreachable
from okta_m2m.effects import Request, Response, Save, SendFailed
from okta_m2m.testing import FakeOkta
from promises import (
    CONTENT,
    TOKEN,
    USERS,
    Connect,
    Service,
    either_binding,
    in_matrix,
    redirect,
    sent_to,
    sha,
    statuses,
)

# ── the token request, and the call ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("token_client", "pool_of_one"),
    [("same", True), ("other", False), ("made", True), *in_matrix(("same", False), ("other", True), ("made", False))],
)
@either_binding
def test_the_token_request_may_use_the_callers_client(
    okta: FakeOkta,
    service: Service,
    connect: Connect,
    client_type: type[Client],
    token_client: str,
    pool_of_one: bool,
) -> None:
    if token_client == "same" and not client_type.lends_itself:
        pytest.skip("it belongs to an event loop, and so is refused: see test_senders.py")
    client = connect(service(), token_client=token_client, pool_of_one=pool_of_one)
    assert client.get(okta.url + USERS).status == 200
    okta.revoke_all()
    assert client.post(okta.url + USERS, Body(data=CONTENT)).received == sha(CONTENT)
    assert statuses(client.at_once(5, "GET", okta.url + USERS)) == {200}
    assert okta.tokens_minted == 2
    for request in okta.requests:
        if request.path == TOKEN:
            assert request.all("authorization") == []


@either_binding
def test_the_token_request_is_not_shown_to_the_clients_hooks(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    okta.revoke_all()
    assert client.get(okta.url + USERS).status == 200
    assert set(client.seen_by_hooks) == {okta.url + USERS}


@either_binding
def test_the_callers_send_can_send_the_token_request(okta: FakeOkta, service: Service, connect: Connect) -> None:
    sent: list[str] = []

    def send(request: Request, timeout: float) -> Response:
        sent.append(request.url)
        try:
            made = urllib.request.Request(request.url, request.body, dict(request.headers), method=request.method)
            with urllib.request.urlopen(made, timeout=timeout) as response:
                return Response(response.status, response.getheaders(), response.read())
        except urllib.error.HTTPError as response:
            with response:
                return Response(response.code, response.headers.items(), response.read())
        except OSError as error:
            raise SendFailed(str(error)) from error

    client = connect(service(), send=send)
    okta.next(drop=True)
    assert client.get(okta.url + USERS).status == 200
    assert len(sent) == okta.token_requests
    assert set(sent) == {okta.url + TOKEN}


def test_only_two_headers_of_the_callers_request_change(
    okta: FakeOkta, service: Service, connect: Connect, binding: str
) -> None:
    client = connect(service())
    headers = {"X-Mine": "1", "Accept": "text/x", "Cookie": "a=b"}
    assert client.post(okta.url + USERS, Body(data=b"body"), headers=headers).status == 200
    (arrived,) = sent_to(okta)
    assert arrived.body == b"body"
    assert [arrived.header(name) for name in headers] == list(headers.values())
    assert len(arrived.all("authorization")) == 1
    assert len(arrived.all("dpop")) == (1 if binding == "dpop" else 0)
    (token_request, *_) = [request for request in okta.requests if request.path == TOKEN]
    assert token_request.all("x-mine") == token_request.all("cookie") == []


@either_binding
def test_no_object_that_holds_a_secret_can_be_pickled(okta: FakeOkta, service: Service, connect: Connect) -> None:
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    for secret in (client.auth, client.app, client.token()):
        with pytest.raises(TypeError, match=r"cannot be pickled.* secrets\. .+\.$"):
            pickle.dumps(secret)
    carriers = (
        Request("POST", okta.url, {"Authorization": "x"}, b"x"),
        Response(200, [], b"x"),
        Save(None, 1.0, "key", b"x", 1.0, "owner"),  # type: ignore[arg-type]  # any store
    )
    for secret in (client.app, client.token(), *carriers):
        with pytest.raises(TypeError, match=r"cannot be pickled or deep-copied, .* secrets\. .+\.$"):
            copy.deepcopy(secret)


@either_binding
def test_an_auth_object_can_be_copied_and_subclassed(okta: FakeOkta, service: Service, connect: Connect) -> None:
    """It can be recognised, copied and inherited from, and says which app it serves."""
    client = connect(service())
    if client.name == "docs-urllib3":
        pytest.skip("the page's adapter is the reader's own class")
    auth = client.auth
    assert copy.deepcopy({"auth": auth})["auth"] is auth
    copied = copy.copy(auth)
    assert copied is not auth
    assert (type(copied), copied.app) == (type(auth), auth.app)
    assert isinstance(auth, type(auth))
    assert repr(auth) == f"{type(auth).__name__}({client.app!r})"

    class Inherited(type(auth)):  # type: ignore[misc]  # whichever client's it is
        pass

    inherited = Inherited(client.app)
    assert isinstance(inherited, type(auth))
    for used in (copied, inherited):
        client.use(used)
        assert client.get(okta.url + USERS).status == 200


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """The file of a private CA, and the TLS settings of a server with its certificate."""
    made = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    made.cert_pem.write_to_path(str(path))
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert("127.0.0.1").configure_cert(served)
    return path, served


@pytest.mark.parametrize("by", ["environment", "client"])
@either_binding
def test_a_private_ca_is_used_for_the_token_request_too(
    new_service: Service,
    connect: Connect,
    binding: str,
    authority: tuple[Path, ssl.SSLContext],
    by: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, served = authority
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    if by == "environment":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with FakeOkta(ssl_context=served) as okta:
        app = new_service(okta, dpop_bound=binding == "dpop")
        client = connect(app, trusted=path, token_client="other" if by == "client" else None)
        assert client.get(okta.url + USERS).status == 200
        assert client.get(redirect(okta, okta.url + USERS)).status == 200
        assert okta.tokens_minted == 1


def test_a_ca_bundle_that_has_changed_is_read_again(
    new_service: Service, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ca.pem"
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    for _ in range(2):
        made = trustme.CA()
        made.cert_pem.write_to_path(path)
        trusting.cache_clear()  # for the client's own calls
        served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.issue_cert("127.0.0.1").configure_cert(served)
        with FakeOkta(ssl_context=served) as okta:
            client = connect(new_service(okta), trusted=path)
            if client.name.startswith("niquests"):
                pytest.skip("keeps what it has read of a CA bundle, for its own calls too")
            assert client.get(okta.url + USERS).status == 200


def test_an_untrusted_certificate_is_an_error_and_nothing_is_sent(
    new_service: Service, connect: Connect, authority: tuple[Path, ssl.SSLContext]
) -> None:
    with FakeOkta(ssl_context=authority[1]) as okta:
        client = connect(new_service(okta, max_wait=1.0))
        with pytest.raises(TokenUnreachable, match=r"certificate is not trusted|(?i:certificate.*verif)"):
            client.get(okta.url + USERS)
        assert okta.requests == []


@either_binding
def test_calls_through_a_proxy_have_the_token_and_a_proof(
    okta: FakeOkta, front: Front, service: Service, connect: Connect
) -> None:
    client = connect(service(), proxy=front.url, token_client="other")
    if client.name == "aiohttp":
        pytest.skip("says that a proxy is used, so a plain-http origin gets no token by way of it")
    assert client.get(f"{okta.url}{USERS}/a%40b").status == 200
    assert client.get(redirect(okta, okta.url + USERS)).status == 200
    okta.revoke_all()
    assert client.post(okta.url + USERS, Body(data=CONTENT)).received == sha(CONTENT)
    assert okta.tokens_minted == 2
    calls = [url for url in front.proxied if TOKEN not in url]  # a token request of ours takes no proxy on this machine
    assert len(calls) == len([request for request in okta.requests if request.path != TOKEN])


@pytest.mark.parametrize("method", ["HEAD", "DELETE", "post", *in_matrix("GET", "POST", "PUT", "PATCH", "get")])
@either_binding
def test_every_http_method_is_accepted_and_sent_again_after_a_401(
    okta: FakeOkta, service: Service, connect: Connect, method: str
) -> None:
    client = connect(service())
    okta.next(401, on=USERS)
    for _ in range(2):
        assert client.call(method, okta.url + USERS).status in (200, 204)
    assert okta.tokens_minted == 2
    assert okta.api_calls == 3


# ── the tests' own clients ───────────────────────────────────────────────────────────────────────────────────────────


ON_A_LOOP = [name for name, client in CLIENTS.items() if client.asynchronous]


@pytest.mark.parametrize("name", [*ON_A_LOOP[:1], *in_matrix(*ON_A_LOOP[1:])])
def test_the_tests_clients_notice_a_blocked_event_loop(okta: FakeOkta, new_service: Service, name: str) -> None:
    client = CLIENTS[name](new_service(okta))
    assert isinstance(client, AsyncClient)
    assert client.get(okta.url + USERS).status == 200

    async def blocks() -> None:
        time.sleep(1.5)

    client.run(blocks)
    with pytest.raises(AssertionError, match=r"blocked here:[\s\S]*time\.sleep"):
        client.close()
