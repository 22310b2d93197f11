"""What each client looks like to a test: one blocking interface.

An async client runs on an event loop of its own, in a thread of its own, which stays from the first call to ``close``:
renewals in the background go on between calls. A watchdog looks after that loop.

Invariant: an HTTP library is imported by no more than the one module here that is named after it.
"""

from __future__ import annotations

import json
import ssl
import sys
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import anyio
import anyio.from_thread

from okta_m2m import ServiceApp, Token

PATIENCE = 50
"""Seconds after which a call hangs: an error instead of a test run that stands still."""

MULTIPART_NAME = "upload"


@dataclass(frozen=True)
class Answer:
    """What came back, the same for every client."""

    status: int
    headers: list[tuple[str, str]] = field(repr=False)
    body: bytes = field(repr=False)
    url: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def received(self) -> tuple[int, str]:
        """Length and SHA-256 of the body that FakeOkta got."""
        received = self.json["received"]
        return received["length"], received["sha256"]

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


@dataclass
class Body:
    """A request body, one of: bytes; a file from where it stands; a stream that can be read once; a file in a form."""

    data: bytes | None = None
    file: BinaryIO | None = None
    stream: Iterable[bytes] | None = None
    form: BinaryIO | None = None


NOTHING = Body()


@cache
def trusting(authority: Path | None) -> ssl.SSLContext:
    """One for all clients: to read the usual bundle takes longer than most tests."""
    return ssl.create_default_context(cafile=authority)


Outcome = Answer | Exception


class Client(ABC):
    """One HTTP client with ``app`` as its auth.

    - ``pool_of_one``: it has a single connection.
    - ``token_client``: what its ``OktaAuth`` sends token requests with: ``None``, its own; ``"same"``, this very client, if it
      blocks (:attr:`lends_itself`); ``"other"``, another one of the same library, which blocks and has neither auth nor
      redirects; ``"made"``, a new one for each request, made by a function. aiohttp has no client that blocks, so
      ``"other"`` is such a function too.
    - ``send``: sends token requests instead; blocks.
    - ``replaces``: the placeholder that its ``OktaAuth`` replaces.
    - ``unverified``: it accepts any certificate, also for token requests of ``"same"``, ``"other"`` and ``"made"``.
    - ``trusted``: the file of a CA that it trusts. ``proxy``: the URL of its proxy.
    - ``timeout``: seconds for which it waits for the next part of an answer.
    - ``seen_by_hooks``: the URLs that the client's own hooks were shown.
    """

    name: ClassVar[str]
    refused: ClassVar[type[Exception]]
    """The library's general exception, which its users catch."""
    unreachable: ClassVar[type[Exception]]
    """What it raises where there is no connection."""
    asynchronous: ClassVar[bool] = False
    lends_itself: ClassVar[bool] = True
    """Whether it may send token requests itself: not if it belongs to an event loop."""
    replays_files: ClassVar[bool] = True
    """Whether a plain file is a body that it knows; async httpx takes only async streams, which nobody can rewind."""

    def __init__(
        self,
        app: ServiceApp,
        *,
        pool_of_one: bool = False,
        token_client: str | None = None,
        send: Any = None,
        replaces: str | None = None,
        trusted: Path | None = None,
        unverified: bool = False,
        proxy: str | None = None,
        timeout: float = PATIENCE,
    ) -> None:
        self.app = app
        self.timeout = timeout
        self.pool_of_one = pool_of_one
        self.token_client = token_client
        self.send = send
        self.replaces = replaces
        self.trusted = trusted
        self.unverified = unverified
        self.proxy = proxy
        self.seen_by_hooks: list[str] = []
        self.open()

    @abstractmethod
    def open(self) -> None: ...

    def use(self, auth: Any) -> None:
        """Makes the next calls with another auth object."""
        raise NotImplementedError

    @abstractmethod
    def call(
        self,
        method: str,
        url: str,
        body: Body = NOTHING,
        *,
        headers: Mapping[str, str] | None = None,
        follow: bool = True,
    ) -> Answer:
        """One call; raises what the client raises."""

    @abstractmethod
    def get_for(self, apps: Sequence[ServiceApp], url: str) -> list[Outcome]:
        """One GET for each of these apps, all at once, through this one client: each call has an auth object of its own."""

    @abstractmethod
    def keep_calling(
        self,
        callers: int,
        until: Callable[[int], bool],
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
    ) -> list[Outcome]:
        """So many callers at once, each calling again and again until ``until(its number)``; at least once each."""

    @abstractmethod
    def stream(self, url: str, begun: Callable[[bytes], object]) -> Answer:
        """A GET whose answer is read as it comes: the first part is shown to ``begun`` before the rest is read."""

    @abstractmethod
    def token(self) -> Token: ...

    @abstractmethod
    def headers(self, method: str, url: str) -> dict[str, str]: ...

    @abstractmethod
    def close(self) -> None: ...

    auth: Any

    def get(self, url: str, **options: Any) -> Answer:
        return self.call("GET", url, **options)

    def post(self, url: str, body: Body, **options: Any) -> Answer:
        return self.call("POST", url, body, **options)

    def at_once(self, callers: int, method: str, url: str) -> list[Outcome]:
        """So many calls at once."""
        return self.keep_calling(callers, lambda _: True, method, url)


# ── blocking clients ─────────────────────────────────────────────────────────────────────────────────────────────────


