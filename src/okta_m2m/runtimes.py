"""Turning effects into deeds: for threads, for asyncio, for trio.

``advance`` and ``aadvance`` step a flow, performing its effects, until it asks for something that only the adapter can
do (``Attempt``, ``Peek``, ``Discard``), which they return; or until it is done. The adapter calls again with the
answer. ``run`` and ``arun`` are for flows that ask for no such thing.

Invariant: no policy in here. And whatever ends a step, a flow that was abandoned has been closed, so that its flight
has landed.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

from .effects import (
    Attempt,
    Discard,
    Effect,
    Flow,
    Peek,
    Request,
    Response,
    Send,
    Sign,
    Sleep,
    Snapshot,
    Spawn,
    StoreEffect,
    StoreFailed,
    Wait,
)
from .errors import ConfigurationError, Kinds, OktaM2MError
from .records import Record

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

    from .keys import Signer

__all__ = [
    "AsyncSender",
    "Asyncio",
    "Done",
    "Sender",
    "Threads",
    "Trio",
    "aadvance",
    "advance",
    "arun",
    "lent",
    "run",
    "running",
]

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
    """What performs effects and may block its thread to do so; ``kinds`` are the exceptions its client's users catch."""

    kinds: Kinds

    def perform(self, effect: Effect[Any]) -> Any: ...


class AsyncRuntime(Protocol):
    """What performs effects and never blocks its event loop."""

    kinds: Kinds

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
        raise error.native(runtime.kinds).with_traceback(error.__traceback__) from error.__cause__


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
        raise error.native(runtime.kinds).with_traceback(error.__traceback__) from error.__cause__


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


# ── threads ──────────────────────────────────────────────────────────────────────────────────────────────────────────


DOORS: Final = 64
"""Threads that are woken at once when what they wait for has landed."""


class Threads:
    """Blocks the calling thread. Background flows run in daemon threads, or inline where none can be started."""

    __slots__ = ("_send", "kinds")

    def __init__(self, send: Sender, kinds: Kinds | None = None) -> None:
        self._send = send
        self.kinds: Kinds = kinds or {}

    def perform(self, effect: Effect[Any]) -> Any:
        match effect:
            case Wait(landing, timeout):  # first, because very many threads may wait for one token
                return _doors(landing).wait(timeout)
            case Send(request, timeout):
                return _answered(self._send(request, timeout))
            case Sign(signer, message):
                return _signed_blocking(signer, message)
            case Snapshot(signer):
                return signer.snapshot()  # type: ignore[attr-defined]  # yielded only for signers that have it
            case Sleep(seconds):
                return time.sleep(seconds)
            case Spawn(flow, ended):
                return self._spawn(flow, ended)
            case StoreEffect():
                return _stored_blocking(effect)
        raise TypeError(f"no runtime performs {type(effect).__name__}")

    def _spawn(self, flow: Flow[Any], ended: Callable[[], None]) -> None:
        def background() -> None:
            try:
                run(flow, self)
            except Exception as error:  # noqa: BLE001 (nobody is there to catch it; the flow has told its waiters)
                _lost(error)
            finally:
                ended()

        # Past the main thread's end the interpreter shuts down: a daemon thread would be torn off in mid-request.
        if threading.main_thread().is_alive():
            with suppress(RuntimeError):  # no more threads
                threading.Thread(target=background, name="okta-m2m renewal", daemon=True).start()
                return
        background()


class _Doors:
    """The threads that wait for one landing: they leave by 64 doors, by each of them one after another.

    A future's own ``result`` wakes them all at once. Each then needs the future's lock and the interpreter, and they take
    these from one another; a thread that computes meanwhile gets its turn between any two of them. It does with a single
    door, too, since whoever is out needs the interpreter to let out the next.
    """

    __slots__ = ("_landed", "_locks", "_turns")

    def __init__(self) -> None:
        self._landed = False
        self._locks = [threading.Lock() for _ in range(DOORS)]
        for lock in self._locks:
            lock.acquire()
        self._turns = count()

    def open(self, _: object) -> None:
        """It landed, in whatever thread."""
        self._landed = True
        for lock in self._locks:
            with suppress(RuntimeError):  # somebody whose time was just over has opened it
                lock.release()

    def wait(self, seconds: float) -> bool:
        lock = self._locks[next(self._turns) % DOORS]
        try:
            lock.acquire(timeout=seconds)
        finally:
            # Even if an exception has come upon us, a signal's or another thread's: those behind us wait for this. None
            # can come in between, because that happens where something is called, and nothing is before the release.
            if self._landed:
                try:  # noqa: SIM105 (that would call something)
                    lock.release()
                except RuntimeError:  # it was open already
                    pass
        return self._landed


