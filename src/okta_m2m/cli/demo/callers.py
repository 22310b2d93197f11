"""The clients of the demonstration, each with several callers that make one call after another.

Invariant: each client is used as in any service. It gets only ``OktaAuth(app)``, so only the library can prevent
failed calls.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

import aiohttp
import httpx
import requests

from ... import ServiceApp
from ...aiohttp import OktaAuth as AiohttpAuth
from ...errors import quoted
from ...httpx import OktaAuth as HttpxAuth
from ...requests import OktaAuth as RequestsAuth
from .story import Call, Story

__all__ = ["CALLERS", "CLIENTS", "TIMEOUT", "Callers"]

TIMEOUT: Final = 10.0  # seconds for a token, and for a call
PAUSES: Final = (0.013, 0.019, 0.029)  # seconds between calls; each caller has its own, so that they do not synchronize
LAST_CALLS: Final = 5.0  # seconds for the calls that are in progress at the end

Made = tuple[int, Mapping[str, str]]  # a call's status, and the headers that were sent with it


class Callers:
    """The callers of all clients. They begin together, and each one finishes its last call."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._over = threading.Event()
        self._ready = threading.Barrier(len(CLIENTS) + 1, action=story.begin)
        self._threads: dict[str, threading.Thread] = {}

    def start(self, app: ServiceApp, url: str) -> None:
        """Starts every client, and returns when all begin to call. Raises ``BrokenBarrierError`` if one cannot."""
        for name, client in CLIENTS.items():
            thread = threading.Thread(target=client, args=(app, url, self), name=f"demo {name}", daemon=True)
            self._threads[name] = thread
            thread.start()
        self._ready.wait(TIMEOUT)

    def stop(self) -> None:
        """Lets each caller finish its call. A call that does not end is recorded as failed."""
        self._over.set()
        self._ready.abort()
        until = time.monotonic() + LAST_CALLS
        for name, thread in self._threads.items():
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                story = self._story
                story.calls.append(Call(name, story.seconds, story.now(), False, "the call did not end"))

    def run_threads(self, client: str, call: Callable[[], Made]) -> None:
        """Makes calls with a blocking client: a thread for each caller."""

        def caller(pause: float) -> None:
            while not self._over.is_set():
                with self._recorder(client) as made:
                    made.append(call())
                self._over.wait(pause)

        threads = [threading.Thread(target=caller, args=(pause,), daemon=True) for pause in PAUSES]
        self._wait_for_others()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    async def run_tasks(self, client: str, call: Callable[[], Awaitable[Made]]) -> None:
        """Makes calls with an async client: a task for each caller."""

        async def caller(pause: float) -> None:
            while not self._over.is_set():
                with self._recorder(client) as made:
                    made.append(await call())
                await asyncio.sleep(pause)

        self._wait_for_others()  # may block: nothing else runs on this loop yet
        await asyncio.gather(*(caller(pause) for pause in PAUSES))

    def _wait_for_others(self) -> None:
        with suppress(threading.BrokenBarrierError):
            self._ready.wait(TIMEOUT)

    @contextmanager
    def _recorder(self, client: str) -> Iterator[list[Made]]:
        began = self._story.now()
        made: list[Made] = []
        failure: str | None = None
        try:
            yield made
        except Exception as error:  # noqa: BLE001 (any error is a failed call)
            failure = f"{type(error).__name__}: {quoted(error)}"
        status, headers = made[0] if made else (0, {})
        if failure is None and status != 200:
            failure = f"HTTP {status}"
        bound = headers.get("Authorization", "").startswith("DPoP ") and bool(headers.get("DPoP"))
        self._story.calls.append(Call(client, began, self._story.now(), bound, failure))


def _call_with_requests(app: ServiceApp, url: str, callers: Callers) -> None:
    with requests.Session() as session:
        session.auth = RequestsAuth(app)

        def call() -> Made:
            response = session.get(url, timeout=TIMEOUT)
            return response.status_code, response.request.headers

        callers.run_threads("requests", call)


def _call_with_httpx(app: ServiceApp, url: str, callers: Callers) -> None:
    with httpx.Client(auth=HttpxAuth(app), timeout=TIMEOUT) as client:

        def call() -> Made:
            response = client.get(url)
            return response.status_code, response.request.headers

        callers.run_threads("httpx", call)


async def _call_with_httpx_async(app: ServiceApp, url: str, callers: Callers) -> None:
    async with httpx.AsyncClient(auth=HttpxAuth(app), timeout=TIMEOUT) as client:

        async def call() -> Made:
            response = await client.get(url)
            return response.status_code, response.request.headers

        await callers.run_tasks("httpx async", call)


async def _call_with_aiohttp(app: ServiceApp, url: str, callers: Callers) -> None:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    async with aiohttp.ClientSession(middlewares=[AiohttpAuth(app)], timeout=timeout) as session:

        async def call() -> Made:
            async with session.get(url) as response:
                await response.read()
                return response.status, response.request_info.headers

        await callers.run_tasks("aiohttp", call)


CLIENTS: Final[Mapping[str, Callable[[ServiceApp, str, Callers], None]]] = {
    "requests": _call_with_requests,
    "httpx": _call_with_httpx,
    "httpx async": lambda app, url, callers: asyncio.run(_call_with_httpx_async(app, url, callers)),
    "aiohttp": lambda app, url, callers: asyncio.run(_call_with_aiohttp(app, url, callers)),
}
CALLERS: Final = len(PAUSES) * len(CLIENTS)
