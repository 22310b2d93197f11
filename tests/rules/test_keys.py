"""A private key is read in every form, says what it is, signs, and shows nothing private."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import PrivateFormat
from joserfc.jwk import ECKey, KeySet, RSAKey

from key_material import (
    ALGS,
    CURVES,
    PASSWORD,
    assert_nothing_private,
    b64,
    ec_key,
    encrypted,
    jwk,
    native,
    pem,
    public_jwk,
    public_pem,
    rsa_key,
    same,
    verified,
)
from okta_m2m.keys import PrivateKey, Signer, thumbprint

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
def test_a_pem_is_read_after_usual_changes_by_shells_and_editors(mangle: Callable[[str], str], locked: bool) -> None:
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
def test_the_kid_of_a_pem_is_in_a_line_above_the_key(tmp_path: Path, text: str, locked: bool) -> None:
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


def test_a_running_process_uses_a_kid_that_is_added_above_its_key(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text(pem(ec_key()), encoding="utf-8")
    followed = PrivateKey.from_file(path)
    assert followed.snapshot().kid is None
    path.write_text(f"kid: mine\n{pem(ec_key())}", encoding="utf-8")
    assert followed.snapshot().kid == "mine"


@pytest.mark.parametrize("above", ["", "kid:\n", "kid\n", "akid: mine\n", "Key kid: mine\n", "localKeyID: 01\n"])
def test_a_pem_without_a_kid_line_has_no_kid(above: str) -> None:
    assert PrivateKey.from_pem(above + pem(ec_key())).kid is None


def test_a_file_that_powershell_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(pem(ec_key()).encode("utf-16"))
    assert same(PrivateKey.from_file(path), ec_key())


def test_a_password_for_an_unencrypted_key_is_ignored() -> None:
    assert same(PrivateKey.from_pem(pem(ec_key()), password="unneeded"), ec_key())


@pytest.mark.parametrize("alg", ["RS256", "ES256", "ES384", "ES512"])
@pytest.mark.parametrize("give", [dict, json.dumps, lambda it: json.dumps(it, indent=2).encode()])
def test_a_jwk_is_read_with_its_own_kid_and_alg(alg: str, give: Callable[[dict[str, Any]], Any]) -> None:
    document = jwk(native(alg), kid="own", alg=alg, use="sig", key_ops=["sign", "verify"], ext=True)
    key = PrivateKey.from_jwk(give(document))
    assert (key.alg, key.kid) == (alg, "own")
    assert same(key, native(alg))


def test_arguments_replace_the_kid_and_alg_of_a_jwk() -> None:
    key = PrivateKey.from_jwk(jwk(rsa_key(), kid="own", alg="PS256"), kid="given", alg="RS512")
    assert (key.alg, key.kid) == ("RS512", "given")
    assert same(key, rsa_key())


def test_null_members_of_a_jwk_are_ignored() -> None:
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


def test_the_kid_selects_the_key_of_a_jwks() -> None:
    document = {"keys": [jwk(ec_key(), kid="a"), jwk(rsa_key(), kid="b"), public_jwk(rsa_key(), kid="b")]}
    key = PrivateKey.from_jwk(document, kid="b")
    assert key.kid == "b"
    assert same(key, rsa_key())


def test_a_kid_is_given_to_the_only_key_of_a_jwks_that_has_none() -> None:
    assert PrivateKey.from_jwk({"keys": [jwk(ec_key()), public_jwk(rsa_key(), kid="b")]}, kid="a").kid == "a"


def test_the_format_of_a_file_is_known_by_its_content_not_its_name(tmp_path: Path) -> None:
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


def test_a_relative_file_is_found_after_the_working_directory_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OKTA_CLIENT_PRIVATEKEY", encrypted(ec_key()))
    assert same(PrivateKey.from_env(password=PASSWORD.encode()), ec_key())


# ── what a key says of itself, and signs ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("alg", ALGS)
def test_another_library_verifies_the_signatures(alg: str) -> None:
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


def test_generate_makes_es256_by_default() -> None:
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
def test_thumbprints_are_those_of_joserfc_and_differ_between_keys(alg: str) -> None:
    made = (RSAKey if alg.startswith("RS") else ECKey).import_key(public_jwk(native(alg)))
    assert PrivateKey(native(alg)).thumbprint() == made.thumbprint()
    assert PrivateKey(native(alg)).thumbprint() == PrivateKey.from_jwk(jwk(native(alg), kid="x")).thumbprint()
    assert PrivateKey(native(alg)).thumbprint() != PrivateKey.generate().thumbprint()


def test_a_kid_can_be_set_later() -> None:
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


def test_the_check_for_private_values_finds_them() -> None:
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


# ── these tests themselves ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_test_keys_have_the_forms_that_they_are_named_after() -> None:
    # The forms above must be what they are called, or the tests would prove less than they say.
    assert "BEGIN RSA PRIVATE KEY" in pem(rsa_key(), PrivateFormat.TraditionalOpenSSL)
    assert "BEGIN EC PRIVATE KEY" in pem(ec_key(), PrivateFormat.TraditionalOpenSSL)
    assert "Proc-Type: 4,ENCRYPTED" in encrypted(rsa_key(), PrivateFormat.TraditionalOpenSSL)
    assert "BEGIN ENCRYPTED PRIVATE KEY" in encrypted(ec_key())
    assert serialization.load_pem_private_key(encrypted(ec_key()).encode(), PASSWORD.encode()) is not None
