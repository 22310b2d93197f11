"""A few bytes that stand for very many cost no memory: compressed twice, from the token endpoint or in a 401."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest

from clients import Client
from front import Exchange, Front
from okta_m2m import TokenUnreachable
from okta_m2m.testing import FakeOkta
from promises import TOKEN, USERS, Connect, Service, in_matrix, sent_to

SIZE = 64 << 20
MOST = 16 << 20
"""Bytes that everything else here needs, many times over: servers and clients of one process."""


@cache
def bomb(codings: int) -> bytes:
    body = bytes(SIZE)
    for _ in range(codings):
        body = gzip.compress(body, 9)
    return body


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()


@pytest.fixture(autouse=True)
def ours(client_type: type[Client]) -> None:
    if client_type.name == "docs-urllib3":
        pytest.skip("an adapter of one's own")


@pytest.mark.parametrize("encoding", ["gzip, gzip", *in_matrix("gzip")])
def test_a_compressed_response_of_the_token_endpoint_is_not_decompressed(
    okta: FakeOkta, front: Front, new_service: Service, connect: Connect, encoding: str
) -> None:
    body = bomb(encoding.count("gzip"))

    def page(exchange: Exchange) -> None:
        assert exchange.headers.get_all("Accept-Encoding") == ["identity"]
        exchange.answer(200, body, content_type="application/json", content_encoding=encoding)

    front.pages[TOKEN] = page
    client = connect(new_service(okta, org_url=front.url, max_wait=1))
    with little_memory(), pytest.raises(TokenUnreachable, match="compressed"):
        client.token()
    front.pages.clear()
    # Another app: the first one leaves the endpoint alone for about as long as its calls wait.
    assert connect(new_service(okta, org_url=front.url)).get(front.url + USERS).status == 200


def test_a_401_that_is_compressed_twice_is_judged_without_decompressing_it(
    okta: FakeOkta, front: Front, new_service: Service, connect: Connect
) -> None:
    body = bomb(2)

    def page(exchange: Exchange) -> None:
        front.pages.clear()
        exchange.answer(401, body, content_type="application/json", content_encoding="gzip, gzip")

    client = connect(new_service(okta, org_url=front.url))
    assert client.token().value
    front.pages[USERS] = page
    with little_memory():
        assert client.get(front.url + USERS).status == 200
    assert okta.tokens_minted == 2
    assert len(sent_to(okta)) == 1
