"""The command ``okta-m2m``.

Invariant: the command always ends with a code of :class:`~okta_m2m.cli.exits.Exit`, and no traceback that it prints shows a
local variable. This module imports only the standard library and :mod:`~okta_m2m.cli.exits`, so that a missing package is
reported in one line that says what to install.
"""

from __future__ import annotations

import sys
import traceback
from typing import NoReturn

from .exits import Exit, ExtraMissing, complain, needs

__all__ = ["main"]


def main() -> NoReturn:
    """Runs the command with ``sys.argv`` and exits."""
    try:
        with needs("cli", "The command okta-m2m"):
            from .commands import app
        # Characters that the encoding lacks (in the name of an app) are escaped, as Python does on stderr.
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
        app()
    except ExtraMissing as missing:
        complain(missing)
        sys.exit(Exit.EXTRA_MISSING)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except Exception:  # noqa: BLE001 (our bug: Python's own traceback shows no values)
        traceback.print_exc()
        sys.exit(Exit.BUG)
    sys.exit(Exit.OK)
