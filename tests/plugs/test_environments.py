"""``.ci/run`` runs each test file of this folder, also those whose packages the extra ``dev`` does not have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from plugs_support import NEEDS

ROOT = Path(__file__).parents[2]
ENVIRONMENT = re.compile(r"\.ci/(\w+_environment)\b")


def commands(path: Path) -> str:
    """The script without its comments."""
    return re.sub(r"^\s*#.*$", "", path.read_text("utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize("file", NEEDS)
def test_a_file_that_needs_more_packages_runs_in_an_environment_of_ci(file: str) -> None:
    """pytest stops with an error if a file that is named cannot be imported."""
    scripts = [ROOT / ".ci" / name for name in ENVIRONMENT.findall(commands(ROOT / ".ci" / "run"))]
    assert [path.name for path in scripts if f"tests/plugs/{file}" in commands(path)] != []
