"""Plain clients of the test's org, each with an app of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from okta_m2m.testing import FakeOkta
from plain_caller import Caller, key_for, public


@pytest.fixture
def callers(okta: FakeOkta) -> Iterator[Callable[..., Caller]]:
    made: list[Caller] = []

    def make(alg: str = "ES256", **settings: Any) -> Caller:
        key = key_for(alg)
        kid = settings.pop("kid", None)
        jwk = public(key, **({"kid": kid} if kid else {}))
        path = settings.pop("path", "/oauth2/v1/token")
        app = okta.add_app({"keys": [jwk]}, settings.pop("scopes", ["okta.users.read"]), **settings)
        made.append(Caller(okta, app, key, alg, path=path))
        return made[-1]

    yield make
    for caller in made:
        caller.connection.close()


@pytest.fixture
def caller(callers: Callable[..., Caller]) -> Caller:
    return callers()


@pytest.fixture
def bound(callers: Callable[..., Caller]) -> Caller:
    return callers(dpop_bound=True)
