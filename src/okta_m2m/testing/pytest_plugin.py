"""The pytest fixtures ``fake_okta`` and ``okta_app``.

Invariant: loading this plugin loads nothing else; what a fixture needs is imported when the fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from . import App, FakeOkta

__all__ = ["fake_okta", "okta_app"]

# Its asserts are then as talkative as those of a test; the module is not loaded by this.
pytest.register_assert_rewrite("okta_m2m.testing._signer_conformance")


@pytest.fixture
def fake_okta() -> Iterator[FakeOkta]:
    """An Okta org of this test's own, on a free port; see :class:`okta_m2m.testing.FakeOkta`."""
    from . import FakeOkta

    with FakeOkta() as okta:
        yield okta


@pytest.fixture
def okta_app(fake_okta: FakeOkta) -> App:
    """A service app in ``fake_okta`` with ``okta.users.read`` and ``okta.groups.read``; sign with its ``private_jwk``."""
    return fake_okta.add_app(scopes=["okta.users.read", "okta.groups.read"])
