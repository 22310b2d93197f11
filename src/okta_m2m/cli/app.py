"""The commands, and the one door through which all of them leave.

Invariant: a failure that is an answer (an :class:`~okta_m2m.errors.OktaM2MError`, a missing extra, a closed pipe, a full
disk, Ctrl-C) becomes one line on stderr at most, and an exit code; only a fault of this program gets past here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import OktaM2MError
from . import apps, cache, keys, tokens
from .assertion import assertion
from .demo import demo
from .doctor import doctor
from .exits import Exit, ExtraMissing, complain, exit_for, nobody_reads, reader_gone, unwritable

__all__ = ["app"]


@contextmanager
def _one_door() -> Iterator[None]:
    try:
        yield
    except OktaM2MError as error:
        complain(error)
        raise typer.Exit(exit_for(error)) from None
    except ExtraMissing as missing:
        complain(missing)
        raise typer.Exit(Exit.EXTRA_MISSING) from None
    except (KeyboardInterrupt, typer.Abort):  # Abort: Ctrl-C or Ctrl-D at a prompt
        complain("interrupted")
        raise typer.Exit(Exit.INTERRUPTED) from None
    except OSError as error:
        if error.filename is not None:  # a disk that is full, a folder that may not be written
            complain(f"{error.filename}: {error.strerror}. Check that it is there, and that this user may use it.")
            raise typer.Exit(Exit.CONFIGURATION) from None
        if not (reader_gone(error) or unwritable(error)):
            raise
        nobody_reads()
        if reader_gone(error):
            raise typer.Exit(Exit.READER_GONE) from None
        complain(f"The output cannot be written ({error.strerror}). Look for room on the disk, or send it elsewhere.")
        raise typer.Exit(Exit.CONFIGURATION) from None


class _Commands(TyperGroup):
    """typer's own group, with our exit codes in place of its own."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _one_door():  # --version writes from in here
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with _one_door():
            return super().invoke(ctx)


app = typer.Typer(
    name="okta-m2m",
    cls=_Commands,
    help="Okta access tokens for services: create the app and its key, find what is wrong, get a token, see how it works.",
    epilog=f"Exit codes: {', '.join(f'{code:d} {code.name.lower()}'.replace('_', ' ') for code in Exit)}.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
)
app.command("demo")(demo)
app.add_typer(keys.app, name="key")
app.add_typer(apps.app, name="app")
app.command("doctor")(doctor)
app.add_typer(tokens.app, name="token")
app.add_typer(cache.app, name="cache")
app.command("assertion")(assertion)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"okta-m2m {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
