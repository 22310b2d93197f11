"""What can be imported, and what importing costs."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
import types

import pytest

import okta_m2m
from okta_m2m import errors, events

PUBLIC = ["okta_m2m"] + [
    module.name
    for module in pkgutil.walk_packages(okta_m2m.__path__, "okta_m2m.")
    if not any(part.startswith("_") for part in module.name.split("."))
]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_lists_its_names_in_all(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"{name} is for an optional dependency that is not here: {error}")
    assert module.__doc__
    if name.startswith("okta_m2m.cli."):
        return  # the inside of the command, which is not for import: docs/api.md lists none of its names
    offered = module.__all__
    assert len(set(offered)) == len(offered)
    assert [one for one in offered if not hasattr(module, one)] == []


def test_the_package_exports_all_of_its_public_names() -> None:
    found = {
        name
        for name, value in vars(okta_m2m).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert found | {"__version__", "Event"} == set(okta_m2m.__all__)
    assert len(okta_m2m.__all__) == 12 + 1
    assert okta_m2m.Event is events.Event  # loaded when it is named
    with pytest.raises(AttributeError, match="no attribute 'TokenLost'"):
        okta_m2m.TokenLost  # type: ignore[attr-defined]  # noqa: B018


def test_every_error_can_be_caught_as_okta_m2m_error() -> None:
    offered = [getattr(errors, name) for name in errors.__all__]
    classes = [value for value in offered if isinstance(value, type) and issubclass(value, Exception)]
    assert len(classes) > 10
    assert all(issubclass(error, okta_m2m.OktaM2MError) for error in classes)


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after it."""
    program = (
        f"{statement}\nimport sys, json; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(ran.stdout))


HTTP_CLIENTS = {"requests", "urllib3", "httpx", "httpcore", "httpx2", "aiohttp", "niquests"}


def test_importing_the_package_imports_no_client_no_crypto_and_no_event_loop() -> None:
    loaded = loaded_by("import okta_m2m")
    assert "okta_m2m" in loaded
    heavy = HTTP_CLIENTS | {
        "cryptography",
        "joserfc",
        "yaml",
        "trio",
        "anyio",
        "asyncio",
        "redis",
        "typer",
        "rich",
        "pytest",
    }
    assert loaded & heavy == set()


@pytest.mark.parametrize("name", ["requests", "httpx", "httpx2", "aiohttp"])
def test_an_adapter_imports_no_other_client(name: str) -> None:
    beneath = {"requests": {"urllib3"}, "httpx": {"httpcore"}, "httpx2": set(), "aiohttp": set()}[name]
    loaded = loaded_by(f"import okta_m2m.{name}") & HTTP_CLIENTS
    assert name in loaded
    assert loaded <= {name} | beneath


def test_the_pytest_plugin_imports_nothing_until_it_is_used() -> None:
    loaded = loaded_by("import pytest_okta_m2m") - loaded_by("import pytest")
    assert loaded == {"pytest_okta_m2m"}
