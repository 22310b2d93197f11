"""What a page prints works after the ``pip install`` that the page prints: its imports and its commands need no other package.

Invariant: of ``okta-m2m``, a page names every extra that it needs. A page that installs nothing is not checked.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from xml.etree import ElementTree

import pytest
from packaging.utils import canonicalize_name
from test_docs import API, CLIENT_ID, FENCE, ON_FAKE_OKTA, ORG, PAGES, ROOT, prepared

from command import environment, posix_only
from extra_alone import environment_with_only, packages_of
from okta_m2m.settings._arguments import ATTACH
from okta_m2m.testing import FakeOkta

README = (ROOT / "README.md").read_text("utf-8")
INSTALLS = re.compile(r"okta-m2m\[([\w,]+)\]|'[./]*\[([\w,]+)\]'")
OTHER_PACKAGES = re.compile(r"pip install ([\w -]+)")
ADAPTERS = {"requests", "httpx", "httpx2", "aiohttp", "niquests"}


def extras_of(text: str) -> set[str]:
    return {extra for found in INSTALLS.finditer(text) for extra in (found[1] or found[2]).split(",")}


def shown(text: str, *languages: str) -> list[str]:
    """The blocks that a reader sees."""
    return [
        textwrap.dedent(block["code"])
        for block in FENCE.finditer(text)
        if block["hidden"] is None and block["language"] in languages
    ]


def included(page: Path, text: str) -> list[str]:
    """The programs that the page shows from ``docs/examples``."""
    paths = re.findall(r"^```{literalinclude} (\S+\.py)$", text, re.MULTILINE)
    return [(page.parent / path).read_text("utf-8") for path in paths]


def imported(code: str) -> Iterator[str]:
    """The packages that the code imports, and those that it imports by way of ours."""
    for node in ast.walk(ast.parse(code)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            module = rest.partition(".")[0]
            yield module if package == "okta_m2m" and module in ADAPTERS else package


WITH_EXTRAS = [page for page in PAGES if extras_of(page.read_text("utf-8"))]


@pytest.mark.parametrize("page", WITH_EXTRAS, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_what_its_code_and_its_commands_need(page: Path) -> None:
    text = page.read_text("utf-8")
    named = packages_of(extras_of(text)) | {"pytest"}  # the pages on tests say that they need it
    named |= {canonicalize_name(word) for found in OTHER_PACKAGES.finditer(text) for word in found[1].split()}
    installed_by = packages_distributions()
    lacking = {
        package
        for block in [*shown(text, "python"), *included(page, text)]
        for package in imported(block)
        if package in installed_by and not named.intersection(map(canonicalize_name, installed_by[package]))
    }
    assert lacking == set()
    if any(re.search(r"^okta-m2m |&& okta-m2m ", block, re.MULTILINE) for block in shown(text, "sh")):
        assert "typer" in named


def test_a_page_with_a_command_names_an_extra() -> None:
    commands = re.compile(r"^okta-m2m |&& okta-m2m ", re.MULTILINE)
    pages = [page for page in PAGES if any(map(commands.search, shown(page.read_text("utf-8"), "sh")))]
    assert len(pages) >= 3
    assert [page.name for page in pages if page not in WITH_EXTRAS] == []


@pytest.fixture
def org(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOkta]:
    """The org of the README, whose key is in the working directory."""
    monkeypatch.chdir(tmp_path)
    with FakeOkta() as okta:
        yield prepared(okta)


def run_python(code: str, okta: FakeOkta, *extras: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code.replace(ORG, okta.url).replace(API, okta.url)],
        env=environment_with_only(set(extras), Path("python")),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_code_of_the_readme_works_with_the_extra_of_its_install_command(org: FakeOkta) -> None:
    assert ON_FAKE_OKTA in README
    done = run_python("".join(shown(README, "python")), org, "requests")
    assert (done.returncode, done.stderr) == (0, "")
    assert [token.scopes for token in org.tokens()] == [("okta.users.read",), ("api:read",)]


def test_the_first_call_of_the_readme_fails_with_403_if_the_app_has_no_role(org: FakeOkta) -> None:
    org.apps[CLIENT_ID].roles = []
    done = run_python("".join(shown(README, "python")), org, "requests")
    assert re.match(r"requests.exceptions.HTTPError: 403 ", done.stderr.splitlines()[-1])


def test_the_readme_shows_the_lines_that_the_errors_show() -> None:
    lines = re.findall(r"^\| \[\w+\]\(docs/clients/.*?\| `([^`]+)`", README, re.MULTILINE)
    assert lines == [ATTACH[client].partition(", or ")[0] for client in ("requests", "httpx2", "aiohttp")]


def run_commands(commands: str, okta: FakeOkta, folder: Path, *extras: str) -> subprocess.CompletedProcess[str]:
    """As in an environment with these extras, where ``pip install`` has nothing to do. The first failure ends the commands."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "pip").write_text("#!/bin/sh\n", encoding="utf-8")
    (programs / "okta-m2m").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m okta_m2m.cli "$@"\n', encoding="utf-8")
    for program in programs.iterdir():
        program.chmod(0o755)
    variables = environment(folder, **environment_with_only(set(extras), folder / "python"))
    variables["PATH"] = f"{programs}{os.pathsep}{variables['PATH']}"
    return subprocess.run(
        ["sh", "-e", "-c", commands.replace(ORG, okta.url)],
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@posix_only
def test_the_doctor_of_the_readme_works_with_the_extra_that_it_names(org: FakeOkta, tmp_path: Path) -> None:
    (commands,) = [block for block in shown(README, "sh") if "doctor" in block]
    done = run_commands(commands, org, tmp_path, "cli")
    assert (done.returncode, done.stderr) == (0, "")
    assert "HTTP 200" in done.stdout


@posix_only
@pytest.mark.matrix
@pytest.mark.parametrize("page", ["tutorial.md", "recipes/audit.md"])
def test_the_commands_that_create_an_app_work_with_the_extra_that_the_page_names(
    page: str, org: FakeOkta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the setup page have a test of their own."""
    monkeypatch.setenv("OKTA_CLIENT_ORGURL", org.url)
    monkeypatch.setenv("OKTA_CLIENT_TOKEN", org.ssws)  # entered at a prompt otherwise
    blocks = shown((ROOT / "docs" / page).read_text("utf-8"), "sh")
    commands = [block for block in blocks if "okta-m2m app " in block]
    assert commands
    done = run_commands("".join(commands), org, tmp_path, "cli")
    assert done.returncode == 0, done.stderr
    created = [app for app in org.apps.values() if app.client_id != CLIENT_ID]
    assert [app.roles for app in created] == [["READ_ONLY_ADMIN"]]


@pytest.mark.matrix
def test_the_picture_of_the_doctor_shows_what_the_commands_print(monkeypatch: pytest.MonkeyPatch) -> None:
    specification = spec_from_file_location("make_pictures", ROOT / "docs" / "make_pictures.py")
    assert specification is not None
    assert specification.loader is not None
    made = module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "make_pictures", made)  # dataclasses look their module up
    specification.loader.exec_module(made)
    picture = ElementTree.parse(made.IMAGES / "doctor-cure.svg")
    drawn = " ".join(element.text or "" for element in picture.iter("{http://www.w3.org/2000/svg}text"))
    runs = made.run_cure()
    assert ["✗" in run.printed for run in runs] == [True, False, False]
    printed = " ".join(f"{run.command} {run.printed}" for run in runs)
    assert set(made.normalize(printed).split()) <= set(made.normalize(drawn).split())
