"""A pytest plugin: ``--minutes`` says how long ``tests/endurance`` lasts in all, and a table at the end shows its figures."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec

import pytest

__all__ = ["Note", "Seconds", "need"]

Note = Callable[[str, object, str], None]
"""``note(what, measured, must)``: a row of the table."""
Seconds = Callable[[float], float]
"""``seconds(share)``: that share of what ``--minutes`` leaves beside :data:`UNSCALED`. All shares together are 1."""

UNSCALED = 220.0
"""Seconds of a round that ``--minutes`` does not change: servers that start, and processes that end."""

_ROWS: pytest.StashKey[list[tuple[str, str, str]]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--minutes",
        type=float,
        default=5.0,
        help="how long tests/endurance lasts, about: 5 minutes by default, which is also the least",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = []


@pytest.fixture(scope="session")
def note(request: pytest.FixtureRequest) -> Note:
    rows = request.config.stash[_ROWS]

    def noted(what: str, measured: object, must: str) -> None:
        rows.append((what, str(measured), must))

    return noted


@pytest.fixture(scope="session")
def seconds(request: pytest.FixtureRequest) -> Seconds:
    scaled = max(0.0, 60.0 * request.config.getoption("--minutes") - UNSCALED)
    return lambda share: share * scaled


def need(module: str) -> None:
    """Skips a test whose package is not installed; in CI, fails it."""
    if find_spec(module) is not None:
        return
    reason = f"{module} is not installed: pip install -e '.[dev]' --group endurance"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash[_ROWS]
    if not rows:
        return
    terminalreporter.section("figures")
    head = ("what", "measured", "must be")
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(3)]
    for row in [head, tuple("-" * width for width in widths), *rows]:
        terminalreporter.write_line(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
