"""The runtimes for event loops, and which of them the running loop needs."""

from __future__ import annotations

from ..errors import ErrorMap
from .asyncio import Asyncio
from .driving import AsyncSender
from .trio import Trio

__all__ = ["Asyncio", "Trio", "running"]


def running(send: AsyncSender, error_map: ErrorMap | None = None) -> Asyncio | Trio:
    """The runtime of the event loop that is running here.

    - ``send``: sends our own requests; awaitable.
    - ``error_map``: for classes of our errors, the exceptions of the HTTP library that they are raised as too.
    """
    import asyncio  # only where there is a loop already

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return Trio(send, error_map)
    return Asyncio(send, error_map)
