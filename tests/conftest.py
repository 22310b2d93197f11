"""Fixtures that every test file may use: an org on a loopback port, and service apps registered with it.

Invariant: each test has an org of its own; what is shared between tests is only what cannot change, such as a key that is
slow to make.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from clients import CLIENTS, Client
from front import Front, front_of
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.testing import FakeOkta

# The first watches every test for secrets that are shown.
pytest_plugins = ["leaks", "conformance_table", "figures"]
TESTS = Path(__file__).parent
SCOPES = ("okta.users.read", "okta.users.manage", "okta.groups.read")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist's own, which starts so many workers
def pytest_cmdline_main(config: pytest.Config) -> None:
    """The whole suite, or all of a mark in it, is run by several processes, unless ``-n`` says otherwise. A part of it is run
    by this one: to start others, each of which collects all tests, takes longer than most parts."""
    # Containers set it to keep images small. Here, hundreds of processes would each compile the package again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    options = config.option
    if not config.pluginmanager.hasplugin("xdist") or hasattr(config, "workerinput"):
        return
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not options.keyword
    if whole and options.numprocesses is None:
        options.numprocesses = "auto"
        _rewrite_asserts()
    if options.numprocesses and options.dist == "no":
        options.dist = "worksteal"  # a file's tests stay together, as far as may be, and so start its servers once


def _rewrite_asserts() -> None:
    """Has pytest rewrite the asserts of a new clone's tests. Otherwise each of several processes would do it: 4 seconds in all,
    of 190."""
    if any(TESTS.glob("rules/__pycache__/*pytest*")):
        return
    files = sorted(str(path) for path in TESTS.glob("*/test_*.py") if path.parent.name != "endurance")
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-n0", "-p", "no:cacheprovider"]
    for process in [
        subprocess.Popen([*collect, *half], stdout=subprocess.DEVNULL) for half in (files[::2], files[1::2])
    ]:
        process.wait()


def pytest_configure(config: pytest.Config) -> None:
    # Whoever starts the tests in the background of a script has them, and all they start, ignore Ctrl-C: some of them press it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Does not import what ``.ci/run`` adds with packages that the extra ``dev`` does not have: these folders run if they, or
    their marks, are named."""
    mark = {TESTS / "endurance": "endurance", TESTS / "fake_okta" / "conformance": "interop"}.get(collection_path)
    if mark is None or mark in config.option.markexpr:
        return None
    named = [(config.invocation_params.dir / argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(collection_path in (one, *one.parents) for one in named) else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Omits what ``.ci/run`` adds, unless ``-m`` or the name of a test (``path::test``) asks for it: the matrix; the site and
    the recipes, which have extras of their own and also run if ``tests/docs`` is named; and endurance, which runs only if its
    folder or its mark is named."""
    named = [Path(argument).as_posix() for argument in config.args]
    omitted = set() if any("endurance" in one for one in [*named, config.option.markexpr]) else {"endurance"}
    if not config.option.markexpr and not any("::" in one or "endurance" in one for one in named):
        omitted |= {"matrix"} if any("tests/docs" in one for one in named) else {"matrix", "site", "recipe"}
    by_name = any("::" in one for one in named)
    kept, deselected = [], []
    for item in items:
        is_omitted = omitted & {mark.name for mark in item.iter_markers()} or (_repeats(item) and not by_name)
        (deselected if is_omitted else kept).append(item)
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = kept


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's, for ``-n auto``
def pytest_xdist_auto_num_workers() -> int:
    """Three more than there are processors, as the tests mostly wait; under coverage, they do so less. Not more: where
    processes starve, the product's own timeouts pass, such as that of a store. And not more than pays, since each begins with
    collecting all tests."""
    waiting = 2 if "COVERAGE_PROCESS_START" in os.environ else 3
    return min((os.cpu_count() or 1) + waiting, 8)


def pytest_collection_finish(session: pytest.Session) -> None:
    """In a worker of pytest-xdist, keeps the garbage collector from scanning the collected tests again and again, which takes
    4 % of the time."""
    if hasattr(session.config, "workerinput"):
        # Import it first: its import looks for referrers, and would not find any that are frozen.
        importlib.import_module("hypothesis")
        gc.freeze()


@pytest.fixture(autouse=True)
def _lines_of_this_test_only() -> Iterator[None]:
    """Drops what the fetches of earlier tests log: those for which nobody waits any more may fail much later."""
    earlier = [thread for thread in threading.enumerate() if thread.name.startswith("okta-m2m")]

    def is_own(record: logging.LogRecord) -> bool:
        return not any(thread.ident == record.thread and thread.is_alive() for thread in earlier)

    logger = logging.getLogger("okta_m2m")
    logger.addFilter(is_own)
    yield
    logger.removeFilter(is_own)


@pytest.fixture
def okta() -> Iterator[FakeOkta]:
    """An org of this test's own."""
    with FakeOkta() as running:
        yield running


@pytest.fixture
def elsewhere() -> Iterator[FakeOkta]:
    """Another org, at another origin: where no token of ``okta`` may go."""
    with FakeOkta() as running:
        yield running


@pytest.fixture(scope="session")
def rsa_key() -> PrivateKey:
    """An RSA key: making one takes a while, so there is one for all tests."""
    return PrivateKey.generate("RS256")


@pytest.fixture(scope="session")
def ec_key() -> PrivateKey:
    """The key with which :func:`new_service` signs, unless it is given another."""
    return PrivateKey.generate("ES256")


@pytest.fixture
def new_service(ec_key: PrivateKey) -> Callable[..., ServiceApp]:
    """``new_service(okta, dpop_bound=False, org_url=..., key=..., **arguments of ServiceApp)``: a service app that is
    registered with that org, with the public halves of its keys and its scopes."""

    def registered(
        okta: FakeOkta, *, dpop_bound: bool = False, org_url: str | None = None, **arguments: Any
    ) -> ServiceApp:
        arguments = {"key": ec_key, "scopes": SCOPES, **arguments}
        keys = arguments["key"] if isinstance(arguments["key"], list | tuple) else [arguments["key"]]
        scopes = [scope for scope in arguments["scopes"] if scope.startswith("okta.")]
        app = okta.add_app([key for key in keys if hasattr(key, "jwks")], scopes, dpop_bound=dpop_bound)
        app.roles = ["USER_ADMIN"]  # which may write users
        return ServiceApp(org_url or okta.url, client_id=app.client_id, **arguments)

    return registered


@pytest.fixture
def front(okta: FakeOkta) -> Iterator[Front]:
    """A server in front of ``okta``, which can hold answers back, or send them in pieces."""
    with front_of(okta.server.port) as running:
        yield running


def _repeats(item: pytest.Item) -> bool:
    """Whether a test with Bearer tokens repeats that of another client, whose code it runs. With DPoP, it is in the matrix."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return parameters.get("client_type") in MULTIPLIED and parameters.get("binding") == "bearer"


MULTIPLIED = {"httpx2", "httpx2-trio", "docs-urllib3"}
"""Clients that run the same code as their httpx namesakes, as httpx2-asyncio does; and the adapter of a page of the
documentation, which has tests of its own (``tests/promises/test_own_adapter.py``)."""


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.matrix) if name in MULTIPLIED else name for name in CLIENTS]
)
def client_type(request: pytest.FixtureRequest) -> type[Client]:
    """Each of the HTTP clients in turn."""
    return CLIENTS[request.param]


@pytest.fixture
def connect(client_type: type[Client]) -> Iterator[Callable[..., Client]]:
    """``connect(app, **options of Client)``: a client with that app as its auth. An async one whose event loop was
    blocked fails the test."""
    with ExitStack() as clients:

        def connected(app: ServiceApp, **options: Any) -> Client:
            client = client_type(app, **options)
            clients.callback(client.close)
            return client

        yield connected


@pytest.fixture(params=["bearer", "dpop"])
def binding(request: pytest.FixtureRequest) -> str:
    """Whether Okta's app is one with plain Bearer tokens, or one that requires DPoP (with a nonce)."""
    return request.param


@pytest.fixture
def service(okta: FakeOkta, new_service: Callable[..., ServiceApp], binding: str) -> Callable[..., ServiceApp]:
    """``service(**arguments of ServiceApp)``: a service app of ``okta`` with that binding."""

    def registered(**arguments: Any) -> ServiceApp:
        return new_service(okta, dpop_bound=binding == "dpop", **arguments)

    return registered


def pytest_report_header() -> str:
    elsewhere = (
        ""
        if "niquests" in CLIENTS
        else "; niquests and niquests-async, in an environment of their own: .ci/niquests_environment"
    )
    return f"HTTP clients: {', '.join(CLIENTS)}{elsewhere}"
