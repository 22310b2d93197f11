"""How many renewals an origin may force, and that only its own calls wait for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench import (
    API,
    ELSEWHERE,
    GOES_TO_THE_CALLER,
    INVALID_CLIENT,
    INVALID_TOKEN,
    ORG,
    RENEWS,
    Bench,
    end,
    names,
    raised,
    renewed,
    replay_until_it_ends,
    to_its_request,
    unauthorized,
)
from herd import SimulatedStore
from okta_m2m import TokenUnreachable
from okta_m2m.effects import Attempt, Discard, Effect, Flow, Response, Send, Sign, Sleep, Spawn, StoreEffect, Wait
from okta_m2m.errors import InvalidClient

pytestmark = pytest.mark.usefixtures("everything_is_reported")


# ── how many ─────────────────────────────────────────────────────────────────────────────────────────────────────────


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


def test_an_origin_that_accepts_renewed_tokens_gets_one_after_each_rejection() -> None:
    """All tokens are really revoked, again and again."""
    bench = Bench()
    bench.obtain(bench.token()).result()
    for _ in range(20):
        assert names(bench.authorize(INVALID_TOKEN, bench.token(), Response(200))) == RENEWS
        bench.time += 10.0


def test_a_second_revocation_is_renewed_if_the_first_rejected_call_was_not_repeated() -> None:
    bench = Bench()
    token = bench.obtain(bench.token()).result()
    judging = bench.app.judge(token, INVALID_TOKEN, method="POST", url=API, replayable=False)
    bench.replay(judging).result()  # this call could not be repeated, so it never learnt of the new token
    assert names(bench.authorize(bench.token(), Response(200))) == ["Send", "Attempt"]
    bench.time += 5.0
    assert names(bench.authorize(INVALID_TOKEN, bench.token(), Response(200))) == RENEWS


def test_a_failed_renewal_does_not_count_as_a_rejected_token() -> None:
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


def test_accepted_tokens_leave_forced_renewals_for_later_revocations() -> None:
    bench = Bench()
    bench.authorize(bench.token(), INVALID_TOKEN, bench.token(), Response(200)).result()
    assert names(bench.authorize(INVALID_TOKEN, bench.token(), Response(200))) == RENEWS
    assert names(bench.authorize(INVALID_TOKEN, bench.token(), Response(200))) == RENEWS


def test_a_renewed_token_without_permission_counts_as_accepted() -> None:
    bench = Bench()
    bench.authorize(bench.token(), INVALID_TOKEN, bench.token(), Response(403)).result()
    assert names(bench.authorize(INVALID_TOKEN, bench.token(), Response(200))) == RENEWS


@pytest.mark.parametrize("answer", [Response(400), unauthorized('Bearer error="insufficient_scope"')])
def test_a_renewed_token_that_gets_a_400_or_401_does_not_count_as_accepted(answer: Response) -> None:
    bench = Bench()
    bench.obtain(bench.token()).result()
    for _ in range(3):
        assert names(bench.authorize(INVALID_TOKEN, bench.token(), answer)) == RENEWS
    assert names(bench.authorize(INVALID_TOKEN)) == GOES_TO_THE_CALLER


def test_an_api_that_accepts_every_token_does_not_raise_the_limit_of_another() -> None:
    bench = Bench(origins=[ELSEWHERE])
    bench.obtain(bench.token()).result()
    for _ in range(3):
        bench.authorize(INVALID_TOKEN, bench.token(), INVALID_TOKEN, url=ELSEWHERE).result()
        assert names(bench.authorize(Response(200))) == ["Attempt"]
        assert names(bench.authorize(INVALID_TOKEN, bench.token(), Response(200))) == RENEWS
    assert names(bench.authorize(INVALID_TOKEN, url=ELSEWHERE)) == GOES_TO_THE_CALLER


# ── for which calls ──────────────────────────────────────────────────────────────────────────────────────────────────


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


def test_while_the_token_endpoint_is_down_a_rejection_delays_no_call_to_another_api() -> None:
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


def test_if_the_key_is_refused_other_apis_keep_the_working_token() -> None:
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


def test_a_call_rejected_by_a_second_origin_waits_for_the_same_renewal() -> None:
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


def test_a_call_whose_response_was_hidden_starts_a_background_renewal() -> None:
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
