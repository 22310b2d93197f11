"""Runs flows: steps them, has a runtime perform their effects, and hands the rest to the adapter.

``advance`` and ``aadvance`` step a flow, performing its effects, until it asks for something that only the adapter can
do (``Attempt``, ``Peek``, ``Discard``), which they return; or until it is done. The adapter calls again with the
answer. ``run`` and ``arun`` are for flows that ask for no such thing.

Invariant: no policy in here. And whatever ends a step, a flow that was abandoned has been closed.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

from .._core.records import Record
from ..effects import Attempt, Discard, Effect, Flow, Peek, Request, Response
from ..errors import ConfigurationError, ErrorMap, OktaM2MError

__all__ = ["AsyncSender", "Done", "Sender", "aadvance", "advance", "arun", "run"]

logger = logging.getLogger("okta_m2m")

T = TypeVar("T")
Sender = Callable[[Request, float], Response]
"""Sends our own request within so many seconds; raises :class:`~okta_m2m.effects.SendFailed` if no answer came."""
AsyncSender = Callable[[Request, float], Awaitable[Response]]


class Done(Record, Generic[T]):
    """A flow's end, and what it returned."""

    value: T


AdapterEffect = Attempt | Peek | Discard


class Runtime(Protocol):
    """What performs effects and may block its thread to do so; ``error_map`` are the exceptions its client's users catch."""

    error_map: ErrorMap

    def perform(self, effect: Effect[Any]) -> Any: ...


class AsyncRuntime(Protocol):
    """What performs effects and never blocks its event loop."""

    error_map: ErrorMap

    async def perform(self, effect: Effect[Any]) -> Any: ...


def advance(flow: Flow[T], runtime: Runtime, answer: object = None) -> AdapterEffect | Done[T]:
    """Resumes a flow with ``answer`` (``None`` to begin it), up to the adapter's next effect or the end."""
    try:
        effect = flow.send(answer)
        while not isinstance(effect, AdapterEffect):
            try:
                answer = runtime.perform(effect)
            except BaseException as failure:  # noqa: BLE001 (it belongs to the flow, cancellation included)
                effect = flow.throw(failure)
            else:
                effect = flow.send(answer)
        return effect
    except StopIteration as stop:
        return Done(stop.value)
    except OktaM2MError as error:
        raise error.as_library_error(runtime.error_map).with_traceback(error.__traceback__) from error.__cause__


async def aadvance(flow: Flow[T], runtime: AsyncRuntime, answer: object = None) -> AdapterEffect | Done[T]:
    """The same on an event loop."""
    try:
        effect = flow.send(answer)
        while not isinstance(effect, AdapterEffect):
            try:
                answer = await runtime.perform(effect)
            except BaseException as failure:  # noqa: BLE001 (it belongs to the flow, cancellation included)
                effect = flow.throw(failure)
            else:
                effect = flow.send(answer)
        return effect
    except StopIteration as stop:
        return Done(stop.value)
    except OktaM2MError as error:
        raise error.as_library_error(runtime.error_map).with_traceback(error.__traceback__) from error.__cause__


def run(flow: Flow[T], runtime: Runtime) -> T:
    """Runs a flow that has no call of its own to attempt."""
    try:
        return _value(advance(flow, runtime))
    finally:
        flow.close()


async def arun(flow: Flow[T], runtime: AsyncRuntime) -> T:
    """The same on an event loop."""
    try:
        return _value(await aadvance(flow, runtime))
    finally:
        flow.close()


def _value(end: AdapterEffect | Done[T]) -> T:
    if isinstance(end, Done):
        return end.value
    raise TypeError(f"a flow that is run on its own asked for {type(end).__name__}")


def _lost(error: BaseException) -> None:
    logger.warning("okta-m2m: a renewal ended with %s", type(error).__name__)


def _answered(answer: object) -> Response:
    if isinstance(answer, Response):
        return answer
    from inspect import isawaitable, iscoroutine

    if iscoroutine(answer):
        answer.close()
    if isawaitable(answer):
        raise ConfigurationError(
            "send= returned an awaitable, which a thread cannot wait for. "
            "Give it a function that blocks, or use an async client."
        )
    raise ConfigurationError(
        f"send= returned {type(answer).__name__}. Have it return an okta_m2m.effects.Response, made of the answer."
    )
