"""When a token request is sent again, and when its failure is raised: rate limits, failures that pass, and pauses."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import pytest

from bench import EPOCH, ORG, Bench, names, raised, replay_until_it_ends
from okta_m2m import RateLimited, ServiceApp, TokenUnreachable
from okta_m2m._base.clocks import Clock
from okta_m2m.effects import Response, Send, SendFailed
from okta_m2m.errors import UnexpectedAnswer
from okta_m2m.testing import replay
from signers import Stub

pytestmark = pytest.mark.usefixtures("everything_is_reported")


# ── rate limits, failures that pass, and pauses ──────────────────────────────────────────────────────────────────────


def test_the_wait_for_a_rate_limit_is_measured_by_oktas_clock() -> None:
    bench = Bench()
    bench.okta_ahead = 7200.0  # this machine's clock does not come into it
    replayed = bench.obtain(bench.limited(reset=4), bench.token())
    replayed.result()
    assert names(replayed) == ["Send", "Sleep", "Send"]
    assert 5.0 <= bench.slept[0] <= bench.app.max_wait  # reset - Date + 1, and a time of its own


def test_each_process_adds_a_random_wait_to_the_time_that_okta_named() -> None:
    slept = []
    for _ in range(200):
        bench = Bench(max_wait=90)
        bench.obtain(bench.limited(reset=30), bench.token()).result()
        slept.append(bench.slept[0])
    assert all(31.0 <= pause <= 61.0 for pause in slept)
    assert max(sum(second <= pause < second + 1 for pause in slept) for second in range(31, 61)) < 20


def test_the_random_wait_never_exceeds_what_the_caller_can_wait() -> None:
    for _ in range(50):
        bench = Bench(max_wait=10)
        bench.obtain(bench.limited(reset=8), bench.token()).result()


def test_the_random_wait_never_exceeds_what_callers_can_wait_after_a_rejection() -> None:
    """The rejected token still lives for an hour, but its callers cannot wait that long for another."""
    for _ in range(50):
        bench = Bench(max_wait=10)
        rejected = bench.obtain(bench.token()).result()
        bench.sleep(1)
        bench.obtain(bench.limited(reset=8), bench.token(), rejected=rejected).result()


@pytest.mark.parametrize("status", [429, 503])
def test_a_named_time_far_away_is_limited(status: int) -> None:
    bench = Bench(max_wait=400)
    bench.obtain(bench.answer(status, b"", retry_after=str(86_400)), bench.token()).result()
    assert 300 <= bench.slept[0] <= 330


def test_retry_after_of_a_503_is_obeyed() -> None:
    bench = Bench()
    bench.obtain(bench.answer(503, b"", retry_after="7"), bench.token()).result()
    assert 7.0 <= bench.slept[0] <= bench.app.max_wait


def test_a_503_that_asks_for_a_longer_wait_than_the_caller_has_is_raised_at_once() -> None:
    bench = Bench()
    error = raised(bench.obtain(bench.answer(503, b"", retry_after="90")), TokenUnreachable)
    assert error.status == 503
    assert error.retry_after == 90


def test_of_several_rate_limit_resets_the_earliest_counts() -> None:
    bench = Bench()
    resets = f"{int(bench.okta_time + 50)}, {int(bench.okta_time + 3)}"
    replayed = bench.obtain(bench.limited(reset=0, x_rate_limit_reset=resets), bench.token())
    replayed.result()
    assert 3.0 <= bench.slept[0] <= bench.app.max_wait


@pytest.mark.parametrize("after", ["7", "date"])
def test_retry_after_of_a_429_is_obeyed(after: str) -> None:
    bench = Bench()
    told = formatdate(bench.okta_time + 7, usegmt=True) if after == "date" else after
    bench.obtain(bench.limited(reset=2, retry_after=told), bench.token()).result()
    assert 6.5 <= bench.slept[0] <= bench.app.max_wait


def test_a_rate_limit_beyond_the_deadline_is_raised_at_once_and_remembered() -> None:
    bench = Bench()
    replayed = bench.obtain(bench.limited(reset=59))
    assert names(replayed) == ["Send"]
    error = raised(replayed, RateLimited)
    assert (error.status, error.error) == (429, "E0000047")
    assert 59 <= error.retry_after <= 61
    bench.time += 10.0
    again = bench.obtain()  # nobody asks meanwhile
    assert names(again) == []
    later = raised(again, RateLimited)
    assert later.retry_after == pytest.approx(error.retry_after - 10)
    for told in (error, later):  # true whenever it is read; what is left of it is in retry_after
        assert f"asked to wait {error.retry_after:.1f} seconds" in str(told)
    bench.time += 60.0
    bench.obtain(bench.token()).result()


def test_the_error_of_a_rate_limit_without_a_time_has_the_pause_that_is_left() -> None:
    bench = Bench(max_wait=2)
    replayed = replay_until_it_ends(bench, lambda _: bench.answer(429, b""))
    error = raised(replayed, RateLimited)
    assert error.retry_after == pytest.approx(2.0 ** (names(replayed).count("Send") - 3), rel=0.16)


def test_the_error_of_a_server_error_quotes_its_code() -> None:
    bench = Bench(max_wait=1)
    replayed = replay_until_it_ends(bench, lambda _: bench.error(503, "server_error"))
    assert "it returned HTTP 503 server_error, after" in str(raised(replayed, TokenUnreachable))


def test_an_unexpected_answer_is_not_asked_for_again_at_once() -> None:
    bench = Bench()
    raised(bench.obtain(bench.answer(403, b"<html>blocked</html>")), UnexpectedAnswer)
    again = bench.obtain()
    assert names(again) == []
    raised(again, UnexpectedAnswer)


def test_a_concurrency_limit_is_retried_after_short_pauses() -> None:
    bench = Bench()
    limited = bench.limited(reset=50, x_rate_limit_limit="0")
    replayed = bench.obtain(limited, limited, bench.token())
    replayed.result()
    assert names(replayed) == ["Send", "Sleep", "Send", "Sleep", "Send"]
    assert all(pause <= 0.5 for pause in bench.slept)


@pytest.mark.parametrize(
    "trouble",
    [
        (503, None, ""),
        (500, "server_error", ""),
        (502, None, ""),
        (408, None, ""),
        (400, "temporarily_unavailable", ""),
        (400, "server_error", ""),
        (401, "invalid_client", "Error retrieving the client JWKSet from jwks_uri."),
        "no answer",
        "cut short",
    ],
)
def test_a_temporary_failure_is_retried_until_it_passes(trouble: Any) -> None:
    bench = Bench()
    answer: object
    if trouble == "no answer":
        answer = SendFailed("time-out")
    elif trouble == "cut short":
        answer = bench.answer(200, b'{"access_token": "ab')
    else:
        status, code, description = trouble
        answer = bench.answer(status, b"<html>") if code is None else bench.error(status, code, description)
    replayed = bench.obtain(answer, answer, bench.token())
    replayed.result()
    assert names(replayed) == ["Send", "Sleep", "Send", "Sleep", "Send"]


def test_a_failure_that_does_not_pass_is_raised_by_the_deadline() -> None:
    bench = Bench(max_wait=30)
    began = bench.time

    def down(effect: Send) -> Response:
        assert effect.timeout == pytest.approx(began + 30.0 - bench.time), "it may take all the time that is left"
        bench.time += min(0.1, effect.timeout)
        return bench.answer(503, x_okta_request_id="req-1")

    replayed = replay_until_it_ends(bench, down)
    error = raised(replayed, TokenUnreachable)
    assert (error.status, error.request_id) == (503, "req-1")
    assert 20.0 <= bench.time - began <= 30.0
    assert replayed.of(Send)[-1].timeout > 0


@pytest.mark.parametrize("early", [number / 10_000 for number in range(0, 60, 3)])
def test_a_pause_that_ends_slightly_early_does_not_start_again(early: float) -> None:
    """A sleep may end a little early, and a reading of the clock takes time."""
    bench = Bench()

    def now() -> float:
        bench.time += 0.001
        return bench.time

    bench.app = ServiceApp(
        ORG,
        client_id="0oa1",
        key=Stub(),
        scopes=["okta.users.read"],
        dpop=False,
        clock=Clock(now=now, wall=lambda: EPOCH + bench.time),
    )
    replayed = replay(
        bench.app.obtain(),
        bench.answer(503),
        bench.token(),
        sleep=lambda seconds: bench.sleep(max(0.0, seconds - early)),
    )
    replayed.result()
    assert len(replayed.of(Send)) == 2


def test_pauses_double_up_to_a_limit_and_are_random() -> None:
    pauses: list[list[float]] = []
    for _ in range(40):
        bench = Bench(max_wait=60)
        replay_until_it_ends(bench, lambda effect: SendFailed("reset"))
        pauses.append(bench.slept)
    for position, full in enumerate([0.25, 0.5, 1.0, 2.0, 4.0, 4.5, 4.5]):
        at = [slept[position] for slept in pauses]
        assert all(0.85 * full <= pause <= full for pause in at)
        assert len(set(at)) > 1


# ── limits of what is sent again ─────────────────────────────────────────────────────────────────────────────────────


def test_a_call_uses_all_of_max_wait_even_if_the_next_pause_is_longer() -> None:
    for _ in range(20):
        bench = Bench(max_wait=10)
        began = bench.time
        replayed = replay_until_it_ends(bench, lambda effect, bench=bench: bench.answer(503))
        raised(replayed, TokenUnreachable)
        assert bench.time == pytest.approx(began + 10)


@pytest.mark.parametrize("max_wait", [1, 5, 30])
def test_a_failing_endpoint_gets_at_most_twenty_requests_a_minute(max_wait: float) -> None:
    bench = Bench(max_wait=max_wait)
    asked: list[float] = []

    def answer(effect: Send) -> Response:
        asked.append(bench.time)
        return bench.answer(503)

    began = bench.time
    while bench.time < began + 180:
        raised(replay_until_it_ends(bench, answer), TokenUnreachable)
        bench.time += 0.01
    for minute in range(120):
        assert sum(began + minute <= moment < began + minute + 60 for moment in asked) <= 20
    bench.time += 5
    bench.obtain(bench.token(expires_in=60)).result()
    bench.time += 60
    began = bench.time
    bench.obtain(bench.answer(503), bench.token()).result()
    assert bench.time - began < 0.3, "the first success has it forgotten"


# ── what the error says ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_error_names_the_time_that_okta_asked_for_and_the_limited_one() -> None:
    bench = Bench()
    error = raised(bench.obtain(bench.limited(reset=601)), RateLimited)
    assert "asked to wait 602.0 seconds, of which 300 are believed" in str(error)
    assert error.retry_after == pytest.approx(300)


def test_a_permanent_failure_is_raised_at_once_and_remembered_briefly() -> None:
    bench = Bench()
    untrusted = SendFailed("the certificate is not trusted", stage="tls", permanent=True)
    began = bench.time
    failed = str(raised(bench.obtain(untrusted), TokenUnreachable))
    assert "not trusted" in failed
    assert "max_wait" not in failed, "more time does not heal it"
    assert "not trusted" in str(raised(bench.obtain(), TokenUnreachable))
    assert bench.time == began
    bench.time += 0.3
    assert bench.obtain(bench.token()).result().value == "token-1"


def test_the_error_says_after_how_many_attempts() -> None:
    untrusted = SendFailed("the certificate is not trusted", stage="tls", permanent=True)
    assert ", after 1 attempt. " in str(raised(Bench().obtain(untrusted), TokenUnreachable))
    assert ", after 2 attempts. " in str(raised(Bench().obtain(SendFailed("reset"), untrusted), TokenUnreachable))
