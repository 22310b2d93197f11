"""A private copy of a caller's client, for one request."""

from __future__ import annotations

from typing import Any


def private_copy(client: Any, **changes: Any) -> Any:
    """A shallow copy of a caller's client for one request, with some other attributes. It shares connections;
    attributes set on it do not reach the original. The libraries' own copies of a client lose the attributes of
    subclasses."""
    kind = type(client)
    try:
        # When the copy is garbage-collected, it must not run the finalizer of the caller's class.
        made: Any = object.__new__(type(kind.__name__, (kind,), {"__del__": lambda _: None}))
        for slot in (slot for base in kind.__mro__ for slot in vars(base).get("__slots__", ())):
            if slot not in ("__dict__", "__weakref__") and hasattr(client, slot):
                setattr(made, slot, getattr(client, slot))
        vars(made).update(vars(client), **changes)
    except (AttributeError, TypeError):  # the object cannot be copied, such as a test double
        return client
    return made
