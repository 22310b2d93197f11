"""Keys in every form that the tests of keys read, and the look for what is private in what a key shows."""

from __future__ import annotations

import json
import traceback
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc import jws
from joserfc.errors import BadSignatureError
from joserfc.jwk import ECKey, RSAKey

from okta_m2m.errors import InvalidKey
from okta_m2m.keys import PrivateKey

PASSWORD = "pass-Wort-ß-1234"  # made up for these tests
ALGS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
CURVES: dict[str, type[ec.EllipticCurve]] = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}

Native = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def _made(kind: int | type[ec.EllipticCurve], which: int) -> Any:
    """Each key is generated once per run."""
    return rsa.generate_private_key(65537, kind) if isinstance(kind, int) else ec.generate_private_key(kind())


def rsa_key(bits: int = 2048, which: int = 0) -> rsa.RSAPrivateKey:
    key: rsa.RSAPrivateKey = _made(bits, which)
    return key


def ec_key(curve: type[ec.EllipticCurve] = ec.SECP256R1, which: int = 0) -> ec.EllipticCurvePrivateKey:
    key: ec.EllipticCurvePrivateKey = _made(curve, which)
    return key


def native(alg: str) -> Native:
    return rsa_key() if alg.startswith("RS") else ec_key(CURVES[alg])


def pem(
    key: Any, form: PrivateFormat = PrivateFormat.PKCS8, encryption: KeySerializationEncryption | None = None
) -> str:
    return str(key.private_bytes(Encoding.PEM, form, encryption or NoEncryption()).decode())


def encrypted(key: Any, form: PrivateFormat = PrivateFormat.PKCS8) -> str:
    return pem(key, form, BestAvailableEncryption(PASSWORD.encode()))


def public_pem(key: Native) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def jwk(key: Native, **members: Any) -> dict[str, Any]:
    made = RSAKey.import_key(key) if isinstance(key, rsa.RSAPrivateKey) else ECKey.import_key(key)
    return {**made.as_dict(private=True), **members}


def public_jwk(key: Native, **members: Any) -> dict[str, Any]:
    made = RSAKey.import_key(key) if isinstance(key, rsa.RSAPrivateKey) else ECKey.import_key(key)
    return {**made.as_dict(private=False), **members}


def b64(number: int, octets: int | None = None) -> str:
    return urlsafe_b64encode(number.to_bytes(octets or (number.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()


def same(key: PrivateKey, other: Native) -> bool:
    """Whether it is that key: told by a signature that the other's public half verifies, through joserfc."""
    return verified(key, public_jwk(other))


def verified(key: PrivateKey, public: dict[str, Any]) -> bool:
    signing_input = b64url({"alg": key.alg}) + b"." + b64url({"iss": "me"})
    token = signing_input + b"." + urlsafe_b64encode(key.sign(signing_input)).rstrip(b"=")
    imported = RSAKey.import_key(public) if public["kty"] == "RSA" else ECKey.import_key(public)
    try:
        jws.deserialize_compact(token, imported, algorithms=[key.alg])
    except BadSignatureError:
        return False
    return True


def b64url(document: dict[str, Any]) -> bytes:
    return urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=")


def private_parts() -> Iterator[str]:
    """Everything that must not show: private numbers as decimals, base64, base64url, and lines of PEM; the password."""
    yield PASSWORD
    keys: list[Native] = [rsa_key(), rsa_key(which=1), *(ec_key(curve, n) for curve in CURVES.values() for n in (0, 1))]
    for key in keys:
        private = jwk(key)
        yield from (private[name] for name in ("d", "p", "q", "dp", "dq", "qi") if name in private)
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            # The first line of an EC key is nothing but object identifiers.
            yield from (line for line in pem(key, form).splitlines()[1:-1] if len(line) > 20)
        numbers = key.private_numbers()
        yield str(numbers.d if isinstance(numbers, rsa.RSAPrivateNumbers) else numbers.private_value)


def assert_nothing_private(*texts: str) -> None:
    parts = list(private_parts())
    for text in texts:
        assert not [part for part in parts if part in text]


def refusal(make: Callable[..., object], *args: Any, **options: Any) -> str:
    """The message of the InvalidKey that this raises, after a look at everything that hangs on it."""
    with pytest.raises(InvalidKey) as caught:
        make(*args, **options)
    error: BaseException | None = caught.value
    message = str(caught.value)
    assert len(message) < 600
    assert ". " in message, "a message says what is wrong, and then what to do"
    assert_nothing_private("".join(traceback.format_exception(caught.value)))
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        attributes = [getattr(error, name, None) for name in ("doc", "object", "filename", "args", "__notes__")]
        assert_nothing_private(str(error), repr(error), repr(attributes), repr(vars(error)))
        error = error.__cause__ or error.__context__
    return message


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    assert len(content) < 0x80
    return bytes([tag, len(content)]) + content


def der_number(number: int) -> bytes:
    return der(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))
