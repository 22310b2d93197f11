"""The plot of the demonstration: an org on a loopback port, four clients with one service app, and the faults.

Invariant: each client is used as in any service, so only the library can prevent failed calls. Earlier events, not the
clock, trigger the faults, so that the same happens on a slow machine.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Final, Literal, TypeAlias

import aiohttp
import httpx
import requests

from ... import PrivateKey, ServiceApp
from ...aiohttp import OktaAuth as AiohttpAuth
from ...errors import quoted
from ...events import Event, TokenObtained, TokenRejected
from ...httpx import OktaAuth as HttpxAuth
from ...requests import OktaAuth as RequestsAuth
from ...testing import FakeOkta, ReceivedRequest
from ..printing import without_log
from .story import CALLERS, CLIENTS, FULL_LENGTH, LIFETIME, Call, Story, Token

API_DELAY: Final = 0.03  # seconds that an API call takes, so that some calls are always in progress
OVERTIME: Final = 5.0  # extra seconds on a slow machine for the remaining events
PAUSES: Final = (0.013, 0.019, 0.029)
"""Seconds between calls. A client's callers differ, so that they do not synchronize."""
TIMEOUT: Final = 10.0  # seconds for a token, and for a call

Made: TypeAlias = tuple[int, Mapping[str, str]]  # a call's status, and the headers that were sent with it


def play(story: Story) -> None:
    """Plays the demonstration, and adds what happens to its story."""
    plot, over = _Plot(story), threading.Event()
    with without_log(), plot.okta as okta, ThreadPoolExecutor(1) as thread:
        okta.next(on="/api/v1/*", times=1_000_000, delay=API_DELAY)
        key, scopes = PrivateKey.generate("ES256"), ["okta.users.read"]
        client_id = okta.add_app(key, scopes).client_id
        app = ServiceApp(
            okta.url, client_id=client_id, key=key, scopes=scopes, max_wait=TIMEOUT, on_event=plot.on_event
        )
        calls = thread.submit(lambda: asyncio.run(_make_calls(story, app, f"{okta.url}/api/v1/users", over)))
        try:
            while plot.goes_on and not calls.done():
                plot.revoke_when_due()
                time.sleep(0.05)
        finally:
            over.set()
        calls.result()
        story.seconds = max(story.seconds, story.now())


class _Plot:
    """The faults: a 503 or a 429 at each renewal, in turn, and one token revoked in the middle."""

    def __init__(self, story: Story) -> None:
        dpop: Literal["required", "optional"] = "required" if story.dpop else "optional"
        self.okta = FakeOkta(token_lifetime=LIFETIME, dpop=dpop, on_answer=self._on_answer)
        self._story = story
        self._faults = cycle([503, 429])
        self._revoked = False

    def _on_answer(self, request: ReceivedRequest, status: int) -> None:
        if request.path.endswith("/v1/token"):
            self._story.answers.append((self._story.now(), status))

    def on_event(self, event: Event) -> None:
        """Records the service app's own events, and prepares the next fault."""
        tokens, now = self._story.tokens, self._story.now()
        if isinstance(event, TokenRejected):
            self._story.rejections.append((now, event.renewing))
        if isinstance(event, TokenObtained):
            since = tokens[-1].obtained_at if tokens else 0.0
            troubles = [status for at, status in self._story.answers if status != 200 and at > since]
            times = round(now - event.elapsed, 3), round(now, 3)
            tokens.append(
                Token(len(tokens) + 1, event.token_type, *times, event.expires_in, event.background, troubles)
            )
            if self._revoked or now + LIFETIME / 2 < self._story.seconds / 2:  # not at the renewal after the revocation
                # For a concurrency limit, Okta gives no time to wait, so the renewal succeeds while the token is still valid.
                self.okta.next(next(self._faults), concurrency=True)

    @property
    def goes_on(self) -> bool:
        """Whether the planned time is not over, or on a slow machine, the story is not complete."""
        story, tokens = self._story, 4 if self._story.seconds >= FULL_LENGTH else 2
        is_complete = story.rejections and len(story.tokens) >= tokens
        return story.now() < story.seconds + (0 if is_complete else OVERTIME)

    def revoke_when_due(self) -> None:
        """Revokes the token in use in the first half of its lifetime, when no renewal runs."""
        now, tokens, issued = self._story.now(), self._story.tokens, self.okta.tokens()
        is_due = not self._revoked and now > self._story.seconds / 2
        if is_due and tokens and len(tokens) == len(issued) and now - tokens[-1].obtained_at < LIFETIME / 2:
            self._revoked = True
            tokens[-1].revoked_at = round(now, 3)
            self.okta.revoke(issued[-1].value)


async def _make_calls(story: Story, app: ServiceApp, url: str, over: threading.Event) -> None:
    """Lets all callers begin together and make calls until ``over``. Each one finishes its last call.

    Blocking clients are called in threads. No client reads settings of this machine: a proxy could not reach the server.
    """
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(CALLERS))
    timeout = aiohttp.ClientTimeout(TIMEOUT)
    with requests.Session() as session, httpx.Client(auth=HttpxAuth(app), timeout=TIMEOUT, trust_env=False) as blocking:
        session.auth, session.trust_env = RequestsAuth(app), False
        async with (
            httpx.AsyncClient(auth=HttpxAuth(app), timeout=TIMEOUT, trust_env=False) as async_client,
            aiohttp.ClientSession(middlewares=[AiohttpAuth(app)], timeout=timeout) as aiohttp_session,
        ):

            async def await_response(response: Awaitable[requests.Response | httpx.Response]) -> Made:
                received = await response
                return received.status_code, received.request.headers

            async def call_with_aiohttp() -> Made:
                async with aiohttp_session.get(url) as response:
                    await response.read()
                    return response.status, response.request_info.headers

            calls: dict[str, Callable[[], Awaitable[Made]]] = {
                "requests": lambda: await_response(asyncio.to_thread(session.get, url, timeout=TIMEOUT)),
                "httpx": lambda: await_response(asyncio.to_thread(blocking.get, url)),
                "httpx async": lambda: await_response(async_client.get(url)),
                "aiohttp": call_with_aiohttp,
            }

            async def run_caller(client: str, pause: float) -> None:
                while not over.is_set():
                    began, bound = story.now(), False
                    try:
                        status, headers = await calls[client]()
                        bound = headers.get("Authorization", "").startswith("DPoP ") and "DPoP" in headers
                        failure = None if status == 200 else f"HTTP {status}"
                    except Exception as error:  # noqa: BLE001 (any error is a failed call)
                        failure = f"{type(error).__name__}: {quoted(error)}"
                    story.calls.append(Call(client, began, story.now(), bound, failure))
                    await asyncio.sleep(pause)

            story.begin()
            await asyncio.gather(*(run_caller(client, pause) for client in CLIENTS for pause in PAUSES))
