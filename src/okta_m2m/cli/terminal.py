"""What stdout is, and what it can show.

Invariant: nothing is written that its encoding cannot hold; colour and movement only go to a terminal that knows them.
"""

from __future__ import annotations

import os
import stat
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.text import Text

from .exits import say

__all__ = [
    "Glyphs",
    "Marks",
    "Output",
    "columns",
    "glyphs_for",
    "hanging",
    "marks_for",
    "note",
    "stdin_is_terminal",
    "stdout_is_pipe",
    "stdout_is_terminal",
]


class Output(Console):
    """Stdout. A reader that went away is for the command to answer, not for rich to exit with a 1."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError

    @property
    def moves(self) -> bool:
        """Whether something drawn can be drawn over."""
        return self.is_terminal and self.is_interactive and not self.is_dumb_terminal


def stdout_is_pipe() -> bool:
    """Whether another program reads what is written: ``$(...)``, ``|``. A file is none, nor is ``/dev/null``."""
    try:
        mode = os.fstat(sys.stdout.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def stdout_is_terminal() -> bool:
    """Whether a person reads what is written."""
    return sys.stdout is not None and sys.stdout.isatty()


def stdin_is_terminal() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin is not None and sys.stdin.isatty()


def note(what: str) -> None:
    """A line on stderr that is no failure: what was written where, what is waited for."""
    say(what)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text in columns; the first row is the heading. No line ends with spaces."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def hanging(lead: Text, what: str, width: int, style: str = "") -> Iterator[Text]:
    """``what`` wrapped beside its lead. A URL or a path stays whole."""
    room = max(20, width - len(lead))
    lines = textwrap.wrap(what, room, break_long_words=False, break_on_hyphens=False) or [""]
    for text in lines:
        yield lead.copy().append(text, style or "not bold not dim")
        lead = Text(" " * len(lead))


@dataclass(frozen=True, slots=True)
class Marks:
    """What stands before a row that is good, doubtful, bad, or was not looked at."""

    ok: str
    warn: str
    fail: str
    skipped: str
    remedy: str


_MARKS: Final = Marks("✓", "!", "✗", "·", "→")
_PLAIN_MARKS: Final = Marks("+", "!", "x", "-", "->")


def marks_for(console: Console) -> Marks:
    """Marks that the terminal can show."""
    if console.legacy_windows:
        return _PLAIN_MARKS
    try:
        "".join(str(getattr(_MARKS, name)) for name in Marks.__slots__).encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return _PLAIN_MARKS
    return _MARKS


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters that pictures are made of."""

    levels: str
    used: str
    spare: str
    gone: str
    mark: str
    bad: str
    dot: str


_FINE: Final = Glyphs("▁▂▃▄▅▆▇█", "█", "░", "✗", "●", "✗", "·")
_PLAIN: Final = Glyphs(".:-=+*#%", "#", ".", "x", "o", "X", "-")


def glyphs_for(console: Console) -> Glyphs:
    """Block characters where the encoding has them and the console draws them, else ASCII."""
    if console.legacy_windows:
        return _PLAIN
    try:
        "".join(str(getattr(_FINE, name)) for name in Glyphs.__slots__).encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return _PLAIN
    return _FINE
