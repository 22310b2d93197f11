"""What crash reporters show of an exception: the local variables of each frame, through causes and contexts.

Two are asked: the standard library's ``traceback`` with ``capture_locals``, which shows each variable's ``repr``, and
sentry-sdk, which looks into mappings and sequences item by item. Only frames of okta-m2m count: what an HTTP library or the
caller keeps in theirs is not in our hands.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import okta_m2m
from crash_reporters import chain
from leaks import watch

PACKAGE = Path(okta_m2m.__file__).parent
OPTIONS = {
    "include_local_variables": True,
    "include_source_context": False,
    "max_value_length": 1_000_000,
}


def frames_of(error: BaseException) -> list[tuple[str, str]]:
    """Each frame of ours, by file, line and function, with all that either reporter shows of its variables."""
    # sentry-sdk brings urllib3, beside which niquests cannot be.
    return [*_of_traceback(error), *(() if find_spec("sentry_sdk") is None else _of_sentry(error))]


def check_report(error: BaseException, *secrets: str) -> None:
    """Fails if a report of that exception shows one of the secrets, or any that the test run knows of."""
    assert frames_of(error) or not _is_ours(error), "no frame was looked at"
    shown = []
    for place, text in frames_of(error):
        found = [f"secret number {number}" for number, secret in enumerate(secrets) if secret in text]
        shown += [f"{place}: {what}" for what in [*found, *watch.secrets_in(text)]]
    assert not shown, f"{type(error).__name__}: {error}\n" + "\n".join(shown)


def _is_ours(error: BaseException) -> bool:
    return any(_in_package(frame.filename) for frame in traceback.extract_tb(error.__traceback__))


def _in_package(filename: str) -> bool:
    path = Path(filename)
    return path.is_relative_to(PACKAGE) and not path.is_relative_to(PACKAGE / "testing")


def _of_traceback(error: BaseException) -> Iterator[tuple[str, str]]:
    for link in chain(error):
        captured = traceback.TracebackException(type(link), link, link.__traceback__, capture_locals=True, compact=True)
        for frame in captured.stack:
            if _in_package(frame.filename):
                yield _place(frame.filename, frame.lineno, frame.name), f"{frame.locals}"


def _of_sentry(error: BaseException) -> Iterator[tuple[str, str]]:
    from sentry_sdk import serializer
    from sentry_sdk.utils import event_from_exception

    serializer.MAX_DATABAG_BREADTH = 1000  # by default it shows ten variables of a frame, and ten items of each
    for link in chain(error):
        event, _ = event_from_exception((type(link), link, link.__traceback__), client_options=OPTIONS)
        report: Any = serializer.serialize(event, max_request_body_size="always", max_value_length=1_000_000)
        for value in report["exception"]["values"]:
            for frame in (value.get("stacktrace") or {}).get("frames", ()):
                if _in_package(frame["abs_path"]):
                    place = _place(frame["abs_path"], frame["lineno"], frame["function"])
                    yield f"{place} (sentry)", f"{frame.get('vars')}"


def _place(filename: str, line: int | None, function: str) -> str:
    return f"{Path(filename).relative_to(PACKAGE)}:{line} {function}"
