"""What every OktaAuth is, whichever client it is for.

Invariant: it serves one app, says which, can be copied, and cannot be pickled.
"""

from __future__ import annotations

from typing import Any, NoReturn, Self

from .._core.service_app import ServiceApp

__all__ = ["AuthObject"]


class AuthObject:
    """Base of the auth classes. ``app``: the service app whose token they attach."""

    __slots__ = ()

    app: ServiceApp

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}({self.app!r})"

    def __copy__(self) -> Self:
        made = object.__new__(type(self))
        state: Any = object.__getstate__(self)
        for part in state if isinstance(state, tuple) else (state,):  # what is in __dict__, and what is in slots
            for name, value in (part or {}).items():
                object.__setattr__(made, name, value)
        return made

    def __deepcopy__(self, memo: object) -> Self:
        return self  # a source of tokens is not data

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} cannot be pickled, because it holds secrets. Make one in the other process, from the same "
            "settings."
        )
