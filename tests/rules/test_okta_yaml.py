"""Which okta.yaml is read, and which is refused because others may have written it or because it is not plain YAML."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from okta_m2m.errors import ConfigurationError, install_command
from okta_m2m.keys import PrivateKey
from okta_m2m.settings import read_settings
from setting_places import ENV, FULL, ORG, PEM, SECRET_LINES, World, okta_yaml, posix_only, without

# ── whose org ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["okta.yaml", ".okta.yaml"])
@pytest.mark.parametrize("place", ["argument", "environment", "home", "path"])
def test_an_org_from_the_working_directory_with_a_key_from_elsewhere_is_a_warning(
    world: World, caplog: pytest.LogCaptureFixture, place: str, name: str
) -> None:
    file = world.directory / name
    key_path = world.at_home.parent / "key.pem"
    world.write(key_path, PEM)
    local: dict[str, Any] = {"orgUrl": "https://evil.example"}
    arguments: dict[str, Any] = {}
    environ = without("ORGURL", "PRIVATEKEY")
    if place == "argument":
        arguments["key"] = PrivateKey.from_pem(PEM)
    elif place == "environment":
        environ["OKTA_CLIENT_PRIVATEKEY"] = PEM
    elif place == "home":
        world.write(world.at_home, okta_yaml(privateKey=PEM))
    else:
        local["privateKey"] = str(key_path)  # a file from a stranger can guess where its reader keeps a key
    world.write(file, okta_yaml(**local))
    world.read(environ, **arguments)
    (record,) = [r for r in caplog.records if r.name == "okta_m2m" and r.levelno == logging.WARNING]
    named = {
        "argument": "argument",
        "environment": "environment variable OKTA_CLIENT_PRIVATEKEY",
        "home": str(world.at_home),
        "path": str(key_path),
    }
    assert str(file) in record.getMessage()
    assert named[place] in record.getMessage()


@pytest.mark.parametrize("key", ["elsewhere", "named by a path", "here"])
@pytest.mark.parametrize(
    ("value", "at_home", "used"), [("false", "", None), ("true", "required", "required"), ("required", "", "required")]
)
def test_a_file_in_the_working_directory_switches_no_dpop_off_for_a_key_from_elsewhere(
    world: World, caplog: pytest.LogCaptureFixture, key: str, value: str, at_home: str, used: str | None
) -> None:
    key_path = world.at_home.parent / "key.pem"
    world.write(key_path, PEM)
    local = {"elsewhere": {}, "named by a path": {"privateKey": str(key_path)}, "here": {"privateKey": PEM}}[key]
    world.write(world.directory / "okta.yaml", okta_yaml(dpopEnabled=value, **local))
    world.write(world.at_home, okta_yaml(dpopEnabled=at_home or None))
    environ = without() if key == "elsewhere" else without("PRIVATEKEY")
    dpop = world.read(environ).dpop
    if key == "here":
        assert dpop == {"false": False, "true": True, "required": "required"}[value]
    else:
        assert dpop == used
    assert ("may not weaken" in caplog.text) == (key != "here" and value != "required")


@posix_only
def test_a_link_to_a_key_elsewhere_is_a_key_from_elsewhere(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.write(world.home / "key.pem", PEM)
    (world.directory / "key.pem").symlink_to(world.home / "key.pem")
    world.write(world.local, okta_yaml(**{**FULL, "privateKey": "key.pem"}))
    world.read()
    assert "from elsewhere" in caplog.text


@posix_only
def test_a_key_in_a_linked_okta_yaml_is_a_key_from_elsewhere(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.write(world.at_home, okta_yaml(privateKey=PEM))
    world.write(world.local, okta_yaml(orgUrl="https://evil.example", clientId="0oa1", scopes=["okta.users.read"]))
    world.dotted.symlink_to(world.at_home)
    world.read()
    assert f"from elsewhere ({world.dotted}, a symlink to {os.path.realpath(world.at_home)})" in caplog.text


def test_an_org_from_the_home_directory_is_no_warning(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.write(world.local, okta_yaml(orgUrl=ORG))
    for home, warned in [(world.directory, False), (world.home, True)]:
        caplog.clear()
        read_settings(environ=without("ORGURL"), directory=world.directory, home=home)
        assert ("comes from elsewhere" in caplog.text) == warned


def test_the_source_of_a_setting_names_its_file(world: World) -> None:
    world.write(world.local, okta_yaml(clientId="0oa1"))
    world.write(world.at_home, okta_yaml(scopes=["okta.users.read"]))
    settings = world.read(without("CLIENTID", "SCOPES"))
    assert dict(settings.files) == {"client_id": world.local, "scopes": world.at_home}


def test_an_org_and_a_key_from_one_source_are_no_warning(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.write(world.local, okta_yaml(**FULL))
    world.read()
    world.write(world.directory / "key.pem", PEM)
    world.write(world.local, okta_yaml(**{**FULL, "privateKey": "key.pem"}))
    world.read()
    world.write(world.local, okta_yaml(privateKey=PEM))
    world.read(without("PRIVATEKEY"))  # the key from here, the org from the environment: whoever set that, chose
    world.write(world.local, okta_yaml())
    world.write(world.at_home, okta_yaml(**FULL))
    world.read()
    assert not caplog.records


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@posix_only
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_to_is_refused(world: World, mode: int) -> None:
    for path in (world.local, world.dotted, world.at_home):
        world.write(path, okta_yaml())
        path.chmod(mode)
        message = world.refused(ENV)
        assert str(path) in message
        assert f"chmod go-w '{path}'" in message
        path.chmod(0o644)  # others may read: it is the key file that must not be readable, not this
        world.read(ENV)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """A user whom file modes bind: root passes them by."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_world() -> Iterator[World]:
    """Like ``world``, in a directory that other users may enter."""
    import ruamel.yaml  # noqa: F401 -- loaded while its files can surely be read

    root = Path(tempfile.mkdtemp())
    try:
        root.chmod(0o755)
        yield World(root)
    finally:
        shutil.rmtree(root)


