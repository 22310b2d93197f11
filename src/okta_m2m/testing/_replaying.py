"""Runs a flow without any I/O: ``replay(flow, *answers)`` gives it scripted answers and returns the effects it yielded.

    replayed = replay(app.obtain(), Response(503), Response(200, (), b'{"access_token": ...}'))
    assert [type(effect) for effect in replayed.effects] == [Spawn, Sign, StartSend, Send, Sleep, Sign, StartSend, Send]
    assert replayed.result().token_type == "Bearer"

Invariant: nothing is sent, no time passes, and a flow that did not finish is closed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..effects import Discard, Effect, Flow, Sign, Sleep, Snapshot, Spawn, StartSend

T = TypeVar("T")


@dataclass(frozen=True)
class Replayed(Generic[T]):
    """The outcome of :func:`replay`.

    - ``effects``: the effects that the flow yielded, in order. If it did not finish, the last one has no answer.
    - ``finished``: whether the flow returned or raised.
    - ``value``: the value that the flow returned; ``None`` if it did not return.
    - ``error``: the exception that the flow raised; ``None`` if it did not raise.
    """

    effects: tuple[Effect[Any], ...]
    finished: bool
    value: T | None = field(default=None, repr=False)
    error: BaseException | None = None

    def result(self) -> T:
        """Returns the value that the flow returned, or raises the exception that it raised.

        Raises ``LookupError`` if the script ended before the flow did.
        """
        if self.error is not None:
            raise self.error
        if not self.finished:
            raise LookupError(f"The script ended before the flow did: it has no answer to {self.effects[-1]!r}.")
        return self.value  # type: ignore[return-value]  # None only if the flow returned None

    def of(self, *kinds: type[Effect[Any]]) -> list[Any]:
        """The effects of these types, in order.

        - ``kinds``: the types.
        """
        return [effect for effect in self.effects if isinstance(effect, kinds)]


def replay(
    flow: Flow[T],
    *answers: object,
    sleep: Callable[[float], object] = lambda seconds: None,
    spawn: Callable[[Spawn], object] = lambda effect: None,
) -> Replayed[T]:
    """Runs ``flow`` until it ends, or until an effect has no scripted answer.

    - ``flow``: the flow: ``app.obtain()``.
    - ``answers``: one answer for each effect that needs one, in order: a value, an exception to raise in the flow, or a
      function that is called with the effect and returns either.
    - ``sleep``: called with the seconds of each ``Sleep``; does nothing by default. Advance a simulated clock in it.
    - ``spawn``: called with each ``Spawn`` that no caller waits for; does nothing by default. It may keep the flow, or replay
      it. A ``Spawn`` that a caller waits for is answered with ``False``, so that the flow runs it itself.

    These effects need no answer in the script: the signer answers ``Sign`` and ``Snapshot``, ``sleep`` performs ``Sleep``,
    ``spawn`` performs ``Spawn``, and nothing happens for ``Discard``. ``StartSend`` is answered with ``None``, so that the flow
    yields a ``Send``.

    Raises ``LookupError`` if answers are left over.
    """
    script = list(answers)
    effects: list[Effect[Any]] = []
    try:
        effect = next(flow)
        while True:
            effects.append(effect)
            if isinstance(effect, Sign | Snapshot | Sleep | Spawn | StartSend | Discard):
                answer = _perform(effect, sleep, spawn)
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
    except Exception as error:  # noqa: BLE001 (returned as the outcome)
        replayed = Replayed(tuple(effects), finished=True, error=error)
    if script:
        raise LookupError(f"Answers left over: {len(script)}. The flow yielded {_summarize(effects)}.")
    return replayed


def _perform(effect: Effect[Any], sleep: Callable[[float], object], spawn: Callable[[Spawn], object]) -> object:
    try:
        match effect:
            case Sign(signer, message):
                return signer.sign(message)
            case Snapshot(signer):
                return signer.snapshot()  # type: ignore[attr-defined]  # yielded only for signers that have snapshot()
    except Exception as error:  # noqa: BLE001 (raised in the flow, as by a runtime)
        return error
    match effect:
        case Sleep(seconds):
            sleep(seconds)
        case Spawn(awaited=awaited):
            if not awaited:
                spawn(effect)
            return not awaited
    return None


def _summarize(effects: list[Effect[Any]]) -> str:
    """The kinds of effects in the order of their first occurrence, each with its number."""
    numbers = Counter(type(effect).__name__ for effect in effects)
    counted = [kind if number == 1 else f"{kind} ×{number}" for kind, number in numbers.items()]  # noqa: RUF001
    return ", ".join(counted) or "nothing"
