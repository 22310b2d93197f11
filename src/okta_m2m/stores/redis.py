"""Sharing through Redis or Valkey, 6.2 and newer.

Invariant: each operation is one command to the server, atomic there, and may be repeated without harm; value and claim
of a key lie in one Cluster slot; and no event loop is ever blocked, nor given another loop's connection.

The scripts are sent in full with each ``EVAL``. They are shorter than a token, and so a server that was restarted,
flushed or promoted has nothing to miss.
"""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar
from urllib.parse import urlsplit

from .._core.tokens import not_picklable
from ..errors import ConfigurationError

if TYPE_CHECKING:
    import redis
    import redis.asyncio

    Blocking: TypeAlias = redis.Redis | redis.RedisCluster
    Async: TypeAlias = redis.asyncio.Redis | redis.asyncio.RedisCluster

__all__ = ["RedisStore"]

T = TypeVar("T")

LARGEST = 1 << 20
"""Bytes above which what is stored under a key is not read: it would be none of ours, and could be half a gigabyte."""

# A claim of another type, or one without an end, is none of ours; left standing, it would keep everybody out for ever.
# Any other error, such as a missing permission, must not be taken for that.
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
    """Tokens in Redis or Valkey, shared by every process that reaches it.

    - ``redis``: where it is. One of

      - a URL (``redis://``, ``rediss://``, ``unix://``) as redis-py reads it: serves threads, asyncio and trio at once;
      - a blocking client (``redis.Redis``, ``redis.RedisCluster``, of a Sentinel): serves them all, in worker threads
        where there is an event loop;
      - a function that makes a client. Of ``redis.asyncio`` clients it makes one for each event loop;
      - a client of ``redis.asyncio``: serves the event loop on which it is first used, and no other.

    - ``prefix``: begins the names of all keys. What follows is a hash: no key tells whose token it is.
    - ``timeout``: seconds for each connection, read and write of a client that is made from a URL; the URL's own
      ``?socket_timeout=`` wins. A client of yours keeps its own time-outs and retries: give it short ones.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for a URL or client that cannot serve; its methods raise redis-py's
    exceptions. In an event loop of asyncio they return awaitables, unless the client blocks (``on_loop``).
    """

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
                "A RedisStore needs redis. Install it with: pip install 'okta-m2m[redis]'"
            ) from None
        if "{" in prefix or "}" in prefix:
            raise ConfigurationError("The prefix holds a brace, which is Redis's mark of a Cluster slot. Leave it out.")
        # Needed for each reading: the client may be one that decodes answers as text.
        self._as_bytes = {NEVER_DECODE: True}
        self._response_error = ResponseError
        self._prefix = prefix
        self._where: str
        self._blocking: Blocking | None = None
        self._new: Callable[[], Async] | None = None
        self._clients: dict[asyncio.AbstractEventLoop, tuple[Async, weakref.finalize[..., Any]]] = {}
        self._lent: Async | None = None
        self._home: weakref.ref[asyncio.AbstractEventLoop] | None = None
        if isinstance(redis, str):
            self._where = _shown(redis)
            self._blocking, self._new = _from_url(redis, timeout)
        else:
            given: Any = redis
            lent = hasattr(given, "execute_command") and not isinstance(given, type)
            made: Any = given if lent else _made(given)
            self._where = f"{type(made).__module__.rpartition('.')[0]}.{type(made).__name__}"  # its own repr shows more
            if not inspect.iscoroutinefunction(made.execute_command):
                self._blocking = made
            elif lent:
                self._lent = made
            else:
                # The one just made, to see its kind, has connected to nothing and is left to the garbage collector.
                self._new = given

    @property
    def on_loop(self) -> bool:
        """Whether its methods, in an event loop of asyncio, return awaitables; otherwise they block."""
        return self._new is not None or self._lent is not None

    def load(self, key: str) -> bytes | Awaitable[bytes | None] | None:
        """The value under ``key``."""
        return self._perform(_value, "GETRANGE", self._name(key, "value"), 0, LARGEST, **self._as_bytes)

    def save(self, key: str, value: bytes, ttl: float, owner: str) -> bool | Awaitable[bool]:
        """Stores ``value`` for ``ttl`` seconds if the claim is the owner's."""
        claim, name = self._name(key, "claim"), self._name(key, "value")
        return self._perform(_yes, "EVAL", _SAVE, 2, claim, name, owner, value, _milliseconds(ttl))

    def claim(self, key: str, owner: str, ttl: float) -> bool | Awaitable[bool]:
        """Takes or extends the claim, unless another owner has it."""
        return self._perform(_yes, "EVAL", _CLAIM, 1, self._name(key, "claim"), owner, _milliseconds(ttl))

    def release(self, key: str, owner: str) -> Awaitable[None] | None:
        """Ends the claim if it is the owner's."""
        return self._perform(_nothing, "EVAL", _RELEASE, 1, self._name(key, "claim"), owner)

    def __repr__(self) -> str:
        return f"RedisStore({self._where!r}, prefix={self._prefix!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        not_picklable("A RedisStore", "Make one in each process.")

    def _name(self, key: str, record: str) -> str:
        # A key may be any text, braces included, which would move the hash tag.
        return f"{self._prefix}:{{{sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}}}:{record}"

    def _perform(self, read: Callable[[Any], T], *command: Any, **options: Any) -> T | Awaitable[T]:
        loop = _running_loop()
        if loop is not None and self.on_loop:
            return self._awaited(loop, read, command, options)
        blocking: Any = self._blocking  # redis-py's execute_command has no types
        if blocking is None:
            raise ConfigurationError(
                f"{self!r} has a client of redis.asyncio, which can be used in an event loop of asyncio only. "
                "Give the store a URL, or a client of redis."
            )
        try:
            answer = blocking.execute_command(*command, **options)
        except self._response_error as error:
            answer = _instead(error, read)
        return read(answer)

    async def _awaited(
        self,
        loop: asyncio.AbstractEventLoop,
        read: Callable[[Any], T],
        command: tuple[Any, ...],
        options: dict[str, Any],
    ) -> T:
        client = await self._client(loop)
        try:
            answer = await client.execute_command(*command, **options)
        except self._response_error as error:
            answer = _instead(error, read)
        return read(answer)

    async def _client(self, loop: asyncio.AbstractEventLoop) -> Async:
        if self._lent is not None:
            if self._home is None:
                self._home = weakref.ref(loop)
            if self._home() is loop:
                return self._lent
            raise ConfigurationError(
                f"{self!r} has a client of redis.asyncio that belongs to another event loop. Give the store a URL, or a "
                "function that makes a client: it then has one for each event loop."
            )
        assert self._new is not None  # noqa: S101 (on_loop was asked)
        known = self._clients.get(loop)
        if known is not None:
            return known[0]
        for other in list(self._clients):
            if other.is_closed():
                # One that was closed without shutdown_asyncgens(). A client refers to its loop, so weak references to
                # loops would never die, and the entry has to be taken out.
                self._clients.pop(other)[1].detach()
        client = self._new()
        lifetime = _lifetime(loop, client, weakref.ref(self))
        held = weakref.finalize(self, _let_go, lifetime)
        held.atexit = False
        self._clients[loop] = client, held
        await anext(lifetime)
        return client


