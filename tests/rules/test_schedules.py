"""Real threads and event loops, of which one runs at a time, and may be interrupted at each line of the token's state, the
flight, its waiters, the line of fetches and the shared store. What the package promises holds in each order of these lines.

A failure names the schedule that led to it, as a call of :func:`replay` that shows it again. Each promise is checked with
planted bugs too: what finds nothing in a wrong program proves nothing about a right one.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import math
import random
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from itertools import islice
from typing import Any

import pytest

from herd import SimulatedStore
from okta_m2m import ConfigurationError, OktaM2MError, ServiceApp, Token
from okta_m2m._base.clocks import NEVER, Clock
from okta_m2m._core import conversation, fetching, fleet, flights, forced_renewals, token_state
from okta_m2m._core.fetching import Fetching
from okta_m2m._core.flights import Flight
from okta_m2m._core.token_state import TokenState
from okta_m2m._threads import landings, waiting, workers
from okta_m2m._threads.landings import LOOK
from okta_m2m.effects import Effect, Response, Send, SendFailed, Sending, Sleep, StoreEffect, Wait
from okta_m2m.runtimes import Asyncio, Threads, arun, drive, run
from schedules import (
    STALL,
    Actor,
    Choices,
    Chooser,
    Exactly,
    Loop,
    Point,
    Schedule,
    Violation,
    Walk,
    each_kill,
    each_stall,
    each_switch,
    each_switch_and_kill,
    plant,
    quiet,
    replace_threads,
)

pytestmark = pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="not tried on a free-threaded build: its trace functions may be called in two threads at once",
)

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


class Stub:
    """A signer that costs nothing; what it signs is of no interest here."""

    alg = "ES256"
    kid = "kid"
    public_jwk: dict[str, str] = {"kty": "EC"}  # noqa: RUF012 (never changed)
    in_memory = True

    def sign(self, message: bytes, /) -> bytes:
        return b"signature"


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
            settings = {"store": self.store, "seal_with": [bytes(32)], **settings}
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


# ── scenarios ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Scenario:
    """What happens in a run.

    - ``most``: how many fetches may run at a time.
    - ``lease``: the seconds that a claim lasts.
    - ``stalls``: how many threads may be stalled.
    - ``files``: others than :data:`FILES` at whose lines threads switch.
    """

    name: str
    set_up: Callable[[World], None]
    most: int = 32
    lease: float = fleet.LEASE
    stalls: int = 1
    files: frozenset[str] = field(default=frozenset(), repr=False)


def cold_callers(world: World) -> None:
    app = world.app()
    for _ in range(3):
        world.call(app)


def two_cold_callers(world: World) -> None:
    app = world.app()
    world.call(app)
    world.call(app)


def cold_callers_and_a_loop(world: World) -> None:
    app = world.app()
    world.call(app)
    world.loop(app, 2)


def instant_response(world: World) -> None:
    """The token arrives while others begin to wait for it."""
    cold_callers(world)
    world.lasts, world.latest = [0.0], 0.0


def loop_that_comes_late(world: World) -> None:
    """Its tasks need the token in the moment in which it arrives."""
    app = world.app()
    world.call(app)
    world.loop(app, 2, after=LASTS, latest=0.0)


def renewal(world: World) -> None:
    app = world.app()
    world.warm(app, wait=0.9 * LIFETIME)
    for _ in range(3):
        world.call(app)
    world.latest = 0.0


def expiry(world: World) -> None:
    """The token expires while it is renewed."""
    app = world.app()
    token = world.warm(app)
    world.schedule.time = world.began = token.usable_until - LASTS / 2
    world.call(app)
    world.call(app, after=LASTS / 2)
    world.call(app, after=LASTS)
    world.latest = LASTS / 2


def rejection(world: World) -> None:
    """One origin rejects the token. Calls to the other do not wait."""
    app = world.app()
    world.rejects[OTHER] = {world.warm(app, wait=60.0).authorization}
    world.call(app, f"{OTHER}/users")
    world.call(app, f"{ORG}/users", latest=0.0)
    world.call(app, f"{OTHER}/users")


def rejection_by_many(world: World) -> None:
    """More calls report the same token than an origin may force renewals."""
    app = world.app()
    world.rejects[OTHER] = {world.warm(app, wait=60.0).authorization}
    for number in range(5):
        world.call(app, f"{OTHER}/users", takes=number * LASTS / 10)
    world.latest = 2 * LASTS


def two_rejections(world: World) -> None:
    app = world.app()
    token = world.warm(app, wait=60.0)
    world.rejects[OTHER] = world.rejects[ORG] = {token.authorization}
    for origin in (OTHER, ORG, OTHER, ORG):
        world.call(app, f"{origin}/users")


def failed_fetch(world: World) -> None:
    app = world.app()
    world.answers, world.may_fail = ["refusal"], True
    for _ in range(3):
        world.call(app)


def reset_connection(world: World) -> None:
    app = world.app()
    world.answers, world.most_requests, world.latest = ["reset"], 2, 3.0
    for _ in range(2):
        world.call(app)


def closing(world: World) -> None:
    app = world.app()
    world.call(app)
    world.close(app)
    world.call(app)


def closing_in_mid_fetch(world: World) -> None:
    app = world.app()
    world.call(app)
    world.call(app, after=LASTS)
    world.close(app, after=LASTS)


def no_threads(world: World) -> None:
    """No thread can be started, so a caller runs the fetch."""
    world.schedule.has_threads = False
    app = world.app()
    for _ in range(3):
        world.call(app)
    # One caller may stall before it runs the fetch, which the others notice by a look. The one that then runs it may be killed
    # near its end, which they notice by another.
    world.latest = 2 * LASTS + LOOK


def patience(world: World) -> None:
    """The first request is slow. A second one goes out beside it, and no third."""
    app = world.app()
    world.lasts, world.most_requests, world.latest = [12.0, LASTS], 2, PATIENCE + LASTS
    for _ in range(2):
        world.call(app)


def line_of_fetches(world: World) -> None:
    """Three apps, and one fetch at a time."""
    for number in range(3):
        world.call(world.app(f"0oa{number}"))
    world.latest = 3 * LASTS


def jobs_in_a_line(world: World) -> None:
    """Whoever puts one may start the thread of another one's."""
    world.job()
    world.job(is_queued=True)
    world.job()
    world.latest = 4 * LASTS


