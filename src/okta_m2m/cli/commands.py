"""The commands, and the reporting of their failures.

Invariant: an expected failure (an :class:`~okta_m2m.errors.OktaM2MError`, a missing package, a closed pipe, a full
disk, Ctrl-C) becomes at most one line on stderr, and an exit code. Only a bug in this program ends in an exception.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import ConfigurationError, InvalidKey, OktaM2MError
from . import apps, keys, tokens
from .audit import audit
from .call import api, headers
from .demo.command import demo
from .doctor import doctor
from .exits import Exit, exit_for, fail, failures, is_closed_pipe, is_device_failure
from .explain import explain
from .groups import Group, command_group
from .printing import discard_output, echo, report_log
from .profiles import choose_org, name_places
from .trust import trust

_ORDER = ("key", "app", "audit", "doctor", "explain", "api", "headers", "token", "assertion", "trust", "demo")


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Turns an expected failure into its report on stderr and its exit code."""
    try:
        yield
    except OktaM2MError as error:
        says_it_all = isinstance(error, ConfigurationError) and not isinstance(error, InvalidKey)
        fail(
            exit_for(error),
            name_places(error.problem),
            name_places(error.remedy or "") or None,
            see=None if says_it_all else error.help,
            error=error.error,
            request_id=error.request_id,
        )
    except (KeyboardInterrupt, typer.Abort):  # Abort: Ctrl-C or Ctrl-D at a prompt
        fail(Exit.INTERRUPTED, "interrupted")
    except OSError as error:
        if error.filename is not None:
            problem = f"{error.filename}: {error.strerror}."
            fail(Exit.CONFIGURATION, problem, "Check that the file exists and that this user may access it.")
        if is_closed_pipe(error):
            discard_output()
            raise typer.Exit(Exit.READER_GONE) from None
        if is_device_failure(error):
            discard_output()
            problem = f"The output cannot be written ({error.strerror})."
            fail(Exit.CONFIGURATION, problem, "Free some space, or write it somewhere else.")
        raise
    except Exception as error:
        # Only typer's errors about the usage have it. They have no common public class.
        describe = getattr(error, "format_message", None)
        if failures.as_json and describe is not None:
            fail(Exit.USAGE, describe())
        raise


def _anywhere(arguments: list[str]) -> list[str]:
    """The arguments with ``--org`` and ``--debug`` before the command: they are accepted after it too."""
    first: list[str] = []
    others: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            others += [word, *words]
        elif word == "--org":
            value = next(words, None)
            (others if value is None else first).append(word if value is None else f"{word}={value}")
        else:
            (first if word == "--debug" or word.startswith("--org=") else others).append(word)
    return first + others


class _Commands(Group):
    """The whole command, with our exit codes. It lists the commands in the order in which people need them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in _ORDER if name in self.commands]

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **options: Any) -> Any:
        failures.as_json = "--json" in args
        with _exit_codes():  # --version is printed here
            return super().make_context(info_name, _anywhere(args), *more, **options)

    def invoke(self, ctx: Any) -> Any:
        with _exit_codes():
            return super().invoke(ctx)


app = command_group(
    "Okta access tokens for services: create the app and its key, diagnose problems, call an API.",
    cls=_Commands,
    name="okta-m2m",
    epilog=f"Exit codes: {', '.join(f'{code:d} {code.name.lower()}'.replace('_', ' ') for code in Exit)}.",
)
app.add_typer(keys.app, name="key")
app.add_typer(apps.app, name="app")
app.command("audit")(audit)
app.command("doctor")(doctor)
app.command("explain")(explain)
app.command("api")(api)
app.command("headers")(headers)
app.add_typer(tokens.app, name="token")
app.command("assertion")(tokens.assertion)
app.command("trust")(trust)
app.command("demo")(demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        echo(f"okta-m2m {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    org: Annotated[
        str | None,
        typer.Option(
            "--org",
            metavar="URL|PROFILE",
            envvar="OKTA_M2M_PROFILE",
            help="The org, or a profile in ~/.okta/okta.yaml: okta.profiles.PROFILE.",
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Log each request to stderr, without secrets.")] = False,
) -> None:
    report_log(debug=debug)
    if org is not None:
        choose_org(org)
