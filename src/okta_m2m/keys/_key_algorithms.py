"""The algorithms that Okta accepts: which key fits which algorithm, and how each signs.

Invariant: no error raised here holds key material. This module handles only the keys of ``cryptography`` ("native" keys) and
plain data; :mod:`okta_m2m.keys` wraps them. ``cryptography`` is imported where it is used: importing it takes longer than
importing the whole package. Public JWKs and thumbprints are made here, because importing joserfc would take as long again.
"""

from __future__ import annotations

import json
from binascii import b2a_base64
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn

from .._base.crash_reports import without_locals
from .._base.records import Record
from ..errors import InvalidKey, quoted

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurve, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

MAX_KEY_SIZE = 1 << 20
"""Size of the largest key file or text that is read, in bytes. A JWKS of 50 keys, Okta's limit, has a fifth of that."""

MIN_RSA_BITS = 2048
"""Size of the smallest RSA modulus that Okta accepts in a public key."""

MAX_RSA_BITS = 16384
"""Size of the largest RSA modulus that OpenSSL supports."""

ACCEPTED_ALGS = "Okta accepts RS256, RS384, RS512, ES256, ES384 and ES512"
MAKE_A_KEY = "Create a key with PrivateKey.generate(), or with: openssl genrsa -out key.pem 2048"


class Curve(Record):
    """An elliptic curve: its name in a JWK, its name in ``cryptography``, its digest, and a coordinate's length in octets."""

    crv: str
    name: str
    digest: str
    octets: int

    def native(self) -> EllipticCurve:
        """The curve's object in ``cryptography``."""
        from cryptography.hazmat.primitives.asymmetric import ec

        native: EllipticCurve = getattr(ec, self.name.upper())()
        return native


CURVES = {
    "ES256": Curve("P-256", "secp256r1", "SHA256", 32),
    "ES384": Curve("P-384", "secp384r1", "SHA384", 48),
    "ES512": Curve("P-521", "secp521r1", "SHA512", 66),
}
_RSA_DIGESTS = {"RS256": "SHA256", "RS384": "SHA384", "RS512": "SHA512"}


class KeyVersion(Record, hidden=("native", "sign")):
    """One key and everything that is known about it. If its file changes, it is replaced as a whole."""

    native: PrivateKeyTypes
    alg: str
    kid: str | None
    public_jwk: Mapping[str, str]
    thumbprint: str
    sign: Callable[[bytes], bytes]


def make_version(native: PrivateKeyTypes, kid: str | None, alg: str | None) -> KeyVersion:
    """Checks a key's type, size and curve, and that ``alg`` fits it. Without ``alg``, it uses the default for the
    key."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    if kid is not None and not isinstance(kid, str):
        raise InvalidKey(
            f"The kid is of type {type(kid).__name__}, not a string.", remedy="Write it as Okta shows it, in quotes."
        )
    if isinstance(native, RSAPrivateKey):
        if native.key_size < MIN_RSA_BITS:
            refuse_size(native.key_size)
        alg = _choose_alg(alg, list(_RSA_DIGESTS), "an RSA key")
        sign = _rsa_signing(native, _RSA_DIGESTS[alg])
        rsa = native.public_key().public_numbers()
        members = {"kty": "RSA", "n": _base64url_uint(rsa.n), "e": _base64url_uint(rsa.e)}
    elif isinstance(native, EllipticCurvePrivateKey):
        only = next((name for name, curve in CURVES.items() if curve.name == native.curve.name), None)
        if only is None:
            refuse_curve(native.curve.name)
        curve = CURVES[only]
        alg = _choose_alg(alg, [only], f"an EC key on {curve.crv}")
        sign = _ec_signing(native, curve)
        point = native.public_key().public_numbers()
        x, y = (base64url(coordinate.to_bytes(curve.octets, "big")) for coordinate in (point.x, point.y))
        members = {"kty": "EC", "crv": curve.crv, "x": x, "y": y}
    elif isinstance(native, str | bytes) or hasattr(native, "__fspath__"):
        raise InvalidKey(
            f"PrivateKey(...) takes a private key of cryptography, not an object of type {type(native).__name__}.",
            remedy='Use PrivateKey.from_file("key.pem"), PrivateKey.from_pem(text) or PrivateKey.from_jwk(jwk).',
        )
    else:
        raise InvalidKey(
            f"A key of type {type(native).__name__} cannot sign for Okta. {ACCEPTED_ALGS}.", remedy=MAKE_A_KEY
        )
    return KeyVersion(native, alg, kid or None, MappingProxyType(members), thumbprint(members), sign)


def generate_native(alg: str, bits: int) -> PrivateKeyTypes:
    """A new key for ``alg``; ``bits`` is the size of an RSA modulus."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if alg in CURVES:
        return ec.generate_private_key(CURVES[alg].native())
    _choose_alg(alg, [*_RSA_DIGESTS, *CURVES], "a new key")
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        raise InvalidKey(
            f"RSA keys have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, not {bits}.", remedy="Use the default, 2048."
        )
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def thumbprint(public_jwk: Mapping[str, str]) -> str:
    """The RFC 7638 SHA-256 thumbprint of a public RSA or EC key, base64url.

    - ``public_jwk``: the key. Members that are not part of the key itself, such as ``kid``, do not count.
    """
    members = ("e", "kty", "n") if public_jwk["kty"] == "RSA" else ("crv", "kty", "x", "y")
    canonical = json.dumps({member: public_jwk[member] for member in members}, separators=(",", ":"))
    return base64url(sha256(canonical.encode()).digest())


