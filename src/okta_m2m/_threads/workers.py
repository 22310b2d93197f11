"""Starts this package's threads. Everything in it that waits for the outside world runs in one.

They are daemon threads: neither a call, nor the end of an event loop or of the process waits for them. The threads of
``asyncio.to_thread`` and of executors delay both, because a loop and the interpreter wait for them before they end.

A *line* limits how much of the same work runs at a time. Whatever is beyond the limit waits its turn.

Invariant: no thread is counted forever. A job past its time no longer counts, because whatever it waits for may never
answer.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .._base.clocks import NEVER
from .landings import LOOK, fork_listeners, mutex

if TYPE_CHECKING:
    from concurrent.futures import Future

LONGEST_BEFORE_FORK: Final = 0.5
"""Seconds that a fork waits for threads that are ending."""

YOUNG: Final = 0.1
"""Seconds after its start for which a fork and the end of the process wait for a thread: it may be signing, reading a CA
bundle, or in a TLS handshake. Later it waits for the network, and they do not wait for it."""

LONGEST_START: Final = 1.0
"""Seconds for which a line waits for a thread that it has started, before it starts another."""

LONGEST_AT_EXIT: Final = 1.0
"""Seconds that the end of the process waits until stores, the log and observers have received what is pending."""

COMPUTES: Final = 0.05
BUSY_PERIOD: Final = 0.05
BUSY_SHARE: Final = 0.8
"""Beside a job that began within the last 0.05 s, and so may be computing, another starts only if in the last 0.05 s this
process computed for less than 80% of the time. With 32 threads that compute, an event loop beside them stood for 2.6 s until a
thousand apps had their tokens (aiohttp); with this, for 0.03 s. Beside four such jobs instead of one, the tokens of three
thousand apps took 1.3 times as long."""

IMPORTED_LATE: Final = (
    "concurrent.futures",
    "cryptography.hazmat.primitives.asymmetric.utils",
    "datetime",
    "difflib",
    "email.utils",
    "encodings.idna",
    "inspect",
    "joserfc.jwe",
    "joserfc.jwk",
    "netrc",
    "tempfile",
)
"""Modules of other projects that are heavy, and so are first imported by a call or by an app. A child that is forked while
another thread imports one of them would wait for that import forever, so they are imported before a fork."""

LONGEST_IMPORT: Final = 10.0
"""Seconds that a fork waits for an import that :func:`importing` guards."""

LONGEST_IDLE: Final = 1.0
"""Seconds for which a thread without a job waits for another one. Its connection to the token endpoint is used again (aiohttp).
Both together halved the CPU time of a cold call where 2,000 apps of aiohttp start at once: 4.2 ms, and without them 8.3 ms."""

_alive: dict[threading.Thread, float] = {}
"""The threads that do a job, and since when."""
_ending: deque[int] = deque(maxlen=256)
"""The system's numbers of threads that are ending. Their objects would be kept until the next fork."""
_finished_at_exit: set[threading.Thread] = set()
_importing = threading.RLock()
_idle: list[_Worker] = []
_of_thread = threading.local()

T = TypeVar("T")


def start(work: Callable[[], T], purpose: str, result: Future[T] | None = None) -> Future[T] | None:
    """Starts ``work``, and returns the future of its result. Returns ``None`` if no thread can be started any more, for example
    while the interpreter shuts down: then do the work inline."""
    job, working = _with_result(work, result)
    with mutex():
        if _idle:
            # If a signal handler raises at any of these lines, the thread does the job later, or ends.
            _idle.pop().give(job, purpose)
            return working
    return None if start_thread(_Worker(job, purpose).run, purpose) is None else working


def start_in_turn(work: Callable[[], T], purpose: str, whose: object, seconds: float) -> Future[T] | None:
    """Like :func:`start`, for work with an object that many callers may use: a few run at a time, the others wait their
    turn. Cancel the future of work that is no longer needed.

    ``seconds``: the time after which no one waits for the work any more.
    """
    run, working = _with_result(work)
    # The work refers to that object, so nothing else gets its id.
    job = SIGNATURES.put(run, purpose, id(whose), seconds)
    if job is None:
        return None
    working.add_done_callback(lambda ended: SIGNATURES.remove(job) if ended.cancelled() else None)
    return working


