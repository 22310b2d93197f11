"""Key files: a new one is written so that only its owner reads it, never over another, and a change is seen whole or not
at all.

Invariant: at no moment does a private key lie in a file that others can read, and a reader of the file finds the old key
or the new one.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Literal

from ..errors import ConfigurationError, InvalidKey
from ..keys import PrivateKey

__all__ = [
    "check_replaceable",
    "convert_key",
    "key_text",
    "new_key",
    "read_jwk_file",
    "replace_file",
    "write_key",
    "write_new_file",
]


def new_key(alg: str = "RS256", *, bits: int = 2048, kid: str | None = None) -> PrivateKey:
    """A new key: RSA of ``bits`` (2048, 3072, 4096) for RS256 to RS512, or EC for ES256, ES384, ES512.

    Its ``kid`` is its RFC 7638 thumbprint unless another is given. Raises :class:`~okta_m2m.errors.InvalidKey`.
    """
    key = PrivateKey.generate(alg, bits=bits)
    return key.with_kid(kid or key.thumbprint())


def key_text(key: PrivateKey, *, form: Literal["jwk", "pem"] = "jwk", password: str | bytes | None = None) -> bytes:
    """What a key file holds: a JWK with its ``kid``, or PKCS #8 PEM, encrypted where a password is given.

    A PEM has no place for the ``kid``. Raises :class:`~okta_m2m.errors.ConfigurationError` for a password with a JWK.
    """
    if form == "jwk":
        if password is not None:
            raise ConfigurationError("A JWK file is not encrypted. Leave the password away, or write a PEM.")
        return json.dumps(key.private_jwk(), indent=2).encode() + b"\n"
    from joserfc.jwk import ECKey, RSAKey

    jwk: dict[str, str | list[str]] = {
        name: value for name, value in key.private_jwk().items() if name not in ("alg", "kid")
    }
    secret = password.decode() if isinstance(password, bytes) else password
    if jwk["kty"] == "RSA":
        return RSAKey.import_key(jwk).as_pem(private=True, password=secret)
    return ECKey.import_key(jwk).as_pem(private=True, password=secret)


def write_key(
    path: str | os.PathLike[str],
    key: PrivateKey,
    *,
    form: Literal["jwk", "pem"] = "jwk",
    password: str | bytes | None = None,
) -> None:
    """Writes a new key file with mode 0600. Raises :class:`~okta_m2m.errors.ConfigurationError` if something is there."""
    write_new_file(path, key_text(key, form=form, password=password))


def convert_key(
    path: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    kid: str | None = None,
    password: str | bytes | None = None,
) -> PrivateKey:
    """Writes the key of a PEM or JWK file as a JWK file that has its ``kid``, as rotation needs it; gives the key.

    ``kid`` is the one under which Okta lists the key; where neither it nor the file says one, it is the thumbprint.
    """
    key = PrivateKey.from_file(path, password=password, kid=kid).snapshot()
    key = key.with_kid(key.kid or key.thumbprint())
    write_key(to, key)
    return key


def write_new_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Mode 0600 from its first moment, on disk when this returns, and never over what is there."""
    path = Path(path)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    except FileExistsError:
        raise ConfigurationError(
            f"{path} is there already, and a key is never written over. Name another file."
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({error.strerror}). Check that its directory is there, and that this user may "
            "write it."
        ) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigurationError(
            f"{path} cannot be written whole ({error.strerror}), and was removed. Look for room on the disk, and for a quota."
        ) from None
    except BaseException:  # Ctrl-C leaves no part of a key
        path.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Puts ``content`` in the place of a file in one step that every reader sees whole; mode, owner and group stay, or it
    gets mode 0600 where nothing was. One writer at a time.

    Raises :class:`~okta_m2m.errors.ConfigurationError`, with the file as it was, where this user cannot give the new file
    to the old one's owner and group: whoever reads it would find it closed.
    """
    about = path.stat() if path.exists() else None
    # Always of the same name: what a killed process left is the first thing that the next one removes.
    beside = path.with_name(f".{path.name}.tmp")
    beside.unlink(missing_ok=True)
    write_new_file(beside, content)
    try:
        if about is not None and hasattr(os, "chown"):
            _give(beside, path, about)
            os.chmod(beside, stat.S_IMODE(about.st_mode))
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def check_replaceable(path: Path) -> None:
    """Raises, as far as it can be known beforehand, what :func:`replace_file` would raise about owner and group."""
    if not hasattr(os, "chown"):
        return
    about = path.stat()
    beside = path.with_name(f".{path.name}.tmp")
    beside.unlink(missing_ok=True)
    write_new_file(beside, b"")  # by trying: who owns what is made there is the file system's to say
    try:
        _give(beside, path, about)
    finally:
        beside.unlink(missing_ok=True)


def _give(beside: Path, path: Path, about: os.stat_result) -> None:
    with suppress(PermissionError):  # the same owner is what is wanted, and nearly always what it is already
        os.chown(beside, about.st_uid, about.st_gid)
    made = beside.stat()
    if (made.st_uid, made.st_gid) != (about.st_uid, about.st_gid):
        raise _not_ours(path, about)


def _not_ours(path: Path, about: os.stat_result) -> ConfigurationError:
    return ConfigurationError(
        f"{path} belongs to uid {about.st_uid} and gid {about.st_gid}, and what this user puts in its place would not, so "
        "whoever reads it now could no longer. Run this as the file's owner, and in its group, or as root."
    )


def read_jwk_file(path: Path) -> dict[str, object]:
    """The one JWK that a file holds; raises :class:`~okta_m2m.errors.InvalidKey` where it holds anything else."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or "kty" not in document:
        raise InvalidKey(f"{path} is no JWK file. Convert it with: okta-m2m key convert")
    return document


def _sync_directory(directory: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows has no such thing, and needs none
        return
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
