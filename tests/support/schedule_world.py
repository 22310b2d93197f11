"""Service apps, their callers, a token endpoint, APIs and a store, in the time of a schedule; and what holds at each moment."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from typing import Any

from herd import SimulatedStore
from okta_m2m import ConfigurationError, OktaM2MError, ServiceApp, Token
from okta_m2m._base.clocks import NEVER, Clock
from okta_m2m._core import fetching, fleet, flights, forced_renewals, token_state
from okta_m2m._threads import landings, waiting, workers
from okta_m2m._threads.landings import LOOK
from okta_m2m.effects import Effect, Response, Send, SendFailed, Sending, Sleep, StoreEffect, Wait
from okta_m2m.runtimes import Asyncio, Threads, arun, drive, run
from schedules import STALL, Actor, Loop, Schedule, Violation
from signers import Stub

FILES = frozenset(
    module.__file__ or ""
    for module in (fetching, fleet, flights, forced_renewals, landings, token_state, waiting, workers)
)
ORG = "https://acme.okta.com"
OTHER = "https://api.example.com"
EPOCH = 1_750_000_000.0
LIFETIME = 3600.0
MARGIN = 5.0
LASTS = 0.1
PATIENCE = 5.0
NOISE = 1e-6


class Store(SimulatedStore):
    """Before and after each of its operations, which are atomic, another thread may continue."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule.now)
        self._turn = schedule.turn

    def load(self, key: str) -> bytes | None:
        return self._within(super().load, key)

    def claim(self, key: str, owner: str, ttl: float) -> bool:
        return self._within(super().claim, key, owner, ttl)

    def save(self, key: str, value: bytes, ttl: float, owner: str) -> bool:
        return self._within(super().save, key, value, ttl, owner)

    def release(self, key: str, owner: str) -> None:
        self._within(super().release, key, owner)

    def _within(self, operation: Callable[..., Any], *arguments: object) -> Any:
        self._turn()
        answer = operation(*arguments)
        self._turn()
        return answer


@dataclass
class Caller:
    """A call, and what became of it. ``newest``: the number of the token that was in use when it began."""

    app: ServiceApp
    actor: Actor | None = None
    began: float = 0.0
    newest: int = -1
    latest: float | None = None
    finished: float | None = None
    token: str | None = None
    status: int | None = None
    error: OktaM2MError | None = None


class Runtime(Threads):
    """The runtime of threads; time and servers are the world's."""

    __slots__ = ("_world",)

    def __init__(self, world: World, endpoint: str) -> None:
        super().__init__(lambda request, timeout: world.answer(endpoint, timeout))
        self._world = world

    def perform(self, effect: Effect[Any]) -> Any:
        world = self._world
        match effect:
            case Wait(landing):
                landed: list[float] = []
                landing.add_done_callback(lambda _: landed.append(world.schedule.time))
                answer = super().perform(effect)
                if landed:
                    world.check_wait(landed[0])
                return answer
            case Send(request, timeout):
                return self._send(request, timeout)
            case Sleep(seconds):
                return world.schedule.sleep(seconds)
            case StoreEffect():
                return effect.call()
        return super().perform(effect)


class LoopRuntime(Asyncio):
    """The runtime of asyncio, which has threads do the rest."""

    __slots__ = ()

    def __init__(self, threads: Runtime) -> None:
        super().__init__(lambda *_: Response(500))
        self._threads = threads


