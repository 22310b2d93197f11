"""docs/api.md lists every public name, and nothing else. Each has a docstring, which names its parameters and their defaults."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import okta_m2m
from okta_m2m._base.records import Record
from okta_m2m._clients.auth_object import AuthObject

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")

SECTION = re.compile(r"^## (?P<title>.+)\n(?P<body>(?:(?!## ).*\n)*)", re.MULTILINE)
ITEM = re.compile(r"^- (?P<names>`\w+`(?:, `\w+`)*): (?P<meaning>.+)$", re.MULTILINE)

NO_LIBRARY = {"okta_m2m.cli"}
"""Public by its path, and yet not for import: the command."""

PUBLIC_PATHS = ["okta_m2m"] + [
    module.name
    for module in pkgutil.walk_packages(okta_m2m.__path__, "okta_m2m.")
    if not any(part.startswith("_") for part in module.name.split("."))
]


@cache
def listed() -> dict[str, dict[str, str]]:
    """By module, the meaning of each name; the empty string where the line refers to another section."""
    found: dict[str, dict[str, str]] = {}
    for section in SECTION.finditer(PAGE):
        names: dict[str, str] = {}
        for item in ITEM.finditer(section["body"]):
            several = re.findall(r"\w+", item["names"])
            refers = item["meaning"].startswith("as above")
            assert refers or len(several) == 1, f"one line a name, please: {item[0]}"
            for name in several:
                assert name not in names, f"{section['title']} lists {name} twice"
                names[name] = "" if refers else item["meaning"]
        for module in re.findall(r"`([\w.]+)`", section["title"]):
            assert module not in found, f"{module} has two sections"
            found[module] = names
    return found


def imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"{name} is for an optional dependency that is not here: {error}")


@pytest.mark.parametrize("module", sorted(listed()))
def test_the_page_lists_the_public_names_of_each_module(module: str) -> None:
    offered = set(imported(module).__all__) - {"__version__"}
    names = set(listed()[module])
    assert offered == names, (
        f"{module}: docs/api.md lacks {sorted(offered - names)}; __all__ lacks {sorted(names - offered)}"
    )


@pytest.mark.parametrize("module", PUBLIC_PATHS)
def test_every_module_that_can_be_imported_is_on_the_page(module: str) -> None:
    """Or is the inside of a package that offers its names itself."""
    if module in listed() or any(f"{module}.".startswith(f"{name}.") for name in NO_LIBRARY):
        return
    if getattr(imported(module), "__all__", None) == []:  # it only holds other modules
        return
    packages = [module.rsplit(".", depth)[0] for depth in range(1, module.count(".") + 1)]
    inside = [package for package in packages if package != "okta_m2m" and package in listed()]
    assert inside, f"give {module} a section in docs/api.md, or an underscore in its path"


def test_an_explanation_has_five_to_fifteen_words() -> None:
    lengths = {
        f"{module}.{name}": len(meaning.split())
        for module, names in listed().items()
        for name, meaning in names.items()
        if meaning
    }
    assert len(lengths) > 150
    assert {name: length for name, length in lengths.items() if not 5 <= length <= 15} == {}


def test_every_name_is_explained_in_one_of_its_sections() -> None:
    explained = {name for names in listed().values() for name, meaning in names.items() if meaning}
    assert {name for names in listed().values() for name in names} <= explained


@pytest.mark.parametrize("module", sorted(listed()))
def test_every_name_has_a_docstring(module: str) -> None:
    owner = imported(module)
    assert [name for name in listed()[module] if not has_docstring(owner, name)] == []


def has_docstring(module: ModuleType, name: str) -> bool:
    value = getattr(module, name)
    if isinstance(value, type):
        return bool(vars(value).get("__doc__"))  # its own: Python shows none of a base's
    if inspect.isroutine(value):
        return bool(value.__doc__)
    # Of an alias or a constant it is the string that follows it, where it is made.
    homes = {module.__name__, *sources_of(module, name)}
    return any(name in documented_assignments(home) for home in homes)


@dataclass(frozen=True)
class Documented:
    """A public class or function, its parameters, and the docstrings that may name them."""

    name: str
    parameters: dict[str, inspect.Parameter | None]
    docs: str

    def item_of(self, parameter: str) -> str:
        """What is said of a parameter: the item or the paragraph that names it."""
        items = re.split(r"\n *\n|\n *(?=- ``)", self.docs)
        return next((item for item in items if re.search(rf"``{parameter}``", item)), "")


def public_callables() -> Iterator[Documented]:
    for module, names in listed().items():
        if module.startswith("okta_m2m.niquests") and importlib.util.find_spec("niquests") is None:
            continue
        owner = imported(module)
        for name in names:
            value = getattr(owner, name)
            if inspect.isfunction(value):
                yield Documented(f"{module}.{name}", parameters_of(value), inspect.getdoc(value) or "")
            if not isinstance(value, type) or issubclass(value, Enum):
                continue
            bases = [inspect.getdoc(base) or "" for base in value.__mro__ if base.__module__.startswith("okta_m2m")]
            own = "\n\n".join(bases)
            if not getattr(value, "_is_protocol", False) and value.__init__ is not Exception.__init__:
                yield Documented(f"{module}.{name}", parameters_of(value), own)
            for method_name, method in inspect.getmembers(value, inspect.isroutine):
                function = getattr(method, "__func__", method)
                in_reference = method_name in vars(value) or issubclass(value, AuthObject)
                if not method_name.startswith(("_", "test_")) and in_reference and is_ours(function):
                    docs = f"{inspect.getdoc(method) or ''}\n\n{own}"
                    yield Documented(f"{module}.{name}.{method_name}", parameters_of(function), docs)


def is_ours(value: object) -> bool:
    return inspect.isfunction(value) and value.__module__.startswith("okta_m2m")


def parameters_of(value: Any) -> dict[str, inspect.Parameter | None]:
    if isinstance(value, type) and issubclass(value, Record) and value.__init__ is Record.__init__:
        return dict.fromkeys(value._fields)
    return {
        name: parameter
        for name, parameter in inspect.signature(value).parameters.items()
        if name not in {"self", "cls", "misplaced"} and not name.startswith("_")
    }


def test_a_docstring_names_every_parameter() -> None:
    """The tooltip of an editor and the reference show nothing else about it."""
    documented = list(public_callables())
    assert len(documented) > 150
    lacking = {
        one.name: missing
        for one in documented
        if (missing := [name for name in one.parameters if not one.item_of(name)])
    }
    assert lacking == {}


def test_a_docstring_names_the_default_of_every_number_and_the_unit_of_every_time() -> None:
    lacking = []
    for one in public_callables():
        for name, parameter in one.parameters.items():
            if parameter is None:
                continue
            item = one.item_of(name)
            is_number = isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)
            if is_number and "default" not in item.lower():
                lacking.append(f"{one.name}: the default of {name}")
            if str(parameter.annotation).startswith("float") and "second" not in item:
                lacking.append(f"{one.name}: the unit of {name}")
    assert lacking == []


def sources_of(module: ModuleType, name: str) -> set[str]:
    """The modules that ``module`` has the name from, as its source says."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            is_package = hasattr(module, "__path__")
            base = module.__name__.split(".")
            base = base[: len(base) - node.level + is_package]
            found.add(".".join([*base, *([node.module] if node.module else [])]))
    return found


@cache
def documented_assignments(module: str) -> set[str]:
    """The names that a module assigns and then says something about."""
    body = ast.parse(inspect.getsource(importlib.import_module(module))).body
    found = set()
    for node, following in pairwise(body):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found
