"""Creates key files that only their owner can read, and replaces them atomically.

Invariant: a private key is never in a file that others can read. A reader of a file that is being replaced sees the old
content or the new content, never a mixture. Windows has no modes: there, a new file has the permissions that its directory
passes on.
"""

from __future__ import annotations

import codecs
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .._base.crash_reports import without_locals
from .._base.file_modes import readers_warning
from ..errors import ConfigurationError, InvalidKey
from ..keys import PrivateKey
from ..keys.key_formats import clean_text, kid_of_pem
from . import _safe_files
from ._safe_files import FileVersion

__all__ = [
    "FileContent",
    "FileVersion",
    "check_replaceable",
    "key_text",
    "new_key",
    "read_file",
    "read_jwk_file",
    "read_kid",
    "readers_warning",
    "replace_file",
    "write_key",
    "write_kid",
    "write_new_file",
]


@dataclass(frozen=True, slots=True)
class FileContent:
    """The content that was read, and the version of the file that it is from.

    - ``data``: the bytes.
    - ``version``: the file's identity, size and modification time; :func:`replace_file` compares it.
    """

    data: bytes = field(repr=False)
    version: FileVersion


def new_key(alg: str = "RS256", *, bits: int = 2048, kid: str | None = None) -> PrivateKey:
    """A new key.

    - ``alg``: RS256, RS384 or RS512 for RSA; ES256, ES384 or ES512 for EC. Default RS256.
    - ``bits``: size of an RSA key; not used for EC. Default 2048.
    - ``kid``: the key's id at Okta. Default ``None``, its RFC 7638 thumbprint.

    Raises :class:`~okta_m2m.errors.InvalidKey` for another ``alg`` or size.
    """
    key = PrivateKey.generate(alg, bits=bits)
    while kid is None and key.thumbprint().startswith("-"):  # a command would read that kid as an option
        key = PrivateKey.generate(alg, bits=bits)
    return key.with_kid(kid or key.thumbprint())


@without_locals
def key_text(key: PrivateKey, *, form: Literal["jwk", "pem"] = "jwk", password: str | bytes | None = None) -> bytes:
    """The content of a key file.

    - ``key``: the private key.
    - ``form``: ``"jwk"`` (the default) or ``"pem"``, which is PKCS #8 with the ``kid`` in a line above it.
    - ``password``: the passphrase that encrypts a PEM. Default ``None``, not encrypted.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for a JWK with a passphrase, and for a ``kid`` that does not fit on one
    line.
    """
    if form == "jwk":
        if password is not None:
            raise ConfigurationError("A JWK file is not encrypted.", remedy="Omit the passphrase, or write a PEM.")
        return json.dumps(key.private_jwk(), indent=2).encode() + b"\n"
    from joserfc.jwk import ECKey, RSAKey

    head = "" if key.kid is None else f"kid: {key.kid}\n"
    if kid_of_pem(head) != key.kid:
        raise ConfigurationError(
            "This kid does not fit in one line, so a PEM cannot contain it.", remedy="Write a JWK."
        )
    jwk: dict[str, str | list[str]] = {
        name: value for name, value in key.private_jwk().items() if name not in ("alg", "kid")
    }
    secret = password.decode() if isinstance(password, bytes) else password
    kind: Any = RSAKey if jwk["kty"] == "RSA" else ECKey
    pem: bytes = kind.import_key(jwk).as_pem(private=True, password=secret)
    return head.encode() + pem


@without_locals
def write_key(
    path: str | os.PathLike[str],
    key: PrivateKey,
    *,
    form: Literal["jwk", "pem"] = "jwk",
    password: str | bytes | None = None,
) -> None:
    """Creates a key file with mode 0600.

    - ``path``: a file that does not exist yet.
    - ``key``, ``form``, ``password``: as for :func:`key_text`.

    Raises :class:`~okta_m2m.errors.ConfigurationError` if ``path`` already exists or cannot be written.
    """
    write_new_file(path, key_text(key, form=form, password=password))