def _with_result(work: Callable[[], T], result: Future[T] | None = None) -> tuple[Callable[[], None], Future[T]]:
    from concurrent.futures import Future  # heavy

    working: Future[T] = Future() if result is None else result

    def run() -> None:
        if not working.set_running_or_notify_cancel():
            return
        try:
            answer = work()
        except BaseException as error:  # noqa: BLE001 (it is passed to the waiter)
            working.set_exception(error)
        else:
            working.set_result(answer)

    return partial(copy_context().run, run), working  # so that a tracer counts the work as the starter's


def start_thread(job: Callable[[], object], purpose: str, *, finishes_at_exit: bool = False) -> threading.Thread | None:
    """A daemon thread that does the job. ``None`` if no thread can be started any more.

    ``finishes_at_exit``: whether the end of the process waits a moment for it.
    """

    def run() -> None:
        own = threading.current_thread()
        _alive[own] = time.monotonic()
        try:
            job()
        finally:
            _finished_at_exit.discard(own)
            _ending.append(threading.get_native_id())
            _alive.pop(own, None)

    if sys.is_finalizing():
        return None  # before Python 3.12, it would never run, and its start would wait for it
    handled, thread = sys.exception(), threading.Thread(target=run, name=f"okta-m2m {purpose}", daemon=True)
    if finishes_at_exit:
        _finished_at_exit.add(thread)
    try:
        thread.start()
    except (RuntimeError, KeyError) as error:
        _finished_at_exit.discard(thread)
        # If a signal handler raises in start(), Python's own cleanup may fail with one of these errors: it had no lock to
        # release, or the thread to forget was already running.
        interruption = error.__context__
        if interruption is not None and interruption is not handled:
            raise interruption from None
        return None
    return thread


def importing() -> threading.RLock:
    """Held while a store imports the packages that it needs. They are too heavy for an installation that has them and no store,
    so they are not among those that a fork imports. It waits for this instead."""
    return _importing


def on_event_loop() -> bool:
    """Whether an event loop of asyncio or trio runs in this thread, which must not be blocked."""
    running_loop = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    if running_loop is not None and running_loop() is not None:
        return True
    trio_token = getattr(sys.modules.get("trio.lowlevel"), "current_trio_token", None)
    if trio_token is None:
        return False
    try:
        trio_token()
    except RuntimeError:
        return False
    return True


def too_slow(what: str, timeout: float) -> str:
    return f"no {what} within {timeout:.3g} s"


# ── threads that are used again ──────────────────────────────────────────────────────────────────────────────────────


class _Worker:
    """A thread that does one job after another, and ends after a second without one."""

    __slots__ = ("_job", "_purpose", "_wake", "kept", "thread")

    def __init__(self, job: Callable[[], None], purpose: str) -> None:
        self._job: Callable[[], None] | None = job
        self._purpose = purpose
        self._wake = threading.Lock()
        self._wake.acquire()
        self.kept: tuple[object, Any] | None = None
        self.thread = threading.current_thread()  # which starts it; then its own

    def give(self, job: Callable[[], None] | None, purpose: str) -> None:
        """Gives it the next job; ``None`` ends it. Called under the mutex."""
        self._job, self._purpose = job, purpose
        self._wake.release()

    def run(self) -> None:
        own = self.thread = threading.current_thread()
        _of_thread.worker = self
        try:
            while self._job is not None:
                job, self._job = self._job, None
                own.name = f"okta-m2m {self._purpose}"
                _alive[own] = time.monotonic()
                job()
                own.name = "okta-m2m idle"
                _alive.pop(own, None)  # so that no fork waits for it
                self._wait()
        finally:
            if self.kept is not None:
                self.kept[1].close()

    def _wait(self) -> None:
        with mutex():
            _idle.append(self)
        self._wake.acquire(timeout=LONGEST_IDLE)
        with mutex():
            if self in _idle:
                _idle.remove(self)


def keep(key: object, kept: Any) -> bool:
    """Keeps something for :func:`take_kept` with the same key. If this thread asks for another key, or ends, ``kept.close()`` is
    called. ``False`` in a caller's own thread, which keeps nothing."""
    worker: _Worker | None = getattr(_of_thread, "worker", None)
    if worker is None:
        return False
    worker.kept = key, kept
    return True


def take_kept(key: object) -> Any:
    """What this thread has kept for that key, if anything. It belongs to the caller now."""
    worker: _Worker | None = getattr(_of_thread, "worker", None)
    if worker is None or worker.kept is None:
        return None
    (kept_for, kept), worker.kept = worker.kept, None
    if kept_for == key:
        return kept
    kept.close()
    return None


