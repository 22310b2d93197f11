"""The tables of ``docs/conformance.md``: a row per promise, a column per client, a cell per test that passed.

Invariant: rows and columns come from the tests that were collected, cells from tests that ran. A missing cell is an error,
not a blank.

It is a plugin, not part of ``conftest.py``: under pytest-xdist the process that checks the tables at the end collects
nothing, so it loads only the topmost ``conftest.py``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

__all__ = ["TABLES", "Cell", "Tables"]

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests" / "fake_okta" / "conformance"
DOCUMENT = ROOT / "docs" / "conformance.md"
WRITE = "OKTA_M2M_WRITE_CONFORMANCE"
"""With this environment variable a complete run writes the document instead of comparing with it."""

PREFACE = f"""\
# Conformance

This page lists what was tested against other projects' servers, clients and API descriptions. Each cell is a test in
`tests/fake_okta/conformance` that passed. None is written by hand. A run fails if a cell is missing, or if rows, columns or cells
differ from this page. `{WRITE}=1 pytest tests/fake_okta/conformance` rewrites the page.
"""


@dataclass(frozen=True)
class Cell:
    """One cell's place: the table, the promise that is its row, the client that is its column."""

    table: str
    promise: str
    client: str


@dataclass
class Tables:
    """The cells that were collected, their texts, and the tests that could not run here."""

    collected: dict[str, Cell] = field(default_factory=dict)  # by the test's node id, in order
    shown: dict[str, str] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    about: dict[str, str] = field(default_factory=dict)  # table -> what the tests ran against, with versions
    versions: dict[str, str] = field(default_factory=dict)  # client -> name with version

    def add(self, others: dict[str, Any]) -> None:
        """Adds the tables of another process, in the form that ``asdict`` gives them."""
        self.collected |= {node: Cell(**cell) for node, cell in others["collected"].items()}
        self.skipped |= others["skipped"]
        for name in ("shown", "about", "versions"):
            getattr(self, name).update(others[name])

    def table(self, name: str) -> tuple[list[str], list[str], dict[tuple[str, str], str]]:
        """Promises, clients, and the cells that were shown."""
        cells = [(node, cell) for node, cell in self.collected.items() if cell.table == name]
        promises = list(dict.fromkeys(cell.promise for _, cell in cells))
        clients = list(dict.fromkeys(cell.client for _, cell in cells))
        shown = {(cell.promise, cell.client): self.shown[node] for node, cell in cells if node in self.shown}
        return promises, clients, shown

    def names(self) -> list[str]:
        return list(dict.fromkeys(cell.table for cell in self.collected.values()))

    def unavailable(self) -> set[str]:
        """The tables that could not run on this machine."""
        return {self.collected[node].table for node in self.skipped}

    def missing(self) -> list[str]:
        """The cells without a test that passed, except in unavailable tables."""
        gaps: list[str] = []
        for name in self.names():
            if name in self.unavailable():
                continue
            promises, clients, shown = self.table(name)
            gaps += [f"{name}: {p}, {c}" for p in promises for c in clients if (p, c) not in shown]
        return gaps

    def rendered(self) -> str:
        parts = [PREFACE]
        for name in self.names():
            promises, clients, shown = self.table(name)
            rows = [["", *(self.versions.get(client, client) for client in clients)]]
            rows.append(["---", *("---" for _ in clients)])
            rows += [[promise, *(shown[promise, client] for client in clients)] for promise in promises]
            body = "\n".join(f"| {' | '.join(_escaped(row))} |" for row in rows)
            parts.append(f"## {name}\n\n{self.about.get(name, '')}\n\n{body}\n")
        return "\n".join(parts)

    def check(self, *, write: bool) -> list[str]:
        """The problems after a complete run. Writes the document instead of comparing if ``write``."""
        gaps = [f"missing cell: {gap}" for gap in self.missing()]
        if gaps:
            return gaps
        if self.unavailable():
            reasons = [f"{name} could not run here" for name in sorted(self.unavailable())]
            return [f"docs/conformance.md was not written: {', '.join(reasons)}"] if write else []
        text = self.rendered()
        if write:
            DOCUMENT.write_text(text, encoding="utf-8", newline="\n")
            return []
        there = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else ""
        if _structure(text) != _structure(there):
            return [f"docs/conformance.md is out of date: {WRITE}=1 pytest tests/fake_okta/conformance rewrites it"]
        return []


def _structure(text: str) -> list[str]:
    """The document's lines without versions, since a new version of a client does not make it out of date."""
    return [re.sub(r"\d+\.\d[\w.]*", "*", line).rstrip() for line in text.splitlines()]


def _escaped(cells: Iterable[str]) -> list[str]:
    return [cell.replace("|", "\\|").replace("\n", " ") for cell in cells]


# ── the plugin ───────────────────────────────────────────────────────────────────────────────────────────────────────

TABLES = pytest.StashKey[Tables]()
PROBLEMS = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "conforms(table, promise, client=None): the test fills this cell of docs/conformance.md. {names} in the promise "
        "are parameters of the test; client defaults to the parameter of that name.",
    )
    config.stash[TABLES] = Tables()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tables = config.stash[TABLES]
    for item in items:
        mark = item.get_closest_marker("conforms")
        if mark is None:
            continue
        callspec = getattr(item, "callspec", None)
        params = dict(callspec.params) if callspec else {}
        table, promise = mark.args
        client = mark.kwargs.get("client") or params["client"]
        tables.collected[item.nodeid] = Cell(table, promise.format(**params), client)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    report = yield
    tables = item.config.stash[TABLES]
    if item.nodeid in tables.collected:
        if report.skipped:
            tables.skipped.add(item.nodeid)
        elif call.when == "call" and report.passed:
            tables.shown.setdefault(item.nodeid, "✓")
        if report.failed:
            tables.shown.pop(item.nodeid, None)
    return report


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_testnodedown(node: Any) -> None:
    output = getattr(node, "workeroutput", None) or {}  # a worker that crashed has none
    if "tables" in output:
        node.config.stash[TABLES].add(output["tables"])


def pytest_sessionfinish(session: pytest.Session) -> None:
    tables, options = session.config.stash[TABLES], session.config.option
    if hasattr(session.config, "workeroutput"):  # a worker of pytest-xdist, which ran only some of the tests
        session.config.workeroutput["tables"] = asdict(tables)
        return
    files = {path.name for path in TESTS.glob("test_*.py")}
    selected = (
        options.keyword
        or options.markexpr not in ("", "matrix or interop")
        or options.deselect
        or any("::" in arg for arg in session.config.args)
    )
    complete = {node.partition("::")[0].rpartition("/")[2] for node in tables.collected} == files and not selected
    if not complete or options.collectonly or session.shouldstop or session.shouldfail:
        return
    problems = tables.check(write=bool(os.environ.get(WRITE)))
    session.config.stash[PROBLEMS] = problems
    if problems and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for problem in config.stash.get(PROBLEMS, []):
        terminalreporter.write_line(f"conformance: {problem}", red=True)
