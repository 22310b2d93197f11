"""What a herd of processes does to a token endpoint with a rate limit, and what becomes of their calls.

Small herds run always, those of the full size with ``-m matrix``, and those that take many minutes with ``-m endurance``;
``-s`` shows the figures of each, which
``docs/operations.md`` publishes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from itertools import product

import pytest

from herd import Figures, Herd, fullest
from promises import in_matrix

LIMIT = 150
"""Token requests a minute that Okta allows a developer org."""

HOUR = 3600.0

SMALL = [pytest.param(60, LIMIT * 60 // 1000, id="small")]
FULL = [pytest.param(1000, LIMIT, id="full", marks=[pytest.mark.matrix, pytest.mark.timeout(900)])]
LARGE = [pytest.param(3000, LIMIT, id="large", marks=[pytest.mark.endurance, pytest.mark.timeout(1800)])]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Very many processes that fail write very many warnings."""
    logger = logging.getLogger("okta_m2m")
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)


def ideal(processes: int, limit: int) -> float:
    """Seconds until so many processes have a token, if no request is lost: one window of a minute after the other."""
    return (math.ceil(processes / limit) - 1) * 60.0


def shown(what: str, figures: Figures) -> Figures:
    print(f"\n{what}: {figures}")
    return figures


# ── steady ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("processes", "limit"), SMALL + FULL + LARGE)
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
def test_many_processes_renew_without_a_failure_or_a_peak_of_requests(processes: int, limit: int, shared: bool) -> None:
    herd = Herd(processes, limit=limit, shared=shared, start=HOUR)
    herd.run(2 * HOUR)
    figures = shown("steady", herd.run(3 * HOUR))
    assert figures.failed == figures.limited == 0
    assert figures.longest_wait == 0.0
    if shared:
        assert figures.token_requests <= 4
    else:
        assert figures.token_requests <= 1.02 * processes * 3 / 0.77 + 2
        assert figures.peak <= 3 + processes / 200


# ── restart ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("processes", "limit"),
    [
        pytest.param(60, 15, id="small"),
        pytest.param(600, LIMIT, id="600", marks=pytest.mark.matrix),
        *LARGE,
    ],
)
def test_after_a_rate_limit_the_requests_of_many_processes_are_spread_and_all_succeed(
    processes: int, limit: int
) -> None:
    herd = Herd(processes, limit=limit)
    began = herd.time
    figures = shown("restart of all, without a store", herd.run(2 * HOUR, herd.all_served))
    first_reset = began + 60.0
    after = [moment for moment in herd.endpoint.asked if moment >= first_reset]
    print(f"after the reset: at most {fullest(after, 1.0)}/s; ideal {ideal(processes, limit):.0f} s")
    assert fullest(after, 1.0) <= max(processes / 6, 5)
    assert figures.last_served <= 1.25 * ideal(processes, limit) + 30.0


@pytest.mark.parametrize(("processes", "limit"), SMALL + FULL + LARGE)
def test_many_processes_with_a_store_start_with_one_token_request(processes: int, limit: int) -> None:
    herd = Herd(processes, limit=limit, shared=True)
    figures = shown("restart of all, with a store", herd.run(HOUR / 2, herd.all_served))
    assert figures.token_requests == 1
    assert figures.failed == 0
    assert figures.last_served <= 5.0


# ── outages ──────────────────────────────────────────────────────────────────────────────────────────────────────────


TROUBLES = ["503", "reset", "hang", "garbage"]
PAIRS = [("503", 1.0), ("hang", 30.0)]


@pytest.mark.parametrize(
    ("trouble", "max_wait"), [*PAIRS, *in_matrix(*(p for p in product(TROUBLES, [1.0, 5.0, 30.0]) if p not in PAIRS))]
)
@pytest.mark.parametrize("callers", [8, *in_matrix(1)])
def test_a_process_asks_a_failing_endpoint_at_most_20_times_a_minute(
    callers: int, max_wait: float, trouble: str
) -> None:
    herd = Herd(1, limit=None, max_wait=max_wait, callers=callers, pause=0.2)
    herd.endpoint.trouble = trouble
    herd.run(600.0)
    asked = herd.endpoint.asked
    assert fullest(asked, 60.0) <= 20
    assert len(asked) >= 10 * 4, "a process that hardly asks notices too late that the endpoint is back"


@pytest.mark.parametrize("trouble", ["503", "hang", *in_matrix("reset", "garbage")])
@pytest.mark.parametrize("max_wait", [30.0, *in_matrix(1.0, 5.0)])
def test_after_a_success_the_next_failure_is_retried_quickly(max_wait: float, trouble: str) -> None:
    herd = Herd(1, limit=None, max_wait=max_wait, callers=4, pause=0.2, lifetime=60.0)
    herd.endpoint.trouble = trouble
    herd.run(HOUR / 4)
    herd.endpoint.trouble = None
    figures = herd.run(60.0)
    # Two requests may hang until max_wait has passed, and the pause before the next one is at most five seconds.
    assert figures.last_served <= max_wait + 5.0 + 1.0
    herd.run(10 * 60.0)
    # What fails next is asked again as quickly as at first.
    herd.endpoint.trouble = "503"
    herd.run(120.0, lambda: herd.endpoint.asked[-1] > herd.endpoint.issued[-1] + 1.0)
    failed, asked = herd.time, len(herd.endpoint.asked)
    herd.run(5.0)
    assert len(herd.endpoint.asked) > asked, f"not asked again within 5 s of {failed}"


