"""Shares tokens through Redis or Valkey, 6.2 and newer.

Invariant: each operation is one atomic command, and can be repeated safely. A key's value and claim are in one Cluster
slot. No event loop is ever blocked, or uses another loop's connection.

The scripts are sent in full with each ``EVAL``. They are shorter than a token, and this works even after a server was
restarted, flushed or promoted.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar
from urllib.parse import urlsplit

from .._core.crash_reports import without_locals
from .._core.tokens import not_picklable
from ..errors import ConfigurationError

if TYPE_CHECKING:
    import socket

    import redis
    import redis.asyncio

    Blocking: TypeAlias = redis.Redis | redis.RedisCluster
    Async: TypeAlias = redis.asyncio.Redis | redis.asyncio.RedisCluster

__all__ = ["RedisStore"]

T = TypeVar("T")

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

      - a URL (``redis://``, ``rediss://``, ``unix://``) as redis-py reads it: serves threads, asyncio and trio at once;
      - a blocking client (``redis.Redis``, ``redis.RedisCluster``, a Sentinel's): serves them all, on event loops in
        worker threads;
      - a function that makes a client. If it makes ``redis.asyncio`` clients, each event loop gets its own;
      - a client of ``redis.asyncio``: serves the event loop on which it is first used, and no other.

    - ``prefix``: the beginning of all key names. A hash follows, so no key name reveals the token's app. Default
      ``okta-m2m``.
    - ``timeout``: seconds for each connection, command and response of a client that is made from a URL. The URL's own
      ``?socket_timeout=`` overrides it. A client that you pass keeps its own timeouts and retries, which should be short.
      Default 0.25.

    The parameters of its methods are those of :class:`~okta_m2m.stores.Store`: ``key``, ``value``, ``owner``, and ``ttl`` in
    seconds.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for a URL or client that cannot be used. Its methods raise redis-py's
    exceptions. In an event loop of asyncio they return awaitables, unless the client blocks (``on_loop``).
    """

    @without_locals
    def __init__(
        self,
        redis: str | Blocking | Async | Callable[[], Blocking | Async],
        *,
        prefix: str = "okta-m2m",
        timeout: float = 0.25,
    ) -> None:
        try:
            from redis import ResponseError
            from redis.client import NEVER_DECODE
        except ModuleNotFoundError:
            raise ConfigurationError(
                "A RedisStore needs redis.", remedy="Install it with: pip install 'okta-m2m[redis]'"
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
        self._blocking: Blocking | None = None
        self._make_client: Callable[[], Async] | None = None
        self._clients: dict[asyncio.AbstractEventLoop, tuple[Async, weakref.finalize[..., Any]]] = {}
        self._callers_client: Async | None = None
        self._home_loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        if isinstance(redis, str):
            self._label = _safe_url(redis)
            self._blocking, self._make_client = _from_url(redis, timeout)
        else:
            given: Any = redis
            is_client = hasattr(given, "execute_command") and not isinstance(given, type)
            client: Any = given if is_client else _call_factory(given)
            # Do not show the repr, which may contain a password.
            self._label = f"{type(client).__module__.rpartition('.')[0]}.{type(client).__name__}"
            if not inspect.iscoroutinefunction(client.execute_command):
                self._blocking = client
            elif is_client:
                self._callers_client = client
            else:
                # This client was created only to find its type. It has no connection yet, so it need not be closed.
                self._make_client = given

    @property
    def on_loop(self) -> bool:
        """Whether its methods return awaitables in an event loop of asyncio; otherwise they block."""
        return self._make_client is not None or self._callers_client is not None

    def load(self, key: str) -> bytes | Awaitable[bytes | None] | None:
        """The value under ``key``; ``None`` if there is none."""
        return self._perform(_read_value, "GETRANGE", self._name(key, "value"), 0, MAX_VALUE_SIZE, **self._as_bytes)

    def save(self, key: str, value: bytes, ttl: float, owner: str) -> bool | Awaitable[bool]:
        """Stores ``value`` for ``ttl`` seconds if the claim is the owner's."""
        claim, name = self._name(key, "claim"), self._name(key, "value")
        return self._perform(_read_flag, "EVAL", _SAVE, 2, claim, name, owner, value, _milliseconds(ttl))

    def claim(self, key: str, owner: str, ttl: float) -> bool | Awaitable[bool]:
        """Takes or extends the claim, unless another owner has it."""
        return self._perform(_read_flag, "EVAL", _CLAIM, 1, self._name(key, "claim"), owner, _milliseconds(ttl))

    def release(self, key: str, owner: str) -> Awaitable[None] | None:
        """Ends the claim if it is the owner's."""
        return self._perform(_ignore, "EVAL", _RELEASE, 1, self._name(key, "claim"), owner)

    def __repr__(self) -> str:
        return f"RedisStore({getattr(self, '_label', 'not made')!r}, prefix={getattr(self, '_prefix', '')!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        not_picklable("A RedisStore", "Create one in each process.")

    def _name(self, key: str, record: str) -> str:
        # The hash keeps braces in a key, which may be any string, from changing the Cluster slot.
        return f"{self._prefix}:{{{sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}}}:{record}"

    def _perform(self, read: Callable[[Any], T], *command: Any, **options: Any) -> T | Awaitable[T]:
        loop = _running_loop()
        if loop is not None and self.on_loop:
            return self._perform_on_loop(loop, read, command, options)
        blocking: Any = self._blocking  # redis-py's execute_command has no types
        if blocking is None:
            raise ConfigurationError(
                f"{self!r} has a client of redis.asyncio, which works only in an asyncio event loop.",
                remedy="Create the store with a URL, or with a blocking client.",
            )
        try:
            answer = blocking.execute_command(*command, **options)
        except self._response_error as error:
            answer = _read_error(error, read)
        return read(answer)

    async def _perform_on_loop(
        self,
        loop: asyncio.AbstractEventLoop,
        read: Callable[[Any], T],
        command: tuple[Any, ...],
        options: dict[str, Any],
    ) -> T:
        client = await self._client_of(loop)
        try:
            answer = await client.execute_command(*command, **options)
        except self._response_error as error:
            answer = _read_error(error, read)
        return read(answer)

    async def _client_of(self, loop: asyncio.AbstractEventLoop) -> Async:
        if self._callers_client is not None:
            if self._home_loop is None:
                self._home_loop = weakref.ref(loop)
            if self._home_loop() is loop:
                return self._callers_client
            raise ConfigurationError(
                f"{self!r} has a client of redis.asyncio that belongs to another event loop.",
                remedy=(
                    "Create the store with a URL, or with a function that makes a client, so that each event loop gets its own."
                ),
            )
        assert self._make_client is not None  # noqa: S101 (on_loop is true)
        known = self._clients.get(loop)
        if known is not None:
            return known[0]
        for other in list(self._clients):
            if other.is_closed():
                # The loop was closed without shutdown_asyncgens(). A client refers to its loop, so a weak reference to the loop
                # would never die. Remove the entry here.
                self._clients.pop(other)[1].detach()
        client = self._make_client()
        lifetime = _lifetime(loop, client, weakref.ref(self))
        finalizer = weakref.finalize(self, _drop, lifetime)
        finalizer.atexit = False
        self._clients[loop] = client, finalizer
        await anext(lifetime)
        return client


async def _lifetime(
    loop: asyncio.AbstractEventLoop, client: Async, store: weakref.ref[RedisStore]
) -> AsyncGenerator[None, None]:
    # An event loop closes the asynchronous generators that were started on it, before it is closed itself or as soon as
    # they are unreferenced (PEP 525). So the client is closed on its own loop, without a call by the user.
    try:
        yield
    finally:
        living = store()
        known = living._clients.pop(loop, None) if living is not None else None
        if known is not None:
            known[1].detach()
        await client.aclose()


def _drop(lifetime: AsyncGenerator[None, None]) -> None:
    """Called when the store is gone. The last reference to ``lifetime`` ends with this call, and its loop closes it."""


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _call_factory(factory: object) -> Any:
    client = factory() if callable(factory) else None
    if hasattr(client, "execute_command"):
        return client
    what = f"a function that makes a {type(client).__name__}" if callable(factory) else f"a {type(factory).__name__}"
    raise ConfigurationError(
        f"A RedisStore was given {what}.", remedy="Pass a URL, a client of redis-py, or a function that makes one."
    )


def _from_url(url: str, timeout: float) -> tuple[Blocking, Callable[[], Async]]:
    import redis
    import redis.asyncio
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # One retry if the connection is broken, like a pooled one after a restart of the server. No retry after a timeout,
    # because no time is left then.
    once = (redis.ConnectionError,)
    settings: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry_on_error": [*once],  # redis-py before 6 needs this too
        # With protocol 2, a new connection sends nothing but AUTH before its first command. All of this shares one
        # time limit, and when many processes start at once, each further round trip takes long.
        "protocol": 2,
        **_anonymous_options(),
    }
    if url.lower().startswith("rediss:"):
        settings["ssl_check_hostname"] = True  # redis-py before 6 does not check it by default

    def make_client() -> Async:
        return redis.asyncio.Redis.from_url(url, retry=AsyncRetry(NoBackoff(), 1, once), **settings)

    blocking, trouble = None, ""
    try:
        blocking = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 1, once), **settings)
        pool = blocking.connection_pool
        pool.connection_class = _limited(pool.connection_class)
        pool.connection_class(**pool.connection_kwargs)  # does not connect, but checks all options
    except (ValueError, TypeError) as error:
        trouble = type(error).__name__  # its text may contain half a password, so it is neither shown nor chained
    if blocking is None or trouble:
        raise ConfigurationError(
            f"The Redis URL cannot be read, or has an option that redis-py does not know ({trouble}).",
            remedy=(
                "Write it as redis://user:password@host:6379/0, and %-escape everything in the password except "
                "letters and digits."
            ),
        )
    return blocking, make_client


