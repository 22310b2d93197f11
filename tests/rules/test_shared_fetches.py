"""All callers wait for one fetch, and a caller that ends does not end it."""

from __future__ import annotations

import traceback

import pytest

from bench import Bench, Timed, Waiting, end, names
from okta_m2m import RateLimited, TokenUnreachable
from okta_m2m._core import next_step
from okta_m2m._core.flights import LANDING_GRACE
from okta_m2m._threads.landings import LOOK
from okta_m2m.effects import SendFailed, Sleep, Spawn, Wait
from okta_m2m.errors import InvalidScope

pytestmark = pytest.mark.usefixtures("everything_is_reported")


# ── callers that wait ────────────────────────────────────────────────────────────────────────────────────────────────


def test_all_waiting_callers_get_the_token_of_one_fetch() -> None:
    bench = Bench()
    first, second = Waiting(bench), Waiting(bench)
    assert second.spawn is None
    end(first.fetch(), bench.token())
    assert first.token() is second.token()


def test_each_waiting_caller_raises_a_separate_exception() -> None:
    bench = Bench()
    first, second = Waiting(bench), Waiting(bench)
    end(first.fetch(), bench.error(400, "invalid_scope"))
    with pytest.raises(InvalidScope) as one:
        first.flow.send(True)
    with pytest.raises(InvalidScope) as other:
        second.flow.send(True)
    assert one.value is not other.value
    assert str(one.value) == str(other.value)


def test_a_caller_that_ends_does_not_end_the_fetch() -> None:
    bench = Bench()
    first, second = Waiting(bench), Waiting(bench)
    fetch = first.fetch()
    first.flow.close()
    end(fetch, bench.token())
    assert second.token().value == "token-1"


def test_a_caller_of_an_abandoned_fetch_starts_another() -> None:
    bench = Bench()
    first, second = Waiting(bench), Waiting(bench)
    fetch = first.fetch()
    assert first.spawn is not None
    fetch.close()
    first.spawn.ended()
    assert second.wait.landing.done()
    assert isinstance(second.flow.send(True), Spawn)
    second.flow.send(True)
    assert isinstance(first.flow.send(True), Wait)


def test_a_caller_of_a_fetch_that_lost_its_thread_starts_another_within_a_second() -> None:
    bench = Bench()
    first, second = Waiting(bench), Waiting(bench)
    assert first.wait.timeout == second.wait.timeout == LOOK
    first.fetch()
    first.is_running = False
    bench.time += LOOK
    another = second.flow.send(False)
    assert isinstance(another, Spawn), "a fetch is begun in its place"
    assert first.wait.landing.done(), "whoever waits for the one given up is notified at once"


def test_a_fetch_that_waits_its_turn_is_not_given_up_and_then_has_its_full_time() -> None:
    bench = Bench(max_wait=10)
    first = Waiting(bench)
    bench.time += 9.0
    late = Waiting(bench)
    assert late.spawn is None
    fetch = first.fetch()
    bench.time += 9.0
    assert isinstance(late.flow.send(False), Wait)
    end(fetch, bench.token())
    assert late.token().value == "token-1"


def test_the_error_says_that_the_fetch_waited_too_long_for_its_turn() -> None:
    bench = Bench(max_wait=10)
    first = Waiting(bench)
    bench.time += 10.0 + LANDING_GRACE
    with pytest.raises(TokenUnreachable, match="waits its turn behind other token requests of this process"):
        first.flow.send(False)


def test_a_fetch_whose_thread_has_ended_is_given_up_at_once() -> None:
    bench = Bench(max_wait=10)
    first = Waiting(bench)
    assert Waiting(bench).spawn is None
    first.is_running = False
    assert Waiting(bench).spawn is not None


def test_a_fetch_that_its_caller_did_not_start_is_started_within_a_second() -> None:
    bench = Bench()
    state = bench.app.token_state
    step = state.next_step(bench.time)  # and here a signal handler raises
    assert isinstance(step, next_step.Fetch)
    waiting = Waiting(bench)
    assert waiting.spawn is None, "its caller may be about to start it"
    bench.time += LOOK
    assert isinstance(waiting.flow.send(False), Spawn)


