"""The README's commands, exactly as printed, take a reader from a fresh clone to the end of the demo: with uv, with pipx, and
with Python alone.

Invariant: okta-m2m comes from the clone, never from a package index, where its name may belong to someone else.

Needs a package index, or pip settings that replace one. Without either this test is skipped; in CI it fails.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from command import environment, posix_only

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"^```sh\n(.*?)\n```$", README, re.MULTILINE | re.DOTALL)
UNREACHABLE = re.compile(r"Could not fetch URL \S+: connection error|Failed to fetch: \S+\n")
NOT_INHERITED = re.compile(r"PYTHON|VIRTUAL_ENV|XDG_|COVERAGE|PYTEST")


def fresh_copy(folder: Path) -> Path:
    """The project without what Git ignores, as in a new clone."""
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text("utf-8").splitlines() if line]
    return shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", *ignored))


def this_python(folder: Path) -> Path:
    """A folder in which ``python3`` is the interpreter that runs the tests, outside its virtual environment."""
    folder.mkdir()
    base = shlex.quote(getattr(sys, "_base_executable", sys.executable))
    (folder / "python3").write_text(f'#!/bin/sh\nexec {base} "$@"\n', encoding="utf-8")
    (folder / "python3").chmod(0o755)
    return folder


def run_in_clone(command: str, clone: Path, home: Path, **added: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of the README as a user who has nothing yet."""
    home.mkdir()
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    variables = environment(home, **proxies, **added)
    variables = {name: value for name, value in variables.items() if not NOT_INHERITED.match(name)}
    path = [str(this_python(home / "bin")), str(Path(sys.executable).parent), variables["PATH"]]
    return subprocess.run(
        ["bash", "-c", command],
        cwd=clone,
        env={**variables, "PATH": os.pathsep.join(path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=550,
        check=False,
    )


@posix_only
@pytest.mark.site
@pytest.mark.timeout(600)
def test_first_command_runs_the_demo_to_its_end_from_a_fresh_clone(tmp_path: Path) -> None:
    clone, log = fresh_copy(tmp_path / "clone"), tmp_path / "pip.log"
    ran = run_in_clone(COMMANDS[0], clone, tmp_path / "home", PIP_LOG=str(log))
    logged = log.read_text("utf-8") if log.exists() else ""
    if ran.returncode and UNREACHABLE.search(logged) and not os.environ.get("CI"):
        pytest.skip("no package index can be reached")
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"^ +0  failures$", ran.stdout, re.MULTILINE), ran.stdout

    (installed,) = clone.glob(".venv/lib/python*/site-packages/okta_m2m-*.dist-info/direct_url.json")
    assert json.loads(installed.read_text("utf-8"))["url"] == clone.as_uri()
    looked_up = re.findall(r"https?://\S*/okta[-_.]m2m\b\S*", logged, re.IGNORECASE)
    assert looked_up == [], "pip asked an index for our package"


@posix_only
@pytest.mark.site
@pytest.mark.timeout(600)
@pytest.mark.parametrize("program", ["uvx", "pipx"])
def test_command_for_uv_or_pipx_runs_the_demo_to_its_end_from_a_fresh_clone(program: str, tmp_path: Path) -> None:
    beside = Path(sys.executable).with_name(program)
    if not (beside.exists() or shutil.which(program)):
        pytest.skip(f"{program} is not installed")
    (command,) = re.findall(rf"`({program} [^`]+ okta-m2m demo)`", README)
    ran = run_in_clone(f"{command} --seconds 3", fresh_copy(tmp_path / "clone"), tmp_path / "home")
    if ran.returncode and UNREACHABLE.search(ran.stdout) and not os.environ.get("CI"):
        pytest.skip("no package index can be reached")
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"^ +0  failures$", ran.stdout, re.MULTILINE), ran.stdout


def test_the_readme_prints_the_test_command_that_ci_runs() -> None:
    assert [one for one in COMMANDS if re.fullmatch(r"python3 -m venv \.venv && .*/pytest", one)] == [COMMANDS[-1]]
