"""A herd: very many processes, each with its own service app and clock, that ask one token endpoint on a simulated clock.

The real flows are stepped by a runtime that knows only simulated time, so an hour of 3,000 processes takes seconds to
minutes. A call that would find a fresh token is not run at all: the next call that matters is the first after
``TokenState.fresh_until``.

Invariant: all chance comes from one seed, so a herd does the same again each time.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import random
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from okta_m2m import OktaM2MError, ServiceApp, Token
from okta_m2m._base.clocks import Clock
from okta_m2m.effects import (
    Flow,
    Response,
    SendFailed,
    Sending,
    Sign,
    Sleep,
    Snapshot,
    Spawn,
    StartSend,
    StoreEffect,
    StoreFailed,
    Wait,
)
from signers import Stub

__all__ = ["Endpoint", "Figures", "Herd", "SimulatedStore", "fullest"]

ORG = "https://acme.okta.com"
EPOCH = 1_750_000_000.0
SECRET = bytes(range(32))


class SimulatedStore:
    """What a store promises, on the simulated clock. ``down``: how many seconds pass until an operation fails, while the
    store is down; ``None`` while it works."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._values: dict[str, tuple[bytes, float]] = {}
        self._claims: dict[str, tuple[str, float]] = {}
        self.down: float | None = None

    def _owner(self, key: str) -> str | None:
        owner, ends = self._claims.get(key, ("", 0.0))
        return owner if self._now() < ends else None

    def is_claimed(self) -> bool:
        return any(self._owner(key) is not None for key in self._claims)

    def load(self, key: str) -> bytes | None:
        value, ends = self._values.get(key, (b"", 0.0))
        return value if self._now() < ends else None

    def claim(self, key: str, owner: str, ttl: float) -> bool:
        if self._owner(key) not in (None, owner):
            return False
        self._claims[key] = owner, self._now() + ttl
        return True

    def save(self, key: str, value: bytes, ttl: float, owner: str) -> bool:
        if self._owner(key) != owner:
            return False
        self._values[key] = value, self._now() + ttl
        return True

    def release(self, key: str, owner: str) -> None:
        if self._owner(key) == owner:
            del self._claims[key]


class Endpoint:
    """A token endpoint with a rate limit as Okta has it: so many requests in a window of a minute, which opens with the
    first request after the last window's end. Requests beyond that get a 429 with the time of the window's end.

    - ``limit``: requests a minute; ``None`` for no limit.
    - ``trouble``: what it does instead of answering, while there is trouble: ``"503"``, ``"reset"``, ``"hang"``,
      ``"garbage"``; ``None`` while it is well.
    """

    WINDOW = 60.0

    def __init__(self, now: Callable[[], float], limit: int | None, lifetime: float) -> None:
        self._now = now
        self.limit = limit
        self.lifetime = lifetime
        self.trouble: str | None = None
        self.asked: list[float] = []
        self.limited = 0
        self.issued: list[float] = []
        self._opened = -math.inf
        self._count = 0
        self._date: tuple[int, str] = (0, "")

    def answer(self) -> Response | None:
        """The answer to one request; ``None`` for a connection that is reset."""
        now = self._now()
        self.asked.append(now)
        if self.trouble == "503":
            return Response(503, [self.date()], b"<html>Sorry</html>")
        if self.trouble == "reset":
            return None
        if self.trouble == "garbage":
            return Response(200, [self.date()], b'{"token_type": "Bea')
        if now >= self._opened + self.WINDOW:
            self._opened, self._count = now, 0
        self._count += 1
        if self.limit is not None and self._count > self.limit:
            self.limited += 1
            # Whole seconds, and not before the window has ended.
            reset = math.ceil(EPOCH + self._opened + self.WINDOW)
            headers = [("X-Rate-Limit-Limit", str(self.limit)), ("X-Rate-Limit-Remaining", "0")]
            return Response(
                429, [self.date(), *headers, ("X-Rate-Limit-Reset", str(reset))], b'{"errorCode": "E0000047"}'
            )
        self.issued.append(now)
        token = {
            "access_token": f"token-{len(self.issued)}",
            "token_type": "Bearer",
            "expires_in": self.lifetime,
            "scope": "okta.users.read",
        }
        return Response(200, [self.date()], json.dumps(token).encode())

    def date(self) -> tuple[str, str]:
        second = int(EPOCH + self._now())
        if self._date[0] != second:
            self._date = second, formatdate(second, usegmt=True)
        return "Date", self._date[1]