@posix_only
def test_a_file_of_another_user_is_refused(open_world: World) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    open_world.write(open_world.local, okta_yaml())
    os.chown(open_world.local, 4711, -1)
    message = open_world.refused(ENV)
    assert str(open_world.local) in message
    assert "uid 4711" in message
    assert "chown" in message


@posix_only
def test_a_file_of_root_is_accepted_for_every_user(open_world: World) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a file of root's")
    open_world.write(open_world.local, okta_yaml(clientId="of-root"))
    open_world.local.chmod(0o644)
    with unprivileged():
        assert open_world.read(without("CLIENTID")).client_id == "of-root"


@posix_only
def test_a_file_that_cannot_be_read_is_refused(open_world: World) -> None:
    open_world.write(open_world.local, okta_yaml())
    open_world.local.chmod(0o000)
    with unprivileged():
        message = open_world.refused(ENV)
    assert str(open_world.local) in message
    assert "readable" in message


@posix_only
def test_an_inaccessible_home_directory_counts_as_having_no_file(open_world: World) -> None:
    open_world.read(ENV)  # imports what a key needs: another user may not be able to read this environment's packages
    open_world.home.chmod(0o000)
    try:
        with unprivileged():
            assert open_world.read(ENV).client_id == "0oa1"
    finally:
        open_world.home.chmod(0o700)


def test_a_directory_named_okta_yaml_is_refused(world: World) -> None:
    world.local.mkdir()
    message = world.refused(ENV)
    assert f"{world.local} is not a regular file" in message


@posix_only
def test_a_pipe_named_okta_yaml_is_refused_without_waiting(world: World) -> None:
    os.mkfifo(world.local)
    assert "not a regular file" in world.refused(ENV)


def test_a_huge_file_is_refused(world: World) -> None:
    world.write(world.local, b"#" * (256 * 1024 + 1))
    assert f"{world.local} is larger than 256 KiB" in world.refused(ENV)


@pytest.mark.parametrize(
    "text", ["", "# only a comment\n", "---\n", "okta:\n", "okta:\n  client:\n", "{}", "\ufeffokta: {}"]
)
def test_an_empty_file_is_ignored(world: World, text: str) -> None:
    world.write(world.local, text)
    assert world.read(ENV).client_id == "0oa1"


