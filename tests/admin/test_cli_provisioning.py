"""The command from nothing to a working service app: the app, its scopes and roles, its token, and the pages that show this.

Invariant: what a user would run is run, in a process of its own, against a FakeOkta over a real socket.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
import typer

from command import Run, assert_one_line, done, posix_only, run_on_terminal, service_gets_a_token, subcommands
from command_server import command_with
from okta_m2m import PrivateKey
from okta_m2m.admin.key_files import new_key, write_key
from okta_m2m.cli.exits import Exit
from okta_m2m.testing import App, FakeOkta


def test_the_setup_works_through_dynamic_registration(run: Run, okta: FakeOkta, home: Path) -> None:
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


# ── apps ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_existing_app_of_that_name_is_shown_and_not_created_again(
    run: Run, okta: FakeOkta, home: Path, key_file: Path
) -> None:
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


def test_the_settings_get_the_kid_if_the_key_file_has_another(run: Run, okta: FakeOkta, home: Path) -> None:
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


def test_the_kid_of_an_earlier_key_is_replaced_in_the_settings(run: Run, home: Path, key_file: Path) -> None:
    (home / "okta.yaml").write_text("okta:\n  client:\n    kid: old\n", encoding="utf-8")
    (home / "okta.yaml").chmod(0o600)
    done(run("app", "create", "--name", "billing", "--key", "key.json"))
    service_gets_a_token(run)


def test_settings_that_cannot_be_written_are_refused_before_anything_is_created(
    run: Run, okta: FakeOkta, home: Path, key_file: Path
) -> None:
    ran = run("app", "create", "--name", "billing", "--key", "key.json", "--write", "nowhere/okta.yaml")
    assert ran.returncode == Exit.CONFIGURATION
    assert_one_line(ran.stderr)
    assert "Nothing was created" in ran.stderr
    assert okta.apps == {}


@posix_only
def test_a_changed_line_keeps_its_comment_and_a_symlink_stays_a_symlink(run: Run, billing: App, home: Path) -> None:
    (home / "shared").mkdir()
    (home / "okta.yaml").rename(home / "shared" / "settings.yaml")
    (home / "okta.yaml").symlink_to(Path("shared") / "settings.yaml")
    path = home / "shared" / "settings.yaml"
    text = path.read_text("utf-8").replace("key.json", str(home / "key.json"))
    path.write_text(text.replace('["okta.users.read"]', '["okta.users.read"]  # why: "#7" # 8'), encoding="utf-8")
    done(run("app", "grant", "okta.groups.read"))
    assert (home / "okta.yaml").is_symlink()
    assert '    scopes: ["okta.users.read", "okta.groups.read"]  # why: "#7" # 8\n' in path.read_text("utf-8")


def test_settings_are_printed_as_export_lines_with_env(run: Run, okta: FakeOkta, home: Path, key_file: Path) -> None:
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
    removed = json.loads(done(run("app", "role", "remove", "USER_ADMIN", "--json")))
    assert (removed["type"], removed["status"]) == ("USER_ADMIN", "REMOVED")
    assert done(run("app", "role", "add", "USER_ADMIN")).split() == ["assigned", "USER_ADMIN"]
    custom = ("--role", "cr0123456789", "--resource-set", "iam123456789")
    done(run("app", "role", "add", *custom))
    roles = json.loads(done(run("app", "role", "list", "--json")))
    assert [role["type"] for role in roles] == ["USER_ADMIN", "CUSTOM"]

    shown = json.loads(done(run("app", "show", "billing", "--json")))
    assert shown["scopes"] == ["okta.users.read", "okta.groups.read"]
    assert shown["roles"] == ["USER_ADMIN", "cr0123456789/iam123456789"]
    assert [app["name"] for app in json.loads(done(run("app", "list", "--json")))] == ["billing"]
    assert "billing" in done(run("app", "list"))


def test_if_one_scope_fails_the_settings_and_the_document_say_what_was_changed(
    run: Run, okta: FakeOkta, billing: App, home: Path
) -> None:
    done(run("app", "grant", "okta.groups.read", "okta.logs.read"))
    okta.next(403, error="E0000006", on=f"/api/v1/apps/{billing.client_id}/grants/*")
    failed = run("app", "revoke-grant", "okta.groups.read", "okta.logs.read", "--json")
    assert failed.returncode != Exit.OK
    assert json.loads(failed.stderr.splitlines()[-1])["error"] == "E0000006"
    assert [(one["scope"], one["outcome"]) for one in json.loads(failed.stdout)] == [("okta.logs.read", "revoked")]
    assert '    scopes: ["okta.users.read", "okta.groups.read"]\n' in (home / "okta.yaml").read_text("utf-8")
    assert billing.scopes == ["okta.users.read", "okta.groups.read"]


def test_an_app_without_a_name_is_listed(run: Run, okta: FakeOkta, billing: App) -> None:
    billing.label = None  # type: ignore[assignment]
    assert done(run("app", "list")).splitlines()[1].split() == [billing.client_id, "ACTIVE", "1", "-"]
    assert done(run("app", "show")).splitlines()[0].split() == ["app", "-"]


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
    assert "trust 'onboarding'" in run("app", "list", *sign_in, admin_signed_in=False).stderr
    done(run("trust", "onboarding"))
    done(run("app", "create", "--name", "billing", "--key", "key.json", *sign_in, admin_signed_in=False))
    done(run("app", "grant", "okta.users.read", *sign_in, admin_signed_in=False))
    assert [app.scopes for app in okta.apps.values()][1:] == [["okta.users.read"]]


@posix_only
def test_on_a_terminal_the_token_prompt_shows_no_characters(okta: FakeOkta, billing: App, home: Path) -> None:
    shown = run_on_terminal(home, "app", "grant", "okta.groups.read", "okta.logs.read", typed=okta.ssws)
    assert shown.returncode == Exit.OK, shown.output
    assert f"SSWS token for {okta.url}" in shown.output
    assert okta.ssws not in shown.output
    assert re.search("granted +okta.groups.read.*granted +okta.logs.read", shown.output, re.DOTALL)
    assert billing.scopes == ["okta.users.read", "okta.groups.read", "okta.logs.read"]


# ── tokens and assertions ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_token_from_stdin_is_introspected_and_revoked(run: Run, okta: FakeOkta, billing: App) -> None:
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


def test_a_piped_assertion_is_accepted_by_the_token_endpoint(run: Run, okta: FakeOkta, billing: App) -> None:
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


def test_no_option_takes_a_secret() -> None:
    from okta_m2m.cli.commands import app

    def options(command: Any) -> Iterator[Any]:
        yield from command.params
        for inner in subcommands(command).values():
            yield from options(inner)

    secret = re.compile("token|pass|secret|ssws|private")
    found = [o for o in options(typer.main.get_command(app)) if secret.search(" ".join([*o.opts, str(o.name)]))]
    assert len(found) > 10
    assert [option.name for option in found if option.metavar != "FILE"] == []