_at_doors: WeakKeyDictionary[Future[Any], _Doors] = WeakKeyDictionary()


def _doors(landing: Future[Any]) -> _Doors:
    doors = _at_doors.get(landing)
    if doors is None:
        made = _Doors()
        landing.add_done_callback(made.open)  # before anybody may stand there
        doors = _at_doors.setdefault(landing, made)  # another thread may have been quicker
    return doors


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


def _signed_blocking(signer: Signer, message: bytes) -> bytes:
    signature = signer.sign(message)
    if isinstance(signature, bytes):
        return signature
    from inspect import iscoroutine

    if iscoroutine(signature):
        signature.close()
    raise ConfigurationError(
        f"{type(signer).__name__}.sign returns an awaitable, which a thread cannot wait for. "
        "Use an async client with this signer, or give it a sign that blocks."
    )


def _stored_blocking(effect: StoreEffect[Any]) -> Any:
    working = _in_thread(effect)
    try:
        answer = working.result(effect.timeout)
    except TimeoutError:
        raise _too_slow(effect) from None
    except StoreFailed:
        raise
    except Exception as error:
        raise StoreFailed(f"{type(error).__name__}: {error}") from error
    from inspect import isawaitable, iscoroutine

    if not isawaitable(answer):
        return answer
    if iscoroutine(answer):
        answer.close()
    raise StoreFailed(f"{type(effect.store).__name__} answers with an awaitable, which a thread cannot wait for")


def _in_thread(effect: StoreEffect[Any]) -> Future[Any]:
    """Asks the store in a daemon thread of its own: a store that hangs can hold up neither the call nor the exit."""
    from concurrent.futures import Future

    working: Future[Any] = Future()
    working.set_running_or_notify_cancel()

    def work() -> None:
        try:
            answer = effect.call()
        except BaseException as error:  # noqa: BLE001 (it is handed to whoever waits)
            working.set_exception(error)
        else:
            working.set_result(answer)

    try:
        threading.Thread(target=work, name="okta-m2m store", daemon=True).start()
    except RuntimeError as error:  # no more threads, or the interpreter is shutting down
        raise StoreFailed(f"no thread to ask it in: {error}") from error
    return working


def _too_slow(effect: StoreEffect[Any]) -> StoreFailed:
    return StoreFailed(f"no answer to {type(effect).__name__.lower()} within {effect.timeout:g} s")


# ── asyncio ──────────────────────────────────────────────────────────────────────────────────────────────────────────

AT_ONCE: Final = 500
"""Waiters that are woken in one turn of the loop, so that a herd of thousands leaves it time for other things."""

TICK: Final = 0.01
"""Seconds between two looks for waiters whose time is over: of many, some are told so that much later."""

_background: WeakKeyDictionary[asyncio.AbstractEventLoop, set[asyncio.Task[Any]]] = WeakKeyDictionary()


