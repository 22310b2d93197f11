"""The private key among the settings: as text, as a JWK, as a path, and never shown."""

from __future__ import annotations

import json
import logging
import os

import pytest
from cryptography.hazmat.primitives import serialization

from okta_m2m.errors import InvalidKey
from okta_m2m.keys import PrivateKey
from setting_places import (
    ENV,
    FULL,
    ORG,
    OTHER_PEM,
    PAIR,
    PEM,
    SECRET_LINES,
    World,
    kid_of,
    okta_yaml,
    pem,
    private_jwk,
    same_key,
    without,
)


def test_a_key_may_be_pem_text_with_literal_newlines(world: World) -> None:
    assert same_key(world.read(without("PRIVATEKEY", OKTA_CLIENT_PRIVATEKEY=PEM.strip().replace("\n", "\\n"))))


def test_a_key_may_be_a_jwk_in_the_environment(world: World) -> None:
    settings = world.read(without("PRIVATEKEY", OKTA_CLIENT_PRIVATEKEY=json.dumps(private_jwk(kid="in-jwk"))))
    assert same_key(settings)
    assert kid_of(settings) == "in-jwk"
    assert same_key(world.read(without("PRIVATEKEY", OKTA_CLIENT_JWK=json.dumps(private_jwk()))))


@pytest.mark.parametrize("as_text", [True, False])
def test_a_key_may_be_a_jwk_in_an_okta_yaml(world: World, as_text: bool) -> None:
    jwk = private_jwk(kid="in-jwk")
    world.write(world.local, okta_yaml(**{**FULL, "privateKey": json.dumps(jwk) if as_text else jwk}))
    settings = world.read()
    assert same_key(settings)
    assert kid_of(settings) == "in-jwk"


def test_a_path_in_the_environment_is_relative_to_the_working_directory(world: World) -> None:
    world.write(world.directory / "key.pem", PEM)
    assert same_key(world.read(without("PRIVATEKEY", OKTA_CLIENT_PRIVATEKEY="key.pem")))
    absolute = str(world.directory / "key.pem")
    assert same_key(world.read(without("PRIVATEKEY", OKTA_CLIENT_PRIVATEKEY=absolute)))


def test_a_path_in_a_file_is_relative_to_that_file(world: World) -> None:
    world.write(world.at_home.parent / "key.pem", PEM)
    world.write(world.directory / "key.pem", OTHER_PEM)
    world.write(world.at_home, okta_yaml(**{**FULL, "privateKey": "key.pem"}))
    assert same_key(world.read())


def test_a_key_path_is_read_even_if_okta_yaml_files_are_off(world: World) -> None:
    world.write(world.directory / "key.pem", PEM)
    assert same_key(world.read(without("PRIVATEKEY", OKTA_CLIENT_PRIVATEKEY="key.pem"), files=False))


def test_the_message_shows_a_path_that_does_not_exist(world: World) -> None:
    message = world.refused(without("PRIVATEKEY", OKTA_CLIENT_PRIVATEKEY="nowhere/key.pem"))
    assert "OKTA_CLIENT_PRIVATEKEY" in message
    assert os.path.join(str(world.directory), "nowhere/key.pem") in message


@pytest.mark.parametrize(
    "mangled",
    [
        "".join(SECRET_LINES),
        SECRET_LINES[0],
        PEM.replace("BEGIN", "BEGGIN"),
        PEM.replace(SECRET_LINES[0], SECRET_LINES[0][:-7]),
        '{"kty": "EC", "d": "' + SECRET_LINES[0],
    ],
    # Not the keys, which are secret, and others each time.
    ids=["without lines", "first line", "misspelt", "cut", "cut JWK"],
)
def test_a_damaged_key_is_refused_with_its_source_and_never_shown(world: World, mangled: str) -> None:
    message = world.refused(without("PRIVATEKEY", OKTA_CLIENT_PRIVATEKEY=mangled))
    assert "OKTA_CLIENT_PRIVATEKEY" in message
    assert SECRET_LINES[0][:20] not in message
    world.write(world.local, okta_yaml(**{**FULL, "privateKey": mangled}))
    message = world.refused()
    assert f"okta.client.privateKey in {world.local}" in message
    assert SECRET_LINES[0][:20] not in message


def test_a_key_that_okta_would_not_take_is_an_invalid_key(world: World) -> None:
    public = (
        PAIR.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
    with pytest.raises(InvalidKey, match="OKTA_CLIENT_PRIVATEKEY"):
        world.read(without("PRIVATEKEY", OKTA_CLIENT_PRIVATEKEY=public))


def test_an_encrypted_key_is_read_with_its_passphrase(world: World) -> None:
    locked = pem(PAIR, b"correct horse")
    environ = without("PRIVATEKEY", OKTA_CLIENT_PRIVATEKEY=locked)
    assert same_key(world.read({**environ, "OKTA_CLIENT_PRIVATEKEYPASSPHRASE": "correct horse"}))
    message = world.refused({**environ, "OKTA_CLIENT_PRIVATEKEYPASSPHRASE": "wrong-staple"})
    assert "wrong-staple" not in message
    world.write(world.directory / "key.pem", locked)
    world.write(world.local, okta_yaml(**{**FULL, "privateKey": "key.pem", "privateKeyPassphrase": "correct horse"}))
    assert same_key(world.read())


def test_a_key_id_from_the_source_of_another_key_is_ignored(world: World) -> None:
    world.write(world.at_home, okta_yaml(privateKey=OTHER_PEM, kid="of-the-other-key"))
    assert kid_of(world.read(ENV)) is None
    world.write(world.at_home, okta_yaml(kid="of-the-only-key"))
    assert kid_of(world.read(ENV)) == "of-the-only-key"
    world.write(world.at_home, okta_yaml(privateKey=PEM, kid="weaker"))
    settings = world.read(without("PRIVATEKEY", OKTA_CLIENT_KID="stronger"))
    assert kid_of(settings) == "stronger"


def test_a_signer_passed_as_an_argument_keeps_its_own_key_id(world: World) -> None:
    settings = world.read({**ENV, "OKTA_CLIENT_KID": "k1"}, key=PrivateKey.from_pem(PEM, kid="own"))
    assert kid_of(settings) == "own"
    assert "kid" not in settings.sources


def test_no_secret_is_shown(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        world.write(world.local, okta_yaml(**FULL, kid="k1"))
        settings = world.read({"OKTA_CLIENT_PRIVATEKEYPASSPHRASE": "correct horse"}, api_token="hush")
    shown = repr(settings) + str(settings) + caplog.text
    assert "hush" not in shown
    assert "correct horse" not in shown
    assert not any(line in shown for line in SECRET_LINES)
    assert ORG in repr(settings)
