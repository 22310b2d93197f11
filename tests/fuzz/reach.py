"""Which lines of each parser the inputs of ``strategies.py`` reach, and how often. A line that is reached by fewer than
:data:`ENOUGH` of :data:`INPUTS` inputs fails, unless :data:`RARE` says why."""

from __future__ import annotations

import dis
import linecache
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from inspect import unwrap
from types import CodeType, FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from targets import TARGETS
from test_fuzz import inputs

from okta_m2m._base import clocks
from okta_m2m._core import answers, challenges
from okta_m2m._core.fleet import Fleet
from okta_m2m.keys import key_formats
from okta_m2m.settings import okta_yaml

INPUTS, ENOUGH = 600, 3

PARSERS: dict[str, tuple[Callable[..., Any], ...]] = {
    "www-authenticate": (challenges.challenges,),
    "dates-and-rate-limits": (clocks.http_date, answers.rate_limit_pause, answers.retry_after),
    "token-answers": (answers.json_object, answers.error_of, answers.granted_token, answers.lifetime),
    "keys": (
        key_formats.load_jwk,
        key_formats._pick,
        key_formats._string,
        key_formats._number,
        key_formats._load_ec,
        key_formats.parse_json,
    ),
    "okta-yaml": (okta_yaml.parse_okta_yaml,),
    "sealed-records": (Fleet._open, Fleet._forced_of),
}

RARE = {
    "raise StoreFailed(": "a store that returns no bytes; the target passes bytes only",
    "except ImportError:": "ruamel.yaml is installed",
    'f"{path} exists, but ruamel.yaml': "the same",
    'remedy=f"Run: {install_command': "the same",
    "raise ConfigurationError(": "the same",
    ") from None": "the same",
}
"""Beginnings of lines that these inputs need not reach, and why."""


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def measure(name: str, number: int = 1) -> dict[str, dict[int, int]]:
    """For each function of a target's parser, by how many inputs each of its lines was reached."""
    functions = {unwrap(function).__code__: function.__qualname__ for function in PARSERS[name]}
    owners = {code: owner for top, owner in functions.items() for code in _codes(top)}
    reached: Counter[tuple[str, int]] = Counter()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        return lines if frame.f_code in owners else None

    def lines(frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            seen.add((owners[frame.f_code], frame.f_lineno))
        return lines

    seen: set[tuple[str, int]] = set()

    @seed(number)
    @settings(
        max_examples=INPUTS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],
    )
    @given(inputs(name))
    def check(data: bytes) -> None:
        before = sys.gettrace()
        seen.clear()
        sys.settrace(trace)
        try:
            TARGETS[name].check(data)
        finally:
            sys.settrace(before)
        reached.update(seen)

    check()
    return {
        owner: {
            line: reached[owner, line]
            for code in _codes(top)
            for _, line in dis.findlinestarts(code)
            if line is not None and line != code.co_firstlineno and code is top
        }
        for top, owner in functions.items()
    }


def table(name: str, number: int = 1) -> tuple[list[str], list[str]]:
    """The table of a target, a row for each function; and the lines that too few inputs reached."""
    rows, poor = [], []
    for (owner, counts), function in zip(measure(name, number).items(), PARSERS[name], strict=True):
        path = unwrap(function).__code__.co_filename
        text = {line: linecache.getline(path, line).strip() for line in counts}
        wanted = {line: count for line, count in counts.items() if not text[line].startswith(tuple(RARE))}
        least = min(wanted, key=wanted.__getitem__)
        rows.append(
            f"{name:24}{owner:24}{sum(map(bool, wanted.values())):4} of {len(wanted):3} lines; least: "
            f"{wanted[least]:4} of {INPUTS} inputs, line {least}: {text[least][:50]}"
        )
        poor += [f"{owner}:{line} {text[line]}: {count}" for line, count in wanted.items() if count < ENOUGH]
    return rows, poor


if __name__ == "__main__":
    logging.getLogger("okta_m2m").setLevel(logging.CRITICAL)
    wanting = []
    for target in sys.argv[1:] or PARSERS:
        shown, missed = table(target)
        print("\n".join(shown), flush=True)
        wanting += missed
    sys.exit("\n".join(["Too few inputs reach:", *wanting]) if wanting else 0)
