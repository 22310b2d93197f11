"""The command by its ecosystem's conventions: JSON everywhere, help that leads, calls to APIs, and a way back from each slip."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from typer.main import get_command

from command import Run, assert_one_line, done, posix_only, run_command, run_here, run_on_terminal, subcommands
from okta_m2m import PrivateKey
from okta_m2m.admin.key_files import new_key, write_key
from okta_m2m.admin.provisioning import KNOWN_SCOPES
from okta_m2m.cli.commands import app as command
from okta_m2m.cli.exits import Exit
from okta_m2m.testing import App, FakeOkta
from promises import in_matrix

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
SCOPES = ["okta.users.read", "okta.apps.read"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def billing(okta: FakeOkta, home: Path) -> App:
    """A working service app, for which there is an okta.yaml, which also has the SSWS token of a Super Admin."""
    write_key(home / "key.json", new_key("ES256"))
    app = okta.add_app(PrivateKey.from_file(home / "key.json"), SCOPES, label="billing")
    client = {
        "orgUrl": okta.url,
        "token": okta.ssws,
        "clientId": app.client_id,
        "privateKey": "key.json",
        "scopes": SCOPES,
    }
    lines = [f"    {name}: {json.dumps(value)}" for name, value in client.items()]
    (home / "okta.yaml").write_text("okta:\n  client:\n" + "\n".join(lines) + "\n", encoding="utf-8")
    (home / "okta.yaml").chmod(0o600)
    return app


@pytest.fixture
def run(home: Path) -> Run:
    def ran(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return run_command(home, *arguments, **options)

    return ran


# ── help ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def leaves(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, found in subcommands(group).items():
        if hasattr(found, "commands"):
            yield from leaves(found, (*path, name))
        else:
            yield (*path, name), found


ROOT = get_command(command)
LEAVES = dict(leaves(ROOT))


def test_the_help_lists_each_command_with_its_own_first_line() -> None:
    for name, found in subcommands(ROOT).items():
        assert ROOT.help_line(name) == found.get_short_help_str(limit=500)
        assert found.name == name


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (("--help",), {"requests", "rich", "cryptography", "okta_m2m.admin.management", "okta_m2m.cli.apps"}),
        (("token", "get", "-h"), {"okta_m2m.cli.apps", "okta_m2m.cli.doctor", "okta_m2m.admin.rotation", "ruamel"}),
    ],
)
def test_a_command_imports_only_what_it_needs(home: Path, arguments: tuple[str, ...], heavy: set[str]) -> None:
    ran = run_command(home, *arguments, command=[sys.executable, "-X", "importtime", "-m", "okta_m2m.cli"])
    imported = {line.rpartition("|")[2].strip() for line in done_with_log(ran).splitlines()}
    assert "okta_m2m.cli.commands" in imported
    assert imported & heavy == set()


def done_with_log(ran: subprocess.CompletedProcess[str]) -> str:
    assert ran.returncode == Exit.OK
    return ran.stderr


def test_every_command_that_shows_or_changes_something_has_json() -> None:
    without = [" ".join(path) for path, found in LEAVES.items() if not any("--json" in p.opts for p in found.params)]
    assert without == []


def test_no_option_takes_a_secret_itself() -> None:
    secrets = [
        (path, p) for path, found in LEAVES.items() for p in found.params if re.search("token|pass|secret", p.name)
    ]
    assert {p.name for _, p in secrets} == {"token_file", "passphrase_file"}
    assert [(path, p.name) for path, p in secrets if p.metavar != "FILE"] == []


@pytest.mark.parametrize("name", ["Authorization", "authorization ", "Proxy-Authorization", "DPoP", "Cookie"])
def test_api_takes_no_credential_as_an_argument(run: Run, okta: FakeOkta, billing: App, name: str) -> None:
    before = len(okta.requests)
    ran = run("api", "GET", "/api/v1/users", "-H", f"{name}: s3cret")
    assert ran.returncode == Exit.USAGE
    assert "is a credential, and other users of this machine can read a command line. Omit it" in ran.stderr
    assert "s3cret" not in ran.stderr
    assert len(okta.requests) == before


@pytest.mark.parametrize("width", ["60", *(pytest.param(width, marks=pytest.mark.matrix) for width in ("80", "120"))])
def test_help_truncates_no_name_on_a_narrow_terminal(width: str) -> None:
    groups: set[tuple[str, ...]] = {(), *(path[:-1] for path in LEAVES)}
    for path in [*groups, *LEAVES]:
        result = run_here(*path, "-h", width=int(width))
        assert result.exit_code == 0, (path, result.output)
        assert "…" not in result.output
        assert not re.search(r"[a-z]\.\.\.(\s|$)", result.output), result.output
        assert max(map(len, result.output.splitlines())) <= int(width), (path, result.output)
        assert not re.search(r"<\w+>", result.output), result.output
        if path in LEAVES:
            for parameter in LEAVES[path].params:
                for option in parameter.opts if parameter.param_type_name == "option" else ():
                    assert option in result.output
        else:
            below = {one[len(path)] for one in LEAVES if one[: len(path)] == path}
            assert all(re.search(rf"^  {name}\b", result.output, re.MULTILINE) for name in below), result.output


def test_help_has_the_commands_first_and_the_demo_last() -> None:
    shown = run_here("--help").output
    assert shown.index("Commands:") < shown.index("Options:")
    names = re.findall(r"^  ([a-z]+) ", shown.partition("Commands:")[2].partition("Options:")[0], re.MULTILINE)
    wanted = ["key", "app", "audit", "doctor", "explain", "api", "headers", "token", "assertion", "trust", "demo"]
    assert names == wanted
    assert set(names) == {path[0] for path in LEAVES}


@pytest.mark.parametrize("shell", ["bash", *in_matrix("zsh", "fish")])
def test_each_shell_has_completion(run: Run, shell: str) -> None:
    ran = run(_OKTA_M2M_COMPLETE=f"source_{shell}", _TYPER_COMPLETE_ARGS="okta-m2m ", command=installed())
    assert "okta-m2m" in ran.stdout + ran.stderr
    words = {"_TYPER_COMPLETE_ARGS": "okta-m2m app d", "COMP_WORDS": "okta-m2m app d", "COMP_CWORD": "2"}
    action = {"_TYPER_COMPLETE_FISH_ACTION": "get-args"} if shell == "fish" else {}
    ran = run(**{"_OKTA_M2M_COMPLETE": f"complete_{shell}", **words, **action}, command=installed())
    assert "deactivate" in ran.stdout
    assert "delete" in ran.stdout


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("key new --alg ES", ["ES256", "ES384", "ES512"]),
        ("app role add READ_O", ["READ_ONLY_ADMIN"]),
        *in_matrix(
            ("key rotate --alg RS2", ["RS256"]),
            ("app grant okta.users.r", ["okta.users.read"]),
            ("app create --via c", ["clients"]),
            ("doctor --client httpx", ["httpx", "httpx2"]),
            ("assertion --endpoint i", ["introspect"]),
        ),
    ],
)
def test_values_are_completed(run: Run, typed: str, completed: list[str]) -> None:
    words = ["okta-m2m", *typed.split()]
    ran = run(
        _OKTA_M2M_COMPLETE="complete_bash",
        COMP_WORDS="\n".join(words),
        COMP_CWORD=str(len(words) - 1),
        command=installed(),
    )
    assert ran.stdout.split() == completed


@posix_only
def test_completion_is_for_the_shell_that_runs_it(home: Path) -> None:
    zsh = shutil.copy(
        "/bin/sh", home / "zsh"
    )  # typer asks the system for the name of the process that runs the command
    script = f"{shlex.join(installed())} --show-completion; exit"
    ran = run_command(home, "-c", script, command=[str(zsh)], SHELL="/bin/bash")
    assert ran.stdout.startswith("#compdef okta-m2m")


def installed() -> list[str]:
    import sysconfig

    script = Path(sysconfig.get_path("scripts")) / ("okta-m2m.exe" if sys.platform == "win32" else "okta-m2m")
    if not script.exists():
        pytest.skip("the package is on the path, but not installed: there is no script")
    return [str(script)]


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def documented() -> dict[str, list[str]]:
    """Each command of the table in docs/cli.md, and the members of its document."""
    table = DOCS.read_text("utf-8").partition("## JSON")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|$", table, re.MULTILINE)
    return {
        name: re.findall(r"`(\w+)`", members) for names, members in rows for name in re.findall(r"`([^`]*)`", names)
    }


def test_each_document_has_the_members_that_the_docs_list_and_stdout_has_nothing_else(
    run: Run, okta: FakeOkta, billing: App, home: Path
) -> None:
    listed = documented()
    shown: dict[str, list[str]] = {}

    def look(name: str, *arguments: str, code: int = 0, **options: Any) -> Any:
        ran = run(*name.split(), *arguments, "--json", **options)
        assert ran.returncode == code, (name, ran.stderr)
        document = json.loads(ran.stdout)
        item = document[0] if isinstance(document, list) and document else document
        shown[name] = list(item)
        return document

    look("key new", "--out", "new.json", "--alg", "ES256")
    look("key show", "new.json")
    look("key jwks", "new.json")
    look("key convert", "new.json", "copy.json")
    kid = look("key add", "new.json")["kid"]
    look("key list")
    look("key deactivate", kid)
    look("key activate", kid)
    run("key", "deactivate", kid)
    assert look("key delete", kid)["status"] == "DELETED"
    assert look("key rotate", "--dry-run")["unfinished"] is None
    shown["key rotate --dry-run"] = shown.pop("key rotate")
    assert look("key rotate", "--if-older-than", "90d") == {"age_days": 0, "if_older_than": 90}
    shown["key rotate --if-older-than"] = shown.pop("key rotate")
    assert look("key rotate", "--abandon") == {"undone": False}
    shown["key rotate --abandon"] = shown.pop("key rotate")
    assert len(look("key rotate", "--grace", "0")["steps"]) == 9
    assert look("app create", "--name", "billing", "--key", "key.json", code=0)["created"] is False
    look("app show")
    look("app list")
    look("app grant", "okta.groups.read")
    look("app revoke-grant", "okta.groups.read")
    assert look("app role add", "help_desk_admin")["assigned"] is True
    look("app role list")
    look("app role remove", "help-desk-admin")
    assert look("audit")["log_visible"] is True
    assert look("app edit", "--dpop")["dpop"] is True
    assert look("app edit", "--no-dpop")["dpop"] is False
    look("token get")
    token = run("token", "get").stdout
    look("token introspect", stdin=token)
    look("token revoke", stdin=token)
    look("api", "GET", "/api/v1/users")
    look("headers", "GET", "/api/v1/users")
    look("assertion")
    look("doctor")
    look("explain", "E0000006")
    look("trust", ".")
    look("token clear", OKTA_M2M_STORE=f"file:{home / 'store'}")
    assert look("app deactivate", "--yes")["status"] == "INACTIVE"
    assert look("app activate")["status"] == "ACTIVE"
    assert look("app delete", "billing", "--yes")["status"] == "DELETED"
    assert okta.apps == {}
    shown.pop("token introspect")  # Okta's own answer
    for name, members in shown.items():
        assert listed.get(name) == members or {*members} <= {*listed.get(name, [])}, (name, members, listed.get(name))
    assert set(shown) == set(listed) - {"demo"}


# ── calls ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dpop", [False, True], ids=["bearer", "dpop"])
def test_api_makes_a_signed_in_call(run: Run, okta: FakeOkta, billing: App, dpop: bool) -> None:
    billing.dpop_bound = dpop
    billing.scopes.append("okta.users.manage")
    billing.roles = ["SUPER_ADMIN"]
    assert json.loads(done(run("api", "get", "/api/v1/users")))
    for number in range(3):
        okta.add_app(label=f"other {number}")
    every = json.loads(done(run("api", "GET", "/api/v1/apps?limit=1", "--paginate")))
    assert len(every) == 4
    assert [app["label"] for app in json.loads(done(run("api", "GET", "/api/v1/apps", "-f", "q=other 1")))] == [
        "other 1"
    ]
    sent = run(
        "api", "POST", "/api/v1/users", "-f", "profile[login]=ada@example.com", "-F", "profile[age]=7", "--json",
        "--scope", "okta.users.manage",
    )  # fmt: skip
    (request,) = [request for request in okta.requests if request.method == "POST" and request.path == "/api/v1/users"]
    assert json.loads(request.body) == {"profile": {"login": "ada@example.com", "age": 7}}
    assert json.loads(sent.stdout)["status"] in (200, 201)
    run("api", "POST", "/api/v1/users", "--input", "-", stdin='{"a": 1}')
    assert okta.requests[-1].body == b'{"a": 1}'


def test_api_sends_no_token_for_an_org_on_this_machine_through_a_proxy(run: Run, billing: App) -> None:
    nowhere = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:9")
    ran = run("api", "GET", "/api/v1/users", **nowhere, NO_PROXY="", no_proxy="")
    assert (ran.returncode, json.loads(ran.stdout)) == (0, json.loads(done(run("api", "GET", "/api/v1/users"))))
    assert ran.stderr == ""  # its own call takes no proxy
    assert "NO_PROXY" in run("headers", "GET", "/api/v1/users", **nowhere, NO_PROXY="", no_proxy="").stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("GET", "/api/v1/groups"), Exit.SCOPE_MISSING, "okta-m2m app grant okta.groups.read"),
        (("GET", "/api/v1/nothing"), Exit.REFUSED, ""),
        (("GET", "users"), Exit.CONFIGURATION, "Begin with a slash: /api/v1/users"),
        (("GET", "api/v1/users"), Exit.CONFIGURATION, "Begin with a slash: /api/v1/users"),
        (("GET", "oauth2/v1/clients"), Exit.CONFIGURATION, "Begin with a slash: /oauth2/v1/clients"),
        (("GET", "https://evil.example/"), Exit.CONFIGURATION, "may not be sent"),
        (("POST", "/api/v1/users", "-f", "a"), Exit.USAGE, "Write NAME=VALUE"),
        (("POST", "/api/v1/users", "-f", "a=1", "--input", "x"), Exit.CONFIGURATION, "cannot be used together"),
    ],
)
def test_api_reports_what_went_wrong(
    run: Run, okta: FakeOkta, billing: App, arguments: tuple[str, ...], code: Exit, said: str
) -> None:
    ran = run("api", *arguments)
    assert ran.returncode == code, ran.stderr
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("dpop", [False, True], ids=["bearer", "dpop"])
def test_the_headers_authorize_one_call(run: Run, okta: FakeOkta, billing: App, dpop: bool) -> None:
    billing.dpop_bound = dpop
    lines = done(run("headers", "GET", "/api/v1/users")).splitlines()
    found = dict(line.split(": ", 1) for line in lines)
    assert set(found) == ({"Authorization", "DPoP"} if dpop else {"Authorization"})
    assert requests.get(f"{okta.url}/api/v1/users", headers=found, timeout=10).status_code == 200
    bound = run("token", "get")
    assert ("needs a proof" in bound.stderr) is dpop


@posix_only
def test_the_headers_are_shown_on_a_terminal_only_with_show(home: Path, billing: App) -> None:
    shown = run_on_terminal(home, "headers", "GET", "/api/v1/users")
    assert shown.returncode == Exit.CONFIGURATION
    assert "Bearer" not in shown.output


def test_debug_reports_requests_without_secrets(run: Run, okta: FakeOkta, billing: App) -> None:
    ran = run("--debug", "api", "GET", "/api/v1/users?limit=1")
    assert json.loads(ran.stdout)
    assert '"POST /oauth2/v1/token' in ran.stderr
    assert '"GET /api/v1/users?...' in ran.stderr
    assert "eyJ" not in ran.stderr
    assert okta.ssws not in ran.stderr


# ── slips ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("apps", "list"), Exit.USAGE, "Did you mean 'app'?"),
        (("app", "creat"), Exit.USAGE, "Did you mean 'create'?"),
        (("app", "grant", "okta.user.read"), Exit.REFUSED, "Did you mean 'okta.users.read'?"),
        (("app", "show", "nothing"), Exit.REFUSED, "(see okta-m2m explain NotFound)"),
        (("app", "grant", "users.read"), Exit.CONFIGURATION, "Did you mean 'okta.users.read'?"),
        (("app", "role", "add", "read_only"), Exit.CONFIGURATION, "Did you mean READ_ONLY_ADMIN?"),
        (("app", "role", "remove", "SUPER_ADMIN"), Exit.REFUSED, "okta-m2m app role list"),
        (("app", "delete", "billing"), Exit.CONFIGURATION, "Add --yes"),
        (("app", "deactivate"), Exit.CONFIGURATION, "Add --yes"),
        (("app", "edit"), Exit.USAGE, "--no-dpop"),
        (("key", "new", "--alg", "ES256", "--bits", "4096", "--out", "x.json"), Exit.CONFIGURATION, "Omit --bits"),
        (("key", "new", "--alg", "EdDSA", "--out", "x.json"), Exit.CONFIGURATION, "ES256"),
        (("key", "new", "--out", "-"), Exit.CONFIGURATION, "Set the file with --out"),
        (("doctor", "--client", "curl"), Exit.CONFIGURATION, "aiohttp"),
        (("--org", "staging", "token", "get"), Exit.CONFIGURATION, "no profile 'staging'"),
    ],
)
def test_each_mistake_is_reported_with_its_remedy(
    run: Run, okta: FakeOkta, billing: App, home: Path, arguments: tuple[str, ...], code: Exit, said: str
) -> None:
    ran = run(*arguments)
    assert ran.returncode == code, ran.stderr
    assert said in " ".join(ran.stderr.split()), ran.stderr
    assert ran.stdout == ""
    assert billing.status == "ACTIVE"
    assert not (home / "x.json").exists()
    if code is not Exit.USAGE:
        assert_one_line(ran.stderr)


def test_known_scopes_are_those_of_the_stand_in(okta: FakeOkta) -> None:
    assert set(okta.scopes) == KNOWN_SCOPES


def test_a_profile_replaces_all_variables(run: Run, okta: FakeOkta, billing: App, home: Path) -> None:
    (home / "okta.yaml").unlink()
    (home / ".okta").mkdir()
    (home / "key.json").rename(home / ".okta" / "key.json")
    profile = {"orgUrl": okta.url, "clientId": billing.client_id, "privateKey": "key.json", "scopes": SCOPES}
    (home / ".okta" / "okta.yaml").write_text(
        json.dumps({"okta": {"profiles": {"staging": profile}}}), encoding="utf-8"
    )
    (home / ".okta" / "okta.yaml").chmod(0o600)
    variables = {"OKTA_CLIENT_ORGURL": "https://other.okta.com", "OKTA_CLIENT_KID": "other"}
    assert json.loads(done(run("--org", "staging", "api", "GET", "/api/v1/users", **variables)))
    ran = run("--org", "stagin", "token", "get")
    assert "Did you mean 'staging'?" in ran.stderr
    ran = run("--org", okta.url, "token", "get", OKTA_CLIENT_OKTADOMAIN="https://other.okta.com")
    assert "client id" in ran.stderr
    assert "org URL" not in ran.stderr


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("orgUrl", "http://acme.okta.com", "okta.profiles.staging.orgUrl in {path}, line 4"),
        ("clientId", "0oa 1", "okta.profiles.staging.clientId in {path}, line 5"),
        ("privateKey", "gone.pem", "okta.profiles.staging.privateKey in {path}, line 6"),
        ("orgUlr", "https://acme.okta.com", "okta.profiles.staging.orgUlr in {path}, line 8"),
    ],
)
def test_a_mistake_in_a_profile_is_reported_with_its_line(
    run: Run, okta: FakeOkta, billing: App, home: Path, setting: str, value: str, said: str
) -> None:
    (home / ".okta").mkdir()
    path = home / ".okta" / "okta.yaml"
    profile = {"orgUrl": okta.url, "clientId": billing.client_id, "privateKey": "../key.json", "scopes": SCOPES}
    if setting == "orgUlr":
        del profile["orgUrl"]
        profile["dpopEnabled"] = True
    profile[setting] = value
    lines = [f"      {name}: {json.dumps(one)}" for name, one in profile.items()]
    text = "\n".join(["okta:", "  profiles:", "    staging:", *lines]) + "\n"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    for arguments in [("token", "get"), ("doctor",)]:
        ran = run("--org", "staging", *arguments, COLUMNS="400")
        assert ran.returncode == Exit.CONFIGURATION, ran.stderr
        assert said.format(path=path) in ran.stderr + ran.stdout
        assert f"OKTA_CLIENT_{setting.upper()}" not in ran.stderr + ran.stdout


def test_org_and_debug_are_accepted_after_the_command_too(run: Run, okta: FakeOkta, billing: App, home: Path) -> None:
    (home / ".okta").mkdir()
    profile = {"orgUrl": okta.url, "clientId": billing.client_id, "privateKey": "../key.json", "scopes": SCOPES}
    (home / ".okta" / "okta.yaml").write_text(
        json.dumps({"okta": {"profiles": {"staging": profile}}}), encoding="utf-8"
    )
    (home / ".okta" / "okta.yaml").chmod(0o600)
    (home / "okta.yaml").unlink()
    for arguments in [
        ("token", "get", "--org", "staging"),
        ("token", "--org=staging", "get"),
        ("token", "get", "--org", okta.url, "--org", "staging"),
    ]:
        done(run(*arguments))
    ran = run("token", "get", "--debug", OKTA_M2M_PROFILE="staging")
    assert done(ran)
    assert '"POST /oauth2/v1/token' in ran.stderr
    assert "no profile 'prod'" in run("token", "get", "--org", "prod", OKTA_M2M_PROFILE="staging").stderr
    assert run("token", "get", "--org").returncode == Exit.USAGE
    assert run("token", "get", "--", "--org", "staging").returncode == Exit.USAGE


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("app", "show", "nothing"), {"exit_code": 4, "help": "okta-m2m explain NotFound"}),
        (("token", "get", "--scope", "okta.no"), {"exit_code": 4, "error": "invalid_scope"}),
        (("app", "delete", "billing"), {"exit_code": 3, "remedy": "Add --yes.", "help": None}),
        (("api", "GET", "/api/v1/groups"), {"exit_code": 9}),
        (("key", "show", "gone.json"), {"exit_code": 3}),
        (("app", "edit"), {"exit_code": 2, "remedy": None}),
        (("app", "--nothing"), {"exit_code": 2}),
        (("app", "grant", "okta.user.read"), {"exit_code": 4, "error": "E0000001"}),
    ],
    ids=" ".join,
)
def test_with_json_a_failure_is_one_object_on_stderr(
    run: Run, okta: FakeOkta, billing: App, arguments: tuple[str, ...], expected: dict[str, object]
) -> None:
    ran = run(*arguments, "--json")
    assert ran.stderr.count("\n") == 1, ran.stderr
    failure = json.loads(ran.stderr)
    assert list(failure) == ["error", "request_id", "error_id", "exit_code", "message", "remedy", "help"]
    assert failure["message"]
    assert failure | expected == failure
    assert ran.returncode == failure["exit_code"]
    if failure["error"] is not None:
        assert failure["request_id"]
    is_of_management_api = str(failure["error"]).startswith("E0")
    assert str(failure["error_id"]).startswith("oae") == is_of_management_api


@pytest.mark.parametrize("code", ["InvalidClient", "invalid_client", "INVALID_CLIENT"])
def test_an_error_is_explained_by_its_class_and_its_code(home: Path, code: str) -> None:
    ran = run_command(home, "explain", code)
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    said = " ".join(ran.stdout.split())
    assert said.startswith("`InvalidClient` 401 `invalid_client`: the client id, the key, its `kid`")
    assert "Do: check at Okta" in said
    assert "](" not in said
    assert "<a id" not in said


def test_a_code_in_two_rows_of_the_page_is_explained_by_both(home: Path) -> None:
    said = run_command(home, "explain", "E0000007", COLUMNS="200").stdout.splitlines()
    assert [line for line in said if line.startswith("From: ")] == ["From: API, 404", "From: token endpoint"]


def test_an_unknown_error_is_not_explained(home: Path) -> None:
    ran = run_command(home, "explain", "teapot")
    assert (ran.returncode, ran.stdout) == (Exit.CONFIGURATION, "")
    assert "teapot is not an error that okta-m2m knows." in ran.stderr


@pytest.mark.parametrize("before", [(), ("--org", "staging")])
def test_a_key_in_the_home_of_a_user_that_does_not_exist_is_reported_in_one_line(
    run: Run, billing: App, home: Path, before: tuple[str, ...]
) -> None:
    (home / "okta.yaml").unlink()
    (home / ".okta").mkdir()
    settings = {
        "orgUrl": "https://acme.okta.com",
        "clientId": "0oa1",
        "privateKey": "~nosuchuser/key.pem",
        "scopes": SCOPES,
    }
    text = json.dumps({"okta": {"client": settings, "profiles": {"staging": settings}}})
    (home / ".okta" / "okta.yaml").write_text(text, encoding="utf-8")
    (home / ".okta" / "okta.yaml").chmod(0o600)
    for arguments in [("key", "rotate", "--dry-run"), ("token", "get")]:
        ran = run(*before, *arguments)
        assert ran.returncode == Exit.CONFIGURATION, ran.stderr
        assert_one_line(ran.stderr)
        assert "nosuchuser" in ran.stderr
        assert "does not exist" in ran.stderr


def test_an_existing_app_that_differs_is_reported_and_exits_with_1(run: Run, billing: App, home: Path) -> None:
    create = ("app", "create", "--name", "billing", "--key", "key.json", "--dpop")
    ran = run(*create)
    assert ran.returncode == Exit.FAILED
    assert_one_line(ran.stderr.replace("The settings are in okta.yaml.\n", ""))
    assert f"okta-m2m app edit {billing.id} --dpop" in ran.stderr
    done(run("app", "edit", billing.id, "--dpop"))
    done(run(*create))
    billing.status = "INACTIVE"
    ran = run(*create)
    assert ran.returncode == Exit.FAILED
    assert f"okta-m2m app activate {billing.id}" in ran.stderr


def test_the_export_lines_include_the_scopes(run: Run, billing: App) -> None:
    printed = done(run("app", "create", "--name", "billing", "--key", "key.json", "--env"))
    assert f"export OKTA_CLIENT_SCOPES={','.join(SCOPES)}\n" in printed
    billing.scopes = []
    ran = run("app", "create", "--name", "billing", "--key", "key.json", "--env")
    assert "OKTA_CLIENT_SCOPES" in ran.stderr
    assert "SCOPES" not in ran.stdout


def test_the_jwks_of_a_pem_has_the_kid_under_which_it_is_registered(run: Run, billing: App, home: Path) -> None:
    key = new_key("ES256")
    write_key(home / "service.pem", key.with_kid(None), form="pem")
    (shown,) = json.loads(done(run("key", "jwks", "service.pem")))["keys"]
    assert shown["kid"] == key.thumbprint() == json.loads(done(run("key", "add", "service.pem", "--json")))["kid"]


def test_a_dry_run_reports_that_the_account_lacks_a_role(run: Run, okta: FakeOkta, billing: App, home: Path) -> None:
    account = {"OKTA_CLIENT_ORGURL": okta.url, "OKTA_CLIENT_TOKEN": okta.add_api_token("APP_ADMIN")}
    ran = run("key", "rotate", "--dry-run", **account)
    assert ran.returncode == Exit.ROLE_MISSING
    assert "Super Admin" in ran.stderr
    ran = run("key", "rotate", "--grace", "0", **account)
    assert ran.returncode == Exit.ROLE_MISSING
    assert "--abandon" not in ran.stderr, "nothing is left to undo"
