"""Fixtures that several files of these tests use."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from key_material import ec_key, pem
from okta_m2m._threads.notifiers import Notifier
from setting_places import World


@pytest.fixture
def everything_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reporting waits until the log and the observers were notified, however busy this machine is."""
    monkeypatch.setattr(Notifier.settle, "__defaults__", (30.0,))


@pytest.fixture
def no_log() -> Iterator[None]:
    """Nothing is decided by what is logged, and it takes a third of the time."""
    logger = logging.getLogger("okta_m2m")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a private key."""
    path = tmp_path / "key.pem"
    path.write_text(pem(ec_key()))
    path.chmod(0o600)
    return path


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The places that settings are read from."""
    return World(tmp_path)
