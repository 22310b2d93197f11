"""A plain-http origin on this machine is never reached by way of a proxy, which could read tokens and assertions."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from clients import Client
from front import Front
from okta_m2m.testing import FakeOkta
from promises import TOKEN, USERS, Connect, Service, sent_to

PROXIES = [f"{scheme}_proxy" for scheme in ("http", "https", "all", "no")]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, client_type: type[Client]) -> None:
    if client_type.name == "docs-urllib3":
        pytest.skip("an adapter of one's own takes the pool that it is given")
    for name in [*PROXIES, *map(str.upper, PROXIES)]:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_the_token_request_ignores_the_environments_proxy(
    okta: FakeOkta,
    front: Front,
    new_service: Service,
    connect: Connect,
    variable: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(variable, front.url)
    monkeypatch.setenv(variable.lower(), front.url)
    with caplog.at_level(logging.WARNING, "okta_m2m"):
        client = connect(new_service(okta))
        assert client.token().value
    assert len(sent_to(okta, TOKEN)) == 1
    assert front.proxied == []
    if client.name != "aiohttp":  # which says of each call whether it takes a proxy
        assert [record.message for record in caplog.records if "NO_PROXY" in record.message]


def test_an_origin_in_no_proxy_causes_no_warning(
    okta: FakeOkta,
    new_service: Service,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with caplog.at_level(logging.WARNING, "okta_m2m"):
        assert connect(new_service(okta)).get(okta.url + USERS).status == 200
    assert caplog.records == []


@pytest.mark.parametrize("token_client", ["same", "other", "made"])
def test_the_token_request_ignores_the_proxy_of_the_client_that_is_passed(
    okta: FakeOkta, front: Front, new_service: Service, connect: Connect, client_type: type[Client], token_client: str
) -> None:
    if token_client == "same" and not client_type.lends_itself:
        pytest.skip("it belongs to an event loop, and so is refused")
    client = connect(new_service(okta), proxy=front.url, token_client=token_client)
    assert client.token().value
    assert len(sent_to(okta, TOKEN)) == 1
    assert front.proxied == []


def test_a_plain_http_call_through_a_proxy_gets_no_token(
    okta: FakeOkta, front: Front, new_service: Service, connect: Connect, client_type: type[Client], caplog: Any
) -> None:
    if client_type.name != "aiohttp":
        pytest.skip("does not say whether a proxy is used")
    client = connect(new_service(okta), proxy=front.url)
    assert client.token().value
    with caplog.at_level(logging.WARNING, "okta_m2m"):
        for _ in range(2):
            assert client.get(okta.url + USERS).status == 401
    assert [request.all("authorization") for request in sent_to(okta)] == [[], []]
    assert len([record for record in caplog.records if "proxy" in record.message]) == 1
