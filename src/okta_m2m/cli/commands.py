"""The commands, and the reporting of their failures.

Invariant: an expected failure (an :class:`~okta_m2m.errors.OktaM2MError`, a missing package, a closed pipe, a full
disk, Ctrl-C) becomes at most one line on stderr, and an exit code. Only a bug in this program ends in an exception.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any, Final

import typer

from .. import __version__
from ..errors import ConfigurationError, InvalidKey, OktaM2MError
from .exits import Exit, exit_for, fail, failures, in_command_words, is_closed_pipe, is_device_failure, needs
from .groups import Group, built, command_group
from .options import flag
from .printing import discard_output, echo, report_log

_COMMANDS: Final = {
    "key": ("keys:app", "Create, register and rotate keys."),
    "app": ("apps:app", "Create and delete service apps; grant scopes and assign admin roles."),
    "audit": ("audit:audit", "Show all service apps: status, DPoP, age of each key, last token, roles, scopes."),
    "doctor": ("doctor:doctor", "Check everything that a working call depends on, and say how to fix problems."),
    "explain": ("explain:explain", "Print what an error means, and what to do about it."),
    "api": ("call:api", "Call an API with the configured app's token: okta-m2m api GET /api/v1/users"),
    "headers": ("call:headers", "Print the headers for one call: okta-m2m headers GET /api/v1/users | curl -H @- URL"),
    "token": ("tokens:app", "Tokens of the configured app."),
    "assertion": ("tokens:assertion", "Sign a client assertion (RFC 7523) for the configured app, and print it."),
    "trust": (
        "trust:trust",
        "Let the org that the okta.yaml in a folder names get credentials, until that file changes.",
    ),
    "demo": (
        "demo.command:demo",
        "Watch the library at work on this machine: tokens are valid for 3 seconds, and no call fails.",
    ),
}
"""Where each command is, and its line in the help, which imports none of them. In the order in which people need them."""


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Turns an expected failure into its report on stderr and its exit code."""
    try:
        yield
    except OktaM2MError as error:
        says_it_all = isinstance(error, ConfigurationError) and not isinstance(error, InvalidKey)
        fail(
            exit_for(error),
            in_command_words(error.problem),
            in_command_words(error.remedy or "") or None,
            see=None if says_it_all else error.help,
            error=error.error,
            request_id=error.request_id,
            error_id=getattr(error, "error_id", None),
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
    """The whole command, with our exit codes. It imports a command when that is run or described: all of them take longer."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def help_line(self, name: str) -> str:
        return _COMMANDS[name][1]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        with needs("cli", "The command okta-m2m"):
            return built(cmd_name, getattr(import_module(f"{__package__}.{module}"), attribute))

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
    add_completion=True,
    epilog=f"Exit codes: {', '.join(f'{code:d} {code.name.lower()}'.replace('_', ' ') for code in Exit)}.",
)


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
    debug: Annotated[bool, flag("--debug", "Log each request to stderr, without secrets.")] = False,
) -> None:
    report_log(debug=debug)
    if org is not None:
        from .profiles import choose_org

        choose_org(org)
