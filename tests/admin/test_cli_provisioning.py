"""The command from nothing to a working service app: each command, each failure, and that no call is lost in a rotation.

Invariant: what a user would run is run, in a process of its own, against a FakeOkta over a real socket.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import typer

from command import (
    COMMAND,
    Run,
    assert_one_line,
    environment,
    posix_only,
    run_command,
    run_on_terminal,
    run_without_reader,
)
from command_server import command_with
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.admin.key_files import new_key, write_key
from okta_m2m.cli.exits import Exit
from okta_m2m.requests import OktaAuth
from okta_m2m.testing import App, FakeOkta
from promises import in_matrix

BLOCK = (
    "okta-m2m key new && okta-m2m app create --name billing && okta-m2m app grant okta.users.read okta.groups.read && "
    "okta-m2m doctor && okta-m2m key rotate"
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The working directory and home directory of the command."""
    return tmp_path


@pytest.fixture
def admin(okta: FakeOkta) -> dict[str, str]:
    """The environment of a Super Admin of ``okta``."""
    return {"OKTA_CLIENT_ORGURL": okta.url, "OKTA_CLIENT_TOKEN": okta.ssws}


@pytest.fixture
def run(home: Path, admin: dict[str, str]) -> Run:
    """``run("app", "list", stdin="text", NAME=value)``, signed in unless ``admin_signed_in=False``."""

    def ran(*arguments: str, admin_signed_in: bool = True, **options: str) -> subprocess.CompletedProcess[str]:
        return run_command(home, *arguments, **{**(admin if admin_signed_in else {}), **options})

    return ran


@pytest.fixture
def key_file(home: Path) -> Path:
    write_key(home / "key.json", new_key("ES256"))
    return home / "key.json"


@pytest.fixture
def billing(okta: FakeOkta, key_file: Path, home: Path) -> App:
    """A working service app, for which there is an okta.yaml."""
    app = okta.add_app(PrivateKey.from_file(key_file), ["okta.users.read"], label="billing")
    settings = {
        "orgUrl": okta.url,
        "clientId": app.client_id,
        "privateKey": "key.json",
        "scopes": ["okta.users.read"],
    }
    lines = [f"    {name}: {json.dumps(value)}" for name, value in settings.items()]
    (home / "okta.yaml").write_text("# ours\nokta:\n  client:\n" + "\n".join(lines) + "\n", encoding="utf-8")
    (home / "okta.yaml").chmod(0o600)
    return app


def done(ran: subprocess.CompletedProcess[str]) -> str:
    assert ran.returncode == Exit.OK, ran.stderr
    return ran.stdout


def private_parts(home: Path) -> list[str]:
    return [
        json.loads(path.read_text("utf-8"))["d"]
        for path in home.glob("*.json")
        if "d" in json.loads(path.read_text("utf-8"))
    ]


