"""``okta-m2m doctor``: a row for each thing that a working call depends on.

Invariant: the exit code is that of the first row that failed, because it causes the later failures.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from itertools import chain
from operator import attrgetter
from typing import Annotated, get_args

import typer
from rich.text import Text

from .. import ServiceApp
from ..admin.doctor import Check, Client, Doctor, Kind, check_client, first_failure
from ..admin.exchanges import check_exchange
from ..admin.shared_token import check_store
from ..errors import ConfigurationError, quoted
from ..settings import named_store
from .exits import Exit, in_command_words
from .options import STORE_TIMEOUT, As, Json, TokenFile, argument, flag, option, seconds
from .printing import echo_json, without_log
from .sign_in import administrator
from .terminal import LEAD, Output, glyphs_for, hanging
from .trust import OrgNotTrusted, check_org, configured_app

EXITS: Mapping[Kind, Exit] = {
    Kind.CONFIGURATION: Exit.CONFIGURATION,
    Kind.UNREACHABLE: Exit.UNREACHABLE,
    Kind.CLOCK: Exit.CLOCK,
    Kind.REFUSED: Exit.REFUSED,
    Kind.SCOPE: Exit.SCOPE_MISSING,
    Kind.ROLE: Exit.ROLE_MISSING,
    Kind.RATE_LIMIT: Exit.RATE_LIMITED,
    Kind.SIGNING: Exit.SIGNING,
}
"""The exit code for each kind of problem."""

_CLIENTS = get_args(Client)

PARTS = {
    "settings": ("configuration", "org URL", "key"),
    "connection": ("DNS", "proxy", "TCP", "TLS", "discovery", "clock"),
    "app at Okta": ("app", "app's keys", "grants", "roles"),
    "token": ("token", "scopes", "rate limit"),
    "API call": ("API call",),
    "exchange": ("exchange",),
    "store": ("store",),
}
"""The rows that are shown as one line if all of them passed."""

SHORT = (
    *("org URL", "key", "proxy", "discovery", "clock", "app", "roles"),
    *("token", "scopes", "API call", "exchange", "store"),
)
"""The rows whose details that line shows."""


def doctor(
    program: Annotated[
        str | None, argument("MODULE:APP", "Check this ServiceApp of a program, not the settings.")
    ] = None,
    call: Annotated[
        str | None, option("--call", "URL", "An API call to try with GET, as a path: /api/v1/users?limit=1")
    ] = None,
    audience: Annotated[
        str | None,
        option(
            "--audience", "AUDIENCE", "Check that the app may exchange users' tokens for tokens with this audience."
        ),
    ] = None,
    client: Annotated[
        str,
        option("--client", "NAME", f"Check the CA bundle and proxy of this client: {', '.join(_CLIENTS)}.", _CLIENTS),
    ] = "requests",
    as_json: Json = False,
    verbose: Annotated[bool, flag("--verbose -v", "Show every row, including the checks that passed.")] = False,
    offline: Annotated[bool, flag("--offline", "Check only what needs no network.")] = False,
    max_wait: Annotated[float, seconds("--max-wait", "How long the token request may take.")] = 20.0,
    token_file: TokenFile = None,
    as_: As = None,
) -> None:
    """Check everything that a working call depends on, and say how to fix problems.

    If an account is signed in (OKTA_CLIENT_TOKEN, --token-file, --as), also check the app, its keys, grants and roles at Okta.
    """
    checks: list[Check] = []
    with without_log(), nullcontext() if offline else administrator(token_file, as_, max_wait) as api:
        app = None if program is None else import_app(program)
        if not offline and app is None:
            _check_trust()
        doctor = Doctor(app, offline=offline, call=call, client=check_client(client), max_wait=max_wait, api=api)
        more = () if offline else _check_more(app, audience, max_wait)
        results = map(_with_places, chain(doctor.checks(), more))
        if as_json:
            checks = list(results)
        else:
            _print_rows(results, checks, verbose=verbose)
    failed = first_failure(checks)
    code = Exit.OK if failed is None else EXITS[failed.kind]
    if as_json:
        echo_json({"ok": failed is None, "exit_code": int(code), "checks": [asdict(check) for check in checks]})
    if failed is not None:
        raise typer.Exit(code)


def import_app(program: str) -> ServiceApp:
    """The app ``MODULE:APP``, imported from the working directory or from what is installed."""
    module, _, name = program.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        app = attrgetter(name)(importlib.import_module(module))
    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever the program raises)
        problem = f"{quoted(program)} cannot be imported: {type(error).__name__}: {quoted(error).rstrip('.')}."
        remedy = "Write MODULE:APP, such as main:app. Run this in the folder and the environment of the program."
        raise ConfigurationError(problem, remedy=remedy) from None
    if not isinstance(app, ServiceApp):
        problem = f"{quoted(program)} is not a ServiceApp, but a {type(app).__name__}."
        raise ConfigurationError(problem, remedy="Name the variable that holds the ServiceApp.")
    return app


def _check_trust() -> None:
    """Refuses to sign for an org that must not be trusted. Every other problem with the settings has its own row."""
    try:
        check_org()
    except OrgNotTrusted:
        raise
    except ConfigurationError:
        pass


def _with_places(check: Check) -> Check:
    if check.state == "ok":
        return check
    return replace(check, detail=in_command_words(check.detail), remedy=in_command_words(check.remedy))


def _check_more(app: ServiceApp | None, audience: str | None, max_wait: float) -> Iterator[Check]:
    """The row for token exchange, if an audience was given, and that for the store, if processes share the token through one."""
    try:
        store = named_store() if app is None else app.fleet
    except ConfigurationError as error:
        yield Check("store", "fail", error.problem, error.remedy or "")
        return
    if audience is not None or store is not None:
        with suppress(ConfigurationError):  # which has its own row
            app = app or configured_app(max_wait=max_wait, store_timeout=STORE_TIMEOUT)
            if audience is not None:
                yield check_exchange(app, audience)
            if store is not None:
                yield check_store(app)


def _print_rows(results: Iterable[Check], checks: list[Check], *, verbose: bool) -> None:
    """Prints the rows as they arrive; a group of rows that all passed becomes one line. Adds them to ``checks``."""
    output = Output()
    left_out: dict[str, list[str]] = {}

    def show(lines: Iterable[Text]) -> None:
        for line in lines:
            output.print(line, soft_wrap=True)

    part: list[Check] = []
    for check in results:
        checks.append(check)
        part.append(check)
        if verbose:
            show(_lines(output, check.state, check.name, check.detail, check.remedy))
            continue
        title = next(title for title, names in PARTS.items() if check.name in names)
        if check.name != PARTS[title][-1]:
            continue
        good = [row for row in part if row.state == "ok"]
        if good and all(row.state in ("ok", "skipped") for row in part):
            details = [row.detail for row in good if row.name in SHORT and row.detail != "none"]
            show(_lines(output, "ok", title, "; ".join(details)))
        else:
            for row in part:
                if row.state == "skipped":
                    left_out.setdefault(row.detail, []).append(row.name)
                else:
                    show(_lines(output, row.state, row.name, row.detail, row.remedy))
        part = []
    for reason, names in left_out.items():
        show(_lines(output, "skipped", "not checked", f"{', '.join(names)}: {reason}"))


def _lines(output: Output, state: str, name: str, detail: str, remedy: str = "") -> Iterator[Text]:
    marks = glyphs_for(output)
    style = {"ok": "green", "warn": "yellow", "fail": "bold red", "skipped": "dim"}[state]
    lead = Text(f"{getattr(marks, state)} ", style).append(f"{name:<{LEAD - 2}}", "bold")
    yield from hanging(lead, detail, output.width, "dim" if state == "skipped" else "")
    if remedy:
        yield from hanging(Text(f"{' ' * LEAD}{marks.remedy} ", style), remedy, output.width)