# ── lines ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Job:
    """A job in a line."""

    __slots__ = ("_line", "began", "purpose", "run", "seconds", "state", "whose")

    def __init__(self, line: Line, run: Callable[[], object], purpose: str, whose: Hashable, seconds: float) -> None:
        self._line = line
        self.run = run
        self.purpose = purpose
        self.whose = whose
        self.seconds = seconds
        self.began = 0.0
        self.state = "waiting"  # then "starting", "running", and "ended"

    def is_alive(self) -> bool:
        """Whether it waits or runs. A caller that waits for it asks each second; that also moves the line on, if what is
        ahead has exceeded its time."""
        if self.state == "waiting":
            self._line.move_on_for(self)
        return self.state != "ended"

    def is_over(self, now: float) -> bool:
        """Whether it is past its time."""
        return now >= self.began + self.seconds


class Line:
    """Runs jobs in threads, as many at a time as fit. The others wait their turn, in order of arrival.

    A job past its time no longer counts: it waits for something slow, which must not hold up the work of others.

    - ``most``: the number of jobs that run at a time.
    - ``most_of_one``: the number of jobs of one owner that run at a time. If that many are past their time, one more runs at a
      time, until one ends in time.
    """

    def __init__(self, most: float, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._waiting: deque[Job] = deque()
        self._running: set[Job] = set()
        self._starting_until = self._moved_at = NEVER
        self._busy = time.monotonic(), time.process_time(), False
        fork_listeners.add(self)

    def after_fork(self) -> None:
        """In a forked child: the threads exist only in the parent."""
        self._waiting, self._running, self._starting_until = deque(), set(), NEVER

    def put(self, run: Callable[[], object], purpose: str, whose: Hashable, seconds: float) -> Job | None:
        """Adds a job, which starts at once if there is room. ``None`` if no thread can be started any more."""
        job = Job(self, run, purpose, whose, seconds)
        with mutex():
            self._waiting.append(job)
        self.move_on()
        return None if job.state == "ended" and job.began == 0.0 else job

    def remove(self, job: Job) -> None:
        """Takes a job out of the line, if it has not begun."""
        with mutex():
            if job.state == "waiting" and job in self._waiting:
                self._waiting.remove(job)
                job.state = "ended"

    def move_on(self) -> None:
        """Starts the first job for which there is room. Its thread then starts the next one: many threads that begin at once
        would each take their time, for which an event loop must not wait."""
        job = started = None
        self._moved_at = time.monotonic()
        try:
            with mutex():
                job = None if time.monotonic() < self._starting_until else self._first_with_room()
                if job is None:
                    return
                self._starting_until = time.monotonic() + LONGEST_START
                self._take(job)
            started = start_thread(partial(self._work, job), job.purpose)
        finally:
            # A signal handler may raise at any line above. Whose job it is then looks at it, and starts another.
            if job is not None and started is None:
                self._give_up(job)

    def move_on_for(self, job: Job) -> None:
        """Moves on, if the job is the first in the line: there may be thousands, which all ask. Once a second it does so for
        any of them, because the caller whose job is first may have been interrupted, and no longer asks."""
        try:
            is_first = self._waiting[0] is job
        except IndexError:
            return
        if is_first or time.monotonic() >= self._moved_at + LOOK:
            self.move_on()

    def _work(self, job: Job | None) -> None:
        self._starting_until = NEVER
        while job is not None:
            self.move_on()
            if self._begin(job):
                try:
                    job.run()
                finally:
                    self._end(job)
            job = self._next()

    def _begin(self, job: Job) -> bool:
        """Whether to run the job in this thread: not if the caller that started the thread was interrupted, and gave it up."""
        with mutex():
            if job.state != "starting":
                return False
            job.state = "running"
            return True

    def _end(self, job: Job) -> None:
        with mutex():
            job.state, now = "ended", time.monotonic()
            del job.run  # which refers to the fetch, which refers to this job
            self._running.discard(job)
            if not job.is_over(now):
                # Its owner answers again, so its other jobs that are past their time need not count.
                self._running -= {other for other in self._running if other.whose == job.whose and other.is_over(now)}

    def _next(self) -> Job | None:
        """The first job for which there is room, now running."""
        with mutex():
            job = self._first_with_room()
            if job is not None:
                self._take(job)
            return job

    def _first_with_room(self) -> Job | None:
        """Called under the mutex."""
        if not self._waiting:
            return None
        now = time.monotonic()
        if sum(not job.is_over(now) for job in self._running) >= self._most:
            return None
        if any(now < job.began + COMPUTES for job in self._running) and self._is_busy(now):
            return None
        return next((job for job in self._waiting if self._has_room(job.whose, now)), None)

    def _take(self, job: Job) -> None:
        """Called under the mutex."""
        self._waiting.remove(job)
        self._running.add(job)
        job.state, job.began = "starting", time.monotonic()

    def _give_up(self, job: Job) -> None:
        """The thread of a job was not started, as far as is known."""
        with mutex():
            self._starting_until = NEVER
            if job.state in ("running", "ended"):
                return  # it was
            if job in self._waiting:
                self._waiting.remove(job)
            self._running.discard(job)
            job.state, job.began = "ended", 0.0

    def _is_busy(self, now: float) -> bool:
        """Whether this process leaves no time to its other threads: then more jobs would only keep event loops waiting."""
        since, cpu_since, _ = self._busy
        if now - since >= BUSY_PERIOD:
            cpu = time.process_time()
            self._busy = now, cpu, (cpu - cpu_since) / (now - since) > BUSY_SHARE
        return self._busy[2]

    def _has_room(self, whose: Hashable, now: float) -> bool:
        own = [other for other in self._running if other.whose == whose]
        over = sum(other.is_over(now) for other in own)
        return len(own) - over < (self._most_of_one if over < self._most_of_one else 1)


FETCHES: Final = Line(32, 128)
"""The fetches of this process. The owner of each is a token endpoint."""

SIGNATURES: Final = Line(float("inf"), 128)
"""The signatures that may block. The owner of each is a signer; ten thousand tasks may need a proof at the same moment."""


# ── the end of the process, and forks ────────────────────────────────────────────────────────────────────────────────


def _finish_at_exit() -> None:
    """At the end of the process: gives the threads that save or notify a moment, and those that may be signing. Before Python
    3.14, the process aborts if its end stops a thread in cryptography's Rust code."""
    deadline = time.monotonic() + LONGEST_AT_EXIT
    for thread in list(_finished_at_exit):
        thread.join(max(0.0, deadline - time.monotonic()))
    _wait_for_young_threads()


def _wait_for_young_threads() -> None:
    own = threading.current_thread()
    for thread, began in list(_alive.items()):
        while thread is not own and thread in _alive and time.monotonic() < began + YOUNG:
            time.sleep(0.0005)


def _before_fork() -> None:
    """A child must not be forked while another thread imports, or has a lock of OpenSSL, since it would wait for that thread
    forever."""
    if threading.active_count() > 1:
        for name in IMPORTED_LATE:
            import_module(name)
    # With gevent, what waits here would go on in the child, as a thread that Python does not know.
    with mutex():
        idle = [_idle.pop() for _ in _idle[:]]
        for worker in idle:
            worker.give(None, "")
    for worker in idle:
        worker.thread.join(LONGEST_BEFORE_FORK)
    _wait_for_young_threads()
    _let_threads_end()
    _importing.acquire(timeout=LONGEST_IMPORT)


def _after_fork_in_parent() -> None:
    with suppress(RuntimeError):  # it waited in vain
        _importing.release()


def _let_threads_end() -> None:
    """A thread that signed holds a lock of OpenSSL while it ends. If a child is forked in that moment, its first signature
    waits for that lock forever, and holds the interpreter's own (OpenSSL does not support such forks)."""
    deadline, own = time.monotonic() + LONGEST_BEFORE_FORK, threading.get_native_id()
    while _ending:
        ending = _ending[0]
        while ending != own and _exists(ending) and time.monotonic() < deadline:
            time.sleep(0.0005)
        _ending.popleft()


def _after_fork() -> None:
    global _importing
    _importing = threading.RLock()
    for threads in (_alive, _ending, _finished_at_exit, _idle):  # which exist only in the parent
        threads.clear()


def _exists(native_id: int) -> bool:
    """Whether the system still has the thread, which ends after Python says that it has."""
    if sys.platform == "linux":
        return os.path.exists(f"/proc/self/task/{native_id}")
    return any(thread.native_id == native_id for thread in threading.enumerate())


# Exit handlers run in reverse order. That of all finalizers, by which urllib3 closes connections, is registered with the first of
# the process, so here at the latest. It runs after ours, and closes the connections of the threads that ours waits for.
weakref.finalize(SIGNATURES, _finish_at_exit).detach()
atexit.register(_finish_at_exit)
if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork)
