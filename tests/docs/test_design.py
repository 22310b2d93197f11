"""docs/design.md and docs/decisions.md name only what exists: files, tests, and the states of a token."""

from __future__ import annotations

import ast
import inspect
import re
import typing
from functools import cache
from pathlib import Path

import pytest

from okta_m2m import ServiceApp, effects, requests, runtimes
from okta_m2m._core import token_state
from okta_m2m._core.token_state import NextStep, TokenState

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

QUESTIONS = {
    "flight_under_way",
    "forced_renewals",
    "has_rejections",
    "is_ours",
    "is_wanted",
    "rejecting_calls",
    "remembered_refusal",
}
"""Methods of ``TokenState`` that report nothing, besides ``next_step``, by which a fetch may begin."""
FROM_STORE = {"adopt_forced"}
"""What a stored token says about other processes is no event of this one."""


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


def test_the_state_table_is_the_one_in_the_code() -> None:
    answers, methods = [], []
    for row in rows("The state of a token"):
        if len(row) == 2:
            answers.append((row[0], *code(row[1])))
        else:
            methods += code(row[0])
    # Some situations have the same answer.
    assert {answer for _, answer in answers} == {step.__name__ for step in typing.get_args(NextStep)}
    first_table = inspect.getdoc(token_state).partition("what is known  ")[2].partition("\n\n")[0]  # type: ignore[union-attr]
    assert answers == re.findall(r"^ {4}(\w.*?) {2,}(\w+)", first_table, re.MULTILINE), "the rows, or their order"
    changes = inspect.getdoc(token_state).partition("method  ")[2]  # type: ignore[union-attr]
    in_code = re.findall(r"^ {4}(\w+)  ", changes.partition("\n\n")[0], re.MULTILINE)
    assert methods == in_code
    public = {name for name, value in vars(TokenState).items() if inspect.isfunction(value) and name[0] != "_"}
    assert public - QUESTIONS - FROM_STORE == set(methods), "methods that change the state, and the tables"


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
