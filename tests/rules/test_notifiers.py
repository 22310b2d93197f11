"""Log and observers are told in order, in a thread of their own, and nobody waits for them."""

from __future__ import annotations

import contextvars
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from okta_m2m._core.reports import Reports
from okta_m2m._threads.landings import Landing
from okta_m2m._threads.notifiers import Notifier
from okta_m2m.events import AuthorizationKept, Event, OriginPassedOver

WHILE = 20.0
DOCUMENTED_WAIT = 0.05
DOCUMENTED_PENDING = 1000
"""What docs/design.md promises of an observer that is slow. Not read from the code, which may not change them."""


def test_observers_are_notified_in_order_in_a_separate_thread() -> None:
    notifier, told = Notifier(), []
    for number in range(100):
        notifier.notify(lambda number=number: told.append((number, threading.current_thread().name)))
    notifier.settle(WHILE)
    assert told == [(number, "okta-m2m reports") for number in range(100)]


def test_after_settle_the_observer_has_been_notified() -> None:
    for _ in range(100):
        notifier, told = Notifier(), []
        notifier.notify(told.append, 1)
        notifier.settle(WHILE)
        assert told == [1]


def test_a_caller_waits_fifty_milliseconds_for_a_slow_observer(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def wait(landing: Landing, seconds: float) -> bool:
        waits.append(seconds)
        return landing.done()

    monkeypatch.setattr(Landing, "wait", wait)
    ends, reports = threading.Event(), Reports("0oa1", lambda event: ends.wait(WHILE))
    reports.origin_passed_over("https://a.example")
    reports.origin_passed_over("https://b.example")
    ends.set()
    assert waits == [DOCUMENTED_WAIT]
    monkeypatch.undo()
    reports.close(WHILE)


def test_no_caller_waits_for_a_slow_observer_twice() -> None:
    notifier, ends = Notifier(), threading.Event()
    notifier.notify(ends.wait, WHILE)
    notifier.settle()
    began = time.perf_counter()
    for _ in range(200):  # ten seconds, if each waited
        notifier.notify(lambda: None)
        notifier.settle()
    assert time.perf_counter() - began < 5.0
    ends.set()
    notifier.settle(WHILE)


def test_an_observer_may_notify_and_settle_without_deadlock() -> None:
    notifier, told = Notifier(), []

    def observe() -> None:
        notifier.notify(told.append, "inner")
        notifier.settle(WHILE)  # would never end
        told.append("outer")

    notifier.notify(observe)
    notifier.settle(WHILE)
    assert told == ["outer", "inner"]


def test_an_observer_that_raises_is_logged_and_the_next_is_notified(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Event] = []

    def observe(event: Event) -> None:
        seen.append(event)
        raise ValueError

    reports = Reports("0oa1", observe)
    reports.origin_passed_over("https://a.example")
    reports.authorization_kept("https://b.example")
    reports.close(WHILE)
    assert seen == [OriginPassedOver("0oa1", "https://a.example"), AuthorizationKept("0oa1", "https://b.example")]
    assert "on_event raised ValueError for OriginPassedOver" in caplog.text


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_an_observer_that_raises_system_exit_does_not_stop_the_next(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    notifier, told = Notifier(), []

    def leave() -> None:
        raise error

    notifier.notify(leave)
    notifier.notify(told.append, 1)
    notifier.settle(WHILE)
    assert told == [1]
    assert f"raised {error.__name__}" in caplog.text


def test_an_observer_runs_in_the_context_of_the_call() -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
    notifier, seen = Notifier(), []
    request.set("the caller's")
    notifier.notify(lambda: seen.append(request.get()))
    notifier.settle(WHILE)
    assert seen == ["the caller's"]


def test_notifications_beyond_a_hung_observers_limit_are_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    notifier, ends, told = Notifier(), threading.Event(), []
    began = threading.Event()

    def hang() -> None:
        began.set()
        ends.wait(WHILE)

    notifier.notify(hang)
    assert began.wait(WHILE)
    for number in range(DOCUMENTED_PENDING + 10):
        notifier.notify(told.append, number)
    ends.set()
    notifier.settle(WHILE)
    assert told == list(range(10, DOCUMENTED_PENDING + 10))
    assert "10 reports were dropped" in caplog.text


def test_if_no_thread_can_be_started_observers_are_notified_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    notifier, told = Notifier(), []
    notifier.notify(told.append, 1)
    assert told == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_neither_waits_for_nor_repeats_its_parents_notifications() -> None:
    notifier, ends, told = Notifier(), threading.Event(), []
    notifier.notify(ends.wait, WHILE)
    notifier.notify(told.append, "the parent's")
    read, write = os.pipe()
    child = os.fork()
    if not child:
        notifier.settle(WHILE)
        notifier.notify(told.append, "the child's")
        notifier.settle(WHILE)
        os.write(write, ",".join(told).encode())
        os._exit(0)
    os.close(write)
    assert os.read(read, 100) == b"the child's"
    os.waitpid(child, 0)
    ends.set()
    notifier.settle(WHILE)
    assert told == ["the parent's"]


PROGRAM = """
import sys, time
from okta_m2m._core.reports import Reports
def observe(event):
    time.sleep(float(sys.argv[1]))
    print(type(event).__name__, flush=True)
Reports("0oa1", observe).origin_passed_over("https://a.example")
"""


@pytest.mark.parametrize(("seconds", "printed"), [(0.3, "OriginPassedOver\n"), (60.0, "")])
def test_the_exit_of_the_process_waits_for_an_observer_a_limited_time(seconds: float, printed: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(seconds)],
        capture_output=True,
        text=True,
        timeout=WHILE,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, printed)


def test_a_slow_log_handler_delays_no_caller() -> None:
    ends = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            ends.wait(WHILE)

    handler, logger = Handler(), logging.getLogger("okta_m2m")
    logger.addHandler(handler)
    try:
        reports = Reports("0oa1", None)
        report: list[Callable[[], None]] = [
            lambda number=number: reports.origin_passed_over(f"https://{number}.example") for number in range(200)
        ]
        began = time.perf_counter()
        for one in report:
            one()
        assert time.perf_counter() - began < 5.0
    finally:
        ends.set()
        reports.close(WHILE)
        logger.removeHandler(handler)
