"""Keeps secrets out of crash reports, which show the local variables of every frame that an exception passed through.

There are three tools: :class:`Hidden` for a secret in a variable while something may fail, :func:`without_locals` for
a function that receives or reads a secret, and :class:`HiddenText` and :class:`HiddenBytes` for what an HTTP library sends.

Invariant: if an exception can leave one of our frames, no local variable of that frame shows a secret.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Generic, ParamSpec, SupportsIndex, TypeVar

from .records import Record

P = ParamSpec("P")
T = TypeVar("T")


class Hidden(Record, Generic[T], hidden=("value",)):
    """A value that no ``repr`` shows. Reporters show a dict or a list item by item, so giving it a ``repr`` would
    not help."""

    value: T


class HiddenText(str):
    """A header's value, as ``str``. Only its ``repr`` and that of a part hide it. It is pickled as a plain ``str``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'[hidden]'"

    def __getitem__(self, key: SupportsIndex | slice) -> HiddenText:
        return HiddenText(super().__getitem__(key))  # of a long string, rich shows the first 80 characters

    def __reduce_ex__(self, protocol: object) -> tuple[type, tuple[str]]:
        return str, (str(self),)


class HiddenBytes(bytes):
    """A form with an assertion. Only its ``repr`` hides it."""

    def __repr__(self) -> str:
        return "b'[hidden]'"


def without_locals(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator: an exception from the function keeps its traceback, but the frames in it lose their local variables.

    That includes the frames of functions that it calls, such as a JSON parser, and its own arguments.
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
            del failure  # a reference cycle would keep it alive

    return call


def clear_locals(error: BaseException) -> None:
    """Clears the local variables of all frames that have ended, in the tracebacks of an exception and of its causes."""
    import sys
    from traceback import clear_frames

    handled = sys.exception()  # the exception that the caller is already handling, with the caller's own frames
    seen = {id(handled)}
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            clear_frames(link.__traceback__)
            waiting += [link.__cause__, link.__context__]
