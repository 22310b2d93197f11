"""Calls with a bound token: each has a proof, and the nonce that the API asked for."""

from __future__ import annotations

import gc
from base64 import urlsafe_b64encode
from hashlib import sha256

import pytest

from bench import API, GOES_TO_THE_CALLER, Bench, decoded, names, proof, unauthorized
from okta_m2m import Token
from okta_m2m.effects import Attempt, Discard, Response, Send, StartSend
from okta_m2m.testing import Replayed

pytestmark = pytest.mark.usefixtures("everything_is_reported")


def bound(bench: Bench) -> Token:
    return bench.obtain(bench.token(token_type="DPoP")).result()


def nonce_asked_for(status: int, nonce: str | None = "nonce-1") -> Response:
    fields = [("WWW-Authenticate", 'DPoP error="use_dpop_nonce", algs="ES256"')]
    return Response(status, fields + ([("DPoP-Nonce", nonce)] if nonce else []))


@pytest.mark.parametrize("status", [400, 401])
def test_a_nonce_that_an_api_requests_is_sent_once(status: int) -> None:
    bench = Bench(dpop=True)
    bound(bench)
    replayed = bench.authorize(nonce_asked_for(status), nonce_asked_for(status, "nonce-2"))
    assert names(replayed) == ["Attempt", "Discard", "Attempt"]
    first, second = replayed.of(Attempt)
    assert "nonce" not in proof(first)
    assert proof(second)["nonce"] == "nonce-1"
    assert proof(first)["jti"] != proof(second)["jti"]
    assert first.headers["Authorization"] == second.headers["Authorization"] == "DPoP token-1"


def test_a_call_sends_its_own_requested_nonce_even_if_another_call_received_one_later() -> None:
    bench = Bench(dpop=True)
    judging = bench.app.judge(bound(bench), nonce_asked_for(401), method="GET", url=API, replayable=True)
    assert isinstance(next(judging), Discard)
    bench.authorize(Response(200, [("DPoP-Nonce", "nonce-0")])).result()
    (attempt,) = bench.replay(judging, Response(200)).of(Attempt)
    assert proof(attempt)["nonce"] == "nonce-1"


@pytest.mark.parametrize("status", [200, 401])
def test_a_nonce_is_taken_from_every_response(status: int) -> None:
    bench = Bench(dpop=True)
    bound(bench)
    answer = Response(status, [("DPoP-Nonce", "nonce-1"), ("WWW-Authenticate", 'DPoP error="insufficient_scope"')])
    bench.authorize(answer).result()
    (attempt,) = bench.authorize(Response(200)).of(Attempt)
    assert proof(attempt)["nonce"] == "nonce-1"


def test_a_nonce_is_sent_to_its_origin_however_the_url_is_written() -> None:
    bench = Bench(dpop=True)
    bound(bench)
    bench.authorize(Response(200, [("DPoP-Nonce", "nonce-1")]), url="HTTPS://ACME.okta.com:443/api/v1/users").result()
    (attempt,) = bench.authorize(Response(200), url="https://acme.okta.com/api/v1/groups?x=a b").of(Attempt)
    assert proof(attempt)["nonce"] == "nonce-1"


def test_the_first_proof_with_a_renewed_token_is_for_that_token() -> None:
    bench = Bench(dpop=True)
    for number in (1, 2):
        bench.obtain(bench.token(token_type="DPoP")).result()
        for _ in range(2):
            credentials = bench.app.ready("GET", API)
            assert credentials is not None
            assert credentials.authorization == f"DPoP token-{number}"
            digest = sha256(f"token-{number}".encode()).digest()
            assert decoded(credentials.proof or "")[1]["ath"] == urlsafe_b64encode(digest).rstrip(b"=").decode()
        bench.time += 4000.0


