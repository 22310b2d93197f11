"""The rows of the table at the top of ``_core/politeness.py``, and how far away the endpoint's next request may be."""

from __future__ import annotations

from math import inf

import pytest

from okta_m2m import RateLimited, TokenUnreachable
from okta_m2m._core.politeness import Politeness

NOW = 5000.0


def failure() -> TokenUnreachable:
    return TokenUnreachable("No response.", remedy="Check the network.")


def test_a_new_endpoint_may_be_called_at_once() -> None:
    politeness = Politeness()
    assert politeness.not_before <= NOW
    assert (politeness.failures, politeness.last_error, politeness.is_lasting) == (0, None, False)


def test_each_failure_in_a_row_makes_the_pause_longer_up_to_a_limit() -> None:
    politeness = Politeness()
    pauses = []
    for count in range(1, 12):
        politeness.failed(failure(), NOW)
        assert politeness.failures == count
        pauses.append(politeness.not_before - NOW)
    for pause, longest in zip(pauses, (0.25, 0.5, 1.0, 2.0, 4.0, *[4.5] * 6), strict=True):
        assert 0.2 < pause <= longest
    assert pauses[-1] > 3.8


def test_a_failure_is_remembered_as_a_copy() -> None:
    politeness, error = Politeness(), failure()
    assert politeness.failed(error, NOW) is error
    assert politeness.last_error is not error
    assert str(politeness.last_error) == str(error)
    assert not politeness.is_lasting
    politeness.failed(error, NOW, lasting=True)
    assert politeness.is_lasting


def test_a_failure_does_not_shorten_a_longer_pause() -> None:
    politeness = Politeness()
    politeness.asked_to_wait(60, NOW, inf)
    moment = politeness.not_before
    politeness.failed(RateLimited("Rate limited.", remedy="Wait."), NOW)
    assert politeness.not_before == moment


@pytest.mark.parametrize(
    ("seconds", "earliest", "latest"), [(0, 0, 5), (3, 3, 8), (20, 20, 40), (60, 60, 90), (10_000, 300, 330)]
)
def test_a_time_that_the_server_named_is_kept_with_a_random_addition(
    seconds: float, earliest: float, latest: float
) -> None:
    moments = set()
    for _ in range(50):
        politeness = Politeness()
        politeness.asked_to_wait(seconds, NOW, inf)
        assert politeness.server_asked_until == NOW + earliest
        assert NOW + earliest <= politeness.not_before <= NOW + latest
        moments.add(politeness.not_before)
    assert len(moments) > 40, "processes that were given the same time come at different ones"


def test_the_random_addition_ends_before_the_token_is_needed() -> None:
    for _ in range(50):
        politeness = Politeness()
        politeness.asked_to_wait(20, NOW, NOW + 25)
        assert NOW + 20 <= politeness.not_before <= NOW + 24


def test_a_later_time_from_the_server_replaces_an_earlier_one() -> None:
    politeness = Politeness()
    politeness.asked_to_wait(200, NOW, inf)
    politeness.asked_to_wait(2, NOW, inf)
    assert politeness.not_before <= NOW + 7
    assert politeness.server_asked_until == NOW + 2


def test_a_response_clears_failures_but_not_the_time_that_the_server_named() -> None:
    politeness = Politeness()
    politeness.failed(failure(), NOW, lasting=True)
    politeness.asked_to_wait(60, NOW, inf)
    moment = politeness.not_before
    politeness.answered()
    assert (politeness.failures, politeness.last_error, politeness.is_lasting) == (0, None, False)
    assert politeness.not_before == moment