def job_behind_another(world: World) -> None:
    """Nobody asks for the first one any more."""
    world.job(is_queued=True, is_asked_for=False)
    world.job(is_queued=True)
    world.latest = LOOK + 4 * LASTS


def shared_store(world: World) -> None:
    """Two processes without a token."""
    world.shared_store()
    for app in (world.app(), world.app()):
        world.call(app)
    world.latest = 2.0


def shared_store_and_an_instant_response(world: World) -> None:
    shared_store(world)
    world.lasts = [0.0]


def slow_request_with_a_store(world: World) -> None:
    """The token request takes longer than a claim lasts."""
    shared_store(world)
    world.lasts, world.latest = [3.0], 5.0


def two_arrivals(world: World) -> None:
    """Two tokens arrive in any order, as if an inline fetch had been suspended."""
    app = world.app()
    state, now = app.token_state, world.schedule.time
    for number in range(2):
        token = Token(f"token-{number}", "Bearer", app.scopes, LIFETIME, now - 2 + number)
        world.mint(token.authorization, app.client_id, token.sent_at)
        world.schedule.start("arrival", lambda token=token: state.obtained(token))
    world.latest = LASTS
    world.call(app)


CONVERSATION = frozenset({conversation.__file__})
SCENARIOS = {
    one.name: one
    for one in (
        Scenario("cold callers", cold_callers),
        Scenario("two cold callers", two_cold_callers),
        Scenario("cold callers and a loop", cold_callers_and_a_loop),
        Scenario("instant response", instant_response),
        Scenario("a loop that comes late", loop_that_comes_late),
        Scenario("renewal", renewal),
        Scenario("expiry", expiry),
        Scenario("rejection", rejection),
        Scenario("rejection by many", rejection_by_many),
        Scenario("two rejections", two_rejections),
        Scenario("failed fetch", failed_fetch),
        Scenario("reset connection", reset_connection),
        Scenario("closing", closing),
        Scenario("closing in mid-fetch", closing_in_mid_fetch),
        Scenario("no threads", no_threads),
        Scenario("patience", patience, files=CONVERSATION),
        Scenario("line of fetches", line_of_fetches, most=1),
        Scenario("jobs in a line", jobs_in_a_line),
        Scenario("a job behind another", job_behind_another),
        Scenario("shared store", shared_store),
        Scenario("shared store and an instant response", shared_store_and_an_instant_response),
        # Who is stalled for longer than a lease has lost the claim.
        Scenario("slow request with a store", slow_request_with_a_store, lease=1.0, stalls=0),
        Scenario("two arrivals", two_arrivals),
    )
}


