"""One SSL context for all token requests of a library. Loading a CA bundle takes 6 ms of CPU, and ten times as long with some
versions of OpenSSL, which would be most of the cost of a token request."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from typing import Any, Final

_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
"""The variables of the environment that a library reads for its SSL context."""

_made: dict[Callable[[], Any], tuple[object, Any]] = {}


def shared_context(make: Callable[[], Any], bundle: str | None = None) -> Any:
    """The SSL context that ``make`` returned last, with the CAs of the file ``bundle``. It is made again in a forked child, and
    if another CA bundle is named here or in the environment, the file of that bundle has changed, or truststore was injected.

    Raises what ``make`` raises, and ``OSError`` if ``bundle`` cannot be loaded.
    """
    named = [os.environ.get(name) for name in _VARIABLES]
    key = os.getpid(), ssl.SSLContext, bundle, named, _version(bundle or named[0])
    made = _made.get(make)
    if made is None or made[0] != key:
        context = make()
        if bundle:
            context.load_verify_locations(bundle)
        context.set_alpn_protocols(["http/1.1"])
        # A library sets them for each connection, which frees those that another thread's handshake may be copying.
        context.set_alpn_protocols = lambda protocols: None
        made = _made[make] = key, context
    return made[1]


def _version(path: str | None) -> tuple[int, int, int] | None:
    try:
        about = os.stat(path or "")
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size
