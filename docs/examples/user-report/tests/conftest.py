from __future__ import annotations

from collections.abc import Iterator

import pytest
from user_report import Directory

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.testing import App, FakeOkta


@pytest.fixture
def app(fake_okta: FakeOkta, okta_app: App) -> ServiceApp:
    """Your service app, as it would be in production, but for the org that it talks to."""
    assert okta_app.private_jwk is not None
    return ServiceApp(
        fake_okta.url,
        client_id=okta_app.client_id,
        key=PrivateKey.from_jwk(okta_app.private_jwk),
        scopes=["okta.users.read"],
    )


@pytest.fixture
def directory(app: ServiceApp) -> Iterator[Directory]:
    with Directory(app) as opened:
        yield opened
