"""Runs flows: the adapter performs the three effects that concern the caller's own call, and a runtime performs the others.

There are three ways, each blocking or async. ``run`` is for a flow that does not send the caller's own request.
``drive`` is for an adapter that can send the request itself: it passes a :class:`Call`. Both use ``advance``, which
resumes a flow with a result and returns the next effect for the adapter. Use it directly for an adapter that returns
control to its library in between, as ``httpx.Auth`` does.

Invariant: no policy here. When ``run`` or ``drive`` ends, for any reason, the flow is closed.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from types import CoroutineType
from typing import Any, Generic, Protocol, TypeVar

from .._base.records import Record
from ..effects import Attempt, Discard, Effect, Flow, Peek, Request, Response
from ..errors import ConfigurationError, ErrorMap, OktaM2MError

logger = logging.getLogger("okta_m2m")

T = TypeVar("T")
Sender = Callable[[Request, float], Response]
"""Sends our own request, within that many seconds, and returns the response. A plain function, which may block: it is called
in a thread of this package, whatever the caller runs on. Raises :class:`~okta_m2m.effects.SendFailed` if there is no response."""


class Done(Record, Generic[T], hidden=("value",)):
    """The end of a flow.

    - ``value``: what the flow returned. It may be headers with a token.
    """

    value: T


AdapterEffect = Attempt | Peek | Discard
_ADAPTER_EFFECTS = (Attempt, Peek, Discard)  # isinstance() is twice as fast with a tuple as with a union


class Runtime(Protocol):
    """Performs effects, and may block its thread.

    - ``error_map``: maps this package's error classes to the HTTP library's.
    """

    error_map: ErrorMap

    def perform(self, effect: Effect[Any]) -> Any:
        """Performs one ``effect`` and returns its result."""


class AsyncRuntime(Protocol):
    """Performs effects, and never blocks its event loop.

    - ``error_map``: maps this package's error classes to the HTTP library's.
    """

    error_map: ErrorMap

    def perform(self, effect: Effect[Any]) -> Awaitable[Any]:
        """Performs one ``effect``; awaited, it returns the result."""
        ...


class Call(Protocol):
    """The caller's own call, as an adapter makes it."""

    def attempt(self, headers: Mapping[str, str]) -> Response:
        """Sets these ``headers``, sends the request (again), and returns the response without its body."""
        ...

    def peek(self, limit: int) -> bytes:
        """At most ``limit`` bytes from the start of the last response's decoded body. The caller can still read all of it."""
        ...

    def discard(self) -> None:
        """Releases the last response's connection. The caller does not get that response."""


class AsyncCall(Protocol):
    """The caller's own call on an event loop, as an adapter makes it."""

    async def attempt(self, headers: Mapping[str, str]) -> Response:
        """Sets these ``headers``, sends the request (again), and returns the response without its body."""
        ...

    async def peek(self, limit: int) -> bytes:
        """At most ``limit`` bytes from the start of the last response's decoded body. The caller can still read all of it."""
        ...

    async def discard(self) -> None:
        """Releases the last response's connection. The caller does not get that response."""


def advance(flow: Flow[T], runtime: Runtime, answer: object = None) -> AdapterEffect | Done[T]:
    """Resumes a flow, up to the adapter's next effect or the end.

    - ``flow``: the flow.
    - ``runtime``: performs its other effects.
    - ``answer``: the result of the adapter's last effect. Default ``None``, which also starts a flow.

    Raises what the flow raises. This package's errors are also instances of the HTTP library's exceptions.
    """
    try:
        effect = flow.send(answer)
        while not isinstance(effect, _ADAPTER_EFFECTS):
            try:
                answer = runtime.perform(effect)
            except BaseException as failure:  # noqa: BLE001 (passed into the flow, even a cancellation)
                effect = flow.throw(failure)
            else:
                effect = flow.send(answer)
        return effect
    except StopIteration as stop:
        return Done(stop.value)
    except OktaM2MError as error:
        raise error.as_library_error(runtime.error_map).with_traceback(error.__traceback__) from error.__cause__


