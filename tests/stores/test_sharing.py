"""One app, one token: shared by any number of threads, event loops and processes, whatever becomes of any of them.

Everything here speaks over real sockets. Where a caller has to be stopped in mid-request, the server holds its answer
back until it was; nothing waits for time to pass.
"""

from __future__ import annotations

import asyncio
import contextvars
import faulthandler
import gc
import http.client
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx
import pytest
import requests
import trio
import trio.testing

import okta_m2m.aiohttp
import okta_m2m.httpx
import okta_m2m.requests
from front import Exchange, Front
from okta_m2m import OktaM2MError, PrivateKey, ServiceApp, Token, TokenUnreachable
from okta_m2m._base.clocks import Clock
from okta_m2m._threads import workers
from okta_m2m.effects import Effect, Request, Response, SendFailed, Wait
from okta_m2m.errors import InvalidClient
from okta_m2m.runtimes import Asyncio, Threads, Trio, arun, run
from okta_m2m.testing import FakeOkta

TOKEN_PATH = "/oauth2/v1/token"
PATIENCE = 30
"""Seconds after which a test hangs: an error instead of a test run that stands still."""


# ── what the tests are made of ───────────────────────────────────────────────────────────────────────────────────────


class Hands:
    """A clock that can be put forward, and the org's with it."""

    def __init__(self, okta: FakeOkta) -> None:
        self._okta = okta
        self._forward = 0.0
        self.wall_forward = 0.0
        self.on_reading: Callable[[], None] = lambda: None

    @property
    def forward(self) -> float:
        return self._forward

    @forward.setter
    def forward(self, seconds: float) -> None:
        self._forward = seconds
        self._okta.skew(seconds=seconds)

    @property
    def clock(self) -> Clock:
        return Clock(now=self._now, wall=lambda: time.time() + self.wall_forward)

    def _now(self) -> float:
        self.on_reading()
        return time.monotonic() + self._forward


class Gate:
    """The token endpoint at the front: holds requests back until it is opened; those of ``lost`` are never answered."""

    def __init__(self, front: Front) -> None:
        self.requests = 0
        self.lost: set[int] = set()
        self.arrived: dict[int, threading.Event] = {}
        self._opened = threading.Event()
        self._ended = threading.Event()
        self._mutex = threading.Lock()
        front.pages[TOKEN_PATH] = self._page

    def _page(self, exchange: Exchange) -> object:
        with self._mutex:
            self.requests += 1
            number = self.requests
        self.nth(number).set()
        if number in self.lost:
            return self._ended.wait(PATIENCE)
        self._opened.wait(PATIENCE)
        return False

    def nth(self, number: int) -> threading.Event:
        with self._mutex:
            return self.arrived.setdefault(number, threading.Event())

    def open(self) -> None:
        self._opened.set()

    def close(self) -> None:
        self._opened.clear()

    def end(self) -> None:
        self._opened.set()
        self._ended.set()


@pytest.fixture
def hands(okta: FakeOkta) -> Hands:
    return Hands(okta)


@pytest.fixture
def gate(front: Front) -> Iterator[Gate]:
    gate = Gate(front)
    yield gate
    gate.end()


@pytest.fixture
def gated(okta: FakeOkta, front: Front, gate: Gate, ec_key: PrivateKey, hands: Hands) -> Callable[..., ServiceApp]:
    """``gated(**arguments)``: an app whose token requests meet the gate."""

    def made(**arguments: Any) -> ServiceApp:
        registered = okta.add_app(ec_key, ["okta.users.read"])
        arguments = {"scopes": ["okta.users.read"], "clock": hands.clock, **arguments}
        return ServiceApp(front.url, client_id=registered.client_id, key=ec_key, **arguments)

    return made


def send(request: Request, timeout: float) -> Response:
    """A token request over a socket of its own."""
    target = urlsplit(request.url)
    connection = http.client.HTTPConnection(target.netloc, timeout=timeout)
    try:
        connection.request(request.method, target.path, request.body, dict(request.headers))
        answer = connection.getresponse()
        return Response(answer.status, answer.getheaders(), answer.read())
    except OSError as error:
        raise SendFailed(str(error)) from error
    finally:
        connection.close()


