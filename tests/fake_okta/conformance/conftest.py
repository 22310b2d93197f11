"""Fixtures of the conformance tests: oidc-provider on node, a virtual environment with other clients, Okta's documents, and
the tables that the tests fill.

Invariant: every skip gives its reason, and under ``CI`` nothing is skipped that this project can install.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import trustme
from filelock import FileLock
from uv import find_uv_bin

from clients import CLIENTS, Client
from conformance_table import TABLES, Tables
from okta_documents import okta_documents_folder
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.testing import FakeOkta

HERE = Path(__file__).parent


# ── the tables ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def cell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """``cell("invalid_client")`` sets the text of this test's cell, instead of a tick, if the test passes."""
    tables = request.config.stash[TABLES]

    def write(text: str) -> None:
        tables.shown[request.node.nodeid] = text

    return write


@pytest.fixture(scope="session")
def tables(pytestconfig: pytest.Config) -> Tables:
    return pytestconfig.stash[TABLES]


@pytest.fixture
def connect(client: str, tables: Tables) -> Iterator[Callable[[ServiceApp], Client]]:
    """``connect(app)`` returns the HTTP client that the parameter ``client`` names, with ``app`` as its auth."""
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
    except PackageNotFoundError:  # asyncio is not a distribution
        return ""


# ── what is installed for the tests, once ────────────────────────────────────────────────────────────────────────────


def unavailable(reason: str) -> None:
    """Skips the test. Under ``CI``, where everything must be installed, fails it."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, which CI must have", pytrace=False)
    pytest.skip(reason)


def installed(name: str, recipe: bytes, install: Callable[[Path], None]) -> Path:
    """A folder in the user's cache that ``install`` filled in one process at a time; a new one for each ``recipe``."""
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
    """oidc-provider, running at ``issuer``, and an API that accepts its tokens, running at ``audience``."""

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
    """oidc-provider and an API behind it, in one node process."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        unavailable("node and npm are not on this machine")
        return
    packages = [HERE / "node" / name for name in ("package.json", "package-lock.json")]
    program = HERE / "node" / "server.mjs"

    def install(folder: Path) -> None:
        for package in packages:
            shutil.copy(package, folder)
        run_or_unavailable([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], folder)

    folder = installed("node", b"".join(package.read_bytes() for package in packages), install)
    # Beside its modules, because node looks for them there.
    copy = folder / f"server-{hashlib.sha256(program.read_bytes()).hexdigest()[:12]}.mjs"
    partial = copy.with_suffix(f".{os.getpid()}")  # so that no other process reads an incomplete file
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
    """The interpreter of a virtual environment with other clients, whose requirements conflict with ours."""
    requirements = HERE / "second_clients.txt"
    recipe = requirements.read_bytes() + sys.version.encode()

    def install(folder: Path) -> None:
        run_or_unavailable([find_uv_bin(), "venv", "--python", sys.executable, folder / "venv"], folder)
        pinned = ["--require-hashes", "--only-binary", ":all:", "-r", requirements]
        run_or_unavailable([find_uv_bin(), "pip", "install", "--python", interpreter(folder), *pinned], folder)

    def interpreter(folder: Path) -> Path:
        return folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    return interpreter(installed("clients", recipe, install))


@pytest.fixture(scope="session")
def okta_spec() -> Path:
    """The folder with Okta's published documents."""
    return okta_documents_folder()


@pytest.fixture(scope="session")
def keys() -> dict[str, PrivateKey]:
    """A key with a ``kid`` for each algorithm."""
    return {alg: PrivateKey.generate(alg).with_kid(f"{alg}-key") for alg in ("RS256", "ES256")}


# ── other clients ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """The TLS context of a server, and a file with the CA that clients must trust."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    file = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return context, file


@pytest.fixture
def org(authority: tuple[ssl.SSLContext, Path]) -> Iterator[FakeOkta]:
    with FakeOkta(ssl_context=authority[0]) as running:
        yield running


@pytest.fixture(scope="session")
def answer_of(authority: tuple[ssl.SSLContext, Path], other_python: Path) -> Iterator[Callable[[dict[str, Any]], Any]]:
    """Passes a task to ``second_client.py``. Its process is started once, because to import one of the clients takes seconds."""
    trust = {name: str(authority[1]) for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            [other_python, HERE / "second_client.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **trust, "PYTHONPATH": ""},
        ) as process,
    ):
        tasks, results = process.stdin, process.stdout
        assert tasks is not None
        assert results is not None

        def answer_of(task: dict[str, Any]) -> Any:
            print(json.dumps(task), file=tasks, flush=True)
            line = results.readline()
            errors.seek(0)
            assert line, errors.read()
            return json.loads(line)

        yield answer_of
        tasks.close()
