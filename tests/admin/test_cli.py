"""The command ``okta-m2m``: its output, its exit codes, and that it prints no secret and no traceback.

Invariant: what a user would run is run, in a process of its own, against a FakeOkta over a real socket.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

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
from okta_m2m import PrivateKey
from okta_m2m.cli.demo.picture import draw, summarize
from okta_m2m.cli.demo.story import CLIENTS, Call, Story, Token
from okta_m2m.cli.exits import Exit
from okta_m2m.errors import install_command
from okta_m2m.testing import FakeOkta
from promises import in_matrix

ESCAPE = "\x1b"
DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The working directory and home directory of the command."""
    return tmp_path


@pytest.fixture
def run(home: Path) -> Run:
    """``run("token", "get", OKTA_CLIENT_ORGURL=..., stdout=a file)``; ``command=`` runs another program instead."""
    return partial(run_command, home)


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_installed_script_prints_its_version(run: Run) -> None:
    script = Path(sysconfig.get_path("scripts")) / ("okta-m2m.exe" if os.name == "nt" else "okta-m2m")
    if not script.exists():
        pytest.skip("the package is on the path, but not installed: there is no script")
    done = run("--version", command=[str(script)])
    assert re.fullmatch(r"okta-m2m \d+\.\d+\.\d+\n", done.stdout)
    assert done.returncode == Exit.OK


def test_help_lists_every_command_and_every_exit_code(run: Run) -> None:
    done = run("--help", COLUMNS="200")
    assert all(name in done.stdout for name in ("demo", "token"))
    assert all(f"{code:d} " in done.stdout for code in Exit)


@pytest.mark.parametrize("arguments", [("bogus",), ("demo", "--seconds", "soon"), ("demo", "--seconds", "100")])
def test_bad_usage_is_exit_code_2(run: Run, arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == Exit.USAGE
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_the_documentation_lists_exactly_the_exit_codes_there_are() -> None:
    listed = re.findall(r"^\| (\d+) \| (.*) \|$", DOCS.read_text("utf-8"), re.MULTILINE)
    assert [(int(code), meaning) for code, meaning in listed] == [(code.value, code.meaning) for code in Exit]


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("typer", ("--version",), "cli"),
        ("rich", ("doctor",), "cli"),
        ("requests", ("token", "get"), "cli"),
        ("typer", ("doctor", "main:app"), "cli"),
        ("httpx", ("demo",), "demo"),
        *in_matrix(
            ("requests", ("demo",), "demo"),
            ("aiohttp", ("demo",), "demo"),
            ("pytest_httpserver", ("demo",), "demo"),
        ),
    ],
)
def test_a_missing_package_is_reported_with_the_line_that_installs_it(
    run: Run, home: Path, missing: str, arguments: tuple[str, ...], extra: str
) -> None:
    # Python imports sitecustomize at its start; this one makes the package as absent as if it were not installed.
    absent = home / "absent"
    absent.mkdir()
    (absent / "sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {missing!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent)\n",
        encoding="utf-8",
    )
    path = os.pathsep.join(filter(None, [str(absent), os.environ.get("PYTHONPATH", "")]))
    done = run(*arguments, PYTHONPATH=path)
    assert done.returncode == Exit.EXTRA_MISSING
    assert done.stdout == ""
    assert_one_line(done.stderr)
    assert missing in done.stderr
    assert done.stderr.endswith(f"{install_command(extra)}\n")


def test_a_bug_ends_in_a_traceback_without_any_value(run: Run) -> None:
    faulty = (
        "from okta_m2m.cli import main, trust\n"
        "def faulty(**settings):\n"
        "    key = ''.join(['a', 'secret', 'value'])\n"
        "    raise RuntimeError('a fault')\n"
        "trust.read_settings = faulty\n"
        "main()\n"
    )
    done = run("token", "get", command=[sys.executable, "-c", faulty])
    assert done.returncode == Exit.BUG
    assert "RuntimeError: a fault" in done.stderr
    assert "asecretvalue" not in done.stderr


