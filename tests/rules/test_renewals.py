"""A token is renewed in the background before it expires, and a renewal that fails ends no call."""

from __future__ import annotations

import pytest

from bench import (
    API,
    INVALID_CLIENT,
    Bench,
    Timed,
    Waiting,
    due,
    names,
    renewed,
    replay_until_it_ends,
    reported,
    to_its_request,
)
from okta_m2m import TokenUnreachable
from okta_m2m._core.flights import LANDING_GRACE
from okta_m2m.events import RenewalFailed, TokenFailed

pytestmark = pytest.mark.usefixtures("everything_is_reported")


# ── when a token is renewed ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_token_is_renewed_in_the_background_after_three_quarters_of_its_lifetime() -> None:
    shares = set()
    for _ in range(50):
        bench = Bench()
        bench.obtain(bench.token()).result()
        began = bench.time
        while not bench.spawned:
            bench.time += 20.0
            assert bench.obtain().result().value == "token-1"
        shares.add(round((bench.time - began) / 3600, 2))
    assert min(shares) >= 0.72
    assert max(shares) <= 0.83
    assert len(shares) > 3  # a fleet does not march in step


@pytest.mark.parametrize("life", [1, 7, 60, 3599, 3600, 86_400])
@pytest.mark.parametrize("uptime", [0.0, 5.25, 1e4, 1e9])
def test_the_time_of_renewal_is_within_its_range_for_any_lifetime(life: int, uptime: float) -> None:
    for _ in range(20):
        bench = Bench()
        bench.time = uptime
        bench.obtain(bench.token(expires_in=life)).result()
        bench.time = uptime + 0.7199 * life
        assert bench.obtain().result().value == "token-1"
        assert not bench.spawned
        bench.time = uptime + 0.8204 * life
        assert bench.obtain().result().value == "token-1"
        assert len(bench.spawned) == 1


def test_during_a_renewal_no_other_starts() -> None:
    bench = Bench()
    due(bench)
    for _ in range(4):
        bench.time += 1.0
        assert names(bench.obtain()) == []
        ready = bench.app.ready("GET", API)
        assert ready is not None
        assert ready.token.value == "token-1"
    renewed(bench, bench.token())
    assert bench.obtain().result().value == "token-2"


def test_a_failed_renewal_is_a_warning_and_the_pause_grows_each_time() -> None:
    bench = Bench(max_wait=1)
    due(bench)
    pauses: list[float] = []
    for count in range(1, 8):
        renewed(bench, bench.error(400, "invalid_scope") if count % 2 else bench.error(400, "access_denied"))
        failures = [event for event in bench.events if isinstance(event, RenewalFailed)]
        assert len(failures) == count
        pauses.append(failures[-1].next_try_in)
        full = min(60.0, 2.0 ** (count - 1))
        assert 0.75 * full <= pauses[-1] <= full
        bench.time += pauses[-1] - 0.001
        replayed = bench.obtain()
        assert names(replayed) == []
        assert replayed.result().value == "token-1"
        bench.time += 0.002 + 60.0  # beyond the memory of the refusal, too
        assert names(bench.obtain()) == ["Spawn"]


def test_a_rate_limited_renewal_waits_until_the_time_that_okta_named() -> None:
    bench = Bench()
    due(bench)
    renewed(bench, bench.limited(reset=120))
    (failure,) = [event for event in bench.events if isinstance(event, RenewalFailed)]
    assert failure.next_try_in >= 120
    bench.time += 100.0
    assert names(bench.obtain()) == []


def test_a_renewal_may_add_a_longer_random_wait_than_a_caller_could() -> None:
    postponed = 0
    for _ in range(50):
        bench = Bench()
        due(bench)
        spawn = bench.spawned.pop()
        answers = iter([bench.limited(reset=25), bench.token()])
        renewal = replay_until_it_ends(bench, lambda _, answers=answers: next(answers), spawn.flow)
        spawn.ended()
        postponed += any(isinstance(event, RenewalFailed) for event in bench.events)
        assert renewal.error is None
        assert bench.obtain().result().value in ("token-1", "token-2")
    assert postponed > 25


def test_a_failed_renewal_raises_no_error_while_the_token_works() -> None:
    bench = Bench()
    due(bench)
    assert renewed(bench, bench.error(*INVALID_CLIENT)).error is None
    assert bench.obtain().result().value == "token-1"


def test_once_the_token_has_expired_a_caller_waits_for_the_renewal_under_way() -> None:
    bench = Bench()
    bench.obtain(bench.token(expires_in=10)).result()
    bench.time += 9.0
    assert names(bench.obtain()) == ["Spawn"]
    bench.time += 2.0
    waiting = bench.obtain()
    assert names(waiting) == ["Wait"]
    renewed(bench, bench.token())
    assert bench.obtain().result().value == "token-2"


def test_a_token_is_not_sent_in_its_last_seconds() -> None:
    bench = Bench()
    bench.obtain(bench.token(expires_in=100)).result()
    bench.time += 95.1
    assert names(bench.obtain(bench.token())) == ["Send"]


# ── renewals that take long ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_renewal_may_take_as_long_as_its_token_lives() -> None:
    """Nobody waits for it, so a slow Okta is no outage."""
    bench = Bench()
    due(bench)
    token = bench.app.token_state.token
    assert token is not None
    timed = Timed(bench, (120.0, bench.token))
    spawn = bench.spawned.pop()
    timed.run(spawn.flow).result()
    assert timed.passed == 120.0
    assert timed.sent[0][1] == pytest.approx(token.usable_until - (bench.time - 120.0))
    assert timed.most_open == 2
    assert len(timed.sent) <= 2 + 120 / 30, "those beside it may each be hung, so each has its own end"
    assert reported(bench, TokenFailed) == []
    assert bench.obtain().result().value == "token-2"


def test_a_renewal_without_a_response_ends_when_its_token_expires() -> None:
    bench = Bench(max_wait=10)
    due(bench)
    token = bench.app.token_state.token
    assert token is not None
    Timed(bench).run(bench.spawned.pop().flow).result()
    assert bench.time == pytest.approx(token.usable_until)
    assert len(reported(bench, TokenFailed)) == 1


def test_a_renewal_to_a_failing_endpoint_ends_within_max_wait() -> None:
    """Only silence is waited for longer."""
    bench = Bench(max_wait=10)
    due(bench)
    timed = Timed(bench, (0.1, lambda: bench.answer(503)))
    timed.run(bench.spawned.pop().flow).result()
    assert timed.passed <= 10.0
    assert len(reported(bench, RenewalFailed)) == 1


def test_a_caller_waits_at_most_max_wait_for_a_slow_renewal_of_an_expired_token() -> None:
    bench = Bench(max_wait=10)
    bench.obtain(bench.token(expires_in=60)).result()
    bench.time += 50.0
    assert names(bench.obtain()) == ["Spawn"]
    to_its_request(bench.spawned.pop().flow)
    bench.time += 7.5
    waiting = Waiting(bench)
    assert waiting.spawn is None
    bench.time += 10.0 + LANDING_GRACE
    with pytest.raises(TokenUnreachable, match="still under way"):
        waiting.flow.send(False)
