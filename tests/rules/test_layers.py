"""A module imports only from its own layer or a lower one, and what is beside the library keeps out of it.

What counts is every import statement, those inside functions and under ``TYPE_CHECKING`` too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import okta_m2m
from layers import LEVEL, place

PACKAGE = Path(okta_m2m.__file__).parent

CALLERS_OWN = {
    "requests": "requests",
    "httpx": "httpx",
    "httpx2": "httpx2",
    "aiohttp": "aiohttp",
    "niquests": "niquests",
}
"""Which adapter may import which HTTP library."""


def modules() -> dict[str, Path]:
    """Every module by its name below the package: ``exchange``, ``stores.file``."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


MODULES = modules()


def imports(name: str, path: Path) -> Iterator[tuple[str, bool]]:
    """What a module imports: ``("okta_m2m.keys", False)``; and whether only for types."""
    package = ["okta_m2m", *name.split(".")] if name else ["okta_m2m"]
    if path.name != "__init__.py":
        package = package[:-1]

    def visit(node: ast.AST, types_only: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
                for statement in child.body:
                    yield from visit(ast.Module([statement], []), True)
                for statement in child.orelse:
                    yield from visit(ast.Module([statement], []), types_only)
            elif isinstance(child, ast.Import):
                yield from ((alias.name, types_only) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                origin = package[: len(package) - child.level + 1] if child.level else []
                origin = [*origin, *([child.module] if child.module else [])]
                for alias in child.names:
                    whole = ".".join([*origin, alias.name])
                    known = whole.removeprefix("okta_m2m.") in MODULES
                    yield (whole if known else ".".join(origin)), types_only
            else:
                yield from visit(child, types_only)

    return visit(ast.parse(path.read_text(encoding="utf-8")), False)


def own(name: str, path: Path) -> Iterator[tuple[str, bool]]:
    """The imports from this package, by module name below it."""
    for imported, types_only in imports(name, path):
        if imported == "okta_m2m" or imported.startswith("okta_m2m."):
            yield imported.removeprefix("okta_m2m").removeprefix("."), types_only


def top(name: str) -> str:
    return name.partition(".")[0]


CORE = [name for name in MODULES if name and top(name) != "testing" and name not in ("_core",)]


def test_every_module_is_on_a_floor() -> None:
    unplaced = sorted(name for name in CORE if not place(name))
    assert not unplaced, f"Give each a place in tests/support/layers.py: {unplaced}"


@pytest.mark.parametrize("name", CORE)
def test_a_module_imports_from_its_own_layer_or_a_lower_one(name: str) -> None:
    for imported, _ in own(name, MODULES[name]):
        if imported == "" or (top(name) == "cli" and top(imported) == "testing"):
            assert top(name) in ("admin", "cli"), f"{name} imports the package's front, which imports {name}"
            continue
        assert top(imported) != "testing", f"{name} needs what is for tests"
        assert LEVEL[place(imported)] <= LEVEL[place(name)], f"{name} imports {imported}, which lies above it"


def test_an_adapter_imports_no_other_adapter() -> None:
    adapters = CALLERS_OWN.keys()
    for name in adapters & MODULES.keys():
        assert not {imported for imported, _ in own(name, MODULES[name])} & (adapters - {name})


def test_the_package_itself_imports_no_runtime_and_no_adapter() -> None:
    for imported, _ in own("", MODULES[""]):
        assert LEVEL[place(imported)] <= LEVEL["_core"]


def test_an_http_library_is_imported_by_its_adapter_alone() -> None:
    libraries = set(CALLERS_OWN.values()) | {"urllib3", "httpcore"}
    for name, path in MODULES.items():
        if LEVEL.get(place(name), 99) > LEVEL["requests"]:
            continue
        used = {top(imported) for imported, types_only in imports(name, path) if not types_only} & libraries
        allowed = {CALLERS_OWN.get(top(name), ""), "urllib3" if name == "requests" else ""}
        assert used <= allowed, f"{name} imports {used - allowed}"


def test_the_core_does_no_io() -> None:
    """Policy asks by effects. What may touch a file, a socket, a thread or a clock lies elsewhere."""
    for name in MODULES:
        if top(name) not in ("_core", "_urls", "effects", "errors", "events"):
            continue
        used = {top(imported) for imported, _ in imports(name, MODULES[name])}
        assert not used & {"socket", "ssl", "http", "asyncio", "trio", "anyio", "threading", "time", "subprocess", "os"}
        assert not [
            node
            for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("open", "print", "input")
        ], name


# The one module there that is about the client: it replays the client's flows.
SHARES_NO_CODE = [name for name in MODULES if top(name) == "testing" and name != "testing._replaying"]
# The package's front offers it beside FakeOkta, and loads it only when it is asked for.
OFFERED_WITH_FAKE_OKTA = {("testing", "_base.clocks")}
# What it says if a package is missing.
IN_ITS_MESSAGES = {("testing", "errors")}


@pytest.mark.parametrize("name", SHARES_NO_CODE)
def test_fake_okta_shares_no_code_with_the_client(name: str) -> None:
    """An error in the one cannot hide an error in the other."""
    strange = {
        imported
        for imported, types_only in own(name, MODULES[name])
        if top(imported) != "testing"
        and not (types_only and (name, imported) in OFFERED_WITH_FAKE_OKTA)
        and (name, imported) not in IN_ITS_MESSAGES
    }
    assert not strange