async def aadvance(flow: Flow[T], runtime: AsyncRuntime, answer: object = None) -> AdapterEffect | Done[T]:
    """:func:`advance` on an event loop: the same ``flow``, ``runtime`` and ``answer``."""
    try:
        effect = flow.send(answer)
        while not isinstance(effect, _ADAPTER_EFFECTS):
            try:
                answer = await runtime.perform(effect)
            except BaseException as failure:  # noqa: BLE001 (passed into the flow, even a cancellation)
                effect = flow.throw(failure)
            else:
                effect = flow.send(answer)
        return effect
    except StopIteration as stop:
        return Done(stop.value)
    except OktaM2MError as error:
        raise error.as_library_error(runtime.error_map).with_traceback(error.__traceback__) from error.__cause__


def drive(flow: Flow[T], runtime: Runtime, call: Call) -> T:
    """Runs a flow to its end, and returns its value.

    - ``flow``: the flow.
    - ``runtime``: performs its effects, except those that concern the caller's own call.
    - ``call``: performs those effects.

    Raises what the flow raises. This package's errors are also instances of the HTTP library's exceptions.
    """
    try:
        step = advance(flow, runtime)
        while not isinstance(step, Done):
            match step:
                case Attempt():
                    step = advance(flow, runtime, call.attempt(step.headers))
                case Peek(limit):
                    step = advance(flow, runtime, call.peek(limit))
                case Discard():
                    call.discard()
                    step = advance(flow, runtime)
        return step.value
    finally:
        flow.close()


async def adrive(flow: Flow[T], runtime: AsyncRuntime, call: AsyncCall) -> T:
    """:func:`drive` on an event loop: the same ``flow``, ``runtime`` and ``call``."""
    try:
        step = await aadvance(flow, runtime)
        while not isinstance(step, Done):
            match step:
                case Attempt():
                    step = await aadvance(flow, runtime, await call.attempt(step.headers))
                case Peek(limit):
                    step = await aadvance(flow, runtime, await call.peek(limit))
                case Discard():
                    await call.discard()
                    step = await aadvance(flow, runtime)
        return step.value
    finally:
        flow.close()


def run(flow: Flow[T], runtime: Runtime) -> T:
    """Runs a flow that does not send the caller's own request, and returns its value.

    - ``flow``: the flow, such as ``app.obtain()``.
    - ``runtime``: performs its effects.

    Raises what the flow raises. This package's errors are also instances of the HTTP library's exceptions.
    """
    try:
        return _value(advance(flow, runtime))
    finally:
        flow.close()


async def arun(flow: Flow[T], runtime: AsyncRuntime) -> T:
    """:func:`run` on an event loop: the same ``flow`` and ``runtime``."""
    try:
        return _value(await aadvance(flow, runtime))
    finally:
        flow.close()


def _value(end: AdapterEffect | Done[T]) -> T:
    if isinstance(end, Done):
        return end.value
    raise TypeError(f"a flow that is run on its own asked for {type(end).__name__}")


def report_lost(error: BaseException) -> None:
    """Logs an exception that left a background flow, where no caller can catch it."""
    logger.warning("a background task ended with %s", type(error).__name__)


def response_of(answer: object) -> Response:
    """The response of the caller's own ``send``, checked."""
    if isinstance(answer, Response):
        return answer
    if isinstance(answer, CoroutineType):
        answer.close()
    if isinstance(answer, Awaitable):
        raise ConfigurationError(
            "send= returned an awaitable, which a thread cannot wait for.",
            remedy="Make it a plain function that blocks. It runs in a thread, so it never blocks an event loop.",
        )
    raise ConfigurationError(
        f"send= returned {type(answer).__name__}.",
        remedy="Have it return an okta_m2m.effects.Response.",
    )
