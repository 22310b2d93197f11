"""The command ``okta-m2m``.

Invariant: the command always ends with a code of :class:`~okta_m2m.cli.exits.Exit`, and no traceback that it prints shows a
local variable. This module imports only the standard library, :mod:`~okta_m2m.cli.exits` and
:mod:`~okta_m2m.cli.printing`, so that a missing package is reported in one line that says what to install.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import NoReturn

try:
    from .exits import Exit, needs
    from .printing import LogHandler, note
except KeyboardInterrupt:
    sys.exit(130)

__all__ = ["main"]


def main() -> NoReturn:
    """Runs the command with ``sys.argv`` and exits."""
    logging.basicConfig(format="%(message)s", handlers=[LogHandler()])
    try:
        with needs("cli", "The command okta-m2m"):
            from .commands import app
        # Escape characters that the encoding lacks (in the name of an app), as Python does on stderr.
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
        app()
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except Exception:  # noqa: BLE001 (our bug: Python's own traceback shows no values)
        for line in traceback.format_exc().splitlines():
            note(line)
        sys.exit(Exit.BUG)
    sys.exit(Exit.OK)
