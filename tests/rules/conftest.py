"""A fixture of the tests of the rules."""

from __future__ import annotations

import pytest

from okta_m2m._threads.notifiers import Notifier


@pytest.fixture
def everything_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reporting waits until the log and the observers were notified, however busy this machine is."""
    monkeypatch.setattr(Notifier.settle, "__defaults__", (30.0,))
