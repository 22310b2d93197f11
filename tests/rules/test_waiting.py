"""Waiting for another's flight on an event loop: whom it wakes, when, and what becomes of those who gave up."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trio
import trio.testing

from okta_m2m._threads.landings import Landing
from okta_m2m._threads.waiting import AT_ONCE, TICK
from okta_m2m.effects import Wait
from okta_m2m.runtimes import Asyncio, Trio

LONG = 60.0


def send(request: object, timeout: float) -> Any:
    raise AssertionError("nothing is sent here")


runtime = Asyncio(send)


def wait(landing: Landing, seconds: float = LONG) -> asyncio.Task[bool]:
    return asyncio.create_task(runtime.perform(Wait(landing, seconds)))


async def waiting(landing: Landing, *seconds: float) -> list[asyncio.Task[bool]]:
    """Tasks, each of which has begun to wait."""
    tasks = [wait(landing, one) for one in seconds]
    await asyncio.sleep(0)
    return tasks


class Clockwork(asyncio.SelectorEventLoop):
    """An event loop whose clock is put forward by hand."""

    now = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.futures: list[weakref.ref[asyncio.Future[Any]]] = []
        self.timers: list[asyncio.TimerHandle] = []

    def create_future(self) -> asyncio.Future[Any]:
        future = super().create_future()
        self.futures.append(weakref.ref(future))
        return future

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, **options: Any) -> asyncio.TimerHandle:
        self.timers.append(super().call_at(when, callback, *args, **options))
        return self.timers[-1]

    def time(self) -> float:
        return self.now

    async def done_at(self, now: float, tasks: dict[int, asyncio.Task[bool]]) -> list[int]:
        """Which of them are done once it is that late."""
        self.now = now
        for _ in range(5):  # turns: the timer, the future, the task
            await asyncio.sleep(0)
        return [name for name, task in sorted(tasks.items()) if task.done()]


def run_with_hands(main: Callable[[Clockwork], Coroutine[Any, Any, None]]) -> None:
    loop = Clockwork()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main(loop))


@pytest.fixture
def landing() -> Landing:
    return Landing()


def test_nothing_waits_for_a_fetch_that_has_ended(landing: Landing) -> None:
    landing.land()
    coroutine = runtime.perform(Wait(landing, LONG))
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value is True


@pytest.mark.parametrize("count", [1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE + 7])
@pytest.mark.parametrize("where", ["on the loop", "in a thread"])
def test_every_waiting_task_is_woken_however_many_there_are(landing: Landing, count: int, where: str) -> None:
    async def main() -> list[bool]:
        tasks = await waiting(landing, *[LONG] * count)
        if where == "on the loop":
            landing.land()
        else:
            await asyncio.to_thread(landing.land)
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [True] * count


def test_while_many_tasks_are_woken_the_loop_has_time_for_others(landing: Landing) -> None:
    async def main() -> None:
        tasks = await waiting(landing, *[LONG] * (3 * AT_ONCE))
        landing.land()
        done = [0]
        while done[-1] < len(tasks):
            await asyncio.sleep(0)
            done.append(sum(task.done() for task in tasks))
        assert max(later - earlier for earlier, later in itertools.pairwise(done)) == AT_ONCE
        assert all(task.done() for task in tasks[:AT_ONCE])

    asyncio.run(main())


def test_a_task_that_comes_while_others_are_woken_does_not_wait(landing: Landing) -> None:
    async def main() -> None:
        herd = await waiting(landing, *[LONG] * (3 * AT_ONCE))
        landing.land()
        await herd[0]
        assert not herd[-1].done()
        assert await runtime.perform(Wait(landing, LONG))
        assert not herd[-1].done()
        assert all(await asyncio.gather(*herd))

    asyncio.run(main())


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_each_task_waits_no_longer_than_its_own_time(landing: Landing, order: tuple[int, ...]) -> None:
    async def main(loop: Clockwork) -> None:
        seconds = (1.0, 2.0, LONG)
        tasks = dict(zip(order, await waiting(landing, *(seconds[n] for n in order)), strict=True))
        assert await loop.done_at(0.999, tasks) == []
        assert await loop.done_at(1.0, tasks) == [0]
        assert await loop.done_at(1.999, tasks) == [0]
        assert await loop.done_at(2.0, tasks) == [0, 1]
        landing.land()
        assert await tasks[2] is True
        assert [tasks[0].result(), tasks[1].result()] == [False, False]

    run_with_hands(main)


def test_tasks_whose_times_end_shortly_after_each_other_may_wake_a_tick_later(landing: Landing) -> None:
    async def main(loop: Clockwork) -> None:
        tasks = dict(enumerate(await waiting(landing, 1.0, 1.0 + TICK / 2, 1.0 + TICK, 1.0 + 3 * TICK)))
        assert await loop.done_at(1.0, tasks) == [0]
        assert await loop.done_at(1.0 + TICK * 0.9, tasks) == [0]
        assert await loop.done_at(1.0 + TICK * 1.1, tasks) == [0, 1, 2]
        assert await loop.done_at(1.0 + TICK * 3.1, tasks) == [0, 1, 2, 3]
        assert not any(task.result() for task in tasks.values())

    run_with_hands(main)


def test_tasks_whose_time_is_over_are_woken_and_those_with_time_left_are_not(landing: Landing) -> None:
    async def main(loop: Clockwork) -> None:
        (patient,) = await waiting(landing, LONG)
        herd = await waiting(landing, *[1.0] * (3 * AT_ONCE))
        loop.now = 1.0
        assert set(await asyncio.gather(*herd)) == {False}
        assert not patient.done()
        landing.land()
        assert await patient

    run_with_hands(main)


def test_a_timer_that_goes_off_early_by_the_clocks_resolution_goes_off_once(landing: Landing) -> None:
    async def main(loop: Clockwork) -> None:
        (task,) = await waiting(landing, 1.0)
        loop.now = 1.0 - time.get_clock_info("monotonic").resolution / 2
        assert await task is False

    run_with_hands(main)


def test_a_task_without_time_left_does_not_wait(landing: Landing) -> None:
    async def main(_: Clockwork) -> None:
        assert await wait(landing, 0.0) is False

    run_with_hands(main)


def test_a_task_may_wait_again_and_again_for_the_same_fetch(landing: Landing) -> None:
    async def main(loop: Clockwork) -> None:
        for now in (1.0, 2.0, 3.0):
            (task,) = await waiting(landing, 1.0)
            assert not task.done()
            loop.now = now
            assert await task is False
        (task,) = await waiting(landing, 1.0)
        landing.land()
        assert await task is True

    run_with_hands(main)


@pytest.mark.parametrize("whom", ["the first", "the last", "all but one", "at the same moment"])
def test_a_cancelled_task_does_not_affect_others(landing: Landing, whom: str) -> None:
    async def main(loop: Clockwork) -> None:
        tasks = await waiting(landing, 1.0, *[LONG] * 20)
        if whom == "at the same moment":
            landing.land()
        cancelled = {"the first": tasks[:1], "the last": tasks[-1:], "all but one": tasks[1:]}.get(whom, tasks[5:6])
        for task in cancelled:
            task.cancel()
        if whom == "the first":
            assert await loop.done_at(2.0, dict(enumerate(tasks))) == [
                0
            ]  # past the time of the timer that was set for it
        if whom != "at the same moment":
            landing.land()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for task, result in zip(tasks, ended, strict=True):
            assert isinstance(result, asyncio.CancelledError) if task in cancelled else result is True
        assert landing.done()

    run_with_hands(main)


def test_nothing_is_kept_of_tasks_that_no_longer_wait(landing: Landing) -> None:
    async def main(loop: Clockwork) -> None:
        tasks = await waiting(landing, 1.0, LONG, LONG)
        tasks[1].cancel()
        assert await loop.done_at(1.0, dict(enumerate(tasks))) == [0, 1]
        del tasks[:2]
        gc.collect()
        assert [waiter() is not None for waiter in loop.futures[-3:]] == [False, False, True]
        landing.land()
        assert await tasks[0]

    run_with_hands(main)


def test_many_tasks_have_one_timer_and_it_is_cancelled_when_the_fetch_ends(landing: Landing) -> None:
    async def main(loop: Clockwork) -> None:
        tasks = await waiting(landing, *[LONG] * 50)
        landing.land()
        await asyncio.gather(*tasks)
        assert [timer.cancelled() for timer in loop.timers] == [True]

    run_with_hands(main)


def test_several_loops_and_threads_can_wait_for_the_same_fetch(landing: Landing) -> None:
    ready = threading.Barrier(4)

    async def main(count: int) -> list[bool]:
        tasks = await waiting(landing, *[LONG] * count)
        ready.wait(LONG)
        return await asyncio.gather(*tasks)

    got: dict[int, list[bool]] = {}
    loops = [
        threading.Thread(target=lambda n=n: got.update({n: asyncio.run(main(n))}), daemon=True)
        for n in (1, 2, AT_ONCE + 1)
    ]
    for thread in loops:
        thread.start()
    ready.wait(LONG)
    landing.land()
    for thread in loops:
        thread.join(LONG)
    assert got == {n: [True] * n for n in (1, 2, AT_ONCE + 1)}


def test_a_loop_that_is_closed_before_the_fetch_ends_is_skipped(
    landing: Landing, caplog: pytest.LogCaptureFixture
) -> None:
    async def give_up() -> None:
        (task,) = await waiting(landing, LONG)
        task.cancel()

    async def stay() -> bool:
        (task,) = await waiting(landing, LONG)
        with caplog.at_level(logging.DEBUG, "okta_m2m"):
            landing.land()
        return await task

    asyncio.run(give_up())
    assert asyncio.run(stay())
    assert [record.getMessage() for record in caplog.records if record.name == "okta_m2m"] == [
        "an event loop that waited for a token is gone"
    ]


def test_a_landing_without_references_is_freed_with_its_waiters() -> None:
    landing = Landing()
    held = weakref.ref(landing)

    async def main(landing: Landing) -> None:
        tasks = await waiting(landing, 0.0, LONG, LONG)
        assert await tasks[0] is False
        tasks[1].cancel()
        landing.land()
        assert await tasks[2]

    asyncio.run(main(landing))
    del landing
    gc.collect()
    assert held() is None


# ── trio ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_trio_task_waits_until_the_fetch_ends_or_its_time_is_over(landing: Landing) -> None:
    waited: list[bool] = []

    async def wait_in_trio(seconds: float) -> None:
        waited.append(await Trio(send).perform(Wait(landing, seconds)))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_in_trio, 0.0)
            nursery.start_soon(wait_in_trio, LONG)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert waited == [False]
            await trio.to_thread.run_sync(landing.land)
        assert await Trio(send).perform(Wait(landing, LONG)) is True, "it has landed"

    trio.run(main)
    assert waited == [False, True]


def test_a_cancelled_trio_task_does_not_affect_others(landing: Landing) -> None:
    async def main() -> bool:
        with trio.move_on_after(0) as scope:
            await Trio(send).perform(Wait(landing, LONG))
        assert scope.cancelled_caught
        landing.land()
        return await Trio(send).perform(Wait(landing, LONG))

    assert trio.run(main)
    assert landing.done()


def test_a_trio_run_that_ends_before_the_fetch_is_skipped(landing: Landing, caplog: pytest.LogCaptureFixture) -> None:
    async def give_up() -> None:
        with trio.move_on_after(0):
            await Trio(send).perform(Wait(landing, LONG))

    trio.run(give_up)
    with caplog.at_level(logging.DEBUG, "okta_m2m"):
        landing.land()
    assert [record.getMessage() for record in caplog.records if record.name == "okta_m2m"] == [
        "a trio run that waited for a token is over"
    ]
