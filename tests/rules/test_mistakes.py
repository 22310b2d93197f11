"""Whoever makes a mistake is told what to do instead: by the remedy of what it raises, or by a sentence of what it prints."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from mistakes import CLIENTS, MISTAKES, outcome
from okta_m2m import ConfigurationError, OktaM2MError, ServiceApp
from okta_m2m.errors import WrongType

REMEDY = (
    r"(?:Write|Give|Pass|Name|Use|Install|Set|Make|Create|Keep|Remove|Replace|Read|Check|Copy|Convert|Begin|Omit|Run|Add|"
    r"Choose|Put|For the|Did you mean|Try|Move|Grant|Ask|Sign in|If that is your org|Correct|Export|See)\b"
)


@pytest.mark.parametrize("mistake", [pytest.param(made, id=name) for name, made in MISTAKES])
def test_the_error_of_a_common_mistake_has_the_remedy(mistake: Callable[[], object]) -> None:
    said = outcome(mistake)
    if isinstance(said, OktaM2MError):
        assert isinstance(said, ConfigurationError)
        assert said.remedy
        assert str(said) == f"{said.problem} {said.remedy}"
        remedy = said.remedy
    else:
        assert isinstance(said, str | ImportError), said
        remedy = re.sub(rf"^.*?[.?] (?={REMEDY})", "", str(said))
        assert remedy != str(said), said
    assert re.match(REMEDY, remedy), said
    assert "\n" not in str(said)


@pytest.mark.parametrize(
    "mistake",
    [pytest.param(made, id=name) for name, made in MISTAKES if name.partition(":")[0].partition(",")[0] in CLIENTS],
)
def test_an_auth_object_attached_wrongly_raises_wrong_type(mistake: Callable[[], object]) -> None:
    """So that it is caught as the TypeError that it is."""
    said = outcome(mistake)
    assert isinstance(said, WrongType)
    assert isinstance(said, TypeError)


WRONG_ENGLISH = re.compile(
    r"\ba (?=(?:httpx|aiohttp|int|object)\b)|\ban (?=(?:requests|niquests)\b)|\bnot (?=(?:list|int|dict|object|NoneType)\b)"
)


@pytest.mark.parametrize("mistake", [pytest.param(made, id=name) for name, made in MISTAKES])
def test_the_error_of_a_common_mistake_has_the_right_articles(mistake: Callable[[], object]) -> None:
    said = str(outcome(mistake))
    assert WRONG_ENGLISH.search(said) is None, said


@pytest.mark.parametrize(
    "make", [dict(MISTAKES)["the app with a kid"], lambda: ServiceApp.from_env(kid="k1", environ={})]
)
def test_a_kid_given_to_the_app_is_answered_with_where_it_belongs(make: Callable[[], object]) -> None:
    said = outcome(make)
    assert isinstance(said, TypeError)
    assert "PrivateKey.from_file" in str(said)
    assert "OKTA_CLIENT_KID" in str(said)


def test_headers_app_is_answered_for_each_kind_of_client() -> None:
    """No client tells its own name when it reads the app as its headers."""
    pytest.importorskip("httpx", reason="this environment has only niquests")
    (made,) = [made for name, made in MISTAKES if name == "httpx: headers=app"]
    said = str(outcome(made))
    assert all(f"for {client}: " in said for client in ("requests", "httpx", "aiohttp"))
