"""Options that several commands share, and their meaning.

Invariants: options accept no secrets, only files that hold secrets, because other users of the machine can read arguments.
Each option states its name: typer 0.27.0 to 0.27.3 take the metavar for it otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

DEFAULT_KEY: Final = Path("okta-m2m-key.json")
"""The file that ``key new`` writes. A key is read from it if no setting names one."""

STORE_TIMEOUT: Final = 5.0
"""Seconds for each operation of a token store; longer than for a call, because a person is waiting."""


def flag(names: str, help: str) -> Any:
    """An option without a value. ``names``: its name, and after a space a short one if it has one."""
    return typer.Option(*names.split(), help=help)


def _completion(values: Iterable[str]) -> Callable[[], list[str]] | None:
    return (lambda: list(values)) if values else None  # without values, a file name is completed


def option(names: str, metavar: str, help: str, values: Iterable[str] = ()) -> Any:
    """An option with a value. ``names``: as for :func:`flag`. ``values``: what completes it."""
    return typer.Option(*names.split(), metavar=metavar, help=help, autocompletion=_completion(values))


def argument(metavar: str, help: str, values: Iterable[str] = ()) -> Any:
    """An argument. ``values``: what completes it."""
    return typer.Argument(metavar=metavar, help=help, autocompletion=_completion(values))


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


ALGORITHMS: Final = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")

Json = Annotated[bool, flag("--json", "Print one JSON document.")]

# ── the key ──────────────────────────────────────────────────────────────────────────────────────────────────────────

KeyFile = Annotated[
    Path | None, option("--key", "FILE", f"The key file; by default the configured one, or else ./{DEFAULT_KEY}.")
]
Kid = Annotated[str | None, option("--kid", "KID", "The key's id; by default the one in its file.")]
PASSPHRASE_HELP = "File with the passphrase of an encrypted PEM; by default the configured one, or a prompt."
PassphraseFile = Annotated[Path | None, option("--passphrase-file", "FILE", PASSPHRASE_HELP)]

# ── the account that signs in, and the app to change ─────────────────────────────────────────────────────────────────

TOKEN_HELP = (
    "File with the SSWS token to sign in with (- is stdin); by default OKTA_CLIENT_TOKEN, okta.yaml, or a prompt."
)
TokenFile = Annotated[Path | None, option("--token-file", "FILE", TOKEN_HELP)]
AS_HELP = "Sign in as a service app instead: the configured one (self), or the one of the okta.yaml in a folder."
As = Annotated[str | None, option("--as", "self|FOLDER", AS_HELP)]
MaxWait = Annotated[float, seconds("--max-wait", "The longest time that each call waits for a rate limit.")]
AppName = Annotated[
    str | None, option("--app", "NAME|ID", "The app, by its name or id; by default the configured client id.")
]
Yes = Annotated[bool, flag("--yes -y", "Do not ask for confirmation.")]
RequestedScopes = Annotated[
    list[str] | None, option("--scope", "SCOPE", "Request this scope instead of the configured ones; can be repeated.")
]
TokenWait = Annotated[float, seconds("--max-wait", "How long to wait for a token, including rate limits.")]


def split_scopes(values: list[str]) -> list[str]:
    """The scopes in a repeated argument. ``"a b"`` and ``a,b`` are two scopes each, as in the settings."""
    return [scope for value in values for scope in value.replace(",", " ").split()]
