"""If Okta refuses a key, the next one is tried, and a refusal is remembered. A signer that fails is named."""

from __future__ import annotations

from typing import Any

import pytest

from bench import INVALID_CLIENT, Bench, Followed, decoded, form, names, raised
from okta_m2m.effects import Send
from okta_m2m.errors import InvalidClient, SigningFailed
from okta_m2m.testing import Replayed
from signers import Stub

pytestmark = pytest.mark.usefixtures("everything_is_reported")


# ── the next key, and signers that fail ──────────────────────────────────────────────────────────────────────────────


def test_after_a_refused_key_the_next_is_tried_and_stays_first() -> None:
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


def test_each_key_may_be_tried_again_with_a_nonce() -> None:
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


def test_if_every_key_is_refused_the_refusal_of_the_first_is_raised() -> None:
    bench = Bench(key=[Stub("kid-1"), Stub("kid-2")])
    second = bench.error(401, "invalid_client", "The client_assertion signature is invalid.")
    error = raised(bench.obtain(bench.error(*INVALID_CLIENT), second), InvalidClient)
    assert error.error_description == INVALID_CLIENT[2]
    assert "None of the 2 configured keys was accepted" in str(error)
    alone = Bench()
    assert "configured keys" not in str(raised(alone.obtain(alone.error(*INVALID_CLIENT)), InvalidClient))


def test_the_error_names_a_signer_that_failed_and_nothing_is_sent() -> None:
    bench = Bench(key=Stub(error=PermissionError("no access to the KMS")))
    replayed = bench.obtain()
    error = raised(replayed, SigningFailed)
    assert replayed.of(Send) == []
    assert isinstance(error.__cause__, PermissionError)
    assert "Stub" in str(error)


@pytest.mark.parametrize("where", ["token endpoint", "api"])
def test_the_error_names_a_dpop_signer_that_failed(where: str) -> None:
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


# ── refusals are remembered ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_refusal_is_repeated_without_a_request_for_longer_each_time() -> None:
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


def test_after_a_success_the_next_refusal_is_remembered_briefly_again() -> None:
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
