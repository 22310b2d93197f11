"""Each response of the token endpoint leads to a token, to another request, or to an error."""

from __future__ import annotations

from typing import Any

import pytest

from bench import (
    EPOCH,
    INVALID_CLIENT,
    ORG,
    Bench,
    Stub,
    assertion,
    form,
    names,
    proof,
    raised,
    replay_until_it_ends,
    reported,
    slowly,
)
from okta_m2m import TokenRefused, TokenUnreachable
from okta_m2m.effects import Response, Send, SendFailed
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
from okta_m2m.events import ClockCorrected, ScopesReduced, TokenObtained

pytestmark = pytest.mark.usefixtures("everything_is_reported")


# ── responses with a token, a nonce, a time or a refusal ─────────────────────────────────────────────────────────────


def test_a_valid_token_is_used() -> None:
    bench = Bench()
    replayed = bench.obtain(bench.token())
    token = replayed.result()
    assert names(replayed) == ["Send"]
    assert (token.value, token.token_type, token.scopes, token.expires_in) == (
        "token-1",
        "Bearer",
        ("okta.users.read",),
        3600,
    )
    assert names(bench.obtain()) == []
    event = bench.events[0]
    assert isinstance(event, TokenObtained)
    assert (event.attempts, event.background, event.expires_in) == (1, False, 3600)


