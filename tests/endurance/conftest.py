"""Everything in this folder carries the mark ``endurance``, and has time to end."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    whole = 60.0 * config.getoption("--minutes")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.endurance)
            item.add_marker(pytest.mark.timeout(300 + whole))
