"""Performs effects: with threads, asyncio or trio. For adapters of your own; those of this package use the same.

A flow yields effects (:mod:`okta_m2m.effects`). A runtime performs them, ``run`` and ``drive`` run a flow through a runtime.
"""

from __future__ import annotations

from ..errors import ErrorMap
from .asyncio import Asyncio
from .driving import (
    AsyncCall,
    AsyncRuntime,
    AsyncSender,
    Call,
    Done,
    Runtime,
    Sender,
    aadvance,
    adrive,
    advance,
    arun,
    drive,
    run,
)
from .threads import Threads
from .trio import Trio

__all__ = [
    "AsyncCall",
    "AsyncRuntime",
    "AsyncSender",
    "Asyncio",
    "Call",
    "Done",
    "Runtime",
    "Sender",
    "Threads",
    "Trio",
    "aadvance",
    "adrive",
    "advance",
    "arun",
    "drive",
    "run",
    "running",
]


def running(send: AsyncSender, error_map: ErrorMap | None = None) -> Asyncio | Trio:
    """The runtime of the event loop that is running here."""
    import asyncio  # only where there is a loop already

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return Trio(send, error_map)
    return Asyncio(send, error_map)
