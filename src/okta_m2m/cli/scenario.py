"""The demonstration's plot: an org on a loopback port, four clients with one service app, and what goes wrong.

Invariant: the clients are used as any service uses them; whatever they survive here, they survive by the library alone.
What goes wrong is chosen by what has happened, not by the clock, so that a slow machine sees the same plot.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final

from ..errors import quoted
from ..events import Event, TokenObtained, TokenRejected
from .exits import needs
from .story import Answer, Call, Obtained, Rejection, Revocation, Story

if TYPE_CHECKING:
    from .._core.service_app import ServiceApp
    from ..testing import ReceivedRequest

__all__ = ["CLIENTS", "LIFETIME", "WHOLE", "play"]

CLIENTS: Final = ("requests", "httpx", "httpx async", "aiohttp")
LIFETIME: Final = 3.0
WHOLE: Final = 6.0  # seconds in which everything has its turn
PAUSES: Final = (0.013, 0.019, 0.029)  # seconds from call to call of each client's callers, so that none march in step
API_TAKES: Final = 0.03  # seconds; so at any moment some calls are under way, as in life
PATIENCE: Final = 10.0  # seconds for a token, and for a call
AT_THE_END: Final = 5.0  # seconds for what is still under way

Made = tuple[int, Mapping[str, str]]  # a call's status, and the headers it was sent with


def play(seconds: float, *, dpop: bool, watch: Callable[[Story], None]) -> Story:
    """Plays for so many seconds; ``watch`` is called a few times a second. Raises ``ExtraMissing``."""
    with needs("all", "okta-m2m demo"):
        import aiohttp
        import httpx
        import requests

        from .. import aiohttp as for_aiohttp
        from .. import httpx as for_httpx
        from .. import requests as for_requests
        from ..testing import FakeOkta

    from .._core.service_app import ServiceApp
    from ..keys import PrivateKey

    story = Story(CLIENTS, seconds, LIFETIME, len(PAUSES) * len(CLIENTS), dpop)

    def note_token_answer(request: ReceivedRequest, status: int) -> None:
        if request.path.endswith("/v1/token"):
            story.answers.append(Answer(story.now(), status))

    def with_requests(app: ServiceApp, url: str, run: _Run) -> None:
        with requests.Session() as session:
            session.auth = for_requests.OktaAuth(app)

            def call() -> Made:
                response = session.get(url, timeout=PATIENCE)
                return response.status_code, response.request.headers

            run.in_threads("requests", call)

    def with_httpx(app: ServiceApp, url: str, run: _Run) -> None:
        with httpx.Client(auth=for_httpx.OktaAuth(app), timeout=PATIENCE) as client:

            def call() -> Made:
                response = client.get(url)
                return response.status_code, response.request.headers

            run.in_threads("httpx", call)

    async def with_httpx_async(app: ServiceApp, url: str, run: _Run) -> None:
        async with httpx.AsyncClient(auth=for_httpx.OktaAuth(app), timeout=PATIENCE) as client:

            async def call() -> Made:
                response = await client.get(url)
                return response.status_code, response.request.headers

            await run.in_tasks("httpx async", call)

    async def with_aiohttp(app: ServiceApp, url: str, run: _Run) -> None:
        patience = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(middlewares=[for_aiohttp.OktaAuth(app)], timeout=patience) as session:

            async def call() -> Made:
                async with session.get(url) as response:
                    await response.read()
                    return response.status, response.request_info.headers

            await run.in_tasks("aiohttp", call)

    key = PrivateKey.generate("ES256")
    okta = FakeOkta(token_lifetime=LIFETIME, dpop="required" if dpop else "optional", on_answer=note_token_answer)
    with _quietly(), _directly(), okta:
        okta.next(on="/api/v1/*", times=1_000_000, delay=API_TAKES)
        registered = okta.add_app(key, scopes=["okta.users.read"])
        plot = _Plot(story, okta)
        app = ServiceApp(
            okta.url,
            client_id=registered.client_id,
            key=key,
            scopes=["okta.users.read"],
            max_wait=PATIENCE,
            on_event=plot.heard,
        )
        url = f"{okta.url}/api/v1/users"
        run = _Run(story)
        clients: list[Callable[[], object]] = [
            lambda: with_requests(app, url, run),
            lambda: with_httpx(app, url, run),
            lambda: asyncio.run(with_httpx_async(app, url, run)),
            lambda: asyncio.run(with_aiohttp(app, url, run)),
        ]
        threads = [
            threading.Thread(target=client, name=f"demo {name}", daemon=True)
            for name, client in zip(CLIENTS, clients, strict=True)
        ]
        for thread in threads:
            thread.start()
        try:
            run.all_set()
            while story.now() < seconds or (plot.unfinished and story.now() < seconds + AT_THE_END):
                plot.go_on()
                watch(story)
                time.sleep(0.05)
                if story.now() > seconds + 0.1:
                    story.seconds = story.now()  # a slow machine: the picture is as long as the play
        finally:
            run.end()
            until = time.monotonic() + AT_THE_END
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))
        for name, thread in zip(CLIENTS, threads, strict=True):
            if thread.is_alive():
                story.calls.append(Call(name, seconds, story.now(), False, "the call did not end"))
        story.minted = okta.tokens_minted
    return story


class _Plot:
    """What goes wrong: a 503 and a 429, in turn, at a renewal; and one token revoked in the middle."""

    def __init__(self, story: Story, okta: Any) -> None:
        self._story = story
        self._okta = okta
        self._troubles = cycle([503, 429])
        self._revoke_at: float | None = story.seconds / 2

    def heard(self, event: Event) -> None:
        """Follows the service app's own events."""
        now = self._story.now()
        if isinstance(event, TokenRejected):
            self._story.rejections.append(Rejection(now, event.renewing))
        if isinstance(event, TokenObtained):
            self._story.obtained.append(
                Obtained(now - event.elapsed, now, event.token_type, event.expires_in, event.background)
            )
            if self._revoke_at is None or now + LIFETIME / 2 < self._revoke_at:
                # A concurrency limit: it names no time to wait for, so the renewal ends while the token still serves.
                self._okta.next(next(self._troubles), concurrency=True)

    @property
    def unfinished(self) -> bool:
        """Whether something that belongs to a play of this length is still to come."""
        story = self._story
        if story.seconds < WHOLE:
            return not story.rejections
        statuses = [answer.status for answer in story.answers]
        return not story.rejections or not {503, 429, 200} <= set(statuses) or statuses[-1] != 200

    def go_on(self) -> None:
        """Revokes the token in use when its time has come, in its first half: no renewal is under way then."""
        now, tokens = self._story.now(), self._okta.tokens()
        if self._revoke_at is None or now < self._revoke_at:
            return
        if not tokens or len(tokens) != len(self._story.obtained):  # one is on its way
            return
        if now - self._story.obtained[-1].at < LIFETIME / 2:
            self._revoke_at = None
            self._okta.revoke(tokens[-1].value)
            self._story.revocations.append(Revocation(self._story.now(), len(tokens)))


