"""A cloned folder brings an ``okta.yaml`` that names the attacker's host. The command is run in that folder, and the host
records what reaches it: no credential at all, wherever it is from, until the user has trusted the folder.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from command import Run, assert_one_line, posix_only, run_command, run_on_terminal
from okta_m2m import PrivateKey
from okta_m2m.admin.key_files import key_text, new_key, write_key
from okta_m2m.cli.exits import Exit
from okta_m2m.testing import FakeOkta
from promises import in_matrix

SSWS = "00S3cretOfTheUser-neverLeavesTheMachine"
TOKEN = "s3cretAccessTokenOfAnotherOrg"


@dataclass
class Evil:
    """The attacker's host. ``received``: all that reached it."""

    url: str
    received: list[str]


@pytest.fixture
def evil() -> Iterator[Evil]:
    received: list[str] = []

    class Recorder(BaseHTTPRequestHandler):
        def record(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode("latin-1")
            received.append(f"{self.requestline}\n{self.headers}\n{body}")
            answer = b"[]"
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = do_DELETE = record

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Evil(f"http://127.0.0.1:{server.server_address[1]}", received)
        server.shutdown()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    (path / ".okta").mkdir(parents=True)
    return path


@pytest.fixture
def clone(home: Path) -> Path:
    """The cloned folder, in which the command runs."""
    path = home / "clone"
    path.mkdir()
    return path


@pytest.fixture
def key(home: Path) -> Path:
    """The user's own key, outside of the cloned folder."""
    path = home / ".okta" / "key.json"
    write_key(path, new_key("ES256"))
    return path


@pytest.fixture
def run(home: Path, clone: Path) -> Run:
    def ran(*arguments: str, **options: Any) -> Any:
        return run_command(clone, *arguments, **{"HOME": str(home), "USERPROFILE": str(home), **options})

    return ran


def write_yaml(path: Path, **settings: object) -> None:
    lines = [f"    {name}: {json.dumps(value)}" for name, value in settings.items()]
    path.write_text("okta:\n  client:\n" + "\n".join(lines) + "\n", encoding="utf-8")
    path.chmod(0o600)


def link(path: Path, target: Path | str, *, folder: bool = False) -> None:
    try:
        path.symlink_to(target, target_is_directory=folder)
    except OSError as error:
        pytest.skip(f"no symlinks here: {error}")


def pem_of(key: Path) -> str:
    return key_text(PrivateKey.from_file(key), form="pem").decode()


def assert_refused(ran: Any, evil: Evil, *secrets: str) -> None:
    assert ran.returncode == Exit.CONFIGURATION, ran.stdout + ran.stderr
    if ran.stderr.startswith("{"):  # with --json
        assert json.loads(ran.stderr)["exit_code"] == Exit.CONFIGURATION
    else:
        assert_one_line(ran.stderr)
    assert "okta.yaml names the org http://127.0.0.1" in ran.stderr
    assert "run: okta-m2m trust " in ran.stderr
    assert "set OKTA_CLIENT_ORGURL=" in ran.stderr
    assert evil.received == []
    assert not [secret for secret in secrets if secret in ran.stderr + ran.stdout]


def some_of(commands: list[tuple[str, ...]]) -> list[Any]:
    """Each command is asked in the same way: a third of them now, the others in the matrix."""
    return [*commands[::3], *in_matrix(*((one,) for number, one in enumerate(commands) if number % 3))]


MANAGEMENT = [
    ("app", "list"),
    ("app", "show", "billing"),
    ("app", "grant", "okta.users.read"),
    ("app", "revoke-grant", "okta.users.read"),
    ("app", "role", "list", "--app", "billing"),
    ("app", "role", "add", "APP_ADMIN", "--app", "billing"),
    ("app", "role", "remove", "APP_ADMIN", "--app", "billing"),
    ("app", "edit", "billing", "--dpop"),
    ("app", "activate", "billing"),
    ("app", "deactivate", "billing", "--yes"),
    ("app", "delete", "billing", "--yes"),
    ("app", "create", "--name", "billing", "--jwks-uri", "https://acme.example/jwks"),
    ("key", "list", "--app", "billing"),
    ("key", "add", "inside.json", "--app", "billing"),
    ("key", "activate", "kid", "--app", "billing"),
    ("key", "deactivate", "kid", "--app", "billing"),
    ("key", "delete", "kid", "--app", "billing"),
    ("key", "rotate", "--key", "inside.json"),
]


@pytest.mark.parametrize("arguments", some_of(MANAGEMENT), ids=" ".join)
@pytest.mark.parametrize("name", ["okta.yaml", *in_matrix(".okta.yaml")])
def test_the_users_ssws_token_does_not_go_to_the_folders_org(
    run: Run, clone: Path, evil: Evil, arguments: tuple[str, ...], name: str
) -> None:
    write_yaml(clone / name, orgUrl=evil.url, clientId="0oa1", scopes=["okta.users.read"])
    write_key(clone / "inside.json", new_key("ES256"))
    assert_refused(run(*arguments, OKTA_CLIENT_TOKEN=SSWS), evil, SSWS)


@pytest.mark.parametrize(
    "place",
    [
        "environment",
        "home",
        "--token-file",
        "stdin",
        "linked --token-file",
        "the folder's other file",
        "the folder's other file, a link",
    ],
)
def test_the_users_ssws_token_does_not_go_to_the_folders_org_from_any_place(
    run: Run, home: Path, clone: Path, evil: Evil, tmp_path: Path, place: str
) -> None:
    write_yaml(clone / "okta.yaml", orgUrl=evil.url)
    (tmp_path / "token").write_text(SSWS, encoding="utf-8")
    (tmp_path / "token").chmod(0o600)
    arguments, options = ["app", "list"], {}
    if place == "environment":
        options["OKTA_CLIENT_TOKEN"] = SSWS
    elif place == "home":
        write_yaml(home / ".okta" / "okta.yaml", token=SSWS)
    elif place == "stdin":
        arguments += ["--token-file", "-"]
        options["stdin"] = SSWS
    elif place == "linked --token-file":
        link(clone / "token", tmp_path / "token")
        arguments += ["--token-file", "token"]
    elif place == "the folder's other file":
        write_yaml(clone / ".okta.yaml", orgUrl="https://acme.okta.com", token=SSWS)
    elif place == "the folder's other file, a link":
        write_yaml(home / ".okta" / "okta.yaml", orgUrl="https://acme.okta.com", token=SSWS)
        link(clone / ".okta.yaml", Path("..", ".okta", "okta.yaml"))
    else:
        arguments += ["--token-file", str(tmp_path / "token")]
    assert_refused(run(*arguments, **options), evil, SSWS)


SIGNING = [("token", "get"), ("doctor",), ("doctor", "--json"), ("assertion",), ("app", "list", "--as", "self")]
SIGNING += [("token", "introspect"), ("token", "revoke"), ("app", "list", "--as", "."), ("key", "rotate")]
SIGNING += [("api", "GET", "/api/v1/users"), ("headers", "GET", "/api/v1/users"), ("doctor", "--client", "httpx")]


@pytest.mark.parametrize("arguments", some_of(SIGNING), ids=" ".join)
@pytest.mark.parametrize("place", ["environment", "home", "other link", *in_matrix("path", "link", "other file")])
def test_the_users_own_key_does_not_sign_for_the_folders_org(
    run: Run, home: Path, clone: Path, key: Path, evil: Evil, arguments: tuple[str, ...], place: str
) -> None:
    settings: dict[str, object] = {"orgUrl": evil.url, "clientId": "0oa1", "scopes": ["okta.users.read"]}
    options: dict[str, str] = {}
    if place == "environment":
        options["OKTA_CLIENT_PRIVATEKEY"] = str(key)
    elif place == "home":
        write_yaml(home / ".okta" / "okta.yaml", privateKey="key.json")
    elif place == "other link":
        write_yaml(home / ".okta" / "okta.yaml", privateKey=pem_of(key))
        link(clone / ".okta.yaml", Path("..", ".okta", "okta.yaml"))
    elif place == "other file":
        write_yaml(clone / ".okta.yaml", orgUrl="https://acme.okta.com", privateKey=pem_of(key))
    elif place == "path":
        settings["privateKey"] = str(key)  # a stranger can guess where the user keeps a key
    else:
        settings["privateKey"] = "key.json"
        link(clone / "key.json", key)
    if arguments[-1] == "." and place in ("environment", "home"):
        pytest.skip("--as FOLDER takes nothing from there")
    write_yaml(clone / "okta.yaml", **settings)
    assert_refused(run(*arguments, **options), evil)


@pytest.mark.parametrize("form", ["jwk", *in_matrix("pem")])
@pytest.mark.parametrize("arguments", some_of(SIGNING), ids=" ".join)
def test_a_file_named_like_the_source_of_the_key_does_not_make_the_key_the_folders(
    run: Run, clone: Path, key: Path, evil: Evil, arguments: tuple[str, ...], form: str
) -> None:
    if arguments[-1] == "." or arguments == ("key", "rotate"):
        pytest.skip("does not use a key that is in a variable")
    write_yaml(clone / "okta.yaml", orgUrl=evil.url, clientId="0oa1", scopes=["okta.users.read"])
    (clone / "environment variable OKTA_CLIENT_PRIVATEKEY").touch()
    text = key.read_text(encoding="utf-8") if form == "jwk" else pem_of(key)
    assert_refused(run(*arguments, OKTA_CLIENT_PRIVATEKEY=text), evil)


def test_a_file_named_like_the_source_of_the_client_id_is_not_edited(
    run: Run, home: Path, clone: Path, okta: FakeOkta
) -> None:
    app = okta.add_app(PrivateKey.generate(kid="k"), ["okta.users.read"])
    write_yaml(home / ".okta" / "okta.yaml", orgUrl=okta.url, scopes=["okta.users.read"])
    before = (home / ".okta" / "okta.yaml").read_text(encoding="utf-8")
    link(clone / "environment variable OKTA_CLIENT_CLIENTID", Path("..", ".okta", "okta.yaml"))
    variables = {"OKTA_CLIENT_TOKEN": okta.ssws, "OKTA_CLIENT_CLIENTID": app.client_id}
    ran = run("app", "grant", "okta.groups.read", **variables)
    assert ran.returncode == Exit.OK, ran.stderr
    assert "Change OKTA_CLIENT_SCOPES: add okta.groups.read." in ran.stderr
    assert (home / ".okta" / "okta.yaml").read_text(encoding="utf-8") == before


@pytest.mark.parametrize("name", ["okta.yaml", ".okta.yaml", ".okta/okta.yaml"])
@pytest.mark.parametrize("folder", [".", "below"])
def test_no_file_in_the_folder_of_as_counts_as_the_users_own(
    run: Run, clone: Path, key: Path, evil: Evil, name: str, folder: str
) -> None:
    (clone / folder / ".okta").mkdir(parents=True)
    (clone / folder / "okta.yaml").write_text("okta: {}\n", encoding="utf-8")
    (clone / folder / "okta.yaml").chmod(0o600)
    write_yaml(clone / folder / name, orgUrl=evil.url, clientId="0oa1", scopes=["okta.apps.read"], privateKey=str(key))
    ran = run("app", "list", "--as", folder)
    assert_refused(ran, evil)
    assert f"Only {Path(folder, name)} names" in ran.stderr.replace(f"{clone}{os.sep}", "")


@pytest.mark.parametrize("what", ["introspect", "revoke"])
@pytest.mark.parametrize("place", ["stdin", "file"])
def test_a_token_of_another_org_does_not_go_to_the_folders_org(
    run: Run, clone: Path, evil: Evil, tmp_path: Path, what: str, place: str
) -> None:
    write_key(clone / "inside.json", new_key("ES256"))
    write_yaml(clone / "okta.yaml", orgUrl=evil.url, clientId="0oa1", privateKey="inside.json")
    claims = base64.urlsafe_b64encode(json.dumps({"iss": "https://acme.okta.com"}).encode()).decode().rstrip("=")
    for token in (TOKEN, f"e30.{claims}.{TOKEN}"):
        path = tmp_path / "token"
        path.write_text(token, encoding="utf-8")
        path.chmod(0o600)
        arguments = [] if place == "stdin" else ["--from", str(path)]
        stdin = token if place == "stdin" else None
        assert_refused(run("token", what, *arguments, stdin=stdin), evil, TOKEN)


def test_credentials_go_to_the_folders_org_once_the_user_trusts_the_folder(
    run: Run, home: Path, clone: Path, key: Path, okta: FakeOkta
) -> None:
    write_key(clone / "inside.json", new_key("ES256"))
    app = okta.add_app(PrivateKey.from_file(clone / "inside.json"), ["okta.users.read"])
    settings = {"clientId": app.client_id, "privateKey": "inside.json", "scopes": ["okta.users.read"]}
    write_yaml(clone / "okta.yaml", orgUrl=okta.url, token=okta.ssws, **settings)
    (clone / "ssws").write_text(okta.ssws, encoding="utf-8")
    (clone / "ssws").chmod(0o600)
    call = ("GET", "/api/v1/users")
    commands = [
        ("app", "list"),
        ("app", "list", "--token-file", "ssws"),
        ("token", "get"),
        ("doctor",),
        ("assertion",),
        ("api", *call),
        ("headers", *call),
        ("key", "rotate", "--grace", "0"),
    ]
    before = len(okta.requests)
    for arguments in commands:
        ran = run(*arguments)
        assert ran.returncode == Exit.CONFIGURATION, ran.stdout
        assert "run: okta-m2m trust . (again after each change of the file)" in ran.stderr
    assert len(okta.requests) == before
    trusted = json.loads(run("trust", ".", "--json").stdout)
    assert trusted == {"org_url": okta.url, "file": str(clone / "okta.yaml")}
    for arguments in commands:
        ran = run(*arguments)
        assert ran.returncode == Exit.OK, ran.stderr
        assert "names the org" not in ran.stderr
    token = run("token", "get").stdout
    assert run("token", "introspect", stdin=token).returncode == Exit.OK
    okta.add_app(PrivateKey.from_file(key), ["okta.users.read"], client_id="0oa-of-the-user")
    own = {"OKTA_CLIENT_CLIENTID": "0oa-of-the-user", "OKTA_CLIENT_PRIVATEKEY": str(key)}
    own["OKTA_CLIENT_SCOPES"] = "okta.users.read"  # the file's scopes belong to the file's client id
    assert run("token", "get", **own).returncode == Exit.OK
    assert run("app", "list", OKTA_CLIENT_TOKEN=okta.ssws).returncode == Exit.OK


def test_a_trusted_file_that_changes_is_no_longer_trusted(run: Run, home: Path, clone: Path, evil: Evil) -> None:
    write_yaml(clone / "okta.yaml", orgUrl="https://acme.okta.com", token=SSWS)
    ran = run("trust", ".")
    assert ran.stdout.startswith("https://acme.okta.com gets credentials in .")
    write_yaml(clone / "okta.yaml", orgUrl=evil.url, token=SSWS)
    assert_refused(run("app", "list"), evil, SSWS)
    write_yaml(clone / ".okta.yaml", orgUrl=evil.url)  # another file of the folder
    (clone / "okta.yaml").unlink()
    assert_refused(run("app", "list", OKTA_CLIENT_TOKEN=SSWS), evil, SSWS)


@posix_only
def test_only_a_record_that_no_one_else_can_write_counts(run: Run, home: Path, clone: Path, evil: Evil) -> None:
    write_yaml(clone / "okta.yaml", orgUrl=evil.url)
    assert run("trust", ".").returncode == Exit.OK
    record = home / ".okta" / "trusted.json"
    assert record.stat().st_mode & 0o777 == 0o600
    record.chmod(0o666)
    assert_refused(run("app", "list", OKTA_CLIENT_TOKEN=SSWS), evil, SSWS)
    assert run("trust", ".").returncode == Exit.CONFIGURATION
    record.chmod(0o600)
    for damaged in ("[1]", "{", "null"):
        record.write_text(damaged, encoding="utf-8")
        assert_refused(run("app", "list", OKTA_CLIENT_TOKEN=SSWS), evil, SSWS)
        assert f"{record} is damaged" in run("trust", ".").stderr


def test_a_folder_without_an_org_cannot_be_trusted(run: Run, home: Path, clone: Path) -> None:
    for arguments in [("trust", "."), ("trust", "nowhere")]:
        ran = run(*arguments, OKTA_CLIENT_ORGURL="https://acme.okta.com")
        assert ran.returncode == Exit.CONFIGURATION
        assert_one_line(ran.stderr)
    assert not (home / ".okta" / "trusted.json").exists()


def test_settings_that_the_command_writes_are_trusted(run: Run, clone: Path, okta: FakeOkta) -> None:
    admin = {"OKTA_CLIENT_ORGURL": okta.url, "OKTA_CLIENT_TOKEN": okta.ssws}
    assert run("key", "new", "--alg", "ES256").returncode == Exit.OK
    assert run("app", "create", "--name", "billing", **admin).returncode == Exit.OK
    assert run("app", "grant", "okta.users.read", **admin).returncode == Exit.OK
    assert run("token", "get").returncode == Exit.OK
    (clone / "okta.yaml").write_text((clone / "okta.yaml").read_text("utf-8") + "# by hand\n", encoding="utf-8")
    assert run("token", "get").returncode == Exit.CONFIGURATION
    # A change by the command does not make a file trusted that the user does not trust.
    assert run("app", "grant", "okta.groups.read", **admin).returncode == Exit.OK
    assert run("token", "get").returncode == Exit.CONFIGURATION


def test_settings_are_written_even_if_they_cannot_be_recorded_as_trusted(
    run: Run, home: Path, clone: Path, okta: FakeOkta
) -> None:
    (home / ".okta" / "trusted.json").mkdir()
    assert run("key", "new", "--alg", "ES256").returncode == Exit.OK
    ran = run("app", "create", "--name", "billing", OKTA_CLIENT_ORGURL=okta.url, OKTA_CLIENT_TOKEN=okta.ssws)
    assert ran.returncode == Exit.OK
    assert "could not be recorded as trusted" in ran.stderr


def test_an_encrypted_key_in_the_folder_signs_for_its_org(run: Run, clone: Path, okta: FakeOkta) -> None:
    write_key(clone / "key.pem", new_key("ES256"), form="pem", password="of the folder")
    app = okta.add_app(PrivateKey.from_file(clone / "key.pem", password="of the folder"), ["okta.users.read"])
    settings = {"clientId": app.client_id, "privateKey": "key.pem", "privateKeyPassphrase": "of the folder"}
    write_yaml(clone / "okta.yaml", orgUrl=okta.url, token=okta.ssws, scopes=["okta.users.read"], **settings)
    assert run("trust", ".").returncode == Exit.OK
    for arguments in [
        ("token", "get"),
        ("key", "rotate", "--dry-run"),
        ("key", "rotate", "--key", "key.pem", "--grace", "0"),
    ]:
        ran = run(*arguments)
        assert ran.returncode == Exit.OK, ran.stderr


def test_a_folder_reached_through_a_symlink_is_treated_alike(
    home: Path, clone: Path, key: Path, okta: FakeOkta, evil: Evil
) -> None:
    link(home / "link", clone, folder=True)
    write_key(clone / "inside.json", new_key("ES256"))
    app = okta.add_app(PrivateKey.from_file(clone / "inside.json"), ["okta.users.read"])
    settings = {"clientId": app.client_id, "scopes": ["okta.users.read"]}
    write_yaml(clone / "okta.yaml", orgUrl=okta.url, token=okta.ssws, privateKey="inside.json", **settings)
    outside = {"HOME": str(home), "USERPROFILE": str(home)}
    assert run_command(home, "trust", "link", **outside).returncode == Exit.OK
    for arguments in [("app", "list"), ("token", "get"), ("app", "list", "--as", "../link")]:
        ran = run_command(home / "link", *arguments, **outside)
        assert ran.returncode in (Exit.OK, Exit.SCOPE_MISSING), ran.stderr
        assert "names the org" not in ran.stderr
    write_yaml(clone / "okta.yaml", orgUrl=evil.url, privateKey=str(key), **settings)
    assert_refused(run_command(home / "link", "token", "get", **outside), evil)
    assert_refused(run_command(home / "link", "app", "list", OKTA_CLIENT_TOKEN=SSWS, **outside), evil, SSWS)


def test_an_org_named_through_a_symlink_in_the_folder_is_named_by_the_folder(
    run: Run, home: Path, clone: Path, evil: Evil
) -> None:
    write_yaml(home / "old.yaml", orgUrl=evil.url)  # the user's own, but the stranger chose it
    assert run("trust", str(home)).returncode == Exit.CONFIGURATION
    (home / "own").mkdir()
    (home / "old.yaml").rename(home / "own" / "okta.yaml")
    assert run("trust", str(home / "own")).returncode == Exit.OK
    link(clone / "okta.yaml", Path("..", "own", "okta.yaml"))
    assert_refused(run("app", "list", OKTA_CLIENT_TOKEN=SSWS), evil, SSWS)


@pytest.mark.parametrize("name", ["okta.yaml", ".okta.yaml"])
@pytest.mark.parametrize("linked", [False, True])
def test_in_the_home_directory_the_files_are_the_users_own(
    home: Path, tmp_path: Path, okta: FakeOkta, name: str, linked: bool
) -> None:
    write_key(tmp_path / "key.json", new_key("ES256"))
    app = okta.add_app(PrivateKey.from_file(tmp_path / "key.json"), ["okta.users.read"])
    write_yaml(home / name, orgUrl=okta.url, clientId=app.client_id, scopes=["okta.users.read"])
    at = home
    if linked:
        at = tmp_path / "link"
        link(at, home, folder=True)
    variables = {"OKTA_CLIENT_TOKEN": okta.ssws, "OKTA_CLIENT_PRIVATEKEY": str(tmp_path / "key.json")}
    for arguments in [("app", "list"), ("token", "get")]:
        ran = run_command(home, *arguments, **variables, HOME=str(at), USERPROFILE=str(at))
        assert ran.returncode == Exit.OK, ran.stderr
        assert ran.stderr == ""


@pytest.mark.parametrize("place", ["environment", "home", "--org"])
def test_an_org_that_the_user_names_too_gets_the_credentials(
    run: Run, home: Path, clone: Path, key: Path, okta: FakeOkta, place: str
) -> None:
    app = okta.add_app(PrivateKey.from_file(key), ["okta.users.read"])
    options = {"OKTA_CLIENT_TOKEN": okta.ssws, "OKTA_CLIENT_PRIVATEKEY": str(key)}
    before = ["--org", okta.url] if place == "--org" else []
    if place == "environment":
        options["OKTA_CLIENT_ORGURL"] = okta.url
    elif place == "home":
        write_yaml(home / ".okta" / "okta.yaml", orgUrl=f"{okta.url}/")
    write_yaml(clone / "okta.yaml", orgUrl=okta.url, clientId=app.client_id, scopes=["okta.users.read"])
    for arguments in [("app", "list"), ("token", "get"), ("doctor",), ("api", "GET", "/api/v1/users")]:
        ran = run(*before, *arguments, **options)
        assert ran.returncode == Exit.OK, ran.stderr
        assert ran.stderr == ""


@posix_only
@pytest.mark.parametrize(
    "arguments", [("app", "list"), ("token", "get"), ("api", "GET", "/api/v1/users")], ids=" ".join
)
def test_on_a_terminal_the_org_is_refused_without_a_question(
    home: Path, clone: Path, key: Path, evil: Evil, arguments: tuple[str, ...]
) -> None:
    write_yaml(clone / "okta.yaml", orgUrl=evil.url, clientId="0oa1", scopes=["okta.users.read"])
    variables = {"OKTA_CLIENT_PRIVATEKEY": str(key), "HOME": str(home), "COLUMNS": "300"}
    for more in ({"OKTA_CLIENT_TOKEN": SSWS}, {}):
        shown = run_on_terminal(clone, *arguments, **variables, **more)
        assert shown.returncode == Exit.CONFIGURATION
        assert "okta-m2m trust ." in shown.output
        assert SSWS not in shown.output
    assert evil.received == []


@pytest.mark.parametrize(
    "arguments", [("app", "grant", "okta.users.manage"), ("app", "role", "add", "SUPER_ADMIN")], ids=" ".join
)
def test_an_app_that_the_folder_names_is_shown_when_it_gets_a_permission(
    run: Run, clone: Path, okta: FakeOkta, arguments: tuple[str, ...]
) -> None:
    app = okta.add_app(PrivateKey.generate(kid="k"), ["okta.users.read"], label="their app")
    write_yaml(clone / "okta.yaml", clientId=app.client_id)
    ran = run(*arguments, OKTA_CLIENT_ORGURL=okta.url, OKTA_CLIENT_TOKEN=okta.ssws)
    assert ran.returncode == Exit.OK, ran.stderr
    assert f"The app is their app ({app.client_id})." in ran.stderr


def test_commands_that_send_nothing_to_the_org_do_not_ask(
    run: Run, clone: Path, key: Path, evil: Evil, home: Path
) -> None:
    write_yaml(clone / "okta.yaml", orgUrl=evil.url, clientId="0oa1", scopes=["okta.users.read"])
    options = {"OKTA_CLIENT_PRIVATEKEY": str(key), "OKTA_M2M_STORE": f"file:{home / 'store'}"}
    for arguments in [("token", "clear"), ("doctor", "--offline"), ("key", "show")]:
        ran = run(*arguments, **options)
        assert ran.returncode == Exit.OK, ran.stderr
    assert evil.received == []


USES_OF_THE_DEFAULT_KEY = [
    ("app", "create", "--name", "billing", "--env"),
    ("key", "add", "--app", "billing"),
    ("key", "show"),
    ("key", "jwks"),
    ("key", "rotate", "--app", "billing"),
]


@posix_only
@pytest.mark.parametrize("arguments", some_of(USES_OF_THE_DEFAULT_KEY), ids=" ".join)
@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_default_key_that_others_can_write_is_not_used(
    run: Run, clone: Path, okta: FakeOkta, arguments: tuple[str, ...], mode: int
) -> None:
    path = clone / "okta-m2m-key.json"
    write_key(path, new_key("ES256"))
    path.chmod(mode)
    variables = {"OKTA_CLIENT_ORGURL": okta.url, "OKTA_CLIENT_TOKEN": okta.ssws}
    ran = run(*arguments, **variables)
    assert ran.returncode == Exit.CONFIGURATION, ran.stderr
    assert_one_line(ran.stderr)
    assert "Others can write okta-m2m-key.json" in ran.stderr
    assert "run: chmod go-w 'okta-m2m-key.json'" in ran.stderr
    assert okta.apps == {}
    assert run("key", "show", "okta-m2m-key.json").returncode == Exit.OK  # the user names it


@posix_only
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to be two users")
@pytest.mark.parametrize("linked", [False, True])
def test_a_default_key_of_another_user_is_not_registered(
    run: Run, clone: Path, okta: FakeOkta, tmp_path: Path, linked: bool
) -> None:
    path = clone / "okta-m2m-key.json"
    write_key(tmp_path / "key.json" if linked else path, new_key("ES256"))
    if linked:  # to one of root's keys, to which the app would then be bound
        path.symlink_to(tmp_path / "key.json")
    os.chown(path, 12345, 12345, follow_symlinks=False)
    ran = run("app", "create", "--name", "billing", OKTA_CLIENT_ORGURL=okta.url, OKTA_CLIENT_TOKEN=okta.ssws)
    assert ran.returncode == Exit.CONFIGURATION, ran.stderr
    assert_one_line(ran.stderr)
    assert "okta-m2m-key.json belongs to another user (uid 12345)" in ran.stderr
    assert okta.apps == {}


@posix_only
def test_a_secret_that_every_user_can_read_is_reported(run: Run, clone: Path, okta: FakeOkta) -> None:
    (clone / "ssws").write_text(okta.ssws, encoding="utf-8")
    for mode, said in [(0o644, True), (0o604, True), (0o640, False), (0o600, False)]:
        (clone / "ssws").chmod(mode)
        ran = run("app", "list", "--token-file", "ssws", OKTA_CLIENT_ORGURL=okta.url)
        assert ran.returncode == Exit.OK, ran.stderr
        expected = "Every user of this machine can read the SSWS token in ssws. Run: chmod 600 'ssws'\n"
        assert ran.stderr == (expected if said else "")
