"""Where tokens are shared between processes: what a store is, and the one that a setting names.

Invariant: a store sees bytes that are sealed already (:mod:`okta_m2m.stores.sealing`) and holds nothing that cannot be
lost. Importing this package imports no engine.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from .file import FileStore
    from .redis import RedisStore

__all__ = ["Store", "store_from_url"]


class Store(Protocol):
    """Bytes in, bytes out, under keys that are any text; each method may return an awaitable.

    Of each key a store keeps two records that do not touch each other: a *value*, and a *claim*, which is a lease: it
    belongs to one ``owner`` and ends by itself. ``ttl`` is in seconds, and may be a fraction. Every method may raise
    whatever it likes when the store cannot do its work; what raises, or takes too long, is treated as no store.
    ``okta_m2m.testing.StoreConformance`` shows whether a store keeps these promises.

    One more is looked at where a store has it: ``on_loop = True`` says that inside a running asyncio loop the methods
    return awaitables and never block. A store without it is called in a worker thread where there is an event loop.
    """

    def load(self, key: str, /) -> bytes | Awaitable[bytes | None] | None:
        """The value, or ``None`` if there is none, or it has expired, or it cannot be read as one."""
        ...

    def save(self, key: str, value: bytes, ttl: float, owner: str, /) -> bool | Awaitable[bool]:
        """Stores the value for ``ttl`` seconds, and answers ``True``, only while the claim is the owner's.

        This is the fence: an owner that was away for too long cannot put an older token in the place of a newer one.
        The look at the claim and the storing are one step, which no other process can come between.
        """
        ...

    def claim(self, key: str, owner: str, ttl: float, /) -> bool | Awaitable[bool]:
        """Whether the claim is the owner's now, for ``ttl`` seconds: because it was free, or because it was his before."""
        ...

    def release(self, key: str, owner: str, /) -> Awaitable[None] | None:
        """Gives the claim up, if it is the owner's; otherwise nothing happens."""
        ...


_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20}):")


def store_from_url(url: str) -> RedisStore | FileStore:
    """The store that a setting such as ``OKTA_M2M_STORE`` names.

    - ``redis://``, ``rediss://`` (TLS) and ``unix://`` as redis-py reads them.
    - ``file:`` for a directory of this user's, or ``file:/path`` for one of your choice (RFC 8089).

    Raises :class:`~okta_m2m.errors.ConfigurationError` for any other; it never shows the URL, which may hold a password.
    """
    found = _SCHEME.match(url)
    scheme = found[1].lower() if found else ""
    if scheme in ("redis", "rediss", "unix") and url[len(scheme) :].startswith("://"):
        from .redis import RedisStore

        return RedisStore(url)
    if scheme == "file":
        from .file import FileStore

        return FileStore(_directory(url))
    said = f" It begins with {scheme}://." if "://" in url and scheme else ""
    raise ConfigurationError(
        f"The store's URL names no store that is known here.{said} Use redis://host:6379/0, rediss://host:6379/0, "
        "unix:///path/of/redis.sock, file: or file:/path/of/directory."
    )


def _directory(url: str) -> str | None:
    path = url.partition(":")[2]
    host = ""
    if path.startswith("//"):
        parts = urlsplit(url)
        host, path = parts.netloc, parts.path
    if host not in ("", "localhost") or not (path == "" or path.startswith(("/", "~"))):
        raise ConfigurationError(
            "The store's directory is not an absolute path on this machine. Use file:/path/of/directory, "
            "or file: for a directory of this user's."
        )
    from urllib.request import url2pathname  # here, because it brings http.client and ssl along

    return url2pathname(path) or None
