"""The pytest fixtures ``fake_okta`` and ``okta_app``.

Invariant: loading this plugin imports nothing else. A fixture imports what it needs when it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from . import App, FakeOkta

__all__ = ["fake_okta", "okta_app"]

# So that its asserts report values like those of a test. This does not import the module.
pytest.register_assert_rewrite("okta_m2m.testing._signer_conformance")


@pytest.fixture
def fake_okta() -> Iterator[FakeOkta]:
    """A new :class:`okta_m2m.testing.FakeOkta` for each test, running on a free port."""
    from . import FakeOkta  # not at the top: pytest loads this plugin in every run

    with FakeOkta() as okta:
        yield okta


@pytest.fixture
def okta_app(fake_okta: FakeOkta) -> App:
    """A service app in ``fake_okta`` with the scopes ``okta.users.read`` and ``okta.groups.read`` and a ``private_jwk``."""
    return fake_okta.add_app(scopes=["okta.users.read", "okta.groups.read"])
