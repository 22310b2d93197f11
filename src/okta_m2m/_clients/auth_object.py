"""The common base of all OktaAuth classes.

Invariant: an object serves one app, names it in its ``repr``, can be copied, and cannot be pickled. If it is attached
wrongly, its error shows the right way: when it is created, or when an HTTP library uses it as something else. None of
this slows a call, except for 20 ns in aiohttp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from .._base.tokens import Token
from .._core.service_app import ServiceApp
from ..errors import ConfigurationError, WrongType, install_command
from ..runtimes import Asyncio, Trio, arun
from ..settings._arguments import ATTACH, attached_wrongly, kind_of

if TYPE_CHECKING:
    from collections.abc import Container

_APP = 'app = ServiceApp("https://acme.okta.com", client_id="0oa1b2c3", key=key, scopes=["okta.users.read"])'


class AuthObject:
    """Base class of the auth classes. ``app``: the service app whose token they attach."""

    __slots__ = ()

    app: ServiceApp

    _for: ClassVar[str]
    """The library that the class is for: the name of its module in this package."""

    def _check(
        self,
        app: object,
        misplaced: tuple[object, ...],
        send: object,
        own: object,
        option: str,
        kind: type[Any],
        *,
        of_loop: type[Any] | None = None,
    ) -> None:
        """Checks the constructor's arguments: the app, and ``own``, the client or session that was passed as ``option``, or a
        function that makes one. ``of_loop``: the class that belongs to an event loop, and so cannot be passed."""
        if not isinstance(app, ServiceApp):
            raise self._wrong_app(app)
        if misplaced:
            raise WrongType(
                f"{self._name()} takes one positional argument, the app.",
                remedy=f"Pass the others by name: OktaAuth(app, {option}=..., send=...)",
            )
        if kind is of_loop:
            remedy = f"Pass a function that makes {_full_name(kind)}, or omit it: OktaAuth(app)"
        else:
            remedy = f"Pass {_full_name(kind)}, or a function that makes one, or omit it: OktaAuth(app)"
        if of_loop is not None and isinstance(own, of_loop):
            raise WrongType(
                f"{self._name()} was given {_full_name(of_loop)} as {option}, which belongs to an event loop. Token "
                "requests are sent from threads.",
                remedy=remedy,
            )
        is_function = callable(own) and not isinstance(own, type)
        if own is not None and not isinstance(own, kind) and not is_function:
            raise WrongType(f"{self._name()} was given {kind_of(own)} as {option}.", remedy=remedy)
        if send is None:
            return
        from inspect import iscoroutinefunction  # a third of the package's import time

        if not callable(send) or iscoroutinefunction(send):
            given = "a coroutine function" if callable(send) else kind_of(send)
            raise WrongType(
                f"{self._name()} was given {given} as send.",
                remedy="Pass a plain function that sends the token request and blocks, or omit it: OktaAuth(app)",
            )

    def _wrong_app(self, app: object) -> WrongType:
        if type(app).__name__.endswith("Request"):
            return attached_wrongly(f"the class {self._name()} instead of an object", app)
        return WrongType(
            f"{self._name()} needs a service app, but was given {kind_of(app)}.",
            remedy=f"Write: {ATTACH[self._for]}, where {_APP}",
        )

    def _name(self) -> str:
        return f"okta_m2m.{self._for}.{type(self).__qualname__}"

    def _misused(self, request: object) -> WrongType:
        return attached_wrongly(f"an instance of {self._name()}", request)

    def _has_no(self, asked: str, clients: str, instead: str) -> WrongType:
        """The error for calling an awaitable method of a blocking client, or a blocking method of an async one."""
        return WrongType(f"{self._name()} is for {clients} clients, and has no {asked}().", remedy=f"Write: {instead}")

    if not TYPE_CHECKING:  # a type checker reports this by itself

        def __call__(self, request: object = None, handler: object = None) -> NoReturn:
            """Called by a library that this class is not for."""
            raise self._misused(request)

        def __iter__(self) -> NoReturn:
            """Raises an error: this is neither a list of middlewares nor a mapping of headers."""
            raise WrongType(f"{self._name()} is neither a list nor a mapping.", remedy=f"Write: {ATTACH[self._for]}")

        __len__ = items = __iter__

        def __bool__(self) -> bool:
            return True

    def __repr__(self) -> str:
        # The object may be incomplete, in a traceback of its own failed creation.
        return f"{type(self).__qualname__}({getattr(self, 'app', 'not made')!r})"

    def __copy__(self) -> Self:
        made = object.__new__(type(self))
        state: Any = object.__getstate__(self)
        for part in state if isinstance(state, tuple) else (state,):  # the contents of __dict__, and those of slots
            for name, value in (part or {}).items():
                object.__setattr__(made, name, value)
        return made

    def __deepcopy__(self, memo: object) -> Self:
        return self  # this is a source of tokens, not data

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} cannot be pickled, because it holds secrets. Create one in the other process, from the same "
            "settings."
        )


class AsyncAuthObject(AuthObject):
    """Base class of those for a client that is only async."""

    __slots__ = ()

    def _loop(self) -> Asyncio | Trio:
        """The runtime of a call that this client does not make."""
        raise NotImplementedError

    async def atoken(self) -> Token:
        """A usable token, for calls that this client does not make. Waits at most the app's ``max_wait`` seconds."""
        return await arun(self.app.obtain(), self._loop())

    async def aheaders(self, method: str, url: str) -> dict[str, str]:
        """The headers for one call that this client does not make. With DPoP, they are valid for one attempt.

        - ``method``, ``url``: those of the call.

        Raises :class:`~okta_m2m.errors.ConfigurationError` if the token must not be sent to that URL.
        """
        return await arun(self.app.headers(method, url), self._loop())

    def token(self) -> NoReturn:
        """Raises an error: this class is async, so use :meth:`atoken`."""
        raise self._has_no("token", "async", "await auth.atoken()")

    def headers(self, method: str, url: str) -> NoReturn:
        """Raises an error, whatever ``method`` and ``url`` are: this class is async, so use :meth:`aheaders`."""
        raise self._has_no("headers", "async", "await auth.aheaders(method, url)")


