"""An event loop that ends, is closed, or stands still in mid-fetch costs the others nothing: no time, and no second request.

A fetch has a thread of its own, whoever calls.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import aiohttp
import anyio
import httpx
import httpx2
import pytest
import requests
import trio

import okta_m2m.aiohttp
import okta_m2m.httpx
import okta_m2m.httpx2
import okta_m2m.requests
from front import Front
from okta_m2m import ServiceApp
from okta_m2m.testing import FakeOkta
from promises import USERS, Held, Hours, in_matrix
from services import eventually

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
every_loop = pytest.mark.parametrize(
    ("run", "get"),
    [
        (asyncio.run, get_httpx),
        (trio.run, get_httpx),
        (asyncio.run, get_aiohttp),
        *in_matrix((asyncio.run, get_httpx2), (trio.run, get_httpx2)),
    ],
)


def get_requests(app: ServiceApp, url: str) -> int:
    return requests.get(url, auth=okta_m2m.requests.OktaAuth(app), timeout=20).status_code


@pytest.fixture
def held(front: Front) -> Held:
    """The answers to token requests are held back."""
    return Held(front)


def check_the_others(app: ServiceApp, front: Front, okta: FakeOkta, held: Held) -> None:
    """Callers in a thread and on another loop have the token of the same fetch, as soon as Okta gives it."""
    with ThreadPoolExecutor(2) as others:
        calls = [
            others.submit(get_requests, app, front.url + USERS),
            others.submit(asyncio.run, get_httpx(app, front.url + USERS)),
        ]
        held.release()
        assert [call.result(20) for call in calls] == [200, 200]
    assert okta.token_requests == okta.tokens_minted == 1


def collect_what_it_left() -> None:
    """Has Python report here what a closed loop left, and not in a later test: first, no thread may refer to it any more."""
    eventually(
        lambda: not any(thread.name.startswith("okta-m2m") for thread in threading.enumerate()),
        "the threads have ended",
    )
    gc.collect()
    # Whatever still refers to a task of a closed loop, its coroutine ends here. It may await once more on its way out.
    for task in [thing for thing in gc.get_objects() if isinstance(thing, asyncio.Task) and not thing.done()]:
        for _ in range(10 if task.get_loop().is_closed() else 0):
            with suppress(RuntimeError):
                task.get_coro().close()
    gc.collect()


@every_async_client
@pytest.mark.filterwarnings("ignore")  # the loop is closed with tasks and sockets in it, which Python reports
def test_a_loop_closed_during_a_fetch_delays_no_other_caller(
    okta: FakeOkta, front: Front, held: Held, new_service: Service, get: Any
) -> None:
    app = new_service(okta, org_url=front.url)
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        begun = asyncio.ensure_future(get(app, front.url + USERS))
        while not held.requests:
            await asyncio.sleep(0.005)
        assert not begun.done()

    loop.run_until_complete(begin())
    loop.close()
    check_the_others(app, front, okta, held)
    del loop
    collect_what_it_left()


@every_loop
def test_a_loop_that_ends_during_a_fetch_delays_no_other_caller(
    okta: FakeOkta, front: Front, held: Held, new_service: Service, run: Any, get: Any
) -> None:
    app = new_service(okta, org_url=front.url)

    async def main() -> None:
        async with anyio.create_task_group() as calls:
            calls.start_soon(get, app, front.url + USERS)
            while not held.requests:
                await anyio.sleep(0.005)
            calls.cancel_scope.cancel()

    run(main if run is trio.run else main())
    check_the_others(app, front, okta, held)


@every_loop
def test_a_loop_blocked_during_a_fetch_delays_no_other_caller(
    okta: FakeOkta, front: Front, held: Held, new_service: Service, run: Any, get: Any
) -> None:
    app = new_service(okta, org_url=front.url)
    stands_still, goes_on = threading.Event(), threading.Event()
    own: list[int] = []

    async def main() -> None:
        async def call() -> None:
            own.append(await get(app, front.url + USERS))

        async with anyio.create_task_group() as calls:
            calls.start_soon(call)
            while not held.requests:
                await anyio.sleep(0.005)
            stands_still.set()
            goes_on.wait(60)  # blocks the loop

    thread = threading.Thread(target=run, args=[main if run is trio.run else main()], daemon=True)
    thread.start()
    try:
        assert stands_still.wait(20)
        check_the_others(app, front, okta, held)
    finally:
        goes_on.set()
        thread.join(30)
    assert own == [200]
    assert okta.token_requests == 1


@every_loop
def test_a_renewal_continues_after_the_loop_that_started_it_has_ended(
    okta: FakeOkta, front: Front, new_service: Service, run: Any, get: Any
) -> None:
    """A job each few seconds on a loop of its own, as ``asyncio.run`` makes it, needs one token request a life."""
    hours = Hours(okta)
    app = new_service(okta, org_url=front.url, clock=hours.clock())

    def job() -> int:
        if run is trio.run:
            return int(trio.run(get, app, front.url + USERS))
        return int(asyncio.run(get(app, front.url + USERS)))

    assert job() == 200
    held = Held(front)
    hours.later(0.86 * okta.token_lifetime)
    assert job() == 200, "its loop has ended"
    eventually(lambda: held.requests, "the renewal has begun")
    assert job() == 200
    held.release()

    def renewed() -> bool:
        assert job() == 200
        return len({request.header("authorization") for request in okta.requests if request.path == USERS}) == 2

    eventually(renewed, "calls are made with another token")
    assert okta.token_requests == okta.tokens_minted == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts open files as Linux does")
@every_async_client
@pytest.mark.filterwarnings("ignore")  # the loops are closed with tasks in them
def test_loops_closed_during_a_fetch_leave_no_files_open(
    okta: FakeOkta, front: Front, new_service: Service, get: Any
) -> None:
    def open_files() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    def lose_a_loop() -> None:
        held = Held(front)
        app = new_service(okta, org_url=front.url)
        loop = asyncio.new_event_loop()
        begun = loop.create_task(get(app, front.url + USERS))
        loop.run_until_complete(asyncio.wait([begun], timeout=0))
        eventually(lambda: held.requests, "the fetch has begun")
        loop.close()
        held.release()
        eventually(lambda: app.token_state.token is not None, "the fetch has ended")

    lose_a_loop()
    before = open_files()
    for _ in range(5):
        lose_a_loop()
    eventually(lambda: open_files() < before + 5, "nothing of five loops is left")
    collect_what_it_left()