class Asyncio:
    """Never blocks the loop: blocking signers and key files are worked in threads. Any loop, and several at once.

    asyncio is imported where there is a loop already: who has only threads does not pay for it.
    """

    __slots__ = ("_send", "kinds")

    def __init__(self, send: AsyncSender, kinds: Kinds | None = None) -> None:
        self._send = send
        self.kinds: Kinds = kinds or {}

    async def perform(self, effect: Effect[Any]) -> Any:
        import asyncio

        match effect:
            case Send(request, timeout):
                return await _answered_on_loop(self._send(request, timeout))
            case Sign(signer, message):
                return await _signed(signer, message, asyncio.to_thread)
            case Snapshot(signer):
                return await asyncio.to_thread(signer.snapshot)  # type: ignore[attr-defined]  # only for those that have it
            case Sleep(seconds):
                return await asyncio.sleep(seconds)
            case Wait(landing, timeout):
                if not landing.done():
                    waiters = _waiters(landing)
                    waiter = waiters.join(timeout)
                    try:
                        await waiter
                    finally:
                        waiters.leave(waiter)
                return landing.done()
            case Spawn(flow, ended):
                return self._spawn(flow, ended)
            case StoreEffect():
                return await self._stored(effect)
        raise TypeError(f"no runtime performs {type(effect).__name__}")

    async def _stored(self, effect: StoreEffect[Any]) -> Any:
        import asyncio
        from inspect import isawaitable

        try:
            async with asyncio.timeout(effect.timeout):
                if getattr(effect.store, "on_loop", False):
                    answer = effect.call()
                else:
                    working = _in_thread(effect)
                    if not await self.perform(Wait(working, effect.timeout)):
                        raise _too_slow(effect)
                    answer = working.result()
                return await answer if isawaitable(answer) else answer
        except TimeoutError:
            raise _too_slow(effect) from None
        except StoreFailed:
            raise
        except Exception as error:
            raise StoreFailed(f"{type(error).__name__}: {error}") from error

    def _spawn(self, flow: Flow[Any], ended: Callable[[], None]) -> None:
        import asyncio
        from contextvars import Context

        loop = asyncio.get_running_loop()
        background = arun(flow, self)
        try:
            # In a context of its own: a renewal is nobody's request, and keeps nobody's trace or cancel scope alive.
            task = loop.create_task(background, name="okta-m2m renewal", context=Context())
        except RuntimeError:  # the loop is closing
            background.close()
            ended()
            return
        tasks = _background.setdefault(loop, set())
        tasks.add(task)  # the loop itself holds tasks only weakly

        def finished(task: asyncio.Task[Any]) -> None:
            tasks.discard(task)
            flow.close()
            if not task.cancelled() and (error := task.exception()) is not None:
                _lost(error)
            ended()

        task.add_done_callback(finished)


class _Waiters:
    """The tasks of one loop that wait for one landing: one callback and one timer, however many they are.

    Each has a future of its own, so that to cancel it concerns nobody else. All but ``tell`` happens in the loop's thread.
    """

    __slots__ = ("_armed", "_loop", "_timer", "_until")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._until: dict[asyncio.Future[None], float] = {}  # by the loop's clock, in the order in which they came
        self._timer: asyncio.TimerHandle | None = None
        self._armed = math.inf  # when the timer goes off

    def join(self, seconds: float) -> asyncio.Future[None]:
        """A future that is done when it landed, or ``seconds`` have passed. Whoever awaited it calls ``leave``."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._until[waiter] = until = self._loop.time() + seconds
        if until < self._armed:
            self._arm(until)
        return waiter

    def leave(self, waiter: asyncio.Future[None]) -> None:
        self._until.pop(waiter, None)

    def tell(self, _: object) -> None:
        """It landed, in whatever thread."""
        try:
            self._loop.call_soon_threadsafe(self._landed)
        except RuntimeError:
            logger.debug("okta-m2m: an event loop that waited for a token is gone")

    def _landed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wake(list(self._until))

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._armed = self._loop.call_at(at, self._over), at

    def _over(self) -> None:
        now = max(self._armed, self._loop.time())  # a timer may go off early, by its clock's resolution
        over = [waiter for waiter, until in self._until.items() if until <= now]
        for waiter in over:
            self.leave(waiter)
        self._timer, self._armed = None, math.inf
        if self._until:
            # Not for each of a herd on its own: every look is at all of them.
            self._arm(max(min(self._until.values()), now + TICK))
        self._wake(over)

    def _wake(self, waiters: list[asyncio.Future[None]]) -> None:
        for waiter in waiters[:AT_ONCE]:
            if not waiter.done():  # or else its task was cancelled
                waiter.set_result(None)
        if len(waiters) > AT_ONCE:
            self._loop.call_soon(self._wake, waiters[AT_ONCE:])


_waiting: WeakKeyDictionary[Future[Any], dict[asyncio.AbstractEventLoop, _Waiters]] = WeakKeyDictionary()


def _waiters(landing: Future[Any]) -> _Waiters:
    """Those of the running loop."""
    import asyncio

    loop = asyncio.get_running_loop()
    of_loops = _waiting.get(landing)
    if of_loops is None:
        of_loops = _waiting.setdefault(landing, {})  # another loop's thread may have been quicker
    waiters = of_loops.get(loop)
    if waiters is None:
        waiters = of_loops[loop] = _Waiters(loop)
        landing.add_done_callback(waiters.tell)
    return waiters


# ── trio ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Trio:
    """The same for trio. Background flows are system tasks that let nothing escape."""

    __slots__ = ("_send", "kinds")

    def __init__(self, send: AsyncSender, kinds: Kinds | None = None) -> None:
        self._send = send
        self.kinds: Kinds = kinds or {}

    async def perform(self, effect: Effect[Any]) -> Any:
        from contextvars import Context

        import trio

        match effect:
            case Send(request, timeout):
                return await _answered_on_loop(self._send(request, timeout))
            case Sign(signer, message):
                return await _signed(signer, message, trio.to_thread.run_sync)
            case Snapshot(signer):
                return await trio.to_thread.run_sync(signer.snapshot)  # type: ignore[attr-defined]  # only those that have it
            case Sleep(seconds):
                return await trio.sleep(seconds)
            case Wait(landing, timeout):
                return await self._wait(landing, timeout)
            case Spawn(flow, ended):
                trio.lowlevel.spawn_system_task(
                    self._in_background, flow, ended, name="okta-m2m renewal", context=Context()
                )
                return None
            case StoreEffect():
                return await self._stored(effect)
        raise TypeError(f"no runtime performs {type(effect).__name__}")

    async def _in_background(self, flow: Flow[Any], ended: Callable[[], None]) -> None:
        try:
            await arun(flow, self)
        except Exception as error:  # noqa: BLE001 (out of a system task it would take the whole run down)
            _lost(error)
        finally:
            ended()

    async def _stored(self, effect: StoreEffect[Any]) -> Any:
        from inspect import isawaitable

        import trio

        try:
            with trio.fail_after(effect.timeout):
                working = _in_thread(effect)
                await self._wait(working, effect.timeout)
                if not working.done():
                    raise _too_slow(effect)
                answer = working.result()
                return await answer if isawaitable(answer) else answer
        except trio.TooSlowError:
            raise _too_slow(effect) from None
        except StoreFailed:
            raise
        except Exception as error:
            raise StoreFailed(f"{type(error).__name__}: {error}") from error

    @staticmethod
    async def _wait(landing: Future[Any], seconds: float) -> bool:
        import trio

        landed = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def tell(_: object) -> None:
            try:
                token.run_sync_soon(landed.set)
            except trio.RunFinishedError:
                logger.debug("okta-m2m: a trio run that waited for a token is over")

        landing.add_done_callback(tell)
        with trio.move_on_after(seconds):
            await landed.wait()
        return landing.done()


# ── both kinds of event loop ─────────────────────────────────────────────────────────────────────────────────────────


def running(send: AsyncSender, kinds: Kinds | None = None) -> Asyncio | Trio:
    """The runtime of the event loop that is running here."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return Trio(send, kinds)
    return Asyncio(send, kinds)


