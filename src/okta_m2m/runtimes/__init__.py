"""Performs effects with threads, and lets callers on asyncio or trio wait. This package's adapters use it, and yours can too.

A flow yields effects (:mod:`okta_m2m.effects`). A runtime performs them; ``run`` and ``drive`` run a flow with a
runtime.
"""

from __future__ import annotations

from .driving import (
    AsyncCall,
    AsyncRuntime,
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
from .loops import Asyncio, Trio, running
from .threads import Threads

__all__ = [
    "AsyncCall",
    "AsyncRuntime",
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
