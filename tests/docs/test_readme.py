"""The README's first command, exactly as printed, takes a reader from a fresh clone to the end of the demo.

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
UNREACHABLE = re.compile(r"Could not fetch URL \S+: connection error")
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


@posix_only
@pytest.mark.site
@pytest.mark.timeout(600)
def test_first_command_runs_the_demo_to_its_end_from_a_fresh_clone(tmp_path: Path) -> None:
    clone, home, log = fresh_copy(tmp_path / "clone"), tmp_path / "home", tmp_path / "pip.log"
    home.mkdir()
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    variables = environment(home, PIP_LOG=str(log), **proxies)
    variables = {name: value for name, value in variables.items() if not NOT_INHERITED.match(name)}
    variables["PATH"] = f"{this_python(tmp_path / 'bin')}{os.pathsep}{variables['PATH']}"
    ran = subprocess.run(
        ["bash", "-c", COMMANDS[0]],
        cwd=clone,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=550,
        check=False,
    )
    logged = log.read_text("utf-8") if log.exists() else ""
    if ran.returncode and UNREACHABLE.search(logged) and not os.environ.get("CI"):
        pytest.skip("no package index can be reached")
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"^ +0  failures$", ran.stdout, re.MULTILINE), ran.stdout

    (installed,) = clone.glob(".venv/lib/python*/site-packages/okta_m2m-*.dist-info/direct_url.json")
    assert json.loads(installed.read_text("utf-8"))["url"] == clone.as_uri()
    looked_up = re.findall(r"https?://\S*/okta[-_.]m2m\b\S*", logged, re.IGNORECASE)
    assert looked_up == [], "pip asked an index for our package"


def test_the_readme_prints_the_test_command_that_ci_runs() -> None:
    assert [one for one in COMMANDS if re.fullmatch(r"python3 -m venv \.venv && .*/pytest", one)] == [COMMANDS[-1]]
