"""The suite that a store of your own can be run against.

Invariant: every test uses keys that nobody used before, so the store may be shared, and need not be empty; and no test
depends on how long anything takes, only on leases and values ending at last.

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self):
            return MyStore("localhost")
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

__all__ = ["StoreConformance"]

LONG = 3600.0  # seconds: longer than a test takes
SHORT = 0.05  # seconds: what a test waits for the end of
PATIENCE = 30.0  # seconds after which an end that has not come is taken as one that will not
CROWD = 32


class StoreConformance:
    """What :class:`okta_m2m.stores.Store` promises, one test each. Subclass it, and give it a fixture ``store``.

    - ``in_event_loop = True`` calls the store inside a running asyncio loop, one per test: for a store that has
      ``on_loop``. Otherwise its methods are called without a loop, and what is awaitable is awaited in one.
    - The fixture ``runner`` is the :class:`asyncio.Runner` of that loop: for a ``store`` that must be closed on it.
    """

    in_event_loop: ClassVar[bool] = False

    @pytest.fixture
    def store(self) -> Any:
        """The store under test, for a subclass to make."""
        raise NotImplementedError(
            f"{type(self).__name__} has no fixture named store. Define one that returns the store."
        )

    @pytest.fixture
    def runner(self) -> Iterator[asyncio.Runner]:
        """Runs what is awaitable, for one test in one loop."""
        with asyncio.Runner() as runner:
            yield runner

    @pytest.fixture
    def asked(self, store: Any, runner: asyncio.Runner) -> _Asked:
        """The store, with answers that are there."""
        return _Asked(store, runner, self.in_event_loop)

    @pytest.fixture
    def key(self) -> str:
        """A key that was never used."""
        return _new_key()

    # ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def test_a_key_under_which_nothing_was_saved_has_no_value(self, asked: _Asked, key: str) -> None:
        _holds(asked.load(key) is None, "load of a key under which nothing was saved must answer None")

    def test_what_is_saved_is_loaded_byte_for_byte(self, asked: _Asked, key: str) -> None:
        for value in (bytes(range(256)), b"\r\n\r\n", b"\0", "é".encode("latin-1"), b"x" * 60_000):
            asked.saved(key, value)
            _holds(asked.load(key) == value, f"load must answer with the {len(value)} bytes that were saved")

    def test_a_later_value_replaces_an_earlier_one(self, asked: _Asked, key: str) -> None:
        asked.saved(key, b"a longer value that comes first")
        asked.saved(key, b"later")
        _holds(asked.load(key) == b"later", "a later save must replace the value")

    def test_a_value_ends_after_its_ttl(self, asked: _Asked, key: str) -> None:
        asked.saved(key, b"short", SHORT)
        _in_the_end(lambda: asked.load(key) is None, f"a value saved for {SHORT} seconds must end")

    def test_a_later_value_has_a_ttl_of_its_own(self, asked: _Asked, key: str) -> None:
        witness = _new_key()
        asked.saved(key, b"short", SHORT)
        asked.saved(key, b"long", LONG)
        asked.saved(witness, b"short", SHORT)
        _in_the_end(lambda: asked.load(witness) is None, f"a value saved for {SHORT} seconds must end")
        _holds(asked.load(key) == b"long", "a later save must replace the ttl together with the value")

    def test_a_value_outlives_the_claim_under_which_it_was_saved(self, asked: _Asked, key: str) -> None:
        asked.saved(key, b"value")
        asked.release(key, "one")
        _holds(asked.load(key) == b"value", "release must not touch the value")
        asked.claim(key, "two", SHORT)
        _in_the_end(lambda: asked.claim(key, "three", LONG), f"a claim for {SHORT} seconds must end")
        _holds(asked.load(key) == b"value", "the end of a claim must not touch the value")

    def test_keys_may_be_any_text_and_are_kept_apart(self, asked: _Asked, key: str) -> None:
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
            asked.saved(odd, f"value {number}".encode())
        for number, odd in enumerate(keys):
            _holds(asked.load(odd) == f"value {number}".encode(), f"the key {odd!r} must have the value saved under it")

    # ── claims ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def test_a_claim_keeps_others_out(self, asked: _Asked, key: str) -> None:
        _holds(asked.claim(key, "one", LONG), "a free claim must be given")
        _holds(not asked.claim(key, "two", LONG), "a claim that is held must not be given to another owner")

    def test_a_claim_concerns_no_other_key(self, asked: _Asked, key: str) -> None:
        asked.claim(key, "one", LONG)
        _holds(asked.claim(_new_key(), "two", LONG), "a claim must not keep others from another key")

    def test_a_claim_ends_after_its_ttl(self, asked: _Asked, key: str) -> None:
        asked.claim(key, "one", SHORT)
        _in_the_end(lambda: asked.claim(key, "two", LONG), f"a claim for {SHORT} seconds must end")

    def test_the_owner_extends_a_claim_by_claiming_again(self, asked: _Asked, key: str) -> None:
        witness = _new_key()
        asked.claim(key, "one", SHORT)
        _holds(asked.claim(key, "one", LONG), "the owner must be able to claim again")
        asked.claim(witness, "one", SHORT)
        _in_the_end(lambda: asked.claim(witness, "two", LONG), f"a claim for {SHORT} seconds must end")
        _holds(not asked.claim(key, "two", LONG), "a claim that was extended must last for the new ttl")

    def test_release_frees_the_claim(self, asked: _Asked, key: str) -> None:
        asked.claim(key, "one", LONG)
        asked.release(key, "one")
        _holds(asked.claim(key, "two", LONG), "a claim that was released must be free")

    def test_release_by_another_owner_does_nothing(self, asked: _Asked, key: str) -> None:
        asked.claim(key, "one", LONG)
        asked.release(key, "two")
        _holds(not asked.claim(key, "two", LONG), "release must not end another owner's claim")
        _holds(asked.claim(key, "one", LONG), "release by another must leave the claim the owner's")

    def test_release_where_there_is_no_claim_does_nothing(self, asked: _Asked, key: str) -> None:
        asked.release(key, "one")
        _holds(asked.claim(key, "two", LONG), "a claim that nobody holds must be free")

    def test_of_a_crowd_that_claims_at_once_exactly_one_wins(self, asked: _Asked) -> None:
        for _ in range(5):
            key = _new_key()
            won = asked.crowd_claims(key)
            _holds(won.count(True) == 1, f"{won.count(True)} of {CROWD} owners got one claim; it must be one")

    # ── the fence ────────────────────────────────────────────────────────────────────────────────────────────────────

    def test_without_a_claim_nothing_is_saved(self, asked: _Asked, key: str) -> None:
        _holds(not asked.save(key, b"value", LONG, "one"), "save without a claim must answer False")
        _holds(asked.load(key) is None, "save without a claim must store nothing")

    def test_under_anothers_claim_nothing_is_saved(self, asked: _Asked, key: str) -> None:
        asked.saved(key, b"value")
        _holds(not asked.save(key, b"other", LONG, "two"), "save under another's claim must answer False")
        _holds(asked.load(key) == b"value", "save under another's claim must leave the value as it is")

    def test_after_the_claim_was_released_nothing_is_saved(self, asked: _Asked, key: str) -> None:
        asked.claim(key, "one", LONG)
        asked.release(key, "one")
        _holds(not asked.save(key, b"value", LONG, "one"), "save after release must answer False")
        _holds(asked.load(key) is None, "save after release must store nothing")

    def test_after_the_claim_ended_nothing_is_saved(self, asked: _Asked, key: str) -> None:
        asked.claim(key, "one", SHORT)
        _in_the_end(lambda: not asked.save(key, b"late", LONG, "one"), f"a claim for {SHORT} seconds must end")

    def test_an_owner_that_lost_its_claim_does_not_overwrite_its_successor(self, asked: _Asked, key: str) -> None:
        asked.claim(key, "one", SHORT)
        _in_the_end(lambda: asked.claim(key, "two", LONG), f"a claim for {SHORT} seconds must end")
        _holds(asked.save(key, b"newer", LONG, "two"), "save by the owner of the claim must answer True")
        _holds(not asked.save(key, b"older", LONG, "one"), "save by a former owner must answer False")
        _holds(asked.load(key) == b"newer", "save by a former owner must leave the value as it is")

    def test_saving_keeps_the_claim(self, asked: _Asked, key: str) -> None:
        asked.saved(key, b"value")
        _holds(not asked.claim(key, "two", LONG), "save must leave the claim the owner's")

    # ── event loops ──────────────────────────────────────────────────────────────────────────────────────────────────

    def test_in_an_event_loop_it_answers_as_its_on_loop_says(self, asked: _Asked, key: str) -> None:
        if getattr(asked.store, "on_loop", False):
            _holds(
                asked.awaitable_on_a_loop(key),
                "a store with on_loop must answer with awaitables in a running asyncio loop",
            )
        elif self.in_event_loop:
            raise AssertionError(
                "in_event_loop is for a store that has on_loop = True; without it nobody calls it there"
            )


class _Asked:
    """The store's methods as plain calls, whatever kind of answer they give."""

    def __init__(self, store: Any, runner: asyncio.Runner, in_event_loop: bool) -> None:
        self.store = store
        self._runner = runner
        self._in_event_loop = in_event_loop

    def load(self, key: str) -> Any:
        return self._answer(self.store.load, key)

    def save(self, key: str, value: bytes, ttl: float, owner: str) -> Any:
        return self._answer(self.store.save, key, value, ttl, owner)

    def claim(self, key: str, owner: str, ttl: float) -> Any:
        return self._answer(self.store.claim, key, owner, ttl)

    def release(self, key: str, owner: str) -> None:
        self._answer(self.store.release, key, owner)

    def saved(self, key: str, value: bytes, ttl: float = LONG) -> None:
        """Saves as the owner ``one``, who keeps the claim."""
        _holds(self.claim(key, "one", LONG), "a claim that is free or the owner's own must be given")
        _holds(self.save(key, value, ttl, "one"), "save by the owner of the claim must answer True")

    def crowd_claims(self, key: str) -> list[bool]:
        """What each of a crowd of owners is answered that claim at the same time: threads, or tasks where there is a loop."""
        probe = None if self._in_event_loop else self.store.load(key)
        if self._in_event_loop or inspect.isawaitable(probe):

            async def crowd() -> list[bool]:
                if probe is not None:
                    await probe
                return list(await asyncio.gather(*(self.store.claim(key, f"{n}", LONG) for n in range(CROWD))))

            return self._runner.run(crowd())
        together = threading.Barrier(CROWD)

        def claim(number: int) -> bool:
            together.wait()
            won: bool = self.store.claim(key, f"{number}", LONG)
            return won

        with ThreadPoolExecutor(CROWD) as threads:
            return list(threads.map(claim, range(CROWD)))

    def awaitable_on_a_loop(self, key: str) -> bool:
        """Whether every method answers with something awaitable in a running loop."""

        async def called() -> bool:
            answers = [
                self.store.claim(key, "one", LONG),
                self.store.save(key, b"value", LONG, "one"),
                self.store.load(key),
                self.store.release(key, "one"),
            ]
            awaitable = [answer for answer in answers if inspect.isawaitable(answer)]
            for answer in awaitable:
                await answer
            return len(awaitable) == len(answers)

        return self._runner.run(called())

    def _answer(self, method: Callable[..., Any], *arguments: Any) -> Any:
        async def called() -> Any:
            return await _awaited(method(*arguments))

        if self._in_event_loop:
            return self._runner.run(called())
        answer = method(*arguments)
        return self._runner.run(_awaited(answer)) if inspect.isawaitable(answer) else answer


async def _awaited(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


def _new_key() -> str:
    return f"conformance-{uuid.uuid4()}"


def _holds(kept: object, promise: str) -> None:
    # Not the assert statement: pytest would say nothing of one that is in a package outside the tests.
    if not kept:
        raise AssertionError(promise)


def _in_the_end(came: Callable[[], object], promise: str) -> None:
    patience = time.monotonic() + PATIENCE
    while not came():
        _holds(time.monotonic() < patience, promise)
        time.sleep(SHORT / 10)