def placeholder(replaces: object) -> str | None:
    """The ``Authorization`` header that our token replaces, for the argument ``replaces`` of an auth class. No error shows the
    value, because it may be a real token."""
    if replaces is None:
        return None
    if not isinstance(replaces, str):
        raise WrongType(f"replaces must be a string, not {kind_of(replaces)}.", remedy='Write: replaces="unused"')
    if not replaces or not all("!" <= char <= "~" for char in replaces):
        raise ConfigurationError(
            "replaces must be a placeholder of visible ASCII characters, without spaces.",
            remedy='Write what the client has as its token, without "Bearer": replaces="unused"',
        )
    return f"Bearer {replaces}"


def is_replaced(app: ServiceApp, placeholder: str | None, authorization: str, url: str) -> bool:
    """Whether the caller's own ``Authorization`` header is the placeholder, and the URL may get our token in its place."""
    return authorization == placeholder and app.origins.allow(url)


def _full_name(kind: type[Any]) -> str:
    """With its article: ``an httpx.Client``, ``a requests.Session``."""
    library = kind.__module__.partition(".")[0]
    article = "an" if library in ("aiohttp", "httpx", "httpx2") else "a"
    return f"{article} {library}.{kind.__name__}"


def add_request(error: Any, request: object) -> None:
    """Adds the failed request to an error, as the library's own errors have it."""
    error.request = request


def concerns_proof(status: int, headers: Container[str]) -> bool:
    """Whether a response may reject a DPoP proof, or has the nonce for the next one (RFC 9449 sections 7.1 and 9). Any other
    response to a call with a bound token needs no judging."""
    return status in (400, 401) or "DPoP-Nonce" in headers


def missing_library(client: str, missing: ModuleNotFoundError, *, extra: str = "") -> ModuleNotFoundError:
    """The error if a client's module is imported without its library. ``extra``: the extra that installs it, if that has
    another name than the module."""
    extra = extra or client
    return ModuleNotFoundError(
        f"okta_m2m.{client} needs {missing.name}, which is not installed. Install it: {install_command(extra)}",
        name=missing.name,
    )
