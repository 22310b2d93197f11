"""Runs Python as in an environment that has one extra of this package, or a few, and nothing else; or dependency groups too.

Invariant: nothing is installed. Packages that these do not need are there, but a program cannot import them. So this
needs no package index, and what it shows about a new environment is which modules are missing there.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
OURS = "okta-m2m"

# Python imports a module of this name at startup.
SITECUSTOMIZE = """
import sys
from importlib.machinery import PathFinder

HIDDEN = frozenset({hidden!r})


class VisiblePackages(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)


sys.meta_path[:] = [VisiblePackages if finder is PathFinder else finder for finder in sys.meta_path]
"""


def environment_with_only(extras: set[str], folder: Path, *, groups: Iterable[str] = ()) -> dict[str, str]:
    """The variables under which Python, and every program that it starts, sees only these. ``folder`` is for a file."""
    visible = packages_of(extras, groups)
    hidden = {
        module
        for module, distributions in packages_distributions().items()
        if not visible.intersection(map(canonicalize_name, distributions))
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE.format(hidden=sorted(hidden)), "utf-8")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "PYTEST_"))}
    return {**inherited, "PYTHONPATH": str(folder), "PYTHONIOENCODING": "utf-8"}


def packages_of(extras: set[str], groups: Iterable[str] = ()) -> set[str]:
    """The names of the installed packages that ``pip install 'okta-m2m[...]' --group ...`` installs."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    project = settings["project"]
    lines_of = {(OURS, extra): lines for extra, lines in project["optional-dependencies"].items()}
    lines_of[OURS, ""] = project["dependencies"]
    found: set[str] = set()
    looked_at: set[tuple[str, str]] = set()
    ahead = [(OURS, extra) for extra in {"", *extras}]
    for requirement in map(Requirement, (line for group in groups for line in settings["dependency-groups"][group])):
        ahead += [(canonicalize_name(requirement.name), each) for each in {"", *requirement.extras}]
    while ahead:
        package = ahead.pop()
        if package in looked_at:
            continue
        looked_at.add(package)
        name, extra = package
        found.add(name)
        for requirement in map(Requirement, lines_of.get(package) or requirements(name)):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                ahead += [(canonicalize_name(requirement.name), each) for each in {"", *requirement.extras}]
    return found


def requirements(name: str) -> list[str]:
    """Empty for a package that is not installed: its modules are not there anyway."""
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []
