"""Times that servers name."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

import pytest

from okta_m2m._base.clocks import http_date

MOMENT = 784111777.0


@pytest.fixture(params=["UTC", "America/New_York", "Asia/Kolkata"])
def zone(request: pytest.FixtureRequest) -> Iterator[str]:
    """This machine's time zone, which must not matter."""
    if sys.platform == "win32":
        pytest.skip("a process cannot change it there")
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield request.param
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 -0000",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 10:49:37 +0200",
    ],
)
def test_a_date_is_the_same_time_in_every_time_zone(text: str, zone: str) -> None:
    assert http_date(text) == MOMENT


@pytest.mark.parametrize(
    "text", [None, "", "soon", "Sun, 99 Nov 1994 08:49:37 GMT", "0", "Sun, 06 Nov 99999 08:49:37 GMT"]
)
def test_an_invalid_date_is_none(text: str | None) -> None:
    assert http_date(text) is None
