"""The pytest plugin of okta-m2m: the fixtures ``fake_okta`` and ``okta_app``.

Invariant: pytest loads this in every run, so it imports nothing of okta-m2m until a fixture is used. That is why it is not a
module of that package, which would be imported before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from okta_m2m import ServiceApp
    from okta_m2m.testing import FakeOkta

__all__ = ["fake_okta", "okta_app"]


@pytest.fixture
def fake_okta() -> Iterator[FakeOkta]:
    """A new :class:`okta_m2m.testing.FakeOkta` for each test, running on a free port."""
    from okta_m2m.testing import FakeOkta

    with FakeOkta() as okta:
        yield okta


@pytest.fixture
def okta_app(fake_okta: FakeOkta) -> Iterator[ServiceApp]:
    """A :class:`okta_m2m.ServiceApp` of ``fake_okta`` with the scopes ``okta.users.read`` and ``okta.groups.read``.

    The org's record of it, which a test may change, is ``fake_okta.apps[okta_app.client_id]``.
    """
    from okta_m2m import PrivateKey, ServiceApp

    key, scopes = PrivateKey.generate(), ["okta.users.read", "okta.groups.read"]
    registered = fake_okta.add_app(key, scopes=scopes)
    with ServiceApp(fake_okta.url, client_id=registered.client_id, key=key, scopes=scopes) as app:
        yield app
