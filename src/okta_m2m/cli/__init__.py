"""The command ``okta-m2m``.

Invariant: whatever happens, the command ends with a code of :class:`~okta_m2m.cli.exits.Exit`, and no traceback that it
prints shows a local variable. This module imports nothing but the standard library and its neighbour, so that a missing
extra is one line that says what to install.
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
            from .app import app
        # What the encoding cannot hold (a name in an org) is shown in ASCII, as on stderr.
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
        app()
    except ExtraMissing as missing:
        complain(missing)
        sys.exit(Exit.EXTRA_MISSING)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except Exception:  # noqa: BLE001 (a fault of ours: Python's own traceback, which shows no values)
        traceback.print_exc()
        sys.exit(Exit.BUG)
    sys.exit(Exit.OK)
