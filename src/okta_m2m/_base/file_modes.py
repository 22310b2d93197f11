"""Whether every user of this machine can read a file with a secret in it. Only POSIX has modes that say so.

A group that can read it is no mistake: a container often reads a mounted secret through its group.
"""

from __future__ import annotations

import logging
import os
import stat

logger = logging.getLogger("okta_m2m")

_reported: set[str] = set()


def readers_warning(path: str | os.PathLike[str], what: str) -> str | None:
    """The warning for a file with a secret that every user of this machine can read; ``None`` if there is none to give. Windows
    has no modes.

    - ``path``: the file.
    - ``what``: the secret in it, such as ``private key``.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return None
    if os.name != "posix" or not stat.S_ISREG(mode) or not mode & stat.S_IROTH:
        return None
    return f"Every user of this machine can read the {what} in {path}. Run: chmod 600 '{path}'"


def warn_of_readers(path: str | os.PathLike[str], what: str) -> None:
    """Logs that warning, once for each file."""
    name = os.fspath(path)
    if name not in _reported and (warning := readers_warning(path, what)) is not None:
        _reported.add(name)
        logger.warning("%s", warning)
