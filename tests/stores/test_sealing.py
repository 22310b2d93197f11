"""Sealing: only who has the fleet's secret opens what rests in a store, and only under the key it was sealed for."""

from __future__ import annotations

import copy
import json
import logging
import math
import pickle
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwe
from joserfc.jwk import ECKey, OctKey, RSAKey

from okta_m2m import ConfigurationError, PrivateKey, ServiceApp
from okta_m2m.stores.sealing import MAX_SEALED_SIZE, Seal, sealing_secret

OLD, NEW, OTHER = (bytes([first, *range(31)]) for first in b"onx")
TOKEN = b'{"access_token": "not-a-real-token"}'


@cache
def native(alg: str) -> Any:
    if alg == "RS256":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key({"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[alg])


def pem(key: Any, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    text: bytes = key.private_bytes(Encoding.PEM, form, NoEncryption())
    return text


def jwk(key: Any) -> dict[str, Any]:
    kind = RSAKey if isinstance(key, rsa.RSAPrivateKey) else ECKey
    return dict(kind.import_key(pem(key)).as_dict(private=True))


def hkdf(secret: bytes, info: bytes, length: int = 32) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=info).derive(secret)


def key_of(secret: bytes, cache_key: str) -> bytes:
    """The AES key as the documentation says it is made."""
    return hkdf(secret, b"okta-m2m/seal/1\0" + cache_key.encode())


def decoded(segment: bytes) -> bytes:
    return urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))


def encoded(content: bytes) -> bytes:
    return urlsafe_b64encode(content).rstrip(b"=")


def sealed_by_hand(secret: bytes, cache_key: str, header: dict[str, Any], plaintext: bytes) -> bytes:
    """A JWE that is sound in all but what its header says."""
    head, nonce = encoded(json.dumps(header).encode()), b"\7" * 12
    ciphertext = AESGCM(key_of(secret, cache_key)).encrypt(nonce, plaintext, head)
    return b".".join([head, b"", encoded(nonce), encoded(ciphertext[:-16]), encoded(ciphertext[-16:])])


# ── sealing and opening ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("plaintext", [TOKEN, b"", b"\0", bytes(range(256)), b"x" * 40_000], ids=len)
def test_a_sealed_value_opens(plaintext: bytes) -> None:
    assert Seal([NEW]).open("key", Seal([NEW]).seal("key", plaintext)) == plaintext


def test_a_sealed_value_shows_no_plaintext_and_is_different_each_time() -> None:
    seal = Seal([NEW])
    one, two = seal.seal("key", TOKEN), seal.seal("key", TOKEN)
    assert one != two
    assert TOKEN not in one
    assert not any(b"not-a-real-token" in decoded(segment) for segment in one.split(b"."))


def test_a_seal_is_a_compact_jwe_that_others_can_open() -> None:
    sealed = Seal([NEW]).seal("the key", TOKEN)
    header, encrypted_key, nonce, ciphertext, tag = sealed.split(b".")
    assert json.loads(decoded(header)) == {"alg": "dir", "enc": "A256GCM"}
    assert encrypted_key == b""
    aes = key_of(NEW, "the key")
    assert AESGCM(aes).decrypt(decoded(nonce), decoded(ciphertext) + decoded(tag), header) == TOKEN
    assert jwe.decrypt_compact(sealed, OctKey.import_key(aes)).plaintext == TOKEN


def test_a_jwe_of_another_library_with_the_same_key_opens() -> None:
    header = {"alg": "dir", "enc": "A256GCM"}
    theirs = jwe.encrypt_compact(header, TOKEN, OctKey.import_key(key_of(NEW, "key")))
    assert Seal([NEW]).open("key", theirs.encode()) == TOKEN
    assert Seal([NEW]).open("key", sealed_by_hand(NEW, "key", header, TOKEN)) == TOKEN


def test_a_value_copied_to_another_key_does_not_open() -> None:
    seal = Seal([NEW])
    sealed = seal.seal("okta.users.read", TOKEN)
    assert seal.open("okta.users.manage", sealed) is None
    assert seal.open("", sealed) is None


