"""Each target of ``targets.py`` under Hypothesis, and how its time grows with the length of its input."""

from __future__ import annotations

import time
import traceback

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from strategies import VALID
from targets import TARGETS, Target

SHORT, LONG = 1_000, 8_000
"""Lengths of inputs that are compared: a time that grows with the length is eight times as long, one that grows with its
square 64 times."""


def inputs(name: str) -> st.SearchStrategy[bytes]:
    """Made of the target's pieces, of good inputs, whole and with a part replaced, and of anything."""
    target = TARGETS[name]
    valid = VALID.get(name, st.sampled_from(target.whole))
    pieces = st.lists(st.sampled_from(target.pieces) | st.text(max_size=3), max_size=25).map("".join)

    @st.composite
    def damaged(draw: st.DrawFn) -> str:
        whole = draw(st.sampled_from(target.whole) | valid)
        begin = draw(st.integers(0, len(whole)))
        end = draw(st.integers(begin, min(len(whole), begin + 20)))
        return whole[:begin] + draw(pieces) + whole[end:]

    return st.one_of(
        valid.map(_bytes), valid.map(_bytes), damaged().map(_bytes), pieces.map(_bytes), st.binary(max_size=200)
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_breaks_the_rules_of_a_parser(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(inputs(name))
    @example(b"")
    def check(data: bytes) -> None:
        target.check(data)

    try:
        check()
    except Exception as error:  # pytest-xdist cannot pass on a lone surrogate
        text = "".join(traceback.format_exception(error)).encode("ascii", "backslashreplace").decode()
        pytest.fail(text, pytrace=False)
    for whole in target.whole:
        target.check(whole.encode())


@pytest.mark.matrix
@pytest.mark.parametrize("name", TARGETS)
def test_the_time_of_a_long_input_is_proportional_to_its_length(name: str) -> None:
    """Not by the square of it, whatever it is made of. Only what takes long at all is compared."""
    target = TARGETS[name]
    repeated = [(before, piece) for piece in target.pieces for before in ("", *target.whole[:1])]
    grown = [
        (
            f"{before[:20]!r} and {piece!r}, repeatedly",
            before + piece * (SHORT // len(piece)),
            before + piece * (LONG // len(piece)),
        )
        for before, piece in repeated
    ]
    grown += [(make.__name__, make(SHORT), make(LONG)) for make in target.grown]
    slow = []
    for what, short, long in grown:
        took = _seconds(target, _bytes(long))
        if took > 0.1 and (took := min(took, _seconds(target, _bytes(long)))) > 24 * (
            before_that := _seconds(target, _bytes(short))
        ):
            slow.append(f"{what}: {before_that:.3f} s, {took:.3f} s")
    assert not slow, "\n".join(slow)


def _seconds(target: Target, data: bytes) -> float:
    began = time.process_time()
    target.check(data)
    return time.process_time() - began
