"""Flows without any I/O: ``replay(flow, *answers)`` steps one with the answers of a script, and says what it asked for.

    replayed = replay(app.obtain(), Response(503), Response(200, (), b'{"access_token": ...}'))
    assert [type(effect) for effect in replayed.effects] == [Spawn, Sign, Send, Sleep, Sign, Send]
    assert replayed.result().token_type == "Bearer"

Invariant: nothing is sent and no time passes; a flow that is left over has been closed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..effects import Discard, Effect, Flow, Sign, Sleep, Snapshot, Spawn

__all__ = ["Replayed", "replay"]

T = TypeVar("T")


@dataclass(frozen=True)
class Replayed(Generic[T]):
    """What became of a flow.

    - ``effects``: everything it asked for, in order; of a flow that was not ``finished`` the last has no answer.
    - ``value``: what it returned. ``error``: what it raised.
    """

    effects: tuple[Effect[Any], ...]
    finished: bool
    value: T | None = field(default=None, repr=False)
    error: BaseException | None = None

    def result(self) -> T:
        """What the flow returned; raises what it raised, and ``LookupError`` if the script ended before it did."""
        if self.error is not None:
            raise self.error
        if not self.finished:
            raise LookupError(f"the script ended where the flow asked for {self.effects[-1]!r}")
        return self.value  # type: ignore[return-value]  # None only where that is what it returned

    def of(self, *kinds: type[Effect[Any]]) -> list[Any]:
        """The effects of those kinds, in order."""
        return [effect for effect in self.effects if isinstance(effect, kinds)]


def replay(
    flow: Flow[T],
    *answers: object,
    sleep: Callable[[float], object] = lambda seconds: None,
    spawn: Callable[[Spawn], object] = lambda effect: None,
) -> Replayed[T]:
    """Steps ``flow`` to its end, or to where ``answers`` end.

    Each answer is for one effect, in order: a value, an exception to be raised there, or a function that is called with
    the effect and gives either. What needs no script is answered without one: ``Sign`` by the signer, ``Snapshot`` by
    its ``snapshot``, ``Discard`` with nothing; ``Sleep`` by calling ``sleep`` with the seconds (put a simulated clock
    forward there). A ``Spawn`` that somebody waits for is answered with ``False``, so that the flow does it itself, and its
    effects follow; for any other, ``spawn`` is called (which may keep the flow, or replay it).

    Raises ``LookupError`` if answers are left over.
    """
    script = list(answers)
    effects: list[Effect[Any]] = []
    try:
        effect = next(flow)
        while True:
            effects.append(effect)
            if isinstance(effect, Sign | Snapshot | Sleep | Spawn | Discard):
                answer = _unscripted(effect, sleep, spawn)
            elif script:
                answer = script.pop(0)
                if callable(answer):
                    answer = answer(effect)
            else:
                flow.close()
                return Replayed(tuple(effects), finished=False)
            effect = flow.throw(answer) if isinstance(answer, BaseException) else flow.send(answer)
    except StopIteration as stop:
        replayed: Replayed[T] = Replayed(tuple(effects), finished=True, value=stop.value)
    except Exception as error:  # noqa: BLE001 (it is what the script is about)
        replayed = Replayed(tuple(effects), finished=True, error=error)
    if script:
        raise LookupError(
            f"{len(script)} answers are left over: the flow asked for {[type(one).__name__ for one in effects]}"
        )
    return replayed


def _unscripted(effect: Effect[Any], sleep: Callable[[float], object], spawn: Callable[[Spawn], object]) -> object:
    match effect:
        case Sign(signer, message):
            try:
                return signer.sign(message)
            except Exception as error:  # noqa: BLE001 (the flow's to judge, as at run time)
                return error
        case Snapshot(signer):
            return signer.snapshot()  # type: ignore[attr-defined]  # yielded only for signers that have it
        case Sleep(seconds):
            sleep(seconds)
        case Spawn(awaited=awaited):
            if not awaited:
                spawn(effect)
            return not awaited
    return None
