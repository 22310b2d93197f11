"""Performs effects: with threads, asyncio or trio."""

from __future__ import annotations

from ..errors import ErrorMap
from .asyncio import Asyncio
from .driving import AsyncSender, Done, Sender, aadvance, advance, arun, run
from .threads import Threads
from .trio import Trio

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
    "run",
    "running",
]


def running(send: AsyncSender, error_map: ErrorMap | None = None) -> Asyncio | Trio:
    """The runtime of the event loop that is running here."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return Trio(send, error_map)
    return Asyncio(send, error_map)
