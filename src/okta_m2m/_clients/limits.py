"""Limits on how much of a response is read, and for how long. They are the same for every client.

Invariant: all that we ourselves read ends at a deadline on the steady clock, whatever the server sends, and however slowly.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any, Final, TypeVar

from .._base.clocks import SYSTEM_CLOCK
from .._threads import workers
from .._threads.landings import Landing, landing_of
from .._threads.waiting import start_task, wait_here
from ..effects import SendFailed

T = TypeVar("T")

PIECE: Final = 256
"""The number of bytes that are read at a time. urllib3 waits until it has that many, and we can only notice between two
reads that the attempt's time is up."""

MAX_DRAINED: Final = 1 << 16
"""The maximum number of bytes of a rejected response that are read to keep its connection. Beyond that, a new connection
is cheaper."""

BODY_TIMEOUT: Final = 1.0
"""Seconds for which a call waits for the start of a rejected response, and for the rest of one that nobody gets."""

LONGEST_CONNECT: Final = 3.5
"""The time limit for connecting to one address, in seconds: a lost first packet is sent again after 1 and 3 seconds."""


class AnswerBody:
    """The part of a response to our own request that has arrived. It may hold a token, so its repr shows only its
    size."""

    __slots__ = ("_bytes", "extend")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self.extend = self._bytes.extend

    def __len__(self) -> int:
        return len(self._bytes)

    def whole(self) -> bytes:
        return bytes(self._bytes)

    def __repr__(self) -> str:
        return f"AnswerBody({len(self)} bytes)"


def shut_down(connection: socket.socket) -> None:
    """Ends all reading from a connection, in whatever thread that is. A library whose timeout is one for each read would never
    notice that a response arrives byte by byte."""
    with suppress(OSError):  # it is closed
        connection.shutdown(socket.SHUT_RDWR)


def connect_timeout(timeout: float) -> float:
    """Seconds for one address of a host, a part of the time for the whole attempt: blocking libraries try the addresses one after
    another, and after two dead ones there may be one that works."""
    return min(timeout / 3, LONGEST_CONNECT)


def read_timeout(timeout: float) -> float:
    """Seconds that the library waits for the response: a little less than the whole attempt, because the library's own
    error is more specific."""
    return max(0.9 * timeout, timeout - 0.5)


def check_encoding(content_encodings: Iterable[str]) -> None:
    """Refuses a compressed response to our own request. We request ``identity``, and a few bytes that are compressed
    twice can expand to a gigabyte."""
    for coding in content_encodings:
        if coding.strip().lower() not in ("", "identity"):
            raise SendFailed("the response is compressed, although the request asked for no compression", stage="http")


def within(
    seconds: float,
    work: Callable[[], T],
    failure: type[Exception] = TimeoutError,
    give_up: Callable[[], object] = bool,
) -> T:
    """The result of ``work``, which a thread does. If that takes longer, calls ``give_up`` and raises ``failure``: no library's
    own timeout limits the whole of a response that comes byte by byte."""
    working = workers.start(work, "response")
    if working is None:  # the interpreter shuts down
        return work()
    try:
        if landing_of(working).wait(seconds):
            return working.result()
    finally:
        del working  # avoids a cycle: an exception's traceback would refer to it, and it refers to the exception
    give_up()
    raise failure(workers.too_slow("complete response", seconds))


class Start:
    """The body of a rejected response, of which a thread or a task reads the start, for at most :data:`BODY_TIMEOUT`.

    A read that takes longer goes on: to interrupt it would end the connection, and the caller may want the whole response.
    Then the caller's own read waits for it. A body that breaks off ends there.

    - ``pieces``: yields the body; ``async`` for the methods whose names begin with ``a``.
    - ``broken``: the exceptions that the connection raises.
    - ``shut``: ends the connection, in whatever thread its body is read.
    """

    def __init__(self, pieces: Any, broken: tuple[type[Exception], ...], shut: Callable[[], object] = bool) -> None:
        self._pieces = pieces
        self._broken = broken
        self._shut = shut
        self._head: list[bytes] = []
        self._until = SYSTEM_CLOCK.now() + BODY_TIMEOUT
        self._landing = Landing()
        self._error: Exception | None = None

    def read(self, limit: int) -> bytes:
        """At least ``limit`` bytes, if that many arrive in time. Call it once."""
        if workers.start(partial(self._read, limit), "body") is None:  # the interpreter shuts down
            self._read(limit)
        self._landing.wait(BODY_TIMEOUT)
        return self._arrived()

    def _read(self, limit: int) -> None:
        try:
            for piece in self._pieces:
                if self._is_enough(piece, limit):
                    break
        except Exception as error:  # noqa: BLE001 (raised where the body is read)
            self._error = error
        finally:
            self._landing.land()

    def __iter__(self) -> Iterator[bytes]:
        self._landing.wait(inf)
        if head := self._arrived():
            yield head
        yield from self._pieces

    def close(self) -> None:
        """Ends a read that has not ended."""
        if not self._landing.done():
            self._shut()

    async def aread(self, limit: int) -> bytes:
        """:meth:`read` on an event loop."""
        self._shut = start_task(partial(self._aread, limit))
        await wait_here(self._landing, BODY_TIMEOUT)
        return self._arrived()

    async def _aread(self, limit: int) -> None:
        try:
            async for piece in self._pieces:
                if self._is_enough(piece, limit):
                    break
        except Exception as error:  # noqa: BLE001 (raised where the body is read)
            self._error = error
        finally:
            self._landing.land()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await wait_here(self._landing, inf)
        if head := self._arrived():
            yield head
        async for piece in self._pieces:
            yield piece

    def _arrived(self) -> bytes:
        if self._error is not None and not isinstance(self._error, self._broken):
            raise self._error
        return b"".join(self._head)

    def _is_enough(self, piece: bytes, limit: int) -> bool:
        self._head.append(piece)
        return sum(map(len, self._head)) >= limit or SYSTEM_CLOCK.now() >= self._until


async def aread_start(
    read: Callable[[int], Awaitable[bytes]], limit: int, broken: tuple[type[Exception], ...]
) -> bytes:
    """At most ``limit`` bytes from the start of a body, on a loop of asyncio, if a read can be cancelled without a loss; fewer if
    the time is over or the connection raises one of ``broken``."""
    import asyncio  # heavy; a blocking client may do without it

    head = b""
    with suppress(TimeoutError, *broken):
        async with asyncio.timeout(BODY_TIMEOUT):
            while len(head) < limit and (chunk := await read(limit - len(head))):
                head += chunk
    return head


def is_inflatable(content_encoding: str | None) -> bool:
    """Whether the start of a body can be decoded within a bound: a few bytes that are compressed twice, or with Brotli,
    may expand to a gigabyte."""
    return (content_encoding or "").strip().lower() in ("", "identity", "gzip", "x-gzip", "deflate")


def inflate(head: bytes, content_encoding: str | None, limit: int) -> bytes:
    """At most ``limit`` bytes of the decoded start of a body; nothing if that cannot be bounded."""
    if not is_inflatable(content_encoding):
        return b""
    if (content_encoding or "").strip().lower() in ("", "identity"):
        return head[:limit]
    # With a gzip or zlib header, or with none, as some servers send it.
    for window in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):
        try:
            return zlib.decompressobj(window).decompress(head, limit)
        except zlib.error:
            continue
    return b""
