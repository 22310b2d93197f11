"""Explores schedules: real threads, of which one runs at a time, and at each line the explorer decides which one continues.

The code under test is not changed. Its threads, mutex, locks and clock are replaced by the explorer's own, which pass the
turn to another thread instead of blocking, and a trace function stops at each line of the chosen files. Time is simulated:
it passes only when all threads wait.

A schedule is described by what differs from the simplest one, in which a thread continues until it has to wait:
``{17: "caller 2", 40: "stall", 52: "kill"}`` says that at point 17 caller 2 continues, that at point 40 the running thread
stands still for :data:`STALL` seconds, and that at point 52 an exception is raised in it. The same choices always give the
same schedule.

Invariant: when a run ends, for whatever reason, none of its threads is left.
"""

from __future__ import annotations

import _thread
import asyncio
import gc
import linecache
import math
import random
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType, SimpleNamespace
from typing import Any, NoReturn

import pytest

from okta_m2m._threads import landings, notifiers, workers

STALL = landings.LOOK
"""Simulated seconds for which a stalled thread stands still. It continues just when waiting callers look again."""

MOST_POINTS = 30_000
"""The points after which a run is one that never ends."""

LONGEST_RUN = 60.0
"""Real seconds after which the explorer itself must be broken."""

Choices = Mapping[int, str]
"""What differs from the simplest schedule: at which point, the name of the thread that continues, ``stall`` or ``kill``."""


class Violation(AssertionError):
    """A schedule broke a promise."""


class Killed(BaseException):
    """Raised at a line of a thread, as a signal handler does."""


class _Stop(SystemExit):
    """Ends a thread of a run that is over. A ``SystemExit``, because asyncio passes those on."""


class CurrentThread:
    """What an actor gets from ``threading.current_thread()``. The package names it after each job."""

    name = ""


class Actor:
    """One thread of a run."""

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self.name = name
        self.work = work
        self.gate = _thread.allocate_lock()
        self.gate.acquire()
        self.is_ready: Callable[[], bool] | None = None  # None: it can continue
        self.until = math.inf  # when it continues anyway
        self.has_ended = False
        self.was_killed = False
        self.thread = CurrentThread()

    def may_continue(self, now: float) -> bool:
        return self.is_ready is None or self.until <= now or self.is_ready()


class Point:
    """A point of the simplest schedule: which thread ran, and which others could have continued instead."""

    def __init__(self, running: str, others: list[str], is_line: bool) -> None:
        self.running, self.others, self.is_line = running, others, is_line


