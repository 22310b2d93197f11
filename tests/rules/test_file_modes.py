"""A file with a key or a token in it that every user of the machine can read is logged, once for each file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from okta_m2m import PrivateKey
from okta_m2m.admin.key_files import readers_warning, write_key
from okta_m2m.settings import find_setting

pytestmark = pytest.mark.skipif(os.name != "posix", reason="only POSIX has modes")


@pytest.fixture(autouse=True)
def _nothing_yet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "okta_m2m")


@pytest.mark.parametrize(("mode", "warns"), [(0o644, True), (0o604, True), (0o640, False), (0o600, False)])
def test_a_key_file_that_everyone_can_read_is_logged_once(
    ec_key: PrivateKey, tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, warns: bool
) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(ec_key.private_jwk()))
    path.chmod(mode)
    for _ in range(2):
        PrivateKey.from_file(path)
    said = [record.message for record in caplog.records]
    sentence = f"Every user of this machine can read the private key in {path}. Run: chmod 600 '{path}'"
    assert said == ([sentence] if warns else [])


def test_an_encrypted_key_may_be_read(ec_key: PrivateKey, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "key.pem"
    write_key(path, ec_key, form="pem", password="correct horse")
    path.chmod(0o644)
    PrivateKey.from_file(path, password="correct horse")
    assert not caplog.records


@pytest.mark.parametrize(
    ("line", "warns"),
    [
        ("token: 00abc", True),
        ("privateKeyPassphrase: horse", True),
        ("privateKey: '{}'", True),
        ("privateKey: key.pem", False),
        ("clientId: 0oa1", False),
    ],
)
def test_an_okta_yaml_with_a_secret_that_everyone_can_read_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: str, warns: bool
) -> None:
    path = tmp_path / "okta.yaml"
    path.write_text(f"okta:\n  client:\n    {line}\n")
    path.chmod(0o644)
    for _ in range(2):
        find_setting("token", environ={}, directory=tmp_path, home=tmp_path)
    assert [str(path) in record.message for record in caplog.records] == ([True] if warns else [])


def test_only_a_file_is_warned_of(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert readers_warning(tmp_path, "private key") is None
    assert readers_warning(tmp_path / "missing", "private key") is None
