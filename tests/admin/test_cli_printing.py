"""Whatever Okta, a file or a path holds: the terminal gets no control character of it, and no line of its own.

A server in front of the org puts hostile characters into every string of every answer. Each subcommand is run against it,
piped and on a terminal, and the raw bytes are looked at.
"""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import requests
import typer

import okta_m2m.cli.commands
from command import posix_only, run_command, run_on_terminal, subcommands
from front import Exchange, Front, front_of
from okta_m2m import PrivateKey
from okta_m2m.admin.key_files import new_key, write_key
from okta_m2m.cli.printing import clean
from okta_m2m.testing import App, FakeOkta
from promises import in_matrix

EVIL = "\x1b]0;evil\x07\x1b[31m\x9b2J\u202eevil\u2066\u2028\r\nevil: a line of its own\x7f\x00\x08\t\u200b"
SGR = re.compile(r"\x1b\[[0-9;]*m")  # rich's own colours
MOVES = re.compile(r"\x1b\[[0-9;?]*[A-HJKhl]")  # and its progress bar

# What the command needs as it is: it looks things up by these, and sends them back.
KEPT = {
    "client_id",
    "clientId",
    "id",
    "kid",
    "kty",
    "n",
    "e",
    "x",
    "y",
    "crv",
    "use",
    "access_token",
    "token_type",
    "scope",
}
KEPT |= {
    "application_type",
    "token_endpoint_auth_method",
    "signOnMode",
    "grant_types",
    "response_types",
    "keys",
    "type",
}
KEPT |= {"issuer", "token_endpoint", "grant_types_supported", "resource-set", "role", "rel", "href", "scopeId"}


def poisoned(document: Any, kept: set[str], name: str = "") -> Any:
    """The document with the hostile characters at the end of every string that the command shows."""
    if isinstance(document, dict):
        return {key: poisoned(value, kept, key) for key, value in document.items()}
    if isinstance(document, list):
        return [poisoned(item, kept, name) for item in document]
    return document + EVIL if isinstance(document, str) and name not in kept else document


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


class EveryPage(dict[str, Any]):
    """Passes each request on to the org, and poisons its answer."""

    def __init__(self, okta: FakeOkta) -> None:
        self.okta = okta
        self.kept = set(KEPT)
        self.answer: tuple[int, Any] | None = None
        """What is answered instead by everything but the token endpoint."""
        self.content: bytes | None = None
        """The same, as plain text."""

    def get(self, path: str, default: object = None) -> Any:
        return self._answer

    def _answer(self, exchange: Exchange) -> None:
        if self.answer is not None and not exchange.path.endswith("/v1/token"):
            status, document = self.answer
            exchange.answer(status, json.dumps(document).encode(), content_type="application/json")
            return
        if self.content is not None and not exchange.path.endswith("/v1/token"):
            exchange.answer(200, self.content, content_type="text/plain; charset=utf-8")
            return
        headers = dict(exchange.headers.items())
        asked = requests.request(
            exchange.method, self.okta.url + exchange.path, headers=headers, data=exchange.body, timeout=20
        )
        is_json = "json" in asked.headers.get("Content-Type", "")
        body = json.dumps(poisoned(asked.json(), self.kept)).encode() if is_json and asked.content else asked.content
        passed = ("content-type", "date", "dpop-nonce", "link", "x-okta-request-id")
        exchange.answer(asked.status_code, body, **{k: v for k, v in asked.headers.items() if k.lower() in passed})


@pytest.fixture
def pages(okta: FakeOkta) -> EveryPage:
    return EveryPage(okta)


@pytest.fixture
def hostile(okta: FakeOkta, pages: EveryPage) -> Iterator[Front]:
    """The server in front of the org."""
    with front_of(okta.server.port) as front:
        front.pages = pages
        yield front


def is_hostile(character: str) -> bool:
    return character != "\n" and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def assert_clean(printed: str) -> None:
    assert [hex(ord(character)) for character in printed if is_hostile(character)] == []
    assert not re.search(r"^\W*evil: a line of its own", printed, re.MULTILINE)


@pytest.fixture
def settings(okta: FakeOkta, hostile: Front, home: Path) -> dict[str, str]:
    """Of an app whose label and kid are hostile, too."""
    write_key(home / "key.json", new_key("ES256", kid=f"kid{EVIL}"))
    write_key(home / "plain.json", new_key("ES256"))
    app: App = okta.add_app(PrivateKey.from_file(home / "key.json"), ["okta.users.read"], label=f"billing{EVIL}")
    okta.add_app(PrivateKey.from_file(home / "plain.json"), ["okta.users.read"], label="plain")
    return {
        "OKTA_CLIENT_ORGURL": hostile.url,
        "OKTA_CLIENT_TOKEN": okta.ssws,
        "OKTA_CLIENT_CLIENTID": app.client_id,
        "OKTA_CLIENT_PRIVATEKEY": "key.json",
        "OKTA_CLIENT_SCOPES": "okta.users.read",
    }


