"""Performs effects: with threads, asyncio or trio. For adapters of your own; those of this package use the same.

A flow yields effects (:mod:`okta_m2m.effects`). A runtime performs them, ``run`` and ``drive`` run a flow through a runtime.
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
from .threads import Threads

if TYPE_CHECKING:
    from .loops import Asyncio, Trio, running

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
    # A program that has only threads loads none of these: a tenth of an import beside requests (benchmarks/imports.py).
    if name in ("Asyncio", "Trio", "running"):
        from . import loops

        return getattr(loops, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