# ── from nothing to a rotated key ────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def serving(home: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """``demo --serve`` in ``home``, and the two lines that it prints."""
    with subprocess.Popen(
        [*COMMAND, "demo", "--serve", *arguments],
        cwd=home,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, [process.stdout.readline().strip() for _ in range(2)]
        finally:
            process.kill()


def test_the_block_of_commands_works_as_it_stands_on_the_served_stand_in(run: Run, home: Path) -> None:
    with serving(home) as (_, lines):
        found = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        assert set(found) == {"OKTA_CLIENT_ORGURL", "OKTA_CLIENT_TOKEN"}
        shown = ""
        for command in BLOCK.split(" && "):
            extra = ["--grace", "0"] if command.endswith("rotate") else []
            # No variable is set: the okta.yaml that the stand-in has written says where it is.
            ran = run(*shlex.split(command)[1:], *extra, admin_signed_in=False)
            assert ran.returncode == Exit.OK, (command, ran.stderr)
            shown += ran.stdout + ran.stderr
            secrets = [found["OKTA_CLIENT_TOKEN"], *private_parts(home)]
            assert [secret for secret in secrets if secret in shown] == []
        kid = json.loads((home / "okta-m2m-key.json").read_text("utf-8"))["kid"]
        assert f"{kid} is in use" in shown
        (listed,) = json.loads(done(run("key", "list", "--json", admin_signed_in=False)))
        assert (listed["kid"], listed["status"]) == (kid, "ACTIVE")


def test_the_same_through_dynamic_registration(run: Run, okta: FakeOkta, home: Path) -> None:
    document = json.loads(done(run("key", "new", "--alg", "ES256")))
    assert [sorted(jwk) for jwk in document["keys"]] == [["alg", "crv", "kid", "kty", "use", "x", "y"]]
    done(run("app", "create", "--name", "billing", "--via", "clients"))
    assert "/oauth2/v1/clients" in [request.path for request in okta.requests if request.method == "POST"]
    done(run("app", "grant", "okta.users.read", "okta.groups.read"))
    assert "✓ token" in done(run("doctor"))
    done(run("key", "rotate", "--grace", "0"))
    (app,) = okta.apps.values()
    assert app.scopes == ["okta.users.read", "okta.groups.read"]
    (registered,) = app.jwks["keys"]
    assert registered["kid"] == PrivateKey.from_file(home / "okta-m2m-key.json").kid != document["keys"][0]["kid"]


@posix_only
def test_the_stand_in_listens_on_the_given_host_and_removes_its_settings(home: Path) -> None:
    with serving(home, "--host", "0.0.0.0") as (process, lines):
        url = lines[0].partition("=")[2]
        assert url.startswith("http://localhost:")
        token = {"Authorization": f"SSWS {lines[1].partition('=')[2]}"}
        assert requests.get(f"{url}/api/v1/apps", headers=token, timeout=10).json() == []
        settings = (home / "okta.yaml").read_text("utf-8")
        assert url in settings
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == Exit.OK
    assert not (home / "okta.yaml").exists()
    (home / "okta.yaml").write_text("# mine\n", encoding="utf-8")
    with serving(home) as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == Exit.OK
    assert (home / "okta.yaml").read_text("utf-8") == "# mine\n"


@posix_only
@pytest.mark.parametrize("stop", ["SIGHUP", *in_matrix("SIGINT", "SIGTERM")])
def test_settings_that_were_added_to_those_of_the_stand_in_are_kept_but_not_in_the_way(home: Path, stop: str) -> None:
    settings, old = home / "okta.yaml", home / "okta.yaml.stand-in"
    with serving(home) as (process, _):
        with settings.open("a", encoding="utf-8") as file:
            file.write('    clientId: "0oa1b2c3"\n')
        added = settings.read_text("utf-8")
        process.send_signal(getattr(signal, stop))
        assert process.wait(30) == Exit.OK
        assert process.stderr is not None
        assert process.stderr.read().endswith(
            "./okta.yaml was for this stand-in only, and is now ./okta.yaml.stand-in.\n"
        )
    assert not settings.exists()
    assert old.read_text("utf-8") == added


@posix_only
def test_settings_that_name_another_org_by_now_stay(home: Path) -> None:
    with serving(home) as (process, _):
        (home / "okta.yaml").write_text("okta: {client: {orgUrl: 'https://acme.okta.com'}}\n", encoding="utf-8")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == Exit.OK
    assert [path.name for path in home.glob("okta.yaml*")] == ["okta.yaml"]


def test_the_setup_and_rotation_pages_show_what_their_commands_print() -> None:
    path = Path(__file__).parents[2] / "docs" / "make_pictures.py"
    specification = importlib.util.spec_from_file_location("make_pictures", path)
    assert specification is not None
    assert specification.loader is not None
    made = importlib.util.module_from_spec(specification)
    sys.modules["make_pictures"] = made  # dataclasses look their module up
    specification.loader.exec_module(made)
    shown = list(made.run_pages(command_with([])))
    assert len(shown) == 8
    # One text for all of it, so that a kid has to be the same wherever the pages name it.
    assert made.normalize("\n".join(one.on_page for one in shown)) == made.normalize(
        "\n".join(one.printed for one in shown)
    )
    for picture in made.PICTURES.values():
        assert "</svg>" in (made.IMAGES / picture).read_text("utf-8")


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_key_is_its_owners_alone_and_written_over_nothing(run: Run, home: Path) -> None:
    printed = json.loads(done(run("key", "new", "--alg", "ES384", "--kid", "2026", "--jwks-out", "public.json")))
    assert printed == json.loads((home / "public.json").read_text("utf-8"))
    assert {name: printed["keys"][0][name] for name in ("kty", "crv", "kid", "use", "alg")} == {
        "kty": "EC",
        "crv": "P-384",
        "kid": "2026",
        "use": "sig",
        "alg": "ES384",
    }
    path = home / "okta-m2m-key.json"
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    again = run("key", "new")
    assert again.returncode == Exit.CONFIGURATION
    assert_one_line(again.stderr)
    assert path.read_bytes() == before


def test_an_encrypted_pem_is_shown_registered_and_converted(run: Run, okta: FakeOkta, home: Path) -> None:
    (home / "passphrase").write_text("correct horse\n", encoding="utf-8")
    secret = ("--passphrase-file", "passphrase")
    done(run("key", "new", "--alg", "ES256", "--out", "key.pem", "--encrypt", *secret))
    assert "ENCRYPTED" in (home / "key.pem").read_text("utf-8")
    closed = run("key", "show", "key.pem")
    assert closed.returncode == Exit.CONFIGURATION
    assert_one_line(closed.stderr)
    shown = json.loads(done(run("key", "show", "key.pem", "--json", *secret)))
    assert (shown["kid"], shown["strength"], shown["alg"]) == (shown["thumbprint"], "P-256", "ES256")
    done(run("app", "create", "--name", "billing", "--key", "key.pem", *secret))
    (app,) = okta.apps.values()
    assert app.jwks["keys"][0]["kid"] == shown["thumbprint"]
    done(run("key", "convert", "key.pem", "key.json", *secret))
    converted = PrivateKey.from_file(home / "key.json")
    assert (converted.kid, converted.thumbprint()) == (shown["thumbprint"], shown["thumbprint"])
    assert json.loads(done(run("key", "jwks", "key.json"))) == converted.jwks()


def test_keys_are_added_and_taken_away_step_by_step(run: Run, billing: App, key_file: Path, home: Path) -> None:
    old = PrivateKey.from_file(key_file).kid
    new = new_key("ES256", kid="2026")
    write_key(home / "new.json", new)
    assert done(run("key", "add", "new.json")).startswith("active")
    refused = run("key", "delete", "2026")
    assert refused.returncode == Exit.REFUSED
    assert_one_line(refused.stderr)
    assert "active" in refused.stderr
    done(run("key", "deactivate", "2026"))
    assert {key["kid"]: key["status"] for key in billing.jwks["keys"]} == {old: "ACTIVE", "2026": "INACTIVE"}
    done(run("key", "activate", "2026"))
    done(run("key", "deactivate", "2026"))
    done(run("key", "delete", "2026"))
    assert [key["kid"] for key in billing.jwks["keys"]] == [old]
    only = run("key", "deactivate", str(old))
    assert only.returncode == Exit.REFUSED
    assert "only active" in only.stderr


def test_no_kid_of_a_new_key_looks_like_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [PrivateKey.generate() for _ in range(64)]
    while {key.thumbprint().startswith("-") for key in made} != {True, False}:  # it is one key of 64
        made.append(PrivateKey.generate())
    plain, dashed = (
        next(key for key in made if key.thumbprint().startswith("-") is is_dashed) for is_dashed in (False, True)
    )
    keys = iter([dashed, plain])
    monkeypatch.setattr(PrivateKey, "generate", lambda *_, **__: next(keys))
    assert new_key("ES256").kid == plain.thumbprint()


@posix_only
@pytest.mark.parametrize("arguments", [("key", "show", "key.pem"), ("token", "get")])
def test_without_a_terminal_a_locked_key_names_a_way_to_give_the_passphrase(
    run: Run, home: Path, arguments: tuple[str, ...]
) -> None:
    write_key(home / "key.pem", new_key("ES256"), form="pem", password="correct horse")
    settings = {
        "OKTA_CLIENT_PRIVATEKEY": "key.pem",
        "OKTA_CLIENT_CLIENTID": "0oa",
        "OKTA_CLIENT_SCOPES": "okta.users.read",
    }
    closed = run(*arguments, **settings)
    assert closed.returncode == Exit.CONFIGURATION
    assert_one_line(closed.stderr)
    assert "OKTA_CLIENT_PRIVATEKEYPASSPHRASE" in closed.stderr
    # In a variable's name, underscores do not count.
    opened = run(*arguments, OKTA_CLIENT_PRIVATE_KEY_PASSPHRASE="correct horse", **settings)
    assert "passphrase" not in opened.stderr
    assert opened.returncode == (Exit.OK if arguments[0] == "key" else Exit.REFUSED)


@posix_only
def test_what_is_no_regular_file_is_not_waited_for(run: Run, home: Path) -> None:
    os.mkfifo(home / "fifo")
    for path in ("fifo", "/dev/zero"):
        ran = run("key", "show", path)
        assert ran.returncode == Exit.CONFIGURATION
        assert_one_line(ran.stderr)
        assert "not a regular file" in ran.stderr


# ── rotation ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def one_key(app: App, home: Path) -> str:
    """The kid of the one key that there is: in the file, at Okta, and nowhere else."""
    (registered,) = app.jwks["keys"]
    assert (registered["kid"], registered["status"]) == (PrivateKey.from_file(home / "key.json").kid, "ACTIVE")
    assert [path.name for path in home.iterdir() if path.name.startswith("key.json")] == ["key.json"]
    return str(registered["kid"])


def test_no_call_is_lost_while_the_command_rotates_the_key(run: Run, okta: FakeOkta, billing: App, home: Path) -> None:
    okta.token_lifetime = 1.5
    old = PrivateKey.from_file(home / "key.json").kid
    app = ServiceApp(
        okta.url,
        client_id=billing.client_id,
        key=PrivateKey.from_file(home / "key.json"),
        scopes=["okta.users.read"],
        max_wait=20,
    )
    over, failures, calls = threading.Event(), [], [0] * 8

    def call(number: int) -> None:
        with requests.Session() as session:
            session.auth = OktaAuth(app)
            while not over.wait(0.01):
                try:
                    status = session.get(f"{okta.url}/api/v1/users", timeout=20).status_code
                except Exception as error:
                    failures.append(repr(error))
                else:
                    failures.extend([] if status == 200 else [f"HTTP {status}"])
                calls[number] += 1

    threads = [threading.Thread(target=call, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    try:
        ran = run("key", "rotate", "--grace", "2")
        minted = okta.tokens_minted
        while okta.tokens_minted == minted and not failures:  # until a token is obtained after the rotation
            over.wait(0.01)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    steps = re.findall(r"^✓ ([a-z ]+?) {2,}", done(ran), re.MULTILINE)
    assert steps == [
        "make",
        "register",
        "prove",
        "switch",
        "wait",
        "prove again",
        "deactivate",
        "confirm",
        "delete",
    ]
    assert failures == []
    assert okta.refusals == []
    assert min(calls) > 0
    assert one_key(billing, home) != old


def test_a_dry_run_changes_nothing(run: Run, okta: FakeOkta, billing: App, home: Path) -> None:
    before = (home / "key.json").read_bytes()
    result = done(run("key", "rotate", "--dry-run"))
    assert "Nothing was changed." in result
    assert "deactivate" in result
    assert (home / "key.json").read_bytes() == before
    changes = [request.path for request in okta.requests if "/api/v1/apps" in request.path and request.method != "GET"]
    assert [path.rpartition("/")[2] for path in changes] == ["activate"]  # of the active key: may the account do so?
    assert len(billing.jwks["keys"]) == 1


def without_key_setting(home: Path, *added: str) -> None:
    path = home / "okta.yaml"
    lines = [line for line in path.read_text("utf-8").splitlines() if "privateKey:" not in line]
    path.write_text("\n".join([*lines, *(f"    {line}" for line in added)]) + "\n", encoding="utf-8")


@pytest.mark.parametrize("configured", [True, False], ids=["the configured file", "no key configured"])
def test_a_named_key_file_is_not_rotated_where_the_kid_is_set_apart(
    run: Run, billing: App, home: Path, configured: bool
) -> None:
    kid = PrivateKey.from_file(home / "key.json").kid
    without_key_setting(home, f"kid: {kid}", *(["privateKey: ./key.json"] if configured else []))
    for arguments in (("--dry-run",), ("--grace", "0")):
        ran = run("key", "rotate", "--key", "key.json", *arguments)
        assert ran.returncode == Exit.CONFIGURATION
        assert_one_line(ran.stderr)
        assert "kid is set separately" in ran.stderr
    assert [key["kid"] for key in billing.jwks["keys"]] == [kid] == [PrivateKey.from_file(home / "key.json").kid]


@pytest.mark.parametrize("place", ["okta.yaml", "variables"])
def test_a_key_file_of_this_folder_is_rotated_without_a_warning(
    run: Run, okta: FakeOkta, billing: App, home: Path, place: str
) -> None:
    other = new_key("ES256")
    write_key(home / "other.json", other)
    done(run("key", "add", "other.json"))
    # The kid that is set is that key's, and not key.json's.
    (home / "ssws").write_text(okta.ssws, encoding="utf-8")
    (home / "ssws").chmod(0o600)
    variables = {}
    if place == "okta.yaml":
        without_key_setting(home, "privateKey: other.json", "kid: whatever")
    else:
        without_key_setting(home)
        variables = {"OKTA_CLIENT_PRIVATEKEY": "other.json", "OKTA_CLIENT_KID": "whatever"}
    named = ["--key", "key.json", "--token-file", "ssws"]
    ran = run("key", "rotate", *named, "--grace", "0", admin_signed_in=False, **variables)
    assert (done(ran) != "", ran.stderr) == (True, "")
    assert PrivateKey.from_file(home / "key.json").kid in [key["kid"] for key in billing.jwks["keys"]]
    assert PrivateKey.from_file(home / "other.json").kid == other.kid


def test_the_default_key_file_is_rotated_where_no_setting_names_a_key(run: Run, billing: App, home: Path) -> None:
    without_key_setting(home)
    old = PrivateKey.from_file(home / "key.json").kid
    (home / "key.json").rename(home / "okta-m2m-key.json")
    ran = run("key", "rotate", "--grace", "0")
    assert (f"{old} is deleted" in done(ran), ran.stderr) == (True, "")


@posix_only
def test_a_rotation_goes_on_although_what_it_prints_has_no_room(
    billing: App, admin: dict[str, str], home: Path
) -> None:
    old = PrivateKey.from_file(home / "key.json").kid
    ran = into_full(home, "key", "rotate", "--grace", "0", **admin)
    assert ran.returncode == Exit.CONFIGURATION
    assert_one_line(ran.stderr)
    assert one_key(billing, home) != old


@posix_only
def test_ctrl_c_in_mid_rotation_says_where_it_stands_and_the_next_run_ends_it(
    run: Run, billing: App, admin: dict[str, str], home: Path
) -> None:
    old = PrivateKey.from_file(home / "key.json").kid
    with subprocess.Popen(
        [*COMMAND, "key", "rotate", "--grace", "600"],
        cwd=home,
        env=environment(home, PYTHONUNBUFFERED="1", **admin),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("waiting 600 s: until every running process")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED, stderr
    assert_one_line(stderr)
    assert "after the step 'switch'" in stderr
    assert "--abandon" in stderr
    assert PrivateKey.from_file(home / "key.json").kid != old
    assert "it would continue" in done(run("key", "rotate", "--dry-run"))
    done(run("key", "rotate", "--grace", "0"))
    assert one_key(billing, home) != old


@posix_only
def test_a_rotation_that_was_broken_off_can_be_taken_back(run: Run, okta: FakeOkta, billing: App, home: Path) -> None:
    old = PrivateKey.from_file(home / "key.json").kid
    okta.next(503, on="/oauth2/v1/token", times=2)  # the proof of the key in use, before anything is done
    okta.features_off.clear()
    broken = run("key", "rotate", "--grace", "0", OKTA_CLIENT_TOKEN="00expired")
    assert broken.returncode == Exit.NOT_SIGNED_IN
    assert "There was no rotation" in done(run("key", "rotate", "--abandon", "--grace", "0"))
    assert one_key(billing, home) == old


@posix_only
def test_a_rotation_goes_on_although_nobody_reads_what_it_prints(
    billing: App, admin: dict[str, str], home: Path
) -> None:
    old = PrivateKey.from_file(home / "key.json").kid
    ran = run_without_reader(home, "key", "rotate", "--grace", "0", **admin)
    assert (ran.returncode, ran.stderr) == (Exit.READER_GONE, "")
    assert one_key(billing, home) != old


def test_a_key_that_only_a_super_admin_may_change_is_said_to_be_one(
    run: Run, okta: FakeOkta, billing: App, home: Path
) -> None:
    ran = run("key", "rotate", "--grace", "0", OKTA_CLIENT_TOKEN=okta.add_api_token("APP_ADMIN"))
    assert ran.returncode == Exit.ROLE_MISSING
    assert_one_line(ran.stderr)
    assert "Super Admin" in ran.stderr
    assert "is in use" in ran.stderr
    one_key(billing, home)


# ── apps ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_app_of_that_name_is_shown_and_not_made_again(run: Run, okta: FakeOkta, home: Path, key_file: Path) -> None:
    create = ("app", "create", "--name", "billing", "--key", "key.json")
    assert "billing (created)" in done(run(*create))
    before = (home / "okta.yaml").read_bytes()
    assert "billing (already exists)" in done(run(*create))
    assert (home / "okta.yaml").read_bytes() == before
    assert len(okta.apps) == 1

    write_key(home / "other.json", new_key("ES256"))
    other = run("app", "create", "--name", "billing", "--key", "other.json")
    assert other.returncode == Exit.FAILED
    assert_one_line(other.stderr)
    assert "key add" in other.stderr
    assert (home / "okta.yaml").read_bytes() == before

    kept = run("app", "create", "--name", "payroll", "--key", "other.json")
    assert kept.returncode == Exit.CONFIGURATION
    assert "settings of another app" in kept.stderr
    assert len(okta.apps) == 1, "it was refused before anything was created"


def service_gets_a_token(run: Run, **variables: str) -> None:
    done(run("app", "grant", "okta.users.read", **variables))
    assert done(run("token", "get", admin_signed_in=False, OKTA_CLIENT_SCOPES="okta.users.read", **variables))


def test_the_settings_say_the_kid_where_the_key_file_does_not(run: Run, okta: FakeOkta, home: Path) -> None:
    done(run("key", "new", "--alg", "ES256"))
    done(run("app", "create", "--name", "billing", "--kid", "mine"))
    service_gets_a_token(run)
    # The app that is there has the key under that kid, whatever the file says.
    (home / "okta.yaml").unlink()
    done(run("app", "create", "--name", "billing"))
    service_gets_a_token(run)
    # A kid of an earlier key does not stay.
    settings = (home / "okta.yaml").read_text("utf-8")
    (home / "okta.yaml").write_text(settings.replace('kid: "mine"', "privateKeyId: old"), encoding="utf-8")
    done(run("app", "create", "--name", "billing"))
    assert 'privateKeyId: "mine"' in (home / "okta.yaml").read_text("utf-8")
    service_gets_a_token(run)


def test_a_kid_of_an_earlier_key_gives_way_to_the_key_files_own(run: Run, home: Path, key_file: Path) -> None:
    (home / "okta.yaml").write_text("okta:\n  client:\n    kid: old\n", encoding="utf-8")
    (home / "okta.yaml").chmod(0o600)
    done(run("app", "create", "--name", "billing", "--key", "key.json"))
    service_gets_a_token(run)


@pytest.mark.parametrize("configured", [True, False], ids=["configured", "--key"])
def test_an_encrypted_pem_is_rotated_with_its_passphrase(
    run: Run, okta: FakeOkta, home: Path, configured: bool
) -> None:
    secret = ("--passphrase-file", "passphrase")
    (home / "passphrase").write_text("correct horse\n", encoding="utf-8")
    done(run("key", "new", "--alg", "ES256", "--out", "key.pem", "--encrypt", *secret))
    done(run("app", "create", "--name", "billing", "--key", "key.pem", *secret))
    done(run("app", "grant", "okta.users.read"))
    (app,) = okta.apps.values()
    settings = (home / "okta.yaml").read_text("utf-8")
    assert "kid:" not in settings
    if configured:
        settings += '    privateKeyPassphrase: "correct horse"\n'
    else:
        settings = "".join(line for line in settings.splitlines(True) if "privateKey:" not in line)
    (home / "okta.yaml").write_text(settings, encoding="utf-8")
    arguments = () if configured else ("--key", "key.pem", *secret)
    (old,) = app.jwks["keys"]
    if not configured:
        refused = run("key", "rotate", "--key", "key.pem", "--grace", "0")
        assert refused.returncode == Exit.CONFIGURATION
        assert_one_line(refused.stderr)
        assert "is encrypted, and no passphrase was given" in refused.stderr
    apart = run("key", "rotate", "--grace", "0", *arguments, OKTA_CLIENT_KID="1")
    assert "The kid is set separately from the key (environment variable OKTA_CLIENT_KID)" in apart.stderr
    assert done(run("key", "rotate", "--grace", "0", *arguments)).endswith(f"{old['kid']} is deleted.\n")
    (new,) = app.jwks["keys"]
    key = PrivateKey.from_file(home / "key.pem", password="correct horse")
    assert (key.kid, key.thumbprint()) == (new["kid"], new["kid"])
    assert new["kid"] != old["kid"]
    assert "BEGIN ENCRYPTED PRIVATE KEY" in (home / "key.pem").read_text("utf-8")
    assert sorted(path.name for path in home.iterdir()) == ["key.pem", "okta.yaml", "passphrase"]


def test_a_pem_without_a_kid_is_rotated_when_it_has_got_the_line_that_the_command_names(
    run: Run, okta: FakeOkta, home: Path
) -> None:
    path = home / "key.pem"
    write_key(path, new_key("ES256").with_kid(None), form="pem")
    done(run("app", "create", "--name", "billing", "--key", "key.pem"))
    done(run("app", "grant", "okta.users.read"))
    apart = run("key", "rotate", "--grace", "0")
    assert "The kid is set separately from the key" in apart.stderr
    settings = home / "okta.yaml"
    lines = settings.read_text("utf-8").splitlines(True)
    settings.write_text("".join(line for line in lines if "kid:" not in line), encoding="utf-8")
    refused = run("key", "rotate", "--grace", "0")
    assert refused.returncode == Exit.CONFIGURATION
    assert_one_line(refused.stderr)
    line = re.search(r"this line at the top of the file: (kid: \S+)", refused.stderr)
    assert line is not None
    path.write_text(f"{line[1]}\n{path.read_text('utf-8')}", encoding="utf-8")
    done(run("key", "rotate", "--grace", "0"))
    (app,) = okta.apps.values()
    (registered,) = app.jwks["keys"]
    assert registered["kid"] == PrivateKey.from_file(path).kid
    service_gets_a_token(run)


@pytest.mark.parametrize("env", [False, True], ids=["okta.yaml", "--env"])
def test_a_pem_works_still_when_there_is_a_second_key(run: Run, okta: FakeOkta, home: Path, env: bool) -> None:
    write_key(home / "service.pem", new_key("ES256").with_kid(None), form="pem")  # as openssl writes it
    printed = done(run("app", "create", "--name", "billing", "--key", "service.pem", *(["--env"] if env else [])))
    lines = [line for line in printed.splitlines() if line.startswith("export ")]
    variables = dict(shlex.split(line)[1].split("=", 1) for line in lines)
    write_key(home / "second.json", new_key("ES256"))
    ran = run("key", "add", "second.json", **variables)
    assert (done(ran) != "", ran.stderr) == (True, "")
    service_gets_a_token(run, **variables)


def test_adding_a_key_says_where_its_kid_has_to_be_set(run: Run, billing: App, home: Path) -> None:
    write_key(home / "second.pem", new_key("ES256").with_kid(None), form="pem")
    write_key(home / "third.json", new_key("ES256"))
    for arguments in (("second.pem",), ("third.json", "--kid", "3")):
        ran = run("key", "add", *arguments)
        kid = done(ran).split()[-1]
        assert f"OKTA_CLIENT_KID to {kid}" in ran.stderr
    assert kid == "3"


def test_settings_that_cannot_be_written_are_refused_before_anything_is_created(
    run: Run, okta: FakeOkta, home: Path, key_file: Path
) -> None:
    ran = run("app", "create", "--name", "billing", "--key", "key.json", "--write", "nowhere/okta.yaml")
    assert ran.returncode == Exit.CONFIGURATION
    assert_one_line(ran.stderr)
    assert "Nothing was created" in ran.stderr
    assert okta.apps == {}


@posix_only
def test_a_line_that_is_changed_keeps_its_comment_and_a_symlink_stays_one(run: Run, billing: App, home: Path) -> None:
    (home / "shared").mkdir()
    (home / "okta.yaml").rename(home / "shared" / "settings.yaml")
    (home / "okta.yaml").symlink_to(Path("shared") / "settings.yaml")
    path = home / "shared" / "settings.yaml"
    text = path.read_text("utf-8").replace("key.json", str(home / "key.json"))
    path.write_text(text.replace('["okta.users.read"]', '["okta.users.read"]  # why: "#7" # 8'), encoding="utf-8")
    done(run("app", "grant", "okta.groups.read"))
    assert (home / "okta.yaml").is_symlink()
    assert '    scopes: ["okta.users.read", "okta.groups.read"] # why: "#7" # 8\n' in path.read_text("utf-8")


def test_settings_are_printed_for_a_shell_instead(run: Run, okta: FakeOkta, home: Path, key_file: Path) -> None:
    printed = done(run("app", "create", "--name", "billing", "--key", "key.json", "--env", "--dpop"))
    variables = dict(shlex.split(line)[1].split("=", 1) for line in printed.splitlines())
    (app,) = okta.apps.values()
    assert app.dpop_bound
    assert variables == {
        "OKTA_CLIENT_ORGURL": okta.url,
        "OKTA_CLIENT_AUTHORIZATIONMODE": "PrivateKey",
        "OKTA_CLIENT_CLIENTID": app.client_id,
        "OKTA_CLIENT_PRIVATEKEY": "key.json",
    }
    assert not (home / "okta.yaml").exists()


def test_scopes_and_roles_are_granted_once_and_the_settings_follow(
    run: Run, okta: FakeOkta, billing: App, home: Path
) -> None:
    granted = done(run("app", "grant", "okta.users.read", "okta.groups.read,okta.logs.read"))
    assert [line.split() for line in granted.splitlines()] == [
        ["present", "okta.users.read"],
        ["granted", "okta.groups.read"],
        ["granted", "okta.logs.read"],
    ]
    settings = (home / "okta.yaml").read_text("utf-8")
    assert '    scopes: ["okta.users.read", "okta.groups.read", "okta.logs.read"]\n' in settings
    assert settings.startswith("# ours\n")
    assert done(run("app", "revoke-grant", "okta.logs.read")).split() == ["revoked", "okta.logs.read"]
    assert "okta.logs.read" not in (home / "okta.yaml").read_text("utf-8")

    billing.roles = []
    assert done(run("app", "role", "add", "USER_ADMIN")).split() == ["assigned", "USER_ADMIN"]
    assert done(run("app", "role", "add", "USER_ADMIN")).split() == ["present", "USER_ADMIN"]
    custom = ("--role", "cr0123456789", "--resource-set", "iam123456789")
    done(run("app", "role", "add", *custom))
    roles = json.loads(done(run("app", "role", "list", "--json")))
    assert [role["type"] for role in roles] == ["USER_ADMIN", "CUSTOM"]

    shown = json.loads(done(run("app", "show", "billing", "--json")))
    assert shown["scopes"] == ["okta.users.read", "okta.groups.read"]
    assert shown["roles"] == ["USER_ADMIN", "cr0123456789/iam123456789"]
    assert [app["name"] for app in json.loads(done(run("app", "list", "--json")))] == ["billing"]
    assert "billing" in done(run("app", "list", "--via", "clients"))


def test_it_signs_in_as_another_service_app(run: Run, okta: FakeOkta, home: Path, key_file: Path) -> None:
    folder = home / "onboarding"
    folder.mkdir()
    write_key(folder / "admin.json", new_key("ES256"))
    scopes = ["okta.apps.manage", "okta.appGrants.manage"]
    onboarding = okta.add_app(PrivateKey.from_file(folder / "admin.json"), scopes, label="onboarding")
    onboarding.roles = ["SUPER_ADMIN"]
    settings = {"orgUrl": okta.url, "clientId": onboarding.client_id, "privateKey": "admin.json", "scopes": scopes}
    (folder / "okta.yaml").write_text(json.dumps({"okta": {"client": settings}}), encoding="utf-8")
    (folder / "okta.yaml").chmod(0o600)
    sign_in = ("--as", "onboarding")
    done(run("app", "create", "--name", "billing", "--key", "key.json", *sign_in, admin_signed_in=False))
    done(run("app", "grant", "okta.users.read", *sign_in, admin_signed_in=False))
    assert [app.scopes for app in okta.apps.values()][1:] == [["okta.users.read"]]


@posix_only
def test_on_a_terminal_the_token_is_prompted_for_unseen_and_grants_have_a_progress_bar(
    okta: FakeOkta, billing: App, home: Path
) -> None:
    shown = run_on_terminal(home, "app", "grant", "okta.groups.read", "okta.logs.read", typed=okta.ssws)
    assert shown.returncode == Exit.OK, shown.output
    assert f"SSWS token for {okta.url}" in shown.output
    assert okta.ssws not in shown.output
    assert re.search("granting.*0/2.*1/2.*2/2", shown.output, re.DOTALL)
    assert billing.scopes == ["okta.users.read", "okta.groups.read", "okta.logs.read"]


# ── doctor ───────────────────────────────────────────────────────────────────────────────────────────────────────────

ROWS = [
    "configuration",
    "org URL",
    "key",
    "name look-up",
    "proxy",
    "TCP",
    "TLS",
    "discovery",
    "clock",
    "token",
    "scopes",
]
ROWS += ["rate limit", "API call"]
Fault = Callable[[FakeOkta, App, dict[str, str]], object]


def test_the_doctor_shows_a_row_for_everything_and_ends_well(run: Run, billing: App) -> None:
    call = ("--call", "/api/v1/users?limit=1")
    short = done(run("doctor", *call, admin_signed_in=False, COLUMNS="400"))
    assert [line.split()[:2] for line in short.splitlines()] == [
        ["✓", "settings"],
        ["✓", "connection"],
        ["✓", "token"],
        ["✓", "API"],
    ]
    shown = done(run("doctor", "-v", *call, admin_signed_in=False, COLUMNS="200"))
    assert re.findall(r"^[✓!✗·] (.{14})", shown, re.MULTILINE) == [f"{name:<14}" for name in ROWS]
    assert "✗" not in shown
    result = json.loads(done(run("doctor", "--json", "--offline", admin_signed_in=False)))
    assert (result["ok"], result["exit_code"]) == (True, 0)
    assert [check["name"] for check in result["checks"]] == ROWS
    assert [check["name"] for check in result["checks"] if check["state"] == "ok"] == [
        "configuration",
        "org URL",
        "key",
    ]


FAULTS: list[tuple[str, Fault, Exit]] = [
    ("configuration", lambda okta, app, env: env.update(OKTA_CLIENT_CLIENTID="{id}"), Exit.CONFIGURATION),
    ("org URL", lambda okta, app, env: env.update(OKTA_CLIENT_ORGURL="http://acme.okta.com"), Exit.CONFIGURATION),
    ("key", lambda okta, app, env: env.update(OKTA_CLIENT_PRIVATEKEY="gone.pem"), Exit.CONFIGURATION),
    ("name look-up", lambda okta, app, env: env.update(OKTA_CLIENT_ORGURL="https://no.invalid"), Exit.UNREACHABLE),
    (
        "proxy",
        lambda okta, app, env: env.update(OKTA_CLIENT_ORGURL="https://no.invalid", HTTPS_PROXY="http://127.0.0.1:9"),
        Exit.UNREACHABLE,
    ),
    ("TCP", lambda okta, app, env: okta.stop(), Exit.UNREACHABLE),
    ("discovery", lambda okta, app, env: okta.next(404, html=True, on="/.well-known/*"), Exit.UNREACHABLE),
    ("clock", lambda okta, app, env: okta.skew(minutes=20), Exit.CLOCK),
    ("token", lambda okta, app, env: setattr(app, "jwks", new_key("ES256")), Exit.REFUSED),
    (
        "scopes",
        lambda okta, app, env: env.update(OKTA_CLIENT_SCOPES="okta.users.read,okta.logs.read"),
        Exit.SCOPE_MISSING,
    ),
    ("rate limit", lambda okta, app, env: okta.next(429, reset=600, times=9), Exit.RATE_LIMITED),
    ("API call", lambda okta, app, env: setattr(app, "roles", []), Exit.ROLE_MISSING),
]


@pytest.mark.parametrize(("row", "fault", "code"), FAULTS, ids=[row for row, _, _ in FAULTS])
def test_each_row_of_the_doctor_is_shown_to_fail_with_a_remedy_and_an_exit_code(
    run: Run, okta: FakeOkta, billing: App, row: str, fault: Fault, code: Exit
) -> None:
    variables: dict[str, str] = {}
    fault(okta, billing, variables)
    ran = run("doctor", "--max-wait", "1", "--call", "/api/v1/users", admin_signed_in=False, COLUMNS="300", **variables)
    assert ran.returncode == code, ran.stdout
    assert re.search(rf"^✗ {row} .*\n +→ \S", ran.stdout, re.MULTILINE), ran.stdout
    assert ran.stdout.count("not possible after the failure above") <= 1
    assert ran.stderr == ""


# ── tokens and assertions ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_token_is_looked_at_and_revoked_without_being_an_argument(run: Run, okta: FakeOkta, billing: App) -> None:
    token = done(run("token", "get", admin_signed_in=False))
    said = json.loads(done(run("token", "introspect", "--json", stdin=token, admin_signed_in=False)))
    assert (said["active"], said["scope"]) == (True, "okta.users.read")
    done(run("token", "revoke", stdin=token, admin_signed_in=False))
    gone = run("token", "introspect", stdin=token, admin_signed_in=False)
    assert gone.returncode == Exit.FAILED
    assert gone.stdout.split() == ["active", "false"]
    empty = run("token", "revoke", stdin="", admin_signed_in=False)
    assert empty.returncode == Exit.CONFIGURATION
    assert_one_line(empty.stderr)


def test_an_assertion_opens_the_token_endpoint_as_it_is_piped(run: Run, okta: FakeOkta, billing: App) -> None:
    ran = run("assertion", admin_signed_in=False)
    form = {
        "grant_type": "client_credentials",
        "scope": "okta.users.read",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": done(ran),
    }
    assert requests.post(f"{okta.url}/oauth2/v1/token", data=form, timeout=10).json()["token_type"] == "Bearer"
    result = json.loads(done(run("assertion", "--json", "--endpoint", "revoke", admin_signed_in=False)))
    assert result["claims"]["aud"] == f"{okta.url}/oauth2/v1/revoke"
    assert result["claims"]["iss"] == result["claims"]["sub"] == billing.client_id
    assert result["header"]["kid"] == billing.jwks["keys"][0]["kid"]


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────────────────────

TROUBLES: list[tuple[tuple[str, ...], Fault, Exit, str]] = [
    (("key", "show", "gone.json"), lambda okta, app, env: None, Exit.CONFIGURATION, "gone.json"),
    (("key", "jwks", "okta.yaml"), lambda okta, app, env: None, Exit.CONFIGURATION, "okta.yaml"),
    (("app", "list", "--token-file", "gone"), lambda okta, app, env: None, Exit.CONFIGURATION, "gone"),
    (("app", "list"), lambda okta, app, env: env.update(OKTA_CLIENT_TOKEN=""), Exit.CONFIGURATION, "--token-file"),
    (("app", "list"), lambda okta, app, env: env.update(OKTA_CLIENT_ORGURL="acme"), Exit.CONFIGURATION, "org URL"),
    (("app", "show", "nobody"), lambda okta, app, env: None, Exit.REFUSED, "app list"),
    (("key", "delete", "nothing"), lambda okta, app, env: None, Exit.REFUSED, "key list"),
    (("app", "grant", "api:read"), lambda okta, app, env: None, Exit.CONFIGURATION, "api:read"),
    (("app", "role", "add", "KING"), lambda okta, app, env: None, Exit.CONFIGURATION, "READ_ONLY_ADMIN"),
    (("app", "list"), lambda okta, app, env: env.update(OKTA_CLIENT_TOKEN="00old"), Exit.NOT_SIGNED_IN, "expired"),
    (
        ("app", "grant", "okta.logs.read"),
        lambda okta, app, env: env.update(OKTA_CLIENT_TOKEN=okta.add_api_token("APP_ADMIN")),
        Exit.ROLE_MISSING,
        "Super",
    ),
    (("app", "list", "--as", "self"), lambda okta, app, env: None, Exit.SCOPE_MISSING, "okta.apps.read"),
    (
        ("app", "list", "--max-wait", "5"),
        lambda okta, app, env: okta.next(429, on="/api/v1/apps", reset=600),
        Exit.RATE_LIMITED,
        "Try again in",
    ),
    (
        ("app", "list"),
        lambda okta, app, env: env.update(OKTA_CLIENT_ORGURL="http://127.0.0.1:9"),
        Exit.UNREACHABLE,
        "no response",
    ),
    (("app", "list"), lambda okta, app, env: okta.next(404, html=True, on="/api/v1/apps"), Exit.REFUSED, "org URL"),
    (("key", "rotate"), lambda okta, app, env: env.update(OKTA_CLIENT_KID="1"), Exit.CONFIGURATION, "a line kid: ..."),
    (("key", "rotate"), lambda okta, app, env: setattr(app, "jwks", new_key("ES256")), Exit.CONFIGURATION, "key add"),
    (("demo", "--serve", "--host", "192.0.2.1"), lambda okta, app, env: None, Exit.CONFIGURATION, "--host"),
]


@pytest.mark.parametrize(
    ("arguments", "fault", "code", "said"), TROUBLES, ids=[f"{' '.join(a)}-{c.name}" for a, _, c, _ in TROUBLES]
)
def test_what_goes_wrong_is_one_line_and_an_exit_code(
    run: Run, okta: FakeOkta, billing: App, arguments: tuple[str, ...], fault: Fault, code: Exit, said: str
) -> None:
    variables: dict[str, str] = {}
    fault(okta, billing, variables)
    ran = run(*arguments, **variables)
    last = "".join(line for line in ran.stderr.splitlines(keepends=True) if not line.startswith("waiting"))
    assert (ran.returncode, ran.stdout) == (code, ""), last
    assert_one_line(last)
    assert said in last


def into_full(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command with its output on a device that has no room."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "wb") as full:
        return run_command(home, *arguments, stdout=full, **variables)


@pytest.mark.parametrize(
    "arguments", [("key", "show", "key.json"), ("app", "list"), ("doctor",), ("token", "get", "--show"), ("--version",)]
)
def test_output_that_has_no_room_is_one_line(
    billing: App, admin: dict[str, str], home: Path, arguments: tuple[str, ...]
) -> None:
    ran = into_full(home, *arguments, **admin)
    assert ran.returncode == Exit.CONFIGURATION
    assert_one_line(ran.stderr)
    assert "output cannot be written (No space left on device)" in ran.stderr


def test_a_name_that_the_encoding_cannot_hold_is_shown_all_the_same(run: Run, okta: FakeOkta) -> None:
    okta.add_app(label="Błażej")
    assert "B\\u0142a\\u017cej" in done(run("app", "list", PYTHONIOENCODING="cp1252"))


@posix_only
@pytest.mark.parametrize(
    ("closed", "arguments", "code"),
    [
        ("2>&-", ("key", "new"), Exit.OK),
        ("2>/dev/full", ("key", "show", "gone"), Exit.CONFIGURATION),
        (">&-", ("app", "list"), Exit.OK),
        ("<&-", ("token", "introspect"), Exit.CONFIGURATION),
        ("</dev/binary", ("app", "list", "--token-file", "-"), Exit.CONFIGURATION),
        *in_matrix(
            ("2>&-", ("key", "show", "gone"), Exit.CONFIGURATION),
            ("<&-", ("app", "list", "--token-file", "-"), Exit.CONFIGURATION),
            ("</dev/binary", ("token", "introspect"), Exit.CONFIGURATION),
        ),
    ],
)
@pytest.mark.parametrize("locale", [*in_matrix({}), {"LC_ALL": "C", "PYTHONIOENCODING": ""}], ids=["utf-8", "C"])
def test_closed_and_binary_streams_are_answered(
    billing: App,
    admin: dict[str, str],
    home: Path,
    closed: str,
    arguments: tuple[str, ...],
    code: Exit,
    locale: dict[str, str],
) -> None:
    if "/dev/full" in closed and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    (home / "binary").write_bytes(bytes(range(128, 256)))
    ran = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed.replace("/dev/binary", "binary")}', "sh", *COMMAND, *arguments],
        cwd=home,
        env=environment(home, **{**admin, **locale}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == code, ran.stderr
    if arguments == ("key", "new"):
        assert json.loads(ran.stdout)["keys"]
    elif code is not Exit.OK and not closed.startswith("2"):
        assert_one_line(ran.stderr)
        assert "stdin" in ran.stderr


@posix_only
@pytest.mark.parametrize("left", [{"interrupted": ": "}, {"typed": "\x04"}], ids=["Ctrl-C", "Ctrl-D"])
@pytest.mark.parametrize("arguments", [("key", "show", "locked.pem"), ("app", "list")])
def test_a_prompt_that_is_left_ends_as_an_interruption(
    billing: App, home: Path, arguments: tuple[str, ...], left: dict[str, str]
) -> None:
    write_key(home / "locked.pem", new_key("ES256"), form="pem", password="correct horse")
    shown = run_on_terminal(home, *arguments, **left)
    assert shown.returncode == Exit.INTERRUPTED
    assert shown.output.endswith("okta-m2m: interrupted\r\n")


def test_a_rate_limit_is_waited_for_and_the_wait_is_shown(run: Run, okta: FakeOkta, billing: App) -> None:
    okta.next(429, on="/api/v1/apps", reset=1)
    ran = run("app", "list")
    assert "billing" in done(ran)
    assert re.fullmatch(r"waiting[ \d]*s?: Okta's rate limit\n", ran.stderr)


@posix_only
def test_a_reader_that_goes_away_ends_a_list_without_a_word(billing: App, admin: dict[str, str], home: Path) -> None:
    ran = run_without_reader(home, "app", "list", **admin)
    assert (ran.returncode, ran.stderr) == (Exit.READER_GONE, "")


def test_no_option_takes_a_secret() -> None:
    from okta_m2m.cli.commands import app

    def options(command: Any) -> Iterator[Any]:
        yield from command.params
        for inner in getattr(command, "commands", {}).values():
            yield from options(inner)

    secret = re.compile("token|pass|secret|ssws|private")
    found = [o for o in options(typer.main.get_command(app)) if secret.search(" ".join([*o.opts, str(o.name)]))]
    assert len(found) > 10
    assert [option.name for option in found if option.metavar != "FILE"] == []