COMMANDS = [
    "app list",
    "app list --json",
    "app show",
    "app show --json",
    "app create --name billing --env",
    "app create --name new --jwks-uri https://acme.example/jwks --write new.yaml",
    "app grant okta.groups.read okta.nothing.read",
    "app revoke-grant okta.groups.read",
    "app role add READ_ONLY_ADMIN",
    "app role list",
    "app role list --json",
    "app role remove READ_ONLY_ADMIN",
    "app edit --dpop",
    "app edit --no-dpop --json",
    "audit --key-age 0d",
    "audit --json",
    "key show key.json",
    "key show key.json --json",
    "key jwks key.json",
    "key convert key.json other.json",
    "key add plain.json --kid other",
    "key list",
    "key list --json",
    "key activate nothing",
    "key deactivate nothing",
    "key delete nothing",
    "key rotate --dry-run",
    "key rotate --grace 0",
    "key rotate --abandon",
    "doctor --call /api/v1/users",
    "doctor --json --call /api/v1/users",
    "token get",
    "token get --show",
    "token get --json",
    "token introspect --from token.txt",
    "token introspect --json --from token.txt",
    "token revoke --from token.txt",
    "assertion --json",
    "api GET /api/v1/users --json",
    "api GET /api/v1/users --paginate",
    "api GET /api/v1/nothing --json",
    "headers GET /api/v1/users --json",
    "--debug api GET /api/v1/users?evil=\x1b[31m --json",
    "token clear",
    "trust .",
    "app deactivate",
    "app deactivate --yes",
    "app activate",
    "app delete plain --yes",
    "app delete plain",
]
REFUSAL = {
    "errorCode": f"E0000001{EVIL}",
    "errorSummary": f"no{EVIL}",
    "errorCauses": [{"errorSummary": f"never{EVIL}"}],
    "error": f"invalid{EVIL}",
    "error_description": f"no{EVIL}",
}


@pytest.mark.parametrize("refused", [False, True], ids=["answered", "refused"])
@pytest.mark.matrix
def test_no_command_prints_control_characters_of_others(
    home: Path, settings: dict[str, str], pages: EveryPage, refused: bool
) -> None:
    (home / "token.txt").write_text("token", encoding="utf-8")
    (home / "token.txt").chmod(0o600)
    settings |= {"OKTA_M2M_STORE": f"file:{home / 'store'}", "COLUMNS": "200"}
    shown_anything_evil = 0
    for command in COMMANDS:
        pages.answer = (400, REFUSAL) if refused else None
        ran = run_command(
            home, *command.split(), *(["--max-wait", "2"] if command.startswith("token get") else []), **settings
        )
        assert ran.returncode != 70, ran.stderr
        assert_clean(ran.stdout)
        assert_clean(ran.stderr)
        assert "Traceback" not in ran.stderr, (command, ran.stderr)
        shown_anything_evil += "evil" in ran.stdout + ran.stderr
    assert shown_anything_evil >= (8 if not refused else 5)


ON_TERMINAL = [
    "app list",
    "app grant okta.groups.read",
    "doctor",
    "--debug app show",
    *in_matrix(
        "doctor --verbose", "token get", "app deactivate", "api GET /api/v1/users", "headers GET /api/v1/users --show"
    ),
]


@posix_only
@pytest.mark.parametrize("command", ON_TERMINAL)
def test_no_command_on_a_terminal_prints_control_characters_of_others(
    home: Path, settings: dict[str, str], command: str
) -> None:
    shown = run_on_terminal(home, *command.split(), typed="n" if command == "app deactivate" else "", **settings)
    assert_clean(MOVES.sub("", SGR.sub("", shown.output)).replace("\r", ""))


@pytest.mark.parametrize("piped", [True, pytest.param(False, marks=posix_only)])
def test_the_steps_of_a_rotation_are_cleaned(
    home: Path, settings: dict[str, str], pages: EveryPage, piped: bool
) -> None:
    pages.kept.add("status")  # or it ends at once, because the key is not active
    run = run_command if piped else run_on_terminal
    ran = run(home, "key", "rotate", "--grace", "0", **settings)
    printed = ran.stdout if piped else MOVES.sub("", SGR.sub("", ran.output)).replace("\r", "")
    assert "evil is deleted." in printed.replace("evil: a line of its own", "").replace("\N{REPLACEMENT CHARACTER}", "")
    assert_clean(printed)


