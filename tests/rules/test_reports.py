"""What is logged and reported to ``on_event``, and how often."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import (
    INVALID_CLIENT,
    Bench,
    Followed,
    Waiting,
    due,
    end,
    lines,
    raised,
    renewed,
    replay_until_it_ends,
    reported,
)
from key_material import assert_nothing_private, ec_key, pem
from okta_m2m import PrivateKey, TokenUnreachable
from okta_m2m._core.reports import Reports
from okta_m2m._threads import notifiers
from okta_m2m.effects import Send, SendFailed
from okta_m2m.errors import InvalidScope, SigningFailed
from okta_m2m.events import ClockCorrected, KeyChanged, KeyPassedOver, TokenFailed
from signers import Stub

pytestmark = pytest.mark.usefixtures("everything_is_reported")


def test_a_failed_fetch_is_reported_once_for_all_its_callers(caplog: pytest.LogCaptureFixture) -> None:
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
    assert line.getMessage().endswith(" (see okta-m2m explain InvalidScope)")
    fields = vars(line)
    assert (fields["okta_m2m.client_id"], fields["error.code"], fields["okta.request_id"]) == (
        "0oa1",
        "invalid_scope",
        "req-1",
    )


def test_a_failure_repeated_without_a_request_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
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
def test_a_signer_that_fails_each_call_is_reported_once_a_minute(signer: Any, caplog: pytest.LogCaptureFixture) -> None:
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


def test_a_signer_that_worked_in_between_is_reported_at_once() -> None:
    signer = Stub(error=OSError("the KMS is away"))
    bench = Bench(key=signer)
    raised(bench.obtain(), SigningFailed)
    signer.error = None
    bench.obtain(bench.token(expires_in=1)).result()
    signer.error = OSError("the KMS is away")
    bench.time += 5.0
    raised(bench.obtain(), SigningFailed)
    assert len(reported(bench, TokenFailed)) == 2


def test_a_failed_renewal_is_reported_and_the_warning_says_when_it_is_retried(
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
    assert warning.getMessage().endswith(" (see okta-m2m explain InvalidScope)")


def test_each_retry_is_logged_with_its_reason_and_the_error_counts_the_attempts(
    caplog: pytest.LogCaptureFixture,
) -> None:
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


def test_a_key_that_was_passed_over_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(key=[Stub("kid-1"), Stub("kid-2")])
    bench.obtain(bench.error(*INVALID_CLIENT), bench.token()).result()
    (event,) = reported(bench, KeyPassedOver)
    assert (event.kid, event.error) == ("kid-1", "invalid_client")
    assert len(lines(caplog, "KeyPassedOver")) == 1


def test_a_changed_key_is_reported(caplog: pytest.LogCaptureFixture) -> None:
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


def test_a_key_file_that_changed_before_the_first_fetch_is_reported(path: Path) -> None:
    bench = Bench(key=PrivateKey.from_file(path, kid="k"))
    path.write_text(pem(ec_key(which=1)))
    bench.obtain(bench.token()).result()
    assert [event.kid for event in reported(bench, KeyChanged)] == ["k"]


def test_each_new_trouble_with_a_key_file_is_one_warning_of_an_app(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key, text = PrivateKey.from_file(path), path.read_text()
    bench = Bench(key=key)

    def warnings_after(change: Callable[[], object]) -> int:
        change()
        for _ in range(2):
            bench.time += 4000.0
            bench.obtain(bench.token()).result()
        assert_nothing_private(caplog.text)
        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        warnings = [text for text in warnings if "Every user of this machine" not in text]
        assert all(str(path) in text and key.thumbprint() in text for text in warnings)
        return len(warnings)

    assert warnings_after(lambda: path.write_text(text[:50])) == 1
    assert warnings_after(path.unlink) == 2
    assert warnings_after(lambda: (path.touch(0o600), path.write_text(text))) == 2
    assert warnings_after(path.unlink) == 3
    assert reported(bench, KeyChanged) == []


@pytest.mark.parametrize(
    ("on_event", "level", "is_received"),
    [(None, logging.WARNING, False), (None, logging.INFO, True), (print, logging.WARNING, True)],
)
def test_a_report_that_nobody_receives_starts_no_thread(
    on_event: Any, level: int, is_received: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started: list[str] = []

    def start_thread(job: Callable[[], object], purpose: str, **options: object) -> None:
        started.append(purpose)
        job()

    monkeypatch.setattr(notifiers, "start_thread", start_thread)
    caplog.set_level(level, "okta_m2m")
    Reports("0oa1", on_event).key_changed("kid-2")
    assert bool(started) is is_received


def test_a_corrected_clock_is_reported() -> None:
    bench = Bench()
    bench.okta_ahead = 90.0
    for _ in range(2):
        bench.obtain(bench.token()).result()
        bench.time += 4000.0
    (event,) = reported(bench, ClockCorrected)
    assert event.seconds == pytest.approx(90, abs=1)