class Noting(Threads):
    """Threads, that say when one begins to wait for another's flight."""

    def __init__(self, sender: Callable[[Request, float], Response] = send) -> None:
        super().__init__(sender)
        self.waiting = threading.Semaphore(0)

    def perform(self, effect: Effect[Any]) -> Any:
        if isinstance(effect, Wait):
            self.waiting.release()
        return super().perform(effect)

    def await_waiting(self, number: int) -> None:
        for _ in range(number):
            assert self.waiting.acquire(timeout=PATIENCE), "nobody waits for the flight"


def in_thread(function: Callable[[], Any]) -> Future[Any]:
    """Runs it in a daemon thread; what it raises, ``BaseException`` included, is the future's."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def tokens(futures: list[Future[Token]]) -> set[str]:
    return {future.result(PATIENCE).value for future in futures}


def hurry_renewal(hands: Hands) -> None:
    """To where a token of one hour has to be renewed, and still works."""
    hands.forward += 3000.0


# ── from cold ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_500_threads_from_cold_make_one_token_request(okta: FakeOkta, new_service: Callable[..., ServiceApp]) -> None:
    auth = okta_m2m.requests.OktaAuth(new_service(okta))
    start = threading.Barrier(500)

    def call() -> Token:
        start.wait(PATIENCE)
        return auth.token()

    got = tokens([in_thread(call) for _ in range(500)])
    assert len(got) == 1
    assert okta.token_requests == 1


@pytest.mark.parametrize("module", [okta_m2m.aiohttp, okta_m2m.httpx])
def test_5000_tasks_from_cold_make_one_token_request(
    okta: FakeOkta, new_service: Callable[..., ServiceApp], module: Any
) -> None:
    auth = module.OktaAuth(new_service(okta))

    async def main() -> set[str]:
        return {token.value for token in await asyncio.gather(*(auth.atoken() for _ in range(5000)))}

    assert len(asyncio.run(main())) == 1
    assert okta.token_requests == 1


def test_1000_trio_tasks_from_cold_make_one_token_request(
    okta: FakeOkta, new_service: Callable[..., ServiceApp]
) -> None:
    auth = okta_m2m.httpx.OktaAuth(new_service(okta))
    got: set[str] = set()

    async def call() -> None:
        got.add((await auth.atoken()).value)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(call)

    trio.run(main)
    assert len(got) == 1
    assert okta.token_requests == 1


def test_300_aiohttp_calls_from_cold_make_one_token_request(
    okta: FakeOkta, new_service: Callable[..., ServiceApp]
) -> None:
    app = new_service(okta)

    async def main() -> set[int]:
        async with aiohttp.ClientSession(middlewares=[okta_m2m.aiohttp.OktaAuth(app)]) as session:

            async def call() -> int:
                async with session.get(f"{okta.url}/api/v1/users") as response:
                    return response.status

            return set(await asyncio.gather(*(call() for _ in range(300))))

    assert asyncio.run(main()) == {200}
    assert okta.token_requests == 1


def test_event_loops_in_threads_trio_and_plain_threads_share_one_token_request(
    okta: FakeOkta, gate: Gate, gated: Callable[..., ServiceApp]
) -> None:
    app = gated()
    start = threading.Barrier(4 + 4 + 2)

    def asyncio_loop() -> set[str]:
        auth = okta_m2m.httpx.OktaAuth(app)

        async def main() -> set[str]:
            return {token.value for token in await asyncio.gather(*(auth.atoken() for _ in range(50)))}

        start.wait(PATIENCE)
        return asyncio.run(main())

    def trio_loop() -> set[str]:
        auth = okta_m2m.httpx.OktaAuth(app)
        got: set[str] = set()

        async def call() -> None:
            got.add((await auth.atoken()).value)

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(50):
                    nursery.start_soon(call)

        start.wait(PATIENCE)
        trio.run(main)
        return got

    def thread() -> set[str]:
        start.wait(PATIENCE)
        return {okta_m2m.requests.OktaAuth(app).token().value}

    futures = [in_thread(kind) for kind in [asyncio_loop] * 4 + [trio_loop] * 2 + [thread] * 4]
    assert gate.nth(1).wait(PATIENCE)
    gate.open()
    got = set().union(*(future.result(PATIENCE) for future in futures))
    assert len(got) == 1
    assert (gate.requests, okta.token_requests) == (1, 1)


def test_calls_of_every_client_at_once_share_one_token(okta: FakeOkta, new_service: Callable[..., ServiceApp]) -> None:
    app = new_service(okta)
    url = f"{okta.url}/api/v1/users"

    def with_requests() -> set[int]:
        with requests.Session() as session:
            session.auth = okta_m2m.requests.OktaAuth(app)
            return {session.get(url, timeout=PATIENCE).status_code for _ in range(5)}

    def with_httpx() -> set[int]:
        with httpx.Client(auth=okta_m2m.httpx.OktaAuth(app)) as client:
            return {client.get(url).status_code for _ in range(5)}

    def with_httpx_async(run_loop: Callable[..., Any]) -> set[int]:
        async def main() -> set[int]:
            async with httpx.AsyncClient(auth=okta_m2m.httpx.OktaAuth(app)) as client:
                return {(await client.get(url)).status_code for _ in range(5)}

        got: set[int] = run_loop(main) if run_loop is trio.run else asyncio.run(main())
        return got

    works = [with_requests, with_httpx, lambda: with_httpx_async(asyncio.run), lambda: with_httpx_async(trio.run)]
    with ThreadPoolExecutor(8) as pool:
        assert set().union(*pool.map(lambda work: work(), works * 2)) == {200}
    assert okta.token_requests == 1


# ── a leader that is cancelled, or dies ──────────────────────────────────────────────────────────────────────────────


class Exit(SystemExit):
    pass


@pytest.mark.parametrize("death", [KeyboardInterrupt, Exit, GeneratorExit])
def test_a_fetch_whose_thread_dies_is_done_by_another(
    gate: Gate, gated: Callable[..., ServiceApp], death: type[BaseException]
) -> None:
    app = gated()
    dying = threading.Event()

    def send_and_die(request: Request, timeout: float) -> Response:
        gate.nth(0).set()
        if dying.is_set():
            return send(request, timeout)
        dying.wait(PATIENCE)
        raise death

    first = in_thread(lambda: run(app.obtain(), Threads(send_and_die)))
    assert gate.nth(0).wait(PATIENCE)
    others = Noting()
    followers = [in_thread(lambda: run(app.obtain(), others)) for _ in range(20)]
    others.await_waiting(20)
    gate.open()
    dying.set()
    assert len(tokens([first, *followers])) == 1
    assert gate.requests == 1


@pytest.mark.parametrize("how", ["cancel", "wait_for", "timeout"])
def test_a_task_that_is_cancelled_ends_only_itself_and_not_the_fetch_that_it_began(
    gate: Gate, gated: Callable[..., ServiceApp], how: str
) -> None:
    app = gated()

    async def obtain() -> Token:
        return await arun(app.obtain(), Asyncio(send))

    async def main() -> set[str]:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        limits: list[asyncio.Timeout] = []

        async def begin() -> None:
            try:
                if how == "wait_for":
                    await asyncio.wait_for(obtain(), timeout=0.2)  # its first step takes it to where it waits
                else:
                    async with asyncio.timeout(None) as limit:
                        limits.append(limit)
                        await obtain()
            except (TimeoutError, asyncio.CancelledError):
                ended.set()

        first = asyncio.create_task(begin())
        assert await asyncio.to_thread(gate.nth(1).wait, PATIENCE)
        followers = [asyncio.create_task(obtain()) for _ in range(50)]
        await asyncio.sleep(0)
        if how == "cancel":
            first.cancel()
        elif how == "timeout":
            limits[0].reschedule(loop.time())
        await ended.wait()
        gate.open()
        return {token.value for token in await asyncio.wait_for(asyncio.gather(*followers), PATIENCE)}

    assert len(asyncio.run(main())) == 1
    assert gate.requests == 1


def test_a_trio_task_that_is_cancelled_ends_only_itself_and_not_the_fetch_that_it_began(
    gate: Gate, gated: Callable[..., ServiceApp]
) -> None:
    app = gated()
    got: list[str] = []

    async def follow() -> None:
        got.append((await arun(app.obtain(), Trio(send))).value)

    async def main() -> None:
        scope = trio.CancelScope()

        async def begin() -> None:
            with scope:
                await arun(app.obtain(), Trio(send))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin)
            await trio.to_thread.run_sync(gate.nth(1).wait, PATIENCE)
            for _ in range(50):
                nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            gate.open()

    trio.run(main)
    assert len(got) == 50
    assert len(set(got)) == 1
    assert gate.requests == 1


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_fetch_continues_when_the_loop_of_its_caller_ends(
    gate: Gate, gated: Callable[..., ServiceApp], loop: str
) -> None:
    app = gated()
    others = Noting()
    followers: list[Future[Token]] = []

    def follow() -> None:
        assert gate.nth(1).wait(PATIENCE)
        followers.extend(in_thread(lambda: run(app.obtain(), others)) for _ in range(20))
        others.await_waiting(20)

    async def main_of_asyncio() -> None:
        waiting = asyncio.create_task(arun(app.obtain(), Asyncio(send)))
        await asyncio.to_thread(follow)
        waiting.cancel()

    async def main_of_trio() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(arun, app.obtain(), Trio(send))
            await trio.to_thread.run_sync(follow)
            nursery.cancel_scope.cancel()

    if loop == "asyncio":
        asyncio.run(main_of_asyncio())
    else:
        trio.run(main_of_trio)
    gate.open()
    assert len(tokens(followers)) == 1
    assert gate.requests == 1


def test_a_fetch_has_the_context_variables_of_its_caller_and_a_renewal_has_none(
    gate: Gate, gated: Callable[..., ServiceApp], hands: Hands
) -> None:
    trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="none")
    seen: list[str] = []

    def send_traced(request: Request, timeout: float) -> Response:
        seen.append(trace.get())
        return send(request, timeout)

    async def on_asyncio(app: ServiceApp) -> None:
        first = await arun(app.obtain(), Asyncio(send_traced))
        hurry_renewal(hands)
        while await arun(app.obtain(), Asyncio(send_traced)) is first:
            await asyncio.sleep(0.01)

    async def on_trio(app: ServiceApp) -> None:
        first = await arun(app.obtain(), Trio(send_traced))
        hurry_renewal(hands)
        while await arun(app.obtain(), Trio(send_traced)) is first:
            await trio.sleep(0.01)

    def in_threads(app: ServiceApp) -> None:
        first = run(app.obtain(), Threads(send_traced))
        hurry_renewal(hands)
        while run(app.obtain(), Threads(send_traced)) is first:
            time.sleep(0.01)

    gate.open()
    trace.set("the request's")
    for go in (in_threads, lambda app: asyncio.run(on_asyncio(app)), lambda app: trio.run(on_trio, app)):
        seen.clear()
        hands.forward = 0.0
        go(gated())
        assert seen[0] == "the request's"
        assert set(seen[1:]) == {"none"}


def test_a_cancelled_follower_cancels_nobody_else(gate: Gate, gated: Callable[..., ServiceApp]) -> None:
    app = gated()

    async def obtain() -> Token:
        return await arun(app.obtain(), Asyncio(send))

    async def main() -> list[object]:
        tasks = [asyncio.create_task(obtain()) for _ in range(20)]
        await asyncio.to_thread(gate.nth(1).wait, PATIENCE)
        for task in tasks[10:]:
            task.cancel()
        await asyncio.sleep(0)
        gate.open()
        return await asyncio.gather(*tasks, return_exceptions=True)

    ended = asyncio.run(main())
    assert all(isinstance(one, Token) for one in ended[:10])
    assert all(isinstance(one, asyncio.CancelledError) for one in ended[10:])
    assert gate.requests == 1


def test_a_blocked_event_loop_delays_no_other_caller_of_the_same_fetch(
    gate: Gate, gated: Callable[..., ServiceApp]
) -> None:
    app = gated()
    loop = asyncio.new_event_loop()
    task = loop.create_task(arun(app.obtain(), Asyncio(send)))
    loop.run_until_complete(asyncio.wait({loop.run_in_executor(None, gate.nth(1).wait, PATIENCE)}))
    gate.open()
    token = run(app.obtain(), Threads(send))
    assert loop.run_until_complete(task) is token
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert gate.requests == 1


@pytest.mark.parametrize("runtime", ["threads", "asyncio", "trio"])
def test_a_caller_that_waits_for_a_hanging_fetch_raises_when_its_max_wait_is_over(
    gate: Gate, gated: Callable[..., ServiceApp], runtime: str
) -> None:
    app = gated(max_wait=0.2)

    def hang(request: Request, timeout: float) -> Response:
        gate.nth(0).set()
        gate.nth(-1).wait(PATIENCE)
        raise SendFailed("at last")

    leader = in_thread(lambda: run(app.obtain(), Threads(hang)))
    assert gate.nth(0).wait(PATIENCE)

    async def main(loop: Asyncio | Trio) -> Token:
        return await arun(app.obtain(), loop)

    follow: dict[str, Callable[[], Token]] = {
        "threads": lambda: run(app.obtain(), Threads(send)),
        "asyncio": lambda: asyncio.run(main(Asyncio(send))),
        "trio": lambda: trio.run(main, Trio(send)),
    }
    with pytest.raises(TokenUnreachable):
        follow[runtime]()
    gate.nth(-1).set()
    assert isinstance(leader.exception(PATIENCE), TokenUnreachable)
    assert gate.requests == 0


# ── a leader that fails ──────────────────────────────────────────────────────────────────────────────────────────────


def _everywhere(app: ServiceApp, gate: Gate) -> list[OktaM2MError]:
    """A leader in a thread; followers in threads, an asyncio loop and a trio run; what each of them raised."""
    noting = Noting()
    ready = threading.Barrier(3)
    leader = in_thread(lambda: run(app.obtain(), noting))
    assert gate.nth(1).wait(PATIENCE)
    followers = [in_thread(lambda: run(app.obtain(), noting)) for _ in range(5)]
    noting.await_waiting(5)

    def asyncio_loop() -> list[BaseException]:
        async def main() -> list[Any]:
            tasks = [asyncio.create_task(arun(app.obtain(), Asyncio(send))) for _ in range(5)]
            await asyncio.sleep(0)
            ready.wait(PATIENCE)
            return await asyncio.gather(*tasks, return_exceptions=True)

        return asyncio.run(main())

    def trio_loop() -> list[BaseException]:
        raised: list[BaseException] = []

        async def follow() -> None:
            try:
                await arun(app.obtain(), Trio(send))
            except OktaM2MError as error:
                raised.append(error)

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(follow)
                await trio.testing.wait_all_tasks_blocked()
                ready.wait(PATIENCE)

        trio.run(main)
        return raised

    loops = [in_thread(asyncio_loop), in_thread(trio_loop)]
    ready.wait(PATIENCE)
    gate.open()
    raised = [future.exception(PATIENCE) for future in (leader, *followers)]
    raised += [error for loop in loops for error in loop.result(PATIENCE)]
    assert len(raised) == 16
    assert all(isinstance(error, OktaM2MError) for error in raised)
    return raised  # type: ignore[return-value]  # as just asserted


def test_one_refusal_raises_a_separate_exception_in_each_caller(
    okta: FakeOkta, gate: Gate, gated: Callable[..., ServiceApp]
) -> None:
    okta.next("client_assertion_invalid_kid")
    raised = _everywhere(gated(), gate)
    assert {type(error) for error in raised} == {InvalidClient}
    assert len({id(error) for error in raised}) == 16
    assert gate.requests == 1


def test_an_unreachable_endpoint_raises_a_separate_exception_in_each_caller(
    okta: FakeOkta, gate: Gate, gated: Callable[..., ServiceApp]
) -> None:
    okta.next(503, times=100)
    raised = _everywhere(gated(max_wait=2.0), gate)
    assert {type(error) for error in raised} == {TokenUnreachable}
    assert len({id(error) for error in raised}) == 16


# ── fork ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")


def strangers_have_ended() -> None:
    """Waits until no thread is ending: the servers of the test sign in this process, and OpenSSL supports no fork meanwhile.

    For threads of the product, the product waits itself.
    """
    if sys.platform != "linux":
        return
    deadline, quiet = time.monotonic() + 2, 0  # a thread that Python does not know may also stay
    while quiet < 3 and time.monotonic() < deadline:
        known = {str(thread.native_id) for thread in threading.enumerate()}
        quiet = quiet + 1 if set(os.listdir("/proc/self/task")) <= known else 0
        time.sleep(0.003)


def in_child(work: Callable[[], str]) -> str:
    """Forks; gives what ``work`` gave in the child. A child that hangs says where on stderr."""
    strangers_have_ended()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that threads are there is just what is tested
        child = os.fork()
    if child == 0:
        status = 1
        try:
            faulthandler.dump_traceback_later(PATIENCE / 2, file=2)
            os.close(reading)
            with os.fdopen(writing, "w") as pipe:
                pipe.write(work())
            status = 0
        except BaseException as error:
            with os.fdopen(os.dup(2), "w") as stderr:
                stderr.write(f"in the child: {error!r}\n")
        finally:
            os._exit(status)
    os.close(writing)
    watchdog = threading.Timer(PATIENCE, os.kill, (child, signal.SIGKILL))
    watchdog.start()
    try:
        with os.fdopen(reading) as pipe:
            answer = pipe.read()
    finally:
        _, ended = os.waitpid(child, 0)
        watchdog.cancel()
    status = os.waitstatus_to_exitcode(ended)
    assert status == 0, f"the child ended with {status}"
    return answer


@pytest.mark.skipif(sys.platform != "linux", reason="what threads there are is read from /proc")
def test_a_fork_waits_until_a_thread_that_signed_has_ended() -> None:
    signed = threading.Event()

    def sign() -> None:
        PrivateKey.generate("ES256").sign(b"")
        signed.set()
        time.sleep(workers.YOUNG / 2)

    thread = workers.start_thread(sign, "fetch")
    assert thread is not None
    signed.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os._exit(0)
    still_there = os.path.exists(f"/proc/self/task/{thread.native_id}")
    os.waitpid(child, 0)
    assert not still_there


@needs_fork
def test_a_fork_in_mid_fetch_leaves_parent_and_child_working(gate: Gate, gated: Callable[..., ServiceApp]) -> None:
    app = gated()
    leader = in_thread(lambda: run(app.obtain(), Threads(send)))
    assert gate.nth(1).wait(PATIENCE)
    opener = in_thread(lambda: gate.nth(2).wait(PATIENCE) and gate.open())
    childs = in_child(lambda: run(app.obtain(), Threads(send)).value)
    opener.result(PATIENCE)
    parents = leader.result(PATIENCE).value
    assert childs
    assert childs != parents
    assert gate.requests == 2
    assert run(app.obtain(), Threads(send)).value == parents


@needs_fork
def test_a_child_forked_while_another_thread_makes_a_call_works(
    gate: Gate, gated: Callable[..., ServiceApp], hands: Hands
) -> None:
    gate.open()
    app = gated()
    token = run(app.obtain(), Threads(send))
    inside, leave = threading.Event(), threading.Event()

    def reject() -> Token:
        # A rejection reads the clock while it changes the state that all threads share.
        here = threading.get_ident()

        def stay() -> None:
            if threading.get_ident() == here and not inside.is_set():
                inside.set()
                leave.wait(PATIENCE)

        hands.on_reading = stay
        return run(app.obtain(rejected=token), Threads(send))

    other = in_thread(reject)
    assert inside.wait(PATIENCE)
    try:
        childs = in_child(lambda: run(app.obtain(), Threads(send)).value)
    finally:
        leave.set()
    assert childs
    assert other.result(PATIENCE).value != token.value


@needs_fork
def test_forked_workers_keep_using_the_token_of_their_parent(gate: Gate, gated: Callable[..., ServiceApp]) -> None:
    gate.open()
    app = gated()
    token = run(app.obtain(), Threads(send))
    assert in_child(lambda: run(app.obtain(), Threads(send)).value) == token.value
    assert gate.requests == 1


@needs_fork
@pytest.mark.matrix
def test_forked_workers_do_not_all_renew_when_their_parent_would_have(
    gate: Gate, gated: Callable[..., ServiceApp], hands: Hands
) -> None:
    gate.open()
    app = gated()
    run(app.obtain(), Threads(send))
    hands.forward = app.token_state.fresh_until - time.monotonic() + 0.01

    def next_look() -> str:
        run(app.obtain(), Threads(send))
        return str(app.token_state.fresh_until)

    looks = {float(in_child(next_look)) for _ in range(4)}
    assert len(looks) > 1, "not all at one moment"
    assert min(looks) > app.token_state.fresh_until
    assert gate.requests == 1


# ── renewal in the background ────────────────────────────────────────────────────────────────────────────────────────


def _asyncio_run(app: ServiceApp, gate: Gate) -> Token:
    async def main() -> Token:
        token = await arun(app.obtain(), Asyncio(send))
        await asyncio.to_thread(gate.nth(2).wait, PATIENCE)
        return token

    return asyncio.run(main())


def _trio_run(app: ServiceApp, gate: Gate) -> Token:
    async def main() -> Token:
        token = await arun(app.obtain(), Trio(send))
        await trio.to_thread.run_sync(gate.nth(2).wait, PATIENCE)
        return token

    return trio.run(main)


@pytest.mark.parametrize("loop", [_asyncio_run, _trio_run])
def test_a_renewal_continues_when_the_loop_of_its_caller_ends(
    gate: Gate,
    gated: Callable[..., ServiceApp],
    hands: Hands,
    caplog: pytest.LogCaptureFixture,
    loop: Callable[[ServiceApp, Gate], Token],
) -> None:
    renewed = threading.Event()
    app = gated(on_event=lambda event: event.background and renewed.set())
    gate.open()
    first = run(app.obtain(), Threads(send))
    gate.close()
    hurry_renewal(hands)
    assert loop(app, gate).value == first.value
    gc.collect()
    gate.open()
    assert renewed.wait(PATIENCE)
    assert run(app.obtain(), Threads(send)).value != first.value
    assert gate.requests == 2
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_if_no_thread_can_be_started_a_fetch_runs_inline_and_a_renewal_does_not_run(
    gate: Gate, gated: Callable[..., ServiceApp], hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = gated()
    gate.open()

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    started = threading.Thread.start
    # The server needs its threads: only fetches are refused one.
    monkeypatch.setattr(
        threading.Thread, "start", lambda thread: (start if "fetch" in thread.name else started)(thread)
    )
    first = run(app.obtain(), Threads(send))
    assert gate.requests == 1
    hurry_renewal(hands)
    assert run(app.obtain(), Threads(send)) is first
    assert gate.requests == 1, "while the token works, nobody waits"
    hands.forward = 4000.0
    assert run(app.obtain(), Threads(send)).value != first.value
    assert gate.requests == 2


PROGRAM = """
import asyncio, atexit, json, sys, time
from cryptography.hazmat.primitives.hashes import SHA256
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m._base.clocks import Clock
import okta_m2m.httpx, okta_m2m.requests

