"""The policy, clause by clause: flows stepped by scripts, on a clock that stands still unless it is put forward."""

from __future__ import annotations

import json
import logging
import math
import traceback
from base64 import urlsafe_b64decode
from collections.abc import Callable
from concurrent.futures import Future
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs

import pytest

from herd import SimulatedStore
from okta_m2m import ConfigurationError, OktaM2MError, RateLimited, ServiceApp, Token, TokenRefused, TokenUnreachable
from okta_m2m._base.clocks import Clock
from okta_m2m._core import next_step
from okta_m2m._core.flights import LANDING_GRACE
from okta_m2m._threads.landings import LOOK
from okta_m2m._threads.notifiers import Notifier
from okta_m2m.effects import (
    Attempt,
    Discard,
    Effect,
    Flow,
    Peek,
    Response,
    Send,
    SendFailed,
    Sending,
    Sign,
    Sleep,
    Snapshot,
    Spawn,
    StartSend,
    StoreEffect,
    Wait,
)
from okta_m2m.errors import (
    AccessDenied,
    ConsentRequired,
    InvalidClient,
    InvalidDPoPProof,
    InvalidScope,
    ScopesMissing,
    SigningFailed,
    UnauthorizedClient,
    UnexpectedAnswer,
)
from okta_m2m.events import (
    ClockCorrected,
    KeyChanged,
    KeyPassedOver,
    RenewalFailed,
    ScopesReduced,
    TokenFailed,
    TokenObtained,
    TokenRejected,
)
from okta_m2m.testing import Replayed, replay

ORG = "https://acme.okta.com"
API = f"{ORG}/api/v1/users"
ELSEWHERE = "https://api.example.com"
EPOCH = 1_750_000_000.0