def base64url(octets: bytes) -> str:
    """base64url without padding (RFC 7515 section 2). The module ``base64`` uses a translation table, which takes longer than two
    replacements."""
    return b2a_base64(octets, newline=False).replace(b"+", b"-").replace(b"/", b"_").rstrip(b"=").decode()


def _base64url_uint(number: int) -> str:
    """A number in as few octets as possible (RFC 7518 section 2)."""
    return base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))


@without_locals
def hkdf(secret: bytes, info: bytes, length: int) -> bytes:
    """``length`` bytes that are derived from a secret for one purpose, ``info`` (HKDF-SHA256, RFC 5869)."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), length, salt=None, info=info).derive(secret)


def derivation_secret(native: PrivateKeyTypes) -> bytes:
    """The private part, in a form that does not depend on how the key was encoded."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    if isinstance(native, EllipticCurvePrivateKey):
        curve = next(curve for curve in CURVES.values() if curve.name == native.curve.name)
        return curve.crv.encode() + b"\0" + native.private_numbers().private_value.to_bytes(curve.octets, "big")
    assert isinstance(native, RSAPrivateKey)  # noqa: S101 (make_version accepts no other type)
    # The primes rather than d, which has two usual values (RFC 8017 section 3.2); sorted, because their order is arbitrary.
    numbers = native.private_numbers()
    octets = (native.key_size + 7) // 8
    return b"RSA\0" + b"".join(prime.to_bytes(octets, "big") for prime in sorted((numbers.p, numbers.q)))


def refuse_size(bits: int) -> NoReturn:
    """Raises :class:`~okta_m2m.errors.InvalidKey` for an RSA key that is too short."""
    raise InvalidKey(f"The RSA key has {bits} bits, but Okta requires at least {MIN_RSA_BITS}.", remedy=MAKE_A_KEY)


def refuse_curve(name: str) -> NoReturn:
    """Raises :class:`~okta_m2m.errors.InvalidKey` for a curve that Okta does not accept."""
    raise InvalidKey(
        f"The EC curve is {quoted(name, 40)!r}, but Okta accepts only P-256, P-384 and P-521.",
        remedy=(
            "Create a key with PrivateKey.generate(), or with: openssl ecparam -name prime256v1 -genkey -noout "
            "-out key.pem"
        ),
    )


def _choose_alg(alg: object, fitting: list[str], key: str) -> str:
    if alg is None or alg == "":
        return fitting[0]
    if isinstance(alg, str) and alg in fitting:
        return alg
    remedy = f'Use alg="{fitting[0]}", or omit it.' if len(fitting) == 1 else f"Use one of {', '.join(fitting)}."
    if not isinstance(alg, str):
        raise InvalidKey(f"The alg is of type {type(alg).__name__}, not a string.", remedy=remedy)
    if alg in _RSA_DIGESTS or alg in CURVES:
        raise InvalidKey(f"{alg} does not fit {key}.", remedy=remedy)
    raise InvalidKey(f"The alg {quoted(alg, 40)!r} is not supported for {key}.", remedy=remedy)


def _rsa_signing(native: RSAPrivateKey, digest: str) -> Callable[[bytes], bytes]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    padding, algorithm = PKCS1v15(), getattr(hashes, digest)()
    return lambda message: native.sign(message, padding, algorithm)


@cache
def _ecdsa(digest: str) -> ECDSA:
    """ECDSA with this digest. The constructor of ``cryptography`` imports what only deterministic signatures need. Without
    that import, a program's start takes 3 ms less CPU time to its first answer (``benchmarks/first_call.py``).
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    of_digest: HashAlgorithm = getattr(hashes, digest)()

    class Randomized(ECDSA):
        def __init__(self) -> None:
            """Imports nothing."""

        @property
        def algorithm(self) -> HashAlgorithm:
            return of_digest

        @property
        def deterministic_signing(self) -> bool:
            return False

    return Randomized()


def _ec_signing(native: EllipticCurvePrivateKey, curve: Curve) -> Callable[[bytes], bytes]:
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    octets, algorithm = curve.octets, _ecdsa(curve.digest)

    def sign(message: bytes) -> bytes:
        r, s = decode_dss_signature(native.sign(message, algorithm))
        return r.to_bytes(octets, "big") + s.to_bytes(octets, "big")

    return sign
