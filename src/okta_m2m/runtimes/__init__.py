"""Performs effects with threads, asyncio or trio. This package's adapters use it, and yours can too.

A flow yields effects (:mod:`okta_m2m.effects`). A runtime performs them; ``run`` and ``drive`` run a flow with a
runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from .loops import Asyncio, Trio, running
    from .threads import Threads

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


def __getattr__(name: str) -> object:
    # Each runtime is imported with the first flow that needs it. With requests already imported, that saves 4 % of the import
    # time for Threads, and a tenth for the runtimes of event loops (benchmarks/imports.py).
    if name == "Threads":
        from .threads import Threads

        return Threads
    if name in ("Asyncio", "Trio", "running"):
        from . import loops

        return getattr(loops, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
