"""Fixtures that every test file may use: an org on a loopback port, and service apps registered with it.

Invariant: each test has an org of its own; what is shared between tests is only what cannot change, such as a key that is
slow to make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.testing import FakeOkta

SCOPES = ("okta.users.read", "okta.users.manage", "okta.groups.read")


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
    """``new_service(okta, dpop_bound=False, key=..., scopes=..., **arguments of ServiceApp)``: a service app that is
    registered with that org, with the public halves of its keys and its scopes."""

    def registered(okta: FakeOkta, *, dpop_bound: bool = False, **arguments: Any) -> ServiceApp:
        arguments = {"key": ec_key, "scopes": SCOPES, **arguments}
        keys = arguments["key"] if isinstance(arguments["key"], list | tuple) else [arguments["key"]]
        scopes = [scope for scope in arguments["scopes"] if scope.startswith("okta.")]
        app = okta.add_app([key for key in keys if hasattr(key, "jwks")], scopes, dpop_bound=dpop_bound)
        return ServiceApp(okta.url, client_id=app.client_id, **arguments)

    return registered
