"""The kind of stdout, and the characters that it can show.

Invariant: no character is written that the encoding lacks. Only a terminal that supports color and movement gets them.
"""

from __future__ import annotations

import os
import stat
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from .printing import clean

LEAD: Final = 16  # columns for a mark and the name of a row


class Output(Console):
    """Stdout. The command itself handles a closed pipe; rich would exit with 1.

    All output is cleaned (:mod:`okta_m2m.cli.printing`): each line, and everything else that is drawn except rich's own
    control codes and line ends.
    """

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """Like :meth:`rich.console.Console.print`; a string or a ``Text`` is one line."""
        super().print(*map(_clean_line, objects), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                text = "\n".join(map(clean, segment.text.split("\n")))
                yield Segment(text, segment.style)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError

    @property
    def can_redraw(self) -> bool:
        return self.is_terminal and self.is_interactive and not self.is_dumb_terminal


def _clean_line(shown: Any) -> Any:
    if isinstance(shown, str):
        return clean(shown)
    if isinstance(shown, Text):
        shown = shown.copy()
        shown.plain = clean(shown.plain)
    return shown


def stdout_is_pipe() -> bool:
    """Whether another program reads stdout: ``$(...)`` or ``|``. A file or ``/dev/null`` does not count."""
    try:
        mode = os.fstat(sys.stdout.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def stdout_is_terminal() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout is not None and sys.stdout.isatty()


def stdin_is_terminal() -> bool:
    """Whether there is a person who can answer a prompt."""
    return sys.stdin is not None and sys.stdin.isatty()


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of strings, aligned in columns. The first row is the heading. No line ends with spaces."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def hanging(lead: Text, what: str, width: int, style: str = "") -> Iterator[Text]:
    """The lines of ``what``, wrapped beside ``lead``. A URL or a path is not broken."""
    room = max(20, width - len(lead))
    lines = textwrap.wrap(what, room, break_long_words=False, break_on_hyphens=False) or [""]
    for text in lines:
        # Append to an empty text, because text that is appended to the lead itself would inherit its style.
        yield Text().append_text(lead).append(text, style)
        lead = Text(" " * len(lead))


class Glyphs(NamedTuple):
    """The marks before a row that passed, warns, failed or was not checked, and before a remedy; the characters for pictures."""

    ok: str
    warn: str
    fail: str
    skipped: str
    remedy: str
    levels: str
    used: str
    spare: str
    mark: str


_GLYPHS: Final = Glyphs("✓", "!", "✗", "·", "→", "▁▂▃▄▅▆▇█", "█", "░", "●")
_ASCII_GLYPHS: Final = Glyphs("+", "!", "x", "-", "->", ".:-=+*#%", "#", ".", "o")


def glyphs_for(console: Console) -> Glyphs:
    """Characters that the console can show: ASCII if its encoding lacks any of the others."""
    try:
        "".join(_GLYPHS).encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return _ASCII_GLYPHS
    return _ASCII_GLYPHS if console.legacy_windows else _GLYPHS
