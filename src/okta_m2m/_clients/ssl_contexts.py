"""One SSL context for all token requests of a library. Loading a CA bundle takes 6 ms of CPU, and ten times as long with some
versions of OpenSSL, which would be most of the cost of a token request."""

from __future__ import annotations

import os
from collections.abc import Callable
from ssl import SSLContext
from typing import Final

_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
"""The variables of the environment that a library reads for its SSL context."""

_made: dict[Callable[[], SSLContext], tuple[object, SSLContext]] = {}


def shared_context(make: Callable[[], SSLContext]) -> SSLContext:
    """The SSL context that ``make`` returned last. It is made again in a forked child, and if the environment names another CA
    bundle, or the file of that bundle has changed.

    Raises what ``make`` raises.
    """
    named = [os.environ.get(name) for name in _VARIABLES]
    key = os.getpid(), named, _version(named[0])
    made = _made.get(make)
    if made is None or made[0] != key:
        made = _made[make] = key, make()
    return made[1]


def _version(path: str | None) -> tuple[int, int, int] | None:
    try:
        about = os.stat(path or "")
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size
