"""Compact JWS, read with suspicion: this is the fake's own reading, and shares nothing with the code that signs.

Invariant: what :func:`parse` gives back is well-formed to the letter (RFC 7515: base64url without padding, one JSON
object each, no member twice, no ``crit``), and :func:`verified` says yes only for one of Okta's six algorithms with a
public key of the matching type, curve and size.
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
from joserfc.jwk import ECKey, JWKRegistry, RSAKey

__all__ = ["ALGORITHMS", "NotAJws", "ParsedJws", "is_number", "parse", "thumbprint", "verified"]

#: Algorithms that Okta takes from a client's own keys -> the key type and curve that go with each.
ALGORITHMS: dict[str, tuple[str, str | None]] = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
}
_PUBLIC = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y")}
_MIN_RSA_BITS = 2048


class NotAJws(ValueError):
    """Not a compact JWS with JSON objects for header and payload."""


@dataclass(frozen=True, slots=True, repr=False)
class ParsedJws:
    """A JWS that is well-formed; its signature has not been looked at."""

    header: dict[str, Any]
    claims: dict[str, Any]
    text: str


def parse(text: str) -> ParsedJws:
    """Takes a compact JWS apart; raises :class:`NotAJws`."""
    parts = text.split(".")
    if len(parts) != 3 or not all(parts):
        raise NotAJws
    header, claims = _json(parts[0]), _json(parts[1])
    _decoded(parts[2])
    if "crit" in header or "b64" in header:
        raise NotAJws
    return ParsedJws(header, claims, text)


def verified(parsed: ParsedJws, jwk: Mapping[str, Any]) -> bool:
    """Whether the signature is by the key ``jwk``; raises ``ValueError`` if ``jwk`` is no usable public key."""
    alg = parsed.header.get("alg")
    if alg not in ALGORITHMS:
        return False
    kind, curve = ALGORITHMS[alg]
    if jwk.get("kty") != kind or jwk.get("crv") != curve:
        return False
    try:
        jws.deserialize_compact(parsed.text, _imported(_canonical(jwk)), registry=_REGISTRY)
    except JoseError:
        return False
    return True


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """RFC 7638, SHA-256."""
    return base64.urlsafe_b64encode(hashlib.sha256(_canonical(jwk).encode()).digest()).rstrip(b"=").decode()


def is_number(value: object) -> TypeGuard[int]:
    """Whether a claim is a whole number of seconds; ``true`` is not one, though Python says that it is 1."""
    return isinstance(value, int) and not isinstance(value, bool)


class _Registry(jws.JWSRegistry):
    # joserfc's limit of 512 bytes has no room for the RSA key in a proof's header.
    max_header_length = 8192


# RFC 7515 section 4: header parameters that are not understood must be ignored.
_REGISTRY = _Registry(algorithms=list(ALGORITHMS), strict_check_header=False)


def _canonical(jwk: Mapping[str, Any]) -> str:
    members = _PUBLIC.get(str(jwk.get("kty")))
    if members is None or not all(isinstance(jwk.get(name), str) for name in members):
        raise ValueError("not a public RSA or EC key")
    return json.dumps({name: jwk[name] for name in members}, separators=(",", ":"), sort_keys=True)


@lru_cache(maxsize=1024)
def _imported(canonical: str) -> RSAKey | ECKey:
    jwk = json.loads(canonical)
    # Before joserfc sees it, which warns about such a key in the server's thread.
    if jwk["kty"] == "RSA" and int.from_bytes(_decoded(jwk["n"])).bit_length() < _MIN_RSA_BITS:
        raise ValueError("an RSA key of less than 2048 bits")
    try:
        key = JWKRegistry.import_key(jwk)
    except (JoseError, ValueError) as error:
        raise ValueError("not a public RSA or EC key") from error
    if not isinstance(key, (RSAKey, ECKey)):
        raise ValueError("not a public RSA or EC key")
    return key


def _decoded(part: str) -> bytes:
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise NotAJws from None
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != part:
        raise NotAJws
    return raw


def _json(part: str) -> dict[str, Any]:
    try:
        found = json.loads(_decoded(part).decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise NotAJws from None
    if not isinstance(found, dict):
        raise NotAJws
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotAJws
    return found


def _no_constant(name: str) -> Any:
    raise NotAJws
