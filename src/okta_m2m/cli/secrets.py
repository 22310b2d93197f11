"""Secrets that a command needs: from a file, from the environment, or from whoever sits at the terminal.

Invariant: none of them is ever an argument, because other users of a machine can read those; and none is printed.
"""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ..errors import ConfigurationError, InvalidKey
from ..keys import PrivateKey
from ..settings import Settings, read_settings
from ..settings import find_setting as named
from .terminal import stdin_is_terminal

__all__ = [
    "DEFAULT_KEY",
    "KeyFile",
    "Kid",
    "PassphraseFile",
    "app_settings",
    "asked",
    "configured_key_file",
    "configured_path",
    "load_key",
    "own_kid",
    "passphrase",
]

DEFAULT_KEY: Final = Path("okta-m2m-key.json")
"""Where ``key new`` writes, and where a key is looked for that no setting names."""

LARGEST: Final = 100_000  # characters of a file that holds a secret

KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key", metavar="FILE", help=f"The key file; otherwise the configured one, and then ./{DEFAULT_KEY}."
    ),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="File with the passphrase of an encrypted PEM; otherwise OKTA_CLIENT_PRIVATEKEYPASSPHRASE, or a prompt.",
    ),
]
Kid = Annotated[str | None, typer.Option(help="The key's id; otherwise the one that it has.")]


def asked(prompt: str, *, twice: bool = False) -> str:
    """Asks without showing what is typed; only where there is a terminal."""
    answer: str = typer.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True)
    return answer


def secret_file(path: Path, what: str) -> str:
    """The one line of a file that holds a secret; ``-`` is stdin."""
    place = "stdin" if str(path) == "-" else str(path)
    try:
        if place == "stdin":
            if sys.stdin is None:
                raise ConfigurationError(f"The {what} is to come from stdin, and that is closed. Name a file instead.")
            text = sys.stdin.read(LARGEST)
            text.encode()  # where the locale is C, Python lets through what is no text
        else:
            with path.open(encoding="utf-8") as file:
                text = file.read(LARGEST)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigurationError(
            f"The {what} cannot be read from {place} ({reason}). Check what is there, and that you may read it."
        ) from None
    return text.rstrip("\r\n")


def passphrase(file: Path | None, *, new: bool = False) -> str | None:
    """The passphrase of an encrypted PEM; ``new`` asks twice. ``None`` where there is none and nobody to ask."""
    if file is not None:
        return secret_file(file, "passphrase")
    found = named("privateKeyPassphrase")
    if found is not None and found.place.startswith("environment"):  # that of an okta.yaml is its own key's
        return str(found.value)
    return asked("Passphrase of the key", twice=new) if stdin_is_terminal() else None


def configured_key_file() -> Path | None:
    """The key file to use where none is named: :data:`DEFAULT_KEY` if it is there and no setting names a key."""
    return DEFAULT_KEY if named("privateKey", "jwk") is None and DEFAULT_KEY.exists() else None


def configured_path() -> Path | None:
    """The file that the setting of the key names, if it is one and is there."""
    found = named("privateKey", "jwk")
    if found is None or not isinstance(found.value, str):
        return None
    base = Path() if found.place.startswith("environment") else Path(found.place).parent
    try:
        path = base / Path(found.value).expanduser()
        return path if path.is_file() else None  # else it is the key's text
    except (OSError, ValueError):
        return None


def own_kid(path: Path | None) -> str | None:
    """The ``kid`` that whoever reads the key signs with, where no setting names one apart from the file: that of a JWK
    file. Without a file, that of the configured key."""
    if path is None:
        return load_key(None).kid
    from ..admin.key_files import read_jwk_file

    try:
        kid = read_jwk_file(path).get("kid")
    except InvalidKey:
        return None
    return kid if isinstance(kid, str) else None


def load_key(path: Path | None, *, kid: str | None = None, passphrase_file: Path | None = None) -> PrivateKey:
    """The key of a file, or else the configured one; one immutable version of it."""
    path = path or configured_key_file()
    if path is None:
        if named("privateKey", "jwk") is None:
            raise ConfigurationError(
                f"There is no key: no setting names one, and there is no ./{DEFAULT_KEY}. Name its file, or make one with: "
                "okta-m2m key new"
            )
        found = read_settings(org_url="https://any.okta.com", client_id="any", scopes=["okta.users.read"]).key
        if not isinstance(found, PrivateKey):
            raise ConfigurationError("The configured key is no file and no text. Name its file.")
        key = found.snapshot()
        return key if kid is None else key.with_kid(kid)
    encrypted = _encrypted(path)
    password = passphrase(passphrase_file) if passphrase_file is not None or encrypted else None
    if encrypted and not password:
        raise ConfigurationError(
            f"{path} is encrypted, and there is no passphrase. Put it into a file (--passphrase-file), or into "
            "OKTA_CLIENT_PRIVATEKEYPASSPHRASE."
        )
    return PrivateKey.from_file(path, password=password, kid=kid).snapshot()


def app_settings() -> tuple[Settings, Any]:
    """The configured app, for what asks for no scopes; and its key, the preferred one if there are several."""
    settings = read_settings(scopes=["okta.users.read"])
    key = settings.key
    return settings, key[0] if isinstance(key, list | tuple) else key


def _encrypted(path: Path) -> bool:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False  # a FIFO would never end; whoever reads it next says what is wrong
        with path.open("rb") as file:
            return b"ENCRYPTED" in file.read(500)
    except OSError:
        return False