class _Task:
    """A flow under way. ``turn`` counts its steps, so that a wake-up that comes too late is known as one."""

    __slots__ = ("done", "flow", "turn")

    def __init__(self, flow: Flow[Any], done: Callable[[Any, OktaM2MError | None], None]) -> None:
        self.flow = flow
        self.done = done
        self.turn = 0


class Process:
    """One process: its service app, on a steady clock of its own."""

    def __init__(self, herd: Herd, **arguments: Any) -> None:
        steady, skew = herd.random.uniform(0.0, 1e6), herd.random.uniform(-0.5, 0.5)
        self.steady = steady
        self.first_served = math.inf
        self.app = ServiceApp(
            ORG,
            client_id="0oa1",
            key=Stub(),
            scopes=["okta.users.read"],
            dpop=False,
            clock=Clock(now=lambda: herd.time + steady, wall=lambda: EPOCH + herd.time + skew),
            **arguments,
        )


@dataclass
class Figures:
    """What happened in a stretch of time."""

    processes: int
    seconds: float
    token_requests: int
    limited: int
    peak: int
    """Token requests in the fullest second."""
    failed: int
    """Calls that raised."""
    waited: int
    """Calls that found no fresh token, whatever became of them."""
    longest_wait: float
    last_served: float
    """Seconds from the start until every process had a token; infinite if one had none."""
    store_peak: int = 0
    """Operations of the store in the fullest second."""

    def __str__(self) -> str:
        served = "never" if math.isinf(self.last_served) else f"{self.last_served:.0f} s"
        return (
            f"{self.processes} processes, {self.seconds:.0f} s: {self.token_requests} token requests "
            f"({self.limited} got 429), at most {self.peak}/s; {self.failed} failed calls, "
            f"longest wait {self.longest_wait:.1f} s; all served after {served}"
            + (f"; store: at most {self.store_peak} operations/s" if self.store_peak else "")
        )


