"""Every promise, kept through every HTTP client, with Bearer tokens and with bound ones."""

from __future__ import annotations

import copy
import gzip
import io
import json
import logging
import pickle
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import trustme

from clients import CLIENTS, MULTIPART_NAME, AsyncClient, Body, Client
from front import Exchange, Front
from okta_m2m import (
    ConfigurationError,
    OktaM2MError,
    PrivateKey,
    RateLimited,
    TokenRefused,
    TokenUnreachable,
)
from okta_m2m._base.clocks import Clock
from okta_m2m.effects import Request, Response, SendFailed
from okta_m2m.errors import (
    AccessDenied,
    ConsentRequired,
    InvalidClient,
    InvalidDPoPProof,
    InvalidScope,
    ScopesMissing,
    UnauthorizedClient,
    UnexpectedAnswer,
)
from okta_m2m.events import (
    AuthorizationKept,
    OriginPassedOver,
    RenewalFailed,
    ScopesReduced,
    TokenObtained,
    TokenRejected,
)
from okta_m2m.testing import FakeOkta
from promises import (
    CONTENT,
    TOKEN,
    USERS,
    Connect,
    Events,
    Hours,
    Rounds,
    Service,
    credentials,
    either_binding,
    in_matrix,
    proofs_of,
    redirect,
    sent_to,
    sha,
    statuses,
)
from services import eventually

# httpx has async generators inside each other, and no way to close the inner ones of an answer that is not read to its end.
half_read = pytest.mark.filterwarnings("ignore:Async generator 'http(x|core)2?:ResourceWarning")


# What each client follows in the same way as others of these, or reads so.
REDIRECTS_ALIKE = [
    *((method, status) for status in (301, 303, 308) for method in ("GET", "POST")),
    ("GET", 307),
    ("POST", 302),
]
BODIES_ALIKE = [
    ("gzip", 1, "E0000011"),
    ("identity", 7, "E0000015"),
    ("gzip", 7, "E0000015"),
    ("identity", 1, "E0000011"),
]