@pytest.fixture(autouse=True)
def _all_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reports waits until log and observers were told, however busy this machine is."""
    monkeypatch.setattr(Notifier.settle, "__defaults__", (30.0,))


class Stub:
    """A signer that costs nothing."""

    alg = "ES256"
    in_memory = True

    def __init__(self, kid: str = "kid-1", error: Exception | None = None) -> None:
        self.kid = kid
        self.error = error
        self.public_jwk = {"kty": "EC", "kid": kid}

    def sign(self, message: bytes, /) -> bytes:
        if self.error is not None:
            raise self.error
        return b"signature"


class Followed(Stub):
    """A signer whose key may change, as that of a file."""

    def __init__(self) -> None:
        super().__init__()
        self.version = Stub()

    def snapshot(self) -> Stub:
        return self.version


class Bench:
    """A service app on a simulated clock, and answers of Okta's at that clock's time."""

    def __init__(self, **arguments: Any) -> None:
        self.time = 5000.0
        self.okta_ahead = 0.0
        self.slept: list[float] = []
        self.spawned: list[Spawn] = []
        self.events: list[Any] = []
        self.minted = 0
        arguments = {"key": Stub(), "scopes": ["okta.users.read"], "dpop": False, **arguments}
        self.app = ServiceApp(
            ORG,
            client_id="0oa1",
            on_event=self.events.append,
            clock=Clock(now=lambda: self.time, wall=lambda: EPOCH + self.time),
            **arguments,
        )

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    def replay(self, flow: Flow[Any], *answers: object) -> Replayed[Any]:
        return replay(flow, *answers, sleep=self.sleep, spawn=self.spawned.append)

    def obtain(self, *answers: object, rejected: Token | None = None) -> Replayed[Token]:
        return self.replay(self.app.obtain(rejected), *answers)

    def authorize(self, *answers: object, url: str = API, replayable: bool = True) -> Replayed[None]:
        return self.replay(self.app.authorize("GET", url, replayable=replayable), *answers)

    # ── Okta ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def okta_time(self) -> float:
        return EPOCH + self.time + self.okta_ahead

    def answer(self, status: int, content: object = None, **headers: str | None) -> Response:
        fields = {"date": formatdate(self.okta_time, usegmt=True)}
        fields |= {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        if "date" in headers and headers["date"] is None:
            del fields["date"]
        body = b"" if content is None else content if isinstance(content, bytes) else json.dumps(content).encode()
        return Response(status, fields.items(), body)

    def token(self, headers: dict[str, str] | None = None, **changes: Any) -> Response:
        self.minted += 1
        content = {"token_type": "Bearer", "expires_in": 3600, "access_token": f"token-{self.minted}"}
        content = {"scope": "okta.users.read", **content, **changes}
        return self.answer(200, {name: value for name, value in content.items() if value is not None}, **headers or {})

    def error(self, status: int, code: str, description: str = "", **headers: str | None) -> Response:
        return self.answer(status, {"error": code, "error_description": description}, **headers)

    def limited(self, *, reset: float, **headers: str | None) -> Response:
        fields = {"x_rate_limit_limit": "100", "x_rate_limit_reset": str(int(self.okta_time + reset)), **headers}
        return self.answer(429, {"errorCode": "E0000047"}, **fields)


INVALID_CLIENT = (401, "invalid_client", "The client_assertion JWT kid is invalid.")


def names(replayed: Replayed[Any]) -> list[str]:
    """What it asked for, without signatures, and without the start of a fetch or of a request, which is replayed with it."""
    return [
        type(effect).__name__
        for effect in replayed.effects
        if not isinstance(effect, Sign | StartSend) and not (isinstance(effect, Spawn) and effect.awaited)
    ]


def form(effect: Send) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(effect.request.body.decode()).items()}


def decoded(jwt: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = (urlsafe_b64decode(part + "==") for part in jwt.split("."))
    return json.loads(header), json.loads(claims)


def assertion(effect: Send) -> dict[str, Any]:
    return decoded(form(effect)["client_assertion"])[1]


def proof(effect: Send | Attempt) -> dict[str, Any]:
    headers = effect.request.headers if isinstance(effect, Send) else effect.headers
    return decoded(headers["DPoP"])[1]


def raised(replayed: Replayed[Any], kind: type[OktaM2MError]) -> Any:
    assert type(replayed.error) is kind
    return replayed.error


# ── the token endpoint's answers, row by row ─────────────────────────────────────────────────────────────────────────


def test_a_token_is_taken() -> None:
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


def test_a_life_counts_from_when_the_request_was_sent() -> None:
    bench = Bench()

    def slowly(effect: object) -> Response:
        bench.time += 12.0
        return bench.token()

    began = bench.time
    assert bench.obtain(slowly).result().sent_at == began


@pytest.mark.parametrize("failure", [ConnectionResetError("reset"), TimeoutError(), OSError("no route")], ids=repr)
def test_a_send_of_the_callers_own_may_fail_in_the_words_of_the_operating_system(failure: OSError) -> None:
    bench = Bench()
    replayed = bench.obtain(failure, bench.token())
    assert replayed.result().value
    assert len(replayed.of(Send)) == 2


def test_every_attempt_signs_anew() -> None:
    bench = Bench(dpop=True)
    replayed = bench.obtain(bench.answer(503), SendFailed("reset"), bench.token())
    sends = replayed.of(Send)
    assert len(sends) == 3
    assert len({assertion(send)["jti"] for send in sends}) == 3
    assert len({proof(send)["jti"] for send in sends}) == 3


def test_a_nonce_asked_for_is_sent_once_again() -> None:
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


def test_nonces_that_change_faster_than_a_round_trip_are_backed_off_from() -> None:
    bench = Bench(dpop=True)
    asked = [bench.error(400, "use_dpop_nonce", dpop_nonce=f"nonce-{number}") for number in range(4)]
    replayed = bench.obtain(*asked, bench.token(token_type="DPoP"))
    assert names(replayed) == [*["Send", "Send", "Sleep"] * 2, "Send"], "after a pause, another may be tried at once"
    assert proof(replayed.of(Send)[-1])["nonce"] == "nonce-3"
    assert replayed.result().token_type == "DPoP"


def test_nonces_asked_for_in_vain_are_no_refusal() -> None:
    bench = Bench(dpop=True)
    asked = iter(range(1000))
    replayed = replay_until_it_ends(
        bench, lambda effect: bench.error(400, "use_dpop_nonce", dpop_nonce=f"nonce-{next(asked)}")
    )
    assert "use_dpop_nonce" in str(raised(replayed, TokenUnreachable))
    bench.time += 5.0
    assert bench.obtain(bench.token(token_type="DPoP")).result().token_type == "DPoP"


def test_a_nonce_that_is_asked_for_and_not_given_ends_it() -> None:
    bench = Bench(dpop=True)
    assert raised(bench.obtain(bench.error(400, "use_dpop_nonce")), InvalidDPoPProof).error == "use_dpop_nonce"


@pytest.mark.parametrize("code", ["invalid_client", "invalid_dpop_proof"])
def test_a_refusal_due_to_the_clock_is_tried_again_on_oktas_time(code: str) -> None:
    bench = Bench(dpop=True)
    bench.okta_ahead = -600.0
    replayed = bench.obtain(bench.error(401, code, "issued in the future"), bench.token())
    first, second = replayed.of(Send)
    assert names(replayed) == ["Send", "Send"]
    assert assertion(first)["iat"] > bench.okta_time
    for claims in (assertion(second), proof(second)):
        assert bench.okta_time - 10 <= claims["iat"] <= bench.okta_time
    replayed.result()


def test_a_refusal_on_a_clock_that_was_right_is_a_refusal() -> None:
    bench = Bench()
    replayed = bench.obtain(bench.error(*INVALID_CLIENT))
    assert names(replayed) == ["Send"]
    raised(replayed, InvalidClient)


def test_two_clock_steps_in_one_conversation_are_backed_off_from() -> None:
    bench = Bench()
    answers: list[Response] = []
    for bench.okta_ahead in (600.0, -600.0, 900.0, -900.0):
        answers.append(bench.error(*INVALID_CLIENT))
    replayed = bench.obtain(*answers, bench.token())
    assert replayed.result().value == "token-1"
    assert names(replayed) == [*["Send", "Send", "Sleep"] * 2, "Send"], "after a pause, another may be tried at once"


def test_a_refusal_after_a_clock_step_that_was_cured_is_a_refusal() -> None:
    bench = Bench()
    bench.okta_ahead = 600.0
    replayed = bench.obtain(bench.error(*INVALID_CLIENT), bench.error(*INVALID_CLIENT))
    assert len(replayed.of(Send)) == 2
    raised(replayed, InvalidClient)


def test_an_endpoint_whose_servers_disagree_about_the_time_refuses_no_key() -> None:
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


def test_an_answer_out_of_a_cache_sets_no_clock() -> None:
    bench = Bench()
    bench.okta_ahead = 600.0
    replayed = bench.obtain(bench.error(*INVALID_CLIENT, age="600"))
    raised(replayed, InvalidClient)
    assert len(replayed.of(Send)) == 1


def slowly(bench: Bench, answer: Callable[[], Response]) -> Callable[[object], Response]:
    """An answer that arrives 12 seconds after it was written."""

    def arrives(_: object) -> Response:
        written = answer()
        bench.time += 12.0
        return written

    return arrives


def test_a_slow_answer_sets_no_clock_that_it_agrees_with() -> None:
    bench = Bench()
    for answer in (slowly(bench, bench.token), lambda _: bench.token(), slowly(bench, bench.token)):
        bench.obtain(answer).result()
        assert abs(bench.app._engine.endpoint.okta_clock.now() - bench.okta_time) <= 1
        bench.time += 4000.0
    assert reported(bench, ClockCorrected) == []


def test_a_slow_answer_sets_a_clock_that_is_wrong_by_more() -> None:
    bench = Bench()
    bench.okta_ahead = 600.0
    bench.obtain(slowly(bench, bench.token)).result()
    (event,) = reported(bench, ClockCorrected)
    assert event.seconds == pytest.approx(600 - 12, abs=1)


def test_a_slow_refusal_due_to_the_clock_is_tried_again() -> None:
    bench = Bench()
    bench.okta_ahead = -8.0

    def refuse(_: object) -> Response:
        bench.time += 12.0
        return bench.error(401, "invalid_client", "issued in the future")

    replayed = bench.obtain(refuse, lambda _: bench.token())
    replayed.result()
    assert assertion(replayed.of(Send)[1])["iat"] <= bench.okta_time


def test_an_assertion_used_already_is_made_anew_and_a_second_time_after_a_pause() -> None:
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


def test_a_rate_limit_is_waited_out_by_oktas_own_clock() -> None:
    bench = Bench()
    bench.okta_ahead = 7200.0  # this machine's clock does not come into it
    replayed = bench.obtain(bench.limited(reset=4), bench.token())
    replayed.result()
    assert names(replayed) == ["Send", "Sleep", "Send"]
    assert 5.0 <= bench.slept[0] <= bench.app.max_wait  # reset - Date + 1, and a time of its own


def test_of_many_processes_that_were_told_the_same_time_each_adds_one_of_its_own() -> None:
    slept = []
    for _ in range(200):
        bench = Bench(max_wait=90)
        bench.obtain(bench.limited(reset=30), bench.token()).result()
        slept.append(bench.slept[0])
    assert all(31.0 <= pause <= 61.0 for pause in slept)
    assert max(sum(second <= pause < second + 1 for pause in slept) for second in range(31, 61)) < 20


def test_a_caller_that_can_wait_for_the_time_told_is_not_failed_for_the_time_added() -> None:
    for _ in range(50):
        bench = Bench(max_wait=10)
        bench.obtain(bench.limited(reset=8), bench.token()).result()


@pytest.mark.parametrize("status", [429, 503])
def test_a_time_far_away_is_not_believed(status: int) -> None:
    bench = Bench(max_wait=400)
    bench.obtain(bench.answer(status, b"", retry_after=str(86_400)), bench.token()).result()
    assert 300 <= bench.slept[0] <= 330


def test_what_a_server_in_trouble_asks_for_is_heeded() -> None:
    bench = Bench()
    bench.obtain(bench.answer(503, b"", retry_after="7"), bench.token()).result()
    assert 7.0 <= bench.slept[0] <= bench.app.max_wait


def test_a_server_in_trouble_for_longer_than_a_caller_can_wait_is_told_at_once() -> None:
    bench = Bench()
    error = raised(bench.obtain(bench.answer(503, b"", retry_after="90")), TokenUnreachable)
    assert error.status == 503
    assert error.retry_after == 90


def test_of_several_resets_the_earliest_counts() -> None:
    bench = Bench()
    resets = f"{int(bench.okta_time + 50)}, {int(bench.okta_time + 3)}"
    replayed = bench.obtain(bench.limited(reset=0, x_rate_limit_reset=resets), bench.token())
    replayed.result()
    assert 3.0 <= bench.slept[0] <= bench.app.max_wait


@pytest.mark.parametrize("after", ["7", "date"])
def test_retry_after_is_heeded(after: str) -> None:
    bench = Bench()
    told = formatdate(bench.okta_time + 7, usegmt=True) if after == "date" else after
    bench.obtain(bench.limited(reset=2, retry_after=told), bench.token()).result()
    assert 6.5 <= bench.slept[0] <= bench.app.max_wait


def test_a_rate_limit_beyond_the_deadline_is_told_at_once_and_remembered() -> None:
    bench = Bench()
    replayed = bench.obtain(bench.limited(reset=59))
    assert names(replayed) == ["Send"]
    error = raised(replayed, RateLimited)
    assert (error.status, error.error) == (429, "E0000047")
    assert 59 <= error.retry_after <= 61
    bench.time += 10.0
    again = bench.obtain()  # nobody asks meanwhile
    assert names(again) == []
    later = raised(again, RateLimited)
    assert later.retry_after == pytest.approx(error.retry_after - 10)
    for told in (error, later):  # true whenever it is read; what is left of it is in retry_after
        assert f"asked to wait {error.retry_after:.1f} seconds" in str(told)
    bench.time += 60.0
    bench.obtain(bench.token()).result()


def test_a_limit_of_concurrency_is_backed_off_from() -> None:
    bench = Bench()
    limited = bench.limited(reset=50, x_rate_limit_limit="0")
    replayed = bench.obtain(limited, limited, bench.token())
    replayed.result()
    assert names(replayed) == ["Send", "Sleep", "Send", "Sleep", "Send"]
    assert all(pause <= 0.5 for pause in bench.slept)


@pytest.mark.parametrize(
    "trouble",
    [
        (503, None, ""),
        (500, "server_error", ""),
        (502, None, ""),
        (408, None, ""),
        (400, "temporarily_unavailable", ""),
        (400, "server_error", ""),
        (401, "invalid_client", "Error retrieving the client JWKSet from jwks_uri."),
        "no answer",
        "cut short",
    ],
)
def test_trouble_that_passes_is_waited_out(trouble: Any) -> None:
    bench = Bench()
    answer: object
    if trouble == "no answer":
        answer = SendFailed("time-out")
    elif trouble == "cut short":
        answer = bench.answer(200, b'{"access_token": "ab')
    else:
        status, code, description = trouble
        answer = bench.answer(status, b"<html>") if code is None else bench.error(status, code, description)
    replayed = bench.obtain(answer, answer, bench.token())
    replayed.result()
    assert names(replayed) == ["Send", "Sleep", "Send", "Sleep", "Send"]


def test_trouble_that_does_not_pass_ends_by_the_deadline() -> None:
    bench = Bench(max_wait=30)
    began = bench.time

    def down(effect: Send) -> Response:
        assert effect.timeout == pytest.approx(began + 30.0 - bench.time), "it may take all the time that is left"
        bench.time += min(0.1, effect.timeout)
        return bench.answer(503, x_okta_request_id="req-1")

    replayed = replay_until_it_ends(bench, down)
    error = raised(replayed, TokenUnreachable)
    assert (error.status, error.request_id) == (503, "req-1")
    assert 20.0 <= bench.time - began <= 30.0
    assert replayed.of(Send)[-1].timeout > 0


@pytest.mark.parametrize("early", [number / 10_000 for number in range(0, 60, 3)])
def test_a_pause_that_ends_between_two_readings_of_the_clock_is_over(early: float) -> None:
    """A sleep may end a little early, and a reading of the clock takes time."""
    bench = Bench()

    def now() -> float:
        bench.time += 0.001
        return bench.time

    bench.app = ServiceApp(
        ORG,
        client_id="0oa1",
        key=Stub(),
        scopes=["okta.users.read"],
        dpop=False,
        clock=Clock(now=now, wall=lambda: EPOCH + bench.time),
    )
    replayed = replay(
        bench.app.obtain(),
        bench.answer(503),
        bench.token(),
        sleep=lambda seconds: bench.sleep(max(0.0, seconds - early)),
    )
    replayed.result()
    assert len(replayed.of(Send)) == 2


def replay_until_it_ends(bench: Bench, answer: Any, flow: Flow[Any] | None = None) -> Replayed[Any]:
    """The same answer as often as it takes."""
    flow = flow or bench.app.obtain()
    effects: list[Any] = []
    try:
        effect = next(flow)
        while True:
            effects.append(effect)
            result: Any = None
            if isinstance(effect, Sign):
                result = effect.signer.sign(effect.message)
            elif isinstance(effect, Sleep):
                bench.sleep(effect.seconds)
            elif isinstance(effect, Send | Attempt):
                result = answer(effect)
            elif isinstance(effect, Peek):
                result = b""
            effect = flow.throw(result) if isinstance(result, BaseException) else flow.send(result)
    except StopIteration as stop:
        return Replayed(tuple(effects), True, stop.value)
    except OktaM2MError as error:
        return Replayed(tuple(effects), True, None, error)


def test_pauses_double_up_to_a_limit_and_are_jittered() -> None:
    pauses: list[list[float]] = []
    for _ in range(40):
        bench = Bench(max_wait=60)
        replay_until_it_ends(bench, lambda effect: SendFailed("reset"))
        pauses.append(bench.slept)
    for position, full in enumerate([0.25, 0.5, 1.0, 2.0, 4.0, 4.5, 4.5]):
        at = [slept[position] for slept in pauses]
        assert all(0.85 * full <= pause <= full for pause in at)
        assert len(set(at)) > 1


def test_three_answers_without_a_token_fail_nobody() -> None:
    bench = Bench()
    page = bench.answer(200, b"<html>Please log in</html>", content_type="text/html")
    bench.obtain(page, page, page, bench.token()).result()


def test_a_page_in_the_place_of_a_token_is_put_up_with_a_few_times() -> None:
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


def test_a_page_that_is_not_oauths_is_unexpected_at_once() -> None:
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


def test_a_refusal_in_the_shape_of_oktas_api_is_one_too() -> None:
    bench = Bench()
    content = {"errorCode": "E0000015", "errorSummary": "You do not have permission ..."}
    assert raised(bench.obtain(bench.answer(401, content)), TokenRefused).error == "E0000015"


def test_a_key_that_is_refused_gives_way_to_the_next_which_stays_first() -> None:
    bench = Bench(key=[Stub("kid-1"), Stub("kid-2")])
    replayed = bench.obtain(bench.error(*INVALID_CLIENT), bench.token())
    replayed.result()
    kids = [decoded(form(send)["client_assertion"])[0]["kid"] for send in replayed.of(Send)]
    assert kids == ["kid-1", "kid-2"]
    bench.time += 4000.0
    replayed = bench.obtain(bench.token())
    assert [decoded(form(send)["client_assertion"])[0]["kid"] for send in replayed.of(Send)] == ["kid-2"]


def test_passing_over_a_key_does_not_claim_that_no_key_was_accepted(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(key=[Stub("kid-1"), Stub("kid-2")])
    bench.obtain(bench.error(*INVALID_CLIENT), bench.token()).result()
    assert INVALID_CLIENT[2] in caplog.text
    assert "None of the" not in caplog.text


def test_the_accepted_key_is_tried_first_in_every_later_fetch() -> None:
    bench = Bench(key=[Stub("kid-1"), Stub("kid-2"), Stub("kid-3")])
    bench.obtain(bench.error(*INVALID_CLIENT), bench.token()).result()
    for _ in range(3):
        bench.time += 4000.0
        replayed = bench.obtain(bench.token())
        assert [decoded(form(send)["client_assertion"])[0]["kid"] for send in replayed.of(Send)] == ["kid-2"]
    bench.time += 4000.0
    replayed = bench.obtain(bench.error(*INVALID_CLIENT), bench.token())
    assert [decoded(form(send)["client_assertion"])[0]["kid"] for send in replayed.of(Send)] == ["kid-2", "kid-3"]
    bench.time += 4000.0
    replayed = bench.obtain(bench.token())
    assert [decoded(form(send)["client_assertion"])[0]["kid"] for send in replayed.of(Send)] == ["kid-3"]


def test_a_fix_may_be_tried_again_with_the_next_key() -> None:
    """Each key gets its own try with the nonce that Okta asks for."""
    bench = Bench(key=[Stub("kid-1"), Stub("kid-2")], dpop=True)
    nonce = {"dpop_nonce": "nonce-1"}
    replayed = bench.obtain(
        bench.error(400, "use_dpop_nonce", "", **nonce),
        bench.error(*INVALID_CLIENT),
        bench.error(400, "use_dpop_nonce", "", dpop_nonce="nonce-2"),
        bench.token(token_type="DPoP"),
    )
    replayed.result()
    assert len(replayed.of(Send)) == 4
    assert bench.slept == []  # the second request for a nonce is not taken for trouble


def test_if_no_key_is_taken_the_first_ones_refusal_is_told() -> None:
    bench = Bench(key=[Stub("kid-1"), Stub("kid-2")])
    second = bench.error(401, "invalid_client", "The client_assertion signature is invalid.")
    error = raised(bench.obtain(bench.error(*INVALID_CLIENT), second), InvalidClient)
    assert error.error_description == INVALID_CLIENT[2]
    assert "None of the 2 configured keys was accepted" in str(error)
    alone = Bench()
    assert "configured keys" not in str(raised(alone.obtain(alone.error(*INVALID_CLIENT)), InvalidClient))


def test_a_signer_that_fails_is_named_and_nothing_is_sent() -> None:
    bench = Bench(key=Stub(error=PermissionError("no access to the KMS")))
    replayed = bench.obtain()
    error = raised(replayed, SigningFailed)
    assert replayed.of(Send) == []
    assert isinstance(error.__cause__, PermissionError)
    assert "Stub" in str(error)


@pytest.mark.parametrize("where", ["token endpoint", "api"])
def test_a_dpop_signer_that_fails_is_named_too(where: str) -> None:
    signer = Stub("dpop")
    bench = Bench(dpop=signer)
    if where == "api":
        bench.obtain(bench.token(token_type="DPoP")).result()
        signer.error = PermissionError("no access to the KMS")
        replayed: Replayed[Any] = bench.authorize()
    else:
        signer.error = PermissionError("no access to the KMS")
        replayed = bench.obtain()
    assert isinstance(raised(replayed, SigningFailed).__cause__, PermissionError)


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
def test_expires_in_is_taken_or_bounded_aloud(told: Any, taken: float, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    assert bench.obtain(bench.token(expires_in=told)).result().expires_in == taken
    warned = [record for record in caplog.records if "expires_in" in record.getMessage()]
    assert bool(warned) == (
        not isinstance(told, int | float | str) or str(told) not in ("3600", "3600.5", "1", "86400")
    )


def test_a_scope_that_is_not_named_was_granted_as_asked() -> None:
    bench = Bench(scopes=["okta.users.read", "okta.apps.read"])
    assert bench.obtain(bench.token(scope=None)).result().scopes == ("okta.users.read", "okta.apps.read")
    assert not any(isinstance(event, ScopesReduced) for event in bench.events)


def test_scopes_left_out_are_told() -> None:
    bench = Bench(scopes=["okta.users.read", "okta.apps.read"])
    assert bench.obtain(bench.token(scope="okta.users.read")).result().scopes == ("okta.users.read",)
    (event,) = [event for event in bench.events if isinstance(event, ScopesReduced)]
    assert (event.granted, event.missing) == (("okta.users.read",), ("okta.apps.read",))


def test_scopes_left_out_are_an_error_where_all_are_required() -> None:
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
def test_what_no_header_can_carry_is_no_token(changes: dict[str, Any]) -> None:
    bench = Bench()
    answers = [bench.token(**changes) for _ in range(6)]
    raised(bench.obtain(*answers), UnexpectedAnswer)


@pytest.mark.parametrize("told", ["bearer", "BEARER", "Bearer"])
def test_the_type_is_read_without_regard_to_case(told: str) -> None:
    bench = Bench()
    assert bench.obtain(bench.token(token_type=told)).result().authorization == "Bearer token-1"


def test_a_bound_token_without_a_proof_sent_is_refused() -> None:
    bench = Bench(dpop=False)
    raised(bench.obtain(bench.token(token_type="DPoP")), InvalidDPoPProof)


def test_a_bearer_token_is_refused_where_dpop_is_required() -> None:
    bench = Bench(dpop="required")
    raised(bench.obtain(bench.token()), InvalidDPoPProof)


# ── refusals are remembered ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_refusal_is_repeated_without_asking_for_a_growing_time() -> None:
    bench = Bench()
    raised(bench.obtain(bench.error(*INVALID_CLIENT)), InvalidClient)
    for seconds in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0):
        repeated = bench.obtain()
        assert names(repeated) == []
        error = raised(repeated, InvalidClient)
        assert error.retry_after == pytest.approx(seconds)
        bench.time += seconds - 0.01
        assert names(bench.obtain()) == []
        bench.time += 0.02
        assert names(bench.obtain(bench.error(*INVALID_CLIENT))) == ["Send"]


def test_a_repeated_refusal_is_another_object_each_time() -> None:
    bench = Bench()
    errors = [bench.obtain(bench.error(*INVALID_CLIENT)).error, bench.obtain().error, bench.obtain().error]
    assert len({id(error) for error in errors}) == 3
    assert len({str(error) for error in errors}) == 1


def test_after_a_success_the_next_refusal_is_short_again() -> None:
    bench = Bench()
    for _ in range(5):
        bench.obtain(bench.error(*INVALID_CLIENT))
        bench.time += 100.0
    bench.obtain(bench.token()).result()
    bench.time += 4000.0
    bench.obtain(bench.error(*INVALID_CLIENT))
    assert raised(bench.obtain(), InvalidClient).retry_after == pytest.approx(1.0)


def test_a_refusal_is_forgotten_when_the_key_has_changed() -> None:
    key = Followed()
    bench = Bench(key=key)
    replayed = bench.obtain(bench.error(*INVALID_CLIENT))
    assert names(replayed) == ["Snapshot", "Send"]
    assert names(bench.obtain()) == ["Snapshot"]
    key.version = Stub("kid-2")
    replayed = bench.obtain(bench.token())
    (send,) = replayed.of(Send)
    assert decoded(form(send)["client_assertion"])[0]["kid"] == "kid-2"


# ── renewal ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_token_is_renewed_in_the_background_when_three_quarters_are_spent() -> None:
    shares = set()
    for _ in range(50):
        bench = Bench()
        bench.obtain(bench.token()).result()
        began = bench.time
        while not bench.spawned:
            bench.time += 20.0
            assert bench.obtain().result().value == "token-1"
        shares.add(round((bench.time - began) / 3600, 2))
    assert min(shares) >= 0.72
    assert max(shares) <= 0.83
    assert len(shares) > 3  # a fleet does not march in step


@pytest.mark.parametrize("life", [1, 7, 60, 3599, 3600, 86_400])
@pytest.mark.parametrize("uptime", [0.0, 5.25, 1e4, 1e9])
def test_the_moment_of_renewal_lies_in_its_span_whatever_the_life_of_a_token(life: int, uptime: float) -> None:
    for _ in range(20):
        bench = Bench()
        bench.time = uptime
        bench.obtain(bench.token(expires_in=life)).result()
        bench.time = uptime + 0.7199 * life
        assert bench.obtain().result().value == "token-1"
        assert not bench.spawned
        bench.time = uptime + 0.8204 * life
        assert bench.obtain().result().value == "token-1"
        assert len(bench.spawned) == 1


def renewed(bench: Bench, *answers: object) -> Replayed[Any]:
    """The one renewal that was spawned, run to its end."""
    (spawn,) = bench.spawned
    bench.spawned.clear()
    replayed = bench.replay(spawn.flow, *answers)
    spawn.ended()
    return replayed


def due(bench: Bench) -> None:
    bench.obtain(bench.token()).result()
    bench.time += 0.83 * 3600
    assert names(bench.obtain()) == ["Spawn"]


def test_while_a_renewal_is_under_way_nobody_spawns_another_or_looks_twice() -> None:
    bench = Bench()
    due(bench)
    for _ in range(4):
        bench.time += 1.0
        assert names(bench.obtain()) == []
        ready = bench.app.ready("GET", API)
        assert ready is not None
        assert ready.token.value == "token-1"
    renewed(bench, bench.token())
    assert bench.obtain().result().value == "token-2"


def test_a_renewal_that_fails_is_a_warning_and_is_put_off_for_longer_and_longer() -> None:
    bench = Bench(max_wait=1)
    due(bench)
    pauses: list[float] = []
    for count in range(1, 8):
        renewed(bench, bench.error(400, "invalid_scope") if count % 2 else bench.error(400, "access_denied"))
        failures = [event for event in bench.events if isinstance(event, RenewalFailed)]
        assert len(failures) == count
        pauses.append(failures[-1].next_try_in)
        full = min(60.0, 2.0 ** (count - 1))
        assert 0.75 * full <= pauses[-1] <= full
        bench.time += pauses[-1] - 0.001
        replayed = bench.obtain()
        assert names(replayed) == []
        assert replayed.result().value == "token-1"
        bench.time += 0.002 + 60.0  # beyond the memory of the refusal, too
        assert names(bench.obtain()) == ["Spawn"]


def test_a_renewal_that_is_rate_limited_waits_for_as_long_as_it_was_told() -> None:
    bench = Bench()
    due(bench)
    renewed(bench, bench.limited(reset=120))
    (failure,) = [event for event in bench.events if isinstance(event, RenewalFailed)]
    assert failure.next_try_in >= 120
    bench.time += 100.0
    assert names(bench.obtain()) == []


def test_a_renewal_adds_a_time_of_its_own_that_a_caller_could_not_wait_for() -> None:
    postponed = 0
    for _ in range(50):
        bench = Bench()
        due(bench)
        spawn = bench.spawned.pop()
        answers = iter([bench.limited(reset=25), bench.token()])
        renewal = replay_until_it_ends(bench, lambda _, answers=answers: next(answers), spawn.flow)
        spawn.ended()
        postponed += any(isinstance(event, RenewalFailed) for event in bench.events)
        assert renewal.error is None
        assert bench.obtain().result().value in ("token-1", "token-2")
    assert postponed > 25


def test_a_renewal_never_turns_into_an_error_while_the_token_works() -> None:
    bench = Bench()
    due(bench)
    assert renewed(bench, bench.error(*INVALID_CLIENT)).error is None
    assert bench.obtain().result().value == "token-1"


def test_who_needs_a_token_waits_for_the_renewal_under_way_once_the_old_one_is_over() -> None:
    bench = Bench()
    bench.obtain(bench.token(expires_in=10)).result()
    bench.time += 9.0
    assert names(bench.obtain()) == ["Spawn"]
    bench.time += 2.0
    waiting = bench.obtain()
    assert names(waiting) == ["Wait"]
    renewed(bench, bench.token())
    assert bench.obtain().result().value == "token-2"


def test_a_token_is_not_sent_in_its_last_seconds() -> None:
    bench = Bench()
    bench.obtain(bench.token(expires_in=100)).result()
    bench.time += 95.1
    assert names(bench.obtain(bench.token())) == ["Send"]


# ── a fetch belongs to nobody ────────────────────────────────────────────────────────────────────────────────────────


def to_its_request(fetch: Flow[None]) -> Flow[None]:
    """The fetch, up to where its request is on its way."""
    effect = next(fetch)
    while not isinstance(effect, Send):
        assert isinstance(effect, Sign | StartSend)
        effect = fetch.send(effect.signer.sign(effect.message) if isinstance(effect, Sign) else None)
    return fetch


class Waiting:
    """A caller, and what it waits for. ``is_running``: whether the thread lives that its fetch, if it began one, runs in."""

    def __init__(self, bench: Bench, rejected: Token | None = None) -> None:
        self.flow = bench.app.obtain(rejected)
        self.is_running = True
        effect = next(self.flow)
        self.spawn: Spawn | None = None
        if isinstance(effect, Spawn):
            self.spawn = effect
            effect = self.flow.send(lambda: self.is_running)
        assert isinstance(effect, Wait)
        self.wait = effect

    def fetch(self) -> Flow[None]:
        """The fetch that this caller began, up to where its request is on its way."""
        assert self.spawn is not None, "it began no fetch"
        return to_its_request(self.spawn.flow)

    def token(self) -> Token:
        """What it has when the fetch has landed."""
        assert self.wait.landing.done()
        with pytest.raises(StopIteration) as stop:
            self.flow.send(True)
        token: Token = stop.value.value
        return token


def end(fetch: Flow[None], answer: Any) -> None:
    with pytest.raises(StopIteration):
        fetch.send(answer)


def test_everybody_who_waits_has_the_token_of_the_one_fetch() -> None:
    bench = Bench()
    first, second = Waiting(bench), Waiting(bench)
    assert second.spawn is None
    end(first.fetch(), bench.token())
    assert first.token() is second.token()


def test_everybody_who_waits_raises_a_failure_of_their_own() -> None:
    bench = Bench()
    first, second = Waiting(bench), Waiting(bench)
    end(first.fetch(), bench.error(400, "invalid_scope"))
    with pytest.raises(InvalidScope) as one:
        first.flow.send(True)
    with pytest.raises(InvalidScope) as other:
        second.flow.send(True)
    assert one.value is not other.value
    assert str(one.value) == str(other.value)


def test_a_caller_that_ends_ends_only_itself() -> None:
    bench = Bench()
    first, second = Waiting(bench), Waiting(bench)
    fetch = first.fetch()
    first.flow.close()
    end(fetch, bench.token())
    assert second.token().value == "token-1"


def test_whoever_waits_for_a_fetch_that_was_abandoned_begins_another() -> None:
    bench = Bench()
    first, second = Waiting(bench), Waiting(bench)
    fetch = first.fetch()
    assert first.spawn is not None
    fetch.close()
    first.spawn.ended()
    assert second.wait.landing.done()
    assert isinstance(second.flow.send(True), Spawn)
    second.flow.send(True)
    assert isinstance(first.flow.send(True), Wait)


def test_a_waiting_caller_whose_fetch_has_lost_its_thread_begins_another_within_a_second() -> None:
    bench = Bench()
    first, second = Waiting(bench), Waiting(bench)
    assert first.wait.timeout == second.wait.timeout == LOOK
    first.fetch()
    first.is_running = False
    bench.time += LOOK
    another = second.flow.send(False)
    assert isinstance(another, Spawn), "a fetch is begun in its place"
    assert first.wait.landing.done(), "whoever waits for the one given up is notified at once"


def test_a_fetch_that_waits_its_turn_is_not_given_up_and_then_has_all_its_time() -> None:
    bench = Bench(max_wait=10)
    first = Waiting(bench)
    bench.time += 9.0
    late = Waiting(bench)
    assert late.spawn is None
    fetch = first.fetch()
    bench.time += 9.0
    assert isinstance(late.flow.send(False), Wait)
    end(fetch, bench.token())
    assert late.token().value == "token-1"


def test_a_caller_whose_fetch_waits_its_turn_for_too_long_says_so() -> None:
    bench = Bench(max_wait=10)
    first = Waiting(bench)
    bench.time += 10.0 + LANDING_GRACE
    with pytest.raises(TokenUnreachable, match="waits its turn behind other token requests of this process"):
        first.flow.send(False)


def test_a_fetch_whose_thread_has_ended_is_given_up_at_once() -> None:
    bench = Bench(max_wait=10)
    first = Waiting(bench)
    assert Waiting(bench).spawn is None
    first.is_running = False
    assert Waiting(bench).spawn is not None


def test_a_fetch_that_its_caller_was_kept_from_starting_is_begun_anew_within_a_second() -> None:
    bench = Bench()
    state = bench.app.token_state
    step = state.next_step(bench.time)  # and here a signal handler raises
    assert isinstance(step, next_step.Fetch)
    waiting = Waiting(bench)
    assert waiting.spawn is None, "its caller may be about to start it"
    bench.time += LOOK
    assert isinstance(waiting.flow.send(False), Spawn)


def test_a_caller_whose_time_is_over_says_so() -> None:
    bench = Bench(max_wait=1)
    first = Waiting(bench)
    first.fetch()
    assert first.wait.timeout == LOOK
    bench.time += LOOK
    wait = first.flow.send(False)
    assert isinstance(wait, Wait)
    assert wait.timeout == pytest.approx(LANDING_GRACE)
    bench.time += LANDING_GRACE
    with pytest.raises(
        TokenUnreachable, match=r"within 1 seconds: .* still under way \(no response yet, after 1 attempt\)"
    ):
        first.flow.send(False)


def test_a_caller_that_joined_a_fetch_to_a_hanging_endpoint_is_told_the_reason_too() -> None:
    bench = Bench(max_wait=10)
    timed = Timed(bench)
    first = Waiting(bench)
    assert first.spawn is not None
    bench.time += 0.5
    late = Waiting(bench)
    bench.time -= 0.5
    timed.run(first.spawn.flow)
    with pytest.raises(TokenUnreachable, match="no response within 10 s, after 2 attempts"):
        first.flow.send(True)
    spawn = late.flow.send(True)
    assert isinstance(spawn, Spawn), "it has a moment left"
    assert isinstance(late.flow.send(True), Wait)
    assert isinstance(next(spawn.flow), Sleep)
    bench.time += 0.5
    with pytest.raises(TokenUnreachable, match=r"still under way \(.*no response within 10 s, after 2 attempts\)"):
        late.flow.send(False)


def test_who_has_more_time_than_the_fetch_that_failed_waits_for_another() -> None:
    bench = Bench(max_wait=10)
    first = Waiting(bench)
    fetch = first.fetch()
    bench.time += 6.0
    late = Waiting(bench)
    assert late.spawn is None
    bench.time += 4.0
    with pytest.raises(StopIteration):
        fetch.throw(SendFailed("timeout"))
    with pytest.raises(TokenUnreachable):
        first.flow.send(True)
    assert isinstance(late.flow.send(True), Spawn)


@pytest.mark.parametrize("status", [429, 503])
def test_who_can_wait_for_the_time_that_the_endpoint_named_does_though_the_fetch_could_not(status: int) -> None:
    bench = Bench(max_wait=10)
    first = Waiting(bench)
    fetch = first.fetch()
    bench.time += 4.0
    late = Waiting(bench)
    bench.time += 0.5
    end(fetch, bench.answer(status, b"", retry_after="6"))
    with pytest.raises((RateLimited, TokenUnreachable)):
        first.flow.send(True)
    bench.app._engine.endpoint.politeness.not_before = bench.time + 8.0  # whatever time of its own was added
    assert isinstance(late.flow.send(True), Spawn)


def test_a_call_never_fails_for_a_pause_that_is_longer_than_what_it_can_still_wait() -> None:
    for _ in range(20):
        bench = Bench(max_wait=10)
        began = bench.time
        replayed = replay_until_it_ends(bench, lambda effect, bench=bench: bench.answer(503))
        raised(replayed, TokenUnreachable)
        assert bench.time == pytest.approx(began + 10)


@pytest.mark.parametrize("max_wait", [1, 5, 30])
def test_an_endpoint_that_fails_is_asked_at_most_twenty_times_a_minute(max_wait: float) -> None:
    bench = Bench(max_wait=max_wait)
    asked: list[float] = []

    def answer(effect: Send) -> Response:
        asked.append(bench.time)
        return bench.answer(503)

    began = bench.time
    while bench.time < began + 180:
        raised(replay_until_it_ends(bench, answer), TokenUnreachable)
        bench.time += 0.01
    for minute in range(120):
        assert sum(began + minute <= moment < began + minute + 60 for moment in asked) <= 20
    bench.time += 5
    bench.obtain(bench.token(expires_in=60)).result()
    bench.time += 60
    began = bench.time
    bench.obtain(bench.answer(503), bench.token()).result()
    assert bench.time - began < 0.3, "the first success has it forgotten"


# ── patience ─────────────────────────────────────────────────────────────────────────────────────────────────────────

NEVER_ANSWERED = (math.inf, None)


class Timed:
    """Runs a flow while time passes: each token request is answered after so many seconds, the last one's time being that of
    all later ones. One that is not answered by its timeout fails.

    - ``sent``: when each request was sent, from the beginning, and its timeout.
    - ``closed``: the number of requests whose connection was closed since nobody waited for them any more.
    - ``most_open``: the most that were open at a time.
    """

    def __init__(self, bench: Bench, *answers: tuple[float, Any]) -> None:
        self._bench = bench
        self._answers = list(answers) or [NEVER_ANSWERED]
        self._began = bench.time
        self._open: list[tuple[float, Sending, Any]] = []
        self.sent: list[tuple[float, float]] = []
        self.closed = self.most_open = 0

    def run(self, flow: Flow[Any]) -> Replayed[Any]:
        effects: list[Any] = []
        try:
            effect = next(flow)
            while True:
                effects.append(effect)
                effect = flow.send(self._perform(effect))
        except StopIteration as stop:
            return Replayed(tuple(effects), True, stop.value)
        except OktaM2MError as error:
            return Replayed(tuple(effects), True, None, error)

    @property
    def passed(self) -> float:
        return self._bench.time - self._began

    def _perform(self, effect: Effect[Any]) -> object:
        match effect:
            case Sign(signer, message):
                return signer.sign(message)
            case StartSend(_, timeout):
                return self._send(timeout)
            case Spawn():
                return False  # whoever calls runs it
            case Sleep(seconds):
                self._pass(seconds, lambda: False)
            case Wait(landing, seconds):
                self._pass(seconds, landing.done)
                return landing.done()
            case _:
                raise AssertionError(f"nobody performs {effect}")
        return None

    def _send(self, timeout: float) -> Sending:
        seconds, answer = self._answers[0] if len(self._answers) == 1 else self._answers.pop(0)
        if seconds >= timeout:
            seconds, answer = timeout, SendFailed(f"no response within {timeout:g} s", stage="http")
        sending = Sending(Future())
        sending.if_given_up(lambda: self._close(sending))
        self.sent.append((round(self.passed, 3), timeout))
        self._open.append((self._bench.time + seconds, sending, answer))
        self.most_open = max(self.most_open, len(self._open))
        return sending

    def _close(self, sending: Sending) -> None:
        self._open = [one for one in self._open if one[1] is not sending]
        self.closed += 1

    def _pass(self, seconds: float, is_over: Callable[[], bool]) -> None:
        until = self._bench.time + seconds
        while not is_over():
            moment, sending, answer = min(self._open, key=lambda one: one[0], default=(math.inf, None, None))
            self._bench.time = max(self._bench.time, min(moment, until))
            if moment > until or sending is None:
                return
            self._open = [one for one in self._open if one[1] is not sending]
            answer = answer() if callable(answer) else answer
            if isinstance(answer, Exception):
                sending.response.set_exception(answer)
            else:
                sending.response.set_result(answer)


def test_an_endpoint_that_answers_after_twelve_seconds_serves_with_two_requests() -> None:
    bench = Bench()
    timed = Timed(bench, (12.0, bench.token))
    assert timed.run(bench.app.obtain()).result().value == "token-1"
    assert timed.passed == 12.0
    assert timed.sent == [(0.0, 30.0), (5.0, 25.0)]
    assert timed.closed == 1, "nobody waits for the second one any more"


def test_a_token_that_came_slowly_lives_from_when_its_own_request_was_sent() -> None:
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


def test_an_endpoint_that_hangs_is_sent_two_requests_and_no_third_before_one_has_ended() -> None:
    bench = Bench()
    timed = Timed(bench)
    error = raised(timed.run(bench.app.obtain()), TokenUnreachable)
    assert [moment for moment, _ in timed.sent] == [0.0, 5.0]
    assert timed.passed == 30.0
    assert "no response within 30 s, after 2 attempts" in str(error)


def test_after_a_request_beside_a_slow_one_has_failed_another_may_be_sent() -> None:
    bench = Bench()
    timed = Timed(bench, NEVER_ANSWERED, (1.0, SendFailed("reset")), (0.5, bench.token))
    timed.run(bench.app.obtain()).result()
    first, second, third = (moment for moment, _ in timed.sent)
    assert (first, second) == (0.0, 5.0)
    assert 6.2 <= third <= 6.25, "it failed after a second, and then there is a pause"
    assert timed.most_open == 2


def test_the_first_answer_counts_also_if_it_is_a_refusal() -> None:
    bench = Bench()
    timed = Timed(bench, (20.0, bench.token), (1.0, lambda: bench.error(*INVALID_CLIENT)))
    raised(timed.run(bench.app.obtain()), InvalidClient)
    assert timed.passed == 6.0
    assert timed.closed == 1


def test_no_second_request_goes_out_before_the_time_that_the_endpoint_gave() -> None:
    bench = Bench()
    later = bench.limited(reset=8)
    timed = Timed(bench, (0.1, later), (10.0, bench.token))
    timed.run(bench.app.obtain()).result()
    assert timed.sent[1][0] >= 9.0


def test_a_renewal_may_take_as_long_as_its_token_lives() -> None:
    """Nobody waits for it, so a slow Okta is no outage."""
    bench = Bench()
    due(bench)
    token = bench.app.token_state.token
    assert token is not None
    timed = Timed(bench, (120.0, bench.token))
    spawn = bench.spawned.pop()
    timed.run(spawn.flow).result()
    assert timed.passed == 120.0
    assert timed.sent[0][1] == pytest.approx(token.usable_until - (bench.time - 120.0))
    assert timed.most_open == 2
    assert len(timed.sent) <= 2 + 120 / 30, "those beside it may each be hung, so each has its own end"
    assert reported(bench, TokenFailed) == []
    assert bench.obtain().result().value == "token-2"


def test_a_renewal_that_is_not_answered_ends_with_its_token() -> None:
    bench = Bench(max_wait=10)
    due(bench)
    token = bench.app.token_state.token
    assert token is not None
    Timed(bench).run(bench.spawned.pop().flow).result()
    assert bench.time == pytest.approx(token.usable_until)
    assert len(reported(bench, TokenFailed)) == 1


def test_a_renewal_that_the_endpoint_fails_ends_by_max_wait() -> None:
    """Only silence is waited for longer."""
    bench = Bench(max_wait=10)
    due(bench)
    timed = Timed(bench, (0.1, lambda: bench.answer(503)))
    timed.run(bench.spawned.pop().flow).result()
    assert timed.passed <= 10.0
    assert len(reported(bench, RenewalFailed)) == 1


def test_who_waits_for_a_slow_renewal_whose_token_has_expired_waits_at_most_max_wait() -> None:
    bench = Bench(max_wait=10)
    bench.obtain(bench.token(expires_in=60)).result()
    bench.time += 50.0
    assert names(bench.obtain()) == ["Spawn"]
    to_its_request(bench.spawned.pop().flow)
    bench.time += 7.5
    waiting = Waiting(bench)
    assert waiting.spawn is None
    bench.time += 10.0 + LANDING_GRACE
    with pytest.raises(TokenUnreachable, match="still under way"):
        waiting.flow.send(False)


def test_a_time_that_is_not_believed_is_named_as_it_is_and_what_is_believed_too() -> None:
    bench = Bench()
    error = raised(bench.obtain(bench.limited(reset=601)), RateLimited)
    assert "asked to wait 602.0 seconds, of which 300 are believed" in str(error)
    assert error.retry_after == pytest.approx(300)


def test_what_cannot_heal_fails_at_once_and_is_remembered_for_a_moment() -> None:
    bench = Bench()
    untrusted = SendFailed("the certificate is not trusted", stage="tls", permanent=True)
    began = bench.time
    assert "not trusted" in str(raised(bench.obtain(untrusted), TokenUnreachable))
    assert "not trusted" in str(raised(bench.obtain(), TokenUnreachable))
    assert bench.time == began
    bench.time += 0.3
    assert bench.obtain(bench.token()).result().value == "token-1"


def test_a_failure_says_after_how_many_attempts() -> None:
    untrusted = SendFailed("the certificate is not trusted", stage="tls", permanent=True)
    assert ", after 1 attempt. " in str(raised(Bench().obtain(untrusted), TokenUnreachable))
    assert ", after 2 attempts. " in str(raised(Bench().obtain(SendFailed("reset"), untrusted), TokenUnreachable))


def test_nothing_is_left_in_the_air_by_a_caller_that_ends_as_it_begins_a_fetch() -> None:
    bench = Bench()
    flow = bench.app.obtain()
    assert isinstance(next(flow), Spawn)
    flow.close()
    assert Waiting(bench).spawn is not None


def test_where_nothing_can_be_started_a_fetch_is_done_by_whoever_needs_it_and_a_renewal_by_nobody() -> None:
    bench = Bench()
    token = bench.obtain(bench.token()).result()
    bench.time += 0.9 * token.expires_in
    flow = bench.app.obtain()
    spawn = next(flow)
    assert isinstance(spawn, Spawn)
    assert not spawn.awaited
    with pytest.raises(StopIteration) as stop:
        flow.send(False)
    assert stop.value.value is token
    assert names(bench.obtain()) == [], "it is not tried again at once"
    bench.time += 1.0
    assert names(bench.obtain()) == ["Spawn"]


def test_an_exception_of_a_senders_own_reaches_everybody_who_waits_without_our_frames() -> None:
    def broken_send() -> None:
        secret = "what this package's frames hold"  # noqa: F841 (a local of the sender's own)
        raise LookupError("no such proxy")

    bench = Bench()
    first, second = Waiting(bench), Waiting(bench)
    try:
        broken_send()
    except LookupError as error:
        with pytest.raises(StopIteration):
            first.fetch().throw(error)
    for waiting in (first, second):
        with pytest.raises(LookupError, match="no such proxy") as raised:
            waiting.flow.send(True)
        codes = [frame.f_code for frame, _ in traceback.walk_tb(raised.value.__traceback__)]
        assert [code.co_qualname for code in codes if "_core" in code.co_filename] == ["Fetching.fetch_token"]


# ── a 401 from a resource server ─────────────────────────────────────────────────────────────────────────────────────

RENEWS = ["Attempt", "Discard", "Send", "Attempt"]
GOES_TO_THE_CALLER = ["Attempt"]


def unauthorized(*challenges: str) -> Response:
    return Response(401, [("WWW-Authenticate", challenge) for challenge in challenges])


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
def test_an_answer_of_400_is_no_reason_for_a_new_token(challenges: list[str], url: str) -> None:
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
def test_at_the_org_a_401_without_a_challenge_is_judged_by_its_body(body: bytes, renews: bool) -> None:
    bench = Bench()
    bench.obtain(bench.token()).result()
    answers: list[object] = [Response(401), body]
    replayed = bench.authorize(*answers, *([bench.token(), Response(200)] if renews else []))
    assert names(replayed) == (["Attempt", "Peek", "Discard", "Send", "Attempt"] if renews else ["Attempt", "Peek"])
    (peek,) = replayed.of(Peek)
    assert peek.limit <= 4096


@pytest.mark.parametrize("elsewhere", [ELSEWHERE, "https://a.example.com"])
def test_elsewhere_a_401_without_a_challenge_renews_without_a_look_at_its_body(elsewhere: str) -> None:
    bench = Bench(origins=[elsewhere])
    bench.obtain(bench.token()).result()
    replayed = bench.authorize(Response(401), bench.token(), Response(200), url=f"{elsewhere}/orders")
    assert names(replayed) == RENEWS


@pytest.mark.parametrize("status", [200, 204, 301, 400, 403, 404, 407, 429, 500, 503])
def test_no_other_status_renews(status: int) -> None:
    bench = Bench()
    bench.obtain(bench.token()).result()
    answer = Response(status, [("WWW-Authenticate", 'Bearer error="invalid_token"')])
    assert names(bench.authorize(answer)) == GOES_TO_THE_CALLER


INVALID_TOKEN = unauthorized('Bearer error="invalid_token"')


def test_a_body_that_cannot_be_sent_again_is_not_and_the_next_call_has_a_new_token() -> None:
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


def test_a_call_is_attempted_twice_at_most_also_if_the_new_token_came_with_the_second_request() -> None:
    bench = Bench()
    replayed = bench.authorize(bench.token(), INVALID_TOKEN, bench.answer(503), bench.token(), INVALID_TOKEN)
    assert names(replayed) == ["Send", "Attempt", "Discard", "Send", "Sleep", "Send", "Attempt"]


def test_a_late_rejection_of_an_old_token_costs_no_renewal() -> None:
    bench = Bench()
    old = bench.obtain(bench.token()).result()
    bench.authorize(INVALID_TOKEN, bench.token(), Response(200)).result()
    judging = bench.app.judge(old, INVALID_TOKEN, method="GET", url=API, replayable=True)
    replayed = bench.replay(judging, Response(200))
    assert names(replayed) == ["Discard", "Attempt"]
    assert replayed.of(Attempt)[0].headers["Authorization"] == "Bearer token-2"


def test_a_token_that_came_too_late_takes_no_later_ones_place() -> None:
    bench = Bench(max_wait=10)
    first = Waiting(bench)
    late, answer = first.fetch(), bench.token()
    bench.time += 1.0
    first.is_running = False  # given up by the others
    assert bench.obtain(bench.token()).result().value == "token-2"
    end(late, answer)
    assert bench.obtain().result().value == "token-2"


def test_no_answer_from_elsewhere_has_a_token_of_ours_sent_there() -> None:
    bench = Bench()
    token = bench.obtain(bench.token()).result()
    judging = bench.app.judge(token, INVALID_TOKEN, method="GET", url="https://evil.example/", replayable=True)
    assert names(bench.replay(judging)) == []


def test_an_answer_to_a_token_of_somebody_elses_is_not_judged() -> None:
    bench = Bench()
    bench.obtain(bench.token()).result()
    judging = bench.app.judge(Token("theirs"), INVALID_TOKEN, method="GET", url=API, replayable=True)
    assert names(bench.replay(judging)) == []


def test_the_org_tells_the_time_for_all_proofs_if_it_refuses_one() -> None:
    bench = Bench(dpop=True)
    bench.obtain(bench.token({"date": None}, token_type="DPoP")).result()
    bench.okta_ahead = -600.0
    replayed = bench.authorize(bench.answer(400, www_authenticate='DPoP error="invalid_dpop_proof"'), Response(200))
    assert names(replayed) == ["Attempt", "Discard", "Attempt"]
    (attempt,) = bench.authorize(Response(200)).of(Attempt)
    assert bench.okta_time - 10 <= proof(attempt)["iat"] <= bench.okta_time


def test_an_api_of_ones_own_whose_clock_is_wrong_tells_the_time_for_its_own_proof_only() -> None:
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


def test_an_api_that_rejects_every_token_costs_three_token_requests_an_hour() -> None:
    bench = Bench()
    bench.authorize(bench.token(), INVALID_TOKEN, bench.token(), INVALID_TOKEN).result()
    for forced in (2, 3, 3):
        for _ in range(forced):
            assert names(bench.authorize(INVALID_TOKEN, bench.token(), INVALID_TOKEN)) == RENEWS
        for _ in range(50):
            assert names(bench.authorize(INVALID_TOKEN)) == GOES_TO_THE_CALLER
        bench.time += 3601.0
        bench.obtain(bench.token()).result()  # its life is over, too


def test_an_origin_that_accepts_its_renewed_tokens_is_healed_each_time() -> None:
    """All tokens are really revoked, again and again."""
    bench = Bench()
    bench.obtain(bench.token()).result()
    for _ in range(20):
        assert names(bench.authorize(INVALID_TOKEN, bench.token(), Response(200))) == RENEWS
        bench.time += 10.0


def test_a_second_revocation_heals_though_nobody_told_that_the_first_new_token_worked() -> None:
    bench = Bench()
    token = bench.obtain(bench.token()).result()
    judging = bench.app.judge(token, INVALID_TOKEN, method="POST", url=API, replayable=False)
    bench.replay(judging).result()  # this call could not be repeated, so it never learnt of the new token
    assert names(bench.authorize(bench.token(), Response(200))) == ["Send", "Attempt"]
    bench.time += 5.0
    assert names(bench.authorize(INVALID_TOKEN, bench.token(), Response(200))) == RENEWS


def test_a_token_that_was_on_its_way_at_the_rejection_may_be_rejected_too() -> None:
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


def test_of_tokens_that_were_on_their_way_a_call_tries_two_at_most() -> None:
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


def test_a_token_that_expires_on_its_way_costs_no_forced_renewal() -> None:
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


def test_a_renewal_that_failed_is_not_one_whose_token_was_rejected() -> None:
    bench = Bench(max_wait=1)
    bench.obtain(bench.token()).result()
    for _ in range(20):  # revoked, while the token endpoint is out of order
        replayed = replay_until_it_ends(
            bench,
            lambda effect: bench.answer(503) if isinstance(effect, Send) else INVALID_TOKEN,
            bench.app.authorize("GET", API, replayable=True),
        )
        raised(replayed, TokenUnreachable)
    bench.time += 5.0
    assert names(bench.authorize(INVALID_TOKEN, bench.token(), Response(200))) == RENEWS


def test_a_herd_whose_token_was_rejected_is_one_request_and_one_event() -> None:
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


def test_renewed_tokens_that_are_accepted_leave_forced_renewals_for_further_revocations() -> None:
    bench = Bench()
    bench.authorize(bench.token(), INVALID_TOKEN, bench.token(), Response(200)).result()
    assert names(bench.authorize(INVALID_TOKEN, bench.token(), Response(200))) == RENEWS
    assert names(bench.authorize(INVALID_TOKEN, bench.token(), Response(200))) == RENEWS


def test_a_renewed_token_that_only_lacks_permission_was_accepted() -> None:
    bench = Bench()
    bench.authorize(bench.token(), INVALID_TOKEN, bench.token(), Response(403)).result()
    assert names(bench.authorize(INVALID_TOKEN, bench.token(), Response(200))) == RENEWS


@pytest.mark.parametrize("answer", [Response(400), unauthorized('Bearer error="insufficient_scope"')])
def test_a_renewed_token_that_is_answered_with_400_or_401_was_not_accepted(answer: Response) -> None:
    bench = Bench()
    bench.obtain(bench.token()).result()
    for _ in range(3):
        assert names(bench.authorize(INVALID_TOKEN, bench.token(), answer)) == RENEWS
    assert names(bench.authorize(INVALID_TOKEN)) == GOES_TO_THE_CALLER


def test_an_api_that_accepts_every_token_does_not_let_another_force_more_renewals() -> None:
    bench = Bench(origins=[ELSEWHERE])
    bench.obtain(bench.token()).result()
    for _ in range(3):
        bench.authorize(INVALID_TOKEN, bench.token(), INVALID_TOKEN, url=ELSEWHERE).result()
        assert names(bench.authorize(Response(200))) == ["Attempt"]
        assert names(bench.authorize(INVALID_TOKEN, bench.token(), Response(200))) == RENEWS
    assert names(bench.authorize(INVALID_TOKEN, url=ELSEWHERE)) == GOES_TO_THE_CALLER


# ── a rejection belongs to an origin ─────────────────────────────────────────────────────────────────────────────────


def rejecting(bench: Bench, url: str = f"{ELSEWHERE}/orders") -> tuple[Flow[None], Spawn]:
    """A call whose token that origin has rejected, and the fetch that it began."""
    token = bench.app.token_state.token
    assert token is not None
    judging = bench.app.judge(token, INVALID_TOKEN, method="GET", url=url, replayable=True)
    assert isinstance(next(judging), Discard)
    spawn = judging.send(None)
    assert isinstance(spawn, Spawn)
    assert isinstance(judging.send(True), Wait)
    return judging, spawn


def test_only_the_origin_that_rejected_the_token_waits_for_another() -> None:
    bench = Bench(origins=[ELSEWHERE])
    bench.obtain(bench.token()).result()
    judging, spawn = rejecting(bench)
    fetch = to_its_request(spawn.flow)
    for _ in range(5):
        replayed = bench.authorize(Response(200))
        assert names(replayed) == ["Attempt"]
        assert replayed.of(Attempt)[0].headers == {"Authorization": "Bearer token-1"}
        bench.time += 1.0
    assert names(bench.authorize(url=f"{ELSEWHERE}/invoices")) == ["Wait"], "it would be rejected, too"
    assert bench.app.ready("GET", API) is None, "each call says which origin it calls"
    end(fetch, bench.token())
    attempt = judging.send(True)
    assert isinstance(attempt, Attempt)
    assert attempt.headers == {"Authorization": "Bearer token-2"}
    for url in (API, f"{ELSEWHERE}/orders"):
        ready = bench.app.ready("GET", url)
        assert ready is not None, "there are hits again"
        assert ready.token.value == "token-2"


def test_while_the_token_endpoint_is_down_a_rejection_keeps_no_other_api_waiting() -> None:
    bench = Bench(origins=[ELSEWHERE], max_wait=5)
    bench.obtain(bench.token()).result()

    def answer(effect: Effect[Any]) -> Response:
        return bench.answer(503) if isinstance(effect, Send) else INVALID_TOKEN

    for _ in range(10):
        call = bench.app.authorize("GET", f"{ELSEWHERE}/orders", replayable=True)
        raised(replay_until_it_ends(bench, answer, call), TokenUnreachable)
        assert bench.app.ready("GET", API) is not None, "the token is as good as before"
    bench.time += 5.0
    call_again = bench.authorize(INVALID_TOKEN, bench.token(), Response(200), url=f"{ELSEWHERE}/orders")
    assert names(call_again) == RENEWS, "renewals that failed do not count"


def test_a_refused_key_leaves_the_working_token_to_all_other_apis() -> None:
    bench = Bench(origins=[ELSEWHERE])
    bench.obtain(bench.token()).result()
    refused = bench.error(*INVALID_CLIENT)
    raised(bench.authorize(INVALID_TOKEN, refused, url=f"{ELSEWHERE}/orders"), InvalidClient)
    ready = bench.app.ready("GET", API)
    assert ready is not None
    assert ready.token.value == "token-1"
    for _ in range(3):  # the refusal is remembered, so nobody asks meanwhile
        replayed = bench.authorize(*[INVALID_TOKEN] * bool(bench.app.ready("GET", API)), url=f"{ELSEWHERE}/orders")
        assert replayed.of(Send) == []
        raised(replayed, InvalidClient)
        assert names(bench.authorize(Response(200))) == ["Attempt"]
    bench.time += 100.0
    assert bench.authorize(bench.token(), Response(200), url=f"{ELSEWHERE}/orders").error is None
    assert bench.app.ready("GET", API) is not None


def test_a_call_that_another_origin_rejects_too_joins_the_renewal() -> None:
    bench = Bench(origins=[ELSEWHERE])
    token = bench.obtain(bench.token()).result()
    judging, spawn = rejecting(bench)
    other = bench.app.judge(token, INVALID_TOKEN, method="GET", url=API, replayable=True)
    assert [type(next(other)), type(other.send(None))] == [Discard, Wait]
    bench.replay(spawn.flow, bench.token())
    for flow in (judging, other):
        attempt = flow.send(True)
        assert isinstance(attempt, Attempt)
        assert attempt.headers == {"Authorization": "Bearer token-2"}


def run_with_store(bench: Bench, flow: Flow[Any], answer: Callable[[Effect[Any]], Any]) -> Any:
    """A flow of a process that shares a store. What keeps the claim runs while the fetch waits for it."""
    keepers: list[Spawn] = []

    def perform(effect: Effect[Any]) -> Any:
        match effect:
            case Sign(signer, message):
                return signer.sign(message)
            case Send() | Attempt():
                return answer(effect)
            case StoreEffect():
                return effect.call()
            case Spawn(purpose="claim"):
                keepers.append(effect)
                return True
            case Wait(landing):
                while keepers:
                    keeper = keepers.pop()
                    step(keeper.flow)
                    keeper.ended()
                return landing.done()
            case Sleep(seconds):
                bench.sleep(seconds)
        return None

    def step(flow: Flow[Any]) -> Any:
        try:
            effect = next(flow)
            while True:
                effect = flow.send(perform(effect))
        except StopIteration as stop:
            return stop.value

    return step(flow)


def test_an_api_that_rejects_every_token_costs_a_fleet_three_token_requests_an_hour() -> None:
    """A stored token says who forced it, so the processes share the budget."""
    clock = Bench()
    store = SimulatedStore(lambda: clock.time)
    fleet = [Bench(origins=[ELSEWHERE], store=store, seal_with=[bytes(range(32))]) for _ in range(6)]
    asked: list[float] = []

    def call(bench: Bench, url: str) -> None:
        clock.time += 1.0
        bench.time, bench.minted = clock.time, len(asked)

        def answer(effect: Effect[Any]) -> Response:
            if isinstance(effect, Send):
                asked.append(clock.time)
                return bench.token()
            return Response(200) if url == API else INVALID_TOKEN

        run_with_store(bench, bench.app.authorize("GET", url, replayable=True), answer)

    for _ in range(20):
        for bench in fleet:
            call(bench, f"{ELSEWHERE}/orders")
            call(bench, API)
    assert len(asked) == 4, "the first, and three in its place"
    clock.time += 3600.0
    for _ in range(20):
        for bench in fleet:
            call(bench, f"{ELSEWHERE}/orders")
    assert len(asked) == 8


def test_a_call_whose_response_nobody_saw_has_the_token_renewed_in_the_background() -> None:
    bench = Bench()
    token = bench.obtain(bench.token()).result()
    bench.app.token_state.unanswered(token, ORG, bench.time)
    replayed = bench.authorize(Response(200))
    assert names(replayed) == ["Spawn", "Attempt"], "nobody waits for it"
    renewed(bench, bench.token())
    assert names(bench.authorize(Response(200))) == ["Attempt"]
    for _ in range(2):  # what is left is for rejections that were seen
        bench.app.token_state.unanswered(bench.obtain().result(), ORG, bench.time)
        assert names(bench.authorize(INVALID_TOKEN, bench.token(), INVALID_TOKEN)) == RENEWS
    assert names(bench.authorize(INVALID_TOKEN)) == GOES_TO_THE_CALLER


def test_a_rejected_token_is_revoked_at_the_end_also_while_another_is_fetched() -> None:
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


def test_a_rejected_token_serves_on_if_no_other_can_be_had() -> None:
    """It may have been rejected by one wrongly configured API only."""
    bench = Bench()
    bench.obtain(bench.token()).result()
    replayed = bench.authorize(INVALID_TOKEN, bench.limited(reset=59))
    raised(replayed, RateLimited)
    again = bench.obtain()
    assert names(again) == []
    assert again.result().value == "token-1"


def test_obtain_is_told_of_a_rejected_token_and_gives_another() -> None:
    bench = Bench()
    token = bench.obtain(bench.token()).result()
    assert bench.obtain(bench.token(), rejected=token).result().value == "token-2"
    # Told again of the same one: the new one will do.
    assert names(bench.obtain(rejected=token)) == []


# ── DPoP at a resource server ────────────────────────────────────────────────────────────────────────────────────────


def bound(bench: Bench) -> Token:
    return bench.obtain(bench.token(token_type="DPoP")).result()


def nonce_asked_for(status: int, nonce: str | None = "nonce-1") -> Response:
    fields = [("WWW-Authenticate", 'DPoP error="use_dpop_nonce", algs="ES256"')]
    return Response(status, fields + ([("DPoP-Nonce", nonce)] if nonce else []))


@pytest.mark.parametrize("status", [400, 401])
def test_a_nonce_that_a_resource_asks_for_is_sent_once(status: int) -> None:
    bench = Bench(dpop=True)
    bound(bench)
    replayed = bench.authorize(nonce_asked_for(status), nonce_asked_for(status, "nonce-2"))
    assert names(replayed) == ["Attempt", "Discard", "Attempt"]
    first, second = replayed.of(Attempt)
    assert "nonce" not in proof(first)
    assert proof(second)["nonce"] == "nonce-1"
    assert proof(first)["jti"] != proof(second)["jti"]
    assert first.headers["Authorization"] == second.headers["Authorization"] == "DPoP token-1"


def test_a_call_sends_the_nonce_that_it_was_asked_for_though_another_call_has_brought_one_since() -> None:
    bench = Bench(dpop=True)
    judging = bench.app.judge(bound(bench), nonce_asked_for(401), method="GET", url=API, replayable=True)
    assert isinstance(next(judging), Discard)
    bench.authorize(Response(200, [("DPoP-Nonce", "nonce-0")])).result()
    (attempt,) = bench.replay(judging, Response(200)).of(Attempt)
    assert proof(attempt)["nonce"] == "nonce-1"


@pytest.mark.parametrize("status", [200, 401])
def test_a_nonce_is_learnt_from_every_answer(status: int) -> None:
    bench = Bench(dpop=True)
    bound(bench)
    answer = Response(status, [("DPoP-Nonce", "nonce-1"), ("WWW-Authenticate", 'DPoP error="insufficient_scope"')])
    bench.authorize(answer).result()
    (attempt,) = bench.authorize(Response(200)).of(Attempt)
    assert proof(attempt)["nonce"] == "nonce-1"


def test_a_resources_nonce_is_not_the_token_endpoints() -> None:
    bench = Bench(dpop=True)
    bench.obtain(bench.token({"dpop_nonce": "for-tokens"}, token_type="DPoP")).result()
    (attempt,) = bench.authorize(Response(200, [("DPoP-Nonce", "for-the-api")])).of(Attempt)
    assert "nonce" not in proof(attempt)
    bench.time += 4000.0
    (send,) = bench.obtain(bench.token(token_type="DPoP")).of(Send)
    assert proof(send)["nonce"] == "for-tokens"


def test_a_nonce_asked_for_and_not_given_goes_to_the_caller() -> None:
    bench = Bench(dpop=True)
    bound(bench)
    assert names(bench.authorize(nonce_asked_for(401, None))) == GOES_TO_THE_CALLER


def test_a_body_that_cannot_be_sent_again_leaves_the_nonce_for_the_next_call() -> None:
    bench = Bench(dpop=True)
    bound(bench)
    assert names(bench.authorize(nonce_asked_for(401), replayable=False)) == GOES_TO_THE_CALLER
    (attempt,) = bench.authorize(Response(200)).of(Attempt)
    assert proof(attempt)["nonce"] == "nonce-1"


@pytest.mark.parametrize("status", [400, 401])
def test_a_proof_that_was_refused_is_made_anew_once(status: int) -> None:
    bench = Bench(dpop=True)
    bound(bench)
    refused = Response(status, [("WWW-Authenticate", 'DPoP error="invalid_dpop_proof"')])
    replayed = bench.authorize(refused, refused)
    assert names(replayed) == ["Attempt", "Discard", "Attempt"]
    first, second = replayed.of(Attempt)
    assert proof(first)["jti"] != proof(second)["jti"]


def test_every_cure_is_open_again_to_a_new_token() -> None:
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


# ── where tokens travel ──────────────────────────────────────────────────────────────────────────────────────────────


def test_another_origin_gets_no_token_and_none_is_fetched() -> None:
    bench = Bench()
    replayed = bench.authorize(unauthorized("Bearer"), url="https://evil.example/")
    assert names(replayed) == ["Attempt"]
    assert replayed.of(Attempt)[0].headers == {}


def test_headers_for_another_origin_are_refused() -> None:
    bench = Bench()
    raised(bench.replay(bench.app.headers("GET", "https://evil.example/")), ConfigurationError)


# ── replay itself ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_script_that_is_too_long_is_an_error() -> None:
    bench = Bench()
    with pytest.raises(LookupError, match="left over"):
        bench.obtain(bench.token(), bench.token())


def test_a_script_that_is_too_short_says_where_it_ended_and_closes_the_flow() -> None:
    bench = Bench()
    replayed = bench.obtain()
    assert not replayed.finished
    assert isinstance(replayed.effects[-1], Send)
    with pytest.raises(LookupError, match="Send"):
        replayed.result()
    bench.obtain(bench.token()).result()  # the flight has landed


def test_what_the_tests_above_use_is_all_there_is() -> None:
    """A new effect needs a thought in ``replay``."""
    import okta_m2m.effects as effects

    known = {Attempt, Discard, Peek, Send, Sign, Sleep, Snapshot, Spawn, StartSend, Wait}
    stores = {effects.Load, effects.Save, effects.Claim, effects.Release}  # scripted like Send
    found = {
        one
        for one in vars(effects).values()
        if isinstance(one, type)
        and issubclass(one, effects.Effect)
        and one not in (effects.Effect, effects.StoreEffect)
    }
    assert found == known | stores


# ── what an alert can be built on ────────────────────────────────────────────────────────────────────────────────────


def reported(bench: Bench, kind: type[Any]) -> list[Any]:
    return [event for event in bench.events if isinstance(event, kind)]


def lines(caplog: pytest.LogCaptureFixture, event: str | None) -> list[logging.LogRecord]:
    """The lines of the one logger that say that something happened."""
    assert {record.name for record in caplog.records} <= {"okta_m2m"}
    assert not any("okta-m2m:" in record.getMessage() for record in caplog.records)
    return [record for record in caplog.records if vars(record).get("okta_m2m.event") == event]


def test_a_fetch_that_failed_is_told_once_however_many_waited_for_it(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    waiting = [Waiting(bench) for _ in range(50)]
    end(waiting[0].fetch(), bench.error(400, "invalid_scope", x_okta_request_id="req-1"))
    for one in waiting:
        with pytest.raises(InvalidScope):
            one.flow.send(True)
    (event,) = reported(bench, TokenFailed)
    assert (event.error, event.attempts, event.background) == ("invalid_scope", 1, False)
    (line,) = lines(caplog, "TokenFailed")
    assert line.levelname == "WARNING"
    assert line.getMessage().endswith(" (see docs/errors.md#invalidscope)")
    fields = vars(line)
    assert (fields["okta_m2m.client_id"], fields["error.code"], fields["okta.request_id"]) == (
        "0oa1",
        "invalid_scope",
        "req-1",
    )


def test_what_is_repeated_without_asking_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    untrusted = SendFailed("the certificate is not trusted", stage="tls", permanent=True)
    raised(bench.obtain(untrusted), TokenUnreachable)
    for _ in range(20):
        raised(bench.obtain(), TokenUnreachable)
    assert len(reported(bench, TokenFailed)) == len(lines(caplog, "TokenFailed")) == 1


class Unreadable(Followed):
    """A signer whose key cannot be read."""

    def snapshot(self) -> Stub:
        raise OSError("the vault is sealed")


@pytest.mark.parametrize(
    "signer", [lambda: Stub(error=OSError("the KMS is away")), Unreadable], ids=["sign", "snapshot"]
)
def test_a_signer_that_fails_each_call_is_told_once_a_minute(signer: Any, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(key=signer())
    for count in (1, 2):
        for _ in range(20):
            failed = bench.obtain()
            raised(failed, SigningFailed)
            assert failed.of(Send) == []
        events = reported(bench, TokenFailed)
        assert [(event.error, event.attempts) for event in events] == [("SigningFailed", 0)] * count
        assert len(lines(caplog, "TokenFailed")) == count
        bench.time += 60.0


def test_a_signer_that_worked_in_between_is_told_of_at_once() -> None:
    signer = Stub(error=OSError("the KMS is away"))
    bench = Bench(key=signer)
    raised(bench.obtain(), SigningFailed)
    signer.error = None
    bench.obtain(bench.token(expires_in=1)).result()
    signer.error = OSError("the KMS is away")
    bench.time += 5.0
    raised(bench.obtain(), SigningFailed)
    assert len(reported(bench, TokenFailed)) == 2


def test_a_renewal_that_failed_is_told_as_one_and_the_warning_is_when_it_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    due(bench)
    caplog.set_level(logging.INFO, "okta_m2m")
    renewed(bench, bench.error(400, "invalid_scope"))
    (event,) = reported(bench, TokenFailed)
    assert event.background
    assert [line.levelname for line in lines(caplog, "TokenFailed")] == ["INFO"]
    (warning,) = lines(caplog, "RenewalFailed")
    assert warning.levelname == "WARNING"
    assert warning.getMessage().endswith(" (see docs/errors.md#invalidscope)")


def test_each_retry_is_a_line_that_says_what_failed_and_the_error_says_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "okta_m2m")
    bench = Bench(max_wait=5)
    failed = SendFailed("the name acme.okta.com could not be resolved", stage="name")
    error = raised(replay_until_it_ends(bench, lambda effect: failed), TokenUnreachable)
    retries = [record for record in caplog.records if "next try in" in record.getMessage()]
    assert len(retries) == len(bench.slept) - 1  # after the last one there is no time for another
    assert all(record.levelname == "INFO" and "could not be resolved" in record.getMessage() for record in retries)
    attempts = len(bench.slept)
    assert f"/token: the name acme.okta.com could not be resolved, after {attempts} attempts" in str(error)
    assert error.remedy.startswith("Check the org URL for a typo")
    assert str(error).endswith('Run "okta-m2m doctor" for a diagnosis.')


def test_a_key_that_gave_way_is_told(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(key=[Stub("kid-1"), Stub("kid-2")])
    bench.obtain(bench.error(*INVALID_CLIENT), bench.token()).result()
    (event,) = reported(bench, KeyPassedOver)
    assert (event.kid, event.error) == ("kid-1", "invalid_client")
    assert len(lines(caplog, "KeyPassedOver")) == 1


def test_a_key_that_changed_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "okta_m2m")
    followed = Followed()
    bench = Bench(key=followed)
    bench.obtain(bench.token()).result()
    assert reported(bench, KeyChanged) == []
    forged = "kid-2\nWARNING forged\x1b[31m\u202e" + "x" * 10_000
    followed.version = Stub(forged)
    for _ in range(2):
        bench.time += 4000.0
        bench.obtain(bench.token()).result()
    assert [event.kid for event in reported(bench, KeyChanged)] == [forged]
    (line,) = (record.getMessage() for record in lines(caplog, "KeyChanged"))
    assert line.isprintable()
    assert len(line) < 200
    assert "kid kid-2 WARNING" in line


def test_a_clock_that_was_corrected_is_told() -> None:
    bench = Bench()
    bench.okta_ahead = 90.0
    for _ in range(2):
        bench.obtain(bench.token()).result()
        bench.time += 4000.0
    (event,) = reported(bench, ClockCorrected)
    assert event.seconds == pytest.approx(90, abs=1)
