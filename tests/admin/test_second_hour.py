"""What an administrator meets after the first hour: each refusal is reported truly, and nothing that is in use is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from command import Run, assert_one_line, done, environment
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.admin.key_files import new_key, write_key
from okta_m2m.admin.management import ApiToken, ManagementApi
from okta_m2m.admin.provisioning import create_app, get_app, list_apps
from okta_m2m.cli.exits import Exit
from okta_m2m.errors import TokenRefused
from okta_m2m.testing import App, FakeOkta
from promises import in_matrix

REFUSALS = ["invalid_client", "no_org_scopes_granted", "no_matching_policy"]
MORE_REFUSALS = [
    "client_assertion_invalid_kid",
    "client_assertion_invalid_signature",
    "client_assertion_invalid_audience",
    "client_assertion_invalid_issuer",
    "client_assertion_invalid_jwks",
    "client_assertion_jwks_not_configured",
    "invalid_application_type_client_credentials",
    "invalid_client_id",
    "unsupported_auth_method_client_creds",
    "invalid_scope",
    "missing_scopes",
    "client_credentials_self_scope_requested",
    "unauthorized_client",
    "unsupported_grant_type",
    "access_denied",
    "disallowed_network_zone",
    "invalid_request",
    "client_assertion_type_invalid",
    "multiple_client_credentials",
]


@pytest.fixture
def service_app(okta: FakeOkta, billing: App, home: Path) -> ServiceApp:
    return ServiceApp(
        okta.url, client_id=billing.client_id, key=PrivateKey.from_file(home / "key.json"), scopes=["okta.users.read"]
    )


# ── a service app signs in, and is refused ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", [*REFUSALS, *in_matrix(*MORE_REFUSALS)])
def test_a_refused_sign_in_of_a_service_app_is_raised_at_once(
    okta: FakeOkta, service_app: ServiceApp, code: str
) -> None:
    okta.next(code, times=9)
    waited: list[float] = []
    with ManagementApi(okta.url, service_app, sleep=waited.append) as api:
        with pytest.raises(TokenRefused):
            list(list_apps(api))
        with pytest.raises(TokenRefused):
            api.call("POST", "/api/v1/apps", {})
    assert (okta.token_requests, waited) == (1, [])


@pytest.mark.parametrize("code", ["invalid_client", *in_matrix(*REFUSALS[1:], *MORE_REFUSALS)])
@pytest.mark.parametrize("arguments", [("app", "list"), *in_matrix((("key", "list"),), (("key", "add", "key.json"),))])
def test_a_refused_sign_in_is_one_line_and_exit_code_4(
    run: Run, okta: FakeOkta, billing: App, code: str, arguments: tuple[str, ...]
) -> None:
    okta.next(code, times=9)
    ran = run(*arguments, "--as", "self", admin_signed_in=False)
    assert (ran.returncode, ran.stdout) == (Exit.REFUSED, "")
    assert_one_line(ran.stderr)
    assert "Okta refused the token request with" in ran.stderr
    assert okta.token_requests == 1


# ── the key in use ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_key_in_use_is_marked_and_lost_only_after_a_question(
    run: Run, billing: App, key_file: Path, home: Path
) -> None:
    kid = str(PrivateKey.from_file(key_file).kid)
    write_key(home / "new.json", new_key("ES256", kid="2026"))
    done(run("key", "add", "new.json"))
    marked = [line for line in done(run("key", "list")).splitlines() if line.endswith("(in use here)")]
    assert len(marked) == 1
    assert kid in marked[0]
    assert {key["kid"]: key["in_use_here"] for key in json.loads(done(run("key", "list", "--json")))} == {
        kid: True,
        "2026": False,
    }
    asked = run("key", "deactivate", kid)
    assert asked.returncode == Exit.CONFIGURATION
    assert "in use here" in asked.stderr
    assert "Add --yes." in asked.stderr
    done(run("key", "deactivate", "2026"))
    done(run("key", "activate", "2026"))
    done(run("key", "deactivate", kid, "--yes"))
    asked = run("key", "delete", kid)
    assert asked.returncode == Exit.CONFIGURATION
    assert "in use here" in asked.stderr
    done(run("key", "delete", kid, "--yes"))
    assert [key["kid"] for key in billing.jwks["keys"]] == ["2026"]


def test_an_encrypted_key_in_use_is_recognized_without_its_passphrase(run: Run, okta: FakeOkta, home: Path) -> None:
    key = new_key("ES256", kid="locked")
    write_key(home / "locked.pem", key, form="pem", password="correct horse")
    app = okta.add_app(key, label="locked")
    settings = {"OKTA_CLIENT_CLIENTID": app.client_id, "OKTA_CLIENT_PRIVATEKEY": "locked.pem"}
    assert "in use here" in run("key", "deactivate", "locked", **settings).stderr
    without_settings = run("key", "list", "--app", "locked")
    assert "in use here" not in done(without_settings)


# ── the truth about apps ─────────────────────────────────────────────────────────────────────────────────────────────


def test_dynamic_registration_claims_no_status(okta: FakeOkta, billing: App, run: Run) -> None:
    billing.status = "INACTIVE"
    with ManagementApi(okta.url, ApiToken(okta.ssws)) as api:
        assert get_app(api, billing.id).status == "INACTIVE"
        created = create_app(api, "by registration", jwks=new_key("ES256").jwks(), via="clients")
        assert created.app.status is None
    ran = run("app", "create", "--name", "billing", "--via", "clients", "--key", "key.json")
    assert ran.returncode == Exit.FAILED
    assert "It is INACTIVE" in ran.stderr


def test_only_oauth_apps_are_fetched_and_an_app_without_a_label_is_listed(run: Run, okta: FakeOkta) -> None:
    okta.add_app(label="billing")
    okta.add_app().label = None  # type: ignore[assignment]  # as Okta's schema allows
    shown = done(run("app", "list"))
    assert "billing" in shown
    assert len(shown.splitlines()) == 3
    asked = [request.query for request in okta.requests if request.path == "/api/v1/apps"]
    assert asked
    assert all("filter=name+eq+%22oidc_client%22" in query for query in asked)


def test_the_remedy_for_a_missing_key_names_the_file_and_works(run: Run, billing: App, home: Path) -> None:
    write_key(home / "k2.json", new_key("ES256", kid="k2"))
    ran = run("app", "create", "--name", "billing", "--key", "k2.json", "--write", "other.yaml")
    assert ran.returncode == Exit.FAILED
    remedy = f"okta-m2m key add k2.json --app {billing.id}"
    assert f"{remedy};" in ran.stderr
    done(run(*remedy.split()[1:]))
    assert "k2" in [key["kid"] for key in billing.jwks["keys"]]


def test_an_app_is_created_again_after_it_was_deleted(run: Run, okta: FakeOkta, key_file: Path, home: Path) -> None:
    create = ("app", "create", "--name", "billing", "--key", "key.json")
    done(run(*create))
    done(run("app", "grant", "okta.users.read"))
    done(run("app", "delete", "billing", "--yes"))
    again = run(*create)
    done(again)
    assert "is deleted" in again.stderr
    (app,) = okta.apps.values()
    text = (home / "okta.yaml").read_text("utf-8")
    assert app.client_id in text
    assert "okta.users.read" not in text, "it is not granted to the new app"


@pytest.mark.parametrize("name", [("other",), ("billing", "--twin")])
def test_the_settings_of_an_app_that_exists_are_not_replaced(
    run: Run, billing: App, home: Path, name: tuple[str, ...]
) -> None:
    before = (home / "okta.yaml").read_text("utf-8")
    ran = run("app", "create", "--name", *name, "--key", "key.json")
    assert ran.returncode == Exit.CONFIGURATION
    assert "nothing was created" in ran.stderr
    assert (home / "okta.yaml").read_text("utf-8") == before


def test_the_scopes_of_another_app_are_not_requested(run: Run, okta: FakeOkta, billing: App) -> None:
    other = okta.add_app(label="other")
    ran = run("token", "get", admin_signed_in=False, OKTA_CLIENT_CLIENTID=other.client_id)
    assert ran.returncode == Exit.CONFIGURATION
    assert_one_line(ran.stderr)
    assert billing.client_id in ran.stderr
    assert other.client_id in ran.stderr
    assert okta.token_requests == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("app", "show", "nobody"),
        ("key", "deactivate", "nothing"),
        ("app", "role", "remove", "KING"),
        ("key", "rotate", "--app", "nobody"),
    ],
)
def test_what_okta_does_not_have_is_exit_code_4(run: Run, billing: App, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).returncode == Exit.REFUSED


# ── the doctor of an administrator ───────────────────────────────────────────────────────────────────────────────────


def _failed(run: Run, *arguments: str) -> dict[str, str]:
    ran = run("doctor", "--json", *arguments)
    checks = json.loads(ran.stdout)["checks"]
    first = next(check for check in checks if check["state"] in ("fail", "warn"))
    return {"exit": str(ran.returncode), **first}


def test_the_doctor_of_an_administrator_names_an_inactive_app(run: Run, billing: App) -> None:
    billing.status = "INACTIVE"
    found = _failed(run)
    assert (found["name"], found["exit"]) == ("app", str(int(Exit.REFUSED)))
    assert found["remedy"] == f"Activate it: okta-m2m app activate {billing.id}"


def test_the_doctor_of_an_administrator_names_a_key_that_is_missing_or_inactive(
    run: Run, billing: App, key_file: Path
) -> None:
    billing.jwks["keys"][0]["status"] = "INACTIVE"
    assert "is inactive" in _failed(run)["detail"]
    billing.jwks = new_key("ES256").jwks()
    found = _failed(run)
    assert (found["name"], found["exit"]) == ("app's keys", str(int(Exit.REFUSED)))
    assert "is not registered" in found["detail"]
    key = PrivateKey.from_file(key_file)
    billing.jwks = key.with_kid("2020").jwks()
    assert "is registered with the kid 2020" in _failed(run)["detail"]


def test_the_doctor_of_an_administrator_names_scopes_and_roles_that_are_missing(run: Run, billing: App) -> None:
    billing.scopes = []
    found = _failed(run)
    assert (found["name"], found["exit"]) == ("grants", str(int(Exit.SCOPE_MISSING)))
    assert f"app grant okta.users.read --app {billing.id}" in found["remedy"]
    billing.scopes, billing.roles = ["okta.users.read"], []
    found = _failed(run)
    assert (found["name"], found["state"], found["exit"]) == ("roles", "warn", "0")


def test_the_doctor_of_an_administrator_names_an_unknown_client_id(run: Run, billing: App) -> None:
    ran = run("doctor", "--json", OKTA_CLIENT_CLIENTID="0oagone", OKTA_CLIENT_SCOPES="okta.users.read")
    assert ran.returncode == Exit.REFUSED
    assert "the org has no app 0oagone" in ran.stdout


def test_the_doctor_skips_what_the_account_may_not_see_and_needs_no_account(
    run: Run, okta: FakeOkta, billing: App
) -> None:
    shown = json.loads(done(run("doctor", "--json", "--as", "self", admin_signed_in=False)))["checks"]
    assert {check["state"] for check in shown if check["name"] in ("app", "app's keys", "grants", "roles")} == {
        "skipped"
    }
    assert "app at Okta" in done(run("doctor"))
    refused = run("doctor", OKTA_CLIENT_TOKEN="00revoked")
    assert "app at Okta" not in done(refused)


# ── what a user of the command can do ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("arguments", [("token", "get"), ("app", "grant", "okta.users.read"), ("doctor", "--offline")])
def test_a_missing_setting_is_answered_with_what_a_user_of_the_command_can_do(
    run: Run, arguments: tuple[str, ...]
) -> None:
    ran = run(*arguments, admin_signed_in=False, COLUMNS="500")
    said = ran.stdout + ran.stderr
    assert ran.returncode == Exit.CONFIGURATION
    assert "For the org URL, use --org, set OKTA_CLIENT_ORGURL, or write okta.client.orgUrl." in said
    assert "pass " not in said


def test_advice_for_programs_is_not_printed_by_the_command(run: Run, okta: FakeOkta, billing: App) -> None:
    misspelled = run("token", "get", OKTA_CLIENT_CLIENT_IDD="0oa1", admin_signed_in=False).stderr
    assert misspelled.endswith("Did you mean OKTA_CLIENT_CLIENTID? Rename it.\n")
    strange = run("token", "get", OKTA_CLIENT_CLIENTID="0oa1", admin_signed_in=False).stderr
    assert "in the same place (OKTA_CLIENT_SCOPES)" in strange
    assert okta.token_requests == 0


# ── the low ones ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_broken_file_is_reported_once(run: Run, billing: App, home: Path) -> None:
    (home / "okta.yaml").write_text("okta: [\n", encoding="utf-8")
    ran = run("doctor", admin_signed_in=False, COLUMNS="300")
    assert ran.returncode == Exit.CONFIGURATION
    assert ran.stdout.count("this is not plain YAML") == 1


def test_the_doctor_does_not_advise_to_run_the_doctor(run: Run, okta: FakeOkta, billing: App) -> None:
    okta.next(503, times=20)
    ran = run("doctor", "--max-wait", "1", admin_signed_in=False, COLUMNS="300")
    assert ran.returncode == Exit.UNREACHABLE
    assert "okta-m2m doctor" not in ran.stdout
    assert "To allow more time, raise --max-wait." in ran.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no mode bits for a file's readers")
def test_a_secret_in_a_file_that_others_can_read_is_mentioned(
    run: Run, okta: FakeOkta, billing: App, home: Path
) -> None:
    key = (home / "key.json").read_text("utf-8")
    client = {"orgUrl": okta.url, "clientId": billing.client_id, "privateKey": json.loads(key)}
    client |= {"scopes": ["okta.users.read"], "token": okta.ssws}
    (home / "okta.yaml").write_text(json.dumps({"okta": {"client": client}}), encoding="utf-8")
    for mode, said in ((0o644, True), (0o600, False)):
        (home / "okta.yaml").chmod(mode)
        shown = done(run("doctor", "--offline", admin_signed_in=False, COLUMNS="300"))
        assert ("every user of this machine can read it" in shown) == said
        listed = run("app", "list", admin_signed_in=False, OKTA_CLIENT_ORGURL=okta.url)
        done(listed)
        assert ("can read the secret in" in listed.stderr) == said


def test_ctrl_c_while_the_command_is_imported_prints_no_traceback(home: Path) -> None:
    interrupted = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *more):\n"
        "        if name == 'okta_m2m.admin': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from okta_m2m.cli import main\n"
        "main()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", interrupted], env=environment(home), capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (Exit.INTERRUPTED, "", "")


def test_no_word_of_the_help_is_broken_at_60_columns(run: Run) -> None:
    for arguments in (("key", "rotate"), ("key", "new"), ("app", "create")):
        shown = done(run(*arguments, "-h", COLUMNS="60"))
        assert "PRIVATEKEYPASSPHRASE" not in shown
        assert max(map(len, shown.splitlines())) <= 60
