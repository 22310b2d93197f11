"""Each client under load, with tokens that live two seconds: nothing is lost, and how fast that is beside a constant header."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import pytest

from clients import CLIENTS, Answer, Client, Outcome
from figures import Note, Seconds
from okta_m2m import ServiceApp
from okta_m2m.testing import FakeOkta

CALLERS = 8
SHARE = 0.35
"""Of the time, for all clients and both kinds of token."""

LONGEST_ROUND = 15.0
"""Seconds: the clients of the tests take a call that lasts much longer for one that hangs."""


@pytest.fixture
def brief() -> Iterator[FakeOkta]:
    """An org whose tokens live two seconds."""
    with FakeOkta(token_lifetime=2) as running:
        yield running


def load(
    client: Client,
    url: str,
    duration: float,
    headers: Mapping[str, str] | None = None,
    enough: Callable[[], bool] = lambda: True,
) -> tuple[list[Outcome], float]:
    """The outcomes of calls for that time, and longer until they are ``enough``; and how many a second they were."""
    outcomes: list[Outcome] = []
    began = time.monotonic()
    while (now := time.monotonic()) < began + duration or not enough():
        over = min(max(began + duration, now + 1), now + LONGEST_ROUND)
        outcomes += client.keep_calling(CALLERS, lambda _, over=over: time.monotonic() >= over, "GET", url, headers)
    return outcomes, len(outcomes) / (time.monotonic() - began)


def test_tokens_of_two_seconds_lose_no_call(
    connect: Callable[..., Client],
    client_type: type[Client],
    brief: FakeOkta,
    okta: FakeOkta,
    new_service: Callable[..., ServiceApp],
    binding: str,
    note: Note,
    seconds: Seconds,
) -> None:
    duration = max(2.5, seconds(SHARE) / (2.4 * len(CLIENTS)))
    client = connect(new_service(brief, dpop_bound=binding == "dpop"))
    outcomes, speed = load(client, f"{brief.url}/api/v1/users", duration, enough=lambda: brief.tokens_minted >= 2)
    lost = [one for one in outcomes if not (isinstance(one, Answer) and one.status == 200)]
    what = f"load: {client_type.name}, {binding}"
    note(f"{what}: lost of {len(outcomes)} calls with {brief.tokens_minted} tokens", len(lost), "0")
    if binding == "bearer":  # a bound token has no constant header
        other = connect(new_service(okta))
        constant = other.headers("GET", okta.url)
        _, usual = load(other, f"{okta.url}/api/v1/users", 0.4 * duration, constant)
        note(f"{what}: calls/s, and with a constant header", f"{speed:.0f}, {usual:.0f}", "")
    assert lost == []
