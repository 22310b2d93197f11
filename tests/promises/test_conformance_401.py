"""With every client, a 401 of an API is healed by a new token, or reaches the caller as it is."""

from __future__ import annotations

import gzip
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from clients import MULTIPART_NAME, Body
from front import Exchange, Front
from okta_m2m.testing import FakeOkta
from promises import CONTENT, USERS, Connect, Service, either_binding, half_read, in_matrix, sent_to, sha, statuses
from services import eventually

BODIES_ALIKE = [
    ("gzip", 1, "E0000011"),
    ("identity", 7, "E0000015"),
    ("gzip", 7, "E0000015"),
    ("identity", 1, "E0000011"),
]


def file_at_offset(tmp_path: Path) -> BinaryIO:
    path = tmp_path / "content"
    path.write_bytes(b"not this" + CONTENT)
    file = path.open("rb")
    file.seek(8)
    return file


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
@either_binding
def test_a_body_of_bytes_arrives_whole_after_a_401(
    okta: FakeOkta, service: Service, connect: Connect, warm: bool
) -> None:
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
def test_a_file_is_sent_again_from_its_position_or_the_caller_gets_the_401(
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
def test_a_401_that_a_new_token_cannot_solve_goes_to_the_caller(
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
def test_a_response_with_any_other_status_goes_to_the_caller(
    okta: FakeOkta, service: Service, connect: Connect, status: int
) -> None:
    client = connect(service())
    okta.next(status=status, on=USERS, body=b"why")
    answer = client.get(okta.url + USERS)
    assert (answer.status, answer.body) == (status, b"why")
    assert okta.api_calls == 1
    assert okta.tokens_minted == 1


@either_binding
def test_a_401_of_the_org_without_a_challenge_is_judged_by_its_body(
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
def test_a_401_whose_body_was_read_reaches_the_caller_whole(
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
def test_a_small_gzipped_e0000015_renews_no_token(okta: FakeOkta, service: Service, connect: Connect) -> None:
    document = json.dumps({"errorCode": "E0000015", "errorSummary": "off"}).encode()
    okta.next(status=401, on=USERS, body=gzip.compress(document), headers={"Content-Encoding": "gzip"})
    client = connect(service())
    answer = client.get(okta.url + USERS)
    assert (answer.status, answer.body) == (401, document)
    assert okta.tokens_minted == 1


@either_binding
def test_an_api_that_always_responds_401_causes_few_token_requests(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
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
    # Between threads, httpcore now and then closes a connection that it has just given to a call (encode/httpcore#1110). That
    # call then has one of these errors of httpx's; the second, if another connection has got the same number meanwhile.
    closed = ("ReadError('[Errno 9] Bad file descriptor')", "ReadTimeout('timed out')")
    failed = [one for one in outcomes if repr(one) in closed]
    assert len(failed) <= 2
    assert statuses([one for one in outcomes if one not in failed]) == {200}


@half_read
@pytest.mark.timeout(60)
@either_binding
def test_the_body_of_an_endless_401_is_not_read_to_its_end(
    okta: FakeOkta, front: Front, service: Service, connect: Connect
) -> None:
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
def test_a_401_whose_body_stalls_does_not_stop_the_call(
    okta: FakeOkta, front: Front, new_service: Service, connect: Connect
) -> None:
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


def test_a_401_whose_body_breaks_off_is_judged_by_what_arrived(
    okta: FakeOkta, front: Front, new_service: Service, connect: Connect
) -> None:
    def page(exchange: Exchange) -> None:
        front.pages.clear()
        exchange.begin(401)
        exchange.chunk(b'{"errorCode": "E00')
        raise ConnectionAbortedError  # the front then closes the connection

    client = connect(new_service(okta, org_url=front.url))
    if client.name == "docs-urllib3":
        pytest.skip("reads the whole body, so urllib3's own error goes to the caller")
    front.pages[USERS] = page
    assert client.get(front.url + USERS).status == 200
    assert okta.tokens_minted == 2


@either_binding
def test_a_streamed_response_stays_streamed(okta: FakeOkta, front: Front, service: Service, connect: Connect) -> None:
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
def test_a_streamed_response_after_a_401_stays_streamed(
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
def test_a_401_leaves_no_connection_in_use(okta: FakeOkta, front: Front, service: Service, connect: Connect) -> None:
    client = connect(service(org_url=front.url))
    okta.features_off.add("/api/v1/groups")
    for _ in range(5):
        okta.next(401, on=USERS)
        assert client.get(front.url + USERS).status == 200
        assert client.get(front.url + "/api/v1/groups").status == 401
    # One for the calls, and one more where the token request goes by way of the same pool.
    eventually(lambda: len(front.open) <= 2, "no more connections than are used")


@either_binding
def test_a_generated_body_is_sent_part_by_part(
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
def test_a_file_is_never_held_in_memory_as_a_whole(okta: FakeOkta, service: Service, connect: Connect) -> None:
    client = connect(service())
    client.token()
    file = Watched(CONTENT * 20)
    okta.next(401, on=USERS)
    answer = client.post(okta.url + USERS, Body(file=file))
    assert answer.status == (200 if client.replays_files else 401)
    assert 0 < file.most < len(CONTENT) * 10
