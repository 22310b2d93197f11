"""Records are what frozen, slotted dataclasses are: same calls, same comparisons, same refusals."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import pprint
from typing import Any, ClassVar

import pytest

from okta_m2m import events
from okta_m2m._base.records import Record


class Point(Record):
    unit: ClassVar[str] = "mm"
    x: int
    y: int = 0


class Named(Point, hidden=("secret",)):
    name: str = "origin"
    secret: str = "hidden-value"


class Deeper(Named):
    depth: int = 1


def test_fields_are_given_by_position_or_by_name_and_have_defaults() -> None:
    assert (Point(1).x, Point(1).y) == (1, 0)
    assert Point(1, y=2) == Point(x=1, y=2) == Point(1, 2)
    assert Named(1, name="here").name == "here"


@pytest.mark.parametrize(
    "call",
    [
        lambda: Point(),
        lambda: Point(1, 2, 3),
        lambda: Point(1, x=1),
        lambda: Point(1, 2, y=2),
        lambda: Point(1, z=2),
    ],
    ids=["missing", "too many", "twice", "twice, all given", "unknown"],
)
def test_wrong_arguments_are_refused(call: object) -> None:
    with pytest.raises(TypeError, match="Point"):
        call()  # type: ignore[operator]


def test_records_are_equal_if_their_class_and_fields_are_equal() -> None:
    assert Point(1, 2) == Point(1, 2)
    assert Point(1, 2) != Point(2, 1)
    assert Point(1) != Named(1)
    assert {Point(1), Point(1), Point(2)} == {Point(1), Point(2)}


def test_no_field_can_be_changed_or_added() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        point.z = 2  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="frozen"):
        del point.x
    assert not hasattr(point, "__dict__")


def test_a_hidden_field_is_not_shown_by_a_subclass() -> None:
    assert repr(Point(1)) == "Point(x=1, y=0)"
    assert repr(Deeper(1)) == "Deeper(x=1, y=0, name='origin', depth=1)"


def test_a_pattern_takes_fields_by_position() -> None:
    match Named(1, 2):
        case Named(x, y, name):
            assert (x, y, name) == (1, 2, "origin")
        case _:
            pytest.fail("no match")


@pytest.mark.parametrize("kind", [getattr(events, name) for name in events.__all__ if name != "Event"])
def test_an_event_can_be_used_as_a_frozen_dataclass(kind: Any) -> None:
    names = [field.name for field in dataclasses.fields(kind)]
    event = kind(*names)  # any values will do
    assert dataclasses.is_dataclass(event)
    assert [field.name for field in dataclasses.fields(event)] == names
    assert names[0] == "client_id"
    assert dataclasses.asdict(event) == dict(zip(names, names, strict=True))
    assert dataclasses.replace(event, client_id="0oa2").client_id == "0oa2"
    for copied in (pickle.loads(pickle.dumps(event)), copy.copy(event), copy.deepcopy(event)):
        assert copied == event
    assert event.__replace__(client_id="0oa2").client_id == "0oa2"  # copy.replace, from Python 3.13 on
    assert "client_id" in pprint.pformat(event, width=10)
    with pytest.raises(AttributeError):
        event.client_id = "0oa2"