def test_sections_of_other_sdks_are_ignored(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.write(world.local, json.dumps({"okta": {"idx": {"issuer": "x", "clientId": "y"}}, "spring": {"port": 1}}))
    assert world.read(ENV).client_id == "0oa1"
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("okta:\n  client:\n    orgUrl: 'https://acme.okta.com\n    kid: SECRET\n", "line"),
        ("okta:\n  client:\n\tkid: SECRET\n", "line 3"),
        ("okta:\n  client:\n    kid: !SECRET x\n", "line 3"),
        ("okta:\n  client:\n    kid: *SECRET\n", "line 3"),
        ("okta:\n  client:\n    privateKey: !!python/object/apply:os.system ['SECRET']\n", "line 3"),
        ("okta: {}\n---\nokta: SECRET\n", "line"),
        ("okta:\n  client:\n    kid: !!int SECRET\n", "line 3"),
        ("okta:\n  client:\n    kid: 2026-99-99\n    x: SECRET\n", "value"),
        ("okta:\n  client:\n    kid: \x01SECRET\n", ""),
        ("[" * 20_000, "line 1: more than 30 levels"),
        ("\n".join(f"{' ' * depth}SECRET:" for depth in range(300)), "line 31: more than 30 levels"),
    ],
)
def test_invalid_yaml_is_refused_with_its_line_number_and_not_quoted(world: World, text: str, line: str) -> None:
    world.write(world.local, text)
    with pytest.raises(ConfigurationError) as caught:
        world.read(ENV)
    assert str(world.local) in str(caught.value)
    assert line in str(caught.value)
    assert "SECRET" not in str(caught.value)
    # The YAML library's exceptions hold the text they failed on.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "text",
    [
        "okta:\n  client:\n    token: &a SECRET\n    kid: &a SECRET\n",
        "okta:\n  client:\n    <<: {kid: SECRET}\n",
        "%YAML 1.1\n---\nokta: {client: {connectionTimeout: 1e5, kid: SECRET}}\n",
        "a0: &a0 [SECRET]\n"
        + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 99))
        + "okta: {client: {orgUrl: *a98, oktaDomain: *a97}}\n",
        "m0: &m0 {a: 1}\n" + "".join(f"m{i}: &m{i} {{<<: [*m{i - 1}, *m{i - 1}]}}\n" for i in range(1, 99)),
        f"s: &s {'x' * 100_000}\nokta:\n  client:\n    ? [{'*s,' * 30_000}]\n    : SECRET\n",
    ],
    ids=["anchor twice", "merge key", "directive", "nested aliases", "nested merge keys", "a name of aliases"],
)
def test_anchors_merge_keys_and_directives_are_refused_with_the_remedy(
    world: World, text: str, recwarn: pytest.WarningsRecorder
) -> None:
    world.write(world.local, text)
    with pytest.raises(
        ConfigurationError, match=r"line \d+: an anchor .* is not accepted\. Write each value in full"
    ) as caught:
        world.read(ENV)
    assert str(world.local) in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert not recwarn.list, "a warning of the YAML library quotes the file"


def test_a_quoted_string_may_begin_with_any_character(world: World) -> None:
    world.write(world.local, "okta:\n  client:\n    kid: '*&!%'\n    userAgent: '<<'\n    # &a *a !t <<: %\n")
    assert world.read(ENV).client_id == "0oa1"


def test_a_file_that_is_not_utf_8_is_refused_and_not_quoted(world: World) -> None:
    world.write(world.local, "okta: {client: {clientId: SECRET-ü}}".encode("latin-1"))
    with pytest.raises(ConfigurationError, match="UTF-8") as caught:
        world.read(ENV)
    assert caught.value.__context__ is None


def test_the_same_key_twice_is_refused_with_its_line_number(world: World) -> None:
    world.write(world.local, "okta:\n  client:\n    orgUrl: https://a.okta.com\n    orgUrl: https://b.okta.com\n")
    message = world.refused(ENV)
    assert str(world.local) in message
    assert "line 4" in message


@pytest.mark.parametrize("text", ["just text", "- a\n- list", "okta: text", "okta: [a]", "okta: {client: [a]}", "7"])
def test_a_file_without_the_expected_sections_is_refused(world: World, text: str) -> None:
    world.write(world.local, text)
    message = world.refused(ENV)
    assert str(world.local) in message
    assert 'Write "okta:"' in message


@pytest.mark.parametrize(
    "text",
    [
        "client: {orgUrl: x}",
        "orgUrl: x",
        "okta: {orgUrl: x}",
        "Okta: {client: {}}",
        "okta: {Client: {}}",
        "okta: {clients: {}}",
    ],
)
def test_settings_at_the_wrong_level_are_refused(world: World, text: str) -> None:
    world.write(world.local, text)
    message = world.refused(ENV)
    assert f"{world.local} has settings, but not under" in message


def test_a_line_of_a_key_used_as_a_name_is_not_shown(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.write(world.local, json.dumps({"okta": {"client": {SECRET_LINES[0]: "x"}}}))
    world.read(ENV)
    assert str(world.local) in caplog.text
    assert SECRET_LINES[0] not in caplog.text


def test_without_ruamel_yaml_an_existing_file_is_an_error_with_the_pip_command(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)
    assert world.read(ENV).client_id == "0oa1"  # nothing to read, nothing to miss
    world.write(world.local, okta_yaml())
    message = world.refused(ENV)
    assert str(world.local) in message
    assert install_command("yaml") in message
    assert world.read(ENV, files=False).client_id == "0oa1"


def test_importing_the_module_loads_neither_yaml_nor_cryptography() -> None:
    code = "import okta_m2m.settings, sys; print(sorted({'ruamel', 'cryptography', 'joserfc'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@posix_only
def test_a_deleted_working_directory_counts_as_having_no_file() -> None:
    code = (
        "import os, tempfile, okta_m2m.settings as s\n"
        "d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d)\n"
        "try: s.read_settings(environ={}, home='/nonexistent')\n"
        "except s.ConfigurationError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "no org URL" in done.stdout
