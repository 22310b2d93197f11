"""Shares tokens through Redis or Valkey, 6.2 and newer.

Invariant: each operation is one atomic command, and can be repeated safely. A key's value and claim are in one Cluster
slot. The client blocks its thread, so it must not be one of ``redis.asyncio``.

The scripts are sent in full with each ``EVAL``. They are shorter than a token, and this works even after a server was
restarted, flushed or promoted.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias
from urllib.parse import urlsplit

from .._base.crash_reports import without_locals
from .._base.tokens import not_picklable
from .._threads.workers import importing
from ..errors import ConfigurationError, install_command

if TYPE_CHECKING:
    import socket

    import redis

    Client: TypeAlias = redis.Redis | redis.RedisCluster

__all__ = ["RedisStore"]

MAX_VALUE_SIZE = 1 << 20
"""Size of the largest value that is read, in bytes. A larger value is not ours, and could be half a gigabyte."""

# A claim of another type, or without an expiry, is not ours. If it stayed, no process could ever claim the key. Any other
# error, such as a missing permission, is passed on.
_CLAIM = """
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'table' and not string.find(held.err, 'WRONGTYPE', 1, true) then return held end
if type(held) == 'string' and held ~= ARGV[1] and redis.call('PTTL', KEYS[1]) >= 0 then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_SAVE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 0
"""


class RedisStore:
    """Keeps tokens in Redis or Valkey, for all processes that can connect to it.

    - ``redis``: one of

      - a URL (``redis://``, ``rediss://``, ``unix://``) as redis-py reads it;
      - a blocking client of redis-py (``redis.Redis``, ``redis.RedisCluster``, a Sentinel's);
      - a function that makes a blocking client. It is called once, by the constructor.

    - ``prefix``: the beginning of all key names. A hash follows, so no key name reveals the token's app. Default
      ``okta-m2m``.
    - ``timeout``: seconds for each connection, command and response of a client that is made from a URL. The URL's own
      ``?socket_timeout=`` overrides it. A client that you pass keeps its own timeouts and retries, which should be short.
      Default 0.25.

    The parameters of its methods are those of :class:`~okta_m2m.stores.Store`: ``key``, ``value``, ``owner``, and ``ttl`` in
    seconds.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for a URL or client that cannot be used, such as a client of
    ``redis.asyncio``. Its methods block, and raise redis-py's exceptions.
    """

    @without_locals
    def __init__(
        self,
        redis: str | Client | Callable[[], Client],
        *,
        prefix: str = "okta-m2m",
        timeout: float = 0.25,
    ) -> None:
        try:
            from redis import ResponseError
            from redis.client import NEVER_DECODE
        except ModuleNotFoundError:
            raise ConfigurationError(
                "A RedisStore needs redis.", remedy=f"Install it with: {install_command('redis')}"
            ) from None
        if "{" in prefix or "}" in prefix:
            raise ConfigurationError(
                "The prefix contains a brace, which marks a Cluster slot in Redis.", remedy="Remove it."
            )
        # Needed for each read, because a caller's client may decode responses as text.
        self._as_bytes = {NEVER_DECODE: True}
        self._response_error = ResponseError
        self._prefix = prefix
        self._label: str
        self._client: Any  # redis-py's execute_command has no types
        if isinstance(redis, str):
            self._label = _safe_url(redis)
            self._client = client = _from_url(redis, timeout)
            # Unlike __del__, this closes the connections before the garbage collector gets to their sockets, which would warn.
            weakref.finalize(self, client.close).atexit = False
        else:
            self._client = _blocking_client(redis)
            # Do not show the repr, which may contain a password.
            kind = type(self._client)
            self._label = f"{kind.__module__.rpartition('.')[0]}.{kind.__name__}"

    def load(self, key: str) -> bytes | None:
        """The value under ``key``; ``None`` if there is none."""
        name = self._name(key, "value")
        try:
            value: bytes = self._client.execute_command("GETRANGE", name, 0, MAX_VALUE_SIZE, **self._as_bytes)
        except self._response_error as error:
            if str(error).startswith("WRONGTYPE"):
                return None  # a value of another type is not ours; the next save replaces it
            raise
        return value if 0 < len(value) <= MAX_VALUE_SIZE else None

    def save(self, key: str, value: bytes, ttl: float, owner: str) -> bool:
        """Stores ``value`` under ``key`` for ``ttl`` seconds if ``owner`` has the claim."""
        claim, name = self._name(key, "claim"), self._name(key, "value")
        return self._flag("EVAL", _SAVE, 2, claim, name, owner, value, _milliseconds(ttl))

    def claim(self, key: str, owner: str, ttl: float) -> bool:
        """Takes or extends the claim on ``key`` for ``ttl`` seconds, unless someone other than ``owner`` has it."""
        return self._flag("EVAL", _CLAIM, 1, self._name(key, "claim"), owner, _milliseconds(ttl))

    def release(self, key: str, owner: str) -> None:
        """Ends the claim on ``key`` if ``owner`` has it."""
        self._flag("EVAL", _RELEASE, 1, self._name(key, "claim"), owner)

    def __repr__(self) -> str:
        return f"RedisStore({getattr(self, '_label', 'not made')!r}, prefix={getattr(self, '_prefix', '')!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        not_picklable("A RedisStore", "Create one in each process.")

    def _name(self, key: str, record: str) -> str:
        # The hash keeps braces in a key, which may be any string, from changing the Cluster slot.
        return f"{self._prefix}:{{{sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}}}:{record}"

    def _flag(self, *command: Any) -> bool:
        answer = self._client.execute_command(*command)
        if answer not in (0, 1):
            raise ValueError("not a response from a Redis server")
        return bool(answer)


def _blocking_client(given: Any) -> Any:
    """The client that was passed, or that the function that was passed makes."""
    import inspect  # heavy

    is_client = hasattr(given, "execute_command") and not isinstance(given, type)
    client: Any = given if is_client or not callable(given) else given()
    maker = "" if client is given else "a function that makes "
    if inspect.iscoroutine(client):
        client.close()  # otherwise Python warns that it was never awaited
        what = "a coroutine function, but calls its client in threads"
    elif not hasattr(client, "execute_command"):
        what = f"{maker}an object of type {type(client).__name__}"
    elif inspect.iscoroutinefunction(client.execute_command):
        # A client that was made here has no connection yet, so it need not be closed.
        what = f"{maker}a redis.asyncio client, but calls its client in threads"
    else:
        return client
    raise ConfigurationError(
        f"A RedisStore was given {what}.",
        remedy="Pass a URL, a blocking client such as redis.Redis, or a function that makes one.",
    )


def _from_url(url: str, timeout: float) -> Client:
    with importing():
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

    # One retry if the connection is broken, like a pooled one after a restart of the server. No retry after a timeout,
    # because no time is left then.
    retry = Retry(NoBackoff(), 1, (redis.ConnectionError,))
    try:
        # With protocol 2, a new connection sends nothing but AUTH before its first command. All of this shares one time limit,
        # and when many processes start at once, each further round trip takes long.
        client = redis.Redis.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=retry, protocol=2
        )
        pool = client.connection_pool
        pool.connection_class = _limited(pool.connection_class)
        pool.connection_class(**pool.connection_kwargs)  # does not connect, but checks all options
        return client
    except (ValueError, TypeError) as error:
        trouble = type(error).__name__  # its text may contain half a password, so it is neither shown nor chained
    raise ConfigurationError(
        f"The Redis URL cannot be read, or has an option that redis-py does not know ({trouble}).",
        remedy=(
            "Write it as redis://user:password@host:6379/0, and %-escape everything in the password except "
            "letters and digits."
        ),
    )


def _limited(connection_class: Any) -> Any:
    """A class of connections whose ``socket_timeout`` limits the whole of a response. redis-py limits each read from the
    socket, so a server that sends without end would keep the thread, and fill the memory.

    It also does not send redis-py's own name and version, which would take two more commands, and which the permissions in
    the documentation do not allow.

    redis-py has no public place for the limit, so it uses two of its private names, ``_connect`` and ``_sock``. The tests run
    with the lowest version and with the newest.
    """

    class Connection(connection_class):  # type: ignore[misc]  # a class that is passed in
        def _connect(self) -> _LimitedSocket:
            self.driver_info = self.lib_name = self.lib_version = None
            return _LimitedSocket(super()._connect())

        def read_response(self, *arguments: Any, **options: Any) -> Any:
            limited: _LimitedSocket = self._sock
            limited.begin(self.socket_timeout)
            try:
                return super().read_response(*arguments, **options)
            finally:
                limited.end()

    return Connection


class _LimitedSocket:
    """A socket that raises ``TimeoutError`` if a response is too large or arrives too slowly. redis-py then closes the
    connection."""

    _until: float
    _left: float

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.end()

    def begin(self, seconds: float) -> None:
        """Limits the next response."""
        self._until, self._left = time.monotonic() + seconds, 2 * MAX_VALUE_SIZE

    def end(self) -> None:
        """Ends the limit, for redis-py's look at a connection that is not in use."""
        self._until = self._left = math.inf

    def recv(self, size: int) -> bytes:
        received = self._socket.recv(size)
        self._count(len(received))
        return received

    def recv_into(self, buffer: Any) -> int:
        size = self._socket.recv_into(buffer)
        self._count(size)
        return size

    def _count(self, received: int) -> None:
        self._left -= received
        if self._left < 0 or time.monotonic() > self._until:
            raise TimeoutError("the response was too large or too slow")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


def _safe_url(url: str) -> str:
    """The URL without user, password and options."""
    try:
        parts = urlsplit(url)
        if "@" in parts.path + parts.query + parts.fragment:
            return parts.scheme  # a password with an unescaped / ? or # makes the other parts unreliable
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
    except ValueError:
        return "redis"  # such a URL is refused later


def _milliseconds(ttl: float) -> int:
    return max(1, round(ttl * 1000))
