from __future__ import annotations

from collections.abc import Iterator

import pytest
from user_report import Directory

from okta_m2m import ServiceApp


@pytest.fixture
def directory(okta_app: ServiceApp) -> Iterator[Directory]:
    with Directory(okta_app) as opened:
        yield opened
