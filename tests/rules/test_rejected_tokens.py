"""What follows when an API rejects a token: a renewal, one more attempt, or the response as it is."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from bench import (
    API,
    ELSEWHERE,
    GOES_TO_THE_CALLER,
    INVALID_TOKEN,
    ORG,
    RENEWS,
    Bench,
    Waiting,
    due,
    end,
    names,
    proof,
    raised,
    reported,
    to_its_request,
    unauthorized,
)
from okta_m2m import RateLimited, Token
from okta_m2m.effects import Attempt, Discard, Peek, Response, Send, Spawn, Wait
from okta_m2m.events import TokenRejected
from okta_m2m.testing import Replayed

pytestmark = pytest.mark.usefixtures("everything_is_reported")


# ── the response of the API ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("challenges", "effects"),
    [
        (['Bearer error="invalid_token"'], RENEWS),
        (['bearer realm="a, b", ERROR=invalid_token'], RENEWS),
        (["Bearer"], RENEWS),
        (['Bearer realm="api"'], RENEWS),
        (['Basic realm="x", Bearer error="invalid_token"'], RENEWS),
        (['Basic realm="x"', 'Bearer error="invalid_token"'], RENEWS),
        (['DPoP error="invalid_token", algs="ES256"'], RENEWS),
        (['Bearer error="insufficient_scope", scope="okta.users.manage"'], GOES_TO_THE_CALLER),
        (['Bearer error="invalid_request"'], GOES_TO_THE_CALLER),
        (['Bearer error="insufficient_authentication_context"'], GOES_TO_THE_CALLER),
        (['Basic realm="invalid_token"'], GOES_TO_THE_CALLER),
        (['Basic error="invalid_token"'], GOES_TO_THE_CALLER),
        (["Negotiate"], GOES_TO_THE_CALLER),
        (['Bearer realm="error=\\"invalid_token\\"", error="insufficient_scope"'], GOES_TO_THE_CALLER),
        (['DPoP error="use_dpop_nonce"'], GOES_TO_THE_CALLER),  # a Bearer token has no proof
    ],
)
@pytest.mark.parametrize("url", [API, f"{ELSEWHERE}/orders"])
def test_a_challenge_says_whether_a_new_token_would_help(challenges: list[str], effects: list[str], url: str) -> None:
    bench = Bench(origins=[ELSEWHERE])
    bench.obtain(bench.token()).result()
    answers: list[object] = [unauthorized(*challenges)]
    if effects is RENEWS:
        answers += [bench.token(), Response(200)]
    replayed = bench.authorize(*answers, url=url)
    assert names(replayed) == effects
    replayed.result()
    if effects is RENEWS:
        first, second = replayed.of(Attempt)
        assert first.headers["Authorization"] == "Bearer token-1"
        assert second.headers["Authorization"] == "Bearer token-2"


@pytest.mark.parametrize("url", [API, f"{ELSEWHERE}/orders"])
@pytest.mark.parametrize("challenges", [[], ["Bearer"], ['Bearer error="invalid_token"']])
def test_a_400_renews_no_token(challenges: list[str], url: str) -> None:
    bench = Bench(origins=[ELSEWHERE])
    bench.obtain(bench.token()).result()
    answer = Response(400, [("WWW-Authenticate", challenge) for challenge in challenges])
    assert names(bench.authorize(answer, url=url)) == GOES_TO_THE_CALLER


@pytest.mark.parametrize(
    ("body", "renews"),
    [
        (b'{"errorCode": "E0000011", "errorSummary": "Invalid token provided"}', True),
        (b'{"errorCode": "E0000015"}', False),
        (b'{"errorCode": "E0000004"}', False),
        (b'{"error": "something"}', False),
        (b"", True),
        (b"<html>", True),
        (b'{"errorCode": "E00000', True),
        (b"\xff\xfe", True),
    ],
)
def test_a_401_of_the_org_without_a_challenge_is_judged_by_its_body(body: bytes, renews: bool) -> None:
    bench = Bench()
    bench.obtain(bench.token()).result()
    answers: list[object] = [Response(401), body]
    replayed = bench.authorize(*answers, *([bench.token(), Response(200)] if renews else []))
    assert names(replayed) == (["Attempt", "Peek", "Discard", "Send", "Attempt"] if renews else ["Attempt", "Peek"])
    (peek,) = replayed.of(Peek)
    assert peek.limit <= 4096


@pytest.mark.parametrize("elsewhere", [ELSEWHERE, "https://a.example.com"])
def test_a_401_of_another_api_without_a_challenge_renews_without_reading_the_body(elsewhere: str) -> None:
    bench = Bench(origins=[elsewhere])
    bench.obtain(bench.token()).result()
    replayed = bench.authorize(Response(401), bench.token(), Response(200), url=f"{elsewhere}/orders")
    assert names(replayed) == RENEWS


@pytest.mark.parametrize("status", [200, 204, 301, 400, 403, 404, 407, 429, 500, 503])
def test_a_status_other_than_401_renews_no_token(status: int) -> None:
    bench = Bench()
    bench.obtain(bench.token()).result()
    answer = Response(status, [("WWW-Authenticate", 'Bearer error="invalid_token"')])
    assert names(bench.authorize(answer)) == GOES_TO_THE_CALLER


def test_after_a_401_to_a_body_that_cannot_be_sent_again_the_next_call_has_a_new_token() -> None:
    bench = Bench()
    bench.obtain(bench.token()).result()
    replayed = bench.authorize(INVALID_TOKEN, replayable=False)
    assert names(replayed) == GOES_TO_THE_CALLER
    assert [event.renewing for event in bench.events if isinstance(event, TokenRejected)] == [False]
    assert names(bench.authorize(bench.token(), Response(200))) == ["Send", "Attempt"]


def test_a_call_is_attempted_twice_at_most() -> None:
    bench = Bench()
    replayed = bench.authorize(bench.token(), INVALID_TOKEN, bench.token(), INVALID_TOKEN)
    assert names(replayed) == ["Send", "Attempt", "Discard", "Send", "Attempt"]
    replayed.result()
    rejections = [event for event in bench.events if isinstance(event, TokenRejected)]
    assert [(event.renewing, event.error, event.origin) for event in rejections] == [
        (True, "invalid_token", ORG),
        (False, "invalid_token", ORG),
    ]


@pytest.mark.parametrize(("ending", "shown"), [("abcde", "abcde"), ("abcdef", "ab...")])
def test_an_error_of_an_api_is_reported_up_to_80_characters(ending: str, shown: str) -> None:
    bench = Bench()
    answer = unauthorized(f'Basic error="{"word " * 15}{ending}"', 'Bearer error="invalid_token"')
    bench.authorize(bench.token(), answer, bench.token(), Response(200)).result()
    assert [event.error for event in bench.events if isinstance(event, TokenRejected)] == ["word " * 15 + shown]


def test_a_call_is_attempted_twice_at_most_however_long_it_takes() -> None:
    bench = Bench()

    def after_a_while(effect: Attempt) -> Response:
        bench.time += 20.0
        return INVALID_TOKEN

    replayed = bench.authorize(bench.token(), after_a_while, bench.token(), after_a_while)
    assert names(replayed) == ["Send", "Attempt", "Discard", "Send", "Attempt"]


def test_a_call_is_attempted_twice_at_most_if_the_new_token_needed_two_requests() -> None:
    bench = Bench()
    replayed = bench.authorize(bench.token(), INVALID_TOKEN, bench.answer(503), bench.token(), INVALID_TOKEN)
    assert names(replayed) == ["Send", "Attempt", "Discard", "Send", "Sleep", "Send", "Attempt"]


def test_a_late_rejection_of_an_old_token_renews_nothing() -> None:
    bench = Bench()
    old = bench.obtain(bench.token()).result()
    bench.authorize(INVALID_TOKEN, bench.token(), Response(200)).result()
    judging = bench.app.judge(old, INVALID_TOKEN, method="GET", url=API, replayable=True)
    replayed = bench.replay(judging, Response(200))
    assert names(replayed) == ["Discard", "Attempt"]
    assert replayed.of(Attempt)[0].headers["Authorization"] == "Bearer token-2"


def test_a_token_that_arrives_late_does_not_replace_a_later_one() -> None:
    bench = Bench(max_wait=10)
    first = Waiting(bench)
    late, answer = first.fetch(), bench.token()
    bench.time += 1.0
    first.is_running = False  # given up by the others
    assert bench.obtain(bench.token()).result().value == "token-2"
    end(late, answer)
    assert bench.obtain().result().value == "token-2"


def test_a_401_of_another_origin_is_not_answered_with_our_token() -> None:
    bench = Bench()
    token = bench.obtain(bench.token()).result()
    judging = bench.app.judge(token, INVALID_TOKEN, method="GET", url="https://evil.example/", replayable=True)
    assert names(bench.replay(judging)) == []


def test_the_response_to_a_foreign_token_is_not_judged() -> None:
    bench = Bench()
    bench.obtain(bench.token()).result()
    judging = bench.app.judge(Token("theirs"), INVALID_TOKEN, method="GET", url=API, replayable=True)
    assert names(bench.replay(judging)) == []


def test_if_the_org_refuses_a_proof_its_date_sets_the_time_of_all_proofs() -> None:
    bench = Bench(dpop=True)
    bench.obtain(bench.token({"date": None}, token_type="DPoP")).result()
    bench.okta_ahead = -600.0
    replayed = bench.authorize(bench.answer(400, www_authenticate='DPoP error="invalid_dpop_proof"'), Response(200))
    assert names(replayed) == ["Attempt", "Discard", "Attempt"]
    (attempt,) = bench.authorize(Response(200)).of(Attempt)
    assert bench.okta_time - 10 <= proof(attempt)["iat"] <= bench.okta_time


def test_if_another_api_refuses_a_proof_its_date_sets_the_time_of_that_proof_only() -> None:
    api = "https://api.example.com/orders"
    bench = Bench(dpop=True, authorization_server="default", origins=["https://api.example.com"])
    refused = {"www-authenticate": 'DPoP error="invalid_dpop_proof"'}
    late = formatdate(bench.okta_time - 7200, usegmt=True)
    replayed = bench.authorize(
        bench.token(token_type="DPoP"), Response(401, [*refused.items(), ("date", late)]), Response(200), url=api
    )
    first, second = (proof(attempt)["iat"] for attempt in replayed.of(Attempt))
    assert first - second == 7200
    (attempt,) = bench.authorize(Response(200), url=api).of(Attempt)
    assert abs(proof(attempt)["iat"] - first) <= 1


def test_a_token_requested_before_the_rejection_may_be_rejected_too() -> None:
    """All tokens are revoked while a renewal is under way: its own as well."""
    bench = Bench()
    due(bench)
    token = bench.app.token_state.token
    assert token is not None
    renewal = bench.spawned.pop().flow
    requested = to_its_request(renewal)
    bench.time += 0.5
    judging = bench.app.judge(token, INVALID_TOKEN, method="GET", url=API, replayable=True)
    assert isinstance(next(judging), Discard)
    assert isinstance(judging.send(None), Wait)
    end(requested, bench.token())
    attempt = judging.send(True)
    assert isinstance(attempt, Attempt)
    assert attempt.headers == {"Authorization": "Bearer token-2"}
    assert isinstance(judging.send(INVALID_TOKEN), Discard)
    spawn = judging.send(None)
    assert isinstance(spawn, Spawn)
    assert isinstance(judging.send(True), Wait)
    bench.replay(spawn.flow, bench.token())
    attempt = judging.send(True)
    assert isinstance(attempt, Attempt)
    assert attempt.headers == {"Authorization": "Bearer token-3"}
    with pytest.raises(StopIteration):
        judging.send(Response(200))
    # The API accepted that one, so any number of revocations heal.
    for _ in range(4):
        assert names(bench.authorize(INVALID_TOKEN, bench.token(), Response(200))) == RENEWS


def test_a_call_tries_at_most_two_tokens_that_were_requested_before_its_rejection() -> None:
    bench = Bench()
    due(bench)
    first = bench.app.token_state.token
    assert first is not None
    requested = to_its_request(bench.spawned.pop().flow)
    bench.time += 0.5
    judging = bench.app.judge(first, INVALID_TOKEN, method="GET", url=API, replayable=True)
    assert [type(next(judging)), type(judging.send(None))] == [Discard, Wait]
    end(requested, bench.token())
    assert isinstance(judging.send(True), Attempt)
    second = bench.app.token_state.token
    assert second is not None
    other = bench.app.judge(second, INVALID_TOKEN, method="GET", url=API, replayable=True)
    next(other)
    spawn = other.send(None)
    assert isinstance(spawn, Spawn)
    requested = to_its_request(spawn.flow)
    assert isinstance(other.send(True), Wait)
    bench.time += 0.5
    assert [type(judging.send(INVALID_TOKEN)), type(judging.send(None))] == [Discard, Wait]
    end(requested, bench.token())
    assert isinstance(judging.send(True), Attempt)
    with pytest.raises(StopIteration):
        judging.send(INVALID_TOKEN)


def test_a_token_that_expired_during_the_call_is_renewed_without_being_forced() -> None:
    bench = Bench()
    for _ in range(6):

        def expired(_: object) -> Response:
            bench.time += 60.0
            return bench.answer(401, www_authenticate='Bearer error="invalid_token"')

        bench.obtain(bench.token(expires_in=60)).result()
        replayed = bench.authorize(expired, lambda _: bench.token(expires_in=60), lambda _: bench.answer(200))
        replayed.result()
        assert len(replayed.of(Attempt)) == 2
        bench.time += 60.0
    assert reported(bench, TokenRejected) == []


def test_many_rejections_of_one_token_cause_one_request_and_one_event() -> None:
    bench = Bench()
    token = bench.obtain(bench.token()).result()
    herd = [bench.app.judge(token, INVALID_TOKEN, method="GET", url=API, replayable=True) for _ in range(500)]
    spawned = []
    for flow in herd:
        assert isinstance(next(flow), Discard)
        effect = flow.send(None)
        if isinstance(effect, Spawn):
            spawned.append(effect)
            effect = flow.send(True)
        assert isinstance(effect, Wait)
    (spawn,) = spawned
    bench.replay(spawn.flow, bench.token())
    for flow in herd:
        assert isinstance(flow.send(True), Attempt)
    (rejected,) = [event for event in bench.events if isinstance(event, TokenRejected)]
    assert (rejected.calls, rejected.renewing) == (500, True)


# ── the rejected token afterwards ────────────────────────────────────────────────────────────────────────────────────


def test_close_revokes_a_rejected_token_even_while_another_is_fetched() -> None:
    bench = Bench(revoke_on_close=True)
    token = bench.obtain(bench.token()).result()
    fetch = Waiting(bench, rejected=token).fetch()  # which is never answered
    ends: list[Replayed[None]] = []
    bench.app.revoke_through(run=lambda flow: ends.append(bench.replay(flow, False, Response(200))))
    bench.app.close()
    fetch.close()
    (replayed,) = ends
    assert names(replayed) == ["Wait", "Send"]
    assert f"token={token.value}&".encode() in replayed.of(Send)[0].request.body


def test_a_rejected_token_stays_in_use_if_no_other_can_be_obtained() -> None:
    """It may have been rejected by one wrongly configured API only."""
    bench = Bench()
    bench.obtain(bench.token()).result()
    replayed = bench.authorize(INVALID_TOKEN, bench.limited(reset=59))
    raised(replayed, RateLimited)
    again = bench.obtain()
    assert names(again) == []
    assert again.result().value == "token-1"


def test_obtain_returns_another_token_than_the_rejected_one() -> None:
    bench = Bench()
    token = bench.obtain(bench.token()).result()
    assert bench.obtain(bench.token(), rejected=token).result().value == "token-2"
    # Told again of the same one: the new one will do.
    assert names(bench.obtain(rejected=token)) == []
