"""What the conformance tests stand on: node with oidc-provider, a virtual environment with other people's clients,
Okta's published descriptions, and the tables that the tests fill.

Invariant: nothing is skipped without its reason, and under ``CI`` nothing is skipped that this project can install.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from filelock import FileLock
from uv import find_uv_bin

from clients import CLIENTS, Client
from conformance_table import TABLES, Tables
from okta_documents import okta_documents_folder
from okta_m2m import PrivateKey, ServiceApp

HERE = Path(__file__).parent


# ── the tables ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def cell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """``cell("invalid_client")``: what stands in this test's cell, if it passes, instead of a tick."""
    tables = request.config.stash[TABLES]

    def write(text: str) -> None:
        tables.shown[request.node.nodeid] = text

    return write


@pytest.fixture(scope="session")
def tables(pytestconfig: pytest.Config) -> Tables:
    return pytestconfig.stash[TABLES]


@pytest.fixture
def connect(client: str, tables: Tables) -> Iterator[Callable[[ServiceApp], Client]]:
    """``connect(app)``: the HTTP client that is named by the parameter ``client``, with ``app`` as its auth."""
    tables.versions[client] = " ".join(f"{part} {_version(part)}".strip() for part in client.split("-"))
    opened: list[Client] = []

    def connected(app: ServiceApp) -> Client:
        opened.append(CLIENTS[client](app))
        return opened[-1]

    yield connected
    for each in opened:
        each.close()


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # asyncio
        return ""


# ── what is installed for the tests, once ────────────────────────────────────────────────────────────────────────────


def unavailable(reason: str) -> None:
    """Skips, or fails under ``CI``, where everything that can be installed has to be."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI is to have it", pytrace=False)
    pytest.skip(reason)


def installed(name: str, recipe: bytes, install: Callable[[Path], None]) -> Path:
    """A folder in the user's cache that ``install`` has filled, one process at a time; anew when ``recipe`` changes."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "okta-m2m-tests"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"{name}-{hashlib.sha256(recipe).hexdigest()[:12]}"
    done = folder / "installed"
    with FileLock(f"{folder}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            install(folder)
            done.touch()
    return folder


def run_or_unavailable(command: Sequence[str | Path], cwd: Path) -> None:
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if ended.returncode:
        unavailable(f"`{Path(command[0]).name} {command[1]}` failed:\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}")


@dataclass(frozen=True)
class OidcProvider:
    """The running pair: oidc-provider at ``issuer``, and the API that takes its tokens at ``audience``."""

    issuer: str
    audience: str
    scopes: str
    version: str
    oauth4webapi: str
    jose: str
    node: str

    @property
    def token_endpoint(self) -> str:
        return f"{self.issuer}/oauth2/default/v1/token"


@pytest.fixture(scope="session")
def oidc_provider(tables: Tables) -> Iterator[OidcProvider]:
    """oidc-provider and an API behind it, in a node process of their own."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        unavailable("node and npm are not on this machine")
        return
    package = HERE / "node" / "package.json"
    program = HERE / "node" / "server.mjs"

    def install(folder: Path) -> None:
        shutil.copy(package, folder)
        options = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
        run_or_unavailable([npm, "install", *options], folder)

    folder = installed("node", package.read_bytes(), install)
    # Beside its modules, which is where node looks for them.
    copy = folder / f"server-{hashlib.sha256(program.read_bytes()).hexdigest()[:12]}.mjs"
    partial = copy.with_suffix(f".{os.getpid()}")  # nobody else's node is to read half of it
    shutil.copy(program, partial)
    partial.replace(copy)
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen([node, copy], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            errors.seek(0)
            pytest.fail(f"the authorization server did not start:\n{errors.read().decode()}", pytrace=False)
        yield OidcProvider(**json.loads(line))
        process.stdin.close()


@pytest.fixture(scope="session")
def other_python() -> Path:
    """The interpreter of a virtual environment with other people's clients, which don't go together with ours."""
    requirements = HERE / "second_clients.txt"
    recipe = requirements.read_bytes() + sys.version.encode()

    def install(folder: Path) -> None:
        run_or_unavailable([find_uv_bin(), "venv", "--python", sys.executable, folder / "venv"], folder)
        run_or_unavailable(
            [find_uv_bin(), "pip", "install", "--python", interpreter(folder), "-r", requirements], folder
        )

    def interpreter(folder: Path) -> Path:
        return folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    return interpreter(installed("clients", recipe, install))


@pytest.fixture(scope="session")
def okta_spec() -> Path:
    """The folder with Okta's published documents."""
    return okta_documents_folder()


@pytest.fixture(scope="session")
def keys() -> dict[str, PrivateKey]:
    """One key per algorithm, with a ``kid`` each."""
    return {alg: PrivateKey.generate(alg).with_kid(f"{alg}-key") for alg in ("RS256", "ES256")}