def test_the_request_is_what_okta_documents() -> None:
    bench = Bench()
    (send,) = bench.obtain(bench.token()).of(Send)
    assert (send.request.method, send.request.url) == ("POST", f"{ORG}/oauth2/v1/token")
    assert dict(send.request.headers) == {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    sent = form(send)
    assert sent.pop("client_assertion").count(".") == 2
    assert sent == {
        "grant_type": "client_credentials",
        "scope": "okta.users.read",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }


def test_the_lifetime_of_a_token_starts_when_its_request_was_sent() -> None:
    bench = Bench()

    def slowly(effect: object) -> Response:
        bench.time += 12.0
        return bench.token()

    began = bench.time
    assert bench.obtain(slowly).result().sent_at == began


@pytest.mark.parametrize("ahead", [0.0, 900.0], ids=["a correct clock", "a clock 15 minutes slow"])
def test_a_token_states_when_it_expires_by_oktas_time(ahead: float) -> None:
    bench = Bench()
    bench.okta_ahead = ahead
    sent = bench.okta_time

    def slowly(effect: object) -> Response:
        bench.time += 0.5
        return bench.token()

    # Date has whole seconds, and the lifetime is counted from the request.
    assert sent - 1 <= bench.obtain(slowly).result().expires_at - 3600 <= sent


def test_without_oktas_time_a_token_expires_by_this_machines_clock() -> None:
    bench = Bench()
    bench.okta_ahead = 900.0
    sent = EPOCH + bench.time
    assert bench.obtain(bench.token({"date": None})).result().expires_at == sent + 3600


@pytest.mark.parametrize("failure", [ConnectionResetError("reset"), TimeoutError(), OSError("no route")], ids=repr)
def test_an_os_error_of_the_callers_send_is_retried(failure: OSError) -> None:
    bench = Bench()
    replayed = bench.obtain(failure, bench.token())
    assert replayed.result().value
    assert len(replayed.of(Send)) == 2


def test_every_attempt_signs_again() -> None:
    bench = Bench(dpop=True)
    replayed = bench.obtain(bench.answer(503), SendFailed("reset"), bench.token())
    sends = replayed.of(Send)
    assert len(sends) == 3
    assert len({assertion(send)["jti"] for send in sends}) == 3
    assert len({proof(send)["jti"] for send in sends}) == 3


def test_a_requested_nonce_is_sent_at_once_and_kept() -> None:
    bench = Bench(dpop=True)
    asked = bench.error(400, "use_dpop_nonce", dpop_nonce="nonce-1")
    replayed = bench.obtain(asked, bench.token(token_type="DPoP"))
    first, second = replayed.of(Send)
    assert names(replayed) == ["Send", "Send"]
    assert "nonce" not in proof(first)
    assert proof(second)["nonce"] == "nonce-1"
    assert replayed.result().token_type == "DPoP"
    # And it is in the first proof of the next conversation.
    bench.time += 4000.0
    (third,) = bench.obtain(bench.token(token_type="DPoP")).of(Send)
    assert proof(third)["nonce"] == "nonce-1"


def test_nonces_that_change_with_each_response_cause_pauses() -> None:
    bench = Bench(dpop=True)
    asked = [bench.error(400, "use_dpop_nonce", dpop_nonce=f"nonce-{number}") for number in range(4)]
    replayed = bench.obtain(*asked, bench.token(token_type="DPoP"))
    assert names(replayed) == [*["Send", "Send", "Sleep"] * 2, "Send"], "after a pause, another may be tried at once"
    assert proof(replayed.of(Send)[-1])["nonce"] == "nonce-3"
    assert replayed.result().token_type == "DPoP"


def test_nonce_requests_without_end_are_no_refusal() -> None:
    bench = Bench(dpop=True)
    asked = iter(range(1000))
    replayed = replay_until_it_ends(
        bench, lambda effect: bench.error(400, "use_dpop_nonce", dpop_nonce=f"nonce-{next(asked)}")
    )
    assert "use_dpop_nonce" in str(raised(replayed, TokenUnreachable))
    bench.time += 5.0
    assert bench.obtain(bench.token(token_type="DPoP")).result().token_type == "DPoP"


def test_a_nonce_request_without_a_nonce_is_an_error() -> None:
    bench = Bench(dpop=True)
    assert raised(bench.obtain(bench.error(400, "use_dpop_nonce")), InvalidDPoPProof).error == "use_dpop_nonce"


@pytest.mark.parametrize("code", ["invalid_client", "invalid_dpop_proof"])
def test_a_refusal_due_to_the_clock_is_retried_with_oktas_time(code: str) -> None:
    bench = Bench(dpop=True)
    bench.okta_ahead = -600.0
    replayed = bench.obtain(bench.error(401, code, "issued in the future"), bench.token())
    first, second = replayed.of(Send)
    assert names(replayed) == ["Send", "Send"]
    assert assertion(first)["iat"] > bench.okta_time
    for claims in (assertion(second), proof(second)):
        assert bench.okta_time - 10 <= claims["iat"] <= bench.okta_time
    replayed.result()


def test_a_refusal_with_a_correct_clock_is_raised() -> None:
    bench = Bench()
    replayed = bench.obtain(bench.error(*INVALID_CLIENT))
    assert names(replayed) == ["Send"]
    raised(replayed, InvalidClient)


def test_two_clock_steps_in_one_fetch_cause_a_pause() -> None:
    bench = Bench()
    answers: list[Response] = []
    for bench.okta_ahead in (600.0, -600.0, 900.0, -900.0):
        answers.append(bench.error(*INVALID_CLIENT))
    replayed = bench.obtain(*answers, bench.token())
    assert replayed.result().value == "token-1"
    assert names(replayed) == [*["Send", "Send", "Sleep"] * 2, "Send"], "after a pause, another may be tried at once"


def test_a_refusal_after_the_clock_was_corrected_is_raised() -> None:
    bench = Bench()
    bench.okta_ahead = 600.0
    replayed = bench.obtain(bench.error(*INVALID_CLIENT), bench.error(*INVALID_CLIENT))
    assert len(replayed.of(Send)) == 2
    raised(replayed, InvalidClient)


def test_servers_that_disagree_about_the_time_cause_no_remembered_refusal() -> None:
    """The next caller asks again: no refusal is remembered."""
    bench = Bench(max_wait=10)
    bench.okta_ahead = 600.0

    def disagree(_: object) -> Response:
        bench.okta_ahead = -bench.okta_ahead
        return bench.error(*INVALID_CLIENT)

    replayed = replay_until_it_ends(bench, disagree)
    assert "invalid_client, repeatedly" in str(raised(replayed, TokenUnreachable))
    bench.time += 5.0
    assert bench.obtain(bench.token()).result().value == "token-1"


def test_a_cached_response_sets_no_clock() -> None:
    bench = Bench()
    bench.okta_ahead = 600.0
    replayed = bench.obtain(bench.error(*INVALID_CLIENT, age="600"))
    raised(replayed, InvalidClient)
    assert len(replayed.of(Send)) == 1


def test_a_slow_response_does_not_change_a_correct_clock() -> None:
    bench = Bench()
    for answer in (slowly(bench, bench.token), lambda _: bench.token(), slowly(bench, bench.token)):
        bench.obtain(answer).result()
        assert abs(bench.app._engine.endpoint.okta_clock.now() - bench.okta_time) <= 1
        bench.time += 4000.0
    assert reported(bench, ClockCorrected) == []


def test_a_slow_response_corrects_a_clock_that_is_wrong_by_more() -> None:
    bench = Bench()
    bench.okta_ahead = 600.0
    bench.obtain(slowly(bench, bench.token)).result()
    (event,) = reported(bench, ClockCorrected)
    assert event.seconds == pytest.approx(600 - 12, abs=1)


def test_a_slow_refusal_due_to_the_clock_is_retried() -> None:
    bench = Bench()
    bench.okta_ahead = -8.0

    def refuse(_: object) -> Response:
        bench.time += 12.0
        return bench.error(401, "invalid_client", "issued in the future")

    replayed = bench.obtain(refuse, lambda _: bench.token())
    replayed.result()
    assert assertion(replayed.of(Send)[1])["iat"] <= bench.okta_time


def test_an_already_used_assertion_is_replaced_and_a_second_time_after_a_pause() -> None:
    said = (401, "invalid_client", "The client_assertion token has already been used.")
    bench = Bench()
    replayed = bench.obtain(bench.error(*said), bench.token())
    replayed.result()
    assert names(replayed) == ["Send", "Send"]
    bench.time += 4000.0
    replayed = bench.obtain(bench.error(*said), bench.error(*said), bench.token())
    replayed.result()
    assert names(replayed) == ["Send", "Send", "Sleep", "Send"]
    assert len({assertion(send)["jti"] for send in replayed.of(Send)}) == 3


def test_three_responses_without_a_token_are_retried() -> None:
    bench = Bench()
    page = bench.answer(200, b"<html>Please log in</html>", content_type="text/html")
    bench.obtain(page, page, page, bench.token()).result()


def test_a_page_instead_of_a_token_is_an_error_after_a_few_attempts() -> None:
    bench = Bench()
    page = bench.answer(200, b"<html>Please log in</html>", content_type="text/html", x_okta_request_id="req-7")
    replayed = bench.obtain(*[page] * 6)
    error = raised(replayed, UnexpectedAnswer)
    assert (error.status, error.request_id) == (200, "req-7")
    assert "returned a response without a token" in str(error)
    assert "Please log in" not in str(error)


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_not_followed(status: int) -> None:
    bench = Bench()
    replayed = bench.obtain(bench.answer(status, location="https://evil.example/"))
    assert names(replayed) == ["Send"]
    error = raised(replayed, UnexpectedAnswer)
    assert error.status == status
    assert "returned a redirect" in str(error)


def test_an_error_page_that_is_not_from_oauth_is_raised_at_once() -> None:
    bench = Bench()
    error = raised(bench.obtain(bench.answer(403, b"<html>Forbidden</html>")), UnexpectedAnswer)
    assert error.status == 403
    assert "not from an OAuth server" in str(error)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_scope", InvalidScope),
        (400, "consent_required", ConsentRequired),
        (400, "unauthorized_client", UnauthorizedClient),
        (400, "unsupported_grant_type", UnauthorizedClient),
        (400, "access_denied", AccessDenied),
        (400, "invalid_dpop_proof", InvalidDPoPProof),
        (400, "invalid_request", TokenRefused),
        (400, "something_new", TokenRefused),
    ],
)
def test_a_refusal_is_raised_at_once(status: int, code: str, kind: type[TokenRefused]) -> None:
    bench = Bench(key=[Stub("kid-1"), Stub("kid-2")])  # no other key would cure it
    replayed = bench.obtain(bench.error(status, code, "In Okta's words.", x_okta_request_id="req-1"))
    assert names(replayed) == ["Send"]
    error = raised(replayed, kind)
    assert (error.status, error.error, error.error_description, error.request_id) == (
        status,
        code,
        "In Okta's words.",
        "req-1",
    )


