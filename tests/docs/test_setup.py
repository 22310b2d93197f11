"""docs/setup.md works, pasted whole into a shell: first against the stand-in that it starts, and then against an org.

Invariant: nothing is downloaded. The page's virtual environment is a stand-in too; ``test_readme.py`` runs that command for real.
"""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from command import environment, posix_only
from command_server import command_with
from okta_m2m.testing import FakeOkta

PAGE = Path(__file__).parents[2] / "docs" / "setup.md"
ORG = "https://acme.okta.com"
BLOCK = re.compile(
    r"^```(?P<language>sh|python)\n(?P<code>.*?)^```$|^## (?P<heading>[^\n]*)$", re.MULTILINE | re.DOTALL
)
CALLED = "200 ada@example.com"


def pasted() -> dict[str, str]:
    """What somebody pastes who follows the page, by its sections. A program is saved as the file that the next line runs."""
    sections: dict[str, str] = {}
    heading = program = ""
    for block in BLOCK.finditer(PAGE.read_text("utf-8")):
        if block["heading"] is not None:
            heading = block["heading"]
        elif block["language"] == "python":
            program = block["code"]
        else:
            saved = re.match(r"python (\S+)\n", block["code"])
            code = f"cat > {saved[1]} <<'END'\n{program}END\n{block['code']}" if saved else block["code"]
            sections[heading] = sections.get(heading, "") + code
    return sections


def programs(folder: Path) -> Path:
    """A folder with a ``python3`` that can only create the page's virtual environment. What the other commands need is on the
    path once that is activated. Its ``pip`` records what it is asked to install."""
    folder.mkdir()
    inside = folder / "inside"
    inside.mkdir()
    python = shlex.quote(sys.executable)
    command = shlex.join(command_with([]))
    for name, runs in (
        # The stand-in runs beside the other commands, and is killed by its number.
        ("okta-m2m", f'[ "$1" = demo ] || exec {command} "$@"\nexec {python} -m okta_m2m.cli "$@"'),
        ("python", f'exec {python} "$@"'),
        ("pip", f'echo "$@" >> {shlex.quote(str(folder / "installed"))}'),
        ("activate", 'PATH="$PWD/.venv/bin:$PATH"'),
    ):
        write_program(inside / name, runs)
    write_program(
        folder / "python3", f'test "$*" = "-m venv .venv" && mkdir .venv && cp -r {shlex.quote(str(inside))} .venv/bin'
    )
    return folder


def write_program(path: Path, runs: str) -> None:
    path.write_text(f"#!/bin/sh\n{runs}\n", encoding="utf-8")
    path.chmod(0o755)


@posix_only
@pytest.mark.parametrize("shell", ["bash", pytest.param("sh", marks=pytest.mark.matrix)])
@pytest.mark.matrix
def test_the_commands_of_the_page_end_with_a_call_to_fake_okta_and_one_to_an_org(tmp_path: Path, shell: str) -> None:
    home, found = tmp_path / "home", programs(tmp_path / "bin")
    clone, folder = home / "okta-m2m", home / "billing"
    clone.mkdir(parents=True)
    sections = pasted()
    again = [code for heading, code in sections.items() if re.match(r"[2-9]\.", heading)]
    own_org = sections["With your own org"]
    with FakeOkta() as okta:
        # The token is entered at a prompt otherwise.
        token = f"export OKTA_CLIENT_TOKEN={okta.ssws}\n"
        stop_anyway = "trap 'kill $! 2>/dev/null || true' EXIT\n"
        script = "".join(["set -e\n", stop_anyway, *sections.values(), token, *again, "echo the end\n"])
        assert script.count(ORG) == own_org.count(ORG) == 1
        variables = environment(home)
        ran = subprocess.run(
            [shell],
            cwd=clone,
            env={**variables, "PATH": f"{found}:{variables['PATH']}"},
            input=script.replace(ORG, okta.url),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=110,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout
        assert ran.stdout.endswith("the end\n")
        at_stand_in, stopped, at_org = ran.stdout.partition("is now ./okta.yaml.stand-in.\n")
        assert stopped, ran.stdout
        assert at_stand_in.count(CALLED) == at_org.count(CALLED) == 1
        assert len(okta.apps) == 1
        assert okta.url in (folder / "okta.yaml").read_text("utf-8")
    assert (found / "installed").read_text("utf-8") == "install .[demo]\n"
    assert [path.name for path in clone.iterdir()] == [".venv"]
    served = re.search(r"OKTA_CLIENT_ORGURL=(\S+)", at_stand_in)
    assert served is not None
    assert served[1] in (folder / "okta.yaml.stand-in").read_text("utf-8")
    assert not runs_at(served[1])


def runs_at(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True
