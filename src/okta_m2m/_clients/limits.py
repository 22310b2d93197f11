"""Limits on how much of a response is read, and for how long. They are the same for every client."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final

from .._threads.deadlines import BODY_TIMEOUT
from ..effects import SendFailed

PIECE: Final = 256
"""The number of bytes that are read at a time. urllib3 waits until it has that many, and we can only notice between two
reads that the attempt's time is up."""

MAX_DRAINED: Final = 1 << 16
"""The maximum number of bytes of a rejected response that are read to keep its connection. Beyond that, a new connection
is cheaper."""

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


async def aread_start(
    read: Callable[[int], Awaitable[bytes]], limit: int, broken: tuple[type[Exception], ...]
) -> bytes:
    """At most ``limit`` bytes from the start of a body, on a loop of asyncio, if a read can be canceled without a loss; fewer if
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