class Schedule:
    """One run.

    - ``choose``: makes the choices.
    - ``files``: the source files at whose lines the turn may pass.
    - ``look``: called at each point; raises :class:`Violation` if a promise is broken.
    """

    def __init__(self, choose: Chooser, files: frozenset[str]) -> None:
        self.time = 1000.0
        self.choices: dict[int, str] = {}
        self.places: list[str] = []  # where the choices were made
        self.points: list[Point] | None = None
        self.look: Callable[[], None] = lambda: None
        self.violation: Violation | None = None
        self.is_explored = False
        self.is_waiting = False  # whether the running thread cannot continue, so that another one must
        self.has_threads = True  # whether the package can start threads
        self.stalls = 0
        self.kills = 0
        self._choose = choose
        self._files = files
        self._traced: dict[Any, bool] = {}
        self._actors: list[Actor] = []
        self._names: Counter[str] = Counter()
        self._point = 0
        self._done = _thread.allocate_lock()
        self._done.acquire()
        self.running: Actor | None = None
        self._chosen: Actor | None = None

    # ── from outside ─────────────────────────────────────────────────────────────────────────────────────────────

    def run(self, *, explore: bool = False) -> None:
        """Runs all threads that were started, and those that they start, to their end."""
        self.is_explored = explore
        first = self._next()
        if first is not None:
            self.running = first
            first.gate.release()
            if not self._done.acquire(timeout=LONGEST_RUN):
                raise RuntimeError(f"the explorer is stuck, in {self.running and self.running.name}: {self.choices}")
        self.running, self.is_explored = None, False
        self._actors.clear()
        if self.violation is not None:
            raise self.violation

    def start(self, name: str, work: Callable[[], object]) -> Actor:
        """Starts a thread."""
        if self.violation is not None:
            raise RuntimeError("can't start new thread")
        self._names[name] += 1
        actor = Actor(f"{name} {self._names[name]}", work)
        self._actors.append(actor)
        _thread.start_new_thread(self._run, (actor,))
        return actor

    def now(self) -> float:
        return self.time

    # ── from the running thread ──────────────────────────────────────────────────────────────────────────────────

    def sleep(self, seconds: float) -> None:
        self.block(lambda: False, self.time + seconds)

    def block(self, is_ready: Callable[[], bool], until: float = math.inf, *, may_kill: bool = True) -> None:
        """Passes the turn on, until the running thread may continue."""
        actor = self._current()
        if is_ready() or until <= self.time:
            return
        actor.is_ready, actor.until = is_ready, until
        self._chosen = None
        is_killed = self.is_explored and self._decide(None, may_kill=may_kill) == "kill"
        if not is_killed:
            self._pass_on(self._chosen)
        actor.is_ready, actor.until = None, math.inf
        if is_killed:
            self._kill(actor)

    def turn(self) -> None:
        """A point, as at each line of the traced files."""
        if self.is_explored:
            self._current()
            self._at_line(sys._getframe(1), "line", None)

    def fail(self, problem: str) -> NoReturn:
        """The run breaks a promise: it ends here."""
        if self.violation is None:
            self.violation = Violation(problem)
        sys.settrace(None)
        raise _Stop

    # ── the turn ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self, actor: Actor) -> None:
        actor.gate.acquire()
        try:
            if self.violation is None:
                if self.is_explored:
                    sys.settrace(self._trace)
                actor.work()
        except (_Stop, Killed):
            pass
        except BaseException:
            if self.violation is None:
                self.violation = Violation(f"{actor.name} ended with an exception\n{traceback.format_exc()}")
        sys.settrace(None)
        actor.has_ended = True
        following = self._following()
        if following is None:
            self._done.release()
        else:
            self.running = following
            following.gate.release()

    def _following(self) -> Actor | None:
        """The thread that continues when the running one has ended."""
        self._chosen = None
        if self.is_explored and self.violation is None:
            with suppress(_Stop):
                self._decide(None, may_kill=False)
        return self._chosen or self._next()

    def _current(self) -> Actor:
        if self.violation is not None:
            sys.settrace(None)
            raise _Stop
        actor = self.running
        assert actor is not None, "not in a thread of the run"
        if actor.was_killed and self.is_explored:
            sys.settrace(self._trace)  # Python ends the tracing of a thread whose trace function raises
        return actor

    def _next(self) -> Actor | None:
        """The thread that continues when the running one cannot. Lets time pass if all of them wait."""
        alive = [actor for actor in self._actors if not actor.has_ended]
        if self.violation is not None:
            return alive[0] if alive else None
        while alive:
            ready = [actor for actor in alive if actor.may_continue(self.time)]
            if ready:
                return ready[0]
            moment = min(actor.until for actor in alive)
            if moment == math.inf:
                names = ", ".join(actor.name for actor in alive)
                self.violation = Violation(f"waits forever: {names}")
                return alive[0]
            self.time = moment
        return None

    def _pass_on(self, to: Actor | None) -> None:
        actor = self.running
        assert actor is not None
        if to is None or to.has_ended:
            to = self._next()
        if to is not actor and to is not None:
            self.running = to
            to.gate.release()
            actor.gate.acquire()
        if self.violation is not None:
            sys.settrace(None)
            raise _Stop

    def others(self) -> list[str]:
        """The threads that could continue instead of the running one."""
        now = self.time
        return [
            actor.name
            for actor in self._actors
            if actor is not self.running and not actor.has_ended and actor.may_continue(now)
        ]

    def may_kill(self) -> bool:
        """Whether the running thread is a caller: only those can be interrupted."""
        actor = self.running
        return actor is not None and actor.name.startswith("caller") and not actor.was_killed

    def _decide(self, frame: FrameType | None, *, may_kill: bool = True) -> str | None:
        """Counts a point, and returns what is chosen there. ``frame``: where the running thread is; ``None`` if it waits."""
        self._chosen, self.is_waiting = None, frame is None
        actor, number = self.running, self._point
        assert actor is not None
        self._point += 1
        if number > MOST_POINTS:
            self.fail("never ends")
        if self.points is not None:
            self.points.append(Point(actor.name, self.others(), frame is not None))
        choice = self._choose(number, self)
        if choice is None:
            return None
        if choice == "kill":
            if not may_kill or not self.may_kill() or (frame is not None and _leaves_mutex(frame)):
                return None
        elif choice == "stall":
            if frame is None:
                return None
        else:
            if choice not in self.others():
                return None
            self._chosen = next(one for one in self._actors if one.name == choice)
        self.choices[number] = choice
        self.places.append(f"  {actor.name}, {_place(frame)}: {choice}")
        return choice

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        is_traced = self._traced.get(code)
        if is_traced is None:
            is_traced = self._traced[code] = code.co_filename in self._files and code.co_name != "<module>"
        return self._at_line if is_traced else None

    def _at_line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line" and self.running is not None:
            actor = self.running
            try:
                self.look()
            except Violation as violation:
                self.fail(f"{violation} (in {actor.name}, {_place(frame)})")
            while (choice := self._decide(frame)) is not None:  # and again when it continues there
                if choice == "kill":
                    self._kill(actor)
                elif choice == "stall":
                    self.stalls += 1
                    actor.is_ready, actor.until = (lambda: False), self.time + STALL
                    self._pass_on(None)
                    actor.is_ready, actor.until = None, math.inf
                else:
                    self._pass_on(self._chosen)
        return self._at_line

    def _kill(self, actor: Actor) -> None:
        actor.was_killed = True
        self.kills += 1
        raise Killed


