"""Options that several commands share, and their meaning.

Invariants: options accept no secrets, only files that hold secrets, because other users of the machine can read arguments.
Each option states its name: typer 0.27.0 to 0.27.3 take the metavar for it otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

DEFAULT_KEY: Final = Path("okta-m2m-key.json")
"""The file that ``key new`` writes. A key is read from it if no setting names one."""

STORE_TIMEOUT: Final = 5.0
"""Seconds for each operation of a token store; longer than for a call, because a person is waiting."""


def seconds(name: str, help: str, *, min: float = 1, max: float = 86_400) -> Any:
    """An option for a time in seconds, with the shortest and the longest that it accepts."""
    return typer.Option(name, metavar="SECONDS", min=min, max=max, help=help)


def _parse_days(text: str) -> int:
    found = re.fullmatch(r"(\d{1,4})d", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a number of days. Write it like this: 90d.")
    return int(found[1])


def days(name: str, help: str) -> Any:
    """An option for a number of days: ``90d``."""
    return typer.Option(name, metavar="DAYS", parser=_parse_days, help=help)


def one_of(*names: str) -> Callable[[], list[str]]:
    """Completes a value that is one of these names."""
    return lambda: list(names)


ALGORITHMS: Final = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

# ── the key ──────────────────────────────────────────────────────────────────────────────────────────────────────────

KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key", metavar="FILE", help=f"The key file; by default the configured one, or else ./{DEFAULT_KEY}."
    ),
]
Kid = Annotated[str | None, typer.Option("--kid", metavar="KID", help="The key's id; by default the one in its file.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="File with the passphrase of an encrypted PEM; by default the configured one, or a prompt.",
    ),
]

# ── the account that signs in, and the app to change ─────────────────────────────────────────────────────────────────

TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="File with the SSWS token to sign in with (- is stdin); by default OKTA_CLIENT_TOKEN, okta.yaml, or a prompt.",
    ),
]
As = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="self|FOLDER",
        help="Sign in as a service app instead: the configured one (self), or the one of the okta.yaml in a folder.",
    ),
]
MaxWait = Annotated[float, seconds("--max-wait", "The longest time that each call waits for a rate limit.")]
AppName = Annotated[
    str | None,
    typer.Option("--app", metavar="NAME|ID", help="The app, by its name or id; by default the configured client id."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
RequestedScopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope", metavar="SCOPE", help="Request this scope instead of the configured ones; can be repeated."
    ),
]
TokenWait = Annotated[float, seconds("--max-wait", "How long to wait for a token, including rate limits.")]


def split_scopes(values: list[str]) -> list[str]:
    """The scopes in a repeated argument. ``"a b"`` and ``a,b`` are two scopes each, as in the settings."""
    return [scope for value in values for scope in value.replace(",", " ").split()]