@pytest.mark.parametrize("cache_key", ["", "ä\N{GRINNING FACE}\0\n", "\ud800", "k" * 10_000])
def test_any_text_is_a_cache_key(cache_key: str) -> None:
    seal = Seal([NEW])
    assert seal.open(cache_key, seal.seal(cache_key, TOKEN)) == TOKEN


def test_another_secret_does_not_open() -> None:
    assert Seal([OTHER]).open("key", Seal([NEW]).seal("key", TOKEN)) is None


def test_the_first_secret_seals_and_all_open() -> None:
    both = Seal([NEW, OLD])
    assert both.open("key", Seal([OLD]).seal("key", TOKEN)) == TOKEN
    assert Seal([NEW]).open("key", both.seal("key", TOKEN)) == TOKEN
    assert Seal([OLD]).open("key", both.seal("key", TOKEN)) is None


def test_every_flipped_bit_and_every_cut_is_a_miss() -> None:
    seal = Seal([NEW])
    sealed = seal.seal("key", b"short")
    for position in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[position] ^= 0x10
        assert seal.open("key", bytes(damaged)) is None, position
        assert seal.open("key", sealed[:position]) is None, position
    head, _, nonce, ciphertext, tag = sealed.split(b".")
    for place, segment in enumerate((head, nonce, ciphertext, tag)):
        for bit in range(8):
            content = bytearray(decoded(segment))
            content[0] ^= 1 << bit
            parts = [head, b"", nonce, ciphertext, tag]
            parts[place if place == 0 else place + 1] = encoded(bytes(content))
            assert seal.open("key", b".".join(parts)) is None


GARBAGE: dict[str, Callable[[], bytes | None]] = {
    "nothing": lambda: None,
    "empty": lambda: b"",
    "text": lambda: b"OK",
    "binary": lambda: bytes(range(256)),
    "only dots": lambda: b"....",
    "many dots": lambda: b"." * 60_000,
    "no JSON in the header": lambda: b"e30x.a.b.c.d",
    "a header that is a list": lambda: encoded(b"[]") + b"..AAAA.AAAA.AAAA",
    "a header without alg": lambda: encoded(b"{}") + b"..AAAA.AAAA.AAAA",
    "an alg that is a list": lambda: encoded(b'{"alg": ["dir"], "enc": {}}') + b"..AAAA.AAAA.AAAA",
    "a header that is deep": lambda: encoded(b"[" * 30_000) + b"..AAAA.AAAA.AAAA",
    "the token in clear": lambda: TOKEN,
    "a nonce of another length": lambda: sealed_by_hand(NEW, "key", {"alg": "dir", "enc": "A256GCM"}, TOKEN).replace(
        encoded(b"\7" * 12), encoded(b"\7" * 16)
    ),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_a_miss_and_no_error(name: str) -> None:
    assert Seal([NEW, OLD]).open("key", GARBAGE[name]()) is None


def test_a_huge_value_is_not_decrypted() -> None:
    seal = Seal([NEW])
    largest = seal.seal("key", b"x" * 49_091)
    assert len(largest) == MAX_SEALED_SIZE
    assert seal.open("key", largest) is not None
    for length in (49_092, MAX_SEALED_SIZE):
        huge = seal.seal("key", b"x" * length)
        assert len(huge) > MAX_SEALED_SIZE
        assert seal.open("key", huge) is None
    assert seal.open("key", b"a" * 100_000_000) is None


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "enc": "A256GCM"},
        {"alg": "dir", "enc": "none"},
        {"alg": "A256KW", "enc": "A256GCM"},
        {"alg": "RSA-OAEP", "enc": "A256GCM"},
        {"alg": "PBES2-HS256+A128KW", "enc": "A256GCM", "p2s": "c2FsdHNhbHQ", "p2c": 2**31},
        {"alg": "dir", "enc": "A128CBC-HS256"},
        {"alg": "dir", "enc": "A256GCM", "crit": ["exp"], "exp": 1},
    ],
    ids=json.dumps,
)
def test_another_algorithm_does_not_open_even_with_the_right_key(header: dict[str, Any]) -> None:
    assert Seal([NEW]).open("key", sealed_by_hand(NEW, "key", header, TOKEN)) is None