class BlockingClient(Client):
    @abstractmethod
    def _get_for(self, app: ServiceApp, url: str) -> Answer:
        """A GET with an auth object of its own for that app."""

    def get_for(self, apps: Sequence[ServiceApp], url: str) -> list[Outcome]:
        def call(app: ServiceApp) -> Outcome:
            try:
                return self._get_for(app, url)
            except Exception as error:
                return error

        with ThreadPoolExecutor(len(apps)) as pool:
            return list(pool.map(call, apps, timeout=2 * PATIENCE))

    def keep_calling(
        self,
        callers: int,
        until: Callable[[int], bool],
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []
        together = threading.Barrier(callers)

        def caller(number: int) -> None:
            together.wait(PATIENCE)
            while True:
                try:
                    outcomes.append(self.call(method, url, headers=headers))
                except Exception as error:
                    outcomes.append(error)
                if until(number):
                    return

        with ThreadPoolExecutor(callers) as pool:
            for future in [pool.submit(caller, number) for number in range(callers)]:
                future.result(2 * PATIENCE)
        return outcomes

    def token(self) -> Token:
        return self.auth.token()

    def headers(self, method: str, url: str) -> dict[str, str]:
        return self.auth.headers(method, url)


# ── async clients ────────────────────────────────────────────────────────────────────────────────────────────────────


class Watchdog:
    """Sees whether an event loop is blocked, and where.

    It counts its own ticks since the loop's last heartbeat, not seconds: when the whole machine stands still, so does it.
    And only those for which the loop is in one and the same step: one that has many callers goes round slowly, which is
    no block.
    """

    TICK = 0.05
    MOST_MISSED = 10

    def __init__(self) -> None:
        self.blocked_at: str | None = None
        self._missed = 0
        self._loop_thread = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    async def heart(self) -> None:
        """Runs on the loop, as long as the loop runs."""
        self._loop_thread = threading.get_ident()
        self._thread.start()
        try:
            while True:
                self._missed = 0
                await anyio.sleep(self.TICK / 5)
        finally:
            self._ended.set()

    def _step(self) -> int | None:
        """What the loop runs just now: the identity of the outermost frame of a task or callback, if it runs any."""
        frame = sys._current_frames().get(self._loop_thread)
        while frame is not None:
            caller = frame.f_back  # read once: it becomes None as soon as the loop suspends that coroutine
            # Those that step tasks, asyncio's and trio's. An identity: the frame itself would keep its variables alive.
            if caller is not None and caller.f_code.co_name in ("_run", "unrolled_run"):
                return id(frame)
            frame = caller
        return None

    def _watch(self) -> None:
        step = None
        while not self._ended.wait(self.TICK):
            before, step = step, self._step()
            self._missed = self._missed + 1 if step is not None and step == before else 0
            if self._missed >= self.MOST_MISSED and self.blocked_at is None:
                frame = sys._current_frames().get(self._loop_thread)
                self.blocked_at = "".join(traceback.format_stack(frame)) if frame is not None else "somewhere"

    def check(self) -> None:
        """Raises ``AssertionError`` if the loop was blocked."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if self.blocked_at is not None:
            raise AssertionError(f"The event loop was blocked here:\n{self.blocked_at}")


class AsyncClient(Client):
    asynchronous = True
    lends_itself = False
    backend: ClassVar[str]

    def open(self) -> None:
        self.watchdog = Watchdog()
        self._running = anyio.from_thread.start_blocking_portal(self.backend)
        self.portal = self._running.__enter__()
        self._heart = self.portal.start_task_soon(self.watchdog.heart)
        self.portal.call(self._open)

    @abstractmethod
    async def _open(self) -> None: ...

    @abstractmethod
    async def _call(
        self, method: str, url: str, body: Body, headers: Mapping[str, str] | None, follow: bool
    ) -> Answer: ...

    @abstractmethod
    async def _get_for(self, app: ServiceApp, url: str) -> Answer: ...

    @abstractmethod
    async def _stream(self, url: str, begun: Callable[[bytes], object]) -> Answer: ...

    @abstractmethod
    async def _close(self) -> None: ...

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs an async function on the client's loop."""

        async def within() -> Any:
            with anyio.fail_after(PATIENCE):
                return await function(*arguments)

        return self.portal.call(within)

    def call(
        self,
        method: str,
        url: str,
        body: Body = NOTHING,
        *,
        headers: Mapping[str, str] | None = None,
        follow: bool = True,
    ) -> Answer:
        return self.run(self._call, method, url, body, headers, follow)

    def keep_calling(
        self,
        callers: int,
        until: Callable[[int], bool],
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []

        async def caller(number: int) -> None:
            while True:
                try:
                    outcomes.append(await self._call(method, url, NOTHING, headers, True))
                except Exception as error:
                    outcomes.append(error)
                if until(number):
                    return

        async def all_callers() -> None:
            async with anyio.create_task_group() as group:
                for number in range(callers):
                    group.start_soon(caller, number)

        self.run(all_callers)
        return outcomes

    def get_for(self, apps: Sequence[ServiceApp], url: str) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}

        async def call(number: int, app: ServiceApp) -> None:
            try:
                outcomes[number] = await self._get_for(app, url)
            except Exception as error:
                outcomes[number] = error

        async def all_calls() -> None:
            async with anyio.create_task_group() as group:
                for number, app in enumerate(apps):
                    group.start_soon(call, number, app)

        self.run(all_calls)
        return [outcomes[number] for number in range(len(apps))]

    def stream(self, url: str, begun: Callable[[bytes], object]) -> Answer:
        return self.run(self._stream, url, begun)

    def token(self) -> Token:
        return self.run(self.auth.atoken)

    def headers(self, method: str, url: str) -> dict[str, str]:
        return self.run(self.auth.aheaders, method, url)

    def close(self) -> None:
        self.run(self._close)
        self._heart.cancel()
        self._running.__exit__(None, None, None)
        self.watchdog.check()


async def asynchronously(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def parts(file: BinaryIO) -> Iterator[bytes]:
    return iter(partial(file.read, 65536), b"")
