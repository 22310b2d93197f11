"""Signing keys: the protocol of a signer, and private keys that are read from PEM, a JWK or a file.

Invariant: a private key is parsed once. No ``repr``, log record, exception or ``pickle`` shows its private part or a
passphrase. A missing ``kid`` is never made up.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol

from .._base.crash_reports import without_locals
from .._base.file_modes import warn_of_readers
from .._base.tokens import not_picklable
from ..errors import InvalidKey
from ._key_algorithms import (
    MAX_KEY_SIZE,
    MIN_RSA_BITS,
    derivation_secret,
    generate_native,
    hkdf,
    make_version,
    thumbprint,
)
from .key_formats import clean_text, is_json, is_key_text, kid_of_pem, load_jwk, load_pem, parse_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

__all__ = ["PrivateKey", "Signer", "thumbprint"]


class Signer(Protocol):
    """A key in memory, in a file, in a KMS or in an HSM.

    - ``alg``: the JWS algorithm. Okta accepts RS256, RS384, RS512, ES256, ES384 and ES512.
    - ``kid``: the key's id at Okta, or ``None``. An app with more than one key needs it.
    - ``public_jwk``: ``kty`` with ``n`` and ``e``, or with ``crv``, ``x`` and ``y`` (RFC 7518 section 6).

    Two more members are optional:

    - ``in_memory = True`` promises that ``sign`` is quick. Without it, ``sign`` is assumed to block, and runs in a thread of
      ours.
    - ``snapshot()`` returns the signer for one fetch of a token: one immutable version of key, ``kid`` and ``alg``. It may
      read a file, so it is never called on an event loop. The same version must be the same object.
    """

    @property
    def alg(self) -> str: ...
    @property
    def kid(self) -> str | None: ...
    @property
    def public_jwk(self) -> Mapping[str, str]: ...

    def sign(self, message: bytes, /) -> bytes:
        """The JWS signature of ``message``.

        For RS*, it is PKCS #1 v1.5 (RFC 7518 section 3.3). For ES*, it is the numbers r and s, concatenated with a fixed
        length each (section 3.4), not the DER encoding that most KMSs return.

        A plain function, which may block: without ``in_memory``, it is called in a thread of ours, several at once.
        """
        ...


class PrivateKey:
    """A private key in memory: RSA of at least 2048 bits, or EC on P-256, P-384 or P-521.

    It is immutable, and threads may share it.

    - ``native``: a private key object from ``cryptography``.
    - ``kid``: the key's id at Okta; ``None``, the default, if it has none.
    - ``alg``: RS256 (the default), RS384 or RS512 for RSA. For EC the curve decides, and ``alg`` can only confirm it.

    Raises :class:`~okta_m2m.errors.InvalidKey` for a key or an ``alg`` that Okta does not accept.
    """

    __slots__ = ("__weakref__", "_version")

    in_memory: ClassVar[bool] = True

    @without_locals
    def __init__(self, native: PrivateKeyTypes, *, kid: str | None = None, alg: str | None = None) -> None:
        self._version = make_version(native, kid, alg)

    @classmethod
    @without_locals
    def from_pem(
        cls,
        pem: str | bytes,
        *,
        password: str | bytes | None = None,
        kid: str | None = None,
        alg: str | None = None,
    ) -> PrivateKey:
        """Reads PEM text: PKCS #1, PKCS #8 or SEC 1, encrypted or not.

        - ``pem``: the text. Anything around the key is ignored (a certificate, EC parameters, quotes). Its lines may be
          separated by a literal ``\\n``, by spaces, or not at all.
        - ``password``: the passphrase of an encrypted key; ignored if the key is not encrypted. Default ``None``.
        - ``kid``: overrides a line ``kid: ...`` above the key in the text.
        - ``alg``: as for :class:`PrivateKey`.

        Raises :class:`~okta_m2m.errors.InvalidKey` for anything else.
        """
        text = clean_text(pem)
        return PrivateKey(load_pem(text, password), kid=kid or kid_of_pem(text), alg=alg)

    @classmethod
    @without_locals
    def from_jwk(
        cls, jwk: Mapping[str, object] | str | bytes, *, kid: str | None = None, alg: str | None = None
    ) -> PrivateKey:
        """Reads a JWK or a JWKS (RFC 7517).

        - ``jwk``: a mapping, or JSON text.
        - ``kid``: picks the key of a JWKS. It is not needed if the set has only one private key for signing; if that key
          has no ``kid``, it gets this one. For a JWK, it overrides the JWK's own.
        - ``alg``: overrides the JWK's own; otherwise as for :class:`PrivateKey`.

        Raises :class:`~okta_m2m.errors.InvalidKey` for anything else.
        """
        native, own_kid, own_alg = load_jwk(jwk if isinstance(jwk, Mapping) else parse_json(clean_text(jwk)), kid)
        return PrivateKey(native, kid=kid or own_kid, alg=alg or own_alg)

    @classmethod
    @without_locals
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        password: str | bytes | None = None,
        kid: str | None = None,
        alg: str | None = None,
    ) -> PrivateKey:
        """Reads a file with PEM, a JWK or a JWKS, and follows it.

        The file is read again before each fetch of a token, never on an event loop. A new key in it is used from then
        on. While the file cannot be read or has no valid key, the last valid key stays in use, and each service app reports
        one warning.

        - ``path``: the file. Its content, not its name, determines the format. ``~`` is the home directory.
        - ``password``, ``kid``, ``alg``: as for :meth:`from_pem` and :meth:`from_jwk`. They apply each time the file is
          read, so omit ``kid`` if each new key has its own.

        Raises :class:`~okta_m2m.errors.InvalidKey` if the file has no valid key at first.
        """
        try:
            given = os.fsdecode(path)
        except TypeError:
            raise InvalidKey(
                f"The path of a key file is of type {type(path).__name__}.", remedy="Pass a str or a pathlib.Path."
            ) from None
        if is_key_text(given) and not os.path.exists(_absolute(given)):
            raise InvalidKey(
                "This is the text of a key, not the path of its file.", remedy="Read it with PrivateKey.from_text."
            )
        try:
            return _FileKey(_absolute(given), lambda content: _parse_text(content, password, kid, alg))
        except InvalidKey as error:
            raise InvalidKey(f"{given}: {error.problem}", remedy=error.remedy) from None

    @classmethod
    @without_locals
    def from_text(
        cls,
        text: str,
        *,
        password: str | bytes | None = None,
        kid: str | None = None,
        alg: str | None = None,
    ) -> PrivateKey:
        """Reads the value of a setting: PEM text, JWK or JWKS text, or the path of a file.

        - ``text``: the key or the path. No error shows it, because a path may be a key that lost its first line.
        - ``password``, ``kid``, ``alg``: as for :meth:`from_file`, which reads and follows the file.

        Raises :class:`~okta_m2m.errors.InvalidKey` for anything else.
        """
        plain = clean_text(text)
        if is_json(plain) or "-----BEGIN" in plain:
            return _parse_text(plain, password, kid, alg)
        if not os.path.exists(_absolute(plain)):
            raise InvalidKey(
                "It is neither PEM text, nor JWK text, nor the path of a file that exists.",
                remedy=(
                    "Pass the whole text of the key, from -----BEGIN to the end, or the file's absolute path, "
                    "or its path from the working directory."
                ),
            )
        return cls.from_file(plain, password=password, kid=kid, alg=alg)

    @classmethod
    @without_locals
    def from_env(
        cls,
        name: str = "OKTA_CLIENT_PRIVATEKEY",
        *,
        password: str | bytes | None = None,
        kid: str | None = None,
        alg: str | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> PrivateKey:
        """Reads an environment variable.

        - ``name``: the variable. Its value is anything that :meth:`from_text` accepts.
        - ``password``, ``kid``, ``alg``: as for :meth:`from_file`.
        - ``environ``: the environment variables. Default ``os.environ``.

        Raises :class:`~okta_m2m.errors.InvalidKey` if the variable is not set, or its value is anything else.
        """
        text = environ.get(name, "")
        if not text.strip():
            raise InvalidKey(
                f"{name} is not set.", remedy="Set it to the key's PEM or JWK text, or to the path of its file."
            )
        try:
            return cls.from_text(text, password=password, kid=kid, alg=alg)
        except InvalidKey as error:
            raise InvalidKey(f"{name}: {error.problem}", remedy=error.remedy) from None

    @classmethod
    def generate(cls, alg: str = "ES256", *, kid: str | None = None, bits: int = MIN_RSA_BITS) -> PrivateKey:
        """Creates a new key, which exists only in memory.

        - ``alg``: RS256, RS384, RS512, ES256 (the default), ES384 or ES512.
        - ``kid``: the key's id at Okta.
        - ``bits``: size of an RSA key; not used for EC. Default 2048.

        Raises :class:`~okta_m2m.errors.InvalidKey` for another ``alg`` or size.
        """
        return cls(generate_native(alg, bits), kid=kid, alg=alg)

    @property
    def alg(self) -> str:
        """The JWS algorithm of its signatures."""
        return self._version.alg

    @property
    def kid(self) -> str | None:
        """The key's id at Okta, if it has one."""
        return self._version.kid

    @property
    def public_jwk(self) -> Mapping[str, str]:
        """The members of the public key itself (RFC 7518 section 6), read-only, without ``kid``, ``use`` and ``alg``."""
        return self._version.public_jwk

    @property
    def path(self) -> str | None:
        """The file that this key follows; ``None`` if it follows none."""
        return None

    @property
    def latest(self) -> PrivateKey:
        """The version that :meth:`snapshot` returned last: this key itself, unless it follows a file."""
        return self

    @property
    def trouble(self) -> str | None:
        """Why the present content of its file is not used; ``None`` if it is, or if this key follows no file."""
        return None

    def sign(self, message: bytes, /) -> bytes:
        """The JWS signature of ``message`` (RFC 7518 sections 3.3 and 3.4)."""
        return self._version.sign(message)

    def derive(self, info: bytes, length: int) -> bytes:
        """A secret that only holders of this private key can derive (HKDF-SHA256, RFC 5869).

        All forms of one key (PEM, JWK, with or without the RSA primes) derive the same secret.

        - ``info``: the purpose of the secret. Secrets for different purposes reveal nothing about each other or the key.
        - ``length``: in bytes.
        """
        return hkdf(derivation_secret(self._version.native), info, length)

    def snapshot(self) -> PrivateKey:
        """The immutable version to sign with for one fetch of a token: this key itself, unless it follows a file."""
        return self

    def thumbprint(self) -> str:
        """The public key's RFC 7638 SHA-256 thumbprint, base64url."""
        return self._version.thumbprint

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The JWKS to register at Okta: the public key, with ``use``, ``alg``, and ``kid`` if it has one."""
        version = self._version
        kid = {} if version.kid is None else {"kid": version.kid}
        return {
            "keys": [{"kty": version.public_jwk["kty"], **kid, "use": "sig", "alg": version.alg, **version.public_jwk}]
        }

    def private_jwk(self) -> dict[str, str]:
        """The whole key as a JWK, including its private members. Write it only to a protected key file."""
        from joserfc.jwk import ECKey, RSAKey

        version = self._version
        native: Any = version.native
        whole = (RSAKey if version.public_jwk["kty"] == "RSA" else ECKey).import_key(native).as_dict(private=True)
        kid = {} if version.kid is None else {"kid": version.kid}
        return {"kty": version.public_jwk["kty"], **kid, "alg": version.alg, **{k: str(v) for k, v in whole.items()}}

    def with_kid(self, kid: str | None) -> PrivateKey:
        """The same key with another ``kid``. It follows no file."""
        version = self._version
        return PrivateKey(version.native, kid=kid, alg=version.alg)

    def __repr__(self) -> str:
        version = getattr(self, "_version", None)
        if version is None:  # incomplete: shown in a traceback of its own failed creation
            return "PrivateKey(not made)"
        return f"PrivateKey(alg={version.alg!r}, kid={version.kid!r}, thumbprint={version.thumbprint!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        not_picklable(
            "A private key",
            "Load it in each process, with PrivateKey.from_file or PrivateKey.from_env.",
        )


class _FileKey(PrivateKey):
    """Behaves like the last valid version of a file. Only ``snapshot`` reads the file."""

    __slots__ = ("_last", "_parse", "_path")

    def __init__(self, path: str, parse: Callable[[bytes], PrivateKey]) -> None:
        self._path = path
        self._parse = parse
        content = _read_file(path)
        self._remember(sha256(content).digest(), parse(content), None)

    @property
    def path(self) -> str:
        """The file that this key follows."""
        return self._path

    @property
    def latest(self) -> PrivateKey:
        return self._last[1]

    @property
    def trouble(self) -> str | None:
        return self._last[2]

    def _remember(self, digest: bytes, key: PrivateKey, trouble: str | None) -> None:
        self._version = key._version
        self._last = (digest, key, trouble)

    @without_locals
    def snapshot(self) -> PrivateKey:
        # Compare the content, not the times: a coarse mtime, a swapped symlink or a copied timestamp cannot hide a new
        # key. One small read per fetch costs little compared with the token request that follows. There is no lock,
        # because a fork during the read would leave it locked in the child. If two threads see a new key, both parse it,
        # and the later result is kept.
        digest, key, trouble = self._last
        try:
            content = _read_file(self._path)
            new_digest = sha256(content).digest()
            if new_digest == digest and trouble is None:
                return key
            if new_digest != digest:
                key = self._parse(content)
        except InvalidKey as error:
            self._remember(digest, key, str(error))
            return key
        self._remember(new_digest, key, None)
        return key


def _parse_text(content: str | bytes, password: str | bytes | None, kid: str | None, alg: str | None) -> PrivateKey:
    text = clean_text(content)
    if is_json(text):
        return PrivateKey.from_jwk(text, kid=kid, alg=alg)
    return PrivateKey.from_pem(text, password=password, kid=kid, alg=alg)


def _absolute(path: str) -> str:
    # The working directory may change before the file is read again. Symlinks are not resolved, because they may be
    # swapped.
    return os.path.abspath(os.path.expanduser(path))


def _read_file(path: str) -> bytes:
    """The beginning of a regular file, which :func:`clean_text` refuses if there is more. A FIFO or a device is never opened,
    because that may block forever."""
    try:
        about = os.stat(path)
        if stat.S_ISREG(about.st_mode):
            with open(path, "rb") as file:
                content = file.read(MAX_KEY_SIZE + 1)
            if b"ENCRYPTED" not in content:
                warn_of_readers(path, "private key")
            return content
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise InvalidKey(
            f"The file cannot be read ({reason}).", remedy="Check the path, and that this process may read it."
        ) from None
    if stat.S_ISDIR(about.st_mode):
        raise InvalidKey("This is a directory.", remedy="Pass the path of the key file in it.")
    raise InvalidKey(
        "This is not a regular file.", remedy="Read it yourself, and pass its content to PrivateKey.from_text."
    )