SMALL_OUTAGE = (30, 10, 600.0)
FULL_OUTAGE = [pytest.mark.endurance, pytest.mark.timeout(1800)]


@pytest.mark.parametrize(
    ("trouble", "shared", "processes", "limit", "hour"),
    [
        pytest.param("503", False, *SMALL_OUTAGE, id="503-alone-small", marks=pytest.mark.matrix),
        pytest.param("503", True, *SMALL_OUTAGE, id="503-shared-small"),
        pytest.param("hang", False, *SMALL_OUTAGE, id="hang-alone-small"),
        pytest.param("hang", True, *SMALL_OUTAGE, id="hang-shared-small", marks=pytest.mark.matrix),
        pytest.param("503", False, 1000, LIMIT, HOUR, id="503-alone-full", marks=FULL_OUTAGE),
        # Those that wait for another's fetch look into the store twice a second: more takes minutes to simulate.
        pytest.param("503", True, 200, LIMIT, HOUR, id="503-shared-full", marks=FULL_OUTAGE),
    ],
)
def test_after_an_outage_as_long_as_a_tokens_lifetime_all_processes_recover(
    trouble: str, shared: bool, processes: int, limit: int, hour: float
) -> None:
    herd = Herd(processes, limit=limit, shared=shared, start=hour, lifetime=hour)
    herd.run(2.5 * hour)
    herd.endpoint.trouble = trouble
    figures = shown(f"outage ({trouble})", herd.run(hour))
    assert figures.token_requests <= 20 * processes * hour / 60
    herd.endpoint.trouble = None
    back = herd.time
    figures = shown("after it", herd.run(2 * HOUR, herd.all_served))
    # Those that ask a failing endpoint ask on, until it answers; from its first 429 on they spread out.
    after = [moment for moment in herd.endpoint.asked if moment >= back + 60.0]
    print(f"after the reset: at most {fullest(after, 1.0)}/s; ideal {ideal(processes, limit):.0f} s")
    # Until its next attempt a process pauses for 10 s or so, and a request that hangs takes a few seconds.
    assert figures.last_served <= 1.25 * ideal(processes, limit) + 30.0 + 15.0
    assert fullest(after, 1.0) <= max(processes / 6, 5)
    assert herd.run(60.0).failed == 0


# ── a store that is down ─────────────────────────────────────────────────────────────────────────────────────────────


def _store_fails(processes: int, limit: int, share: float, down: float) -> Figures:
    """The store fails when that share of the token's life is spent."""
    herd = Herd(processes, limit=limit, shared=True)
    herd.run(share * HOUR)
    assert herd.store is not None
    herd.store.down = down
    return shown(f"store down from {share:.0%} of the token's life on", herd.run(0.5 * HOUR))


FULL_AT = [
    pytest.param(1000, LIMIT, share, id=f"full-{share:.0%}", marks=[pytest.mark.matrix, pytest.mark.timeout(900)])
    for share in (0.7, 0.8)
]


@pytest.mark.parametrize(("processes", "limit", "share"), [pytest.param(60, 9, 0.7, id="small"), *FULL_AT])
@pytest.mark.parametrize("down", [0.001, 10.0], ids=["refuses", "hangs"])
def test_many_processes_whose_store_is_down_behave_as_without_a_store(
    processes: int, limit: int, share: float, down: float
) -> None:
    alone = Herd(processes, limit=limit, start=HOUR)
    alone.run(2 * HOUR)
    usual = shown("without a store", alone.run(0.5 * HOUR))
    figures = _store_fails(processes, limit, share, down)
    assert figures.failed == 0
    assert figures.peak <= max(2 * usual.peak, 4)


@pytest.mark.parametrize(
    ("processes", "limit", "share"),
    [
        # So many a minute suffice for so many, in the time that the token still lives when the fleet notices.
        pytest.param(60, 18, 0.92, id="small"),
        pytest.param(600, LIMIT, 0.92, id="full", marks=pytest.mark.matrix),
        pytest.param(1000, LIMIT, 0.85, id="full-85%", marks=pytest.mark.matrix),
    ],
)
@pytest.mark.parametrize("down", [0.001, 10.0], ids=["refuses", "hangs"])
def test_a_store_that_fails_shortly_before_the_renewal_fails_no_call(
    processes: int, limit: int, share: float, down: float
) -> None:
    assert _store_fails(processes, limit, share, down).failed == 0
