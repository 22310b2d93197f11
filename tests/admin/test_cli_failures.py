"""Each failure of the command is one line on stderr and an exit code, and each row of the doctor can fail.

Invariant: what a user would run is run, in a process of its own, against a FakeOkta over a real socket.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from command import (
    COMMAND,
    Run,
    assert_one_line,
    done,
    environment,
    into_full,
    posix_only,
    run_on_terminal,
    run_without_reader,
)
from okta_m2m.admin.key_files import new_key, write_key
from okta_m2m.cli.exits import Exit
from okta_m2m.testing import App, FakeOkta
from promises import in_matrix

Fault = Callable[[FakeOkta, App, dict[str, str]], object]


# ── doctor ───────────────────────────────────────────────────────────────────────────────────────────────────────────


ROWS = [
    "configuration",
    "org URL",
    "key",
    "DNS",
    "proxy",
    "TCP",
    "TLS",
    "discovery",
    "clock",
    "token",
    "scopes",
]
ROWS += ["rate limit", "API call"]


def test_the_doctor_shows_a_row_for_each_check_and_exits_with_0(run: Run, billing: App) -> None:
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


PROGRAM = """
import os
from types import SimpleNamespace
from okta_m2m import PrivateKey, ServiceApp

key = PrivateKey.from_file(os.path.join(os.path.dirname(__file__), "key.json"))
settings = SimpleNamespace(
    app=ServiceApp({url!r}, client_id={client_id!r}, key=key, scopes={scopes!r})
)
app = settings.app
"""


@pytest.mark.parametrize("name", ["billing:app", "billing:settings.app"])
def test_the_doctor_checks_the_app_of_a_program(run: Run, okta: FakeOkta, billing: App, home: Path, name: str) -> None:
    """Although no setting is outside the program, and an okta.yaml that is not trusted names another org."""
    (home / "okta.yaml").write_text("okta: {client: {orgUrl: 'https://other.okta.com'}}\n", encoding="utf-8")
    text = PROGRAM.format(url=okta.url, client_id=billing.client_id, scopes=["okta.users.read"])
    (home / "billing.py").write_text(text, encoding="utf-8")
    shown = done(run("doctor", name, "-v", "--call", "/api/v1/users?limit=1", admin_signed_in=False, COLUMNS="200"))
    assert re.findall(r"^[✓!✗·] (.{14})", shown, re.MULTILINE) == [f"{row:<14}" for row in ROWS]
    assert re.search(rf"^✓ configuration +client id {billing.client_id}, made by the program$", shown, re.MULTILINE)
    assert re.search(rf"^✓ org URL +{okta.url}$", shown, re.MULTILINE)
    assert "✗" not in shown


def test_the_doctor_finds_the_mistake_in_the_settings_of_a_program(
    run: Run, okta: FakeOkta, billing: App, home: Path
) -> None:
    text = PROGRAM.format(url=okta.url, client_id=billing.client_id, scopes=["okta.users.read", "okta.logs.read"])
    (home / "billing.py").write_text(text, encoding="utf-8")
    ran = run("doctor", "billing:app", "--json", admin_signed_in=False)
    assert ran.returncode == Exit.SCOPE_MISSING, ran.stderr
    failed = [check for check in json.loads(ran.stdout)["checks"] if check["state"] == "fail"]
    assert [check["name"] for check in failed] == ["scopes"]
    assert "okta-m2m app grant okta.logs.read" in failed[0]["remedy"]


def test_the_doctor_checks_the_store_of_a_program(run: Run, okta: FakeOkta, billing: App, home: Path) -> None:
    text = PROGRAM.format(url=okta.url, client_id=billing.client_id, scopes=["okta.users.read"])
    text = text.replace("key=key,", f"key=key, store=FileStore({str(home / 'store')!r}),")
    (home / "billing.py").write_text(f"from okta_m2m.stores.file import FileStore\n{text}", encoding="utf-8")
    shown = json.loads(done(run("doctor", "billing:app", "--json", admin_signed_in=False)))["checks"]
    assert [check["detail"] for check in shown if check["name"] == "store"] != []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "billing",
            "billing cannot be imported: AttributeError: module 'billing' has no attribute ''. Write MODULE:APP",
        ),
        (":app", ":app cannot be imported: ValueError: Empty module name. Write MODULE:APP, such as main:app."),
        ("nowhere:app", "nowhere:app cannot be imported: ModuleNotFoundError: No module named 'nowhere'."),
        ("billing:gone", "billing:gone cannot be imported: AttributeError: module 'billing' has no attribute 'gone'."),
        ("billing:text", "billing:text is not a ServiceApp, but a str. Name the variable that holds the ServiceApp."),
        (
            "broken:app",
            'broken:app cannot be imported: ConfigurationError: The org URL has no scheme. Write "https://acme".',
        ),
        ("ended:app", "ended:app cannot be imported: SystemExit: 2."),
    ],
)
def test_a_program_without_an_app_is_one_line_and_exit_code_3(run: Run, home: Path, name: str, said: str) -> None:
    (home / "billing.py").write_text("text = 'no app'\n", encoding="utf-8")
    broken = "from okta_m2m import ServiceApp\nServiceApp('acme', client_id='0oa1', key=None)\n"
    (home / "broken.py").write_text(broken, encoding="utf-8")
    (home / "ended.py").write_text("import sys\nsys.exit(2)\n", encoding="utf-8")
    ran = run("doctor", name, admin_signed_in=False)
    assert (ran.returncode, ran.stdout) == (Exit.CONFIGURATION, "")
    assert_one_line(ran.stderr)
    assert said in ran.stderr


FAULTS: list[tuple[str, Fault, Exit]] = [
    ("configuration", lambda okta, app, env: env.update(OKTA_CLIENT_CLIENTID="{id}"), Exit.CONFIGURATION),
    ("org URL", lambda okta, app, env: env.update(OKTA_CLIENT_ORGURL="http://acme.okta.com"), Exit.CONFIGURATION),
    ("key", lambda okta, app, env: env.update(OKTA_CLIENT_PRIVATEKEY="gone.pem"), Exit.CONFIGURATION),
    ("DNS", lambda okta, app, env: env.update(OKTA_CLIENT_ORGURL="https://no.invalid"), Exit.UNREACHABLE),
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
def test_each_row_of_the_doctor_can_fail_with_a_remedy_and_its_exit_code(
    run: Run, okta: FakeOkta, billing: App, row: str, fault: Fault, code: Exit
) -> None:
    variables: dict[str, str] = {}
    fault(okta, billing, variables)
    ran = run("doctor", "--max-wait", "1", "--call", "/api/v1/users", admin_signed_in=False, COLUMNS="300", **variables)
    assert ran.returncode == code, ran.stdout
    assert re.search(rf"^✗ {row} .*\n +→ \S", ran.stdout, re.MULTILINE), ran.stdout
    assert ran.stdout.count("not possible after the failure above") <= 1
    assert ran.stderr == ""


# ── one line and an exit code ────────────────────────────────────────────────────────────────────────────────────────


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
def test_each_failure_is_one_line_and_an_exit_code(
    run: Run, okta: FakeOkta, billing: App, arguments: tuple[str, ...], fault: Fault, code: Exit, said: str
) -> None:
    variables: dict[str, str] = {}
    fault(okta, billing, variables)
    ran = run(*arguments, **variables)
    last = "".join(line for line in ran.stderr.splitlines(keepends=True) if not line.startswith("waiting"))
    assert (ran.returncode, ran.stdout) == (code, ""), last
    assert_one_line(last)
    assert said in last


@pytest.mark.parametrize(
    "arguments", [("key", "show", "key.json"), ("app", "list"), ("doctor",), ("token", "get", "--show"), ("--version",)]
)
def test_output_to_a_full_device_is_reported_in_one_line(
    billing: App, admin: dict[str, str], home: Path, arguments: tuple[str, ...]
) -> None:
    ran = into_full(home, *arguments, **admin)
    assert ran.returncode == Exit.CONFIGURATION
    assert_one_line(ran.stderr)
    assert "output cannot be written (No space left on device)" in ran.stderr


def test_a_name_that_the_encoding_lacks_is_escaped(run: Run, okta: FakeOkta) -> None:
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
def test_closed_and_binary_streams_have_their_exit_codes(
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
def test_ctrl_c_and_ctrl_d_at_a_prompt_end_the_command_as_interrupted(
    billing: App, home: Path, arguments: tuple[str, ...], left: dict[str, str]
) -> None:
    write_key(home / "locked.pem", new_key("ES256"), form="pem", password="correct horse")
    shown = run_on_terminal(home, *arguments, **left)
    assert shown.returncode == Exit.INTERRUPTED
    assert shown.output.endswith("okta-m2m: interrupted\r\n")


def test_the_wait_for_a_rate_limit_is_shown(run: Run, okta: FakeOkta, billing: App) -> None:
    okta.next(429, on="/api/v1/apps", reset=1)
    ran = run("app", "list")
    assert "billing" in done(ran)
    assert re.fullmatch(r"waiting[ \d]*s?: Okta's rate limit\n", ran.stderr)


@posix_only
def test_a_closed_pipe_ends_a_list_silently(billing: App, admin: dict[str, str], home: Path) -> None:
    ran = run_without_reader(home, "app", "list", **admin)
    assert (ran.returncode, ran.stderr) == (Exit.READER_GONE, "")
