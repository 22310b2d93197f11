"""Many callers, in any order, some of them killed at any point: what the flows promise still holds.

A simulated runtime steps the real flows on a simulated clock. Which flow takes the next step, how long everything
takes, what the token endpoint answers, and who is killed where, all come from a seed: a failure names it, and
``pytest "tests/rules/test_interleavings.py::...[seed]"`` shows the same again.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import pytest

from okta_m2m import OktaM2MError, ServiceApp, Token, TokenUnreachable
from okta_m2m._base.clocks import Clock
from okta_m2m._core.conversation import PATIENCE
from okta_m2m._core.flights import LANDING_GRACE
from okta_m2m._threads.landings import LOOK, mutex
from okta_m2m.effects import (
    Attempt,
    Discard,
    Effect,
    Flow,
    Peek,
    Request,
    Response,
    Send,
    SendFailed,
    Sending,
    Sign,
    Sleep,
    Snapshot,
    Spawn,
    StartSend,
    Wait,
)
from okta_m2m.events import TokenObtained
from signers import Stub

MAX_WAIT = 30.0
SLACK = LANDING_GRACE + 0.1  # simulated seconds: signing takes a moment, and no deadline is set on it
ORG = "https://acme.okta.com"
API = f"{ORG}/api/v1/users"


pytestmark = pytest.mark.usefixtures("everything_is_reported")


class Killed(BaseException):
    """What a cancelled task or an interrupted thread throws into its flow."""


@dataclass(eq=False)
class Task:
    """A flow under way, and what became of it."""

    flow: Flow[Any]
    began: float
    name: str
    obtaining: bool = False  # obtain(), which has a time limit as a whole
    background: bool = False
    must_not_wait: bool = False
    pending: Effect[Any] | None = None
    turn: int = 0  # counts the steps, so that a wake-up that comes too late is told from one that counts
    queued: bool = False
    ended: Callable[[], None] | None = None
    done: bool = False
    killed: bool = False
    vanished: bool = False
    finished: float = 0.0
    result: Any = None
    error: OktaM2MError | None = None
    effects: list[str] = field(default_factory=list)
    response: Response | None = None
    granted: list[Token] = field(default_factory=list)  # by answers that reached it


@dataclass(eq=False)
class Asked:
    """A token request under way, and the task that sent it."""

    task: Task
    request: Request
    sent_at: float
    is_own: bool  # sent in the task's own thread, and so ended with it


class World:
    """The simulated runtime, token endpoint and resource server."""

    def __init__(self, seed: int, **settings: Any) -> None:
        self.random = random.Random(seed)
        random.seed(seed)  # the flows' own jitter
        self.time = 1000.0
        self.epoch = 1_750_000_000.0
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.runnable: list[tuple[Task, Any]] = []
        self.tasks: list[Task] = []
        self.leading: set[Task] = set()
        self.open: list[Asked] = []
        self.answering: Asked | None = None
        self.most_leading = self.most_open = 0
        self.sends: list[float] = []
        self.minted: list[Token] = []
        self.refused_values: set[str] = set()
        self.rejected: set[str] = set()
        self.delivered: list[str] = []
        self.events: list[Any] = []
        self.spawned = 0
        # What happens, and how often; each scenario turns the knobs.
        self.kill_rate = 0.0
        self.vanish_rate = 0.0
        self.unstarted_rate = 0.0
        self.refused_rate = 0.0
        self.answer: Callable[[], Response | None] = self.good
        self.lifetime: Callable[[], float] = lambda: 3600.0
        self.delay: Callable[[], float] = lambda: self.random.uniform(0.05, 0.5)
        self.audience_is_wrong = False
        self.on_reading: Callable[[], None] = lambda: None
        self.app = ServiceApp(
            ORG,
            client_id="0oa1",
            key=Stub(),
            scopes=["okta.users.read"],
            max_wait=MAX_WAIT,
            dpop=settings.pop("dpop", False),
            on_event=self.events.append,
            clock=Clock(now=self.now, wall=lambda: self.epoch + self.time),
            **settings,
        )

    def now(self) -> float:
        self.on_reading()
        return self.time

    # ── the servers ──────────────────────────────────────────────────────────────────────────────────────────────

    def date(self) -> tuple[str, str]:
        return "Date", formatdate(self.epoch + self.time, usegmt=True)

    def good(self, token_type: str = "Bearer") -> Response:
        value = f"token-{len(self.minted)}"
        life = self.lifetime()
        assert self.answering is not None
        self.minted.append(Token(value, token_type, (), life, self.answering.sent_at))
        self.answering.task.granted.append(self.minted[-1])
        content = {"access_token": value, "token_type": token_type, "expires_in": life, "scope": "okta.users.read"}
        return Response(200, [self.date()], json.dumps(content).encode())

    def limited(self, seconds: float) -> Response:
        reset = str(int(self.epoch + self.time + seconds))
        headers = [self.date(), ("X-Rate-Limit-Limit", "100"), ("X-Rate-Limit-Reset", reset)]
        return Response(429, headers, b'{"errorCode": "E0000047"}')

    def unavailable(self) -> Response:
        return Response(503, [self.date()], b"<html>Sorry</html>")

    def refusal(self) -> Response:
        content = {"error": "invalid_client", "error_description": "The client_assertion JWT kid is invalid."}
        return Response(401, [self.date()], json.dumps(content).encode())

    def moody(self) -> Response | None:
        """Mostly a token; else anything that a token endpoint has ever answered."""
        mood = self.random.random()
        if mood < 0.55:
            return self.good()
        if mood < 0.65:
            return None
        if mood < 0.75:
            return self.unavailable()
        if mood < 0.85:
            return self.limited(self.random.choice([0, 1, 3, 60]))
        if mood < 0.92:
            return Response(200, [self.date()], b'{"token_type": "Bea')
        return self.refusal()

    def resource(self, headers: dict[str, str]) -> Response:
        value = headers.get("Authorization", "").partition(" ")[2]
        if self.audience_is_wrong or value in self.refused_values or not value:
            return Response(401, [("WWW-Authenticate", 'Bearer error="invalid_token"')])
        return Response(200)

    # ── flows ────────────────────────────────────────────────────────────────────────────────────────────────────

    def at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.timers, (moment, next(self.order), action))

    def call(self, moment: float, kind: str = "obtain") -> None:
        """Somebody wants a token, or makes a call with one, at that moment."""

        def begin() -> None:
            if kind == "obtain":
                flow: Flow[Any] = self.app.obtain()
            else:
                flow = self.app.authorize("GET", API, replayable=True)
            task = Task(flow, self.time, f"{kind}-{len(self.tasks)}", obtaining=kind == "obtain")
            task.must_not_wait = self.has_good_token() and self.vanish_rate == 0
            self.begin(task)

        self.at(moment, begin)

    def begin(self, task: Task) -> None:
        self.tasks.append(task)
        self.wake(task, None)

    def has_good_token(self) -> bool:
        """Whether somebody was given the newest token, nobody rejected it, and it still works."""
        if not self.minted or not self.delivered:
            return False
        newest = self.minted[-1]
        # Its life counts from a moment earlier than here: from before its request was signed.
        usable = newest.usable(self.time + SLACK)
        return newest.value in self.delivered and newest.value not in self.rejected and usable

    def wake(self, task: Task, answer: Any) -> None:
        if not task.done and not task.queued and not task.vanished:
            task.queued = True
            self.runnable.append((task, answer))

    def wake_later(self, task: Task, seconds: float, answer: Callable[[], Any]) -> None:
        turn = task.turn

        def ring() -> None:
            if task.turn == turn and not task.queued:
                self.wake(task, answer())

        self.at(self.time + max(0.0, seconds), ring)

    def run(self) -> None:
        """Until nobody has anything left to do."""
        for _ in range(100_000):
            if self.runnable:
                task, answer = self.runnable.pop(self.random.randrange(len(self.runnable)))
                self.step(task, answer)
                self.maybe_kill()
            elif self.timers:
                moment, _, action = heapq.heappop(self.timers)
                self.time = max(self.time, moment)
                action()
            else:
                return
        raise AssertionError("the flows never come to rest")

    def step(self, task: Task, answer: Any) -> None:
        task.queued = False
        task.turn += 1
        if task.killed:
            return
        try:
            effect = task.flow.throw(answer) if isinstance(answer, BaseException) else task.flow.send(answer)
        except StopIteration as stop:
            self.finish(task, result=stop.value)
        except OktaM2MError as error:
            self.finish(task, error=error)
        else:
            task.pending = effect
            task.effects.append(type(effect).__name__)
            self.perform(task, effect)

    def finish(self, task: Task, result: Any = None, error: OktaM2MError | None = None) -> None:
        task.done, task.finished, task.result, task.error = True, self.time, result, error
        self.leading.discard(task)
        if isinstance(result, Token):
            self.delivered.append(result.value)
        elif task.background and task.granted:
            assert any(map(self.app_of(task).token_state.is_ours, task.granted)), "a token was lost"
        task.flow.close()
        if task.ended is not None:
            task.ended()

    def perform(self, task: Task, effect: Effect[Any]) -> None:
        if isinstance(effect, Send | StartSend | Sleep):
            self.leading.add(task)
            self.most_leading = max(self.most_leading, len(self.leading))
        elif isinstance(effect, Attempt) or not (task.background or self.requests_of(task)):
            self.leading.discard(task)  # it fetched itself, and now waits for another
        match effect:
            case Send(request, timeout):
                asked = self.ask(task, request, is_own=True)
                seconds = self.delay()
                answer = (lambda: SendFailed("timeout")) if seconds >= timeout else (lambda: self.answered(asked))
                self.wake_later(task, min(seconds, timeout), answer)
                self.at(self.time + min(seconds, timeout), lambda: self.end_request(asked))
            case StartSend(request, timeout):
                self.step(task, self.start_send(task, request, timeout))
            case Sign(signer, message):
                signature = signer.sign(message)
                self.wake_later(task, self.random.choice([0.0, 0.0, 0.01]), lambda: signature)
            case Snapshot(signer):
                self.wake(task, signer)
            case Sleep(seconds):
                self.wake_later(task, seconds, lambda: None)
            case Wait(landing, timeout):
                assert task.background or not landing.done(), f"{task.name} waits for what has landed"
                turn = task.turn

                def landed(_: object) -> None:
                    if task.turn == turn:
                        self.wake(task, True)

                self.wake_later(task, timeout, landing.done)
                landing.add_done_callback(landed)
            case Spawn(flow, ended, awaited):
                self.step(task, self.spawn(flow, ended, awaited))  # at once, as every runtime does
            case Attempt(headers):
                response = self.resource(dict(headers))
                value = headers.get("Authorization", "").partition(" ")[2]
                if response.status == 401:
                    self.rejected.add(value)
                else:
                    self.delivered.append(value)
                task.response = response
                self.wake_later(task, self.random.uniform(0.0, 0.3), lambda: response)
            case Peek():
                self.wake(task, b"")
            case Discard():
                self.wake(task, None)
            case _:
                raise AssertionError(f"nobody performs {effect}")

    def app_of(self, task: Task) -> ServiceApp:
        return self.app

    def requests_of(self, task: Task) -> list[Asked]:
        return [asked for asked in self.open if asked.task is task]

    def ask(self, task: Task, request: Request, is_own: bool = False) -> Asked:
        """A token request is sent."""
        self.check_request(task)
        self.sends.append(self.time)
        asked = Asked(task, request, self.time, is_own)
        self.open.append(asked)
        return asked

    def check_request(self, task: Task) -> None:
        """At most one other request is open, for 5 seconds at least."""
        others = [asked for asked in self.open if not asked.task.vanished]
        assert len(others) <= 1, "a third token request beside two"
        for other in others:
            assert other.task is task, "two fetches ask at a time"
            assert self.time >= other.sent_at + PATIENCE - 0.001, "a second token request too soon"
        self.most_open = max(self.most_open, len(others) + 1)

    def answered(self, asked: Asked) -> Response | SendFailed:
        self.answering = asked
        return self.answer() or SendFailed("connection reset")

    def end_request(self, asked: Asked) -> None:
        if asked in self.open:
            self.open.remove(asked)

    def start_send(self, task: Task, request: Request, timeout: float) -> Sending | None:
        """A request in a thread of its own; ``None`` if none can be started."""
        if self.random.random() < self.refused_rate:
            return None
        asked, sending, seconds = self.ask(task, request), Sending(Future()), self.delay()
        sending.if_given_up(lambda: self.end_request(asked))

        def ring() -> None:
            if asked in self.open:
                self.end_request(asked)
                answer = SendFailed("timeout") if seconds >= timeout else self.answered(asked)
                if isinstance(answer, SendFailed):
                    sending.response.set_exception(answer)
                else:
                    sending.response.set_result(answer)

        self.at(self.time + min(seconds, timeout), ring)
        return sending

    def spawn(self, flow: Flow[Any], ended: Callable[[], None], awaited: bool) -> Callable[[], bool] | bool:
        if self.random.random() < self.refused_rate:
            return False
        self.spawned += 1
        if self.random.random() < self.unstarted_rate:  # its thread ends before its first step
            flow.close()
            ended()
            return lambda: False
        task = Task(flow, self.time, f"fetch-{len(self.tasks)}", background=True, ended=ended)
        self.tasks.append(task)
        delay = 0.0 if awaited else self.random.choice([0.0, 0.0, 0.1, 3.0])  # until it is its turn
        self.at(self.time + delay, lambda: self.wake(task, None))
        return lambda: not task.done

    # ── killing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def maybe_kill(self) -> None:
        if self.random.random() < self.kill_rate:
            alive = [task for task in self.tasks if not task.done]
            if alive:
                self.kill(self.random.choice(alive), self.random.choice(["throw", "close"]))
        if self.random.random() < self.vanish_rate:
            alive = [task for task in self.tasks if not task.done and task.background]
            if alive:
                self.kill(self.random.choice(alive), "vanish")

    def kill(self, task: Task, how: str) -> None:
        """``throw``: cancelled. ``close``: dropped. ``vanish``: its thread is gone without a word, as only ``is_running``
        says."""
        task.killed = task.done = True
        task.turn += 1
        self.runnable = [(other, answer) for other, answer in self.runnable if other is not task]
        self.leading.discard(task)
        if how == "vanish":
            task.vanished = True
            return
        if how == "close":
            task.flow.close()
        else:
            started = task.pending is not None
            try:
                task.flow.throw(Killed())
            except Killed:
                pass
            else:
                raise AssertionError(f"{task.name} asked for more when it was cancelled (started: {started})")
        self.open = [asked for asked in self.open if not (asked.is_own and asked.task is task)]
        assert not self.requests_of(task), "a request that nobody waits for is given up"
        if task.ended is not None:
            task.ended()

    # ── what has to hold ─────────────────────────────────────────────────────────────────────────────────────────

    def check(self) -> None:
        for task in self.tasks:
            assert task.done, f"{task.name} never came to an end"
            if task.killed:
                continue
            if task.obtaining:
                assert isinstance(task.result, Token) or task.error is not None, task.name
                assert task.finished - task.began <= MAX_WAIT + SLACK, f"{task.name} waited too long"
            if task.must_not_wait:
                waited = {"Wait", "Send", "StartSend", "Sleep", "Sign"} & set(
                    task.effects[: task.effects.index("Attempt")] if "Attempt" in task.effects else task.effects
                )
                assert not waited, f"{task.name} waited although there was a good token: {task.effects}"
        assert self.most_leading <= 1, "two fetches at a time"
        errors = [task.error for task in self.tasks if task.error is not None]
        assert len({id(error) for error in errors}) == len(errors), "two callers were given one exception object"

    def check_rest(self) -> None:
        """After everything, with all well again, a caller begins a fetch or is served at once: none was left in the air."""
        self.kill_rate = self.vanish_rate = self.unstarted_rate = self.refused_rate = 0.0
        self.audience_is_wrong = False
        self.refused_values.clear()
        self.answer, self.lifetime, self.delay = self.good, lambda: 3600.0, lambda: 0.1
        self.time += 120.0
        self.call(self.time)
        self.run()
        last = next(task for task in reversed(self.tasks) if task.obtaining)
        assert isinstance(last.result, Token), last.error
        assert last.effects in ([], ["Spawn"], ["Spawn", "Wait"])


@pytest.mark.parametrize("seed", range(20))
def test_without_a_token_callers_in_any_order_make_one_token_request(seed: int) -> None:
    world = World(seed)
    for _ in range(30):
        world.call(world.time, world.random.choice(["obtain", "authorize"]))
    world.run()
    world.check()
    assert len(world.sends) == 1
    assert all(task.error is None for task in world.tasks)


@pytest.mark.parametrize("seed", range(150))
def test_killed_callers_killed_fetches_and_failures_delay_no_other_caller(seed: int) -> None:
    world = World(seed)
    world.answer = world.moody
    world.kill_rate = world.random.choice([0.0, 0.05, 0.2])
    world.unstarted_rate = world.random.choice([0.0, 0.3])
    world.refused_rate = world.random.choice([0.0, 0.3, 1.0])
    world.lifetime = lambda: world.random.choice([1.0, 10.0, 60.0, 3600.0])
    world.delay = lambda: world.random.choice([0.01, 0.2, 2.0, 40.0])
    for _ in range(world.random.randint(20, 60)):
        world.call(world.time + world.random.choice([0.0, 0.1, 5.0, 30.0, 90.0]) * world.random.random(), "obtain")
    for _ in range(10):
        world.call(world.time + 90.0 * world.random.random(), "authorize")
    world.run()
    world.check()
    world.check_rest()


@pytest.mark.parametrize("seed", range(60))
def test_a_fetch_that_vanishes_leaves_no_caller_waiting(seed: int) -> None:
    world = World(seed)
    world.vanish_rate = 0.2
    world.answer = lambda: world.good() if world.random.random() < 0.7 else world.unavailable()
    world.lifetime = lambda: world.random.choice([10.0, 60.0, 3600.0])
    for _ in range(40):
        world.call(world.time + 200.0 * world.random.random(), "obtain")
    world.run()
    world.check()
    world.check_rest()
    for task in world.tasks:
        if task.vanished:
            task.flow.close()  # it is collected in the end; that disturbs nobody either
    world.call(world.time)
    world.run()
    assert world.tasks[-1].effects == [], "served at once"


@pytest.mark.parametrize("seed", range(20))
def test_a_vanished_fetch_costs_its_callers_a_second(seed: int) -> None:
    world = World(seed)
    world.delay = lambda: 1.0
    world.call(world.time)
    began = world.time
    world.at(began + 0.5, lambda: world.kill(world.tasks[1], "vanish"))
    joined = began + 5.0 * world.random.random()
    for _ in range(20):
        world.call(joined)
    world.run()
    world.check()
    callers = [task for task in world.tasks if not task.background]
    assert all(isinstance(task.result, Token) for task in callers)
    assert all(task.finished <= max(task.began, began + 0.5) + LOOK + 1.0 + SLACK for task in callers)
    assert len(world.sends) == 2


@pytest.mark.parametrize("seed", range(20))
def test_an_endpoint_that_takes_twelve_seconds_serves_all_callers_with_two_requests(seed: int) -> None:
    world = World(seed)
    world.delay = lambda: 12.0
    began = world.time
    for _ in range(20):
        world.call(world.time + 12.0 * world.random.random())
    world.run()
    world.check()
    callers = [task for task in world.tasks if not task.background]
    assert all(isinstance(task.result, Token) for task in callers)
    assert all(task.finished <= began + 24.0 + SLACK for task in callers)
    assert (len(world.sends), world.most_open) == (2, 2)
    assert world.open == [], "the second one is given up"


@pytest.mark.parametrize("seed", range(40))
def test_connections_that_hang_cost_seconds_and_at_most_two_requests_at_a_time(seed: int) -> None:
    world = World(seed)
    hung = 10_000.0
    world.delay = lambda: hung if len(world.sends) == 1 else world.random.choice([0.2, 0.2, 7.0, 12.0, hung])
    world.answer = lambda: world.good() if world.random.random() < 0.7 else None
    world.lifetime = lambda: world.random.choice([10.0, 60.0, 600.0])
    for _ in range(60):
        world.call(world.time + 300.0 * world.random.random(), world.random.choice(["obtain", "authorize"]))
    world.run()
    world.check()
    assert world.most_open == 2
    world.check_rest()


@pytest.mark.parametrize("seed", range(60))
def test_no_caller_waits_for_a_renewal_however_it_ends(seed: int) -> None:
    world = World(seed)
    world.lifetime = lambda: 600.0
    world.call(world.time)
    world.run()
    assert len(world.sends) == 1
    world.unstarted_rate = world.random.choice([0.0, 0.5, 1.0])
    world.refused_rate = world.random.choice([0.0, 0.0, 0.5])
    world.kill_rate = world.random.choice([0.0, 0.1])
    world.spawned = 0
    outcome = world.random.choice(["good", "moody", "down"])
    world.answer = {"good": world.good, "moody": world.moody, "down": lambda: None}[outcome]
    begin = world.time
    for number in range(100):
        world.call(begin + 500.0 + number * 0.6)  # from 83 % to 93 % of the token's life
    world.run()
    world.check()
    callers = [task for task in world.tasks if not task.background and not task.killed]
    assert all(isinstance(task.result, Token) for task in callers)
    assert all(set(task.effects[:]) <= {"Spawn"} for task in callers[1:])
    assert world.spawned >= 1 or world.refused_rate
    if outcome == "good" and world.kill_rate == world.unstarted_rate == world.refused_rate == 0:
        assert (world.spawned, len(world.sends)) == (1, 2)
        assert [event.background for event in world.events if isinstance(event, TokenObtained)] == [False, True]


def with_renewal_due() -> World:
    """A token in use, which is to be renewed."""
    world = World(0)
    world.lifetime = lambda: 600.0
    world.call(world.time)
    world.run()
    world.time += 500.0
    return world


def test_a_renewal_that_never_started_is_started_again() -> None:
    world = with_renewal_due()
    world.unstarted_rate = 1.0
    world.call(world.time)
    world.run()
    assert world.tasks[-1].effects == ["Spawn"], "nobody waited for it"
    world.unstarted_rate = 0.0
    world.call(world.time + 1.0)
    world.run()
    assert len(world.sends) == 2
    assert len(world.minted) == 2


@pytest.mark.parametrize("how", ["close", "throw"])
def test_a_flow_killed_while_it_starts_a_fetch_leaves_no_fetch_under_way(how: str) -> None:
    world = with_renewal_due()
    flow = world.app.obtain()
    assert isinstance(next(flow), Spawn)
    if how == "close":
        flow.close()
    else:
        with pytest.raises(Killed):
            flow.throw(Killed())
    world.time += 1.0
    again = world.app.obtain()
    assert isinstance(next(again), Spawn), "the renewal that was never begun still stands in the way of the next"
    again.close()


def test_if_a_renewal_cannot_start_callers_keep_the_valid_token() -> None:
    flow = with_renewal_due().app.obtain()
    assert isinstance(next(flow), Spawn)
    with pytest.raises(StopIteration) as stop:
        flow.send(False)
    assert stop.value.value.value == "token-0"


@pytest.mark.parametrize("seed", range(40))
def test_many_rejections_of_one_token_renew_it_once(seed: int) -> None:
    world = World(seed)
    world.call(world.time)
    world.run()
    world.refused_values.add("token-0")
    for _ in range(40):
        world.call(world.time + 0.4 * world.random.random(), "authorize")
    world.run()
    world.check()
    assert len(world.minted) == 2
    callers = [task for task in world.tasks[1:] if not task.background]
    assert all(task.response is not None and task.response.status == 200 for task in callers)
    assert all(task.effects.count("Attempt") <= 2 for task in callers)


@pytest.mark.parametrize("seed", range(40))
def test_many_rejections_are_renewed_even_if_fetches_and_callers_are_killed(seed: int) -> None:
    world = World(seed)
    world.call(world.time)
    world.run()
    world.refused_values.add("token-0")
    world.kill_rate = 0.05
    for _ in range(40):
        world.call(world.time + 0.4 * world.random.random(), "authorize")
    world.run()
    world.check()
    callers = [task for task in world.tasks[1:] if not task.killed and not task.background]
    assert all(task.response is not None and task.response.status == 200 for task in callers)
    assert world.most_leading <= 1
    world.check_rest()


@pytest.mark.parametrize("seed", range(30))
def test_an_api_that_rejects_every_token_causes_few_token_requests(seed: int) -> None:
    world = World(seed)
    world.audience_is_wrong = True
    for number in range(400):
        world.call(world.time + number * world.random.uniform(0.9, 1.1), "authorize")
    world.run()
    world.check()
    assert len(world.sends) == 4, "the first token, and three an hour in its place"
    callers = [task for task in world.tasks if not task.background]
    assert all(task.response is not None and task.response.status == 401 for task in callers)
    assert all(task.effects.count("Attempt") <= 2 for task in callers)


def test_a_flow_may_be_closed_at_any_line_of_another_flow_of_its_thread() -> None:
    """The garbage collector, or a signal handler, may end an abandoned flow at any instruction of another one."""
    world = World(0)
    caller, is_running = world.app.obtain(), [True]
    spawn = next(caller)
    assert isinstance(spawn, Spawn)
    caller.send(lambda: bool(is_running))
    abandoned = spawn.flow
    assert isinstance(next(abandoned), Sign)
    is_running.clear()  # so it is given up by the next caller
    world.call(world.time)
    world.run()
    doomed = [abandoned]

    def end() -> None:
        if doomed and mutex()._is_owned():  # type: ignore[attr-defined]
            doomed.pop().close()
            spawn.ended()

    world.on_reading = end
    # A new token reads the clock where the state is changed.
    world.time += 1.0
    flow = world.app.obtain(rejected=world.tasks[0].result)
    last = Task(flow, world.time, "last")
    worker = threading.Thread(target=lambda: world.begin(last) or world.run(), daemon=True)
    worker.start()
    worker.join(timeout=20)
    assert not worker.is_alive(), "locked up"
    assert not doomed
    assert last.result.value == "token-1"


def test_callers_of_a_fetch_that_never_ends_fail_at_their_deadline() -> None:
    world = World(0)
    world.answer = lambda: None
    world.call(world.time)
    for number in range(20):
        world.call(world.time + number)
    world.run()
    world.check()
    assert all(isinstance(task.error, TokenUnreachable) for task in world.tasks if not task.background)
