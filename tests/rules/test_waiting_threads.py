"""Waiting for a flight in threads: who is woken, when, and what becomes of those whose time is over."""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from okta_m2m._threads.landings import Landing
from okta_m2m.effects import Wait
from okta_m2m.runtimes import Threads

LONG = 60.0
MANY = 100


class Waiter(threading.Thread):
    """Waits, and keeps what came of it."""

    def __init__(self, landing: Landing, seconds: float) -> None:
        super().__init__(daemon=True)
        self.effect, self.result = Wait(landing, seconds), ""

    def run(self) -> None:
        self.result = str(runtime.perform(self.effect))

    def waits_or_is_done(self) -> bool:
        frame = sys._current_frames().get(self.ident or 0)
        return not self.is_alive() or (frame is not None and frame.f_code.co_name == "wait")


def send(request: object, timeout: float) -> Any:
    raise AssertionError("nothing is sent here")


runtime = Threads(send)


@pytest.fixture
def landing() -> Iterator[Landing]:
    """Lands at the end of a test, so that no thread waits any longer."""
    landing = Landing()
    yield landing
    landing.land()


def waiting(landing: Landing, *seconds: float) -> list[Waiter]:
    waiters = [Waiter(landing, one) for one in seconds]
    for waiter in waiters:
        waiter.start()
    until = time.monotonic() + LONG / 3
    while not all(waiter.waits_or_is_done() for waiter in waiters):
        assert time.monotonic() < until
        time.sleep(0.01)
    return waiters


def results(waiters: list[Waiter]) -> set[str]:
    until = time.monotonic() + LONG / 3
    for waiter in waiters:
        waiter.join(max(0.0, until - time.monotonic()))
    assert not any(waiter.is_alive() for waiter in waiters)
    return {waiter.result for waiter in waiters}


@pytest.mark.parametrize("count", [1, MANY])
def test_every_waiting_thread_is_woken_however_many_there_are(landing: Landing, count: int) -> None:
    waiters = waiting(landing, *[LONG] * count)
    assert all(waiter.is_alive() for waiter in waiters)
    landing.land()
    assert results(waiters) == {"True"}


def test_no_thread_waits_for_a_fetch_that_has_ended(landing: Landing) -> None:
    landing.land()
    assert results(waiting(landing, *[LONG] * MANY)) == {"True"}


def test_a_thread_that_comes_after_the_end_does_not_wait(landing: Landing) -> None:
    before = waiting(landing, LONG)
    landing.land()
    assert results(before + waiting(landing, *[LONG] * MANY)) == {"True"}


@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_a_thread_whose_time_is_over_wakes_no_other(landing: Landing, seconds: float) -> None:
    patient = waiting(landing, *[LONG] * MANY)
    assert results(waiting(landing, *[seconds] * MANY)) == {"False"}
    assert all(waiter.is_alive() for waiter in patient)
    landing.land()
    assert results(patient) == {"True"}


def test_a_thread_may_wait_again_and_again_for_the_same_fetch(landing: Landing) -> None:
    for _ in range(MANY):
        assert runtime.perform(Wait(landing, 0.0)) is False
    landing.land()
    for _ in range(MANY):
        assert runtime.perform(Wait(landing, 0.0)) is True


def test_threads_whose_time_ends_with_the_fetch_leave_no_other_thread_waiting() -> None:
    for _ in range(10):
        landing = Landing()
        hasty = waiting(landing, *[0.2 + n / 1000 for n in range(MANY)])
        patient = [Waiter(landing, LONG) for _ in range(MANY)]
        for waiter in patient:
            waiter.start()
        landing.land()
        assert results(patient) == {"True"}
        assert results(hasty) <= {"True", "False"}


def test_a_landing_without_references_is_freed() -> None:
    landing = Landing()
    held = weakref.ref(landing)
    assert runtime.perform(Wait(landing, 0.0)) is False
    landing.land()
    assert runtime.perform(Wait(landing, LONG)) is True
    del landing
    gc.collect()
    assert held() is None
