"""The commands against the stand-in for Okta that ``demo --serve`` runs, and the settings that it writes and removes.

Invariant: both run as a user would run them, each in a process of its own.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from command import COMMAND, Run, done, environment, posix_only
from okta_m2m.cli.exits import Exit
from promises import in_matrix

BLOCK = (
    "okta-m2m key new && okta-m2m app create --name billing && okta-m2m app grant okta.users.read okta.groups.read && "
    "okta-m2m doctor && okta-m2m key rotate"
)


def private_parts(home: Path) -> list[str]:
    return [
        json.loads(path.read_text("utf-8"))["d"]
        for path in home.glob("*.json")
        if "d" in json.loads(path.read_text("utf-8"))
    ]


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


def test_the_setup_commands_work_unchanged_on_the_served_stand_in(run: Run, home: Path) -> None:
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
def test_settings_added_to_those_of_the_stand_in_are_kept_in_a_renamed_file(home: Path, stop: str) -> None:
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
def test_settings_that_now_name_another_org_stay(home: Path) -> None:
    with serving(home) as (process, _):
        (home / "okta.yaml").write_text("okta: {client: {orgUrl: 'https://acme.okta.com'}}\n", encoding="utf-8")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == Exit.OK
    assert [path.name for path in home.glob("okta.yaml*")] == ["okta.yaml"]