# ── exploring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def attempt(
    scenario: Scenario, choose: Chooser, points: list[Point] | None = None
) -> tuple[Violation | None, Schedule]:
    """One run, and the promise that it breaks."""
    random.seed(1)
    schedule = Schedule(choose, FILES | scenario.files)
    line = partial(workers.Line, scenario.most, scenario.most)
    with replace_threads(schedule, line), pytest.MonkeyPatch.context() as patch:
        patch.setattr(fleet, "LEASE", scenario.lease)
        try:
            world = World(schedule)
            scenario.set_up(world)
            schedule.look, schedule.points = world.look, points
            schedule.run(explore=True)
            world.check_rest()
        except Violation as violation:
            return violation, schedule
    return None, schedule


def replay(name: str, choices: Choices) -> None:
    """Shows a failure again."""
    with quiet():
        violation, schedule = attempt(SCENARIOS[name], Exactly(choices))
    if violation is not None:
        places = "\n".join(schedule.places)
        raise Violation(f"{violation}\n  replay({name!r}, {schedule.choices})\n{places}")


def simplest_points(scenario: Scenario) -> list[Point]:
    """The points of the simplest schedule."""
    points: list[Point] = []
    with quiet():
        violation, _ = attempt(scenario, Exactly({}), points)
    if violation is not None:
        raise violation
    return points


def first_violation(scenario: Scenario, choosers: Iterable[Chooser]) -> tuple[int, Choices | None]:
    """The number of schedules that were explored, and the choices of the first that breaks a promise, without those that
    do not matter."""
    explored = 0
    with quiet():
        for choose in choosers:
            explored += 1
            violation, schedule = attempt(scenario, choose)
            if explored % 20 == 0:
                gc.collect(0)
            if violation is not None:
                return explored, shorten(scenario, schedule.choices)
    return explored, None


def shorten(scenario: Scenario, choices: Choices) -> Choices:
    """Fewer choices that break a promise too."""
    size = len(choices)
    while size:
        numbers = sorted(choices)
        for first in range(0, len(numbers), size):
            fewer = {number: choices[number] for number in numbers if number not in numbers[first : first + size]}
            violation, schedule = attempt(scenario, Exactly(fewer))
            if violation is not None and len(schedule.choices) < len(choices):
                choices = schedule.choices
                break
        else:
            size //= 2
    return choices


def explore(scenario: Scenario, choosers: Iterable[Chooser]) -> int:
    """The number of schedules, none of which breaks a promise."""
    explored, choices = first_violation(scenario, choosers)
    if choices is not None:
        replay(scenario.name, choices)
        raise AssertionError(f"not deterministic: replay({scenario.name!r}, {choices})")
    return explored


FEW = range(30)
MANY = range(300)
LENGTHS: dict[str, int] = {}


def walks(scenario: Scenario, seeds: range, *, stalls: int = 0, kills: int = 0) -> Iterator[Chooser]:
    """Random schedules, in which so many threads are stalled, and so many callers killed."""
    length = LENGTHS.get(scenario.name) or LENGTHS.setdefault(scenario.name, len(simplest_points(scenario)))
    return (Walk(seed, length, stalls=min(stalls, scenario.stalls), kills=kills) for seed in seeds)


def each_pair(scenario: Scenario) -> Iterator[Chooser]:
    """All schedules with two switches more than the simplest one."""
    for first in each_switch(simplest_points(scenario)):
        points: list[Point] = []
        attempt(scenario, first, points)
        for second in each_switch(points):
            if max(second.choices) > max(first.choices):
                yield Exactly({**first.choices, **second.choices})


WALKS: dict[str, Callable[[Scenario, range], Iterator[Chooser]]] = {
    "switches": walks,
    "switches and a stall": partial(walks, stalls=1),
    "switches and a kill": partial(walks, kills=1),
    "switches, a stall and a kill": partial(walks, stalls=1, kills=1),
}
EACH: dict[str, Callable[[Scenario], Iterator[Chooser]]] = {
    "each switch": lambda scenario: each_switch(simplest_points(scenario)),
    "each stall": lambda scenario: each_stall(simplest_points(scenario) if scenario.stalls else []),
    "each kill": lambda scenario: each_kill(simplest_points(scenario)),
    "each switch and kill": lambda scenario: each_switch_and_kill(simplest_points(scenario)),
}


@pytest.fixture(autouse=True)
def _no_log() -> Iterator[None]:
    """Nothing is decided by what is logged, and it takes a third of the time."""
    logger = logging.getLogger("okta_m2m")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)