def test_a_refusal_in_the_format_of_oktas_api_is_raised() -> None:
    bench = Bench()
    content = {"errorCode": "E0000015", "errorSummary": "You do not have permission ..."}
    assert raised(bench.obtain(bench.answer(401, content)), TokenRefused).error == "E0000015"


# ── what a token answer says ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("told", "taken"),
    [
        (3600, 3600),
        ("3600", 3600),
        (3600.5, 3600.5),
        (1, 1),
        (86_400, 86_400),
        (None, 300),
        ("soon", 300),
        ("", 300),
        (True, 300),
        (0, 300),
        (-5, 300),
        ([3600], 300),
        ({}, 300),
        ("nan", 300),
        ("inf", 86_400),
        (0.5, 1),
        (1e-320, 1),
        ("1e-9", 1),
        (10**9, 86_400),
        (10**400, 300),
    ],
)
def test_expires_in_is_used_or_limited_with_a_warning(
    told: Any, taken: float, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    assert bench.obtain(bench.token(expires_in=told)).result().expires_in == taken
    warned = [record for record in caplog.records if "expires_in" in record.getMessage()]
    assert bool(warned) == (
        not isinstance(told, int | float | str) or str(told) not in ("3600", "3600.5", "1", "86400")
    )


def test_a_response_without_scope_grants_the_requested_scopes() -> None:
    bench = Bench(scopes=["okta.users.read", "okta.apps.read"])
    assert bench.obtain(bench.token(scope=None)).result().scopes == ("okta.users.read", "okta.apps.read")
    assert not any(isinstance(event, ScopesReduced) for event in bench.events)


def test_scopes_that_were_not_granted_are_reported() -> None:
    bench = Bench(scopes=["okta.users.read", "okta.apps.read"])
    assert bench.obtain(bench.token(scope="okta.users.read")).result().scopes == ("okta.users.read",)
    (event,) = [event for event in bench.events if isinstance(event, ScopesReduced)]
    assert (event.granted, event.missing) == (("okta.users.read",), ("okta.apps.read",))


def test_scopes_that_were_not_granted_are_an_error_if_all_are_required() -> None:
    bench = Bench(scopes=["okta.users.read", "okta.apps.read"], require_all_scopes=True)
    assert "okta.apps.read" in str(raised(bench.obtain(bench.token()), ScopesMissing))


@pytest.mark.parametrize(
    "changes",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": 7},
        {"access_token": "a\r\nX-Evil: 1"},
        {"access_token": "two words"},
        {"access_token": "ümlaut"},
        {"token_type": None},
        {"token_type": "mac"},
        {"token_type": 1},
    ],
)
def test_a_token_that_no_header_can_contain_is_refused(changes: dict[str, Any]) -> None:
    bench = Bench()
    answers = [bench.token(**changes) for _ in range(6)]
    raised(bench.obtain(*answers), UnexpectedAnswer)


@pytest.mark.parametrize("told", ["bearer", "BEARER", "Bearer"])
def test_the_case_of_the_token_type_is_ignored(told: str) -> None:
    bench = Bench()
    assert bench.obtain(bench.token(token_type=told)).result().authorization == "Bearer token-1"


def test_a_bound_token_is_refused_if_no_proof_was_sent() -> None:
    bench = Bench(dpop=False)
    raised(bench.obtain(bench.token(token_type="DPoP")), InvalidDPoPProof)


def test_a_bearer_token_is_refused_if_dpop_is_required() -> None:
    bench = Bench(dpop="required")
    raised(bench.obtain(bench.token()), InvalidDPoPProof)