class Herd:
    """``processes`` that each make a call about every ``pause`` seconds, from ``callers`` threads, and a token endpoint.

    - ``limit``: token requests a minute that the endpoint allows.
    - ``shared``: whether they share a store.
    - ``lifetime``: of a token, in seconds.
    - ``start``: seconds over which the processes are started.
    """

    def __init__(
        self,
        processes: int,
        *,
        seed: int = 0,
        limit: int | None = 150,
        shared: bool = False,
        lifetime: float = 3600.0,
        max_wait: float = 30.0,
        callers: int = 1,
        pause: float = 1.0,
        start: float = 2.0,
    ) -> None:
        self.random = random.Random(seed)
        random.seed(seed)  # the flows' own jitter
        self.time = 1000.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.endpoint = Endpoint(self.now, limit, lifetime)
        self.store = SimulatedStore(self.now) if shared else None
        self.pause = pause
        self.delay: Callable[[], float] = lambda: self.random.uniform(0.05, 0.5)
        """Seconds that a token request takes."""
        self.store_asked: list[float] = []
        self.waits: list[tuple[float, float, OktaM2MError | None]] = []
        arguments: dict[str, Any] = {"max_wait": max_wait}
        if shared:
            arguments |= {"store": self.store, "seal_with": [SECRET]}
        self.processes = [Process(self, **arguments) for _ in range(processes)]
        for process in self.processes:
            began = self.time + self.random.uniform(0.0, start)
            for _ in range(callers):
                self._at(began + self.random.uniform(0.0, pause), lambda process=process: self._call(process))  # type: ignore[misc]

    def now(self) -> float:
        return self.time

    # ── what may be done with it ─────────────────────────────────────────────────────────────────────────────────

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> Figures:
        """Lets so much time pass, or less if ``until`` becomes true, and tells what happened in it."""
        began, end = self.time, self.time + seconds
        asked, limited, waits = len(self.endpoint.asked), self.endpoint.limited, len(self.waits)
        store_asked = len(self.store_asked)
        for process in self.processes:
            process.first_served = math.inf
            self._look(process)
        while self._timers and self._timers[0][0] <= end and (until is None or not until()):
            moment, _, action = heapq.heappop(self._timers)
            self.time = max(self.time, moment)
            action()
        if until is None:
            self.time = end
        times, ended = self.endpoint.asked[asked:], self.waits[waits:]
        return Figures(
            processes=len(self.processes),
            seconds=self.time - began,
            token_requests=len(times),
            limited=self.endpoint.limited - limited,
            peak=fullest(times, 1.0),
            failed=sum(error is not None for _, _, error in ended),
            waited=len(ended),
            longest_wait=max((finished - start for start, finished, _ in ended), default=0.0),
            last_served=max(process.first_served for process in self.processes) - began,
            store_peak=fullest(self.store_asked[store_asked:], 1.0),
        )

    def all_served(self) -> bool:
        """Whether every process has had a token since :meth:`run` began."""
        return all(not math.isinf(process.first_served) for process in self.processes)

    # ── calls ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _look(self, process: Process) -> None:
        token = process.app.token_state.token
        if token is not None and token.usable(self.time + process.steady):
            process.first_served = min(process.first_served, self.time)

    def _call(self, process: Process) -> None:
        state = process.app.token_state
        left = state.fresh_until - (self.time + process.steady)
        if left > 0:
            self._look(process)
            # All calls until then are hits.
            self._at(self.time + left + self.random.uniform(0.0, self.pause), lambda: self._call(process))
            return
        began = self.time

        def done(result: Any, error: OktaM2MError | None) -> None:
            self.waits.append((began, self.time, error))
            if error is None:
                assert isinstance(result, Token)
                process.first_served = min(process.first_served, self.time)
            self._at(self.time + self.random.uniform(0.5, 1.5) * self.pause, lambda: self._call(process))

        self._step(_Task(process.app.obtain(), done), None)

    # ── the runtime ──────────────────────────────────────────────────────────────────────────────────────────────

    def _at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (moment, next(self._order), action))

    def _later(self, task: _Task, seconds: float, answer: Callable[[], Any]) -> None:
        turn = task.turn

        def ring() -> None:
            if task.turn == turn:
                self._step(task, answer())

        self._at(self.time + max(0.0, seconds), ring)

    def _step(self, task: _Task, answer: Any) -> None:
        flow = task.flow
        while True:
            task.turn += 1
            try:
                effect = flow.throw(answer) if isinstance(answer, BaseException) else flow.send(answer)
            except StopIteration as stop:
                task.done(stop.value, None)
                return
            except OktaM2MError as error:
                flow.close()
                task.done(None, error)
                return
            match effect:
                case Sign(signer, message):
                    answer = signer.sign(message)
                case Snapshot(signer):
                    answer = signer
                case Spawn(spawned, ended, _):
                    background = _Task(spawned, lambda result, error, ended=ended: ended())  # type: ignore[misc]
                    self._at(self.time, lambda background=background: self._step(background, None))  # type: ignore[misc]
                    answer = True
                case StartSend(_, timeout):
                    answer = self._start_send(timeout)
                case Sleep(seconds):
                    self._later(task, seconds, lambda: None)
                    return
                case Wait(landing, timeout):
                    if landing.done():
                        answer = True
                        continue
                    turn = task.turn

                    def landed(_: object, turn: int = turn) -> None:
                        if task.turn == turn:
                            # Not at once: this runs inside of whatever landed it.
                            self._later(task, 0.0, lambda: True)

                    self._later(task, timeout, landing.done)
                    landing.add_done_callback(landed)
                    return
                case StoreEffect():
                    self._ask_store(task, effect)
                    return
                case _:
                    raise AssertionError(f"nobody performs {effect}")

    def _start_send(self, timeout: float) -> Sending:
        """A request in a thread of its own."""
        sending, seconds = Sending(Future()), self.delay()

        def end(answer: Response | SendFailed) -> None:
            if isinstance(answer, SendFailed):
                sending.response.set_exception(answer)
            else:
                sending.response.set_result(answer)

        def arrived() -> None:
            answer = self.endpoint.answer() or SendFailed("connection reset")
            self._at(self.time + seconds / 2, lambda: end(answer))

        if self.endpoint.trouble == "hang":
            self.endpoint.asked.append(self.time)
            seconds = math.inf
        if seconds >= timeout:
            self._at(self.time + timeout, lambda: end(SendFailed("timeout")))
        else:
            self._at(self.time + seconds / 2, arrived)
        return sending

    def _ask_store(self, task: _Task, effect: StoreEffect[Any]) -> None:
        there, back = self.random.uniform(0.0002, 0.005), self.random.uniform(0.0002, 0.005)
        assert self.store is not None
        self.store_asked.append(self.time)
        down = self.store.down
        if down is not None:
            self._later(task, min(down, effect.timeout), lambda: StoreFailed("down"))
            return

        def arrived() -> None:
            answer = effect.call()
            self._later(task, back, lambda: answer)

        self._at(self.time + there, arrived)


def fullest(times: list[float], seconds: float) -> int:
    """How many of these moments, in order, lie in the fullest stretch of so many seconds."""
    window: deque[float] = deque()
    most = 0
    for moment in times:
        window.append(moment)
        while window[0] <= moment - seconds:
            window.popleft()
        most = max(most, len(window))
    return most