def _place(frame: FrameType | None) -> str:
    if frame is None:
        return "waiting"
    code = frame.f_code
    line = linecache.getline(code.co_filename, frame.f_lineno).strip()
    return f"{code.co_filename.rpartition('/')[2]}:{frame.f_lineno} in {code.co_name}, before `{line}`"


def _leaves_mutex(frame: FrameType) -> bool:
    """Whether the line may be the end of a block that holds the mutex. Nothing can be raised there: only a trace function
    comes between the block and the mutex's release."""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    return line.strip().startswith("with mutex()")


# ── what blocks ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Mutex:
    """Replaces the reentrant mutex."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._owner: Actor | None = None
        self._depth = 0

    def __enter__(self) -> None:
        own = self._schedule.running
        if self._owner is not own and self._owner is not None:
            self._schedule.block(lambda: self._owner is None, may_kill=False)
        self._owner = own
        self._depth += 1

    def __exit__(self, *failure: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None


class Lock:
    """Replaces ``threading.Lock``."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._is_held = False

    def acquire(self, timeout: float = math.inf) -> bool:
        self._schedule.block(lambda: not self._is_held, self._schedule.time + timeout)
        acquired, self._is_held = not self._is_held, True
        return acquired

    def release(self) -> None:
        if not self._is_held:
            raise RuntimeError("release unlocked lock")
        self._is_held = False


class Thread:
    """Replaces ``threading.Thread``."""

    native_id = None

    def __init__(self, schedule: Schedule, target: Callable[[], object], name: str) -> None:
        self._schedule, self._target = schedule, target
        self.name = name
        self._actor: Actor | None = None

    def start(self) -> None:
        if not self._schedule.has_threads:
            raise RuntimeError("can't start new thread")
        self._actor = self._schedule.start(self.name.removeprefix("okta-m2m "), self._target)

    def is_alive(self) -> bool:
        return self._actor is not None and not self._actor.has_ended