@pytest.fixture(params=SCENARIOS.values(), ids=list(SCENARIOS))
def scenario(request: pytest.FixtureRequest) -> Scenario:
    return request.param


@pytest.mark.parametrize("kind", list(WALKS)[:3])
def test_any_order_of_lines_keeps_the_promises(scenario: Scenario, kind: str) -> None:
    explore(scenario, WALKS[kind](scenario, FEW))


@pytest.mark.matrix
@pytest.mark.parametrize("kind", WALKS)
def test_many_more_orders_of_lines_keep_the_promises(scenario: Scenario, kind: str) -> None:
    explore(scenario, WALKS[kind](scenario, MANY[len(FEW) :]))


@pytest.mark.matrix
@pytest.mark.parametrize("kind", EACH)
def test_a_disturbance_at_each_line_breaks_no_promise(scenario: Scenario, kind: str) -> None:
    """A thread that stands still, or a caller that is killed, costs the others at most that time, and one look."""
    explore(scenario, EACH[kind](scenario))


@pytest.mark.matrix
def test_two_switches_between_two_cold_callers_keep_the_promises() -> None:
    """A sixth of all pairs of lines: all of them take some minutes."""
    scenario = SCENARIOS["two cold callers"]
    explore(scenario, islice(each_pair(scenario), 0, None, 6))


def test_the_same_choices_give_the_same_schedule(scenario: Scenario) -> None:
    seen = []
    for _ in range(2):
        points: list[Point] = []
        with quiet():
            _, schedule = attempt(scenario, Walk(3, 500), points)
        seen.append((schedule.choices, schedule.places, [(point.running, point.others) for point in points]))
    assert seen[0] == seen[1]


# ── planted bugs ─────────────────────────────────────────────────────────────────────────────────────────────────────

