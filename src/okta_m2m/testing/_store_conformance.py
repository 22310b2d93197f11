"""A test suite for your own stores.

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self):
            return MyStore("localhost")

Invariant: every test uses new keys, so the store may be shared and need not be empty. Tests do not depend on
how long anything takes, except that leases and values expire eventually.
"""

from __future__ import annotations

import inspect
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

LONG = 3600.0  # seconds; longer than any test takes
SHORT = 0.05  # seconds; a test waits until they have passed
PATIENCE = 30.0  # seconds after which a test stops waiting and fails
CROWD = 32  # owners that claim at the same time


class StoreConformance:
    """Each test checks one promise of :class:`okta_m2m.stores.Store`. Subclass it and define a fixture ``store``."""

    @pytest.fixture
    def store(self) -> Any:
        """The store under test. Define this fixture in a subclass."""
        raise NotImplementedError(
            f"{type(self).__name__} has no fixture named store. Define one that returns the store."
        )

    @pytest.fixture
    def calls(self, store: Any) -> _Calls:
        """The store's methods. They fail the test if they return an awaitable."""
        return _Calls(store)

    @pytest.fixture
    def key(self) -> str:
        """A key that has never been used before."""
        return _new_key()

    # ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def test_a_key_under_which_nothing_was_saved_has_no_value(self, calls: _Calls, key: str) -> None:
        _require(calls.load(key) is None, "load of a key under which nothing was saved must return None")

    def test_what_is_saved_is_loaded_byte_for_byte(self, calls: _Calls, key: str) -> None:
        for value in (bytes(range(256)), b"\r\n\r\n", b"\0", "é".encode("latin-1"), b"x" * 60_000):
            calls.save_as_one(key, value)
            _require(calls.load(key) == value, f"load must return the {len(value)} bytes that were saved")

    def test_a_later_value_replaces_an_earlier_one(self, calls: _Calls, key: str) -> None:
        calls.save_as_one(key, b"a longer value that comes first")
        calls.save_as_one(key, b"later")
        _require(calls.load(key) == b"later", "a later save must replace the value")

    def test_a_value_ends_after_its_ttl(self, calls: _Calls, key: str) -> None:
        calls.save_as_one(key, b"short", SHORT)
        _wait_until(lambda: calls.load(key) is None, f"a value saved for {SHORT} seconds must expire")

    def test_a_later_value_has_a_ttl_of_its_own(self, calls: _Calls, key: str) -> None:
        witness = _new_key()
        calls.save_as_one(key, b"short", SHORT)
        calls.save_as_one(key, b"long", LONG)
        calls.save_as_one(witness, b"short", SHORT)
        _wait_until(lambda: calls.load(witness) is None, f"a value saved for {SHORT} seconds must expire")
        _require(calls.load(key) == b"long", "a later save must replace the ttl together with the value")

    def test_a_value_outlives_the_claim_under_which_it_was_saved(self, calls: _Calls, key: str) -> None:
        calls.save_as_one(key, b"value")
        calls.release(key, "one")
        _require(calls.load(key) == b"value", "release must not change the value")
        calls.claim(key, "two", SHORT)
        _wait_until(lambda: calls.claim(key, "three", LONG), f"a claim for {SHORT} seconds must expire")
        _require(calls.load(key) == b"value", "the end of a claim must not change the value")

    def test_keys_may_be_any_string_and_are_kept_apart(self, calls: _Calls, key: str) -> None:
        keys = [
            key,
            key.upper(),
            key + " ",
            f"{{{key}}}",
            f"}}{key}{{",
            f"{key}/../{key}",
            f"{key}\0\r\n",
            f"{key}:value",
            f"{key}*?[a-z]%s",
            f"{key}ä\N{GREEK SMALL LETTER OMEGA}\N{GRINNING FACE}",
            key * 50,
        ]
        for number, odd in enumerate(keys):
            calls.save_as_one(odd, f"value {number}".encode())
        for number, odd in enumerate(keys):
            _require(
                calls.load(odd) == f"value {number}".encode(), f"the key {odd!r} must have the value saved under it"
            )

    # ── claims ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def test_a_claim_keeps_others_out(self, calls: _Calls, key: str) -> None:
        _require(calls.claim(key, "one", LONG), "claim of a free key must return True")
        _require(not calls.claim(key, "two", LONG), "claim of a key that another owner holds must return False")

    def test_a_claim_concerns_no_other_key(self, calls: _Calls, key: str) -> None:
        calls.claim(key, "one", LONG)
        _require(calls.claim(_new_key(), "two", LONG), "a claim must not keep others from another key")

    def test_a_claim_ends_after_its_ttl(self, calls: _Calls, key: str) -> None:
        calls.claim(key, "one", SHORT)
        _wait_until(lambda: calls.claim(key, "two", LONG), f"a claim for {SHORT} seconds must expire")

    def test_the_owner_extends_a_claim_by_claiming_again(self, calls: _Calls, key: str) -> None:
        witness = _new_key()
        calls.claim(key, "one", SHORT)
        _require(calls.claim(key, "one", LONG), "the owner must be able to claim again")
        calls.claim(witness, "one", SHORT)
        _wait_until(lambda: calls.claim(witness, "two", LONG), f"a claim for {SHORT} seconds must expire")
        _require(not calls.claim(key, "two", LONG), "a claim that its owner renewed must last for the new ttl")

    def test_release_frees_the_claim(self, calls: _Calls, key: str) -> None:
        calls.claim(key, "one", LONG)
        calls.release(key, "one")
        _require(calls.claim(key, "two", LONG), "a claim that was released must be free")

    def test_release_by_another_owner_does_nothing(self, calls: _Calls, key: str) -> None:
        calls.claim(key, "one", LONG)
        calls.release(key, "two")
        _require(not calls.claim(key, "two", LONG), "release must not end another owner's claim")
        _require(calls.claim(key, "one", LONG), "release by another owner must leave the claim as it is")

    def test_release_where_there_is_no_claim_does_nothing(self, calls: _Calls, key: str) -> None:
        calls.release(key, "one")
        _require(calls.claim(key, "two", LONG), "a claim that no one holds must be free")

    def test_of_a_crowd_that_claims_at_once_exactly_one_wins(self, calls: _Calls) -> None:
        for _ in range(5):
            key = _new_key()
            won = calls.crowd_claims(key)
            _require(
                won.count(True) == 1, f"{won.count(True)} of {CROWD} owners got the same claim; exactly one must get it"
            )

    # ── the fence ────────────────────────────────────────────────────────────────────────────────────────────────────

    def test_without_a_claim_nothing_is_saved(self, calls: _Calls, key: str) -> None:
        _require(not calls.save(key, b"value", LONG, "one"), "save without a claim must return False")
        _require(calls.load(key) is None, "save without a claim must store nothing")

    def test_under_anothers_claim_nothing_is_saved(self, calls: _Calls, key: str) -> None:
        calls.save_as_one(key, b"value")
        _require(not calls.save(key, b"other", LONG, "two"), "save under another's claim must return False")
        _require(calls.load(key) == b"value", "save under another's claim must leave the value as it is")

    def test_after_the_claim_was_released_nothing_is_saved(self, calls: _Calls, key: str) -> None:
        calls.claim(key, "one", LONG)
        calls.release(key, "one")
        _require(not calls.save(key, b"value", LONG, "one"), "save after release must return False")
        _require(calls.load(key) is None, "save after release must store nothing")

    def test_after_the_claim_ended_nothing_is_saved(self, calls: _Calls, key: str) -> None:
        calls.claim(key, "one", SHORT)
        _wait_until(lambda: not calls.save(key, b"late", LONG, "one"), f"a claim for {SHORT} seconds must expire")

    def test_an_owner_that_lost_its_claim_does_not_overwrite_its_successor(self, calls: _Calls, key: str) -> None:
        calls.claim(key, "one", SHORT)
        _wait_until(lambda: calls.claim(key, "two", LONG), f"a claim for {SHORT} seconds must expire")
        _require(calls.save(key, b"newer", LONG, "two"), "save by the owner of the claim must return True")
        _require(not calls.save(key, b"older", LONG, "one"), "save by a former owner must return False")
        _require(calls.load(key) == b"newer", "save by a former owner must leave the value as it is")

    def test_saving_keeps_the_claim(self, calls: _Calls, key: str) -> None:
        calls.save_as_one(key, b"value")
        _require(not calls.claim(key, "two", LONG), "save must leave the claim as it is")

    # ── threads ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def test_each_method_may_be_called_in_any_thread_and_returns_its_result(self, calls: _Calls, key: str) -> None:
        for call in (
            lambda: calls.claim(key, "one", LONG),
            lambda: calls.save(key, b"value", LONG, "one"),
            lambda: calls.load(key),
            lambda: calls.release(key, "one"),
        ):
            with ThreadPoolExecutor(1) as thread:
                thread.submit(call).result()


