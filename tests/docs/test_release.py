"""What a release is made from agrees with itself: the metadata, the workflows, and what CONTRIBUTING says of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

import okta_m2m

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT, GROUPS = SETTINGS["project"], SETTINGS["dependency-groups"]


def workflow(name: str) -> dict[Any, Any]:
    loaded = yaml.safe_load((WORKFLOWS / name).read_text("utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def test_the_tests_run_on_every_system_and_every_python() -> None:
    matrix = workflow("test.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert {system.partition("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}
    classified = [
        found[1] for line in PROJECT["classifiers"] if (found := re.fullmatch(r"Programming .* :: (3\.\d+)", line))
    ]
    assert set(classified) <= set(matrix["python"])
    assert PROJECT["requires-python"] == f">={classified[0]}"


def test_the_metadata_has_extras_for_users_and_one_for_the_tests() -> None:
    """The README's command installs the tests' packages with any pip. All others are groups, which metadata does not have."""
    user_pages = "".join(page.read_text("utf-8") for page in ROOT.glob("docs/**/*.md")) + (
        ROOT / "README.md"
    ).read_text("utf-8")
    offered = {
        extra for listed in re.findall(r"(?:okta-m2m|')\.?\[([\w,]+)\]", user_pages) for extra in listed.split(",")
    }
    extras = set(PROJECT["optional-dependencies"])
    assert set(GROUPS) == {"docs", "recipes", "ci", "endurance"}
    assert not extras & set(GROUPS)
    assert extras - offered == set()


def test_no_dependency_group_names_this_package() -> None:
    """pip would look the name up on an index, where it may belong to someone else."""
    assert [
        line for lines in GROUPS.values() for line in lines if re.match(r"okta[-_.]m2m\b", line, re.IGNORECASE)
    ] == []


def test_nothing_is_published_before_the_tests_and_the_audit() -> None:
    jobs = workflow("release.yml")["jobs"]
    assert jobs["publish"]["needs"] == ["test", "build"]
    assert jobs["test"]["uses"] == "./.github/workflows/test.yml"
    steps = [step.get("run", step.get("uses")) for step in jobs["build"]["steps"]]
    audit = next(number for number, step in enumerate(steps) if step.startswith("REQUIRE_AUDIT=1 .ci/supply_chain"))
    upload = next(number for number, step in enumerate(steps) if step.startswith("actions/upload-artifact"))
    assert audit < upload


def test_a_job_may_only_do_what_it_does() -> None:
    for name in ("test.yml", "release.yml"):
        assert workflow(name)["permissions"] == {"contents": "read"}
    writes = {
        name: {right for right, level in job.get("permissions", {}).items() if level == "write"}
        for name, job in workflow("release.yml")["jobs"].items()
    }
    assert writes == {"test": set(), "build": {"id-token", "attestations"}, "publish": {"id-token"}}


def test_the_files_that_the_workflows_name_are_there() -> None:
    text = "".join(path.read_text("utf-8") for path in WORKFLOWS.glob("*.yml"))
    named = set(re.findall(r"(?<![\w/])(?:\.ci|tests|src|\.github)/[\w./-]+\w", text))
    assert len(named) >= 5
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_changelog_has_a_dated_heading_for_the_version() -> None:
    heading = rf"^## {re.escape(okta_m2m.__version__)} - 20\d\d-[01]\d-[0-3]\d$"
    assert re.search(heading, (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)


def test_every_action_is_pinned_by_its_hash() -> None:
    """A tag can be moved to other code. The comment names the release that the hash belongs to."""
    recipes = ROOT / "docs" / "examples" / "recipes"
    lines = [
        line.partition("uses:")[2].strip()
        for path in (*WORKFLOWS.glob("*.yml"), *recipes.rglob("*.yaml"))
        for line in path.read_text("utf-8").splitlines()
        if "uses:" in line
    ]
    others = [line for line in lines if not line.startswith("./")]
    assert len(others) >= 10
    assert [line for line in others if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []
