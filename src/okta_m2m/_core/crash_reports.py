"""Keeps secrets out of crash reports, which show the local variables of every frame that an exception passed through.

Two tools. :class:`Hidden` is for a secret that is held while something may fail. :func:`without_locals` is for a function
that is given a secret, or that reads one.

Invariant: no local variable of a frame of ours shows a secret where an exception can leave that frame.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from .records import Generic, Record

__all__ = ["Hidden", "without_locals"]

P = ParamSpec("P")
T = TypeVar("T")


class Hidden(Record, Generic[T], hidden=("value",)):
    """A value that no ``repr`` shows. Reporters show a dict or a list item by item, so their own ``repr`` would not do."""

    value: T


def without_locals(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator: what the function raises keeps its traceback, but no frame in it keeps its local variables.

    That includes the frames of what the function calls, such as a JSON parser's, and its own arguments.
    """

    @wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return function(*arguments, **named)
        except BaseException as error:  # noqa: BLE001 (raised below, and Ctrl-C may come at any moment)
            failure = error
        del arguments, named
        try:
            clear_locals(failure)
            raise failure
        finally:
            del failure  # it would keep itself alive

    return call


def clear_locals(error: BaseException) -> None:
    """Clears the local variables of all frames that have ended, in the tracebacks of an exception and of what led to it."""
    import sys
    from traceback import clear_frames

    handled = sys.exception()  # what the caller was handling already, with frames of the caller's own
    seen = {id(handled)}
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            clear_frames(link.__traceback__)
            waiting += [link.__cause__, link.__context__]
