"""Secrets that a command needs, from a file, from the environment, or from a prompt.

Invariant: no secret is ever printed, or passed as an argument, because other users of a machine can read arguments.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Final, cast

import typer

from ..admin.key_files import read_kid, readers_warning
from ..errors import ConfigurationError
from ..keys import PrivateKey
from ..settings import find_setting, read_settings
from .options import DEFAULT_KEY
from .printing import clean, note
from .terminal import stdin_is_terminal

MAX_SECRET: Final = 100_000
"""The number of bytes that are read of a file with a secret. It may be a device that never ends."""


def prompt_for(what: str, *, twice: bool = False) -> str:
    """Asks for a secret on the terminal, without showing the typed characters."""
    answer: str = typer.prompt(clean(what), hide_input=True, confirmation_prompt=twice, err=True)
    return answer


def confirm(question: str, yes: bool) -> None:
    """Asks for confirmation, unless ``yes`` is set. Ends the command if the answer is no."""
    if yes:
        return
    if not stdin_is_terminal():
        raise ConfigurationError(f"{question} There is no terminal to ask this on.", remedy="Add --yes.")
    typer.confirm(clean(question), abort=True, err=True)


def read_bytes(path: Path, what: str, limit: int = -1) -> bytes:
    """The content of a file, up to ``limit`` bytes; ``-`` is stdin. ``what`` names it in messages."""
    if str(path) != "-":
        with path.open("rb") as file:
            return file.read(limit)
    if sys.stdin is None:
        raise ConfigurationError(
            f"The {what} cannot be read from stdin, which is closed.", remedy="Use a file instead."
        )
    return sys.stdin.buffer.read(limit)


def read_secret(path: Path, what: str) -> str:
    """The single line of a file with a secret; ``-`` is stdin. ``what`` names it in messages."""
    place = "stdin" if str(path) == "-" else str(path)
    try:
        text = read_bytes(path, what, MAX_SECRET).decode()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigurationError(
            f"The {what} cannot be read from {place} ({reason}).",
            remedy="Check the path, the content, and that this user may read it.",
        ) from None
    warning = None if place == "stdin" else readers_warning(path, what)
    if warning is not None:
        note(warning)
    return text.rstrip("\r\n")


def read_passphrase(file: Path | None, pem: Path, *, new: bool = False, configured: bool = False) -> str:
    """The passphrase of an encrypted PEM. Raises :class:`~okta_m2m.errors.ConfigurationError` if none is given.

    - ``file``: the file to read it from; by default the environment, or a prompt.
    - ``pem``: the file of the key, for the error.
    - ``new``: whether it is for a new key; then a prompt asks for it twice.
    - ``configured``: whether it is for the configured key; then it may also be in an ``okta.yaml``.
    """
    found = find_setting("privateKeyPassphrase")
    if file is not None:
        passphrase = read_secret(file, "passphrase")
    elif found is not None and (configured or found.file is None):  # an okta.yaml's is for the key that it names
        passphrase = str(found.value)
    else:
        passphrase = prompt_for("Passphrase of the key", twice=new) if stdin_is_terminal() else ""
    if not passphrase:
        raise ConfigurationError(
            f"No passphrase was given for {pem}.",
            remedy="Put it in a file (--passphrase-file), or set OKTA_CLIENT_PRIVATEKEYPASSPHRASE.",
        )
    return passphrase


def default_key_file() -> Path | None:
    """:data:`DEFAULT_KEY`, if it exists and no setting names a key.

    No one named this file, so it is refused for the same reasons as an ``okta.yaml``: another user may have put it there, to
    have their own key registered.
    """
    if find_setting("privateKey", "jwk") is not None or not DEFAULT_KEY.exists():
        return None
    if sys.platform != "win32":  # Windows, where a mode does not show who can write
        owners = {DEFAULT_KEY.lstat().st_uid, DEFAULT_KEY.stat().st_uid}
        for owner in owners - {os.geteuid(), 0}:
            raise ConfigurationError(
                f"{DEFAULT_KEY} belongs to another user (uid {owner}), who may know the private key.",
                remedy="Use a key of your own. If you trust that user, name the file in the command.",
            )
        if DEFAULT_KEY.stat().st_mode & 0o022:
            raise ConfigurationError(
                f"Others can write {DEFAULT_KEY}, so they may have replaced the key.",
                remedy=f"If the key is yours, run: chmod go-w '{DEFAULT_KEY}'",
            )
    return DEFAULT_KEY


def configured_key_file() -> Path | None:
    """The existing file that the key's setting names; ``None`` if it names no file or contains the key itself."""
    found = find_setting("privateKey", "jwk")
    if found is None or not isinstance(found.value, str):
        return None
    return existing_file(Path() if found.file is None else found.file.parent, found.value)


def existing_file(folder: Path, text: str) -> Path | None:
    """The file that the text of a setting names, relative to the folder; ``None`` if there is none."""
    try:
        path = folder / os.path.expanduser(text)  # Path.expanduser raises an error if there is no such user
        return path if path.is_file() else None
    except (OSError, ValueError):  # a key, too long for a path
        return None


def signing_kid(path: Path | None) -> str | None:
    """The ``kid`` that a program signs with if no setting has another: the one in the key file.

    Without a file, it is the configured key's.
    """
    return load_key(None).kid if path is None else read_kid(path)


def load_key(path: Path | None, *, kid: str | None = None, passphrase_file: Path | None = None) -> PrivateKey:
    """The key in a file, by default the configured key. It does not follow the file."""
    path = path or default_key_file()
    if path is None:
        return _load_configured_key(kid)
    # Do not keep it in a variable here: a crash report of an error in from_file would show it.
    return PrivateKey.from_file(path, password=passphrase_of(path, passphrase_file), kid=kid).snapshot()


def with_kid(key: PrivateKey) -> PrivateKey:
    """The key with its own ``kid``, or with its thumbprint as the ``kid``. A PEM often has none. If it is registered with its
    thumbprint, it can be converted and rotated later."""
    return key.with_kid(key.kid or key.thumbprint())


def passphrase_of(path: Path, passphrase_file: Path | None, *, configured: bool = False) -> str | None:
    """The passphrase of a key file; ``None`` if the key is not encrypted and no passphrase file is named.

    ``configured``: whether it is the configured key.
    """
    wanted = passphrase_file is not None or is_encrypted(path)
    return read_passphrase(passphrase_file, path, configured=configured) if wanted else None


def _load_configured_key(kid: str | None) -> PrivateKey:
    if find_setting("privateKey", "jwk") is None:
        raise ConfigurationError(
            f"There is no key: no setting names one, and ./{DEFAULT_KEY} does not exist.",
            remedy="Set the key's file, or create a key with: okta-m2m key new",
        )
    settings = read_settings(org_url="https://any.okta.com", client_id="any", scopes=["okta.users.read"])
    key = cast("PrivateKey", settings.key).snapshot()  # only an argument could be another signer
    return key if kid is None else key.with_kid(kid)


def is_encrypted(path: Path) -> bool:
    """Whether a file has an encrypted PEM."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False  # reading a FIFO might never end; loading the key reports the error
        with path.open("rb") as file:
            return b"ENCRYPTED" in file.read(500)
    except OSError:
        return False
