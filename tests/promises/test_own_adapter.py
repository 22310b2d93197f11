"""The adapter of docs/clients/your-own.md takes what urllib3 takes, and does with it what urllib3 does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import urllib3

from clients.of_urllib3 import OktaPool
from okta_m2m import ServiceApp
from okta_m2m.testing import FakeOkta
from promises import CONTENT, USERS, Service, redirect, sha
from services import answering


@pytest.fixture
def app(okta: FakeOkta, new_service: Service, binding: str) -> ServiceApp:
    return new_service(okta, dpop_bound=binding == "dpop")


@pytest.fixture
def pool(app: ServiceApp) -> Iterator[Any]:
    with urllib3.PoolManager(maxsize=1, block=True) as plain:
        yield OktaPool(app, plain)


@contextmanager
def circle() -> Iterator[str]:
    """A URL that redirects to itself."""
    with answering(b"HTTP/1.1 302 Found\r\nLocation: /\r\nConnection: close\r\nContent-Length: 0\r\n\r\n") as port:
        yield f"http://127.0.0.1:{port}/"


def test_a_loop_of_redirects_ends(app: ServiceApp, pool: Any) -> None:
    with circle() as url:
        for own in (pool, OktaPool(app, urllib3.PoolManager())):
            with pytest.raises(urllib3.exceptions.MaxRetryError, match="too many redirects"):
                own.request("GET", url)
        assert pool.request("GET", url, retries=False).status == 302
        assert pool.request("GET", url, retries=urllib3.Retry(2, raise_on_redirect=False)).status == 302


def test_headers_for_one_origin_are_not_sent_to_another(okta: FakeOkta, elsewhere: FakeOkta, pool: Any) -> None:
    headers = {"Cookie": "sid=secret", "X-Kept": "so"}
    pool.request("GET", redirect(okta, redirect(okta, elsewhere.url + USERS)), headers=headers)
    assert [request.all("cookie") for request in okta.requests if request.path == "/redirect"] == [["sid=secret"]] * 2
    (arrived,) = elsewhere.requests
    assert arrived.all("cookie") == arrived.all("authorization") == arrived.all("dpop") == []
    assert arrived.all("x-kept") == ["so"]


@pytest.mark.parametrize("name", ["authorization", "AUTHORIZATION"])
def test_our_headers_in_another_case_are_replaced(okta: FakeOkta, app: ServiceApp, pool: Any, name: str) -> None:
    assert pool.request("GET", okta.url + USERS).status == 200
    sent = okta.requests[-1]
    headers = {name: sent.header("authorization"), "dpop": sent.header("dpop") or "old"}
    assert pool.request("GET", okta.url + USERS, headers=headers).status == 200
    assert [len(request.all("authorization")) for request in okta.requests if request.path == USERS] == [1, 1]
    assert okta.tokens_minted == 1


def test_an_authorization_header_of_bytes_is_the_callers_own(okta: FakeOkta, pool: Any) -> None:
    assert pool.request("GET", okta.url + USERS, headers={"Authorization": b"Basic eDp5"}).status == 401
    assert [request.all("authorization") for request in okta.requests] == [["Basic eDp5"]]


def test_a_body_that_urllib3_encodes_is_sent_and_sent_again(okta: FakeOkta, pool: Any) -> None:
    okta.next(401, on=USERS)
    answer = pool.request("POST", okta.url + USERS, json={"login": "ada"})
    assert answer.json()["received"]["length"] == len('{"login":"ada"}')
    assert pool.request("GET", okta.url + USERS, fields={"limit": "1"}).status == 200
    assert okta.requests[-1].query == "limit=1"
    assert pool.request("POST", redirect(okta, okta.url + USERS, 303), json={"login": "ada"}).status == 200
    assert (okta.requests[-1].method, okta.requests[-1].body) == ("GET", b"")
    assert not okta.requests[-1].all("content-type")


def test_a_pipe_can_be_the_body(okta: FakeOkta, pool: Any) -> None:
    read, write = os.pipe()
    with os.fdopen(write, "wb") as end:
        end.write(b"a body")
    with os.fdopen(read, "rb") as body:
        answer = pool.request("POST", okta.url + USERS, body=body)
    assert answer.json()["received"]["length"] == len(b"a body")


@pytest.mark.parametrize("abroad", [False, True])
@pytest.mark.parametrize("status", [302, 307])
def test_a_file_is_sent_whole_after_a_redirect(
    okta: FakeOkta, elsewhere: FakeOkta, pool: Any, tmp_path: Path, status: int, abroad: bool
) -> None:
    (tmp_path / "upload").write_bytes(CONTENT)
    to = elsewhere if abroad else okta
    with (tmp_path / "upload").open("rb") as body:
        answer = pool.request("POST", redirect(okta, to.url + USERS, status), body=body)
    assert to.requests[-1].body == CONTENT
    assert abroad or answer.json()["received"]["sha256"] == sha(CONTENT)[1]


def test_a_call_whose_response_is_not_read_keeps_no_connection(okta: FakeOkta, pool: Any) -> None:
    for _ in range(3):
        assert pool.request("GET", okta.url + USERS, pool_timeout=5).status == 200
    answer = pool.request("GET", okta.url + USERS, preload_content=False)
    assert b"".join(answer.stream()).startswith(b"[")


def test_a_call_without_headers_has_those_of_the_pool(okta: FakeOkta, app: ServiceApp) -> None:
    with urllib3.PoolManager(headers={"User-Agent": "acme"}) as plain:
        assert OktaPool(app, plain).request("GET", okta.url + USERS).status == 200
    assert okta.requests[-1].header("user-agent") == "acme"


def test_repeated_headers_stay_repeated(okta: FakeOkta, pool: Any) -> None:
    headers = urllib3.HTTPHeaderDict({"X-Tag": "a"})
    headers.add("X-Tag", "b")
    assert pool.request("GET", redirect(okta, okta.url + USERS), headers=headers).status == 200
    assert ", ".join(okta.requests[-1].all("x-tag")) == "a, b"


def test_a_cookie_is_not_sent_to_an_ambiguous_origin(elsewhere: FakeOkta, pool: Any) -> None:
    # With a user name in it a URL is of no origin that is beyond doubt.
    here, there = (elsewhere.url.replace("127.0.0.1", f"ada@{host}") for host in ("127.0.0.1", "localhost"))
    pool.request("GET", f"{here}/redirect?{urlencode({'to': there + USERS})}", headers={"Cookie": "sid=secret"})
    assert [request.all("cookie") for request in elsewhere.requests] == [["sid=secret"], []]
