"""Prints pyproject.toml's lower bounds as pip constraints: each package in exactly the lowest version that is allowed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

settings = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))
project, groups = settings["project"], settings["dependency-groups"]
requirements = set(project["dependencies"]).union(*project["optional-dependencies"].values(), *groups.values())
lowest: dict[str, str] = {}
for requirement in sorted(requirements):
    bound = re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)", requirement)
    if bound is not None and bound[1] in lowest:
        raise SystemExit(f"{bound[1]} has two lower bounds.")
    if bound is not None:
        lowest[bound[1]] = bound[2]
    elif not requirement.startswith("okta-m2m["):
        raise SystemExit(f"{requirement!r} has no lower bound of the form name>=version.")
for name, version in lowest.items():
    print(f"{name}=={version}")
