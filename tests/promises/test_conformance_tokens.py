"""With every client, each call has a token that works, and one token serves all callers."""

from __future__ import annotations

import logging
import threading
import urllib.error
import urllib.request
from itertools import pairwise

import pytest

from clients import CLIENTS, Client
from front import Exchange, Front
from okta_m2m import ConfigurationError
from okta_m2m.events import RenewalFailed, TokenObtained, TokenRejected
from okta_m2m.testing import FakeOkta
from promises import TOKEN, USERS, Connect, Events, Hours, Rounds, Service, either_binding, sent_to, statuses
from services import eventually


def test_the_first_call_gets_a_token_and_later_calls_use_it(
    okta: FakeOkta, service: Service, connect: Connect, binding: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("httpcore", "httpcore2"):  # may write down each step: there is no secret in them
        caplog.set_level(logging.DEBUG, name)
    client = connect(service())
    for _ in range(3):
        assert client.get(okta.url + USERS).status == 200
    assert okta.tokens_minted == 1
    assert okta.token_requests == (2 if binding == "dpop" else 1)  # a nonce has to be learnt once
    assert {request.header("authorization") for request in sent_to(okta)} == {
        f"{'DPoP' if binding == 'dpop' else 'Bearer'} {client.token().value}"
    }
    assert okta.tokens_minted == 1


@either_binding
def test_many_callers_without_a_token_make_one_token_request(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    okta.token_delay = 0.1
    client = connect(service())
    assert statuses(client.at_once(30, "GET", okta.url + USERS)) == {200}
    assert okta.tokens_minted == 1


@either_binding
def test_renewal_under_load_fails_no_call_and_sends_no_expired_token(
    okta: FakeOkta, service: Service, connect: Connect, binding: str
) -> None:
    hours = Hours(okta)
    okta.token_lifetime = 100  # of which the last 5 s are for the way: no call takes more than one step of 4 s
    client = connect(service(clock=hours.clock()))
    assert client.get(okta.url + USERS).status == 200

    def four_seconds_later() -> None:
        hours.later(4)

    def sent() -> set[str]:  # of a fast machine's requests only the last are kept
        return {(request.header("authorization") or "").partition(" ")[2] for request in sent_to(okta)}

    def is_over() -> bool:
        renewed = [token.value for token in okta.tokens()[1:]]
        return not sent().isdisjoint(renewed) or hours.passed > 10 * okta.token_lifetime

    hours.later(60)  # no renewal is due before three quarters of its life, or a little less
    rounds = Rounds(4, four_seconds_later, is_over)
    outcomes = client.keep_calling(4, rounds, "GET", okta.url + USERS)
    assert statuses(outcomes) == {200}
    assert [refusal for refusal in okta.refusals if refusal.error != "use_dpop_nonce"] == []
    assert okta.tokens_minted == 2
    assert okta.token_requests <= 2 + (binding == "dpop") + 1  # one more may have begun when the callers stopped
    first, renewed = [token.value for token in okta.tokens()]
    assert {renewed} <= sent() <= {first, renewed}
    # Not long before the former one's life was spent. That counts from its request, on a busy machine many of these hours before
    # it was issued.
    issued = [token.issued_at for token in okta.tokens()]
    assert all(later - earlier > 0.25 * okta.token_lifetime for earlier, later in pairwise(issued))


@either_binding
def test_no_call_waits_for_a_renewal(okta: FakeOkta, front: Front, service: Service, connect: Connect) -> None:
    hours, events = Hours(okta), Events()
    client = connect(service(org_url=front.url, clock=hours.clock(), on_event=events))
    assert client.get(front.url + USERS).status == 200
    asked, answer = threading.Event(), threading.Event()

    def held(exchange: Exchange) -> bool:
        asked.set()
        answer.wait(20)
        return False

    front.pages[TOKEN] = held
    hours.later(0.86 * okta.token_lifetime)
    try:
        assert statuses(client.at_once(5, "GET", front.url + USERS)) == {200}
        assert asked.wait(20), "no renewal was begun"
        assert statuses(client.at_once(5, "GET", front.url + USERS)) == {200}
        assert okta.tokens_minted == 1
    finally:
        answer.set()
    eventually(lambda: len(events.of(TokenObtained)) > 1, "the renewal ends")
    assert client.get(front.url + USERS).status == 200
    assert okta.tokens_minted == 2
    assert [event.background for event in events.of(TokenObtained)] == [False, True]


@either_binding
def test_a_failed_renewal_is_reported_and_the_token_stays_in_use(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    hours, events = Hours(okta), Events()
    client = connect(service(clock=hours.clock(), on_event=events))
    assert client.get(okta.url + USERS).status == 200
    asked = okta.token_requests
    okta.next(503, times=100)
    hours.later(0.86 * okta.token_lifetime)
    assert client.get(okta.url + USERS).status == 200
    eventually(lambda: okta.token_requests > asked, "a renewal is begun")
    hours.later(60)  # more than any renewal may take
    eventually(lambda: events.of(RenewalFailed), "the renewal fails")
    assert client.get(okta.url + USERS).status == 200
    assert len(events.of(RenewalFailed)) == 1
    assert okta.tokens_minted == 1
    okta.clear_faults()
    hours.later(100)
    assert client.get(okta.url + USERS).status == 200
    eventually(lambda: okta.tokens_minted == 2, "the next renewal succeeds")


@pytest.mark.parametrize("callers", [1, 10])
def test_a_revoked_token_is_renewed_exactly_once(
    okta: FakeOkta, service: Service, connect: Connect, callers: int
) -> None:
    events = Events()
    client = connect(service(on_event=events))
    assert client.get(okta.url + USERS).status == 200
    okta.revoke_all()
    assert statuses(client.at_once(callers, "GET", okta.url + USERS)) == {200}
    assert okta.tokens_minted == 2
    assert all(event.renewing for event in events.of(TokenRejected))
    assert events.of(TokenRejected)


@pytest.mark.parametrize("minutes", [-10, 10])
@either_binding
def test_a_clock_that_is_ten_minutes_off_fails_no_call(
    okta: FakeOkta, service: Service, connect: Connect, minutes: int
) -> None:
    okta.skew(minutes=minutes)
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    assert client.get(okta.url + USERS).status == 200
    assert okta.tokens_minted == 1


@pytest.mark.parametrize("other_name", sorted(CLIENTS.keys() & {"requests", "httpx-trio", "aiohttp", "niquests-async"}))
@either_binding
def test_one_app_serves_clients_of_different_kinds_with_one_token(
    okta: FakeOkta, service: Service, connect: Connect, other_name: str
) -> None:
    app = service()
    client = connect(app)
    other = CLIENTS[other_name](app)
    try:
        assert client.get(okta.url + USERS).status == 200
        assert other.get(okta.url + USERS).status == 200
        okta.revoke_all()
        assert other.get(okta.url + USERS).status == 200
        assert client.get(okta.url + USERS).status == 200
    finally:
        other.close()
    assert okta.tokens_minted == 2


@either_binding
def test_token_and_headers_work_for_calls_of_another_client(
    okta: FakeOkta, service: Service, connect: Connect, binding: str
) -> None:
    client = connect(service())
    token = client.token()
    assert token.token_type == ("DPoP" if binding == "dpop" else "Bearer")
    headers = client.headers("GET", okta.url + USERS)
    with urllib.request.urlopen(urllib.request.Request(okta.url + USERS, headers=headers), timeout=20) as answer:
        assert answer.status == 200
    assert okta.tokens_minted == 1
    with pytest.raises(ConfigurationError, match=r"add it to origins=\[\.\.\.\]\."):
        client.headers("GET", "https://elsewhere.example/")


@either_binding
def test_a_client_that_ends_during_a_renewal_does_not_fail_others(
    okta: FakeOkta, front: Front, service: Service, connect: Connect, client_type: type[Client]
) -> None:
    hours = Hours(okta)
    app = service(org_url=front.url, clock=hours.clock())
    client = client_type(app)
    asked, answer = threading.Event(), threading.Event()

    def held(exchange: Exchange) -> bool:
        asked.set()
        answer.wait(20)
        return False

    try:
        assert client.get(front.url + USERS).status == 200
        front.pages[TOKEN] = held
        hours.later(0.86 * okta.token_lifetime)
        assert client.get(front.url + USERS).status == 200
        assert asked.wait(20)
    finally:
        client.close()
        answer.set()
    other = connect(app)

    def renewed() -> bool:
        assert other.get(front.url + USERS).status == 200
        return len({request.header("authorization") for request in sent_to(okta)}) == 2

    eventually(renewed, "calls are made with another token")
    assert okta.tokens_minted == 2