def test_the_error_says_that_the_time_of_a_caller_is_over() -> None:
    bench = Bench(max_wait=1)
    first = Waiting(bench)
    first.fetch()
    assert first.wait.timeout == LOOK
    bench.time += LOOK
    wait = first.flow.send(False)
    assert isinstance(wait, Wait)
    assert wait.timeout == pytest.approx(LANDING_GRACE)
    bench.time += LANDING_GRACE
    with pytest.raises(
        TokenUnreachable, match=r"within 1 seconds: .* still under way \(no response yet, after 1 attempt\)"
    ):
        first.flow.send(False)


def test_every_caller_of_a_fetch_to_a_hanging_endpoint_gets_the_reason() -> None:
    bench = Bench(max_wait=10)
    timed = Timed(bench)
    first = Waiting(bench)
    assert first.spawn is not None
    bench.time += 0.5
    late = Waiting(bench)
    bench.time -= 0.5
    timed.run(first.spawn.flow)
    with pytest.raises(TokenUnreachable, match="no response within 10 s, after 2 attempts"):
        first.flow.send(True)
    spawn = late.flow.send(True)
    assert isinstance(spawn, Spawn), "it has a moment left"
    assert isinstance(late.flow.send(True), Wait)
    assert isinstance(next(spawn.flow), Sleep)
    bench.time += 0.5
    with pytest.raises(TokenUnreachable, match=r"still under way \(.*no response within 10 s, after 2 attempts\)"):
        late.flow.send(False)


def test_a_caller_with_more_time_than_the_failed_fetch_waits_for_another() -> None:
    bench = Bench(max_wait=10)
    first = Waiting(bench)
    fetch = first.fetch()
    bench.time += 6.0
    late = Waiting(bench)
    assert late.spawn is None
    bench.time += 4.0
    with pytest.raises(StopIteration):
        fetch.throw(SendFailed("timeout"))
    with pytest.raises(TokenUnreachable):
        first.flow.send(True)
    assert isinstance(late.flow.send(True), Spawn)


@pytest.mark.parametrize("status", [429, 503])
def test_a_caller_with_time_waits_for_a_rate_limit_that_the_fetch_could_not_wait_for(status: int) -> None:
    bench = Bench(max_wait=10)
    first = Waiting(bench)
    fetch = first.fetch()
    bench.time += 4.0
    late = Waiting(bench)
    bench.time += 0.5
    end(fetch, bench.answer(status, b"", retry_after="6"))
    with pytest.raises((RateLimited, TokenUnreachable)):
        first.flow.send(True)
    bench.app._engine.endpoint.politeness.not_before = bench.time + 8.0  # whatever time of its own was added
    assert isinstance(late.flow.send(True), Spawn)


# ── callers that begin a fetch ───────────────────────────────────────────────────────────────────────────────────────


def test_after_a_caller_that_ends_as_it_starts_a_fetch_another_can_start_one() -> None:
    bench = Bench()
    flow = bench.app.obtain()
    assert isinstance(next(flow), Spawn)
    flow.close()
    assert Waiting(bench).spawn is not None


def test_if_no_thread_can_be_started_a_caller_fetches_itself_and_no_renewal_runs() -> None:
    bench = Bench()
    token = bench.obtain(bench.token()).result()
    bench.time += 0.9 * token.expires_in
    flow = bench.app.obtain()
    spawn = next(flow)
    assert isinstance(spawn, Spawn)
    assert not spawn.awaited
    with pytest.raises(StopIteration) as stop:
        flow.send(False)
    assert stop.value.value is token
    assert names(bench.obtain()) == [], "it is not tried again at once"
    bench.time += 1.0
    assert names(bench.obtain()) == ["Spawn"]


def test_an_exception_of_send_reaches_every_caller_without_our_frames() -> None:
    def broken_send() -> None:
        secret = "what this package's frames hold"  # noqa: F841 (a local of the sender's own)
        raise LookupError("no such proxy")

    bench = Bench()
    first, second = Waiting(bench), Waiting(bench)
    try:
        broken_send()
    except LookupError as error:
        with pytest.raises(StopIteration):
            first.fetch().throw(error)
    for waiting in (first, second):
        with pytest.raises(LookupError, match="no such proxy") as raised:
            waiting.flow.send(True)
        codes = [frame.f_code for frame, _ in traceback.walk_tb(raised.value.__traceback__)]
        assert [code.co_qualname for code in codes if "_core" in code.co_filename] == ["Fetching.fetch_token"]