class Loop(asyncio.BaseEventLoop):
    """An event loop in a thread of a run."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self._schedule = schedule
        self._selector = self
        self._is_woken = False
        self.set_exception_handler(lambda *_: None)  # of a run that is over

    def time(self) -> float:
        return self._schedule.time

    def select(self, timeout: float | None) -> tuple[()]:
        if self._schedule.violation is not None:
            return ()
        until = math.inf if timeout is None else self._schedule.time + timeout
        self._schedule.block(lambda: self._is_woken, until)
        self._is_woken = False
        return ()

    def _process_events(self, events: object) -> None:
        pass

    def _write_to_self(self) -> None:
        self._is_woken = True


@contextmanager
def replace_threads(schedule: Schedule, line: Callable[[], workers.Line]) -> Iterator[None]:
    """Has the package use the explorer's threads, mutex, locks and clock. ``line`` makes the line of its fetches."""
    replaced = [
        (landings, "_mutex", Mutex(schedule)),
        (
            landings,
            "threading",
            SimpleNamespace(Lock=lambda: Lock(schedule), RLock=None, TIMEOUT_MAX=threading.TIMEOUT_MAX),
        ),
        (
            workers,
            "threading",
            SimpleNamespace(
                Thread=lambda target, name, daemon: Thread(schedule, target, name),
                Lock=lambda: Lock(schedule),
                current_thread=lambda: schedule.running and schedule.running.thread,
                get_native_id=lambda: 0,
            ),
        ),
        (workers, "time", SimpleNamespace(monotonic=schedule.now, process_time=lambda: 0.0)),
        (workers, "_ending", []),
        (workers, "_finished_at_exit", set()),
        (workers, "_alive", {}),
        (workers, "_idle", []),
        (workers, "_of_thread", SimpleNamespace()),  # nothing is kept here
        # Reports are made inline: nothing depends on them.
        (notifiers, "start_thread", lambda *_, **__: None),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    fetches = workers.FETCHES
    try:
        for module, name, value in replaced:
            setattr(module, name, value)
        workers.FETCHES = line()  # type: ignore[misc]
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        workers.FETCHES = fetches  # type: ignore[misc]


# ── which schedules ──────────────────────────────────────────────────────────────────────────────────────────────────


Chooser = Callable[[int, Schedule], str | None]
"""Called at each point with its number; returns a choice, or ``None`` for the simplest."""


class Walk:
    """Chooses at random, always the same for a seed: at some of the points, another thread continues.

    - ``length``: about how many points a run has.
    - ``stalls``, ``kills``: how many threads are stalled, and killed.
    """

    def __init__(self, seed: int, length: int, *, stalls: int = 0, kills: int = 0) -> None:
        self._random = random.Random(seed)
        # Some bugs need one switch at the right line, others need many; and others a few after a disturbance.
        rates = 3 / length, 12 / length, 0.1, 0.4
        self._rate = rates[seed % 4]
        self._later_rate = self._random.choice(rates)
        # When a thread waits, the oldest of the others continues, or the newest, or any.
        self._newest_first = self._random.choice((0.0, 0.5, 1.0))
        self._left = ["stall"] * stalls + ["kill"] * kills
        self._random.shuffle(self._left)
        self._moments = sorted(self._random.sample(range(length), len(self._left)))

    def __call__(self, number: int, schedule: Schedule) -> str | None:
        if self._left and number >= self._moments[0] and (self._left[0] == "stall" or schedule.may_kill()):
            self._rate = self._later_rate
            self._moments.pop(0)
            return self._left.pop(0)
        if schedule.is_waiting:
            names = schedule.others() if self._newest_first else []
            if not names:
                return None
            return names[-1] if self._random.random() < self._newest_first else self._random.choice(names)
        if self._random.random() >= self._rate:
            return None
        names = schedule.others()
        return self._random.choice(names) if names else None


class Exactly:
    """Makes these choices, and no others."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices

    def __call__(self, number: int, schedule: Schedule) -> str | None:
        return self.choices.get(number)


class SwitchAndKill:
    """At that point, another thread continues; and the one that ran before is killed when it does."""

    def __init__(self, number: int, other: str) -> None:
        self._number, self._other = number, other
        self._doomed: Actor | None = None

    def __call__(self, number: int, schedule: Schedule) -> str | None:
        if number == self._number:
            self._doomed = schedule.running
            return self._other
        return "kill" if self._doomed is not None and schedule.running is self._doomed else None


def each_switch(points: Iterable[Point]) -> Iterator[Exactly]:
    """All schedules with one switch more than the simplest one, whose points these are."""
    for number, point in enumerate(points):
        for other in point.others:
            yield Exactly({number: other})


def each_kill(points: Iterable[Point]) -> Iterator[Exactly]:
    """Each caller is killed, at each of its lines and wherever it waits."""
    for number, point in enumerate(points):
        if point.running.startswith("caller"):
            yield Exactly({number: "kill"})


def each_switch_and_kill(points: Iterable[Point]) -> Iterator[SwitchAndKill]:
    """Each caller is killed where it continues after another thread, at each of its lines."""
    for number, point in enumerate(points):
        if point.running.startswith("caller") and point.is_line:
            for other in point.others:
                yield SwitchAndKill(number, other)


def each_stall(points: Iterable[Point]) -> Iterator[Exactly]:
    """Each thread is stalled at each of its lines."""
    for number, point in enumerate(points):
        if point.is_line:
            yield Exactly({number: "stall"})


@contextmanager
def quiet() -> Iterator[None]:
    """While schedules are explored: garbage is not collected in the middle of a run, where it would end flows at random. A thread
    that an earlier test left behind would take the explorer's locks and clock for its own, so it is waited for."""
    ends = time.monotonic() + LONGEST_RUN
    while any(thread.name.startswith("okta-m2m ") for thread in threading.enumerate()) and time.monotonic() < ends:
        time.sleep(0.01)
    state = random.getstate()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        random.setstate(state)
        if was_enabled:
            gc.enable()


# ── planted bugs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def plant(patch: pytest.MonkeyPatch, owner: Any, name: str, *changes: tuple[str, str]) -> None:
    """Compiles a function of a class or module again, with some of its source replaced. Each replaced text must occur in it
    exactly once, so that a planted bug cannot outlive the code that it is planted in."""
    import __future__

    import inspect
    import textwrap

    function = inspect.unwrap(owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name))
    is_static = isinstance(function, staticmethod)
    function = function.__func__ if is_static else function
    lines, first = inspect.getsourcelines(function)
    source = textwrap.dedent("".join(lines))
    for before, after in changes:
        assert source.count(before) == 1, f"{name} no longer has exactly one {before!r}"
        source = source.replace(before, after)
    code = compile(
        "\n" * (first - 1) + source, function.__code__.co_filename, "exec", __future__.annotations.compiler_flag, True
    )
    namespace: dict[str, Any] = {}
    exec(code, function.__globals__, namespace)
    made = namespace[name]
    patch.setattr(owner, name, staticmethod(made) if is_static else made)
