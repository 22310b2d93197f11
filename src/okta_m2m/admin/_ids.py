"""Formats an id or a ``kid`` for a path or a message."""

from __future__ import annotations

from urllib.parse import quote

__all__ = ["path_segment", "shown_id"]


def path_segment(id: str) -> str:
    """An id as one segment of a path, with slashes escaped."""
    return quote(id, safe="")


def shown_id(id: object) -> str:
    """A ``kid`` or an id on one line, shortened. ``quoted`` cannot be used here, because it would hide a thumbprint as
    a secret."""
    text = "".join(char if char.isprintable() else " " for char in str(id))
    return text if len(text) <= 100 else text[:97] + "..."
