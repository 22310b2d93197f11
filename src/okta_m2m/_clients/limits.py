"""How much of an answer is read, and for how long: the same for every client."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

from ..effects import SendFailed

__all__ = [
    "DRAIN_TIMEOUT",
    "MAX_ANSWER",
    "MAX_DRAINED",
    "PIECE",
    "AnswerBody",
    "check_encoding",
    "connect_timeout",
    "inflate",
    "is_inflatable",
    "read_timeout",
]

MAX_ANSWER: Final = 1 << 20
"""Bytes of an answer of the token endpoint."""

PIECE: Final = 256
"""Bytes of it that are read at a time: urllib3 waits until it has so many, and only between two reads is it seen that the
attempt's time is over."""

MAX_DRAINED: Final = 1 << 16
"""Bytes of a rejected answer that are read so that its connection can be used again; beyond that a new one is cheaper."""

DRAIN_TIMEOUT: Final = 1.0
"""Seconds for the same on an event loop; elsewhere the caller's own timeout counts."""


class AnswerBody:
    """The part of an answer to our own request that has arrived. It may hold a token, so its repr shows only its size."""

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


def connect_timeout(timeout: float) -> float:
    """Seconds for one address of a name, of those for a whole attempt: blocking libraries try one after another, each for so
    long, and behind two dead ones there may be one that answers."""
    return timeout / 3


def read_timeout(timeout: float) -> float:
    """Seconds that the library waits for the answer: a little less than the attempt's, because the library can say what it was
    waiting for."""
    return timeout * 0.9


def check_encoding(content_encodings: Iterable[str]) -> None:
    """Refuses a compressed answer to our own request. We ask for ``identity``, and a few bytes that are compressed twice can
    grow to a gigabyte."""
    for coding in content_encodings:
        if coding.strip().lower() not in ("", "identity"):
            raise SendFailed("the response is compressed, although the request asked for no compression", stage="http")


def is_inflatable(content_encoding: str | None) -> bool:
    """Whether the start of a body can be decoded without making much of it: of one that is compressed twice, or by Brotli,
    a few bytes may stand for a gigabyte."""
    return (content_encoding or "").strip().lower() in ("", "identity", "gzip", "x-gzip", "deflate")


def inflate(head: bytes, content_encoding: str | None, limit: int) -> bytes:
    """At most ``limit`` bytes of what the start of a body stands for; nothing where that cannot be bounded."""
    if not is_inflatable(content_encoding):
        return b""
    if (content_encoding or "").strip().lower() in ("", "identity"):
        return head[:limit]
    for window in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):  # with a header of gzip or zlib; and without, as some send it
        try:
            return zlib.decompressobj(window).decompress(head, limit)
        except zlib.error:
            continue
    return b""