async def _lifetime(
    loop: asyncio.AbstractEventLoop, client: Async, store: weakref.ref[RedisStore]
) -> AsyncGenerator[None, None]:
    # A loop closes the asynchronous generators that were begun on it before it is closed itself, or when nobody refers to
    # them any more (PEP 525). So the client is closed on its own loop without anybody having to ask for it.
    try:
        yield
    finally:
        living = store()
        known = living._clients.pop(loop, None) if living is not None else None
        if known is not None:
            known[1].detach()
        await client.aclose()


def _let_go(lifetime: AsyncGenerator[None, None]) -> None:
    """When the store is gone: the last reference to ``lifetime`` goes with this call, and its loop closes it."""


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _made(factory: object) -> Any:
    made = factory() if callable(factory) else None
    if hasattr(made, "execute_command"):
        return made
    what = f"a function that makes a {type(made).__name__}" if callable(factory) else f"a {type(factory).__name__}"
    raise ConfigurationError(
        f"A RedisStore was given {what}. Give it a URL, a client of redis-py, or a function that makes one."
    )


def _from_url(url: str, timeout: float) -> tuple[Blocking, Callable[[], Async]]:
    import redis
    import redis.asyncio
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # Once more where the connection broke, as a pooled one does when the server was restarted. Never after a time-out:
    # there is no time left then.
    once = (redis.ConnectionError,)
    settings: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry_on_error": [*once],  # redis-py before 6 asks this too before it tries again
        # A new connection's first command waits for nothing but AUTH: there is one budget for all of it, and at a cold
        # start of many processes each further question to the server takes its time.
        "protocol": 2,
        **_anonymous(),
    }
    if url.lower().startswith("rediss:"):
        settings["ssl_check_hostname"] = True  # redis-py before 6 does not by itself

    def new() -> Async:
        return redis.asyncio.Redis.from_url(url, retry=AsyncRetry(NoBackoff(), 1, once), **settings)

    blocking, wrong = None, ""
    try:
        blocking = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 1, once), **settings)
        pool = blocking.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # connects to nothing, but knows all options
    except (ValueError, TypeError) as error:
        wrong = type(error).__name__  # its text may hold half a password, so it is neither shown nor chained
    if blocking is None or wrong:
        raise ConfigurationError(
            f"The Redis URL cannot be read, or has an option that redis-py does not know ({wrong}). Write it as "
            "redis://user:password@host:6379/0, with %-escapes in the password for what is neither letter nor digit."
        )
    return blocking, new


def _anonymous() -> dict[str, None]:
    """The options that keep redis-py from telling the server its own name and version, with two commands."""
    from redis.connection import AbstractConnection

    known = inspect.signature(AbstractConnection).parameters
    return dict.fromkeys(["driver_info"] if "driver_info" in known else ["lib_name", "lib_version"])


def _shown(url: str) -> str:
    """The URL without user, password and options."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
    except ValueError:
        return "redis"  # it will be refused


def _milliseconds(ttl: float) -> int:
    return max(1, round(ttl * 1000))


def _instead(error: Exception, read: Callable[[Any], Any]) -> bytes:
    """A value of another type is none of ours, and counts as none: the next save puts one of ours in its place."""
    if read is _value and str(error).startswith("WRONGTYPE"):
        return b""
    raise error


def _value(answer: bytes) -> bytes | None:
    return answer if 0 < len(answer) <= LARGEST else None


def _yes(answer: object) -> bool:
    if answer not in (0, 1):
        raise ValueError("that is no answer of a Redis server")
    return answer == 1


def _nothing(answer: object) -> None:
    return None
