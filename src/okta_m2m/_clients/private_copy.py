"""A private copy of a caller's client, for one request."""

from __future__ import annotations

from typing import Any

__all__ = ["private_copy"]


def private_copy(client: Any, **changes: Any) -> Any:
    """A caller's client with some attributes of its own, for one request: what it uses is shared, and what is set in it by
    that request goes with it. The libraries' own ways to copy one forget what subclasses add."""
    kind = type(client)
    try:
        # Whatever the caller's class does when it is collected is not to be done now.
        made: Any = object.__new__(type(kind.__name__, (kind,), {"__del__": lambda _: None}))
        for slot in (slot for base in kind.__mro__ for slot in vars(base).get("__slots__", ())):
            if slot not in ("__dict__", "__weakref__") and hasattr(client, slot):
                setattr(made, slot, getattr(client, slot))
        vars(made).update(vars(client), **changes)
    except (AttributeError, TypeError):  # of a kind that cannot be copied, such as a stand-in
        return client
    return made
