"""The project's public addresses stand in one place, and what is made from them works. While there are none, there are no links.

Needs hatchling, which builds the package. Without it these tests are skipped; in CI they fail.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import BytesParser
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = r"(!?)\[[^]]*\]\(([^)]+)\)"
DOCUMENTATION, REPOSITORY = "https://docs.example.com/en/stable", "https://forge.example.com/acme/okta-m2m"

pytestmark = [pytest.mark.site, pytest.mark.timeout(300)]


def project(folder: Path, documentation: str, repository: str) -> Path:
    """A copy of the project that has these addresses."""
    if find_spec("hatchling") is None:
        if os.environ.get("CI"):
            pytest.fail("hatchling is not installed")
        pytest.skip("hatchling is not installed")
    for name in ("src", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    addresses = folder / "src" / "okta_m2m" / "_base" / "addresses.py"
    text = addresses.read_text("utf-8")
    for name, address in (("DOCUMENTATION", documentation), ("REPOSITORY", repository)):
        text, found = re.subn(rf'^{name}: Final = ".*"$', f'{name}: Final = "{address}"', text, flags=re.MULTILINE)
        assert found == 1
    addresses.write_text(text, "utf-8")
    return folder


def wheel_of(source: Path) -> Path:
    """The wheel that is built from the sdist of ``source``."""
    build = [sys.executable, "-m", "hatchling", "build", "-t"]
    subprocess.run([*build, "sdist"], cwd=source, check=True, capture_output=True)
    (sdist,) = (source / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(source / "unpacked", filter="data")
    (unpacked,) = (source / "unpacked").iterdir()
    subprocess.run([*build, "wheel"], cwd=unpacked, check=True, capture_output=True)
    (wheel,) = (unpacked / "dist").glob("*.whl")
    return wheel


def metadata_of(source: Path) -> Message:
    with zipfile.ZipFile(wheel_of(source)) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return BytesParser().parsebytes(archive.read(name))


def readme_of(metadata: Message) -> str:
    content = metadata.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content.decode("utf-8")


def evaluated(source: Path, expression: str) -> str:
    """With the package of ``source``."""
    command = [sys.executable, "-c", f"import runpy, okta_m2m.errors; print({expression})"]
    environment = {**os.environ, "PYTHONPATH": str(source / "src")}
    return subprocess.run(
        command, cwd=source, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


BASE_URL = "runpy.run_path('docs/conf.py')['html_baseurl']"
HELP = "okta_m2m.errors.InvalidClient('What happened.').help"


def test_with_addresses_the_package_the_site_and_the_errors_have_absolute_links(tmp_path: Path) -> None:
    source = project(tmp_path, DOCUMENTATION, REPOSITORY)
    metadata = metadata_of(source)
    assert metadata.get_all("Project-URL") == [f"Documentation, {DOCUMENTATION}", f"Repository, {REPOSITORY}"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    links = re.findall(LINK, readme_of(metadata))
    assert len(links) == len(re.findall(LINK, (ROOT / "README.md").read_text("utf-8"))) > 20
    for image, link in links:
        if link.startswith(DOCUMENTATION):
            page = link.removeprefix(DOCUMENTATION).partition("#")[0]
            file = Path(f"docs{page}").with_suffix(".md")
            assert page.endswith(".html")
        else:
            kind = "raw" if image else "blob"
            assert link.startswith(f"{REPOSITORY}/{kind}/HEAD/"), link
            file = Path(link.removeprefix(f"{REPOSITORY}/{kind}/HEAD/"))
            assert image or file.suffix != ".md" or file.parent == Path(), "a page of the docs is on the site"
        assert (ROOT / file).is_file(), link
    assert evaluated(source, BASE_URL) == f"{DOCUMENTATION}/"
    assert evaluated(source, HELP) == f"{DOCUMENTATION}/errors.html#invalidclient"


def test_without_an_address_there_is_no_url_and_no_link(tmp_path: Path) -> None:
    source = project(tmp_path, "", "")
    metadata = metadata_of(source)
    assert metadata.get_all("Project-URL") is None
    readme = (ROOT / "README.md").read_text("utf-8")
    shown = readme_of(metadata)
    assert re.findall(LINK, shown) == []
    assert "lacks the scope or an admin role." in " ".join(shown.split())
    without_pictures = [line for line in readme.splitlines() if not line.startswith("![")]
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", "\n".join(without_pictures))
    where = "The pages that this text names are in the folder `docs` of the source distribution."
    assert shown.replace(where, "").split() == plain.split()
    assert where in shown
    assert evaluated(source, BASE_URL) == ""
    assert evaluated(source, HELP) == "okta-m2m explain InvalidClient"


def test_the_wheel_has_the_page_that_the_command_explains_errors_from(tmp_path: Path) -> None:
    wheel = wheel_of(project(tmp_path, "", ""))
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("okta_m2m/cli/errors.md") == (ROOT / "docs" / "errors.md").read_bytes()
        archive.extractall(tmp_path / "installed")
    # Nothing of this checkout: the page comes from the wheel.
    command = [sys.executable, "-m", "okta_m2m.cli", "explain", "E0000006"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed"), "COLUMNS": "200"}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    assert "Means: The app has the scope, but not the admin role." in ran.stdout
