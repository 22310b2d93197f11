"""How an id or a ``kid`` is written into a path and into a message."""

from __future__ import annotations

from urllib.parse import quote

__all__ = ["path_segment", "shown_id"]


def path_segment(id: str) -> str:
    """An id as one segment of a path, so that a slash in it leads nowhere else."""
    return quote(id, safe="")


def shown_id(id: object) -> str:
    """A ``kid`` or an id on one line, cut short. ``quoted`` does not do here: it takes a thumbprint for a secret."""
    text = "".join(char if char.isprintable() else " " for char in str(id))
    return text if len(text) <= 100 else text[:97] + "..."
