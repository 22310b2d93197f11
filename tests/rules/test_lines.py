"""Lines: how much of the same work runs at a time, and that no limit stays closed because something hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from okta_m2m._threads import workers
from okta_m2m._threads.workers import FETCHES, SIGNATURES, Line, start, start_in_turn
from services import eventually

PATIENCE = 20.0
LONG = 1000.0


class Work:
    """Jobs that say when they begin, and end when they are told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._changed = threading.Condition()
        self._ends: dict[str, threading.Event] = {}

    def job(self, name: str) -> Callable[[], None]:
        ends = self._ends.setdefault(name, threading.Event())

        def run() -> None:
            with self._changed:
                self.begun.append(name)
                self._changed.notify_all()
            ends.wait(PATIENCE)

        return run

    def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()

    def end_all(self) -> None:
        self.end(*self._ends)

    def await_begun(self, number: int) -> list[str]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.begun) >= number, PATIENCE), self.begun
            return list(self.begun)


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.end_all()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Puts the lines' clock forward; the process is never busy."""
    ahead = 0.0
    monotonic = time.monotonic

    def forward(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    class Time:
        monotonic = staticmethod(lambda: monotonic() + ahead)
        process_time = staticmethod(lambda: 0.0)
        sleep = staticmethod(time.sleep)

    monkeypatch.setattr(workers, "time", Time)
    return forward


def put(line: Line, work: Work, name: str, whose: object = "endpoint", seconds: float = LONG) -> Any:
    job = line.put(work.job(name), "test", whose, seconds)
    assert job is not None
    return job


def test_jobs_beyond_the_limit_wait_their_turn_in_order(work: Work, clock: object) -> None:
    line = Line(2, 100)
    jobs = [put(line, work, name) for name in "abcde"]
    assert sorted(work.await_begun(2)) == ["a", "b"]
    assert all(job.is_alive() for job in jobs)
    work.end("a")
    assert work.await_begun(3)[2:] == ["c"]
    work.end("b")
    assert work.await_begun(4)[3:] == ["d"]
    work.end("c")
    assert work.await_begun(5)[4:] == ["e"]
    work.end_all()


def test_one_owner_does_not_get_all_the_threads(work: Work, clock: object) -> None:
    line = Line(10, 2)
    for name in "abc":
        put(line, work, name, "slow")
    put(line, work, "d", "quick")
    assert sorted(work.await_begun(3)) == ["a", "b", "d"]


def test_a_job_past_its_time_no_longer_counts(work: Work, clock: Callable[[float], None]) -> None:
    line = Line(2, 100)
    put(line, work, "a", seconds=5.0)
    put(line, work, "b", seconds=5.0)
    waiting = put(line, work, "c")
    work.await_begun(2)
    clock(5.0)
    assert waiting.is_alive(), "asking also moves the line on"
    assert work.await_begun(3)[2] == "c"


def test_an_owner_whose_jobs_all_hang_may_start_one_more_at_a_time(work: Work, clock: Callable[[float], None]) -> None:
    line = Line(1000, 4)
    for name in "abcd":
        put(line, work, name, seconds=1.0)
    work.await_begun(4)
    clock(1.0)
    put(line, work, "e")
    put(line, work, "f")
    assert work.await_begun(5)[4:] == ["e"]
    work.end("e")  # it answers again: those that hang are forgotten
    assert work.await_begun(6)[5:] == ["f"]
    for name in "ghi":
        put(line, work, name)
    assert sorted(work.await_begun(9)[6:]) == ["g", "h", "i"]


def test_a_cancelled_job_leaves_the_line(work: Work, clock: object) -> None:
    line = Line(1, 100)
    put(line, work, "a")
    cancelled = put(line, work, "b")
    put(line, work, "c")
    work.await_begun(1)
    line.remove(cancelled)
    assert not cancelled.is_alive()
    work.end("a")
    assert work.await_begun(2) == ["a", "c"]


def test_after_a_job_that_raises_the_next_one_runs(work: Work, clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    line = Line(1, 100)

    def fail() -> None:
        raise SystemExit

    line.put(fail, "test", "endpoint", LONG)
    put(line, work, "a")
    deadline = time.monotonic() + PATIENCE
    while not work.begun and time.monotonic() < deadline:
        line.move_on()
    assert work.begun == ["a"]


def test_if_no_thread_can_be_started_the_job_is_refused_and_does_not_count(
    monkeypatch: pytest.MonkeyPatch, work: Work
) -> None:
    line = Line(1, 100)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert line.put(work.job("a"), "test", "endpoint", LONG) is None
    put(line, work, "b")
    assert work.await_begun(1) == ["b"]


def test_a_job_interrupted_while_its_thread_starts_does_not_count(monkeypatch: pytest.MonkeyPatch, work: Work) -> None:
    line = Line(1, 100)

    def interrupt(thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupt)
        with pytest.raises(KeyboardInterrupt):
            line.put(work.job("a"), "test", "endpoint", LONG)
    put(line, work, "b")
    assert work.await_begun(1) == ["b"]


def test_a_second_job_starts_beside_the_first_only_if_the_process_is_not_busy(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, cpu = 100.0, 0.0

    class Time:
        monotonic = staticmethod(lambda: now)
        process_time = staticmethod(lambda: cpu)

    monkeypatch.setattr(workers, "time", Time)
    line = Line(32, 100)
    now, cpu = now + 1.0, cpu + 0.9
    jobs = [put(line, work, str(number)) for number in range(6)]
    work.await_begun(1)
    assert [job.state for job in jobs[1:]] == ["waiting"] * 5
    now, cpu = now + 1.0, cpu + 0.1
    jobs[1].is_alive()
    work.await_begun(6)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_in_a_forked_child_no_job_of_the_parent_counts(work: Work, clock: object) -> None:
    line = Line(1, 100)
    put(line, work, "a")
    put(line, work, "b")
    work.await_begun(1)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        done = threading.Event()
        line.put(done.set, "test", "endpoint", LONG)
        os.write(write, b"1" if done.wait(PATIENCE) else b"0")
        os._exit(0)
    os.close(write)
    assert os.read(read, 1) == b"1"
    os.waitpid(child, 0)


def test_a_signer_that_hung_a_hundred_times_can_sign_again(clock: Callable[[float], None]) -> None:
    signer, hangs = object(), threading.Event()
    futures = [start_in_turn(lambda: hangs.wait(PATIENCE), "signature", signer, 1.0) for _ in range(200)]
    assert all(future is not None for future in futures)
    for future in futures:
        future.cancel()  # their callers' time is over  # type: ignore[union-attr]
    assert not [job for job in SIGNATURES._waiting if job.whose == id(signer)], "cancelled, but still in line"
    clock(1.0)
    signed = [start_in_turn(lambda: "signed", "signature", signer, 1.0) for _ in range(50)]
    assert [future.result(PATIENCE) for future in signed if future is not None] == ["signed"] * 50
    hangs.set()


def test_at_most_32_fetches_of_a_process_run_at_once(work: Work, clock: object) -> None:
    for number in range(100):
        put(FETCHES, work, str(number), f"endpoint {number % 3}")
    work.await_begun(32)
    assert sum(job.state == "running" for job in FETCHES._running) == 32
    for number in range(100):
        work.end(str(number))
    work.await_begun(100)


# ── threads that are used again ──────────────────────────────────────────────────────────────────────────────────────


def test_the_next_job_runs_in_the_same_thread_which_ends_soon_if_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "LONGEST_IDLE", PATIENCE)
    finished(start(threading.current_thread, "send"))
    monkeypatch.setattr(workers, "LONGEST_IDLE", 0.2)
    waiting, again = without_a_job(), start(threading.current_thread, "send")
    assert again is not None
    last = again.result(PATIENCE)
    assert last in waiting
    last.join(PATIENCE)
    assert not last.is_alive()
    assert finished(start(threading.current_thread, "send")) is not last


def test_a_thread_that_is_used_again_has_the_name_of_its_new_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LONGEST_IDLE", 2.0)
    finished(start(threading.current_thread, "send"))
    waiting = without_a_job()
    named = start(lambda: (threading.current_thread(), threading.current_thread().name), "store")
    assert named is not None
    thread, name = named.result(PATIENCE)
    assert thread in waiting
    assert name == "okta-m2m store"


def test_a_caller_interrupted_while_it_gives_a_job_to_a_thread_leaves_none_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "LONGEST_IDLE", 2.0)
    finished(start(threading.current_thread, "send"))
    given = []

    def interrupt(worker: workers._Worker, *_: object) -> None:
        given.append(worker.thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(workers._Worker, "give", interrupt)
        with pytest.raises(KeyboardInterrupt):
            start(threading.current_thread, "send")
    [idle] = given
    assert finished(start(threading.current_thread, "send")) is not idle
    idle.join(PATIENCE)
    assert not idle.is_alive()


LATE = """
import builtins, os, sys
from okta_m2m._threads.workers import start_thread

class Late:
    start, write, finalizing = staticmethod(start_thread), staticmethod(os.write), staticmethod(sys.is_finalizing)

    def __del__(self):
        self.write(1, f"{self.finalizing()} {self.start(int, 'send')}".encode())

builtins.late = Late()
"""


def test_while_the_interpreter_shuts_down_no_work_waits_for_a_thread() -> None:
    ended = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=PATIENCE)
    assert ended.stdout == "True None", ended.stderr


def test_a_thread_of_a_caller_keeps_nothing() -> None:
    """Nobody would close it."""
    assert not workers.keep("key", object())
    assert workers.take_kept("key") is None


def finished(working: Future[threading.Thread] | None) -> threading.Thread:
    """The thread that did the work, once it waits for more."""
    assert working is not None
    thread = working.result(PATIENCE)
    eventually(lambda: thread in without_a_job(), "a thread without a job")
    return thread


def without_a_job() -> set[threading.Thread]:
    """The threads that wait for a job. An earlier test may have left one."""
    return {worker.thread for worker in list(workers._idle)}
