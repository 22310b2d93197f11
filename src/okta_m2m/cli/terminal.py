"""What stdout is, and what it can show.

Invariant: nothing is written that its encoding cannot hold; colour and movement only go to a terminal that knows them.
"""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from typing import Final

from rich.console import Console

__all__ = ["Glyphs", "Output", "glyphs_for", "stdout_is_pipe", "stdout_is_terminal"]


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
