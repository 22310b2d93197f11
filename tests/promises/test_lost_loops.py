"""A fetch whose event loop is closed, or stands still, keeps nobody else from a token."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import requests

import okta_m2m.aiohttp
import okta_m2m.httpx
import okta_m2m.httpx2
import okta_m2m.requests
from okta_m2m import ServiceApp
from okta_m2m.testing import FakeOkta
from promises import in_matrix

USERS = "/api/v1/users"
Service = Callable[..., ServiceApp]


async def get_httpx(app: ServiceApp, url: str) -> int:
    async with httpx.AsyncClient(auth=okta_m2m.httpx.OktaAuth(app)) as client:
        return (await client.get(url)).status_code


async def get_httpx2(app: ServiceApp, url: str) -> int:
    async with httpx2.AsyncClient(auth=okta_m2m.httpx2.OktaAuth(app)) as client:
        return (await client.get(url)).status_code


async def get_aiohttp(app: ServiceApp, url: str) -> int:
    async with (
        aiohttp.ClientSession(middlewares=[okta_m2m.aiohttp.OktaAuth(app)]) as session,
        session.get(url) as answer,
    ):
        return answer.status


every_async_client = pytest.mark.parametrize("get", [get_httpx, *in_matrix(get_httpx2), get_aiohttp])


def get_requests(app: ServiceApp, url: str) -> int:
    return requests.get(url, auth=okta_m2m.requests.OktaAuth(app), timeout=20).status_code


@pytest.fixture
def held(okta: FakeOkta) -> Iterator[FakeOkta]:
    """The first token request has no answer before the test is over."""
    okta.next(delay=60)
    yield okta
    okta.clear_faults()


@every_async_client
@pytest.mark.filterwarnings("ignore")  # the loop is closed with tasks and sockets in it, which Python tells
def test_after_a_loop_was_closed_in_mid_fetch_the_next_call_fetches_at_once(
    held: FakeOkta, new_service: Service, get: Any
) -> None:
    app = new_service(held)
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        begun = asyncio.ensure_future(get(app, held.url + USERS))
        while not held.token_requests:
            await asyncio.sleep(0.01)
        assert not begun.done()

    loop.run_until_complete(begin())
    loop.close()
    assert get_requests(app, held.url + USERS) == 200
    assert held.token_requests == 2


@every_async_client
def test_a_loop_that_stands_still_keeps_no_other_thread_from_a_token(
    held: FakeOkta, new_service: Service, get: Any
) -> None:
    app = new_service(held, max_wait=7)
    stands_still, goes_on = threading.Event(), threading.Event()

    async def main() -> None:
        call = asyncio.create_task(get(app, held.url + USERS))
        while not held.token_requests:
            await asyncio.sleep(0.01)
        stands_still.set()
        goes_on.wait(60)  # blocks the loop
        assert await call == 200

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    try:
        assert stands_still.wait(20)
        assert get_requests(app, held.url + USERS) == 200
        assert held.token_requests == 2
    finally:
        goes_on.set()
        thread.join(30)
    assert not thread.is_alive()
