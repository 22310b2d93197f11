"""The seal round everything that rests in a store: a JWE, which only the fleet's own secret opens.

Invariant: what does not open is a miss, never an error; and what was sealed for one cache key opens for no other. A seal
is a compact JWE (RFC 7516) of ``dir`` and ``A256GCM``, whose key is HKDF-SHA256 (RFC 5869) of the secret with the cache
key in its ``info``.

This module imports all that it seals with, and is itself imported where an app is given a store: a fresh process's first
call waits for no import, and who shares nothing does not pay for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwe
from joserfc.jwk import OctKey

from .._core.tokens import not_picklable
from ..errors import ConfigurationError
from ..keys import PrivateKey

if TYPE_CHECKING:
    from ..keys import Signer

__all__ = ["LARGEST", "SHORTEST_SECRET", "Seal", "sealing_secret"]

SHORTEST_SECRET = 32
"""Bytes of a secret: as strong as the AES key that is made of it."""

LARGEST = 1 << 16
"""Bytes of a sealed value above which it is not looked at. Okta's tokens have a few thousand."""

_ALGORITHMS = ("dir", "A256GCM")  # nothing else opens: no other alg, and no zip, which could be a bomb


class Seal:
    """Seals with the first of its secrets, and opens what any of them has sealed.

    ``secrets``: at least one, each of at least 32 random bytes; :class:`~okta_m2m.errors.ConfigurationError` is raised
    for what is not.
    """

    __slots__ = ("_secrets", "fingerprint")

    fingerprint: str
    """16 hexadecimal digits that name the first secret and reveal nothing of it."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        if isinstance(secrets, str | bytes):
            raise ConfigurationError("Sealing secrets are given as a list, newest first. Put brackets around the one.")
        self._secrets = tuple(_checked(secret) for secret in secrets)
        if not self._secrets:
            raise ConfigurationError(
                "There is no secret to seal shared tokens with: the key cannot be read (an HSM's or a KMS's). "
                f"Give seal_with=[secret] with at least {SHORTEST_SECRET} random bytes, the same in every process."
            )
        self.fingerprint = _derived(self._secrets[0], b"okta-m2m/seal-fingerprint/1", 8).hex()

    def seal(self, cache_key: str, plaintext: bytes) -> bytes:
        """The sealed value, which opens under this cache key only."""
        header = {"alg": "dir", "enc": "A256GCM"}
        return jwe.encrypt_compact(header, plaintext, _key(self._secrets[0], cache_key), _ALGORITHMS).encode()

    def open(self, cache_key: str, sealed: bytes | None) -> bytes | None:
        """The plaintext; ``None`` for whatever was not sealed with one of these secrets for this cache key."""
        if sealed is None or len(sealed) > LARGEST:
            return None
        for secret in self._secrets:
            try:
                return jwe.decrypt_compact(sealed, _key(secret, cache_key), _ALGORITHMS).plaintext
            except Exception:  # noqa: BLE001, S112 (anybody may have written those bytes: nothing in them may raise here)
                continue
        return None

    def __repr__(self) -> str:
        return f"Seal(fingerprint={self.fingerprint!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        not_picklable("A seal", "Make one in each process.")


def sealing_secret(signer: Signer) -> bytes | None:
    """The secret that a fleet has in common already: derived from the private key, where that can be read.

    ``None`` for a signer whose key cannot (an HSM, a KMS). Of a key that follows a file it is the version last read.
    """
    return signer.derive(b"okta-m2m/sealing-secret/1", 32) if isinstance(signer, PrivateKey) else None


def _checked(secret: object) -> bytes:
    if isinstance(secret, bytes) and len(secret) >= SHORTEST_SECRET:
        return secret
    what = f"is of type {type(secret).__name__}" if not isinstance(secret, bytes) else f"has {len(secret)} bytes"
    raise ConfigurationError(
        f"A sealing secret {what}; at least {SHORTEST_SECRET} random bytes are needed. Make one with: "
        'python -c "import secrets; print(secrets.token_hex(32))", and give it as bytes.fromhex(...).'
    )


def _key(secret: bytes, cache_key: str) -> OctKey:
    # "surrogatepass": a cache key is made of settings, and no text in those may raise here.
    return OctKey.import_key(_derived(secret, b"okta-m2m/seal/1\0" + cache_key.encode("utf-8", "surrogatepass"), 32))


def _derived(secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=info).derive(secret)
