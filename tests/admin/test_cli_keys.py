"""``okta-m2m key``: keys are created, registered and rotated, and no call is lost in a rotation.

Invariant: what a user would run is run, in a process of its own, against a FakeOkta over a real socket.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import stat
import subprocess
import threading
from pathlib import Path

import pytest
import requests

from command import (
    COMMAND,
    Run,
    assert_one_line,
    done,
    environment,
    into_full,
    posix_only,
    run_without_reader,
    service_gets_a_token,
)
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.admin.errors import RotationFailed
from okta_m2m.admin.key_files import new_key, write_key
from okta_m2m.cli.exits import Exit
from okta_m2m.cli.rotate import _run_command
from okta_m2m.requests import OktaAuth
from okta_m2m.testing import App, FakeOkta

# ── create, show, convert, register ──────────────────────────────────────────────────────────────────────────────────


def test_a_new_key_is_private_and_overwrites_nothing(run: Run, home: Path) -> None:
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


def test_keys_are_added_deactivated_and_deleted(run: Run, billing: App, key_file: Path, home: Path) -> None:
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
    only = run("key", "deactivate", str(old), "--yes")
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
def test_without_a_terminal_the_error_for_an_encrypted_key_says_where_to_put_the_passphrase(
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
def test_a_key_file_that_is_not_a_regular_file_is_refused_at_once(run: Run, home: Path) -> None:
    os.mkfifo(home / "fifo")
    for path in ("fifo", "/dev/zero"):
        ran = run("key", "show", path)
        assert ran.returncode == Exit.CONFIGURATION
        assert_one_line(ran.stderr)
        assert "not a regular file" in ran.stderr


@posix_only
def test_a_passphrase_file_that_never_ends_is_read_up_to_a_limit(run: Run, home: Path) -> None:
    (home / "passphrase").write_text("correct horse\n", encoding="utf-8")
    done(run("key", "new", "--alg", "ES256", "--out", "key.pem", "--encrypt", "--passphrase-file", "passphrase"))
    ran = run("key", "show", "key.pem", "--passphrase-file", "/dev/zero")
    assert ran.returncode == Exit.CONFIGURATION
    assert_one_line(ran.stderr)


@pytest.mark.parametrize("env", [False, True], ids=["okta.yaml", "--env"])
def test_a_pem_still_works_after_a_second_key_is_registered(run: Run, okta: FakeOkta, home: Path, env: bool) -> None:
    write_key(home / "service.pem", new_key("ES256").with_kid(None), form="pem")  # as openssl writes it
    printed = done(run("app", "create", "--name", "billing", "--key", "service.pem", *(["--env"] if env else [])))
    lines = [line for line in printed.splitlines() if line.startswith("export ")]
    variables = dict(shlex.split(line)[1].split("=", 1) for line in lines)
    write_key(home / "second.json", new_key("ES256"))
    ran = run("key", "add", "second.json", **variables)
    assert (done(ran) != "", ran.stderr) == (True, "")
    service_gets_a_token(run, **variables)


def test_key_add_says_where_to_set_the_kid(run: Run, billing: App, home: Path) -> None:
    write_key(home / "second.pem", new_key("ES256").with_kid(None), form="pem")
    write_key(home / "third.json", new_key("ES256"))
    for arguments in (("second.pem",), ("third.json", "--kid", "3")):
        ran = run("key", "add", *arguments)
        kid = done(ran).split()[-1]
        assert f"OKTA_CLIENT_KID to {kid}" in ran.stderr
    assert kid == "3"


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
    # A look at the permission, with an object that can never be a key
    sent = [request for request in okta.requests if "/api/v1/apps" in request.path and request.method != "GET"]
    assert [request.body for request in sent] == [b"{}"]
    assert len(billing.jwks["keys"]) == 1
    refused = run("key", "rotate", "--dry-run", "--alg", "rs256", "--bits", "1000")
    assert refused.returncode == Exit.CONFIGURATION
    assert "1000" in refused.stderr


def test_a_key_that_is_young_enough_is_not_replaced(run: Run, okta: FakeOkta, billing: App, home: Path) -> None:
    key = PrivateKey.from_file(home / "key.json")
    okta.skew(minutes=89 * 24 * 60)
    young = done(run("key", "rotate", "--if-older-than", "90d", "--grace", "0"))
    assert young == "Nothing was done: the key is 89 days old, and is replaced after 90.\n"
    assert json.loads(done(run("key", "rotate", "--if-older-than", "90d", "--json"))) == {
        "age_days": 89,
        "if_older_than": 90,
    }
    assert one_key(billing, home) == key.kid
    okta.skew(minutes=90 * 24 * 60)
    assert "Nothing was changed." in done(run("key", "rotate", "--if-older-than", "90d", "--dry-run"))
    done(run("key", "rotate", "--if-older-than", "90d", "--grace", "0"))
    assert one_key(billing, home) != key.kid


@posix_only
def test_a_command_publishes_the_key_file_and_the_old_key_goes_only_if_it_succeeds(
    run: Run, billing: App, home: Path
) -> None:
    old = PrivateKey.from_file(home / "key.json").kid
    copy = 'echo from \x1b[31m "$(basename "$OKTA_M2M_KEY_FILE")"; cp "$OKTA_M2M_KEY_FILE" copy.json'
    failed = run("key", "rotate", "--grace", "0", "--exec", f"{copy}; exit 3")
    assert failed.returncode == Exit.CONFIGURATION
    assert "from \ufffd[31m key.json\n" in failed.stderr
    assert f"'publish'. The old key '{old}' is in use. The command of --exec ended with 3." in failed.stderr
    assert copy not in failed.stderr
    assert PrivateKey.from_file(home / "key.json").kid == old
    assert [key["status"] for key in billing.jwks["keys"]] == ["ACTIVE", "ACTIVE"]
    refused = run("key", "rotate", "--grace", "0")
    assert "Name the same command again (--exec" in refused.stderr
    rotated = json.loads(done(run("key", "rotate", "--grace", "0", "--exec", copy, "--json")))
    assert rotated["steps"][4] == {
        "step": "publish",
        "state": "done",
        "detail": f"{home / 'key.json'} was handed over",
    }
    assert PrivateKey.from_file(home / "copy.json").kid == one_key(billing, home) == rotated["new_kid"]


def without_key_setting(home: Path, *added: str) -> None:
    path = home / "okta.yaml"
    lines = [line for line in path.read_text("utf-8").splitlines() if "privateKey:" not in line]
    path.write_text("\n".join([*lines, *(f"    {line}" for line in added)]) + "\n", encoding="utf-8")


@pytest.mark.parametrize("configured", [True, False], ids=["the configured file", "no key configured"])
def test_a_named_key_file_is_not_rotated_if_its_kid_is_set_separately(
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
def test_another_key_file_in_this_folder_is_rotated_without_a_warning(
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


def test_the_default_key_file_is_rotated_if_no_setting_names_a_key(run: Run, billing: App, home: Path) -> None:
    without_key_setting(home)
    old = PrivateKey.from_file(home / "key.json").kid
    (home / "key.json").rename(home / "okta-m2m-key.json")
    ran = run("key", "rotate", "--grace", "0")
    assert (f"{old} is deleted" in done(ran), ran.stderr) == (True, "")


def test_an_algorithm_is_accepted_in_lower_case(run: Run, okta: FakeOkta, billing: App, home: Path) -> None:
    assert json.loads(done(run("key", "new", "--alg", "rs256", "--out", "a.json", "--json")))["alg"] == "RS256"
    assert json.loads(done(run("key", "new", "--alg", "es384", "--out", "b.json", "--json")))["alg"] == "ES384"
    done(run("key", "rotate", "--grace", "0", "--alg", "es384"))
    assert PrivateKey.from_file(home / "key.json").alg == "ES384"


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
        assert "No passphrase was given for key.pem." in refused.stderr
    apart = run("key", "rotate", "--grace", "0", *arguments, OKTA_CLIENT_KID="1")
    assert "The kid is set separately from the key (environment variable OKTA_CLIENT_KID)" in apart.stderr
    assert done(run("key", "rotate", "--grace", "0", *arguments)).endswith(f"{old['kid']} is deleted.\n")
    (new,) = app.jwks["keys"]
    key = PrivateKey.from_file(home / "key.pem", password="correct horse")
    assert (key.kid, key.thumbprint()) == (new["kid"], new["kid"])
    assert new["kid"] != old["kid"]
    assert "BEGIN ENCRYPTED PRIVATE KEY" in (home / "key.pem").read_text("utf-8")
    assert sorted(path.name for path in home.iterdir()) == [".okta", "key.pem", "okta.yaml", "passphrase"]


@pytest.mark.parametrize("name", ["plain.pem", "plain.json"])
def test_the_key_of_a_new_app_can_be_rotated_although_its_file_had_no_kid(
    run: Run, okta: FakeOkta, home: Path, name: str
) -> None:
    path = home / name
    write_key(path, new_key("ES256").with_kid(None), form="pem" if name.endswith("pem") else "jwk")
    before = path.read_text("utf-8")
    created = run("app", "create", "--name", "billing", "--key", name)
    kid = PrivateKey.from_file(path).kid
    assert kid is not None
    assert f"The kid {kid} was written into {name}" in created.stderr
    assert "kid:" not in (home / "okta.yaml").read_text("utf-8")
    if name.endswith("pem"):
        assert path.read_text("utf-8") == f"kid: {kid}\n{before}"
    done(run("app", "grant", "okta.users.read"))
    done(run("key", "rotate", "--grace", "0"))
    (app,) = okta.apps.values()
    assert [key["kid"] for key in app.jwks["keys"]] == [PrivateKey.from_file(path).kid] != [kid]


@posix_only
def test_a_key_file_that_cannot_be_changed_gets_its_kid_from_the_settings(run: Run, okta: FakeOkta, home: Path) -> None:
    folder = home / "keys"
    folder.mkdir()
    write_key(folder / "key.pem", new_key("ES256").with_kid(None), form="pem")
    before = (folder / "key.pem").read_bytes()
    if os.geteuid() == 0:
        os.chown(folder, 54321, -1)  # root changes no file where another user could lead it elsewhere
    else:
        folder.chmod(0o500)
    created = run("app", "create", "--name", "billing", "--key", "keys/key.pem")
    folder.chmod(0o700)
    assert created.returncode == Exit.OK, created.stderr
    assert "The kid is a setting, because it could not be written into the key file" in created.stderr
    assert (folder / "key.pem").read_bytes() == before
    assert "kid:" in (home / "okta.yaml").read_text("utf-8")
    service_gets_a_token(run)


def test_a_pem_without_a_kid_is_rotated_after_the_suggested_line_is_added(run: Run, okta: FakeOkta, home: Path) -> None:
    path = home / "key.pem"
    key = new_key("ES256")
    write_key(path, key.with_kid(None), form="pem")
    done(run("app", "create", "--name", "billing", "--key", "key.pem"))
    done(run("app", "grant", "okta.users.read"))
    # As an earlier version wrote them, or someone by hand.
    path.unlink()
    write_key(path, key.with_kid(None), form="pem")
    with (home / "okta.yaml").open("a", encoding="utf-8") as file:
        file.write(f'    kid: "{key.kid}"\n')
    done(run("trust", "."))
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


@posix_only
def test_a_failed_command_shows_no_secret_to_a_crash_reporter(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OKTA_CLIENT_TOKEN", "00secret-of-the-admin")
    with pytest.raises(RotationFailed) as caught:
        _run_command("exit 3", home / "key.json")
    shown = [entry.frame.f_locals for entry in caught.traceback if "okta_m2m" in str(entry.path)]
    assert shown
    assert "00secret-of-the-admin" not in repr(shown)


@posix_only
def test_the_commands_of_the_way_by_hand_replace_the_key(run: Run, okta: FakeOkta, billing: App, home: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "rotation.md").read_text("utf-8")
    blocks = re.findall(r"^   ```sh\n(.*?)^   ```$", page.partition("## By hand")[2], re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    assert len(lines) == 7
    old = PrivateKey.from_file(home / "key.json").kid
    for line in lines:
        words = line.replace("okta-m2m-key.json", "key.json").replace("OLD", str(old)).split()
        if words[0] == "mv":
            (home / words[1]).replace(home / words[2])
            continue
        variables = dict(word.split("=", 1) for word in words[: words.index("okta-m2m")])
        done(run(*words[words.index("okta-m2m") + 1 :], **variables))
    assert one_key(billing, home) != old
    assert okta.refusals == []


@posix_only
def test_a_rotation_continues_if_its_output_device_is_full(billing: App, admin: dict[str, str], home: Path) -> None:
    old = PrivateKey.from_file(home / "key.json").kid
    ran = into_full(home, "key", "rotate", "--grace", "0", **admin)
    assert ran.returncode == Exit.CONFIGURATION
    assert_one_line(ran.stderr)
    assert one_key(billing, home) != old


@posix_only
def test_ctrl_c_during_a_rotation_reports_the_step_and_the_next_run_finishes_it(
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
def test_abandon_after_a_failed_rotation_finds_nothing_to_undo(
    run: Run, okta: FakeOkta, billing: App, home: Path
) -> None:
    old = PrivateKey.from_file(home / "key.json").kid
    okta.next(503, on="/oauth2/v1/token", times=2)  # the proof of the key in use, before anything is done
    okta.features_off.clear()
    broken = run("key", "rotate", "--grace", "0", OKTA_CLIENT_TOKEN="00expired")
    assert broken.returncode == Exit.NOT_SIGNED_IN
    assert "There was no rotation" in done(run("key", "rotate", "--abandon", "--grace", "0"))
    assert one_key(billing, home) == old


@posix_only
def test_a_rotation_continues_if_its_output_pipe_is_closed(billing: App, admin: dict[str, str], home: Path) -> None:
    old = PrivateKey.from_file(home / "key.json").kid
    ran = run_without_reader(home, "key", "rotate", "--grace", "0", **admin)
    assert (ran.returncode, ran.stderr) == (Exit.READER_GONE, "")
    assert one_key(billing, home) != old


def test_a_rotation_that_needs_a_super_admin_says_so(run: Run, okta: FakeOkta, billing: App, home: Path) -> None:
    ran = run("key", "rotate", "--grace", "0", OKTA_CLIENT_TOKEN=okta.add_api_token("APP_ADMIN"))
    assert ran.returncode == Exit.ROLE_MISSING
    assert_one_line(ran.stderr)
    assert "Super Admin" in ran.stderr
    assert "is in use" in ran.stderr
    one_key(billing, home)
