"""``okta-m2m doctor``: a row for each thing that a working call depends on.

Invariant: the exit code is that of the first row that failed, because that is the cause of those after it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ..errors import OktaM2MError
from .exits import Exit, needs
from .printing import echo_json
from .terminal import Output, hanging, marks_for
from .trust import OrgNotTrusted, trusted_settings

if TYPE_CHECKING:
    from ..admin.doctor import Check, Kind

__all__ = ["doctor"]

LEAD = 16  # columns for a row's name


def doctor(
    call: Annotated[
        str | None, typer.Option(metavar="URL", help="An API call to try with GET, as a path: /api/v1/users?limit=1")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as one JSON document.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Check only what needs no network.")] = False,
    max_wait: Annotated[float, typer.Option(min=1, max=86_400, help="Seconds that the token request may take.")] = 20.0,
) -> None:
    """Check everything that a working call depends on, and say how to repair what is wrong."""
    with needs("cli", "okta-m2m doctor"):  # imports requests
        from ..admin.doctor import Doctor, first_failure
    checks: list[Check] = []
    with _without_warnings():
        if not offline:
            _check_trust()
        results = Doctor(offline=offline, call=call, max_wait=max_wait).checks()
        if as_json:
            checks = list(results)
        else:
            output = Output()
            for check in results:
                checks.append(check)
                for line in _lines(output, check):
                    output.print(line, soft_wrap=True)
    failed = first_failure(checks)
    code = Exit.OK if failed is None else _exit_for(failed.kind)
    if as_json:
        rows = [
            {"name": c.name, "state": c.state, "detail": c.detail, "remedy": c.remedy, "kind": c.kind} for c in checks
        ]
        echo_json({"ok": failed is None, "exit_code": int(code), "checks": rows})
    if failed is not None:
        raise typer.Exit(code)


def _check_trust() -> None:
    """Refuses to sign for an org that is not to be trusted. Whatever else is wrong with the settings has its row."""
    try:
        trusted_settings()
    except OrgNotTrusted:
        raise
    except OktaM2MError:
        pass


def _lines(output: Output, check: Check) -> Iterator[Text]:
    marks = marks_for(output)
    style = {"ok": "green", "warn": "yellow", "fail": "bold red", "skipped": "dim"}[check.state]
    lead = Text(f"{getattr(marks, check.state)} ", style).append(f"{check.name:<{LEAD - 2}}", "bold")
    yield from hanging(lead, check.detail, output.width, "dim" if check.state == "skipped" else "")
    if check.remedy:
        yield from hanging(Text(f"{' ' * LEAD}{marks.remedy} ", style), check.remedy, output.width)


def _exit_for(kind: Kind) -> Exit:
    from ..admin.doctor import Kind

    return {
        Kind.CONFIGURATION: Exit.CONFIGURATION,
        Kind.UNREACHABLE: Exit.UNREACHABLE,
        Kind.CLOCK: Exit.CLOCK,
        Kind.REFUSED: Exit.REFUSED,
        Kind.SCOPE: Exit.SCOPE_MISSING,
        Kind.ROLE: Exit.ROLE_MISSING,
        Kind.RATE_LIMIT: Exit.RATE_LIMITED,
        Kind.SIGNING: Exit.SIGNING,
    }[kind]


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silences the library's warnings: each of them has a row here."""
    logger = logging.getLogger("okta_m2m")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