@posix_only
def test_an_api_response_is_cleaned_for_a_terminal_and_unchanged_in_a_file(
    home: Path, settings: dict[str, str], hostile: Front, pages: EveryPage
) -> None:
    pages.content = EVIL.encode()
    with (home / "report").open("wb") as file:
        run_command(home, "api", "GET", "/api/v1/report", stdout=file, **settings)
    assert (home / "report").read_bytes() == EVIL.encode()
    shown = run_on_terminal(home, "api", "GET", "/api/v1/report", **settings)
    assert "\N{REPLACEMENT CHARACTER}[31m" in shown.output
    assert not [character for character in shown.output if is_hostile(character) and character != "\r"]


def test_json_contains_the_name_unchanged(home: Path, settings: dict[str, str], okta: FakeOkta) -> None:
    settings["OKTA_CLIENT_ORGURL"] = okta.url
    listed = json.loads(run_command(home, "app", "list", "--json", **settings).stdout)
    assert f"billing{EVIL}" in [app["name"] for app in listed]


@posix_only
def test_a_path_with_control_characters_is_cleaned(tmp_path: Path, okta: FakeOkta) -> None:
    folder = tmp_path / f"clone{EVIL.replace(chr(0), '')}"
    folder.mkdir()
    (folder / "okta.yaml").write_text(f"okta:\n  client:\n    orgUrl: {okta.url}\n", encoding="utf-8")
    ran = run_command(folder, "app", "list", HOME=str(tmp_path), OKTA_CLIENT_TOKEN=okta.ssws)
    assert "names the org" in ran.stderr
    assert_clean(ran.stderr)
    shown = run_on_terminal(folder, "app", "list", HOME=str(tmp_path), OKTA_CLIENT_TOKEN=okta.ssws, typed="n")
    assert_clean(shown.output.replace("\r", ""))


def test_cleaning_keeps_the_length_and_the_letters() -> None:
    for kept in ("", "plain", "Błażej Ł", "日本語", "👩\u200d💻", "a\u00a0b"):
        assert clean(kept) == kept
    for number in [*range(0x300), *range(0x2000, 0x2070), 0x2028, 0x2029, 0xFEFF, 0xD800, 0xE0001]:
        cleaned = clean(f"a{chr(number)}b")
        assert len(cleaned) == 3
        assert not is_hostile(cleaned[1]) or cleaned[1] in "\u200c\u200d"
        assert "\n" not in cleaned


def test_no_other_module_of_the_command_prints() -> None:
    folder = Path(okta_m2m.cli.__file__).parent
    for path in folder.rglob("*.py"):
        if path.name == "printing.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            assert called not in ("print", "typer.echo", "typer.secho", "click.echo"), f"{path}:{node.lineno}"
            assert not re.fullmatch(r"sys\.std(out|err)(\.buffer)?\.write", called), f"{path}:{node.lineno}"
            if called in ("typer.prompt", "typer.confirm"):
                assert ast.unparse(node.args[0]).startswith("clean("), f"{path}:{node.lineno}"
            assert called != "Console" or path.name == "terminal.py", f"{path}:{node.lineno}"


def test_a_row_that_is_wrapped_is_in_one_style() -> None:
    from rich.console import Console
    from rich.text import Text

    from okta_m2m.cli.terminal import hanging

    lines = list(hanging(Text("! ", "yellow").append("clock", "bold"), "word " * 20, 40))
    segments = [segment for line in lines for segment in line.render(Console())]
    assert len(lines) > 1
    assert {str(segment.style or "none") for segment in segments if "word" in segment.text} == {"none"}
    assert "yellow" in {str(segment.style) for segment in segments if "!" in segment.text}


def test_each_option_states_its_name() -> None:
    # typer 0.27.0 to 0.27.3 take the metavar for the name of an option that states none.
    def all_commands(group: Any) -> Iterator[Any]:
        yield from filter(None, [group.callback])
        for inner in subcommands(group).values():
            yield from all_commands(inner)

    def is_name(first: Any) -> bool:
        return isinstance(first, str) and first.startswith(
            "--"
        )  # in Annotated, typer keeps the first name as the default

    options = [
        (command.__name__, name, each)
        for command in all_commands(typer.main.get_command(okta_m2m.cli.commands.app))
        for name, hint in get_type_hints(command, include_extras=True).items()
        for each in getattr(hint, "__metadata__", ())
        if isinstance(each, typer.models.OptionInfo)
    ]
    assert len(options) > 50
    assert [(command, name) for command, name, each in options if not is_name(each.default)] == []