@without_locals
def read_kid(path: Path) -> str | None:
    """The ``kid`` in a JWK or PEM file, without decrypting it; ``None`` if there is none, or the file cannot be read.

    - ``path``: the file.
    """
    try:
        content = path.read_bytes()
        if b"-----BEGIN" in content:
            return kid_of_pem(clean_text(content))
        kid = read_jwk_file(path).get("kid")
    except (OSError, InvalidKey):
        return None
    return kid if isinstance(kid, str) else None


@without_locals
def write_kid(path: Path, kid: str) -> bool:
    """Writes a ``kid`` into a key file that has none: above the key in a PEM, or into a JWK. The key can be rotated only with it.

    - ``path``: the file. Everything else in it stays as it is, and so do its owner, group and mode.
    - ``kid``: the id under which Okta lists the key.

    Returns whether it was written; ``False`` for a file that contains another kind of document, or if ``kid`` does not fit on one
    line. Raises :class:`~okta_m2m.errors.ConfigurationError` if the file cannot be replaced.
    """
    file = read_file(path)
    if b"-----BEGIN" in file.data:
        line = f"kid: {kid}\n"
        if kid_of_pem(line) != kid:
            return False
        content = line.encode() + file.data.removeprefix(codecs.BOM_UTF8)
    else:
        try:
            content = json.dumps({**read_jwk_file(path), "kid": kid}, indent=2).encode() + b"\n"
        except InvalidKey:
            return False
    replace_file(path, content, was=file.version)
    return True


@without_locals
def read_jwk_file(path: Path) -> dict[str, object]:
    """The JWK in a file.

    - ``path``: the file.

    Raises :class:`~okta_m2m.errors.InvalidKey` if the file contains anything else, or cannot be read.
    """
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or "kty" not in document:
        raise InvalidKey(f"{path} is not a JWK file.", remedy="Convert it with: okta-m2m key convert")
    return document


@without_locals
def write_new_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Creates a file that only its owner can read (mode 0600; not on Windows). It is on disk when this returns.

    - ``path``: a file that does not exist yet.
    - ``content``: the bytes to write.

    Raises :class:`~okta_m2m.errors.ConfigurationError` if ``path`` already exists, even as a symlink, if it cannot be
    written, or if this process is root and another user can write to a directory in the path. No partially written file
    remains.
    """
    path = Path(path)
    _safe_files.create(_safe_files.real_path(path.parent) / path.name, content)


@without_locals
def replace_file(path: Path, content: bytes, *, was: FileVersion | None = None) -> None:
    """Replaces a file's content atomically, and keeps its mode, owner and group. A new file gets mode 0600.

    Only one writer may do this at a time. For a symlink, the file that it leads to is replaced.

    - ``path``: the file.
    - ``content``: its new content.
    - ``was``: the version that :func:`read_file` returned. A file that changed since then is not overwritten. Default
      ``None``: not compared.

    Raises :class:`~okta_m2m.errors.ConfigurationError`, and leaves the file unchanged, if this user cannot create a file
    with the owner and group of the old one (its readers could no longer open it), if another process changed the file, or
    if this process is root and another user owns the file or can write to a directory in the path.
    """
    _safe_files.replace(_safe_files.real_path(path), content, was=was)


def read_file(path: Path) -> FileContent:
    """The content of a regular file, with the version that :func:`replace_file` compares.

    - ``path``: the file.

    Raises ``FileNotFoundError`` if it does not exist, another ``OSError`` if it cannot be read, and
    :class:`~okta_m2m.errors.ConfigurationError` if it is not a regular file, or if this process is root and another user
    owns the file or can write to a directory in the path.
    """
    return FileContent(*_safe_files.read(_safe_files.real_path(path)))


def check_replaceable(path: Path) -> None:
    """Raises the same errors as :func:`replace_file` about owners, groups, other users and the directory, before anything is
    changed.

    - ``path``: the file.
    """
    _safe_files.check_replaceable(_safe_files.real_path(path))