class _Run:
    """Many callers, all of which begin at once, and end when it is over."""

    def __init__(self, story: Story) -> None:
        self.over = threading.Event()
        self._story = story
        self._set = threading.Barrier(len(CLIENTS) + 1, action=story.begin)

    def all_set(self) -> None:
        """Waits until every client is there; raises ``BrokenBarrierError`` if one is not to be had."""
        self._set.wait(PATIENCE)

    def end(self) -> None:
        """Lets each caller finish the call it is at; one that has not begun yet does not begin."""
        self.over.set()
        self._set.abort()

    def _begin(self) -> None:
        with suppress(threading.BrokenBarrierError):
            self._set.wait(PATIENCE)

    def in_threads(self, client: str, call: Callable[[], Made]) -> None:
        def caller(pause: float) -> None:
            while not self.over.is_set():
                began = self._story.now()
                with self._noted(client, began) as made:
                    made.append(call())
                self.over.wait(pause)

        threads = [threading.Thread(target=caller, args=(pause,), daemon=True) for pause in PAUSES]
        self._begin()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    async def in_tasks(self, client: str, call: Callable[[], Awaitable[Made]]) -> None:
        async def caller(pause: float) -> None:
            while not self.over.is_set():
                began = self._story.now()
                with self._noted(client, began) as made:
                    made.append(await call())
                await asyncio.sleep(pause)

        self._begin()  # nothing else is on this loop yet
        await asyncio.gather(*(caller(pause) for pause in PAUSES))

    @contextmanager
    def _noted(self, client: str, began: float) -> Iterator[list[Made]]:
        made: list[Made] = []
        failure: str | None = None
        try:
            yield made
        except Exception as error:  # noqa: BLE001 (whatever it is, it is a failed call)
            failure = f"{type(error).__name__}: {quoted(error)}"
        status, headers = made[0] if made else (0, {})
        if failure is None and status != 200:
            failure = f"HTTP {status}"
        bound = headers.get("Authorization", "").startswith("DPoP ") and bool(headers.get("DPoP"))
        self._story.calls.append(Call(client, began, self._story.now(), bound, failure))


@contextmanager
def _quietly() -> Iterator[None]:
    """Keeps the library's warnings off the picture. It has all that they say."""
    logger, handler = logging.getLogger("okta_m2m"), logging.NullHandler()
    propagates = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = propagates
        logger.removeHandler(handler)


@contextmanager
def _directly() -> Iterator[None]:
    """A proxy of the environment is not for a server in this very process."""
    before = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy")}
    os.environ.update(dict.fromkeys(before, "127.0.0.1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
