"""Chooses the runtime that the running event loop needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..errors import ErrorMap
from . import asyncio as on_asyncio
from .asyncio import Asyncio
from .driving import AsyncSender
from .trio import Trio, wait_in_run
from .waiting import wait_on_loop

__all__ = ["Asyncio", "Trio", "call_in_thread", "running"]

T = TypeVar("T")


def running(send: AsyncSender, error_map: ErrorMap | None = None) -> Asyncio | Trio:
    """The runtime of the event loop that is running here.

    - ``send``: sends our own requests; awaitable.
    - ``error_map``: maps this package's error classes to the HTTP library's. Each error is an instance of both.
      Default ``None``.
    """
    return Asyncio(send, error_map) if _is_asyncio() else Trio(send, error_map)


async def call_in_thread(work: Callable[[], T], timeout: float) -> T:  # noqa: ASYNC109 (the thread is limited)
    """The result of ``work``, which runs in its own daemon thread and does not delay the end of the loop."""
    return await on_asyncio.call_in_thread(
        work, timeout, "client", wait_on_loop if _is_asyncio() else wait_in_run, work
    )


def _is_asyncio() -> bool:
    import asyncio  # only if there is a loop

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