def _limited(connection_class: Any) -> Any:
    """A class of connections whose ``socket_timeout`` limits the whole of a response. redis-py limits each read from the
    socket, so a server that sends without end would keep the thread, and fill the memory.

    redis-py has no public place for this, so it uses two of its private names, ``_connect`` and ``_sock``. The tests run with
    the lowest version and with the newest.
    """

    class Connection(connection_class):  # type: ignore[misc]  # a class that is passed in
        def _connect(self) -> _LimitedSocket:
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


def _anonymous_options() -> dict[str, None]:
    """The options that keep redis-py from sending its own name and version, which would take two more commands."""
    from redis.connection import AbstractConnection

    known = inspect.signature(AbstractConnection).parameters
    return dict.fromkeys(["driver_info"] if "driver_info" in known else ["lib_name", "lib_version"])


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


def _read_error(error: Exception, read: Callable[[Any], Any]) -> bytes:
    """Handles a failed read: a value of another type is not ours and counts as missing. The next save replaces it."""
    if read is _read_value and str(error).startswith("WRONGTYPE"):
        return b""
    raise error


def _read_value(answer: bytes) -> bytes | None:
    return answer if 0 < len(answer) <= MAX_VALUE_SIZE else None


def _read_flag(answer: object) -> bool:
    if answer not in (0, 1):
        raise ValueError("not a response from a Redis server")
    return answer == 1


def _ignore(answer: object) -> None:
    return None