PLANTED: dict[str, tuple[str, str, Any, str, tuple[tuple[str, str], ...]]] = {
    "next_step without the mutex": (
        "cold callers",
        "switches",
        TokenState,
        "next_step",
        (("with mutex():", "if True:"),),
    ),
    "an ended flight stays under way": (
        "cold callers",
        "switches",
        TokenState,
        "_end",
        (("self._flight = None", "pass"),),
    ),
    "a waiting thread looks before it can be woken": (
        "instant response",
        "switches",
        landings._WaitingThreads,
        "wait",
        (
            ("    self._locks.append(lock)\n", "    has_landed = self._has_landed\n    self._locks.append(lock)\n"),
            ("if not self._has_landed:", "if not has_landed:"),
        ),
    ),
    "threads are woken before they see that it has landed": (
        "instant response",
        "switches",
        landings._WaitingThreads,
        "wake",
        (
            ("    self._has_landed = True\n", ""),
            ("    self._locks.clear()\n", "    self._locks.clear()\n    self._has_landed = True\n"),
        ),
    ),
    "a loop that comes to a landed flight is not woken": (
        "a loop that comes late",
        "switches",
        waiting,
        "_waiters_of",
        (("landing.add_done_callback(", "landing.done() or landing.add_done_callback("),),
    ),
    "an older token replaces a later one": (
        "two arrivals",
        "switches",
        TokenState,
        "obtained",
        (("later = used is None or token.sent_at > used.sent_at or not used.usable(self.now())", "later = True"),),
    ),
    "a token is fresh before it is in use": (
        "expiry",
        "switches",
        TokenState,
        "_use",
        (("    self._renew_at = renew_at\n", "    self._renew_at = self.fresh_until = renew_at\n"),),
    ),
    "a token is not put into use": (
        "cold callers",
        "switches",
        Fetching,
        "_exchange",
        (("    self._take(token)\n", ""),),
    ),
    "an abandoned fetch begins": (
        "cold callers",
        "switches and a stall",
        TokenState,
        "begin",
        (("return False", "pass"),),
    ),
    "a fetch is given up while it begins": (
        "cold callers",
        "switches and a stall",
        TokenState,
        "_give_up_lost",
        (("unless_begun=may_begin", "unless_begun=False"),),
    ),
    "a flight is no longer under way before it has ended": (
        "cold callers",
        "switches, a stall and a kill",
        TokenState,
        "_end",
        (
            (
                "    is_first = flight.outcome is None\n",
                "    is_first = flight.outcome is None\n    self._flight = None\n",
            ),
        ),
    ),
    "a fetch that has begun is given up with its starter": (
        "cold callers",
        "each switch and kill",
        Fetching,
        "_start",
        (("unless_begun=not runs_here", "unless_begun=False"),),
    ),
    "a fetch that nobody started is not given up": (
        "cold callers",
        "each kill",
        Flight,
        "is_lost",
        (("return not self._began and now >= self._requested + LOOK", "return False"),),
    ),
    "a fetch that ran in its killed caller is not given up": (
        "no threads",
        "each kill",
        Fetching,
        "_start",
        (("unless_begun=not runs_here", "unless_begun=True"),),
    ),
    "a line waits for a thread that was not started": (
        "line of fetches",
        "each kill",
        workers.Line,
        "move_on",
        (("self._give_up(job)", "pass"),),
    ),
    "a job that runs counts as ended if its starter is killed": (
        "jobs in a line",
        "each switch and kill",
        workers.Line,
        "_give_up",
        (('if job.state in ("running", "ended"):', "if False:"),),
    ),
    "the job of a killed caller holds up the line": (
        "a job behind another",
        "switches",
        workers.Line,
        "move_on_for",
        (("if is_first or time.monotonic() >= self._moved_at + LOOK:", "if is_first:"),),
    ),
    "a line forgets to move on": (
        "line of fetches",
        "switches",
        workers.Line,
        "_work",
        (("job = self._next()", "job = None"),),
    ),
    "close forgets that it is closed": (
        "closing",
        "switches",
        TokenState,
        "close",
        (("self.is_closed, self._rejected_by = True, {}", "self._rejected_by = {}"),),
    ),
    "a token that arrives after the end is put into use": (
        "closing",
        "switches",
        TokenState,
        "obtained",
        (("if later and not self.is_closed:", "if later:"),),
    ),
    "a second report of a token counts": (
        "rejection by many",
        "switches",
        TokenState,
        "rejected",
        (("if not is_current or self._rejected_by.get(origin) == digest:", "if not is_current:"),),
    ),
    "a rejection concerns all origins": (
        "rejection",
        "switches",
        TokenState,
        "next_step",
        (("self._rejected_by.get(origin) != token.digest", "not self._rejected_by"),),
    ),
    "the store is not read again after the claim": (
        "shared store and an instant response",
        "switches",
        fleet.Fleet,
        "_fetch_with_claim",
        (("found = yield from self._load(places, is_wanted)", "found = None"),),
    ),
    "a token is saved after the claim is released": (
        "shared store",
        "switches",
        fleet.Fleet,
        "_keep_claim",
        (
            (
                "    if claimed.fetched is not None:\n",
                "    yield from self._release(place.key, owner)\n    if claimed.fetched is not None:\n",
            ),
        ),
    ),
    "a claim is not extended": (
        "slow request with a store",
        "switches",
        fleet.Fleet,
        "_keep_claim",
        (("if not (yield from Claim(self.store, self._timeout, place.key, owner, LEASE)):", "if False:"),),
    ),
    "a third request goes out": (
        "patience",
        "switches",
        conversation.Conversation,
        "_may_ask",
        (("len(self._open) == 1 and ", ""),),
    ),
    "a second request goes out too early": (
        "patience",
        "switches",
        conversation.Conversation,
        "_moment_beside",
        (("+ PATIENCE", "+ PATIENCE / 2"),),
    ),
}
"""What is wrong: the scenario and the kind of schedules that show it, the function, and what is replaced in its source."""

RARE = {"a fetch is given up while it begins": range(1500)}
"""Those that need more random schedules than others."""


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.matrix) if one in RARE else one for one in PLANTED]
)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By schedules that find nothing without it, and then it is shown again."""
    scenario = SCENARIOS[PLANTED[name][0]]
    if name in RARE:
        explore(scenario, schedules_for(name))
    explored, choices = find_planted_bug(name, monkeypatch)
    print(f"found by schedule {explored}")
    assert choices is not None
    with pytest.raises(Violation, match="replay"):
        replay(scenario.name, choices)


def schedules_for(name: str) -> Iterator[Chooser]:
    scenario, kind = SCENARIOS[PLANTED[name][0]], PLANTED[name][1]
    return EACH[kind](scenario) if kind in EACH else WALKS[kind](scenario, RARE.get(name, MANY))


def find_planted_bug(name: str, patch: pytest.MonkeyPatch) -> tuple[int, Choices | None]:
    """The number of schedules until it is found, and the choices of the last."""
    scenario, _, owner, function, changes = PLANTED[name]
    choosers = list(schedules_for(name))  # before it is planted
    plant(patch, owner, function, *changes)
    return first_violation(SCENARIOS[scenario], choosers)