url, client_id, jwk, way = json.loads(sys.stdin.read())
forward = [0.0]
app = ServiceApp(url, client_id=client_id, key=PrivateKey.from_jwk(jwk), scopes=["okta.users.read"],
                 clock=Clock(now=lambda: time.monotonic() + forward[0]))
auth = okta_m2m.requests.OktaAuth(app)
aauth = okta_m2m.httpx.OktaAuth(app)

def again():
    forward[0] = 3000.0
    print("same" if auth.token() == first else "another")

if way == "signing":
    # Python code that a signature calls is the moment in which the interpreter may take a thread away.
    first = auth.token()
    SHA256.name = property(lambda algorithm: time.sleep(0.02) or "sha256")
    again()
elif way == "atexit":
    first = auth.token()
    atexit.register(again)
elif way == "cold atexit":
    atexit.register(lambda: print("same" if auth.token() else ""))
elif way == "closed loop":
    loop = asyncio.new_event_loop()
    first = loop.run_until_complete(aauth.atoken())
    forward[0] = 3000.0
    print("same" if loop.run_until_complete(aauth.atoken()) == first else "another")
    loop.close()
elif way == "daemon thread":
    first = auth.token()
    again()
"""


@pytest.mark.parametrize("way", ["atexit", "cold atexit", "closed loop", "daemon thread", "signing"])
def test_nothing_is_printed_when_the_interpreter_exits(okta: FakeOkta, way: str) -> None:
    registered = okta.add_app()
    if way in ("daemon thread", "closed loop", "signing"):
        okta.next(on="token")  # the first as usual; the renewal is still under way when the program ends
        okta.next(delay=5.0)
    if way == "atexit":
        okta.next(on="token")  # the renewal takes its time, and the end of the program does not wait for it
        okta.next(delay=60.0)
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        input=json.dumps([okta.url, registered.client_id, registered.private_jwk, way]),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "same\n", "")


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_wall_clock_that_steps_changes_nothing(gate: Gate, gated: Callable[..., ServiceApp], hands: Hands) -> None:
    gate.open()
    app = gated()
    token = run(app.obtain(), Threads(send))
    for step in (86_400.0, -86_400.0):
        hands.wall_forward = step
        assert run(app.obtain(), Threads(send)) is token
    assert gate.requests == 1


def test_after_a_machine_slept_an_expired_token_is_not_used(
    gate: Gate, gated: Callable[..., ServiceApp], hands: Hands
) -> None:
    gate.open()
    app = gated()
    token = run(app.obtain(), Threads(send))
    hands.forward += 4000.0
    assert run(app.obtain(), Threads(send)).value != token.value
    assert gate.requests == 2
