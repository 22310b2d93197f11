"""Whole reports of an exception, by the programs that make them: all frames count, those of HTTP libraries too.

Each reporter has its defaults, except that it shows local variables, and shortens nothing that can be set.
``tests/support/crash_reports.py`` looks only at the frames of okta-m2m, and takes each variable apart.
"""

from __future__ import annotations

import faulthandler
import io
import json
import pydoc
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

Reporter = Callable[[BaseException], str]


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, its causes and its contexts."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        link = waiting.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            yield link
            # Contexts too that "from None" hides: not every reporter minds it.
            waiting += [link.__cause__, link.__context__, *getattr(link, "exceptions", ())]


def _variables(error: BaseException) -> Iterator[tuple[str, Any]]:
    for link in chain(error):
        yield "exception", link
        for frame, _ in traceback.walk_tb(link.__traceback__):
            yield from frame.f_locals.items()


def by_traceback(error: BaseException) -> str:
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def by_cgitb(error: BaseException) -> str:
    """As cgitb does: the ``repr`` of each local variable of each frame; and whole, where cgitb shortens it."""
    return "\n".join(f"{name} = {value!r} {pydoc.text.repr(value)}" for name, value in _variables(error))


def by_items(error: BaseException) -> str:
    """The items of each local variable, three levels deep, as reporters do that take mappings and sequences apart."""
    return "\n".join(f"{name} = {_items(value, 3)}" for name, value in _variables(error))


def _items(value: Any, levels: int) -> str:
    try:
        if levels and hasattr(value, "items") and not isinstance(value, type):
            return "\n".join(_items(part, levels - 1) for pair in list(value.items()) for part in pair)
        if levels and isinstance(value, list | tuple | set | frozenset):
            return "\n".join(_items(part, levels - 1) for part in value)
    except Exception:  # a proxy object, or a mapping that changes
        return ""
    return repr(value)


def by_sentry(error: BaseException, **options: Any) -> str:
    """The events that sentry-sdk would send, with these options of its ``init``."""
    import sentry_sdk
    from sentry_sdk.transport import Transport

    events: list[Any] = []

    class Recording(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            events.extend(item.get_event() for item in envelope.items)

    # Without those integrations that patch other packages for the rest of the process: test_crash_reports.py has them.
    client = sentry_sdk.Client(
        transport=Recording(), default_integrations=False, auto_enabling_integrations=False, **options
    )
    with sentry_sdk.new_scope() as scope:
        scope.set_client(client)
        sentry_sdk.capture_exception(error)
    client.close()
    assert events, "sentry-sdk reported nothing"
    return json.dumps(events)


def by_stackprinter(error: BaseException) -> str:
    import stackprinter

    return str(stackprinter.format(error, show_vals="all", truncate_vals=100_000, suppressed_paths=[]))


def by_loguru(error: BaseException) -> str:
    from loguru import logger

    written: list[str] = []
    logger.remove()  # its handler for standard error
    handler = logger.add(written.append, diagnose=True, backtrace=True, colorize=False)
    try:
        logger.opt(exception=error).error("failed")
    finally:
        logger.remove(handler)
    return "".join(written)


def by_rich(error: BaseException) -> str:
    """With its usual limit for a string, of which it shows the ``repr`` of the first 80 characters."""
    from rich.console import Console
    from rich.traceback import Traceback

    console = Console(file=io.StringIO(), width=500)
    console.print(
        Traceback.from_exception(type(error), error, error.__traceback__, show_locals=True, extra_lines=0, max_frames=0)
    )
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def by_faulthandler(error: BaseException) -> str:
    with tempfile.TemporaryFile() as file:
        try:
            raise error
        except BaseException:
            faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read().decode()


_ALL: dict[str, tuple[str, Reporter]] = {
    "traceback": ("traceback", by_traceback),
    "cgitb": ("pydoc", by_cgitb),
    "items": ("json", by_items),
    "faulthandler": ("faulthandler", by_faulthandler),
    "sentry": ("sentry_sdk", by_sentry),
    "stackprinter": ("stackprinter", by_stackprinter),
    "loguru": ("loguru", by_loguru),
    "rich": ("rich", by_rich),
}

REPORTERS = {
    name: reporter
    for name, (module, reporter) in _ALL.items()
    if module in sys.modules or find_spec(module) is not None
}
"""Those that are installed. stackprinter and loguru are in the extra ``ci``; sentry-sdk brings urllib3, beside which niquests
cannot be."""
