"""Stores, where processes share tokens: their protocol, and the store that a setting names.

Invariant: a store sees only sealed bytes (:mod:`okta_m2m.stores.sealing`), and may lose them at any time. Importing
this package does not import Redis or file locks.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Protocol

from .._base.crash_reports import without_locals
from ..errors import ConfigurationError
from .file import FileStore
from .redis import RedisStore

__all__ = ["Store", "store_from_url"]


class Store(Protocol):
    """Bytes in, bytes out. The methods are plain functions, not coroutine functions. They are called in threads of this package,
    several at once, and each call may block up to the service app's ``store_timeout``.

    For each key, a store keeps two independent records: a *value* and a *claim*. A claim is a lease: it belongs to one
    owner, and expires on its own. If a method raises any exception, or takes too long, the caller continues without the
    store. ``okta_m2m.testing.StoreConformance`` tests whether a store keeps these promises.

    - ``key``: any string.
    - ``value``: the bytes to store.
    - ``ttl``: seconds until the record expires; may have a fraction.
    - ``owner``: any string that identifies one process's attempt.
    """

    def load(self, key: str, /) -> bytes | None:
        """The value under ``key``; ``None`` if there is none, if it has expired, or if the stored record is not a value."""
        ...

    def save(self, key: str, value: bytes, ttl: float, owner: str, /) -> bool:
        """Stores ``value`` under ``key`` for ``ttl`` seconds and returns ``True``, but only while ``owner`` has the claim.

        This is the fence: an owner that was suspended for too long cannot replace a newer token with an older one.
        Checking the claim and storing the value must be one atomic step.
        """
        ...

    def claim(self, key: str, owner: str, ttl: float, /) -> bool:
        """Takes the claim on ``key`` for ``ttl`` seconds, if it is free or the owner's. Returns whether ``owner`` has it now."""
        ...

    def release(self, key: str, owner: str, /) -> None:
        """Gives up the claim on ``key`` if ``owner`` has it; otherwise does nothing."""
        ...


_SCHEME = r"([A-Za-z][A-Za-z0-9+.-]{0,20}):"


@without_locals
def store_from_url(url: str) -> RedisStore | FileStore:
    """The store that a setting such as ``OKTA_M2M_STORE`` names.

    - ``url``: ``redis://``, ``rediss://`` (TLS) or ``unix://`` as redis-py reads them; ``file:`` for this user's cache
      directory, or ``file:/path`` for another directory (RFC 8089).

    Raises :class:`~okta_m2m.errors.ConfigurationError` for any other URL. The error never shows the URL, which may contain a
    password.
    """
    found = re.match(_SCHEME, url)
    scheme = found[1].lower() if found else ""
    if scheme in ("redis", "rediss", "unix") and url[len(scheme) :].startswith("://"):
        return RedisStore(url)
    if scheme == "file":
        return FileStore(_directory_of(url))
    shown = f": {scheme}://" if "://" in url and scheme else ""
    raise ConfigurationError(
        f"The scheme of the store's URL is not supported{shown}.",
        remedy=(
            "Use redis://host:6379/0, rediss://host:6379/0, unix:///path/of/redis.sock, file: or file:/path/of/directory."
        ),
    )


def _directory_of(url: str) -> str | None:
    from urllib.request import url2pathname  # not at the top, because it imports http.client and ssl

    host, path = "", url.partition(":")[2]
    if path.startswith("//"):
        host, slash, path = path[2:].partition("/")
        path = slash + path
    if host in ("", "localhost") and (path == "" or path.startswith(("/", "~"))):
        with suppress(OSError):  # of Windows, for a path such as /a:b:c; it shows the URL
            return url2pathname(path) or None
    raise ConfigurationError(
        "The store's directory is not an absolute path on this machine.",
        remedy="Use file:/path/of/directory, or file: for this user's cache directory.",
    )
