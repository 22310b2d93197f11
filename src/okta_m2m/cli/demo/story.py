"""The demonstration: an org on a loopback port, four clients with one service app, the faults, and what happened.

Invariants: facts are only added, and every time is in seconds since the first call. Each client is used as in any service, so
only the library can prevent failed calls. Earlier events, not the clock, trigger the faults, so that the same happens on a slow
machine.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any, Final, NamedTuple

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
from .command import FULL_LENGTH

CLIENTS: Final = ("requests", "httpx", "httpx async", "aiohttp")
PAUSES: Final = (0.013, 0.019, 0.029)
"""Seconds between the calls of each caller of a client. They differ, so that the callers do not synchronize."""
CALLERS: Final = len(CLIENTS) * len(PAUSES)
LIFETIME: Final = 3.0  # lifetime of a token in seconds
API_DELAY: Final = 0.03  # seconds that an API call takes, so that some calls are always in progress
OVERTIME: Final = 5.0  # extra seconds on a slow machine for the remaining events
TIMEOUT: Final = 10.0  # seconds for a call


class Call(NamedTuple):
    """One call by a client. ``bound``: it was sent with a DPoP token and a proof. ``failure``: ``None`` if it succeeded."""

    client: str
    began: float
    ended: float
    bound: bool
    failure: str | None


@dataclass
class Token:
    """A token that was obtained, as ``--json`` prints it.

    - ``number``: counted from 1.
    - ``in_background``: another token was still in use meanwhile.
    - ``token_endpoint_troubles``: the statuses other than 200 that the token endpoint returned since the token before.
    """

    number: int
    token_type: str
    asked_for_at: float
    obtained_at: float
    lifetime: float
    in_background: bool
    token_endpoint_troubles: list[int]
    revoked_at: float | None = None


@dataclass
class Story:
    """The plan, and the facts.

    - ``seconds``: how long the clients make calls.
    - ``dpop``: whether the org requires DPoP.
    - ``answers``: when the token endpoint responded, and the status.
    - ``rejections``: when a call got a 401, and whether it was sent again with another token.
    """

    seconds: float
    dpop: bool
    calls: list[Call] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    answers: list[tuple[float, int]] = field(default_factory=list)
    rejections: list[tuple[float, bool]] = field(default_factory=list)
    start: float = math.inf

    def now(self) -> float:
        """Seconds since the start; 0 before it."""
        return max(0.0, time.perf_counter() - self.start)

    @property
    def failures(self) -> list[Call]:
        return [call for call in list(self.calls) if call.failure is not None]

    @property
    def ok(self) -> bool:
        """Whether every client made calls, and none failed."""
        return not self.failures and {call.client for call in self.calls} == set(CLIENTS)

    def add_answer(self, request: ReceivedRequest, status: int) -> None:
        if request.path.endswith("/v1/token"):
            self.answers.append((self.now(), status))

    def add_event(self, event: Event) -> None:
        tokens, now = self.tokens, self.now()
        if isinstance(event, TokenRejected):
            self.rejections.append((now, event.renewing))
        if isinstance(event, TokenObtained):
            since = tokens[-1].obtained_at if tokens else 0.0
            troubles = [status for at, status in self.answers if status != 200 and at > since]
            times = round(now - event.elapsed, 3), round(now, 3)
            tokens.append(
                Token(len(tokens) + 1, event.token_type, *times, event.expires_in, event.background, troubles)
            )

    def document(self) -> dict[str, Any]:
        """Everything except the individual calls, as ``--json`` prints it."""
        answers, renewed = Counter(status for _, status in self.answers), self.tokens[1:]
        return {
            "ok": self.ok,
            "dpop": self.dpop,
            "seconds": round(self.seconds, 3),
            **_totals(self.calls),
            "tokens_minted": answers[200],
            "renewals": len(renewed),
            "renewals_in_background": sum(token.in_background for token in renewed),
            "healed_401s": sum(sent_again for _, sent_again in self.rejections),
            "token_endpoint_answers": {str(status): count for status, count in sorted(answers.items())},
            "clients": {client: _totals([call for call in self.calls if call.client == client]) for client in CLIENTS},
            "tokens": [asdict(token) for token in self.tokens],
            "failed_calls": [
                {"client": call.client, "at": round(call.ended, 3), "failure": call.failure} for call in self.failures
            ],
        }


def _totals(calls: list[Call]) -> dict[str, float]:
    took = [1000 * (call.ended - call.began) for call in calls]
    return {
        "calls": len(calls),
        "failures": sum(call.failure is not None for call in calls),
        "bound_calls": sum(call.bound for call in calls),
        "mean_ms": round(sum(took) / max(1, len(took)), 1),
        "slowest_ms": round(max(took, default=0.0), 1),
    }


def play(story: Story) -> None:
    """Plays the demonstration, and adds what happens to its story."""
    okta = FakeOkta(token_lifetime=LIFETIME, dpop="required" if story.dpop else "optional", on_answer=story.add_answer)
    with without_log(), okta:
        okta.next(on="/api/v1/*", times=1_000_000, delay=API_DELAY)
        key, scopes = PrivateKey.generate("ES256"), ["okta.users.read"]
        client_id = okta.add_app(key, scopes).client_id
        app = ServiceApp(okta.url, client_id=client_id, key=key, scopes=scopes, on_event=story.add_event)
        asyncio.run(_make_calls(story, okta, app))
        story.seconds = max(story.seconds, story.now())


async def _cause_faults(story: Story, okta: FakeOkta) -> None:
    """A 503 at the first renewal, then a revoked token, and a 429 at the renewal after that. Ends with the planned time."""

    async def wait_until(happened: Callable[[], bool]) -> None:
        while not happened():  # noqa: ASYNC110 (other threads add to the story)
            await asyncio.sleep(0.05)

    # A short story has no time for renewals. In a whole one, they begin long after the pause before the revocation.
    is_whole, pause = story.seconds >= FULL_LENGTH, min(0.5, story.seconds / 2)
    if is_whole:
        await wait_until(lambda: bool(story.tokens))
        # For a concurrency limit, Okta gives no time to wait, so the renewal succeeds while the token is still valid.
        okta.next(503, concurrency=True)
    await wait_until(lambda: len(story.tokens) > is_whole and story.now() > story.tokens[-1].obtained_at + pause)
    story.tokens[-1].revoked_at = round(story.now(), 3)
    okta.revoke(okta.tokens()[-1].value)
    await wait_until(lambda: story.tokens[-1].revoked_at is None)
    okta.next(429, concurrency=True)
    await wait_until(lambda: story.now() > story.seconds and len(story.tokens) >= (4 if is_whole else 2))


async def _make_calls(story: Story, okta: FakeOkta, app: ServiceApp) -> None:
    """Lets all callers begin together and make calls until all faults have happened. Each one finishes its last call.

    Blocking clients are called in threads. No client reads settings of this machine: a proxy could not reach the server.
    """
    url, over = f"{okta.url}/api/v1/users", asyncio.Event()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(CALLERS))
    with requests.Session() as session, httpx.Client(auth=HttpxAuth(app), timeout=TIMEOUT, trust_env=False) as blocking:
        session.auth, session.trust_env = RequestsAuth(app), False
        async with (
            httpx.AsyncClient(auth=HttpxAuth(app), timeout=TIMEOUT, trust_env=False) as async_client,
            aiohttp.ClientSession(middlewares=[AiohttpAuth(app)]) as aiohttp_session,
        ):

            async def call_with_aiohttp() -> aiohttp.ClientResponse:
                async with aiohttp_session.get(url, timeout=aiohttp.ClientTimeout(TIMEOUT)) as response:
                    await response.read()
                    return response

            calls: dict[str, Callable[[], Awaitable[Any]]] = {
                "requests": lambda: asyncio.to_thread(session.get, url, timeout=TIMEOUT),
                "httpx": lambda: asyncio.to_thread(blocking.get, url),
                "httpx async": lambda: async_client.get(url),
                "aiohttp": call_with_aiohttp,
            }

            async def run_caller(client: str, pause: float) -> None:
                while not over.is_set():
                    began, bound = story.now(), False
                    try:
                        response = await calls[client]()
                        if client == "aiohttp":
                            status, headers = response.status, response.request_info.headers
                        else:
                            status, headers = response.status_code, response.request.headers
                        bound = headers.get("Authorization", "").startswith("DPoP ") and "DPoP" in headers
                        failure = None if status == 200 else f"HTTP {status}"
                    except Exception as error:  # noqa: BLE001 (any error is a failed call)
                        failure = f"{type(error).__name__}: {quoted(error)}"
                    story.calls.append(Call(client, began, story.now(), bound, failure))
                    await asyncio.sleep(pause)

            story.start = time.perf_counter()
            async with asyncio.TaskGroup() as callers:
                for client, pause in product(CLIENTS, PAUSES):
                    callers.create_task(run_caller(client, pause))
                with suppress(TimeoutError):
                    async with asyncio.timeout(story.seconds + OVERTIME):
                        await _cause_faults(story, okta)
                over.set()
