"""Reads the response to our own request: bounded in size and in time, and decoded by no one.

Invariant: while this waits for more data, no frame shows what was read, because it may hold a token.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Iterable
from math import inf
from typing import Final

from ..effects import SendFailed
from .limits import AnswerBody, check_encoding

MAX_ANSWER: Final = 1 << 20
"""The maximum number of bytes that are read from a response of the token endpoint."""


def read_answer(content_encodings: Iterable[str], chunks: Iterable[bytes], until: float) -> bytes:
    """The whole body, read at most until then on ``time.monotonic()``. Raises :class:`~okta_m2m.effects.SendFailed`."""
    check_encoding(content_encodings)
    body = AnswerBody()
    for chunk in chunks:
        body.extend(chunk)
        del chunk
        _check(body, until)
    return body.whole()


async def aread_answer(content_encodings: Iterable[str], chunks: AsyncIterable[bytes]) -> bytes:
    """The same on an event loop, where the library limits the time of the whole request."""
    check_encoding(content_encodings)
    body = AnswerBody()
    async for chunk in chunks:
        body.extend(chunk)
        del chunk
        _check(body, inf)
    return body.whole()


def _check(body: AnswerBody, until: float) -> None:
    if len(body) > MAX_ANSWER:
        raise SendFailed("the response was too large", stage="http")
    if time.monotonic() > until:
        raise SendFailed("the response was too slow", stage="http")
