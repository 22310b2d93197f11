"""How much of an answer is read, and for how long: the same for every client."""

from __future__ import annotations

from typing import Final

__all__ = ["DRAIN_TIMEOUT", "MAX_ANSWER", "MAX_DRAINED"]

MAX_ANSWER: Final = 1 << 20
"""Bytes of an answer of the token endpoint."""

MAX_DRAINED: Final = 1 << 16
"""Bytes of a rejected answer that are read so that its connection can be used again; beyond that a new one is cheaper."""

DRAIN_TIMEOUT: Final = 1.0
"""Seconds for the same on an event loop; elsewhere the caller's own timeout counts."""