@posix_only
@pytest.mark.parametrize(
    "arguments", [("--version",), ("demo", "--seconds", "0.6"), ("demo", "--seconds", "0.6", "--json")]
)
def test_a_closed_pipe_ends_the_command_silently(home: Path, arguments: tuple[str, ...]) -> None:
    done = run_without_reader(home, *arguments)
    assert (done.returncode, done.stderr) == (Exit.READER_GONE, "")


# ── okta-m2m demo ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module", autouse=True)
def whole_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """The demonstration at full length, with DPoP. It runs while the other tests of this file run."""
    home = tmp_path_factory.mktemp("home")
    arguments = [*COMMAND, "demo", "--dpop", "--json"]
    with subprocess.Popen(
        arguments, cwd=home, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as playing:
        yield playing
        if playing.poll() is None:
            playing.kill()


def test_the_demo_heals_a_revoked_token_and_no_call_fails(run: Run) -> None:
    done = run("demo", "--json", "--seconds", "1")
    result = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    assert result["ok"] is True
    assert result["failures"] == 0
    assert result["failed_calls"] == []
    assert set(result["clients"]) == set(CLIENTS)
    assert all(client["calls"] > 0 for client in result["clients"].values())
    assert result["healed_401s"] > 0
    assert result["tokens"][0]["revoked_at"] is not None
    assert result["tokens_minted"] == len(result["tokens"]) == result["renewals"] + 1 >= 2
    assert result["bound_calls"] == 0


def test_the_demo_prints_a_plain_picture_if_stdout_is_no_terminal(run: Run) -> None:
    done = run("demo", "--seconds", "0.6", COLUMNS="72")
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    lines = done.stdout.splitlines()
    assert ESCAPE not in done.stdout
    assert max(map(len, lines)) <= 72
    assert not [line for line in lines if line != line.rstrip()]
    assert re.search(r"^ +0  failures$", done.stdout, re.MULTILINE)
    assert all(re.search(rf"^{name} +\S", done.stdout, re.MULTILINE) for name in CLIENTS)
    assert re.search("^token 1 .*✗", done.stdout, re.MULTILINE)  # revoked


@pytest.mark.matrix
def test_the_demo_draws_in_ascii_if_the_encoding_has_nothing_else(run: Run) -> None:
    done = run("demo", "--seconds", "0.6", PYTHONIOENCODING="ascii", COLUMNS="44")
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    assert done.stdout.isascii()
    assert max(map(len, done.stdout.splitlines())) <= 44
    assert re.search("^token 1 .*x", done.stdout, re.MULTILINE)  # revoked


def test_the_demo_uses_no_proxy(run: Run) -> None:
    nowhere = "http://127.0.0.1:9"
    done = run("demo", "--seconds", "0.5", "--json", HTTP_PROXY=nowhere, http_proxy=nowhere, ALL_PROXY=nowhere)
    assert json.loads(done.stdout)["ok"] is True


@pytest.mark.parametrize("arguments", [("--json",), *in_matrix(((),))])
def test_the_demo_ends_with_1_if_a_call_failed(run: Run, arguments: tuple[str, ...]) -> None:
    without_roles = (
        "from okta_m2m.testing import FakeOkta\n"
        "add_app = FakeOkta.add_app\n"
        "def added(*arguments, **options):\n"
        "    app = add_app(*arguments, **options)\n"
        "    app.roles = []\n"  # a 403 that no token cures
        "    return app\n"
        "FakeOkta.add_app = added\n"
        "from okta_m2m.cli import main; main()\n"
    )
    done = run("demo", "--seconds", "0.5", *arguments, command=[sys.executable, "-c", without_roles])
    assert (done.returncode, done.stderr) == (Exit.FAILED, "")
    if arguments:
        result = json.loads(done.stdout)
        assert result["ok"] is False
        assert result["failures"] == result["calls"] == len(result["failed_calls"]) > 0
        assert {call["failure"] for call in result["failed_calls"]} == {"HTTP 403"}
    else:
        assert "failed: aiohttp: HTTP 403" in done.stdout


@posix_only
def test_the_demo_is_redrawn_on_a_terminal(home: Path) -> None:
    shown = run_on_terminal(home, "demo", "--seconds", "0.6")
    assert shown.returncode == Exit.OK
    assert re.search(r"\x1b\[\d*A", shown.output)  # the cursor goes up: the picture is drawn over
    assert re.search(r"\x1b\[[\d;]*32m", shown.output)  # in colour
    assert "failures" in shown.output


@posix_only
def test_the_demo_has_no_color_if_the_environment_asks_for_none(home: Path) -> None:
    shown = run_on_terminal(home, "demo", "--seconds", "0.5", NO_COLOR="1")
    assert shown.returncode == Exit.OK
    assert not re.search(r"\x1b\[(?:\d+;)*[34]\d(?:;\d+)*m", shown.output)


@posix_only
def test_the_demo_is_printed_once_on_a_dumb_terminal(home: Path) -> None:
    shown = run_on_terminal(home, "demo", "--seconds", "0.5", TERM="dumb")
    assert shown.returncode == Exit.OK
    assert ESCAPE not in shown.output
    assert shown.output.count("okta-m2m demo") == 1


@posix_only
def test_ctrl_c_ends_the_demo_in_one_line(home: Path) -> None:
    shown = run_on_terminal(home, "demo", "--seconds", "60", interrupted="token 1")
    assert shown.returncode == Exit.INTERRUPTED
    assert shown.output.endswith("okta-m2m: interrupted\r\n")
    assert "Traceback" not in shown.output


# ── the picture ──────────────────────────────────────────────────────────────────────────────────────────────────────


def eventful(seconds: float, *, dpop: bool) -> Story:
    """A story with everything in it: renewals, a revocation, faults, a failed call."""
    story = Story(seconds, dpop)
    for number in range(1, int(seconds / 2.4) + 2):
        at, status = (number - 1) * 2.4, 503 if number % 2 else 429
        story.tokens.append(Token(number, "DPoP" if dpop else "Bearer", at, at + 0.1, 3.0, number > 1, [status]))
        story.answers += [(at + 0.05, status), (at + 0.1, 200)]
    story.tokens[:2][-1].revoked_at = 2.6
    story.rejections += [(2.61, True), (2.7, True)]
    for client in CLIENTS:
        for step in range(int(seconds * 20)):
            failure = "HTTP 500" if (client, step) == ("aiohttp", 7) else None
            story.calls.append(Call(client, step / 20, step / 20 + 0.03, dpop, failure))
    return story


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
@pytest.mark.parametrize("dpop", [False, True])
@pytest.mark.parametrize("seconds", [0.5, 6.0, 60.0])
def test_the_picture_fits_any_terminal(
    seconds: float, dpop: bool, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Story, "now", lambda story: seconds)
    story = eventful(seconds, dpop=dpop)
    for width in (20, 30, 44, 60, 61, 62, 80, 120, 200):
        written = io.BytesIO()
        console = Console(file=io.TextIOWrapper(written, encoding=encoding), width=width, color_system=None)
        console.print(draw(story, console))
        console.print(summarize(story, width))
        text = written.getvalue().decode(encoding)
        assert max(map(len, text.splitlines())) <= width
        assert "failed: aiohttp: HTTP 500" in " ".join(text.split())


@pytest.mark.parametrize("until", [0.0, 0.05, 1.0, 2.65, 6.0])
def test_the_picture_can_be_drawn_during_the_demo(until: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Story, "now", lambda story: until)
    story = Story(6.0, False)
    console = Console(file=io.StringIO(), width=80)
    console.print(draw(story, console))
    whole = eventful(6.0, dpop=False)
    story.tokens += [one for one in whole.tokens if one.obtained_at <= until]
    story.calls += [one for one in whole.calls if one.ended <= until]
    console.print(draw(story, console))


# ── okta-m2m token get ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey.generate("ES256")


@pytest.fixture(scope="module")
def key_file(key: PrivateKey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "key.json"
    path.write_text(json.dumps(dict(key.private_jwk())), encoding="utf-8")
    path.chmod(0o600)
    return path


@pytest.fixture
def settings(okta: FakeOkta, key: PrivateKey, key_file: Path) -> dict[str, str]:
    """The environment of a service that is registered with ``okta``."""
    app = okta.add_app(key, scopes=["okta.users.read", "okta.groups.read"])
    return {
        "OKTA_CLIENT_ORGURL": okta.url,
        "OKTA_CLIENT_CLIENTID": app.client_id,
        "OKTA_CLIENT_PRIVATEKEY": str(key_file),
        "OKTA_CLIENT_SCOPES": "okta.users.read",
    }


def minted(okta: FakeOkta) -> str:
    """The token that was issued last."""
    return okta.tokens()[-1].value


def test_token_get_writes_only_the_token_to_a_pipe(run: Run, okta: FakeOkta, settings: dict[str, str]) -> None:
    done = run("token", "get", **settings)
    assert (done.returncode, done.stdout, done.stderr) == (Exit.OK, f"{minted(okta)}\n", "")


def test_token_get_writes_the_token_to_a_file_only_with_show(
    run: Run, okta: FakeOkta, settings: dict[str, str], home: Path
) -> None:
    with (home / "out").open("wb") as out:
        done = run("token", "get", stdout=out, **settings)
    written = (home / "out").read_text("utf-8")
    assert done.returncode == Exit.OK
    assert minted(okta) not in written
    assert [re.split(r" {2,}", line) for line in written.splitlines()] == [
        ["type", "Bearer"],
        ["scopes", "okta.users.read"],
        ["lifetime", "3600 s (1 h)"],
        ["org", okta.url],
        ["token endpoint", f"{okta.url}/oauth2/v1/token"],
        ["client id", settings["OKTA_CLIENT_CLIENTID"]],
    ]

    with (home / "out").open("wb") as out:
        run("token", "get", "--show", stdout=out, **settings)
    assert (home / "out").read_text("utf-8") == f"{minted(okta)}\n"


@posix_only
def test_token_get_on_a_terminal_describes_the_token_without_showing_it(
    okta: FakeOkta, settings: dict[str, str], home: Path
) -> None:
    shown = run_on_terminal(home, "token", "get", **settings)
    assert shown.returncode == Exit.OK
    assert "Bearer" in shown.output
    assert "okta.users.read" in shown.output
    assert minted(okta) not in shown.output

    shown = run_on_terminal(home, "token", "get", "--show", **settings)
    assert "Bearer" in shown.output
    assert f"\r\n{minted(okta)}\r\n" in shown.output  # in one piece, for the mouse


def test_token_get_json_has_the_token_only_with_show(run: Run, okta: FakeOkta, settings: dict[str, str]) -> None:
    done = run("token", "get", "--json", **settings)
    assert json.loads(done.stdout) == {
        "token_type": "Bearer",
        "dpop_bound": False,
        "scopes": ["okta.users.read"],
        "scopes_not_granted": [],
        "expires_in": 3600,
        "org_url": okta.url,
        "token_endpoint": f"{okta.url}/oauth2/v1/token",
        "client_id": settings["OKTA_CLIENT_CLIENTID"],
    }
    done = run("token", "get", "--json", "--show", **settings)
    assert json.loads(done.stdout)["access_token"] == minted(okta)


def test_token_get_requests_other_scopes_and_reports_those_not_granted(run: Run, settings: dict[str, str]) -> None:
    scopes = ("--scope", "okta.groups.read", "--scope", "okta.logs.read,okta.apps.read")
    done = run("token", "get", "--json", *scopes, **settings)
    described = json.loads(done.stdout)
    assert described["scopes"] == ["okta.groups.read"]
    assert described["scopes_not_granted"] == ["okta.logs.read", "okta.apps.read"]
    assert_one_line(done.stderr)
    assert "okta.logs.read okta.apps.read" in done.stderr


def test_token_get_reports_that_other_programs_cannot_use_a_bound_token(
    run: Run, okta: FakeOkta, settings: dict[str, str]
) -> None:
    okta.dpop = "required"
    done = run("token", "get", **settings)
    assert (done.returncode, done.stdout) == (Exit.OK, f"{minted(okta)}\n")
    assert_one_line(done.stderr)
    assert "DPoP" in done.stderr
    assert json.loads(run("token", "get", "--json", **settings).stdout)["dpop_bound"] is True


def test_token_get_reads_okta_yaml(run: Run, okta: FakeOkta, settings: dict[str, str], home: Path) -> None:
    pytest.importorskip("yaml", reason="the extra yaml is not installed")
    client = {
        "orgUrl": okta.url,
        "clientId": settings["OKTA_CLIENT_CLIENTID"],
        "privateKey": shutil.copy(settings["OKTA_CLIENT_PRIVATEKEY"], home),
        "scopes": ["okta.users.read"],
    }
    (home / "okta.yaml").write_text(json.dumps({"okta": {"client": client}}), encoding="utf-8")
    (home / "okta.yaml").chmod(0o600)
    assert run("token", "get").stdout == f"{minted(okta)}\n"


Fault = Callable[[FakeOkta, dict[str, str]], object]


def no_settings(okta: FakeOkta, settings: dict[str, str]) -> None:
    settings.clear()


def no_key_file(okta: FakeOkta, settings: dict[str, str]) -> None:
    settings["OKTA_CLIENT_PRIVATEKEY"] = "gone.pem"


def unknown_client(okta: FakeOkta, settings: dict[str, str]) -> None:
    settings["OKTA_CLIENT_CLIENTID"] = "0oaunknown"


def scope_not_granted(okta: FakeOkta, settings: dict[str, str]) -> None:
    settings["OKTA_CLIENT_SCOPES"] = "okta.logs.read"


def long_rate_limit(okta: FakeOkta, settings: dict[str, str]) -> None:
    okta.next(429, reset=600)


def login_page(okta: FakeOkta, settings: dict[str, str]) -> None:
    okta.next(404, html=True)


def only_errors(okta: FakeOkta, settings: dict[str, str]) -> None:
    okta.next(503, times=1000)


def nobody_there(okta: FakeOkta, settings: dict[str, str]) -> None:
    okta.stop()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (no_settings, Exit.CONFIGURATION),
        (no_key_file, Exit.CONFIGURATION),
        (unknown_client, Exit.REFUSED),
        (scope_not_granted, Exit.REFUSED),
        (long_rate_limit, Exit.RATE_LIMITED),
        (login_page, Exit.UNREACHABLE),
        (only_errors, Exit.UNREACHABLE),
        (nobody_there, Exit.UNREACHABLE),
    ],
)
def test_token_get_reports_a_failure_in_one_line(
    run: Run, okta: FakeOkta, settings: dict[str, str], key: PrivateKey, fault: Fault, code: Exit
) -> None:
    fault(okta, settings)
    seconds = 1 if code is Exit.UNREACHABLE else 10  # only that takes all of them
    done = run("token", "get", "--max-wait", str(seconds), **settings)
    assert (done.returncode, done.stdout) == (code, "")
    assert_one_line(done.stderr)
    assert key.private_jwk()["d"] not in done.stderr


# ── at the end ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_whole_demo_with_dpop_loses_no_call_and_binds_every_call(whole_demo: subprocess.Popen[str]) -> None:
    stdout, stderr = whole_demo.communicate(timeout=60)
    result = json.loads(stdout)
    assert (whole_demo.returncode, stderr) == (Exit.OK, "")
    assert result["ok"] is True
    assert (result["failures"], result["failed_calls"]) == (0, [])
    assert result["bound_calls"] == result["calls"] > 0
    for client in result["clients"].values():
        assert client["bound_calls"] == client["calls"] > 0
    assert result["healed_401s"] > 0
    assert result["tokens_minted"] == len(result["tokens"]) == result["renewals"] + 1
    assert result["renewals_in_background"] > 0
    assert {token["token_type"] for token in result["tokens"]} == {"DPoP"}
    troubles = [status for token in result["tokens"] for status in token["token_endpoint_troubles"]]
    assert {400, 503, 429} <= {int(status) for status in result["token_endpoint_answers"]}
    assert troubles.count(400) == 1  # asks for a nonce, once; each proof after that has one
