"""The hostile twin of ``StoreConformance``: stores that break each promise on purpose, and how long a call takes nevertheless.

Each lie has a bound in seconds for the first token of a process, and one for the next token within a minute. Whoever can write
to a store can tell each of these lies.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from herd import SimulatedStore
from okta_m2m import ServiceApp
from okta_m2m._core import fleet
from okta_m2m.requests import OktaAuth
from okta_m2m.testing import FakeOkta
from promises import Service

REAL_LEASE = fleet.LEASE

LEASE = 1.0
"""Instead of two seconds."""

BELIEVED = 1.5 * LEASE
"""Seconds for which a claim is believed whose holder gives no sign of life."""

SOON = 1.5
"""Seconds for a token on a busy machine, and for operations of a store that are given up after a quarter of a second each."""


def fails(*_: Any) -> Any:
    raise OSError("no")


def hangs(*_: Any) -> Any:
    time.sleep(60)


def constant(value: object) -> Callable[..., Any]:
    return lambda *_: value


LIES: dict[str, tuple[str, Callable[..., Any], float, float]] = {
    # the lie: the method, what it does, seconds for the first token and for the next
    "load finds nothing": ("load", constant(None), SOON, SOON),
    "load returns rubbish": ("load", constant(b"rubbish"), SOON, SOON),
    "load returns too much": ("load", constant(bytes(1 << 21)), SOON, SOON),
    "load returns a string": ("load", constant("text"), SOON, SOON),
    "load fails": ("load", fails, SOON, SOON),
    "load hangs": ("load", hangs, SOON, SOON),
    "a claim that never ends": ("claim", constant(False), BELIEVED + SOON, SOON),
    "everyone has the claim": ("claim", constant(True), SOON, SOON),
    "claim fails": ("claim", fails, SOON, SOON),
    "claim hangs": ("claim", hangs, SOON, SOON),
    "save says that it saved": ("save", constant(True), SOON, SOON),
    "save says that it did not": ("save", constant(False), SOON, SOON),
    "save fails": ("save", fails, SOON, SOON),
    "save hangs": ("save", hangs, SOON, SOON),
    "release does nothing": ("release", constant(None), SOON, SOON),
    "release fails": ("release", fails, SOON, SOON),
    "release hangs": ("release", hangs, SOON, SOON),
}


def in_this_process() -> Any:
    return SimulatedStore(time.monotonic)


@pytest.fixture(autouse=True)
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "LEASE", LEASE)


def test_the_times_of_a_claim() -> None:
    """A claim is believed for three seconds, and a new holder gives its sign of life in that time."""
    assert REAL_LEASE * (1 + fleet.DOUBT) <= 3.0, "docs/sharing.md"
    assert fleet.FIRST_LOOK < fleet.LONGEST_LOOK
    assert fleet.LONGEST_LOOK + REAL_LEASE / 3 <= REAL_LEASE * fleet.DOUBT
    assert fleet.DISTRUST >= 60.0


def seconds_for_a_token(app: ServiceApp) -> float:
    began = time.monotonic()
    assert OktaAuth(app).token().value
    return time.monotonic() - began


@pytest.mark.parametrize("lie", LIES)
def test_a_store_that_lies_costs_a_bounded_time(okta: FakeOkta, new_service: Service, lie: str) -> None:
    method, does, first, later = LIES[lie]
    store = in_this_process()
    setattr(store, method, does)
    app = new_service(okta, store=store, origins=["https://api.example"])
    assert seconds_for_a_token(app) < first
    token = app.token_state.token
    assert token is not None
    app.token_state.rejected(token, okta.url, app.token_state.now())  # so that the next caller waits for another
    began = time.monotonic()
    OktaAuth(app).headers("GET", okta.url)
    assert time.monotonic() - began < later
    assert okta.tokens_minted == 2


@pytest.mark.parametrize("copied", ["the same", "of another key", "an old one"])
def test_a_copied_sign_of_life_keeps_nobody_waiting(okta: FakeOkta, new_service: Service, copied: str) -> None:
    store = in_this_process()
    app = new_service(okta, store=store, seal_with=[SECRET])
    assert app.fleet is not None
    place = app.fleet._places(())[0]
    key, load, asked = place.key + fleet.SIGN_OF_LIFE, store.load, 0

    def replays(wanted: str) -> bytes | None:
        nonlocal asked
        if wanted != key:
            return load(wanted)
        asked += 1
        given = {"the same": 1.0, "of another key": asked, "an old one": asked - fleet.DISTRUST - 60}[copied]
        sealed_for = "another" if copied == "of another key" else key
        return place.seal.seal(sealed_for, str(okta_now + given).encode())

    okta_now = time.time()
    store.load, store.claim = replays, constant(False)
    assert seconds_for_a_token(app) < BELIEVED + SOON
    assert asked >= 2


@pytest.mark.matrix
def test_a_claim_that_never_ends_delays_no_renewal_beyond_a_lease(okta: FakeOkta, new_service: Service) -> None:
    """The token is replaced while it still works, so that no call waits for it."""
    okta.token_lifetime = 6
    store = in_this_process()
    app = new_service(okta, store=store)
    seconds_for_a_token(app)
    store.claim = constant(False)
    until = time.monotonic() + 6 + BELIEVED + SOON
    slowest = 0.0
    while time.monotonic() < until:
        slowest = max(slowest, seconds_for_a_token(app))
        time.sleep(0.02)
    assert okta.tokens_minted > 1
    assert slowest < BELIEVED + SOON


def test_a_live_holder_is_waited_for_longer_than_a_lease(okta: FakeOkta, new_service: Service, ec_key: Any) -> None:
    store = in_this_process()
    one = new_service(okta, store=store)
    other = ServiceApp(okta.url, client_id=one.client_id, key=ec_key, scopes=one.scopes, store=store)
    answering = threading.Event()

    def slow(*arguments: Any) -> Any:
        answering.wait(3.5 * LEASE)
        return send(*arguments)

    send = OktaAuth(one)._send
    holder = threading.Thread(target=OktaAuth(one, send=slow).token)
    holder.start()
    time.sleep(LEASE / 5)
    assert seconds_for_a_token(other) > 2 * LEASE
    holder.join()
    assert okta.tokens_minted == 1


@pytest.mark.matrix
def test_once_a_token_was_found_the_next_claim_is_believed_for_a_whole_lease(
    okta: FakeOkta, new_service: Service, ec_key: Any
) -> None:
    store = in_this_process()
    one = new_service(okta, store=store)
    other = ServiceApp(okta.url, client_id=one.client_id, key=ec_key, scopes=one.scopes, store=store)
    okta.next(delay=LEASE / 2)
    holder = threading.Thread(target=OktaAuth(one).token)
    holder.start()
    time.sleep(LEASE / 5)
    assert seconds_for_a_token(other) < LEASE
    holder.join()
    assert okta.tokens_minted == 1
    time.sleep(LEASE)
    token = other.token_state.token
    assert token is not None
    other.token_state.rejected(token, okta.url, other.token_state.now())
    store.claim = constant(False)  # as after the death of its holder
    began = time.monotonic()
    OktaAuth(other).headers("GET", okta.url)
    assert time.monotonic() - began > LEASE


SECRET = bytes(range(32))
