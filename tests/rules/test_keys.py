"""Keys: every form is read, what Okta would not take is refused with the remedy, and nothing private ever shows."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import traceback
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
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
from joserfc.jwk import ECKey, KeySet, RSAKey

from okta_m2m.errors import InvalidKey
from okta_m2m.keys import PrivateKey, Signer, thumbprint
from okta_m2m.keys.key_algorithms import MAX_KEY_SIZE

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


# ── the forms ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("alg", ["RS256", "ES256", "ES384", "ES512"])
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL], ids=["pkcs8", "traditional"])
@pytest.mark.parametrize("locked", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("as_bytes", [False, True], ids=["text", "bytes"])
def test_every_pem_form_is_read(alg: str, form: PrivateFormat, locked: bool, as_bytes: bool) -> None:
    text = encrypted(native(alg), form) if locked else pem(native(alg), form)
    key = PrivateKey.from_pem(text.encode() if as_bytes else text, password=PASSWORD if locked else None, kid="k")
    assert (key.alg, key.kid) == (alg, "k")
    assert same(key, native(alg))


@pytest.mark.parametrize(
    "mangle",
    [
        lambda text: text.replace("\n", "\\n"),
        lambda text: text.replace("\n", "\\r\\n"),
        lambda text: text.replace("\n", "\\\\n"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: f'"{text}"',
        lambda text: "'" + text.replace("\n", "\\n") + "'\n",
        lambda text: f"\ufeff\n\n \t{text}\n\n",
        lambda text: text.replace("\n", "\n\t  "),
        lambda text: text.rstrip("\n"),
        lambda text: "Bag Attributes\n    friendlyName: key\nKey Attributes: <No Attributes>\n" + text,
        lambda text: "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + text,
        lambda text: text + public_pem(ec_key()),
        lambda text: text + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ],
)
@pytest.mark.parametrize("locked", [False, True], ids=["plain", "encrypted"])
def test_what_shells_and_editors_do_to_a_pem_does_not_matter(mangle: Callable[[str], str], locked: bool) -> None:
    form = PrivateFormat.TraditionalOpenSSL
    text = encrypted(ec_key(), form) if locked else pem(ec_key(), form)
    assert same(PrivateKey.from_pem(mangle(text), password=PASSWORD), ec_key())
    assert same(PrivateKey.from_text(mangle(text), password=PASSWORD), ec_key())


@pytest.mark.parametrize("between", [" ", ""], ids=["spaces", "nothing"])
def test_a_pem_on_one_line_is_read(between: str) -> None:
    assert same(PrivateKey.from_pem(pem(rsa_key()).replace("\n", between)), rsa_key())


@pytest.mark.parametrize(
    "text",
    [
        "kid: mine\n{pem}",
        "\ufeff  kid:mine  \r\n{pem}",
        "subject: CN=billing\nkid: mine\nissued: 2026\n\n{pem}",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\nkid: mine\n{pem}",
        "{pem}\nkid: mine\n",
        "kid: mine\\n{pem}",
        "kid: mine {pem}",
        "kid: mine{pem}",
    ],
)
@pytest.mark.parametrize("locked", [False, True])
def test_the_kid_of_a_pem_is_in_a_line_of_its_own(tmp_path: Path, text: str, locked: bool) -> None:
    key = ec_key()
    whole = text.format(pem=encrypted(key) if locked else pem(key))
    path = tmp_path / "key.pem"
    path.write_text(whole, encoding="utf-8")
    password = PASSWORD if locked else None
    for read in (
        PrivateKey.from_pem(whole, password=password),
        PrivateKey.from_text(whole, password=password),
        PrivateKey.from_file(path, password=password),
        PrivateKey.from_env(password=password, environ={"OKTA_CLIENT_PRIVATEKEY": whole}),
    ):
        assert (read.kid, read.thumbprint()) == ("mine", PrivateKey(key).thumbprint())
    assert PrivateKey.from_pem(whole, password=password, kid="other").kid == "other"


def test_a_running_process_sees_the_kid_that_is_written_above_its_key(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text(pem(ec_key()), encoding="utf-8")
    followed = PrivateKey.from_file(path)
    assert followed.snapshot().kid is None
    path.write_text(f"kid: mine\n{pem(ec_key())}", encoding="utf-8")
    assert followed.snapshot().kid == "mine"


@pytest.mark.parametrize("above", ["", "kid:\n", "kid\n", "akid: mine\n", "Key kid: mine\n", "localKeyID: 01\n"])
def test_without_such_a_line_a_pem_has_no_kid(above: str) -> None:
    assert PrivateKey.from_pem(above + pem(ec_key())).kid is None


def test_a_file_that_powershell_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(pem(ec_key()).encode("utf-16"))
    assert same(PrivateKey.from_file(path), ec_key())


def test_a_password_for_a_key_that_is_not_encrypted_does_no_harm() -> None:
    assert same(PrivateKey.from_pem(pem(ec_key()), password="unneeded"), ec_key())


@pytest.mark.parametrize("alg", ["RS256", "ES256", "ES384", "ES512"])
@pytest.mark.parametrize("give", [dict, json.dumps, lambda it: json.dumps(it, indent=2).encode()])
def test_a_jwk_is_read_with_its_own_kid_and_alg(alg: str, give: Callable[[dict[str, Any]], Any]) -> None:
    document = jwk(native(alg), kid="own", alg=alg, use="sig", key_ops=["sign", "verify"], ext=True)
    key = PrivateKey.from_jwk(give(document))
    assert (key.alg, key.kid) == (alg, "own")
    assert same(key, native(alg))


def test_arguments_win_over_a_jwk() -> None:
    key = PrivateKey.from_jwk(jwk(rsa_key(), kid="own", alg="PS256"), kid="given", alg="RS512")
    assert (key.alg, key.kid) == ("RS512", "given")
    assert same(key, rsa_key())


def test_null_members_of_a_jwk_are_as_good_as_none() -> None:
    key = PrivateKey.from_jwk(jwk(ec_key(), kid=None, alg=None, use=None, key_ops=None))
    assert (key.alg, key.kid) == ("ES256", None)


@pytest.mark.parametrize("left", [("n", "e", "d"), ("n", "e", "d", "p"), ("n", "e", "d", "p", "q")])
def test_an_rsa_jwk_needs_no_primes(left: tuple[str, ...]) -> None:
    document = {name: value for name, value in jwk(rsa_key()).items() if name in ("kty", *left)}
    assert same(PrivateKey.from_jwk(document), rsa_key())


def test_leading_zero_octets_of_jwk_numbers_change_nothing() -> None:
    numbers = rsa_key().private_numbers()
    document = {
        "kty": "RSA",
        "n": b64(numbers.public_numbers.n, 257),
        "e": b64(65537, 4),
        "d": b64(numbers.d, 300),
    }
    key = PrivateKey.from_jwk(document)
    assert same(key, rsa_key())
    assert key.public_jwk == public_jwk(rsa_key())
    assert key.thumbprint() == PrivateKey(rsa_key()).thumbprint()


def test_ec_coordinates_keep_their_leading_zeros() -> None:
    private = next(
        n
        for n in range(1, 5000)
        if ec.derive_private_key(n, ec.SECP256R1()).public_key().public_numbers().x >> 248 == 0
    )
    key = PrivateKey(ec.derive_private_key(private, ec.SECP256R1()))
    assert len(key.public_jwk["x"]) == 43
    assert verified(PrivateKey.from_jwk({**key.public_jwk, "d": b64(private)}), dict(key.public_jwk))


def test_a_jwks_with_one_private_key_needs_no_kid() -> None:
    for_encryption = jwk(rsa_key(), kid="enc", use="enc")
    document = {"keys": [public_jwk(rsa_key(), kid="pub"), jwk(ec_key(), kid="a"), for_encryption, "noise"]}
    for given in (document, json.dumps(document)):
        key = PrivateKey.from_jwk(given)
        assert (key.kid, key.alg) == ("a", "ES256")


def test_the_kid_picks_from_a_jwks() -> None:
    document = {"keys": [jwk(ec_key(), kid="a"), jwk(rsa_key(), kid="b"), public_jwk(rsa_key(), kid="b")]}
    key = PrivateKey.from_jwk(document, kid="b")
    assert key.kid == "b"
    assert same(key, rsa_key())


def test_a_kid_is_given_to_the_only_key_of_a_jwks_that_has_none() -> None:
    assert PrivateKey.from_jwk({"keys": [jwk(ec_key()), public_jwk(rsa_key(), kid="b")]}, kid="a").kid == "a"


def test_a_file_is_told_by_its_content_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "schlüssel 鍵.txt"
    for text in (
        pem(ec_key()),
        pem(ec_key()).replace("\n", "\r\n"),
        json.dumps(jwk(ec_key())),
        json.dumps({"keys": [jwk(ec_key())]}, indent=1),
    ):
        path.write_bytes(text.encode())
        for given in (path, str(path)):
            assert same(PrivateKey.from_file(given), ec_key())


def test_a_file_is_found_after_the_working_directory_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key.pem").write_text(pem(ec_key()))
    monkeypatch.chdir(tmp_path)
    key = PrivateKey.from_file("key.pem")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "key.pem").write_text(pem(ec_key(which=1)))
    assert same(key.snapshot(), ec_key(which=1))


@pytest.mark.parametrize("form", ["pem", "escaped pem", "jwk", "jwks", "path"])
def test_the_environment_may_hold_a_key_or_its_path(form: str, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text(pem(ec_key()))
    value = {
        "pem": pem(ec_key()),
        "escaped pem": pem(ec_key()).replace("\n", "\\n"),
        "jwk": json.dumps(jwk(ec_key())),
        "jwks": json.dumps({"keys": [jwk(ec_key())]}),
        "path": f" {path}\n",
    }[form]
    key = PrivateKey.from_env(environ={"OKTA_CLIENT_PRIVATEKEY": value}, kid="k")
    assert key.kid == "k"
    assert same(key, ec_key())
    assert same(PrivateKey.from_env("MY_KEY", environ={"MY_KEY": value}), ec_key())


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OKTA_CLIENT_PRIVATEKEY", encrypted(ec_key()))
    assert same(PrivateKey.from_env(password=PASSWORD.encode()), ec_key())


# ── what a key says of itself, and signs ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("alg", ALGS)
def test_signatures_verify_elsewhere(alg: str) -> None:
    key = PrivateKey(native(alg), alg=alg)
    assert verified(key, public_jwk(native(alg)))
    assert not verified(key, public_jwk(rsa_key(which=1) if alg.startswith("RS") else ec_key(CURVES[alg], 1)))
    if alg.startswith("ES"):
        lengths = {len(key.sign(b"%d" % n)) for n in range(300)}  # r or s is short once in 128
        assert lengths == {{"ES256": 64, "ES384": 96, "ES512": 132}[alg]}


@pytest.mark.parametrize("alg", ["RS512", "ES256", "ES384", "ES512"])
def test_a_generated_key_has_the_alg_and_no_invented_kid(alg: str) -> None:
    key = PrivateKey.generate(alg)
    assert (key.alg, key.kid) == (alg, None)
    assert verified(key, dict(key.public_jwk))
    assert "kid" not in key.jwks()["keys"][0]


def test_generate_makes_es256_unless_told_otherwise() -> None:
    assert PrivateKey.generate(kid="k").alg == "ES256"
    assert PrivateKey.generate().thumbprint() != PrivateKey.generate().thumbprint()


@pytest.mark.parametrize("alg", ALGS)
def test_the_public_jwk_is_public_and_the_jwks_registers_it(alg: str) -> None:
    key = PrivateKey(native(alg), alg=alg, kid="k")
    assert key.public_jwk == public_jwk(native(alg))
    assert key.jwks() == {"keys": [{**public_jwk(native(alg)), "kid": "k", "use": "sig", "alg": alg}]}
    KeySet.import_key_set(json.loads(json.dumps(key.jwks())))
    with pytest.raises(TypeError):
        key.public_jwk["kid"] = "changed"  # type: ignore[index]  # that it cannot be written is what is shown


def test_the_thumbprint_is_that_of_rfc_7638() -> None:
    # RFC 7638 section 3.1
    example = {
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3"
        "oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6"
        "qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJ"
        "zKnqDKgw",
        "e": "AQAB",
        "alg": "RS256",
        "kid": "2011-04-29",
    }
    assert thumbprint(example) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize("alg", ["RS256", "ES256", "ES384", "ES512"])
def test_thumbprints_agree_with_joserfc_and_tell_keys_apart(alg: str) -> None:
    made = (RSAKey if alg.startswith("RS") else ECKey).import_key(public_jwk(native(alg)))
    assert PrivateKey(native(alg)).thumbprint() == made.thumbprint()
    assert PrivateKey(native(alg)).thumbprint() == PrivateKey.from_jwk(jwk(native(alg), kid="x")).thumbprint()
    assert PrivateKey(native(alg)).thumbprint() != PrivateKey.generate().thumbprint()


def test_a_kid_can_be_given_later() -> None:
    key = PrivateKey(rsa_key(), alg="RS384")
    named = key.with_kid(key.thumbprint())
    assert (named.kid, named.alg, key.kid) == (key.thumbprint(), "RS384", None)
    assert same(named, rsa_key())


def test_a_private_key_is_a_signer_in_memory() -> None:
    key = PrivateKey.generate()
    signer: Signer = key
    assert key.in_memory is True
    assert key.snapshot() is key
    assert isinstance(signer.sign(b"message"), bytes)


def test_a_key_cannot_be_changed() -> None:
    key = PrivateKey.generate()
    for name in ("alg", "kid", "public_jwk", "anything"):
        with pytest.raises(AttributeError):
            setattr(key, name, "changed")


# ── nothing private shows ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("alg", ALGS)
def test_repr_shows_alg_kid_and_thumbprint_only(alg: str, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text(encrypted(native(alg)))
    key = PrivateKey.from_file(path, password=PASSWORD, kid="k", alg=alg)
    for shown in (repr(key), str(key), f"{key}", repr([key]), repr(key.snapshot())):
        assert alg in shown
        assert key.thumbprint() in shown
        assert "'k'" in shown
        assert_nothing_private(shown)


def test_the_look_for_private_parts_bites() -> None:
    for text in (pem(rsa_key()), json.dumps(jwk(ec_key())), f"wrong password {PASSWORD}"):
        with pytest.raises(AssertionError):
            assert_nothing_private(text)


@pytest.mark.parametrize("followed", [False, True], ids=["plain", "file"])
@pytest.mark.parametrize("leave", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_key_is_not_pickled_or_copied(leave: Callable[[object], object], followed: bool, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text(pem(ec_key()))
    key = PrivateKey.from_file(path) if followed else PrivateKey.generate()
    for holder in (key, {"auth": [key]}):
        if leave is copy.copy and holder is not key:
            continue
        with pytest.raises(TypeError, match=r"cannot be pickled .* PrivateKey\.from_file"):
            leave(holder)


def test_importing_the_module_loads_no_crypto() -> None:
    code = (
        "import sys; import okta_m2m.keys as keys; "
        "assert not {m.split('.')[0] for m in sys.modules} & {'cryptography', 'joserfc'}; "
        "keys.PrivateKey.generate(); assert 'cryptography' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ── refusals ───────────────────────────────────────────────────────────────────────────────────────────────────────


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
    assert "Okta accepts RS256, RS384, RS512, ES256, ES384 and ES512" in refusal(PrivateKey.generate, alg)


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


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    assert len(content) < 0x80
    return bytes([tag, len(content)]) + content


def der_number(number: int) -> bytes:
    return der(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


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
def test_what_is_no_der_is_a_damaged_key(body: str) -> None:
    text = f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{body}\n-----END ENCRYPTED PRIVATE KEY-----\n"
    assert "cannot be decrypted" in refusal(PrivateKey.from_pem, text, password=PASSWORD)


def test_a_followed_file_whose_passphrase_takes_too_long_keeps_the_last_good_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "key.pem"
    path.write_text(encrypted(ec_key()))
    key = PrivateKey.from_file(path, password=PASSWORD)
    path.write_text(pem_with_cost("PBKDF2", 1 << 40))
    for _ in range(3):
        assert same(key.snapshot(), ec_key())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "Keeping the last good key" in caplog.text


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


def test_a_kind_of_key_that_nobody_knows_is_refused() -> None:
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
def test_what_is_no_pem_is_refused(text: Any) -> None:
    refusal(PrivateKey.from_pem, text, password=PASSWORD)


def test_a_damaged_pem_is_refused_and_not_repeated() -> None:
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
def test_what_is_no_jwk_is_refused(text: Any, tmp_path: Path) -> None:
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


def test_padded_jwk_numbers_are_refused_with_the_rule() -> None:
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


def test_a_pem_whose_halves_do_not_belong_together_is_refused() -> None:
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


def test_a_jwks_that_leaves_a_choice_is_refused() -> None:
    two = {"keys": [jwk(ec_key(), kid="a"), jwk(rsa_key(), kid="b"), jwk(rsa_key())]}
    assert "3 private keys: 'a', 'b', one without a kid. Choose one with kid=" in refusal(PrivateKey.from_jwk, two)
    assert "its private keys: 'a', 'b'" in refusal(PrivateKey.from_jwk, two, kid="c")
    twice = {"keys": [jwk(ec_key(), kid="a"), jwk(rsa_key(), kid="a")]}
    assert "2 keys with the kid 'a'" in refusal(PrivateKey.from_jwk, twice, kid="a")
    assert "public key" in refusal(PrivateKey.from_jwk, {"keys": [public_jwk(ec_key(), kid="a")]}, kid="a")


def test_a_kid_that_is_not_text_is_refused() -> None:
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


def test_key_text_that_is_taken_for_a_path_is_not_repeated(tmp_path: Path) -> None:
    for text in (
        pem(rsa_key()),
        json.dumps(jwk(ec_key())),
        *("".join(pem(k).splitlines()[1:-1]) for k in (rsa_key(), ec_key())),
    ):
        for make in (PrivateKey.from_file, PrivateKey.from_text):
            if make == PrivateKey.from_file or not text.startswith(("-", "{")):
                refusal(make, text)


def test_an_environment_variable_that_is_not_set_is_named() -> None:
    for environ in ({}, {"OKTA_CLIENT_PRIVATEKEY": " "}):
        assert "OKTA_CLIENT_PRIVATEKEY is not set" in refusal(PrivateKey.from_env, environ=environ)
    assert refusal(PrivateKey.from_env, "MY_KEY", environ={"MY_KEY": "no/such.pem"}).startswith("MY_KEY: ")


# ── a file that changes ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    path.write_text(pem(ec_key()))
    return path


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert_nothing_private(caplog.text)
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_unchanged_file_gives_one_and_the_same_snapshot(path: Path) -> None:
    key = PrivateKey.from_file(path, kid="k")
    first = key.snapshot()
    assert key.snapshot() is first
    os.utime(path)
    assert key.snapshot() is first
    assert first.snapshot() is first
    assert first is not key
    assert (first.kid, first.alg, first.public_jwk) == (key.kid, key.alg, key.public_jwk)


def test_a_changed_file_gives_a_new_snapshot_and_leaves_old_ones_as_they_were(path: Path) -> None:
    key = PrivateKey.from_file(path, kid="k")
    old = key.snapshot()
    path.write_text(json.dumps(jwk(rsa_key(), alg="RS384", kid="ignored")))
    assert same(key, ec_key()), "only snapshot looks at the file"
    new = key.snapshot()
    for after in (new, key):
        assert same(after, rsa_key())
        assert (after.alg, after.kid) == ("RS384", "k")
        assert after.jwks()["keys"][0]["n"] == public_jwk(rsa_key())["n"]
        assert after.thumbprint() == PrivateKey(rsa_key()).thumbprint()
    assert key.snapshot() is new
    assert same(old, ec_key())
    assert old.alg == "ES256"


def test_a_jwk_file_brings_its_own_new_kid(path: Path) -> None:
    path.write_text(json.dumps(jwk(ec_key(), kid="one")))
    key = PrivateKey.from_file(path)
    assert key.kid == "one"
    path.write_text(json.dumps(jwk(ec_key(which=1), kid="two")))
    assert (key.snapshot().kid, key.kid) == ("two", "two")


def test_a_new_key_is_seen_even_if_size_and_times_are_the_same(path: Path) -> None:
    key = PrivateKey.from_file(path)
    about = path.stat()
    path.write_text(pem(ec_key(which=1)))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert path.stat().st_size == about.st_size
    assert same(key.snapshot(), ec_key(which=1))


def test_a_replaced_file_is_seen(path: Path) -> None:
    key = PrivateKey.from_file(path)
    path.with_suffix(".new").write_text(pem(ec_key(which=1)))
    os.replace(path.with_suffix(".new"), path)
    assert same(key.snapshot(), ec_key(which=1))


def test_a_swapped_symlink_is_seen(tmp_path: Path) -> None:
    # As Kubernetes mounts a secret: key.pem -> ..data/key.pem, ..data -> a directory per version.
    for n in (0, 1):
        (tmp_path / f"v{n}").mkdir()
        (tmp_path / f"v{n}" / "key.pem").write_text(pem(ec_key(which=n)))
    try:
        (tmp_path / "..data").symlink_to("v0", target_is_directory=True)
        (tmp_path / "key.pem").symlink_to(Path("..data") / "key.pem")
    except OSError:
        pytest.skip("this user may not make symlinks")
    key = PrivateKey.from_file(tmp_path / "key.pem")
    (tmp_path / "..new").symlink_to("v1", target_is_directory=True)
    os.replace(tmp_path / "..new", tmp_path / "..data")
    assert same(key.snapshot(), ec_key(which=1))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_text(pem(ec_key(which=1))[:100]),
        lambda path: path.write_text(""),
        lambda path: path.write_text(encrypted(ec_key(which=1)).replace("A", "B")),
        lambda path: path.write_text(public_pem(ec_key(which=1))),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["half", "empty", "undecryptable", "public", "nested", "gone", "directory"],
)
def test_a_failed_re_read_keeps_the_last_good_key_and_warns_once(
    spoil: Callable[[Path], object], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = PrivateKey.from_file(path, password=PASSWORD)
    good = key.snapshot()
    spoil(path)
    for _ in range(3):
        assert key.snapshot() is good
    assert same(key, ec_key())
    [warning] = warnings(caplog)
    assert str(path) in warning
    assert good.thumbprint() in warning


def test_each_change_of_state_is_one_warning_and_a_whole_file_ends_it(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = PrivateKey.from_file(path)
    good, text = key.snapshot(), path.read_text()
    path.write_text(text[:50])
    assert [key.snapshot(), key.snapshot()] == [good, good]
    assert len(warnings(caplog)) == 1
    path.unlink()
    assert [key.snapshot(), key.snapshot()] == [good, good]
    assert len(warnings(caplog)) == 2
    path.write_text(text)
    assert [key.snapshot(), key.snapshot()] == [good, good]
    path.unlink()
    assert key.snapshot() is good
    assert len(warnings(caplog)) == 3
    path.write_text(pem(ec_key(which=1)))
    assert same(key.snapshot(), ec_key(which=1))
    assert len(warnings(caplog)) == 3


def test_the_password_and_the_kid_hold_for_every_reading(path: Path) -> None:
    path.write_text(encrypted(ec_key()))
    key = PrivateKey.from_file(path, password=PASSWORD, kid="b")
    path.write_text(encrypted(ec_key(which=1)))
    assert same(key.snapshot(), ec_key(which=1))
    path.write_text(json.dumps({"keys": [jwk(ec_key(), kid="a"), jwk(rsa_key(), kid="b")]}))
    assert same(key.snapshot(), rsa_key())
    assert key.kid == "b"


def test_a_key_whose_path_is_in_the_environment_is_followed(path: Path) -> None:
    key = PrivateKey.from_env(environ={"OKTA_CLIENT_PRIVATEKEY": str(path)})
    path.write_text(pem(ec_key(which=1)))
    assert same(key.snapshot(), ec_key(which=1))


def test_threads_may_sign_and_look_while_the_file_changes(path: Path) -> None:
    key = PrivateKey.from_file(path)
    texts = [pem(ec_key(which=n)) for n in (0, 1)]
    known = {PrivateKey(ec_key(which=n)).thumbprint() for n in (0, 1)}
    publics = {PrivateKey(ec_key(which=n)).thumbprint(): public_jwk(ec_key(which=n)) for n in (0, 1)}
    over = threading.Event()

    def look() -> int:
        looks = 0
        while not over.is_set() or not looks:
            version = key.snapshot()
            assert version.thumbprint() in known
            assert verified(version, publics[version.thumbprint()])
            looks += 1
        return looks

    with ThreadPoolExecutor(8) as pool:
        looking = [pool.submit(look) for _ in range(8)]
        for n in range(40):
            path.write_text(texts[n % 2])  # not atomic: half-written files are seen too
        path.write_text(texts[1])
        over.set()
        assert all(future.result() for future in looking)
    last = key.snapshot()
    assert same(last, ec_key(which=1))
    assert key.snapshot() is last


def test_serialization_used_here_is_the_librarys() -> None:
    # The forms above must be what they are called, or the tests would prove less than they say.
    assert "BEGIN RSA PRIVATE KEY" in pem(rsa_key(), PrivateFormat.TraditionalOpenSSL)
    assert "BEGIN EC PRIVATE KEY" in pem(ec_key(), PrivateFormat.TraditionalOpenSSL)
    assert "Proc-Type: 4,ENCRYPTED" in encrypted(rsa_key(), PrivateFormat.TraditionalOpenSSL)
    assert "BEGIN ENCRYPTED PRIVATE KEY" in encrypted(ec_key())
    assert serialization.load_pem_private_key(encrypted(ec_key()).encode(), PASSWORD.encode()) is not None
