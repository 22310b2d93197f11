"""``.ci/run`` runs each test file of this folder, also those whose packages the extra ``dev`` does not have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.version import Version

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


@pytest.mark.parametrize("name", ["clouds", "okta"])
def test_ci_runs_the_lowest_versions_too(name: str) -> None:
    assert f'.ci/{name}_environment "$scratch/{name}-lowest" {name}-lowest' in commands(ROOT / ".ci" / "run")
    assert f'"${{2:-{name}}}"' in commands(ROOT / ".ci" / f"{name}_environment")


def test_the_lowest_pins_of_the_clouds_are_their_lower_bounds() -> None:
    """Otherwise, a bound is lower than any version that can be installed with the others."""
    pins = ROOT / ".ci" / "pins"
    bounds = dict(re.findall(r"^([\w-]+)>=([\d.]+)", (pins / "clouds.in").read_text("utf-8"), re.MULTILINE))
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)", (pins / "clouds-lowest.txt").read_text("utf-8"), re.MULTILINE))
    assert len(bounds) > 10
    assert {name: Version(bound) for name, bound in bounds.items()} == {name: Version(pinned[name]) for name in bounds}
