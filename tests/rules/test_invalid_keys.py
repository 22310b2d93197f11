"""What Okta would not accept as a key is refused at once, with the remedy, and nothing private is in the message."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from key_material import (
    PASSWORD,
    Native,
    b64,
    der,
    der_number,
    ec_key,
    encrypted,
    jwk,
    pem,
    public_jwk,
    public_pem,
    refusal,
    rsa_key,
    same,
)
from okta_m2m.keys import PrivateKey
from okta_m2m.keys._key_algorithms import MAX_KEY_SIZE


@pytest.mark.parametrize(
    ("alg", "key", "remedy"),
    [
        ("PS256", rsa_key, "Use one of RS256"),
        ("EdDSA", ec_key, 'Use alg="ES256"'),
        ("HS256", rsa_key, "Use one of RS256"),
        ("none", rsa_key, "Use one of RS256"),
        ("rs256", rsa_key, "Use one of RS256"),
        ("ES256", rsa_key, "ES256 does not fit an RSA key. Use one of RS256"),
        ("RS256", ec_key, 'RS256 does not fit an EC key on P-256. Use alg="ES256"'),
        ("ES384", ec_key, 'ES384 does not fit an EC key on P-256. Use alg="ES256"'),
        (256, ec_key, "not a string"),
    ],
)
def test_an_alg_that_okta_or_the_key_does_not_take_is_refused(alg: Any, key: Callable[[], Native], remedy: str) -> None:
    assert remedy in refusal(PrivateKey.from_pem, pem(key()), alg=alg)
    assert remedy in refusal(PrivateKey.from_jwk, jwk(key()), alg=alg)
    if isinstance(alg, str):
        assert remedy in refusal(PrivateKey.from_jwk, jwk(key(), alg=alg))


@pytest.mark.parametrize("alg", ["PS256", "EdDSA", "HS256", "RS1", "secret"])
def test_generate_refuses_other_algorithms(alg: str) -> None:
    message = refusal(PrivateKey.generate, alg)
    assert message.endswith(" is not supported for a new key. Use one of RS256, RS384, RS512, ES256, ES384, ES512.")


def jwk_without_primes(n: int, d: int, e: int = 65537) -> dict[str, str]:
    return {"kty": "RSA", "n": b64(n), "e": b64(e), "d": b64(d)}


def test_numbers_that_do_not_match_are_refused_with_and_without_primes() -> None:
    whole = rsa.generate_private_key(65537, 2048).private_numbers()
    n, d = whole.public_numbers.n, whole.d
    for bad in (
        jwk_without_primes(n, d + 2),
        {**jwk_without_primes(n, d), "p": b64((1 << 16_000) + 1), "q": b64((1 << 16_000) + 3)},
    ):
        assert "do not match" in refusal(PrivateKey.from_jwk, bad)


def test_a_jwks_of_half_a_megabyte_is_read_at_once() -> None:
    text = '{"keys":[' + '{"kid":"k"},' * 20_000 + '{"d":1},' * 30_000 + '{"kid":"k"}]}'
    began = time.process_time()
    assert "20001 keys with the kid 'k'" in refusal(PrivateKey.from_jwk, text, kid="k")
    assert len(refusal(PrivateKey.from_jwk, text, kid="other")) < 1000
    assert time.process_time() - began < 5


PBES2 = der(0x06, bytes.fromhex("2a864886f70d01050d"))
PBKDF2 = der(0x06, bytes.fromhex("2a864886f70d01050c"))
SCRYPT = der(0x06, bytes.fromhex("2b06010401da47040b"))
AES_256 = der(0x30, der(0x06, bytes.fromhex("60864801650304012a")), der(0x04, bytes(16)))
PKCS_12 = der(0x06, bytes.fromhex("2a864886f70d010c0103"))
SALT = der(0x04, b"salt-for")


def pem_with_cost(kind: str, *numbers: int) -> str:
    """An encrypted key whose text names the cost of its passphrase. What is encrypted is nothing."""
    cost = der(0x30, SALT, *map(der_number, numbers))
    if kind == "PKCS #12":
        algorithm = der(0x30, PKCS_12, cost)
    else:
        algorithm = der(0x30, PBES2, der(0x30, der(0x30, PBKDF2 if kind == "PBKDF2" else SCRYPT, cost), AES_256))
    body = b64encode(der(0x30, algorithm, der(0x04, bytes(16)))).decode()
    return f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{body}\n-----END ENCRYPTED PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("kind", "numbers", "said"),
    [
        ("PBKDF2", (10_000,), "cannot be decrypted"),
        ("PBKDF2", (10_000, 1 << 70), "too much work"),
        ("PBKDF2", (0,), "cannot be decrypted"),
        ("PBKDF2", (3_000_000,), "too much work"),
        ("PBKDF2", ((1 << 31) - 1,), "too much work"),
        ("PBKDF2", (1 << 40,), "too much work"),  # cryptography panics, with a BaseException
        ("PKCS #12", (10_000,), "cannot be decrypted"),
        ("PKCS #12", (1 << 40,), "too much work"),
        ("scrypt", (1 << 14, 8, 1), "cannot be decrypted"),
        ("scrypt", (1 << 14, 8, 1, 32), "cannot be decrypted"),
        ("scrypt", (1 << 20, 8, 1), "too much work"),
        ("scrypt", (2, 8, 1 << 20), "too much work"),
        ("scrypt", (3, 8, 1), "cannot be decrypted"),  # N is no power of two: an InternalError of cryptography
    ],
)
def test_a_passphrase_that_would_take_long_to_check_is_refused_at_once(
    kind: str, numbers: tuple[int, ...], said: str
) -> None:
    began = time.process_time()
    assert said in refusal(PrivateKey.from_pem, pem_with_cost(kind, *numbers), password=PASSWORD)
    assert time.process_time() - began < 5


@pytest.mark.parametrize("body", ["", "MA", "MIIB", "MIGA", "====", "é", "MIT/////"])
def test_invalid_der_is_a_damaged_key(body: str) -> None:
    text = f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{body}\n-----END ENCRYPTED PRIVATE KEY-----\n"
    assert "cannot be decrypted" in refusal(PrivateKey.from_pem, text, password=PASSWORD)


def test_a_key_file_whose_passphrase_check_takes_too_long_keeps_the_last_good_key(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text(encrypted(ec_key()))
    key = PrivateKey.from_file(path, password=PASSWORD)
    path.write_text(pem_with_cost("PBKDF2", 1 << 40))
    for _ in range(3):
        assert same(key.snapshot(), ec_key())
    assert "takes too much work" in str(key.trouble)


def test_a_text_of_backslashes_is_refused_at_once() -> None:
    began = time.process_time()
    assert "truncated" in refusal(PrivateKey.from_pem, "-----BEGIN PRIVATE KEY-----" + "\\" * 1_000_000)
    assert time.process_time() - began < 5


def test_a_short_rsa_key_is_refused() -> None:
    short = rsa_key(1024)
    # joserfc itself warns of such a key, so its JWK is made by hand.
    numbers = short.private_numbers()
    document = {"kty": "RSA", "n": b64(numbers.public_numbers.n), "e": "AQAB", "d": b64(numbers.d)}
    for make, given in ((PrivateKey.from_pem, pem(short)), (PrivateKey.from_jwk, document), (PrivateKey, short)):
        assert "1024 bits, but Okta requires at least 2048. Create a key with" in refusal(make, given)
    assert "2048 to 16384" in refusal(PrivateKey.generate, "RS256", bits=1024)


@pytest.mark.parametrize("curve", [ec.SECP256K1, ec.BrainpoolP256R1])
def test_other_curves_are_refused(curve: type[ec.EllipticCurve]) -> None:
    assert "P-256, P-384 and P-521. Create a key" in refusal(PrivateKey.from_pem, pem(ec_key(curve)))
    assert "P-256, P-384 and P-521. Create a key" in refusal(PrivateKey.from_jwk, {**jwk(ec_key()), "crv": curve.name})


def test_other_kinds_of_key_are_refused() -> None:
    ed = ed25519.Ed25519PrivateKey.generate()
    assert "Okta accepts RS256" in refusal(PrivateKey.from_pem, pem(ed))
    assert "Okta accepts RS256" in refusal(PrivateKey, ed)
    assert "EdDSA" in refusal(PrivateKey.from_jwk, {"kty": "OKP", "crv": "Ed25519", "x": "AA", "d": "AA"})
    assert "shared secret" in refusal(PrivateKey.from_jwk, {"kty": "oct", "k": "AAAA"})
    assert "PrivateKey.from_file" in refusal(PrivateKey, "not a key")


def test_an_unknown_kind_of_key_is_refused() -> None:
    der = ec_key().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    known, unknown = (
        bytes.fromhex("2a8648ce3d0201"),
        bytes.fromhex("2a8648ce3d0209"),
    )  # id-ecPublicKey, and no such thing
    text = b64encode(der.replace(known, unknown)).decode()
    message = refusal(PrivateKey.from_pem, f"-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    assert "openssl pkcs8 -topk8" in message


def test_dsa_is_refused() -> None:
    numbers = dsa.DSAParameterNumbers(
        p=int(
            "B10B8F96A080E01DDE92DE5EAE5D54EC52C99FBCFB06A3C69A6A9DCA52D23B616073E28675A23D189838EF1E2EE652C013ECB4AEA90611232"
            "4975C3CD49B83BFACCBDD7D90C4BD7098488E9C219A73724EFFD6FAE5644738FAA31A4FF55BCCC0A151AF5F0DC8B4BD45BF37DF365C1A65E6"
            "8CFDA76D4DA708DF1FB2BC2E4A4371",
            16,
        ),
        q=0xF518AA8781A8DF278ABA4E7D64B7CB9D49462353,
        g=int(
            "A4D1CBD5C3FD34126765A442EFB99905F8104DD258AC507FD6406CFF14266D31266FEA1E5C41564B777E690F5504F213160217B4B01B886A5"
            "E91547F9E2749F4D7FBD7D3B9A92EE1909D0D2263F80A76A6A24C087A091F531DBF0A0169B6A28AD662A4D18E73AFA32D779D5918D08BC885"
            "8F4DCEF97C2A24855E6EEB22B3B2E5",
            16,
        ),
    )  # RFC 5114 section 2.1: made parameters, for generating them takes long
    refusal(PrivateKey.from_pem, pem(numbers.parameters().generate_private_key()))


def test_a_public_key_is_refused() -> None:
    for key in (rsa_key(), ec_key()):
        assert "public key" in refusal(PrivateKey.from_pem, public_pem(key))
        assert "public key" in refusal(PrivateKey.from_text, public_pem(key))
        assert "public key" in refusal(PrivateKey.from_jwk, public_jwk(key))
    assert "no private key" in refusal(PrivateKey.from_jwk, {"keys": [public_jwk(ec_key()), public_jwk(rsa_key())]})
    ssh = ec_key().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    assert "public key" in refusal(PrivateKey.from_pem, ssh)


def test_a_certificate_is_refused() -> None:
    text = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    assert "certificate but no private key. Use the private key" in refusal(PrivateKey.from_pem, text)


def test_an_openssh_key_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    text = pem(rsa_key(), PrivateFormat.OpenSSH)
    assert "ssh-keygen -p -m PEM -f" in refusal(PrivateKey.from_pem, text)
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed, so its command cannot be tried")
    path = tmp_path / "copy-of-key"
    path.touch(0o600)
    path.write_text(text)
    subprocess.run(["ssh-keygen", "-p", "-m", "PEM", "-N", "", "-f", str(path)], check=True, capture_output=True)
    assert same(PrivateKey.from_file(path), rsa_key())


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL], ids=["pkcs8", "traditional"])
def test_a_wrong_or_missing_password_is_refused(form: PrivateFormat) -> None:
    text = encrypted(rsa_key(), form)
    for password in (None, "", b""):
        assert "Pass it as password=" in refusal(PrivateKey.from_pem, text, password=password)
    wrong: tuple[Any, ...] = (PASSWORD + "!", b"\xff\x00", "\ud800", "x" * 5000, 7)
    for password in wrong:
        assert "passphrase is wrong" in refusal(PrivateKey.from_pem, text, password=password)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        '""',
        "hello",
        b"\x00\x01\x02",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n\ud800\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: NO-SUCH,00\n\nAAAA\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nAAAA\n-----END PGP PRIVATE KEY BLOCK-----",
        "-----BEGIN A-----" * 50_000,
        "{}",
        None,
        7,
        ["-----BEGIN PRIVATE KEY-----"],
        "A" * (MAX_KEY_SIZE + 1),
    ],
    ids=repr,
)
def test_invalid_pem_is_refused(text: Any) -> None:
    refusal(PrivateKey.from_pem, text, password=PASSWORD)


def test_a_damaged_pem_is_refused_and_not_in_the_message() -> None:
    whole = pem(rsa_key())
    for text in (whole[:800], whole[800:], whole.replace("\n", "\n#", 3), whole.replace("-----BEGIN", "---BEGIN")):
        refusal(PrivateKey.from_pem, text)
        refusal(PrivateKey.from_text, text)
        refusal(PrivateKey.from_env, environ={"OKTA_CLIENT_PRIVATEKEY": text})


def test_two_private_keys_in_one_pem_are_refused() -> None:
    assert "2 private keys" in refusal(PrivateKey.from_pem, pem(rsa_key()) + pem(ec_key()))


def test_der_is_refused_with_the_command_that_converts_it() -> None:
    for key in (rsa_key(), ec_key()):
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        assert "openssl pkey -inform DER" in refusal(PrivateKey.from_pem, der)


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "true",
        "7",
        "[]",
        "[1, 2]",
        "{}",
        '"text"',
        "{",
        "{'kty': 'EC'}",
        '{"kty": null}',
        '{"kty": 7}',
        '{"kty": "RSA"}',
        '{"kty": "RSA", "d": null}',
        '{"kty": "EC", "d": "AA"}',
        '{"kty": "EC", "crv": ["P-256"], "d": "AA"}',
        '{"kty": ["EC"], "d": "AA"}',
        '{"kty": "NEW", "d": "AA"}',
        '{"keys": null}',
        '{"keys": {}}',
        '{"keys": []}',
        '{"keys": [null, 7, "x", []]}',
        '{"keys": [{"keys": []}]}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"kty": ' + "9" * 10_000 + "}",
        "\ud800",
        b"\xff\xfe\x00",
        b"\xff",
        "",
        "-----BEGIN PRIVATE KEY-----",
        None,
        7,
        ["kty"],
        " " * (MAX_KEY_SIZE + 1),
    ],
    ids=lambda text: repr(text)[:40],
)
def test_an_invalid_jwk_is_refused(text: Any, tmp_path: Path) -> None:
    refusal(PrivateKey.from_jwk, text)
    if isinstance(text, bytes):
        (tmp_path / "key.json").write_bytes(text)
        refusal(PrivateKey.from_file, tmp_path / "key.json")
    elif isinstance(text, str):
        refusal(PrivateKey.from_text, text)


@pytest.mark.parametrize("key", [rsa_key, ec_key])
@pytest.mark.parametrize(
    "bad", [7, None, True, [], {}, "", "=", "A", "AA==", "A+/A", "A A", "ä", "A" * 100_000, 1.5, "AA\n"]
)
def test_a_bad_number_in_a_jwk_is_refused_by_name(key: Callable[[], Native], bad: Any) -> None:
    names = ("n", "e", "d", "p", "q") if key is rsa_key else ("x", "y", "d")
    for name in names:
        assert f'"{name}"' in refusal(PrivateKey.from_jwk, {**jwk(key()), name: bad})


def test_padded_jwk_numbers_are_refused_and_the_message_has_the_rule() -> None:
    document = jwk(rsa_key())
    document["n"] += "=" * (-len(document["n"]) % 4)
    assert 'no "="' in refusal(PrivateKey.from_jwk, document)


@pytest.mark.parametrize("key", [rsa_key, ec_key])
def test_numbers_that_do_not_belong_together_are_refused(key: Callable[..., Native]) -> None:
    document, other = jwk(key()), jwk(key(which=1))
    without_primes = {name: value for name, value in document.items() if name not in ("p", "q", "dp", "dq", "qi")}
    for whole in (document, without_primes):
        for name in sorted(set(whole) - {"kty", "e", "crv", "dp", "dq", "qi"}):
            for bad in (other[name], "AA", "AQ", b64(int.from_bytes(urlsafe_b64decode(whole[name] + "==")) ^ 2)):
                mixed = {**whole, name: bad}
                message = refusal(PrivateKey.from_jwk, mixed)
                assert "do not match" in message or (name == "n" and "bits" in message)
    if "e" in document:
        for bad in ("AA", "AQ", "Ag", "Aw", document["n"]):
            refusal(PrivateKey.from_jwk, {**document, "e": bad})


def test_a_pem_whose_public_and_private_halves_differ_is_refused() -> None:
    def point(key: ec.EllipticCurvePrivateKey) -> bytes:
        return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    der = ec_key().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    mixed = b64encode(der.replace(point(ec_key()), point(ec_key(which=1)))).decode()
    text = f"-----BEGIN PRIVATE KEY-----\n{mixed}\n-----END PRIVATE KEY-----\n"
    assert "do not match" in refusal(PrivateKey.from_pem, text)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"use": "enc"}, '"use"'),
        ({"use": 7}, '"use"'),
        ({"key_ops": ["verify"]}, '"key_ops"'),
        ({"key_ops": []}, '"key_ops"'),
        ({"key_ops": "sign"}, '"key_ops"'),
        ({"key_ops": 7}, '"key_ops"'),
        ({"kid": 7}, '"kid"'),
        ({"kid": ["k"]}, '"kid"'),
        ({"alg": 7}, '"alg"'),
        ({"alg": "RSA-OAEP"}, "RSA-OAEP"),
        ({"crv": "P-384"}, "do not match"),
    ],
)
def test_a_jwk_that_is_not_for_signing_is_refused(members: dict[str, Any], said: str) -> None:
    assert said in refusal(PrivateKey.from_jwk, jwk(ec_key(), **members))


def test_a_jwks_with_several_matching_keys_is_refused() -> None:
    two = {"keys": [jwk(ec_key(), kid="a"), jwk(rsa_key(), kid="b"), jwk(rsa_key())]}
    assert "3 private keys: 'a', 'b', one without a kid. Choose one with PrivateKey" in refusal(
        PrivateKey.from_jwk, two
    )
    assert "its private keys: 'a', 'b'" in refusal(PrivateKey.from_jwk, two, kid="c")
    twice = {"keys": [jwk(ec_key(), kid="a"), jwk(rsa_key(), kid="a")]}
    assert "2 keys with the kid 'a'" in refusal(PrivateKey.from_jwk, twice, kid="a")
    assert "public key" in refusal(PrivateKey.from_jwk, {"keys": [public_jwk(ec_key(), kid="a")]}, kid="a")


def test_a_kid_that_is_no_string_is_refused() -> None:
    kid: Any = 7
    assert "kid is of type int" in refusal(PrivateKey.from_pem, pem(ec_key()), kid=kid)


def test_a_file_that_cannot_be_a_key_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(PrivateKey.from_file, tmp_path / "none.pem")
    assert "none.pem" in refusal(PrivateKey.from_file, tmp_path / "none.pem")
    assert "directory" in refusal(PrivateKey.from_file, tmp_path)
    assert "cannot be read" in refusal(PrivateKey.from_file, tmp_path / "nul\0")
    (tmp_path / "empty").touch()
    assert "empty" in refusal(PrivateKey.from_file, tmp_path / "empty")
    mistakes: tuple[Any, ...] = (7, None, {})
    for bad in mistakes:
        assert "Pass a str or a pathlib.Path" in refusal(PrivateKey.from_file, bad)


def test_a_huge_file_is_refused_without_being_read(tmp_path: Path) -> None:
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(10 << 20)
    assert "more than" in refusal(PrivateKey.from_file, tmp_path / "huge")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_fifo_is_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert "regular file" in refusal(PrivateKey.from_file, tmp_path / "fifo")


@pytest.mark.skipif(os.name == "nt" or getattr(os, "geteuid", lambda: 0)() == 0, reason="this user may read every file")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(pem(ec_key()))
    (tmp_path / "key.pem").chmod(0)
    assert "may read it" in refusal(PrivateKey.from_file, tmp_path / "key.pem")


def test_key_text_passed_as_a_path_is_not_in_the_message(tmp_path: Path) -> None:
    for text in (
        pem(rsa_key()),
        json.dumps(jwk(ec_key())),
        *("".join(pem(k).splitlines()[1:-1]) for k in (rsa_key(), ec_key())),
    ):
        for make in (PrivateKey.from_file, PrivateKey.from_text):
            if make == PrivateKey.from_file or not text.startswith(("-", "{")):
                refusal(make, text)


def test_the_message_names_an_environment_variable_that_is_not_set() -> None:
    for environ in ({}, {"OKTA_CLIENT_PRIVATEKEY": " "}):
        assert "OKTA_CLIENT_PRIVATEKEY is not set" in refusal(PrivateKey.from_env, environ=environ)
    assert refusal(PrivateKey.from_env, "MY_KEY", environ={"MY_KEY": "no/such.pem"}).startswith("MY_KEY: ")
