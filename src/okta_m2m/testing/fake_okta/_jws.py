"""Strict parsing and verification of a compact JWS, independent of the code that signs.

Invariant: :func:`parse` returns only what RFC 7515 allows (base64url without padding, one JSON object each, no
duplicate members) and no ``crit``. :func:`verify` returns true only for one of Okta's six algorithms with a public key of
the matching type, curve and size.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeGuard

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

#: The algorithms that Okta accepts for a client's own keys -> the key type and curve of each.
ALGORITHMS: dict[str, tuple[str, str | None]] = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
}
#: JWK members that only a private or symmetric key has (RFC 7518 section 6).
PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_PUBLIC_MEMBERS = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y")}
MIN_RSA_BITS = 2048


class NotAJws(ValueError):
    """Not a compact JWS with JSON objects for header and payload."""


@dataclass(frozen=True, slots=True, repr=False)
class ParsedJws:
    """A well-formed JWS whose signature was not checked."""

    header: dict[str, Any]
    claims: dict[str, Any]
    text: str


def parse(text: str) -> ParsedJws:
    """Parses a compact JWS. Raises :class:`NotAJws`."""
    parts = text.split(".")
    if len(parts) != 3 or not all(parts):
        raise NotAJws
    header, claims = _parse_json(parts[0]), _parse_json(parts[1])
    _decode(parts[2])
    if "crit" in header or "b64" in header:
        raise NotAJws
    return ParsedJws(header, claims, text)


def verify(parsed: ParsedJws, jwk: Mapping[str, Any]) -> bool:
    """Whether the key ``jwk`` made the signature. Raises ``ValueError`` if ``jwk`` is not a usable public key."""
    alg = parsed.header.get("alg")
    if alg not in ALGORITHMS:
        return False
    kind, curve = ALGORITHMS[alg]
    if jwk.get("kty") != kind or jwk.get("crv") != curve:
        return False
    try:
        jws.deserialize_compact(parsed.text, _import_key(_canonical(jwk)), registry=_REGISTRY)
    except JoseError:
        return False
    return True


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """The thumbprint of a public key (RFC 7638, SHA-256). Raises ``ValueError`` for anything else."""
    return hash_of(_canonical(jwk))


def hash_of(text: str) -> str:
    """The SHA-256 of ``text`` in base64url, as a thumbprint and the claim ``ath`` have it."""
    return encode(hashlib.sha256(text.encode()).digest())


def encode(data: bytes) -> str:
    """``data`` in base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def rsa_bits(jwk: Mapping[str, Any]) -> int:
    """The length of an RSA key in bits; 0 if its modulus is not base64url."""
    try:
        return int.from_bytes(_decode(jwk["n"])).bit_length()
    except NotAJws:
        return 0


def is_number(value: object) -> TypeGuard[int]:
    """Whether a claim is a whole number of seconds. ``true`` is not, although Python counts it as 1."""
    return isinstance(value, int) and not isinstance(value, bool)


# RFC 7515 section 4: ignore header parameters that are not understood.
_REGISTRY = jws.JWSRegistry(algorithms=list(ALGORITHMS), strict_check_header=False)
# joserfc's default of 512 bytes is too short for a proof's header with an RSA key.
_REGISTRY.max_header_length = 8192


def _canonical(jwk: Mapping[str, Any]) -> str:
    members = _PUBLIC_MEMBERS.get(str(jwk.get("kty")))
    if members is None or not all(isinstance(jwk.get(name), str) for name in members):
        raise ValueError("not a public RSA or EC key")
    return json.dumps({name: jwk[name] for name in members}, separators=(",", ":"), sort_keys=True)


@lru_cache(maxsize=1024)
def _import_key(canonical: str) -> RSAKey | ECKey:
    jwk = json.loads(canonical)
    # Check before joserfc does: it would warn about such a key in the server's thread.
    if jwk["kty"] == "RSA" and rsa_bits(jwk) < MIN_RSA_BITS:
        raise ValueError("an RSA key of less than 2048 bits")
    try:
        return RSAKey.import_key(jwk) if jwk["kty"] == "RSA" else ECKey.import_key(jwk)
    except JoseError as error:
        raise ValueError("not a public RSA or EC key") from error


def _decode(part: str) -> bytes:
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise NotAJws from None
    if encode(raw) != part:
        raise NotAJws
    return raw


def _parse_json(part: str) -> dict[str, Any]:
    try:
        found = json.loads(
            _decode(part).decode("utf-8"), object_pairs_hook=_reject_duplicates, parse_constant=_reject_constant
        )
    except (ValueError, RecursionError):
        raise NotAJws from None
    if not isinstance(found, dict):
        raise NotAJws
    return found


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotAJws
    return found


def _reject_constant(name: str) -> Any:
    raise NotAJws
