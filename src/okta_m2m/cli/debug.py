"""Shows the library's log on stderr: warnings, and with ``okta-m2m --debug`` each request that is sent.

Invariant: no header, body or query is shown, so no secret is. A failure that ends the command is reported once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from .printing import LogHandler

__all__ = ["report_requests", "report_warnings", "without_log"]

_LOGGERS = ("okta_m2m", "urllib3.connectionpool")  # the second logs the method, path and status of each request


class _WithoutQuery(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return re.sub(r"\?[^\s\"']*", "?...", super().format(record))


def report_requests() -> None:
    """From now on, reports requests and the library's log on stderr."""
    handler = LogHandler(logging.DEBUG)
    handler.setFormatter(_WithoutQuery("debug: %(message)s"))
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False


def report_warnings() -> None:
    """Reports the library's warnings in lines like those of the command itself."""
    logger = logging.getLogger("okta_m2m")
    if logger.handlers:
        return
    handler = LogHandler()
    handler.setFormatter(logging.Formatter("okta-m2m: %(message)s"))
    # The command itself reports the failed fetch.
    handler.addFilter(lambda record: getattr(record, "okta_m2m.event", "") != "TokenFailed")
    logger.addHandler(handler)
    logger.propagate = False


@contextmanager
def without_log() -> Iterator[None]:
    """Hides the library's log, for a command that shows all of it in its own way."""
    logger = logging.getLogger("okta_m2m")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
