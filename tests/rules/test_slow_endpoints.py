"""A slow token endpoint: the first request stays open, and a second goes out beside it after 5 seconds."""

from __future__ import annotations

import pytest

from bench import INVALID_CLIENT, NEVER_ANSWERED, Bench, Timed, raised
from okta_m2m import TokenUnreachable
from okta_m2m.effects import SendFailed
from okta_m2m.errors import InvalidClient

pytestmark = pytest.mark.usefixtures("everything_is_reported")


def test_an_endpoint_that_responds_after_twelve_seconds_gets_two_requests() -> None:
    bench = Bench()
    timed = Timed(bench, (12.0, bench.token))
    assert timed.run(bench.app.obtain()).result().value == "token-1"
    assert timed.passed == 12.0
    assert timed.sent == [(0.0, 30.0), (5.0, 25.0)]
    assert timed.closed == 1, "nobody waits for the second one any more"


def test_the_lifetime_of_a_slow_token_starts_with_its_own_request() -> None:
    bench = Bench()
    began = bench.time
    assert Timed(bench, (12.0, bench.token)).run(bench.app.obtain()).result().sent_at == began
    bench = Bench()
    timed = Timed(bench, NEVER_ANSWERED, (1.0, bench.token))
    assert timed.run(bench.app.obtain()).result().sent_at == began + 5.0


def test_a_connection_that_hangs_costs_five_seconds() -> None:
    bench = Bench()
    timed = Timed(bench, NEVER_ANSWERED, (0.2, bench.token))
    timed.run(bench.app.obtain()).result()
    assert timed.passed == pytest.approx(5.2)
    assert timed.closed == 1


def test_an_endpoint_that_hangs_gets_no_third_request_before_one_has_ended() -> None:
    bench = Bench()
    timed = Timed(bench)
    error = raised(timed.run(bench.app.obtain()), TokenUnreachable)
    assert [moment for moment, _ in timed.sent] == [0.0, 5.0]
    assert timed.passed == 30.0
    assert "no response within 30 s, after 2 attempts" in str(error)


def test_after_the_second_of_two_requests_has_failed_another_may_be_sent() -> None:
    bench = Bench()
    timed = Timed(bench, NEVER_ANSWERED, (1.0, SendFailed("reset")), (0.5, bench.token))
    timed.run(bench.app.obtain()).result()
    first, second, third = (moment for moment, _ in timed.sent)
    assert (first, second) == (0.0, 5.0)
    assert 6.2 <= third <= 6.25, "it failed after a second, and then there is a pause"
    assert timed.most_open == 2


def test_the_first_response_counts_even_if_it_is_a_refusal() -> None:
    bench = Bench()
    timed = Timed(bench, (20.0, bench.token), (1.0, lambda: bench.error(*INVALID_CLIENT)))
    raised(timed.run(bench.app.obtain()), InvalidClient)
    assert timed.passed == 6.0
    assert timed.closed == 1


def test_no_second_request_goes_out_before_the_time_that_the_endpoint_named() -> None:
    bench = Bench()
    later = bench.limited(reset=8)
    timed = Timed(bench, (0.1, later), (10.0, bench.token))
    timed.run(bench.app.obtain()).result()
    assert timed.sent[1][0] >= 9.0