class World:
    """Service apps, their callers, a token endpoint, APIs and a store.

    - ``most``: how many fetches may run at a time.
    - ``most_requests``: the token requests that are enough, for each client.
    - ``latest``: the seconds after which each caller has ended, if no thread was stalled or killed.
    - ``lasts``: the seconds that each token request takes; the last one also for those that follow.
    - ``answers``: what the first token requests are answered, if not with a token.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.store: Store | None = None
        self.apps: list[ServiceApp] = []
        self.runtimes: dict[ServiceApp, Runtime] = {}
        self.callers: list[Caller] = []
        self.minted: dict[str, tuple[int, float]] = {}  # Authorization: its number, and its end
        self.last: dict[str, str] = {}  # of each client
        self.open: dict[str, list[float]] = {}
        self.requests: dict[str, int] = {}
        self.rejects: dict[str, set[str]] = {}
        self.closed: set[ServiceApp] = set()
        self.in_use: dict[ServiceApp, Token | None] = {}
        self.lasts = [LASTS]
        self.answers: list[str] = []
        self.most_requests = 1
        self.latest = LASTS
        self.began = schedule.time
        self.may_fail = False

    # ── what a scenario consists of ──────────────────────────────────────────────────────────────────────────────

    def app(self, client_id: str = "0oa1", **settings: Any) -> ServiceApp:
        if self.store is not None:
            settings = {"store": self.store, "seal_with": [bytes(range(32))], **settings}
        app = ServiceApp(
            ORG,
            client_id=client_id,
            key=Stub(),
            scopes=["okta.users.read"],
            origins=[OTHER],
            dpop=False,
            clock=Clock(now=self.schedule.now, wall=lambda: EPOCH + self.schedule.time),
            **settings,
        )
        self.apps.append(app)
        self.runtimes[app] = Runtime(self, client_id)
        self.in_use[app] = None
        return app

    def shared_store(self) -> None:
        self.store = Store(self.schedule)

    def warm(self, app: ServiceApp, wait: float = 0.0) -> Token:
        """Gets the app's first token; then so much time passes."""
        caller = self.call(app, name="first")
        self.schedule.run()
        self.schedule.time += wait
        self.callers.remove(caller)
        self.requests.clear()
        self.began = self.schedule.time
        token = app.token_state.token
        assert token is not None
        self.in_use[app] = token
        return token

    def call(
        self,
        app: ServiceApp,
        url: str | None = None,
        *,
        after: float = 0.0,
        takes: float = 0.0,
        latest: float | None = None,
        name: str = "caller",
    ) -> Caller:
        """A thread that needs a token, or that calls that URL with one, which takes so many seconds. ``latest``: see the
        world's."""
        caller = Caller(app, latest=latest)

        def work() -> None:
            if after:
                self.schedule.sleep(after)
            self._begin(caller)
            try:
                if url is None:
                    caller.token = run(app.obtain(), self.runtimes[app]).authorization
                else:
                    attempts = Attempts(self, caller, url, takes)
                    drive(app.authorize("GET", url, replayable=True), self.runtimes[app], attempts)
            except OktaM2MError as error:
                caller.error = error
            self._end(caller)

        caller.actor = self.schedule.start(name, work)
        self.callers.append(caller)
        return caller

    def loop(self, app: ServiceApp, tasks: int, *, after: float = 0.0, latest: float | None = None) -> None:
        """An event loop whose tasks need a token."""
        callers = [Caller(app, latest=latest) for _ in range(tasks)]

        async def one(caller: Caller) -> None:
            await asyncio.sleep(after)
            self._begin(caller)
            try:
                caller.token = (await arun(app.obtain(), LoopRuntime(self.runtimes[app]))).authorization
            except OktaM2MError as error:
                caller.error = error
            self._end(caller)

        async def work() -> None:
            await asyncio.gather(*[one(caller) for caller in callers])

        def run_loop() -> None:
            loop = Loop(self.schedule)
            try:
                loop.run_until_complete(work())
            finally:
                while left := asyncio.all_tasks(loop):
                    for task in left:
                        task.cancel()
                    loop.run_until_complete(asyncio.wait(left))
                loop.close()

        actor = self.schedule.start("loop", run_loop)
        for caller in callers:
            caller.actor = actor
        self.callers += callers

    def job(self, *, is_queued: bool = False, is_asked_for: bool = True) -> None:
        """A thread with a job of its own in the line, which looks now and then whether it still has to wait for it.

        - ``is_queued``: whether it is in the line before the run begins, as while a thread starts.
        - ``is_asked_for``: ``False`` if that thread has been killed.
        """
        state, line = "waiting", workers.FETCHES

        def run_job() -> None:
            nonlocal state
            if state == "given up":
                self.schedule.fail("a job begins that was given up")
            state = "running"
            self.schedule.sleep(LASTS)
            state = "ended"

        put = partial(line.put, run_job, "job", "one", math.inf)

        def work() -> None:
            nonlocal state
            job = put() if queued is None else queued
            while job is not None and job.is_alive():
                self.schedule.sleep(LASTS / 2)
            if state == "running":
                self.schedule.fail("a job that runs counts as ended")
            state = "given up"
            if self.schedule.time > self.began + self.latest + self.slack():
                self.schedule.fail("a job waited although there was room")

        queued = None
        if is_queued:
            line._starting_until = math.inf
            queued = put()
            line._starting_until = NEVER
        if is_asked_for:
            self.schedule.start("caller", work)

    def close(self, app: ServiceApp, after: float = 0.0) -> None:
        """A thread that closes the app."""

        def work() -> None:
            if after:
                self.schedule.sleep(after)
            app.close()
            self.closed.add(app)

        self.schedule.start("closer", work)

    # ── servers ──────────────────────────────────────────────────────────────────────────────────────────────────

    def answer(self, endpoint: str, timeout: float) -> Response:
        """The response of the token endpoint."""
        schedule, began = self.schedule, self.schedule.time
        under_way = self.open.setdefault(endpoint, [])
        patience = PATIENCE - schedule.stalls * STALL - NOISE  # which begins before a request goes out
        if any(began < other + patience for other in under_way) or len(under_way) > 1:
            schedule.fail("two token requests at once")
        number = self.requests[endpoint] = self.requests.get(endpoint, 0) + 1
        more = schedule.stalls if self.may_fail else 0  # a refusal is remembered for a second
        if not schedule.has_threads:
            more += schedule.kills  # the request ends with its caller
        if number > self.most_requests + more:
            schedule.fail(f"{number} token requests, {self.most_requests} would have been enough")
        under_way.append(began)
        lasts = self.lasts[min(number, len(self.lasts)) - 1]
        given_up: list[bool] = []
        sending = Sending.current()
        if sending is not None:
            sending.if_given_up(lambda: given_up.append(True))
        try:
            schedule.block(lambda: bool(given_up), began + min(lasts, timeout))
            schedule.turn()
        finally:
            under_way.remove(began)
        if lasts > timeout or given_up:
            raise SendFailed("no response in time")
        answer = self.answers.pop(0) if self.answers else "token"
        date = "Date", formatdate(EPOCH + schedule.time, usegmt=True)
        if answer == "reset":
            raise SendFailed("connection reset")
        if answer == "refusal":
            return Response(400, [date], b'{"error": "invalid_scope", "error_description": "No such scope."}')
        value = f"token-{len(self.minted)}"
        self.mint(f"Bearer {value}", endpoint, began)
        content = {"access_token": value, "token_type": "Bearer", "expires_in": LIFETIME, "scope": "okta.users.read"}
        return Response(200, [date], json.dumps(content).encode())

    def mint(self, authorization: str, endpoint: str, began: float) -> None:
        self.minted[authorization] = len(self.minted), began + LIFETIME - MARGIN
        self.last[endpoint] = authorization

    # ── what must hold ───────────────────────────────────────────────────────────────────────────────────────────

    def look(self) -> None:
        """At each line."""
        now = self.schedule.time
        for app in self.apps:
            state = app.token_state
            token, former = state.token, self.in_use[app]
            if token is not former:
                if token is not None and former is not None and self.number(token) < self.number(former):
                    raise Violation("an older token replaced a later one")
                self.in_use[app] = token
            if state.fresh_until > now:
                _, until = self.minted.get(state.authorization or "", (0, now))
                if now >= until:
                    raise Violation("a call without a flow sends a token that has expired")
                if app in self.closed:
                    raise Violation("a call sends a token after the app was closed")
            if app in self.closed and (token is not None or not state.is_closed):
                raise Violation("a closed app has a token")

    def number(self, token: Token) -> int:
        return self.minted[token.authorization][0]

    def slack(self) -> float:
        """The seconds that stalled and killed threads may cost the others: one look, and a fetch."""
        return NOISE + self.schedule.stalls * STALL + (LOOK + LASTS if self.is_disturbed else 0.0)

    @property
    def is_disturbed(self) -> bool:
        return bool(self.schedule.stalls or self.schedule.kills)

    def check_wait(self, landed: float) -> None:
        late = self.schedule.time - landed
        if late > self.slack():
            self.schedule.fail(f"a caller waited for {late:.2f} s after the landing")

    def check_rest(self) -> None:
        """When all threads have ended. Then one more caller needs a token, and another when that token has expired."""
        self._check_callers(self.latest)
        self.look()
        for later in (0.0, 2 * LIFETIME):
            self.schedule.time += later
            if not later and self.may_fail:
                continue
            for app in self.apps:
                self.callers, self.began = [], self.schedule.time
                before, last = len(self.minted), self.last.get(app.client_id)
                is_news = last is None or (later > 0 and (self.store is None or app is self.apps[0]))
                if is_news:
                    self.requests.clear()
                    self.most_requests, self.answers, self.lasts = 1, [], [LASTS]
                caller = self.call(app, name="later")
                self.schedule.run()
                if app in self.closed:
                    if not isinstance(caller.error, ConfigurationError):
                        raise Violation("a closed app gave a token")
                    continue
                self._check_callers(LASTS + 3 * fleet.SAVING + LOOK)
                expected = self.last[app.client_id] if is_news else last
                is_lost_with_caller = self.schedule.kills and not self.schedule.has_threads
                if caller.token != expected and not is_lost_with_caller:
                    raise Violation(f"{expected} was lost, {caller.token} is in use")
                if len(self.minted) - before != is_news and not self.is_disturbed:
                    raise Violation(f"{len(self.minted) - before} tokens were requested instead of {is_news:d}")

    def _check_callers(self, latest: float) -> None:
        slack = self.slack()
        for caller in self.callers:
            assert caller.actor is not None
            name = caller.actor.name
            if caller.finished is None:
                if caller.actor.was_killed:
                    continue
                raise Violation(f"{name} has not ended")
            most = latest if caller.latest is None else caller.latest
            if caller.finished > max(self.began, caller.began) + most + slack:
                raise Violation(f"{name} ended {caller.finished - caller.began:.2f} s after it began")
            is_closed = caller.app in self.closed and isinstance(caller.error, ConfigurationError)
            if caller.error is not None and not is_closed and not self.may_fail:
                raise Violation(f"{name} failed: {caller.error}")
            if caller.token is not None:
                number, until = self.minted[caller.token]
                if caller.finished >= until + MARGIN:
                    raise Violation(f"{name} was given a token that has expired")
                if number < caller.newest:
                    raise Violation(f"{name} was given an older token than the one in use")
            if caller.status not in (None, 200):
                raise Violation(f"{name} ended with {caller.status}")

    def _begin(self, caller: Caller) -> None:
        caller.began = self.schedule.time
        token = caller.app.token_state.token
        caller.newest = -1 if token is None or token.authorization not in self.minted else self.number(token)

    def _end(self, caller: Caller) -> None:
        caller.finished = self.schedule.time


class Attempts:
    """The calls that a caller makes with its token."""

    def __init__(self, world: World, caller: Caller, url: str, takes: float) -> None:
        self._world, self._caller, self._takes = world, caller, takes
        self._origin = url.removesuffix("/users")

    def attempt(self, headers: Any) -> Response:
        self._world.schedule.turn()
        self._world.schedule.sleep(self._takes)
        token = self._caller.token = headers["Authorization"]
        is_rejected = token in self._world.rejects.get(self._origin, ())
        self._caller.status = 401 if is_rejected else 200
        return Response(401, [("WWW-Authenticate", 'Bearer error="invalid_token"')]) if is_rejected else Response(200)

    def peek(self, limit: int) -> bytes:
        return b""

    def discard(self) -> None:
        pass
