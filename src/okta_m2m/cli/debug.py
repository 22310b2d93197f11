"""Shows the library's log on stderr: warnings, and with ``okta-m2m --debug`` each request that is sent.

Invariant: no header, body or query is shown, so no secret is. A failure that ends the command is reported once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from .printing import LogHandler

__all__ = ["report_log", "without_log"]

_LOGGERS = ("okta_m2m", "urllib3.connectionpool")  # the second logs the method, path and status of each request


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
