"""The layout of help in all commands: a group's commands come first, and no name is truncated, however narrow the
terminal is.

Invariant: nothing here is imported from click, because newer versions of typer bring their own copy of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


def _write_parameters(command: Any, ctx: Any, formatter: Any) -> None:
    """Writes arguments and options, without the types that typer adds to their names."""
    for title, kind in (("Arguments", "argument"), ("Options", "option")):
        found = (one.get_help_record(ctx) for one in command.get_params(ctx) if one.param_type_name == kind)
        rows = [(re.sub(r" <[\w \[\]]+>$", "", record[0]), record[1]) for record in found if record is not None]
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


class Command(TyperCommand):
    """typer's own command, with the same layout of help in all versions of typer."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_parameters(self, ctx, formatter)


class Group(TyperGroup):
    """typer's own group, with the commands before the options, and with suggestions for a command that does not exist."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        rows = [(name, self.help_line(name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
        _write_parameters(self, ctx, formatter)

    def help_line(self, name: str) -> str:
        """The line about a command in the help."""
        return str(self.commands[name].get_short_help_str(limit=500))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.list_commands(ctx) and not ctx.resilient_parsing:
            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            if near:
                ctx.fail(f"There is no command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)


class _Typer(typer.Typer):
    def command(self, *arguments: Any, **options: Any) -> Any:
        return super().command(*arguments, **{"cls": Command, **options})


def built(name: str, described: typer.Typer | Callable[..., Any]) -> Any:
    """The command with this name: a group, or what a function does."""
    if not isinstance(described, typer.Typer):
        group = _Typer(rich_markup_mode=None, add_completion=False)
        group.command(name, context_settings=_CONTEXT)(described)
        return get_command(group)
    command: Any = get_command(described)
    command.name = name
    return command


def command_group(help: str, *, cls: type[Group] = Group, add_completion: bool = False, **options: Any) -> typer.Typer:
    return _Typer(
        add_completion=add_completion,
        cls=cls,
        help=help,
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings=_CONTEXT,
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
        **options,
    )
