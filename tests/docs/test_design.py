"""docs/design.md and docs/decisions.md name only what exists: files, tests, and the states of a token."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import typing
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import state_tables
from okta_m2m import ServiceApp, effects, requests, runtimes
from okta_m2m._core.token_state import NextStep, TokenState
from state_tables import World

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "okta_m2m"
DESIGN = (ROOT / "docs" / "design.md").read_text("utf-8")
DECISIONS = (ROOT / "docs" / "decisions.md").read_text("utf-8")
THREATS = (ROOT / "docs" / "threats.md").read_text("utf-8")


def rows(title: str) -> list[list[str]]:
    """The cells of every table under that heading, without the tables' heads."""
    section = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", DESIGN, re.MULTILINE | re.DOTALL)
    assert section is not None, f"docs/design.md has no heading {title!r}"
    tables = re.findall(r"^\|.*\n\|[-|]+\|\n((?:\|.*\n)+)", section[1], re.MULTILINE)
    return [[cell.strip() for cell in row[1:-1].split("|")] for table in tables for row in table.splitlines()]


def code(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", text)


@cache
def names_in(path: Path) -> set[str]:
    """Functions and classes of a file, those in classes too."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, kinds)}


def is_missing(reference: str) -> bool:
    """Whether there is no ``file`` or ``file::name`` of that name in the project. A ``*`` in a file's name is any text."""
    file, _, name = reference.partition("::")
    paths = list(ROOT.glob(file))
    return not paths or (bool(name) and not any(name in names_in(path) for path in paths))


RULES = rows("Rules")


def test_every_rule_names_its_code_and_its_test() -> None:
    assert len(RULES) > 30
    wrong = []
    for rule, source, test in RULES:
        (file,), (reference,) = code(source), code(test)
        if not (SOURCE / file).is_file() or not reference.startswith("tests/") or is_missing(reference):
            wrong.append(f"{rule}: {file}, {reference}")
    assert wrong == [], "rules of docs/design.md whose code or test does not exist:\n" + "\n".join(wrong)


def test_a_rule_is_a_sentence_or_two() -> None:
    assert [rule for rule, *_ in RULES if not rule.endswith(".") or len(rule) > 180] == []


@pytest.mark.parametrize("page", ["design.md", "decisions.md"])
def test_every_file_that_a_page_names_exists(page: str) -> None:
    prose = re.sub(r"```.*?```", "", (ROOT / "docs" / page).read_text("utf-8"), flags=re.DOTALL)
    named = [one for one in code(prose) if re.match(r"(tests|benchmarks)/", one)]
    assert len(named) > 15
    assert [one for one in named if is_missing(one)] == []
    inside = [one for one in code(prose) if re.fullmatch(r"(?:\w+/)*\w+\.py", one) and one not in named]
    assert [one for one in inside if not (SOURCE / one).exists()] == []


def test_a_decision_has_its_context_its_consequence_and_its_guard() -> None:
    entries = re.split(r"^## ", DECISIONS, flags=re.MULTILINE)[1:]
    assert len(entries) > 20
    for entry in entries:
        title = entry.partition("\n")[0]
        parts = re.findall(r"^\*\*(Context|Decision|Consequence|Guarded by)\b", entry, re.MULTILINE)
        assert parts == ["Context", "Decision", "Consequence", "Guarded by"], title
        guards = [one for one in code(entry.partition("**Guarded by**")[2]) if re.match(r"(tests|benchmarks)/", one)]
        assert guards, f"nothing guards the decision {title!r}"


STATE = rows("The state of a token")
ANSWERS = {row[0]: code(row[1])[0] for row in STATE if len(row) == 2}
"""The table of ``next_step()``: what is known, and the answer."""
WAIT = "no good token, a fetch under way"
REFUSED = "no good token, Okta refused these keys lately"
IN_SEVERAL_ROWS: dict[str, tuple[Callable[[World], object], set[str]]] = {
    "closed": (
        lambda world: (world.begin(), world.refuse(), world.state.close()),
        {"closed", WAIT, REFUSED, "no good token"},
    ),
    "fresh, no fetch": (
        lambda world: world.obtain(),
        {"a good token, fresh", "a good token, no fetch under way"},
    ),
    "fresh, a fetch": (
        lambda world: world.begin_renewal(),
        {"a good token, fresh", "a good token, a fetch under way"},
    ),
    "a fetch, refused": (lambda world: (world.begin(), world.refuse()), {WAIT, REFUSED, "no good token"}),
    "refused": (lambda world: world.refuse(), {REFUSED, "no good token"}),
}
"""What leads to a state that is in several rows of that table at once, and these rows."""


def test_the_state_table_is_the_one_in_the_code() -> None:
    methods = [method for row in STATE if len(row) == 3 for method in code(row[0])]
    # Some situations have the same answer.
    assert set(ANSWERS.values()) == {step.__name__ for step in typing.get_args(NextStep)}
    assert list(ANSWERS.items()) == list(state_tables.ANSWERS.items()), "the rows, or their order"
    assert methods == [row[0] for row in state_tables.read_table(3)]
    public = {name for name, value in vars(TokenState).items() if inspect.isfunction(value) and name[0] != "_"}
    unlisted = state_tables.QUESTIONS | state_tables.FROM_STORE
    assert public - unlisted == set(methods), "methods that change the state, and the tables"


def test_the_state_table_has_the_order_of_the_branches_of_next_step() -> None:
    answers = {step.__name__.upper(): step.__name__ for step in typing.get_args(NextStep)}
    source = ast.parse(textwrap.dedent(inspect.getsource(TokenState.next_step)))
    returned = [
        name
        for statement in ast.walk(source)
        if isinstance(statement, ast.Return)
        for name in ast.walk(statement)
        if isinstance(name, ast.Name) and name.id.upper() in answers  # Closed is returned as CLOSED
    ]
    returned.sort(key=lambda name: (name.lineno, name.col_offset))
    assert list(ANSWERS.values()) == [answers[name.id.upper()] for name in returned]


@pytest.mark.parametrize("state", IN_SEVERAL_ROWS)
def test_of_several_rows_of_the_state_table_the_first_one_applies(state: str) -> None:
    reach, in_rows = IN_SEVERAL_ROWS[state]
    assert in_rows <= set(ANSWERS)
    world = World()
    reach(world)
    first = next(row for row in ANSWERS if row in in_rows)
    assert type(world.ask()).__name__ == ANSWERS[first]


def test_the_examples_of_the_terms_exist() -> None:
    words = {word: code(example) for word, _, example in rows("Terms")}
    assert set(words) == {"flow", "effect", "runtime", "adapter"}
    known = {"ServiceApp": ServiceApp, "effects": effects, "runtimes": runtimes, "requests": requests}
    for (example,) in words.values():
        owner, _, name = example.partition(".")
        assert hasattr(known[owner], name), example


def test_every_row_of_the_threat_model_names_a_test_that_exists() -> None:
    rows = re.findall(r"^\|.*\| (`[^|]*\.py[^|]*) \|$", THREATS, re.MULTILINE)
    assert len(rows) > 15
    assert [test for row in rows for test in code(row) if is_missing(f"tests/{test}")] == []