def test_the_nonce_of_an_api_is_not_sent_to_the_token_endpoint() -> None:
    bench = Bench(dpop=True)
    bench.obtain(bench.token({"dpop_nonce": "for-tokens"}, token_type="DPoP")).result()
    (attempt,) = bench.authorize(Response(200, [("DPoP-Nonce", "for-the-api")])).of(Attempt)
    assert "nonce" not in proof(attempt)
    bench.time += 4000.0
    (send,) = bench.obtain(bench.token(token_type="DPoP")).of(Send)
    assert proof(send)["nonce"] == "for-tokens"


def test_a_response_that_requests_a_nonce_without_giving_one_goes_to_the_caller() -> None:
    bench = Bench(dpop=True)
    bound(bench)
    assert names(bench.authorize(nonce_asked_for(401, None))) == GOES_TO_THE_CALLER


def test_after_a_body_that_cannot_be_sent_again_the_next_call_sends_the_nonce() -> None:
    bench = Bench(dpop=True)
    bound(bench)
    assert names(bench.authorize(nonce_asked_for(401), replayable=False)) == GOES_TO_THE_CALLER
    (attempt,) = bench.authorize(Response(200)).of(Attempt)
    assert proof(attempt)["nonce"] == "nonce-1"


@pytest.mark.parametrize("status", [400, 401])
def test_a_refused_proof_is_replaced_once(status: int) -> None:
    bench = Bench(dpop=True)
    bound(bench)
    refused = Response(status, [("WWW-Authenticate", 'DPoP error="invalid_dpop_proof"')])
    replayed = bench.authorize(refused, refused)
    assert names(replayed) == ["Attempt", "Discard", "Attempt"]
    first, second = replayed.of(Attempt)
    assert proof(first)["jti"] != proof(second)["jti"]


def test_a_nonce_may_be_requested_again_after_the_token_was_renewed() -> None:
    bench = Bench(dpop=True)
    bound(bench)
    invalid = unauthorized('DPoP error="invalid_token"')
    replayed = bench.authorize(
        nonce_asked_for(401),
        invalid,
        bench.token(token_type="DPoP"),
        nonce_asked_for(401, "nonce-2"),
        Response(200),
    )
    assert names(replayed) == ["Attempt", "Discard", "Attempt", "Discard", "Send", "Attempt", "Discard", "Attempt"]
    last = replayed.of(Attempt)[-1]
    assert last.headers["Authorization"] == "DPoP token-2"
    assert proof(last)["nonce"] == "nonce-2"


def test_a_bound_token_is_never_sent_as_bearer_nor_without_its_proof() -> None:
    bench = Bench(dpop=True)
    replayed = bench.authorize(bench.token(token_type="dpop"), Response(200))
    (attempt,) = replayed.of(Attempt)
    assert set(attempt.headers) == {"Authorization", "DPoP"}
    assert attempt.headers["Authorization"].startswith("DPoP ")
    headers = bench.replay(bench.app.headers("GET", API)).result()
    assert set(headers) == {"Authorization", "DPoP"}


def offered_key(replayed: Replayed[Token]) -> object:
    """The key of the proof that a token request had."""
    (sent,) = replayed.of(StartSend)
    return decoded(sent.request.headers["DPoP"])[0]["jwk"]


def test_a_key_that_no_token_is_bound_to_is_not_kept() -> None:
    """It takes more memory than the rest of an app, and most apps have Bearer tokens."""
    bench = Bench(dpop=True)
    keys = []
    for token_type in ("Bearer", "Bearer", "DPoP", "DPoP", "Bearer", "DPoP"):
        keys.append(offered_key(bench.obtain(bench.token(token_type=token_type))))
        bench.time += 4000.0
    first, second, *bound = keys
    assert first != second != bound[0]
    assert all(key == bound[0] for key in bound), "calls with earlier tokens still need it"


def test_a_closed_app_keeps_no_token() -> None:
    def kept() -> list[object]:
        return [one for one in gc.get_objects() if isinstance(one, Token) and one.value == "of-a-closed-app"]

    bench = Bench(dpop=True)
    bench.obtain(bench.token(access_token="of-a-closed-app", token_type="DPoP")).result()
    bench.app.ready("GET", API)
    assert kept()
    bench.app.close()
    gc.collect()
    assert not kept()
