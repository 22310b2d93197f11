"""Seals everything that goes into a store, as a JWE that only the fleet's own secret can open.

Invariant: an entry that cannot be opened counts as missing, and is never an error. A value that was sealed for one cache
key cannot be opened for another. A seal is a compact JWE (RFC 7516) with ``dir`` and ``A256GCM``. Its key is HKDF-SHA256
(RFC 5869) of the secret, with the cache key in ``info``.

A seal imports its cryptography when it is created. So the first call of a new process waits for no import, and an app without
a store does not pay for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from .._base.crash_reports import without_locals
from .._base.tokens import not_picklable
from ..errors import ConfigurationError
from ..keys import PrivateKey
from ..keys._key_algorithms import hkdf

if TYPE_CHECKING:
    from joserfc.jwk import OctKey

    from ..keys import Signer

__all__ = ["MAX_SEALED_SIZE", "MIN_SECRET_SIZE", "Seal", "sealing_secret"]

MIN_SECRET_SIZE = 32
"""Size of the shortest secret, in bytes: the size of the AES key that is derived from it."""

MAX_SEALED_SIZE = 1 << 16
"""Size of the largest sealed value that is opened, in bytes. Okta's tokens have a few thousand bytes."""

# Nothing else is accepted: no other alg, and no zip, which could be a decompression bomb.
_ALGORITHMS = ("dir", "A256GCM")


class Seal:
    """Seals with the first of its secrets, and opens values that were sealed with any of them.

    - ``secrets``: at least one, each of at least 32 random bytes, newest first.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for anything else.
    """

    __slots__ = ("_secrets", "fingerprint")

    fingerprint: str
    """16 hexadecimal digits that identify the first secret and reveal nothing about it."""

    @without_locals
    def __init__(self, secrets: Sequence[bytes]) -> None:
        if isinstance(secrets, str | bytes):
            raise ConfigurationError(
                "Sealing secrets must be a list, newest first.",
                remedy="Put brackets around the secret: seal_with=[secret].",
            )
        self._secrets = tuple(_check_secret(secret) for secret in secrets)
        if not self._secrets:
            raise ConfigurationError(
                "There is no secret to encrypt shared tokens with: the private key cannot be read, as in an HSM or a KMS.",
                remedy=(
                    f"Pass seal_with=[secret] with at least {MIN_SECRET_SIZE} random bytes, the same in every process."
                ),
            )
        import joserfc.jwe  # noqa: F401  # heavy: imported when a seal is created, so that no call waits for it

        self.fingerprint = hkdf(self._secrets[0], b"okta-m2m/seal-fingerprint/1", 8).hex()

    def seal(self, cache_key: str, plaintext: bytes) -> bytes:
        """The sealed value, which can be opened only for this cache key.

        - ``cache_key``: any string.
        - ``plaintext``: the value.
        """
        from joserfc import jwe

        header = {"alg": "dir", "enc": "A256GCM"}
        return jwe.encrypt_compact(header, plaintext, _key(self._secrets[0], cache_key), _ALGORITHMS).encode()

    def open(self, cache_key: str, sealed: bytes | None) -> bytes | None:
        """The plaintext; ``None`` for anything that was not sealed with one of these secrets for this cache key."""
        if sealed is None or len(sealed) > MAX_SEALED_SIZE:
            return None
        from joserfc import jwe

        for secret in self._secrets:
            try:
                return jwe.decrypt_compact(sealed, _key(secret, cache_key), _ALGORITHMS).plaintext
            except Exception:  # noqa: BLE001, S112 (anyone may have written these bytes, so nothing in them may raise here)
                continue
        return None

    def __repr__(self) -> str:
        return f"Seal(fingerprint={getattr(self, 'fingerprint', 'not made')!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        not_picklable("A seal", "Create one in each process.")


def sealing_secret(signer: Signer) -> bytes | None:
    """A secret that the fleet already shares, because it is derived from the private key.

    - ``signer``: a key. If it follows a file, the version that was read last counts.

    Returns ``None`` if the signer's key cannot be read, as in an HSM or a KMS.
    """
    return signer.derive(b"okta-m2m/sealing-secret/1", 32) if isinstance(signer, PrivateKey) else None


def _check_secret(secret: object) -> bytes:
    if isinstance(secret, bytes) and len(secret) >= MIN_SECRET_SIZE and len(set(secret)) > 1:
        return secret
    what = f"is of type {type(secret).__name__}" if not isinstance(secret, bytes) else f"has {len(secret)} bytes"
    if isinstance(secret, bytes) and len(secret) >= MIN_SECRET_SIZE:
        what = "consists of equal bytes"
    raise ConfigurationError(
        f"A sealing secret {what}, but needs at least {MIN_SECRET_SIZE} random bytes.",
        remedy=(
            'Create one with: python -c "import secrets; print(secrets.token_hex(32))", and pass it as '
            "bytes.fromhex(...)."
        ),
    )


def _key(secret: bytes, cache_key: str) -> OctKey:
    from joserfc.jwk import OctKey

    # "surrogatepass", because a cache key is made from settings, and no string in a setting may raise here.
    return OctKey.import_key(hkdf(secret, b"okta-m2m/seal/1\0" + cache_key.encode("utf-8", "surrogatepass"), 32))