def test_a_zip_bomb_is_not_unpacked() -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(bytes(20_000_000)) + deflate.flush()
    bomb = sealed_by_hand(NEW, "key", {"alg": "dir", "enc": "A256GCM", "zip": "DEF"}, packed)
    assert len(bomb) < MAX_SEALED_SIZE
    assert Seal([NEW]).open("key", bomb) is None
    packed = zlib.compress(TOKEN, wbits=-15)
    harmless = sealed_by_hand(NEW, "key", {"alg": "dir", "enc": "A256GCM", "zip": "DEF"}, packed)
    assert Seal([NEW]).open("key", harmless) is None


def test_a_jwe_for_an_rsa_key_is_a_miss() -> None:
    key = RSAKey.import_key(pem(native("RS256")))
    theirs = jwe.encrypt_compact({"alg": "RSA-OAEP", "enc": "A256GCM"}, TOKEN, key)
    assert Seal([NEW]).open("key", theirs.encode()) is None


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("secrets", "says"),
    [
        ([], "seal_with="),
        ([b""], "has 0 bytes"),
        ([NEW, b"k" * 31], "has 31 bytes"),
        ([bytes(32)], "consists of equal bytes"),
        (["k" * 32], "type str"),
        ([None], "type NoneType"),
        (NEW, "brackets"),
        ("k" * 32, "brackets"),
    ],
)
def test_a_missing_or_short_secret_is_refused_with_the_remedy(secrets: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as refused:
        Seal(secrets)
    assert "kkkk" not in str(refused.value)


@pytest.mark.parametrize("size", [32, 33, 64])
def test_a_secret_of_at_least_32_bytes_seals_and_opens(size: int) -> None:
    seal = Seal([bytes(range(size))])
    assert seal.open("key", seal.seal("key", b"value")) == b"value"


def test_the_fingerprint_names_the_first_secret_and_nothing_else() -> None:
    assert Seal([NEW]).fingerprint == Seal([NEW, OLD]).fingerprint
    assert Seal([NEW]).fingerprint != Seal([OLD, NEW]).fingerprint
    assert Seal([NEW]).fingerprint == hkdf(NEW, b"okta-m2m/seal-fingerprint/1", 8).hex()
    assert not key_of(NEW, "").hex().startswith(Seal([NEW]).fingerprint)


def test_a_seal_shows_no_secret_and_cannot_be_pickled_or_copied() -> None:
    seal = Seal([NEW])
    assert repr(seal) == f"Seal(fingerprint='{seal.fingerprint}')"
    for way in (pickle.dumps, copy.deepcopy, copy.copy):
        with pytest.raises(TypeError, match="in each process"):
            way(seal)


# ── the secret that a private key brings ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("alg", ["RS256", "ES256", "ES384", "ES512"])
def test_every_format_of_one_key_gives_the_same_secret(alg: str, tmp_path: Path) -> None:
    key = native(alg)
    members = jwk(key)
    (tmp_path / "key.pem").write_bytes(pem(key))
    forms = [
        PrivateKey(key, kid="another kid"),
        PrivateKey.from_pem(pem(key)),
        PrivateKey.from_pem(pem(key, PrivateFormat.TraditionalOpenSSL)),
        PrivateKey.from_jwk(members),
        PrivateKey.from_file(tmp_path / "key.pem"),
        PrivateKey.from_file(tmp_path / "key.pem").with_kid("k"),
    ]
    if alg == "RS256":
        forms += [
            PrivateKey.from_jwk({name: members[name] for name in ("kty", "n", "e", "d")}),
            PrivateKey.from_jwk({**members, "p": members["q"], "q": members["p"]}),
            PrivateKey.from_jwk(members, alg="RS512"),
            *(PrivateKey.from_jwk({**members, "d": d}) for d in both_d(key)),
        ]
    secrets = {sealing_secret(form) for form in forms}
    assert len(secrets) == 1
    (secret,) = secrets
    assert secret is not None
    assert Seal([secret]).open("key", Seal([secret]).seal("key", TOKEN)) == TOKEN


def both_d(key: rsa.RSAPrivateKey) -> list[str]:
    """The two private exponents that programs use: modulo lcm(p-1, q-1), and modulo (p-1)(q-1)."""
    numbers = key.private_numbers()
    p, q = numbers.p - 1, numbers.q - 1
    both = [pow(numbers.public_numbers.e, -1, modulus) for modulus in (math.lcm(p, q), p * q)]
    return [encoded(d.to_bytes(256, "big")).decode() for d in both]


def test_the_secret_of_a_key_is_the_same_in_every_version_of_the_package() -> None:
    """During an upgrade, old and new processes share a store."""
    key = PrivateKey.generate("ES256")
    assert sealing_secret(key) == key.derive(b"okta-m2m/sealing-secret/1", 32)


def test_each_key_gives_a_different_secret() -> None:
    keys = [native(alg) for alg in ("RS256", "ES256", "ES384", "ES512")] + [ec.generate_private_key(ec.SECP256R1())]
    assert len({sealing_secret(PrivateKey(key)) for key in keys}) == len(keys)


def test_a_scalar_with_leading_zeros_gives_the_same_secret_in_every_format() -> None:
    small = ec.derive_private_key(5, ec.SECP521R1())
    forms = [PrivateKey(small), PrivateKey.from_jwk(jwk(small)), PrivateKey.from_pem(pem(small))]
    assert len({sealing_secret(form) for form in forms}) == 1
    # One number on two curves is two keys.
    assert sealing_secret(PrivateKey(ec.derive_private_key(5, ec.SECP256R1()))) != sealing_secret(forms[0])


def test_a_key_that_cannot_be_read_gives_no_secret() -> None:
    class InAnHsm:
        alg = "ES256"
        kid = None
        public_jwk = PrivateKey.generate().public_jwk

        def sign(self, message: bytes, /) -> bytes:
            raise NotImplementedError

    assert sealing_secret(InAnHsm()) is None


def test_a_derived_secret_depends_on_its_purpose_and_has_the_length_asked_for() -> None:
    key = PrivateKey(native("ES256"))
    assert key.derive(b"one", 32) == key.derive(b"one", 32)
    assert key.derive(b"one", 32) != key.derive(b"two", 32)
    assert len(key.derive(b"one", 64)) == 64
    scalar = native("ES256").private_numbers().private_value.to_bytes(32, "big")
    assert key.derive(b"one", 32) == hkdf(b"P-256\0" + scalar, b"one")
    assert scalar not in key.derive(b"one", 64)


def test_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = sealing_secret(PrivateKey(native("ES256")))
    assert secret is not None
    seal = Seal([secret])
    seal.open("key", seal.seal("key", TOKEN))
    seal.open("key", b"garbage")
    assert caplog.records == []


# ── what a service app is given for a store ──────────────────────────────────────────────────────────────────────────


class Nothing:
    """A store that holds nothing."""

    def load(self, key: str) -> bytes | None:
        return None

    def claim(self, key: str, owner: str, ttl: float) -> bool:
        return True

    def save(self, key: str, value: bytes, ttl: float, owner: str) -> bool:
        return True

    def release(self, key: str, owner: str) -> None:
        pass


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ({"store": "redis://:s3cret-pw@localhost:6379/0"}, "store_from_url"),
        ({"store": object()}, "RedisStore"),
        ({"store": Nothing}, "RedisStore"),
        ({"store": Nothing(), "seal_with": bytes(32)}, "brackets"),
        ({"store": Nothing(), "seal_with": "x" * 32}, "brackets"),
        *[
            ({"store": Nothing(), "store_timeout": wrong}, "Use a number of seconds")
            for wrong in (0, -1, "1", None, True, 61)
        ],
    ],
)
def test_an_object_that_is_not_a_store_is_refused_at_once(arguments: dict[str, Any], remedy: str) -> None:
    key = PrivateKey.generate("ES256")
    with pytest.raises(ConfigurationError) as raised:
        ServiceApp("https://acme.okta.com", client_id="0oa1", key=key, scopes=["okta.users.read"], **arguments)
    assert remedy in str(raised.value)
    assert "s3cret" not in str(raised.value)
