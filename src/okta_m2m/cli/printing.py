"""The only module that prints, or shows the library's log. Everything that it prints is cleaned.

Invariants: names and ids that someone else chose (the label of an app, a path in a cloned folder, a server's words)
cannot move the cursor, change the terminal's title or colors, start a new line, or reverse the direction of the text.
Each such character becomes ``U+FFFD``. In JSON, they are escaped instead. A test checks that no other module prints.
No header, body or query of a request is shown, so no secret is. A failure that ends the command is reported once.

This module imports only the standard library, so that a missing package can be reported.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TextIO

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_JOINERS: Final = "\u200c\u200d"  # they shape Persian, Indic scripts and emoji, and do nothing else
_LOGGERS: Final = ("okta_m2m", "urllib3.connectionpool")  # the second logs the method, path and status of each request


def clean(text: str) -> str:
    """One line that a terminal shows literally. It is as long as ``text``, so that styles and columns stay in place.

    Control characters (C0 with line feed and tab, DEL, C1), bidirectional and other invisible formatting, line and paragraph
    separators, lone surrogates and unassigned characters are replaced.
    """
    return text if text.isascii() and text.isprintable() else "".join(map(_clean_character, text))


def echo(line: str = "", *, newline: bool = True) -> None:
    """Writes a line to stdout."""
    print(clean(line), end="\n" if newline else "", flush=True)


def echo_json(document: object) -> None:
    """Writes a JSON document to stdout."""
    # Python escapes all of them except DEL, which is ASCII.
    print(json.dumps(document, indent=2).replace("\x7f", "\\u007f"), flush=True)


def report(document: object, lines: Iterable[str], as_json: bool) -> None:
    """Writes the result of a command to stdout: as a JSON document, or as lines."""
    if as_json:
        echo_json(document)
    else:
        for line in lines:
            echo(line)


def echo_bytes(content: bytes) -> None:
    """Writes bytes unchanged to stdout, which must not be a terminal."""
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def note(line: str) -> None:
    """Writes a line to stderr. If that is not possible, nothing is written, and only the exit code remains."""
    if sys.stderr is None:  # closed; print would write to stdout instead
        return
    try:
        print(clean(line), file=sys.stderr, flush=True)
    except OSError:
        discard_output(sys.stderr)


class LogHandler(logging.Handler):
    """Writes log records to stderr, as Python does without a logging configuration, but cleaned."""

    def emit(self, record: logging.LogRecord) -> None:
        for line in self.format(record).splitlines():
            note(line)


class _WithoutQuery(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return re.sub(r"\?[^\s\"']*", "?...", super().format(record))


def report_log(*, debug: bool) -> None:
    """From now on, reports the library's warnings on stderr, in lines like those of the command itself.

    ``debug``: reports all of the library's log, and each request.
    """
    handler = LogHandler(logging.DEBUG if debug else logging.WARNING)
    handler.setFormatter(_WithoutQuery("debug: %(message)s") if debug else logging.Formatter("okta-m2m: %(message)s"))
    if not debug:  # the command itself reports the failed fetch
        handler.addFilter(lambda record: getattr(record, "okta_m2m.event", "") != "TokenFailed")
    for name in _LOGGERS if debug else _LOGGERS[:1]:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        if debug:
            logger.setLevel(logging.DEBUG)


@contextmanager
def without_log() -> Iterator[None]:
    """Hides the library's log, for a command that shows all of it in its own way."""
    logger = logging.getLogger("okta_m2m")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def discard_output(stream: TextIO | None = None) -> None:
    """Discards the rest of a stream's buffer (by default stdout's). Otherwise, Python would report it at exit."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, (stream or sys.stdout).fileno())
        os.close(nowhere)


def _clean_character(character: str) -> str:
    if character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs":
        return character
    return _REPLACEMENT
