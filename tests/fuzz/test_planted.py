"""Fuzzing finds each bug that is planted in a parser, within some thousand runs: what finds nothing in a wrong program proves
nothing about a right one. Which inputs a seed gives depends on the modules that Hypothesis has seen, so there are many runs."""

from __future__ import annotations

from typing import Any

import pytest
import targets
from hypothesis import HealthCheck, Phase, given, seed, settings
from targets import TARGETS
from test_fuzz import inputs

from okta_m2m._base import clocks
from okta_m2m._core import answers
from okta_m2m._core.fleet import Fleet
from okta_m2m.keys import key_formats
from okta_m2m.settings import okta_yaml
from schedules import plant

RUNS = 10_000

PLANTED: dict[str, tuple[str, Any, str, tuple[str, str]]] = {
    "expires_in that no float holds": (
        "token-answers",
        answers,
        "lifetime",
        ("(ValueError, OverflowError)", "ValueError"),
    ),
    "expires_in of a year": (
        "token-answers",
        answers,
        "lifetime",
        ("SHORTEST_LIFETIME), LONGEST_LIFETIME)", "1.0), 1e9)"),
    ),
    "deeply nested JSON": ("token-answers", answers, "json_object", ("(ValueError, RecursionError)", "ValueError")),
    "a date with two commas": (
        "dates-and-rate-limits",
        clocks,
        "http_date",
        ("        moment =", "        assert value.count(',') < 2\n        moment ="),
    ),
    "a date that is over": ("dates-and-rate-limits", answers, "retry_after", ("date), 0.0) + 1", "date), -1e9) + 1")),
    "a digit that is no number": ("dates-and-rate-limits", answers, "rate_limit_pause", ("isdecimal", "isdigit")),
    "a record with a huge number": (
        "sealed-records",
        Fleet,
        "_open",
        ("AttributeError, OverflowError", "AttributeError"),
    ),
    "a record from before all time": ("sealed-records", Fleet, "_open", (" or not isfinite(sent_at)", "")),
    "renewals that are no mapping": ("sealed-records", Fleet, "_open", ("KeyError, AttributeError,", "KeyError,")),
    "a date that is impossible in YAML": (
        "okta-yaml",
        okta_yaml,
        "parse_okta_yaml",
        ("(ValueError, TypeError", "(TypeError"),
    ),
    "a key of the wrong parts": ("keys", key_formats, "_load_ec", ("except ValueError:", "except KeyError:")),
    "a number of a key that is a list": (
        "keys",
        key_formats,
        "_number",
        ("if not isinstance(text, str):", "if text is None:"),
    ),
}


FAR = {"a date that is over", "a record from before all time"}
"""Those that may be found only after some thousand runs."""


@pytest.mark.parametrize("bug", [pytest.param(one, marks=pytest.mark.matrix) if one in FAR else one for one in PLANTED])
def test_fuzzing_finds_a_planted_bug(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, owner, function, change = PLANTED[bug]
    plant(monkeypatch, owner, function, change)
    for user in (answers, targets):  # which have the function under a name of their own
        if owner is not Fleet and hasattr(user, function):
            monkeypatch.setattr(user, function, getattr(owner, function))

    @seed(1)
    @settings(
        max_examples=RUNS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    @given(inputs(name))
    def check(data: bytes) -> None:
        TARGETS[name].check(data)

    with pytest.raises(Exception) as found:
        check()
    assert not isinstance(found.value, pytest.fail.Exception)