class _Calls:
    """The store's methods, each of which must return its result and not an awaitable."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def load(self, key: str) -> Any:
        return self._call("load", key)

    def save(self, key: str, value: bytes, ttl: float, owner: str) -> Any:
        return self._call("save", key, value, ttl, owner)

    def claim(self, key: str, owner: str, ttl: float) -> Any:
        return self._call("claim", key, owner, ttl)

    def release(self, key: str, owner: str) -> None:
        self._call("release", key, owner)

    def save_as_one(self, key: str, value: bytes, ttl: float = LONG) -> None:
        """Saves as the owner ``one``, which keeps its claim."""
        _require(self.claim(key, "one", LONG), "claim of a key that is free or the owner's own must return True")
        _require(self.save(key, value, ttl, "one"), "save by the owner of the claim must return True")

    def crowd_claims(self, key: str) -> list[bool]:
        """The results of many owners that claim at the same time, each in its own thread."""
        together = threading.Barrier(CROWD)

        def claim(number: int) -> bool:
            together.wait()
            won: bool = self.claim(key, f"{number}", LONG)
            return won

        with ThreadPoolExecutor(CROWD) as threads:
            return list(threads.map(claim, range(CROWD)))

    def _call(self, name: str, *arguments: Any) -> Any:
        answer = getattr(self._store, name)(*arguments)
        if inspect.iscoroutine(answer):
            answer.close()  # otherwise Python warns that it was never awaited
        _require(
            not inspect.isawaitable(answer),
            f"{name} returned an awaitable. Write it as a plain function that blocks: it is called in threads.",
        )
        return answer


def _new_key() -> str:
    return f"conformance-{uuid.uuid4()}"


def _require(condition: object, promise: str) -> None:
    # Not an assert statement: outside the tests' own files pytest would not report its values.
    if not condition:
        raise AssertionError(promise)


def _wait_until(condition: Callable[[], object], promise: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        _require(time.monotonic() < deadline, promise)
        time.sleep(SHORT / 10)
