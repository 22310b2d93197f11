"""A test can script FakeOkta's responses, change the org, and read what happened.

Invariant: the tests talk to it over plain sockets, and use nothing of the client.
"""

from __future__ import annotations

import http.client
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from joserfc.jwk import ECKey

from okta_m2m.testing import FakeOkta
from okta_m2m.testing.fake_okta._refusals import API_ERRORS
from plain_caller import Caller, okta_says


def test_a_rate_limit_has_the_management_apis_format_and_its_reset(okta: FakeOkta, caller: Caller) -> None:
    okta.next(429, reset=7)
    okta.next(429, concurrency=True)
    reply = caller.token_request()
    assert reply.refusal == (429, "E0000047", API_ERRORS["E0000047"][1])
    date = int(parsedate_to_datetime(reply.header("date") or "").timestamp())
    assert int(reply.header("x-rate-limit-reset") or 0) - date in (7, 8)
    assert (reply.header("x-rate-limit-remaining"), reply.header("retry-after")) == ("0", None)
    reply = caller.token_request()
    assert (reply.header("x-rate-limit-limit"), reply.header("x-rate-limit-remaining")) == ("0", "0")
    assert caller.token_request().status == 200
    assert okta.refusals == []


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"what": 500}, okta_says("server_error")),
        ({"what": "temporarily_unavailable"}, okta_says("temporarily_unavailable")),
        ({"error": "temporarily_unavailable", "status": 400}, okta_says("temporarily_unavailable")),
        ({"what": "jwks_uri_error"}, okta_says("jwks_uri_error")),
        ({"what": 401}, okta_says("invalid_client")),
        ({"what": "E0000015"}, (401, "E0000015", API_ERRORS["E0000015"][1])),
        ({"error": "mfa_required", "description": "Words", "status": 403}, (403, "mfa_required", "Words")),
    ],
)
def test_faults_named_by_status_or_error(
    okta: FakeOkta, caller: Caller, fault: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    okta.next(fault.pop("what", None), **fault)
    assert caller.token_request().refusal == expected
    assert caller.token_request().status == 200


def test_an_error_that_okta_does_not_have_must_be_described(okta: FakeOkta) -> None:
    with pytest.raises(ValueError, match="pass description="):
        okta.next("no_such_error")


def test_responses_that_are_not_oauth_and_a_dropped_connection(okta: FakeOkta, caller: Caller) -> None:
    okta.next(html=True, status=502)
    okta.next(garbage=True)
    okta.next(body={"hello": 1}, headers={"X-Extra": "1", "Date": None})
    okta.next(drop=True)
    page = caller.token_request()
    assert (page.status, page.body[:9]) == (502, b"<!DOCTYPE")
    assert caller.token_request().status == 200
    crafted = caller.token_request()
    assert (crafted.json, crafted.header("x-extra"), crafted.header("date")) == ({"hello": 1}, "1", None)
    with pytest.raises(ConnectionError):
        caller.token_request()
    caller.connection.close()
    assert caller.token_request().status == 200
    assert okta.tokens_minted == 1


def test_members_of_a_token_response_can_be_changed(okta: FakeOkta, caller: Caller) -> None:
    okta.next(token={"expires_in": None, "scope": None, "token_type": "N_A"})
    okta.next(token={"expires_in": "soon"}, times=2)
    assert caller.token_request().json.keys() == {"token_type", "access_token"}
    assert [caller.token_request().json["expires_in"] for _ in range(3)] == ["soon", "soon", 3600]
    assert okta.tokens_minted == 4


def test_faults_keep_to_their_path_and_queue_up(okta: FakeOkta, caller: Caller) -> None:
    token = caller.token()
    okta.next("E0000015", on="/api/v1/users")
    okta.next(503, on="/api/v1/*")
    okta.next(401, on="/api/v1/users/*")
    assert caller.token_request().status == 200
    assert caller.call(token, "/api/v1/users").status == 401
    assert caller.call(token, "/api/v1/users/x").status == 503
    reply = caller.call(token, "/api/v1/users/x")
    assert (reply.refusal, reply.body) == (okta_says("access_token_invalid"), b"")
    assert caller.call(token, "/api/v1/users/x").status == 200


def test_a_fault_for_n_requests_is_used_by_exactly_n_callers_at_once(okta: FakeOkta) -> None:
    okta.next(503, times=20, on="/api/v1/users")

    def call(_: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", okta.server.port, timeout=30)
        connection.request("GET", "/api/v1/users")
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(call, range(50)))
    assert (statuses.count(503), statuses.count(401)) == (20, 30)


def test_a_scripted_fault_uses_up_assertion_and_proof_too(okta: FakeOkta, bound: Caller) -> None:
    nonce = bound.nonce()
    assertion, proof = bound.assertion(), bound.proof("POST", okta.url + bound.path, nonce=nonce)
    okta.next(503)
    assert bound.token_request([("DPoP", proof)], client_assertion=assertion).status == 503
    fresh = bound.proof("POST", okta.url + bound.path, nonce=nonce)
    reply = bound.token_request([("DPoP", fresh)], client_assertion=assertion)
    assert reply.refusal == okta_says("client_assertion_already_used")
    assert bound.token_request([("DPoP", proof)]).refusal == okta_says("dpop_proof_already_used")


def test_the_servers_clock_runs_ahead_or_behind_on_demand(okta: FakeOkta, caller: Caller) -> None:
    here = int(time.time())
    okta.skew(minutes=10)
    reply = caller.token_request(client_assertion=caller.assertion(iat=here, exp=here + 300))
    assert reply.refusal == okta_says("client_assertion_expired_token")
    date = parsedate_to_datetime(reply.header("date") or "").timestamp()
    assert 590 < date - here < 700
    okta.skew(seconds=-600)
    reply = caller.token_request(client_assertion=caller.assertion(iat=here, exp=here + 300))
    assert reply.refusal == okta_says("client_assertion_issued_at_in_future")
    token = caller.token()
    assert caller.call(token).status == 200
    okta.skew(minutes=60)
    assert caller.call(token).refusal == okta_says("token_expired")


def test_a_delay_affects_one_request_and_ends_with_the_server() -> None:
    fake = FakeOkta().start()
    app = fake.add_app()
    assert app.private_jwk
    slow, quick = (Caller(fake, app, ECKey.import_key(app.private_jwk)) for _ in range(2))

    def abandoned() -> bool:
        try:
            slow.token_request()
        except (ConnectionError, http.client.HTTPException):
            return True
        return False

    fake.next(delay=600)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(abandoned)
        while fake.token_requests == 0:
            threading.Event().wait(0.001)
        assert quick.token_request().status == 200
        assert not waiting.done()
        fake.token_delay = 600
        fake.stop()
        waiting.result(60)
    slow.connection.close()
    quick.connection.close()


def test_counters_count_under_load_and_reset(okta: FakeOkta) -> None:
    app = okta.add_app()
    assert app.private_jwk
    key = ECKey.import_key(app.private_jwk)
    started = threading.Barrier(8)

    def work(_: int) -> None:
        caller = Caller(okta, app, key)
        started.wait(30)
        for _round in range(5):
            assert caller.call(caller.token()).status == 200
        caller.connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert (okta.tokens_minted, okta.token_requests, okta.api_calls, len(okta.requests)) == (40, 40, 40, 80)
    okta.reset()
    assert (okta.tokens_minted, okta.token_requests, okta.api_calls, okta.requests) == (0, 0, 0, [])


def test_each_answer_is_reported_with_its_status() -> None:
    reported: list[tuple[str, int]] = []
    with FakeOkta(on_answer=lambda request, status: reported.append((request.path, status))) as okta:
        app = okta.add_app()
        assert app.private_jwk
        caller = Caller(okta, app, ECKey.import_key(app.private_jwk))
        okta.next(503)
        assert caller.token_request().status == 503
        assert caller.call(caller.token()).status == 200
        okta.next(drop=True)
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            caller.token_request()
        caller.connection.close()
    token = "/oauth2/v1/token"
    assert reported == [(token, 503), (token, 200), ("/api/v1/users", 200), (token, 0)]


def test_an_app_is_granted_only_scopes_that_exist(okta: FakeOkta) -> None:
    with pytest.raises(ValueError, match=r"okta\.user\.read.*okta\.users\.read.*okta\.scopes\.add"):
        okta.add_app(scopes=["okta.users.read", "okta.user.read"])
    assert okta.apps == {}
    with pytest.raises(ValueError, match=r"api:read.*authorization server"):
        okta.add_app(scopes=["api:read"])
    okta.scopes.add("okta.news.read")
    app = okta.add_app(scopes=["okta.news.read"])
    assert app.private_jwk
    caller = Caller(okta, app, ECKey.import_key(app.private_jwk))
    assert caller.token_request(scope="okta.news.read").json["scope"] == "okta.news.read"
    caller.connection.close()
