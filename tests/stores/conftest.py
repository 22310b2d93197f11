"""Redis servers, and a directory for a FileStore."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from okta_m2m.stores.file import FileStore
from services import SERVERS, RedisServer


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Shared by tests that harm nothing in it."""
    with RedisServer(request.param) as running:
        yield running


@pytest.fixture(scope="module", params=SERVERS)
def tls_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(request.param, tls=True) as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """One that a test may stop, fill and stall."""
    with RedisServer() as running:
        yield running


@pytest.fixture
def admin(own_server: RedisServer) -> Iterator[redis.Redis]:
    with own_server.admin() as client:
        yield client


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


@pytest.fixture
def files(directory: Path) -> FileStore:
    return FileStore(directory, timeout=30)