# ── a token that is always good ──────────────────────────────────────────────────────────────────────────────────────


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
def test_many_callers_from_cold_cost_one_token(okta: FakeOkta, service: Service, connect: Connect) -> None:
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
def test_nobody_waits_for_a_renewal(okta: FakeOkta, front: Front, service: Service, connect: Connect) -> None:
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
def test_a_renewal_that_fails_is_told_and_the_token_goes_on(okta: FakeOkta, service: Service, connect: Connect) -> None:
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
def test_a_revoked_token_is_healed_by_exactly_one_renewal(
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
def test_a_clock_that_is_ten_minutes_off_does_not_matter(
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
def test_token_and_headers_serve_calls_that_the_client_does_not_make(
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


# ── a 401 ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def file_at_offset(tmp_path: Path) -> BinaryIO:
    path = tmp_path / "content"
    path.write_bytes(b"not this" + CONTENT)
    file = path.open("rb")
    file.seek(8)
    return file


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
@either_binding
def test_bytes_arrive_whole_after_a_401(okta: FakeOkta, service: Service, connect: Connect, warm: bool) -> None:
    client = connect(service())
    if warm:
        assert client.get(okta.url + USERS).status == 200
        okta.revoke_all()
    else:
        okta.next(401, on=USERS)
    answer = client.post(okta.url + USERS, Body(data=CONTENT))
    assert answer.status == 200
    assert answer.received == sha(CONTENT)
    assert okta.tokens_minted == 2


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
@either_binding
def test_a_file_arrives_whole_from_where_it_stood_or_the_caller_gets_the_401(
    okta: FakeOkta, service: Service, connect: Connect, tmp_path: Path, warm: bool
) -> None:
    client = connect(service())
    if warm:
        assert client.get(okta.url + USERS).status == 200
        okta.revoke_all()
    else:
        okta.next(401, on=USERS)
    with file_at_offset(tmp_path) as file:
        answer = client.post(okta.url + USERS, Body(file=file))
        assert answer.status == (200 if client.replays_files else 401)
    if answer.status == 401:
        with file_at_offset(tmp_path) as file:
            answer = client.post(okta.url + USERS, Body(file=file))
    assert answer.received == sha(CONTENT)
    assert okta.tokens_minted == 2


def test_a_file_in_a_form_arrives_whole_after_a_401(okta: FakeOkta, service: Service, connect: Connect) -> None:
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    okta.revoke_all()
    answer = client.post(okta.url + USERS, Body(form=io.BytesIO(CONTENT)))
    assert answer.status == 200
    body = sent_to(okta)[-1].body
    assert CONTENT in body
    assert f'name="{MULTIPART_NAME}"'.encode() in body
    assert okta.tokens_minted == 2


def test_a_stream_is_never_sent_again_and_the_next_call_has_a_new_token(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    okta.revoke_all()
    assert client.post(okta.url + USERS, Body(stream=[b"one", b"two"])).status == 401
    assert [request.body for request in sent_to(okta) if request.method == "POST"] == [b"onetwo"]
    answer = client.post(okta.url + USERS, Body(stream=[b"one", b"two"]))
    assert answer.status == 200
    assert answer.received == sha(b"onetwo")
    assert okta.tokens_minted == 2


@pytest.mark.parametrize(
    "challenge",
    [
        'Bearer error="insufficient_scope", scope="okta.users.manage"',
        'Basic realm="another door"',
        *in_matrix('Bearer error="invalid_request"'),
    ],
)
@either_binding
def test_a_401_that_no_new_token_cures_goes_to_the_caller(
    okta: FakeOkta, service: Service, connect: Connect, challenge: str
) -> None:
    client = connect(service())
    okta.next(status=401, on=USERS, body=b"why", headers={"WWW-Authenticate": challenge})
    answer = client.get(okta.url + USERS)
    assert (answer.status, answer.body) == (401, b"why")
    assert okta.api_calls == 1
    assert okta.tokens_minted == 1


@pytest.mark.parametrize("status", [400, 403, 503, *in_matrix(404, 429, 500)])
@either_binding
def test_any_other_status_is_the_callers_affair(
    okta: FakeOkta, service: Service, connect: Connect, status: int
) -> None:
    client = connect(service())
    okta.next(status=status, on=USERS, body=b"why")
    answer = client.get(okta.url + USERS)
    assert (answer.status, answer.body) == (status, b"why")
    assert okta.api_calls == 1
    assert okta.tokens_minted == 1


@either_binding
def test_at_the_org_a_401_without_a_challenge_is_judged_by_its_body(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service())
    okta.next("E0000011", on=USERS)
    assert client.get(okta.url + USERS).status == 200
    assert okta.tokens_minted == 2
    okta.features_off.add("/api/v1/groups")
    answer = client.get(okta.url + "/api/v1/groups")
    assert answer.status == 401
    assert answer.json["errorCode"] == "E0000015"
    assert okta.tokens_minted == 2


@either_binding
@pytest.mark.parametrize(
    ("encoding", "pieces", "code"),
    [
        ("gzip", 1, "E0000015"),
        ("identity", 7, "E0000011"),
        ("gzip", 7, "E0000011"),
        ("identity", 1, "E0000015"),
        *in_matrix(*BODIES_ALIKE),
    ],
)
def test_a_401_whose_body_was_looked_at_reaches_the_caller_whole(
    okta: FakeOkta, front: Front, service: Service, connect: Connect, encoding: str, pieces: int, code: str
) -> None:
    # A code that can be read from the first 4 KiB, or one that cannot: then a new token is tried, once.
    document = json.dumps({"errorCode": code, "errorSummary": "x" * 20_000, "errorId": "oae1"}).encode()
    body = gzip.compress(document) if encoding == "gzip" else document

    def page(exchange: Exchange) -> None:
        headers = {"content_type": "application/json", "content_encoding": encoding}
        if pieces == 1:
            exchange.answer(401, body, **headers)
            return
        exchange.begin(401, **headers)
        size = len(body) // pieces + 1
        for start in range(0, len(body), size):
            exchange.chunk(body[start : start + size])
        exchange.end()

    front.pages[USERS] = page
    client = connect(service(org_url=front.url))
    answer = client.get(front.url + USERS)
    assert answer.status == 401
    assert answer.body == document


@either_binding
def test_a_small_gzipped_e0000015_is_understood(okta: FakeOkta, service: Service, connect: Connect) -> None:
    document = json.dumps({"errorCode": "E0000015", "errorSummary": "off"}).encode()
    okta.next(status=401, on=USERS, body=gzip.compress(document), headers={"Content-Encoding": "gzip"})
    client = connect(service())
    answer = client.get(okta.url + USERS)
    assert (answer.status, answer.body) == (401, document)
    assert okta.tokens_minted == 1


@either_binding
def test_401_for_ever_does_not_hammer_the_token_endpoint(okta: FakeOkta, service: Service, connect: Connect) -> None:
    client = connect(service())
    okta.next(401, on="/api/v1/*", times=1000)
    outcomes = [client.get(okta.url + USERS) for _ in range(10)] + client.at_once(10, "GET", okta.url + USERS)
    assert statuses(outcomes) == {401}
    assert okta.tokens_minted <= 4, "an origin that accepts none of them forces three renewals an hour"
    okta.clear_faults()
    assert client.get(okta.url + USERS).status == 200


@pytest.mark.timeout(60)
@either_binding
def test_a_pool_of_one_connection_neither_deadlocks_nor_leaks(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service(), pool_of_one=True)
    assert client.get(okta.url + USERS).status == 200
    for _ in range(3):
        okta.next(401, on=USERS)
        assert client.get(okta.url + USERS).status == 200
    okta.features_off.add("/api/v1/groups")
    for _ in range(3):
        assert client.get(okta.url + "/api/v1/groups").status == 401
    okta.revoke_all()
    assert client.post(okta.url + USERS, Body(data=CONTENT)).received == sha(CONTENT)
    okta.revoke_all()
    outcomes = client.at_once(5, "GET", okta.url + USERS)
    # Between threads, httpcore now and then closes a connection that it has just given to a call (encode/httpcore#1110),
    # and that call has this error of httpx's.
    assert statuses([one for one in outcomes if repr(one) != "ReadError('[Errno 9] Bad file descriptor')"]) == {200}


@half_read
@pytest.mark.timeout(60)
@either_binding
def test_a_401_that_does_not_end_is_let_go(okta: FakeOkta, front: Front, service: Service, connect: Connect) -> None:
    ended = threading.Event()

    def page(exchange: Exchange) -> bool | None:
        front.pages[USERS] = lambda exchange: False
        exchange.begin(401, www_authenticate='Bearer error="invalid_token"')
        while not ended.is_set():  # until the client hangs up
            exchange.chunk(b"x" * 4096)
        return None

    front.pages[USERS] = page
    client = connect(service(org_url=front.url), pool_of_one=True)
    try:
        assert client.get(front.url + USERS).status == 200
    finally:
        ended.set()
    assert okta.tokens_minted == 2


@half_read
@pytest.mark.timeout(60)
def test_a_401_that_stalls_is_let_go(okta: FakeOkta, front: Front, new_service: Service, connect: Connect) -> None:
    ended = threading.Event()

    def page(exchange: Exchange) -> None:
        front.pages.clear()
        exchange.begin(401, www_authenticate='Bearer error="invalid_token"')
        exchange.chunk(b"x")
        ended.wait(30)

    front.pages[USERS] = page
    client = connect(new_service(okta, org_url=front.url), timeout=1, pool_of_one=True)
    try:
        assert client.get(front.url + USERS).status == 200
    finally:
        ended.set()


@either_binding
def test_an_answer_that_is_streamed_stays_streamed(
    okta: FakeOkta, front: Front, service: Service, connect: Connect
) -> None:
    begun = threading.Event()

    def page(exchange: Exchange) -> None:
        exchange.begin(200)
        exchange.chunk(b"first ")
        if begun.wait(20):
            exchange.chunk(b"rest")
        exchange.end()

    front.pages[USERS] = page
    client = connect(service(org_url=front.url))
    firsts: list[bytes] = []

    def shown(part: bytes) -> None:
        firsts.append(part)
        begun.set()

    assert client.stream(front.url + USERS, shown).body == b"first rest"
    assert firsts == [b"first "]


@either_binding
def test_a_rejected_then_streamed_answer_stays_streamed(
    okta: FakeOkta, front: Front, service: Service, connect: Connect
) -> None:
    begun = threading.Event()

    def page(exchange: Exchange) -> None:
        exchange.begin(200)
        exchange.chunk(b"first ")
        if begun.wait(20):
            exchange.chunk(b"rest")
        exchange.end()

    def rejected(exchange: Exchange) -> None:
        front.pages[USERS] = page
        exchange.answer(401, b"no", www_authenticate='Bearer error="invalid_token"')

    front.pages[USERS] = rejected
    client = connect(service(org_url=front.url))
    assert client.stream(front.url + USERS, lambda part: begun.set()).body == b"first rest"


@either_binding
def test_a_401_leaves_no_connection_pinned(okta: FakeOkta, front: Front, service: Service, connect: Connect) -> None:
    client = connect(service(org_url=front.url))
    okta.features_off.add("/api/v1/groups")
    for _ in range(5):
        okta.next(401, on=USERS)
        assert client.get(front.url + USERS).status == 200
        assert client.get(front.url + "/api/v1/groups").status == 401
    # One for the calls, and one more where the token request goes by way of the same pool.
    eventually(lambda: len(front.open) <= 2, "no more connections than are used")


@either_binding
def test_a_body_that_is_generated_goes_out_as_it_is_made(
    okta: FakeOkta, front: Front, service: Service, connect: Connect
) -> None:
    arrived = threading.Event()
    front.arriving = lambda part: arrived.set()
    waited: list[bool] = []

    def parts() -> Iterator[bytes]:
        yield CONTENT
        waited.append(arrived.wait(20))
        yield CONTENT

    client = connect(service(org_url=front.url))
    client.token()
    assert client.post(front.url + USERS, Body(stream=parts())).received == sha(CONTENT * 2)
    assert waited == [True]


class Watched(io.BytesIO):
    """A file that knows how much of it was asked for at once."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.most = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.most = max(self.most, len(data))
        return data


@either_binding
def test_a_file_is_never_held_whole(okta: FakeOkta, service: Service, connect: Connect) -> None:
    client = connect(service())
    client.token()
    file = Watched(CONTENT * 20)
    okta.next(401, on=USERS)
    answer = client.post(okta.url + USERS, Body(file=file))
    assert answer.status == (200 if client.replays_files else 401)
    assert 0 < file.most < len(CONTENT) * 10


# ── where a token goes ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("method", "status"), [("GET", 302), ("POST", 307), *in_matrix(*REDIRECTS_ALIKE)])
@either_binding
def test_a_redirect_to_another_origin_carries_no_credentials(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, connect: Connect, status: int, method: str
) -> None:
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    body = Body(data=b"body") if method == "POST" else Body()
    assert client.call(method, redirect(okta, elsewhere.url + USERS, status), body).status == 401
    (arrived,) = sent_to(elsewhere)
    assert credentials(arrived) == []
    assert elsewhere.token_requests == 0
    assert okta.tokens_minted == 1


@either_binding
def test_a_redirect_to_another_allowed_origin_carries_no_credentials(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, connect: Connect
) -> None:
    """What one origin answers must not have the token sent to another, even if calls to that one get it too."""
    client = connect(service(origins=[elsewhere.url]))
    assert client.get(okta.url + USERS).status == 200
    assert client.get(redirect(okta, elsewhere.url + USERS)).status == 401
    (arrived,) = sent_to(elsewhere)
    assert credentials(arrived) == []


@either_binding
def test_nothing_is_carried_on_by_a_chain_that_leads_out_and_back(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service())
    back = redirect(elsewhere, okta.url + USERS)
    status = client.get(redirect(okta, redirect(okta, back))).status
    assert status == 401  # nobody brings credentials back that were dropped at another origin
    assert [credentials(request) for request in elsewhere.requests] == [[]]
    proofs = proofs_of(okta, elsewhere)
    assert len(proofs) == len(set(proofs))
    assert {refusal.error for refusal in okta.refusals} <= {"E0000011", "use_dpop_nonce"}
    assert client.get(okta.url + USERS).status == 200
    assert okta.tokens_minted == 1


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic eDp5"}], ids=["plain", "credentials of his own"])
@either_binding
def test_a_stranger_that_redirects_to_an_allowed_origin_does_not_get_his_call_made_with_the_token(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, connect: Connect, headers: dict[str, str]
) -> None:
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    # The fake lets nobody pass who brings credentials that it does not know.
    elsewhere.next(status=307, on="/redirect", headers={"Location": redirect(okta, okta.url + USERS, 307)})
    before = len(okta.requests)
    assert client.call("POST", elsewhere.url + "/redirect", Body(data=CONTENT), headers=headers).status == 401
    assert [request.all("authorization") for request in elsewhere.requests] == [list(headers.values())]
    assert [credentials(request) for request in okta.requests[before:]] == [[], []]
    assert client.get(okta.url + USERS).status == 200, "and the next call is one of its own"


@pytest.mark.parametrize(("method", "status"), [("GET", 302), ("POST", 307), *in_matrix(*REDIRECTS_ALIKE)])
@either_binding
def test_redirects_within_the_origin_are_followed_with_the_token_and_a_proof_of_their_own(
    okta: FakeOkta, service: Service, connect: Connect, status: int, method: str
) -> None:
    client = connect(service())
    hops = redirect(okta, redirect(okta, okta.url + USERS, status), status)
    body = Body(data=CONTENT) if method == "POST" else Body()
    answer = client.call(method, hops, body)
    assert answer.status == 200
    assert okta.tokens_minted == 1
    assert [refusal for refusal in okta.refusals if refusal.error != "use_dpop_nonce"] == []
    proofs = proofs_of(okta)
    assert len(proofs) == len(set(proofs))
    (arrived,) = sent_to(okta)
    if status in (307, 308):
        assert arrived.method == method
    if arrived.method == "POST":
        assert answer.received == sha(CONTENT)


def test_a_relative_redirect_is_followed_with_the_token(okta: FakeOkta, service: Service, connect: Connect) -> None:
    client = connect(service())
    assert client.get(redirect(okta, "../api/v1/users/a%40b?limit=1")).status == 200
    assert okta.tokens_minted == 1


@pytest.mark.parametrize("status", [302, 307])
@either_binding
def test_a_token_revoked_behind_a_redirect_is_healed(
    okta: FakeOkta, service: Service, connect: Connect, status: int
) -> None:
    client = connect(service())
    okta.next(401, on=USERS)
    answer = client.call("POST", redirect(okta, okta.url + USERS, status), Body(data=CONTENT))
    assert answer.status == 200
    (_, arrived) = sent_to(okta)
    if status == 307:
        assert (arrived.method, answer.received) == ("POST", sha(CONTENT))
    assert okta.tokens_minted == 2


@either_binding
def test_a_redirect_that_is_not_followed_reaches_the_caller(okta: FakeOkta, service: Service, connect: Connect) -> None:
    client = connect(service())
    answer = client.get(redirect(okta, okta.url + USERS), follow=False)
    assert answer.status == 302
    assert sent_to(okta) == []
    assert client.get(okta.url + USERS).status == 200


@either_binding
def test_an_origin_that_is_not_allowed_gets_no_token_and_is_told_once(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    events = Events()
    client = connect(service(on_event=events))
    for _ in range(3):
        assert client.get(elsewhere.url + USERS).status == 401
    assert [credentials(request) for request in elsewhere.requests] == [[], [], []]
    assert [event.origin for event in events.of(OriginPassedOver)] == [elsewhere.url]
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING and record.name == "okta_m2m"]
    assert len(warnings) == 1
    assert okta.token_requests == 0


@either_binding
def test_a_callers_own_authorization_is_left_alone_and_told_once(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    events = Events()
    client = connect(service(on_event=events))
    for _ in range(2):
        assert client.get(okta.url + USERS, headers={"authorization": "SSWS mine"}).status == 401
    assert [credentials(request) for request in okta.requests] == [["SSWS mine"]] * 2
    assert len(events.of(AuthorizationKept)) == 1
    assert okta.token_requests == 0


@either_binding
def test_a_url_with_userinfo_gets_no_token(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service())
    token = client.token().value
    port = okta.url.rpartition(":")[2]
    for url in (f"http://mallory:x@127.0.0.1:{port}{USERS}", f"http://{okta.url[7:]}@{elsewhere.url[7:]}{USERS}"):
        assert client.get(url).status in (400, 401)
    assert not any(
        token in value for server in (okta, elsewhere) for request in server.requests for value in credentials(request)
    )


@either_binding
def test_an_upper_case_host_is_the_same_origin(
    okta: FakeOkta, new_service: Service, connect: Connect, binding: str
) -> None:
    port = okta.url.rpartition(":")[2]
    client = connect(new_service(okta, dpop_bound=binding == "dpop", org_url=f"http://localhost:{port}"))
    assert client.get(f"http://LOCALHOST:{port}{USERS}").status == 200
    assert client.get(f"HTTP://LocalHost:{port}{USERS}").status == 200
    assert okta.tokens_minted == 1


def test_a_custom_authorization_servers_token_goes_to_the_named_api(
    okta: FakeOkta, front: Front, elsewhere: FakeOkta, service: Service, connect: Connect
) -> None:
    okta.protect("/things", scope="api:read")
    api = front.url + "/things"
    client = connect(service(authorization_server="default", scopes=["api:read"], origins=[front.url]))
    answer = client.get(f"{api}/a%40b/%7Ec d?x=%41")
    assert answer.status == 200
    assert answer.json["scopes"] == ["api:read"]
    okta.revoke_all()
    assert client.post(api, Body(data=CONTENT)).received == sha(CONTENT)
    assert okta.tokens_minted == 2
    client.get(elsewhere.url + USERS)
    assert credentials(elsewhere.requests[-1]) == []


PATHS = [
    "/a%40b.example",
    "/a%20b",
    "/J%C3%BCrgen",
    "/Jürgen",
    "/a%2Fb",
    "/a@b?limit=1&q=%40%20x",
    "/a+b~c!'()*",
    "/%7Ea",
    "?a=b",
    "/100%25",
    "/a;b=c,d",
    "/a/../b",
    "/%22a",
]


@pytest.mark.parametrize("at", ["org", "api"])
@either_binding
def test_every_path_is_accepted(okta: FakeOkta, front: Front, service: Service, connect: Connect, at: str) -> None:
    if at == "org":
        base, client = okta.url + USERS, connect(service())
    else:
        okta.protect("/things")
        base = front.url + "/things"
        client = connect(service(authorization_server="default", scopes=["api:read"], origins=[front.url]))
    for path in PATHS:
        assert (path, client.get(base + path).status) == (path, 200)
        assert (path, client.post(base + path, Body(data=b"body")).status) == (path, 200)
    assert okta.tokens_minted == 1
    assert {refusal.error for refusal in okta.refusals} <= {"use_dpop_nonce"}


# ── what the token endpoint may do ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "fault",
    [
        {"what": 503},
        {"drop": True},
        {"html": True},
        {"what": "client_assertion_already_used"},
        *in_matrix(  # to a client these are the same: tests/rules/test_retries.py says what is made of each
            {"what": 429, "reset": 0},
            {"what": 429, "concurrency": True},
            {"what": 500},
            {"what": 502},
            {"what": 504},
            {"what": "temporarily_unavailable", "description": "Try again.", "status": 400},
            {"what": "jwks_uri_error"},
            {"html": True, "status": 503},
            {"garbage": True},
            {"body": {"token_type": "Bearer"}},
            {"what": "use_dpop_nonce"},
        ),
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values()),
)
@either_binding
def test_trouble_that_passes_is_waited_out(
    okta: FakeOkta, service: Service, connect: Connect, fault: Mapping[str, Any]
) -> None:
    client = connect(service())
    okta.next(**fault)
    assert client.get(okta.url + USERS).status == 200
    assert okta.tokens_minted == 1
    assert okta.token_requests > 1


@either_binding
def test_a_token_endpoint_that_does_not_answer_is_asked_again(
    okta: FakeOkta, service: Service, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("okta_m2m._core.conversation.PATIENCE", 0.5)  # instead of 5 s
    client = connect(service(max_wait=20))
    okta.next(delay=30, drop=True)
    assert client.get(okta.url + USERS).status == 200
    assert okta.tokens_minted == 1


@half_read
@either_binding
def test_an_answer_that_never_ends_is_given_up(
    okta: FakeOkta, front: Front, service: Service, connect: Connect
) -> None:
    ended = threading.Event()

    def page(exchange: Exchange) -> None:
        front.pages.clear()
        exchange.begin(200, content_type="application/json")
        while not ended.is_set():
            exchange.chunk(b" " * 65536)

    front.pages[TOKEN] = page
    client = connect(service(org_url=front.url))
    try:
        assert client.get(front.url + USERS).status == 200
    finally:
        ended.set()


@either_binding
def test_a_rate_limit_beyond_the_time_allowed_says_how_long(okta: FakeOkta, service: Service, connect: Connect) -> None:
    client = connect(service(max_wait=5, clock=Clock(lambda: 0.0)))
    okta.next(429, reset=40)
    with pytest.raises(RateLimited) as caught:
        client.get(okta.url + USERS)
    assert caught.value.status == 429
    assert caught.value.retry_after is not None
    assert 30 < caught.value.retry_after < 50
    with pytest.raises(RateLimited):
        client.get(okta.url + USERS)
    assert okta.token_requests == 1


REFUSALS: list[tuple[str, type[TokenRefused]]] = [
    ("client_assertion_invalid_signature", InvalidClient),
    ("no_org_scopes_granted", ConsentRequired),
    ("E0000015", TokenRefused),
]
REFUSALS_ALIKE: list[tuple[str, type[TokenRefused]]] = [
    ("invalid_client", InvalidClient),
    ("client_assertion_invalid_kid", InvalidClient),
    ("invalid_scope", InvalidScope),
    ("unauthorized_client", UnauthorizedClient),
    ("unsupported_grant_type", UnauthorizedClient),
    ("access_denied", AccessDenied),
    ("invalid_dpop_proof", InvalidDPoPProof),
    ("invalid_request", TokenRefused),
    ("E0000007", TokenRefused),
]


@pytest.mark.parametrize(
    ("error", "kind"),
    [*REFUSALS, *in_matrix(*REFUSALS_ALIKE)],
    ids=[error for error, _ in (*REFUSALS, *REFUSALS_ALIKE)],
)
@either_binding
def test_a_definite_refusal_is_raised_at_once_and_remembered(
    okta: FakeOkta, service: Service, connect: Connect, error: str, kind: type[TokenRefused]
) -> None:
    client = connect(service(clock=Clock(lambda: 0.0)))  # it stands still, so nothing is forgotten meanwhile
    okta.next(error)
    for _ in range(2):
        with pytest.raises(kind) as caught:
            client.get(okta.url + USERS)
        assert type(caught.value).__name__ == kind.__name__
        assert isinstance(caught.value, client.refused), "what users of this client catch"
        assert not isinstance(caught.value, client.unreachable), "so that nobody tries again in vain"
        assert caught.value.status is not None
        assert caught.value.error
        assert caught.value.request_id
    assert okta.token_requests == 1
    assert okta.api_calls == 0


@either_binding
def test_many_callers_share_one_refusal_each_with_an_exception_of_its_own(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service(clock=Clock(lambda: 0.0)))
    okta.next("access_denied", delay=0.3)
    outcomes = client.at_once(10, "GET", okta.url + USERS)
    assert all(isinstance(outcome, AccessDenied) and isinstance(outcome, client.refused) for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == 10
    assert okta.token_requests == 1


@either_binding
def test_a_token_endpoint_that_redirects_is_not_followed(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service())
    okta.next(status=302, headers={"Location": elsewhere.url + TOKEN})
    with pytest.raises(UnexpectedAnswer):
        client.get(okta.url + USERS)
    assert elsewhere.requests == []
    assert okta.token_requests == 1


@either_binding
def test_an_error_says_whose_call_it_ended_as_the_librarys_own_do(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service(clock=Clock(lambda: 0.0)))
    okta.next("access_denied")
    with pytest.raises(AccessDenied) as at_once:
        client.get(okta.url + USERS)
    okta.clear_faults()
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    okta.revoke_all()
    okta.next("access_denied")
    with pytest.raises(AccessDenied) as after_401:
        client.get(okta.url + USERS)
    for error in (at_once.value, after_401.value):
        if hasattr(client.refused, "request") or "request" in vars(client.refused("made by hand")):
            assert str(error.request.url) == okta.url + USERS
        else:
            assert not hasattr(error, "request")
        assert str(pickle.loads(pickle.dumps(error))) == str(error), "it crosses to another process without the request"


@either_binding
def test_a_token_endpoint_that_is_not_there_is_unreachable(okta: FakeOkta, service: Service, connect: Connect) -> None:
    app = service(max_wait=0.3)
    okta.stop()
    client = connect(app)
    with pytest.raises(TokenUnreachable, match="max_wait") as caught:
        client.get(app.org_url + USERS)
    assert isinstance(caught.value, client.unreachable), "what users of this client catch, and try again"
    assert isinstance(caught.value, client.refused)


@either_binding
def test_a_page_that_is_not_from_oauth_is_unexpected(okta: FakeOkta, service: Service, connect: Connect) -> None:
    client = connect(service())
    okta.next(html=True, status=403)
    with pytest.raises(UnexpectedAnswer):
        client.get(okta.url + USERS)
    assert okta.token_requests == 1


@pytest.mark.parametrize("expires_in", ["soon", 1e300, *in_matrix(None, "3600", -5, 0, True, [1])], ids=repr)
@either_binding
def test_a_life_that_makes_no_sense_is_bounded(
    okta: FakeOkta, service: Service, connect: Connect, expires_in: object
) -> None:
    client = connect(service())
    okta.next(token={"expires_in": expires_in}, times=2)
    for _ in range(3):
        assert client.get(okta.url + USERS).status == 200
    assert okta.tokens_minted == 1
    assert 300 <= client.token().expires_in <= 86_400


@either_binding
def test_scopes_left_out_are_told(
    okta: FakeOkta, service: Service, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    events = Events()
    app = service(on_event=events)
    okta.apps[app.client_id].scopes.remove("okta.groups.read")
    client = connect(app)
    assert client.get(okta.url + USERS).status == 200
    assert [event.missing for event in events.of(ScopesReduced)] == [("okta.groups.read",)]
    assert any("okta.groups.read" in record.getMessage() for record in caplog.records)


@either_binding
def test_scopes_left_out_are_an_error_if_all_are_required(okta: FakeOkta, service: Service, connect: Connect) -> None:
    app = service(require_all_scopes=True)
    okta.apps[app.client_id].scopes.remove("okta.groups.read")
    client = connect(app)
    with pytest.raises(ScopesMissing, match=r"okta\.groups\.read"):
        client.get(okta.url + USERS)
    assert okta.api_calls == 0


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@either_binding
def test_a_key_that_is_refused_gives_way_to_the_next(okta: FakeOkta, service: Service, connect: Connect) -> None:
    old, new = PrivateKey.generate(kid="old"), PrivateKey.generate(kid="new")
    app = service(key=[old, new])
    okta.apps[app.client_id].jwks = new.jwks()
    client = connect(app)
    assert client.get(okta.url + USERS).status == 200
    before = okta.token_requests
    okta.revoke_all()
    assert client.get(okta.url + USERS).status == 200
    assert okta.token_requests == before + 1  # the key that was taken goes first from now on


@either_binding
def test_a_rotation_in_mid_run_fails_no_call(okta: FakeOkta, service: Service, connect: Connect) -> None:
    old, new = PrivateKey.generate(kid="old"), PrivateKey.generate(kid="new")
    app = service(key=[old, new])
    client = connect(app)
    assert client.get(okta.url + USERS).status == 200
    okta.apps[app.client_id].deactivate_key("old")
    okta.revoke_all()
    assert statuses(client.at_once(10, "GET", okta.url + USERS)) == {200}
    assert okta.tokens_minted == 2


def pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@either_binding
def test_a_key_file_that_changed_is_used_from_then_on(
    okta: FakeOkta, service: Service, connect: Connect, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    path = tmp_path / "key.pem"
    path.write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    app = service(key=PrivateKey.from_file(path))
    client = connect(app)
    assert client.get(okta.url + USERS).status == 200
    new = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(pem(new))
    okta.apps[app.client_id].jwks = PrivateKey(new).jwks()
    okta.revoke_all()
    assert client.get(okta.url + USERS).status == 200
    assert okta.tokens_minted == 2


class Blocking:
    """A signer across a network, whose client blocks."""

    def __init__(self) -> None:
        self.key = PrivateKey.generate()
        self.alg, self.kid, self.public_jwk = self.key.alg, self.key.kid, self.key.public_jwk
        self.threads: set[int] = set()

    def jwks(self) -> Any:
        return self.key.jwks()

    def sign(self, message: bytes, /) -> bytes:
        self.threads.add(threading.get_ident())
        time.sleep(0.05)  # the network
        return self.key.sign(message)


class Awaitable_(Blocking):
    """A signer across a network, whose client is async."""

    async def sign(self, message: bytes, /) -> bytes:  # type: ignore[override]
        return self.key.sign(message)


class Wrapped(Blocking):
    """The same behind a plain function, which cannot be seen before it is called."""

    def sign(self, message: bytes, /) -> Any:
        return Awaitable_().sign(message)


class Failing(Blocking):
    def sign(self, message: bytes, /) -> bytes:
        raise PermissionError("KMS says no")


@pytest.mark.parametrize("purpose", ["key", "dpop"])
@either_binding
def test_a_blocking_signer_never_runs_on_an_event_loop(
    okta: FakeOkta, service: Service, connect: Connect, purpose: str, binding: str
) -> None:
    signer = Blocking()
    client = connect(service(**{purpose: signer}))
    loop = client.run(_thread) if isinstance(client, AsyncClient) else None
    assert client.get(okta.url + USERS).status == 200
    okta.revoke_all()
    assert client.get(redirect(okta, okta.url + USERS)).status == 200
    assert signer.threads
    assert loop not in signer.threads


async def _thread() -> int:
    return threading.get_ident()


@pytest.mark.parametrize("purpose", ["key", "dpop"])
@either_binding
def test_an_awaitable_signer_is_refused_by_name(
    okta: FakeOkta, service: Service, connect: Connect, purpose: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"Awaitable_\.sign is a coroutine function.*plain function"):
        service(**{purpose: Awaitable_()})
    client = connect(service(**{purpose: Wrapped()}))
    with pytest.raises(ConfigurationError, match=r"Wrapped\.sign returns an awaitable.*plain function"):
        client.get(okta.url + USERS)
    assert okta.requests == []


@either_binding
def test_a_signer_that_fails_is_named(okta: FakeOkta, service: Service, connect: Connect) -> None:
    client = connect(service(key=Failing()))
    with pytest.raises(OktaM2MError, match="Failing") as caught:
        client.get(okta.url + USERS)
    assert isinstance(caught.value.__cause__, PermissionError)


# ── DPoP ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nonces_that_rotate_in_mid_run_fail_no_call(okta: FakeOkta, new_service: Service, connect: Connect) -> None:
    okta.resource_nonce = True
    client = connect(new_service(okta, dpop_bound=True))
    rotations: list[None] = []

    def rotate() -> None:
        okta.rotate_nonces()
        rotations.append(None)

    assert client.get(okta.url + USERS).status == 200
    outcomes = client.keep_calling(4, Rounds(4, rotate, lambda: len(rotations) > 2), "GET", okta.url + USERS)
    assert statuses(outcomes) == {200}
    assert okta.tokens_minted == 1
    proofs = proofs_of(okta)
    assert len(proofs) == len(set(proofs))
    assert len(rotations) > 2
    assert {refusal.error for refusal in okta.refusals} == {"use_dpop_nonce"}


@pytest.mark.parametrize("status", [400, 401])
def test_a_resource_that_asks_for_a_nonce_is_answered_once(
    okta: FakeOkta, new_service: Service, connect: Connect, status: int
) -> None:
    okta.resource_nonce = status  # type: ignore[assignment]
    client = connect(new_service(okta, dpop_bound=True))
    assert client.post(okta.url + USERS, Body(data=CONTENT)).received == sha(CONTENT)
    assert len(sent_to(okta)) == 2
    assert client.post(okta.url + USERS, Body(data=CONTENT)).received == sha(CONTENT)
    assert len(sent_to(okta)) == 3
    okta.next("use_dpop_nonce", on=USERS, times=10)
    assert client.get(okta.url + USERS).status in (400, 401)
    assert len(sent_to(okta)) == 5
    assert okta.tokens_minted == 1


def test_an_api_of_a_custom_server_may_ask_for_a_nonce(
    okta: FakeOkta, front: Front, new_service: Service, connect: Connect
) -> None:
    okta.resource_nonce = True
    okta.protect("/things", scope="api:read")
    api = front.url + "/things"
    client = connect(
        new_service(okta, dpop_bound=True, authorization_server="default", scopes=["api:read"], origins=[front.url])
    )
    assert client.post(f"{api}/a%40b", Body(data=CONTENT)).received == sha(CONTENT)
    okta.rotate_nonces()
    okta.revoke_all()
    assert client.post(f"{api}/%7Eb", Body(data=CONTENT)).received == sha(CONTENT)


def test_a_redirect_behind_which_a_nonce_is_asked_for(okta: FakeOkta, new_service: Service, connect: Connect) -> None:
    client = connect(new_service(okta, dpop_bound=True))
    assert client.get(okta.url + USERS).status == 200
    okta.resource_nonce = True
    assert client.get(redirect(okta, redirect(okta, okta.url + USERS))).status == 200
    okta.rotate_nonces()
    answer = client.call("POST", redirect(okta, okta.url + USERS, 307), Body(data=CONTENT))
    assert answer.received == sha(CONTENT)


def test_dpop_switched_off_says_how_to_reach_an_app_that_requires_it(
    okta: FakeOkta, new_service: Service, connect: Connect
) -> None:
    client = connect(new_service(okta, dpop_bound=True, dpop=False))
    with pytest.raises(InvalidDPoPProof, match="keep dpop at its default"):
        client.get(okta.url + USERS)
    assert okta.token_requests == 1


def test_dpop_required_refuses_a_bearer_token(okta: FakeOkta, new_service: Service, connect: Connect) -> None:
    client = connect(new_service(okta, dpop="required"))
    with pytest.raises(InvalidDPoPProof, match="Proof of Possession"):
        client.get(okta.url + USERS)
    assert okta.api_calls == 0


def test_dpop_off_sends_no_proof(okta: FakeOkta, new_service: Service, connect: Connect) -> None:
    client = connect(new_service(okta, dpop=False))
    assert client.get(okta.url + USERS).status == 200
    assert proofs_of(okta) == []


def test_a_proof_that_was_refused_is_made_anew(okta: FakeOkta, new_service: Service, connect: Connect) -> None:
    client = connect(new_service(okta, dpop_bound=True))
    assert client.get(okta.url + USERS).status == 200
    okta.next("dpop_proof_already_used", on=USERS)
    assert client.get(okta.url + USERS).status == 200
    assert okta.tokens_minted == 1


# ── how the token request is sent ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("token_client", "pool_of_one"),
    [("same", True), ("other", False), ("made", True), *in_matrix(("same", False), ("other", True), ("made", False))],
)
@either_binding
def test_the_token_request_may_use_a_client_of_the_callers(
    okta: FakeOkta,
    service: Service,
    connect: Connect,
    client_type: type[Client],
    token_client: str,
    pool_of_one: bool,
) -> None:
    if token_client == "same" and not client_type.lends_itself:
        pytest.skip("it belongs to an event loop, and so is refused: see test_senders.py")
    client = connect(service(), token_client=token_client, pool_of_one=pool_of_one)
    assert client.get(okta.url + USERS).status == 200
    okta.revoke_all()
    assert client.post(okta.url + USERS, Body(data=CONTENT)).received == sha(CONTENT)
    assert statuses(client.at_once(5, "GET", okta.url + USERS)) == {200}
    assert okta.tokens_minted == 2
    for request in okta.requests:
        if request.path == TOKEN:
            assert request.all("authorization") == []


@either_binding
def test_the_token_request_is_not_shown_to_the_clients_hooks(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    okta.revoke_all()
    assert client.get(okta.url + USERS).status == 200
    assert set(client.seen_by_hooks) == {okta.url + USERS}


@either_binding
def test_send_sends_the_token_request_instead(okta: FakeOkta, service: Service, connect: Connect) -> None:
    sent: list[str] = []

    def send(request: Request, timeout: float) -> Response:
        sent.append(request.url)
        try:
            made = urllib.request.Request(request.url, request.body, dict(request.headers), method=request.method)
            with urllib.request.urlopen(made, timeout=timeout) as response:
                return Response(response.status, response.getheaders(), response.read())
        except urllib.error.HTTPError as response:
            return Response(response.code, response.headers.items(), response.read())
        except OSError as error:
            raise SendFailed(str(error)) from error

    client = connect(service(), send=send)
    okta.next(drop=True)
    assert client.get(okta.url + USERS).status == 200
    assert len(sent) == okta.token_requests
    assert set(sent) == {okta.url + TOKEN}


def test_of_the_callers_request_only_two_headers_change(
    okta: FakeOkta, service: Service, connect: Connect, binding: str
) -> None:
    client = connect(service())
    headers = {"X-Mine": "1", "Accept": "text/x", "Cookie": "a=b"}
    assert client.post(okta.url + USERS, Body(data=b"body"), headers=headers).status == 200
    (arrived,) = sent_to(okta)
    assert arrived.body == b"body"
    assert [arrived.header(name) for name in headers] == list(headers.values())
    assert len(arrived.all("authorization")) == 1
    assert len(arrived.all("dpop")) == (1 if binding == "dpop" else 0)
    (token_request, *_) = [request for request in okta.requests if request.path == TOKEN]
    assert token_request.all("x-mine") == token_request.all("cookie") == []


@either_binding
def test_nothing_that_holds_a_secret_can_be_pickled(okta: FakeOkta, service: Service, connect: Connect) -> None:
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    for secret in (client.auth, client.app, client.token()):
        with pytest.raises(TypeError, match=r"cannot be pickled.* secrets\. .+\.$"):
            pickle.dumps(secret)
    for secret in (client.app, client.token()):
        with pytest.raises(TypeError, match=r"cannot be pickled or deep-copied, .* secrets\. .+\.$"):
            copy.deepcopy(secret)


@either_binding
def test_an_auth_object_is_an_ordinary_object(okta: FakeOkta, service: Service, connect: Connect) -> None:
    """It can be recognised, copied and inherited from, and says which app it serves."""
    client = connect(service())
    if client.name == "docs-urllib3":
        pytest.skip("the page's adapter is the reader's own class")
    auth = client.auth
    assert copy.deepcopy({"auth": auth})["auth"] is auth
    copied = copy.copy(auth)
    assert copied is not auth
    assert (type(copied), copied.app) == (type(auth), auth.app)
    assert isinstance(auth, type(auth))
    assert repr(auth) == f"{type(auth).__name__}({client.app!r})"

    class Inherited(type(auth)):  # type: ignore[misc]  # whichever client's it is
        pass

    inherited = Inherited(client.app)
    assert isinstance(inherited, type(auth))
    for used in (copied, inherited):
        client.use(used)
        assert client.get(okta.url + USERS).status == 200


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """The file of a private CA, and the TLS settings of a server with its certificate."""
    made = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    made.cert_pem.write_to_path(str(path))
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert("127.0.0.1").configure_cert(served)
    return path, served


@pytest.mark.parametrize("by", ["environment", "client"])
@either_binding
def test_a_private_ca_holds_for_the_token_request_too(
    new_service: Service,
    connect: Connect,
    binding: str,
    authority: tuple[Path, ssl.SSLContext],
    by: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, served = authority
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    if by == "environment":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with FakeOkta(ssl_context=served) as okta:
        app = new_service(okta, dpop_bound=binding == "dpop")
        client = connect(app, trusted=path, token_client="other" if by == "client" else None)
        assert client.get(okta.url + USERS).status == 200
        assert client.get(redirect(okta, okta.url + USERS)).status == 200
        assert okta.tokens_minted == 1


def test_a_certificate_that_nobody_vouches_for_is_told_and_nothing_is_sent(
    new_service: Service, connect: Connect, authority: tuple[Path, ssl.SSLContext]
) -> None:
    with FakeOkta(ssl_context=authority[1]) as okta:
        client = connect(new_service(okta, max_wait=1.0))
        with pytest.raises(TokenUnreachable, match=r"certificate is not trusted|(?i:certificate.*verif)"):
            client.get(okta.url + USERS)
        assert okta.requests == []


@either_binding
def test_calls_by_way_of_a_proxy_carry_the_token_and_a_proof(
    okta: FakeOkta, front: Front, service: Service, connect: Connect
) -> None:
    client = connect(service(), proxy=front.url, token_client="other")
    if client.name == "aiohttp":
        pytest.skip("says that a proxy is used, so a plain-http origin gets no token by way of it")
    assert client.get(f"{okta.url}{USERS}/a%40b").status == 200
    assert client.get(redirect(okta, okta.url + USERS)).status == 200
    okta.revoke_all()
    assert client.post(okta.url + USERS, Body(data=CONTENT)).received == sha(CONTENT)
    assert okta.tokens_minted == 2
    calls = [url for url in front.proxied if TOKEN not in url]  # a token request of ours takes no proxy on this machine
    assert len(calls) == len([request for request in okta.requests if request.path != TOKEN])


@pytest.mark.parametrize("method", ["HEAD", "DELETE", "post", *in_matrix("GET", "POST", "PUT", "PATCH", "get")])
@either_binding
def test_every_method_is_accepted_and_healed(okta: FakeOkta, service: Service, connect: Connect, method: str) -> None:
    client = connect(service())
    okta.next(401, on=USERS)
    for _ in range(2):
        assert client.call(method, okta.url + USERS).status in (200, 204)
    assert okta.tokens_minted == 2
    assert okta.api_calls == 3


@either_binding
def test_a_client_that_ends_in_mid_renewal_is_no_failure_for_others(
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


@either_binding
def test_a_redirect_from_elsewhere_gets_no_token_there(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    assert client.get(redirect(elsewhere, okta.url + USERS)).status in (200, 401)
    assert [credentials(request) for request in elsewhere.requests] == [[]]
    assert client.get(okta.url + USERS).status == 200
    assert okta.tokens_minted == 1


# ── the suite itself ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [name for name, client in CLIENTS.items() if client.asynchronous])
def test_a_blocked_event_loop_is_noticed(okta: FakeOkta, new_service: Service, name: str) -> None:
    client = CLIENTS[name](new_service(okta))
    assert isinstance(client, AsyncClient)
    assert client.get(okta.url + USERS).status == 200

    async def blocks() -> None:
        time.sleep(1.5)

    client.run(blocks)
    with pytest.raises(AssertionError, match=r"blocked here:[\s\S]*time\.sleep"):
        client.close()
