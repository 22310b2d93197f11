"""The page of the packages that okta-m2m works with shows the versions that the tests are run with."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
WRITER = runpy.run_path(str(ROOT / "docs" / "write_works_with.py"))
ROWS: list[Any] = [row for rows in WRITER["ROWS"].values() for row in rows]


def test_the_page_shows_the_pinned_versions() -> None:
    assert WRITER["PAGE"].read_text("utf-8") == WRITER["rendered"](), "run docs/write_works_with.py"


def test_a_test_runs_with_each_package() -> None:
    """A file that the page's tests run imports it."""
    without = []
    for row in ROWS:
        place, module = ROOT / row.test, re.escape(row.module or row.package)
        files = [place] if place.is_file() else sorted(place.rglob("*.py"))
        uses = re.compile(rf"(import|from|needs\(\"|\") ?{module}\b")
        if not any(uses.search(path.read_text("utf-8")) for path in files):
            without.append(row.package)
    assert without == []