def lent(client: Any, **changes: Any) -> Any:
    """A caller's client with some attributes of its own, for one request: what it uses is shared, and what is set in it by
    that request goes with it. The libraries' own ways to copy one forget what subclasses add."""
    kind = type(client)
    try:
        # Whatever the caller's class does when it is collected is not to be done now.
        made: Any = object.__new__(type(kind.__name__, (kind,), {"__del__": lambda _: None}))
        for slot in (slot for base in kind.__mro__ for slot in vars(base).get("__slots__", ())):
            if slot not in ("__dict__", "__weakref__") and hasattr(client, slot):
                setattr(made, slot, getattr(client, slot))
        vars(made).update(vars(client), **changes)
    except (AttributeError, TypeError):  # of a kind that cannot be copied, such as a stand-in
        return client
    return made


async def _answered_on_loop(answer: object) -> Response:
    from inspect import isawaitable

    if isawaitable(answer):
        return _answered(await answer)
    raise ConfigurationError(
        f"send= returned {type(answer).__name__} and nothing to await: it would block the event loop. "
        "Make it an async def, or use a blocking client."
    )


async def _signed(signer: Signer, message: bytes, in_thread: Callable[..., Awaitable[Any]]) -> bytes:
    from inspect import iscoroutinefunction

    if getattr(signer, "in_memory", False) or iscoroutinefunction(signer.sign):
        signature = signer.sign(message)
    else:
        signature = await in_thread(signer.sign, message)  # it may be across a network
    return signature if isinstance(signature, bytes) else await signature


def _lost(error: BaseException) -> None:
    logger.warning("okta-m2m: a renewal ended with %s", type(error).__name__)
