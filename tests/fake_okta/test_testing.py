"""The package ``okta_m2m.testing``: what it offers, what importing it costs, and its pytest plugin."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.effects import Attempt, Flow, Response, Sleep
from okta_m2m.errors import install_command
from okta_m2m.testing import Clock, replay


def test_importing_it_loads_no_module_of_it_until_a_name_is_used() -> None:
    script = (
        "import sys, okta_m2m.testing as testing\n"
        "def loaded(): return {name for name in sys.modules if name.startswith('okta_m2m.testing.')}\n"
        "assert not loaded(), loaded()\n"
        "testing.replay\n"
        "assert loaded() == {'okta_m2m.testing._replaying'}, loaded()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_service_app_runs_on_a_simulated_clock() -> None:
    app = ServiceApp(
        "https://acme.okta.com",
        client_id="0oa1b2c3",
        key=PrivateKey.generate("ES256"),
        scopes=["okta.users.read"],
        max_wait=10,
        clock=Clock(lambda: 1_000.0, lambda: 1_700_000_000.0),
    )
    assert not replay(app.obtain()).finished


def test_answers_left_over_are_reported_with_how_often_each_effect_was_yielded() -> None:
    def flow() -> Flow[None]:
        yield Sleep(1)
        for _ in range(3):
            yield Attempt({})

    def empty() -> Flow[None]:
        yield from ()

    assert replay(flow(), Response(503), Response(503), Response(200)).finished
    counted = r"^Answers left over: 2\. The flow yielded Sleep, Attempt ×3\.$"  # noqa: RUF001
    with pytest.raises(LookupError, match=counted):
        replay(flow(), *[Response(503)] * 5)
    with pytest.raises(LookupError, match=r"^Answers left over: 1\. The flow yielded nothing\.$"):
        replay(empty(), Response(200))


@pytest.mark.parametrize(
    ("absent", "name", "remedy"),
    [
        ("pytest_httpserver", "FakeOkta", f"pytest-httpserver. Install it with: {install_command('testing')}"),
        ("pytest", "StoreConformance", "pytest. Install it with: pip install pytest"),
        ("pytest", "SignerConformance", "pytest. Install it with: pip install pytest"),
    ],
)
def test_a_missing_package_is_named_with_its_remedy(absent: str, name: str, remedy: str) -> None:
    script = f"import sys; sys.modules[{absent!r}] = None\nfrom okta_m2m.testing import {name}"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.stderr.splitlines()[-1] == f"ModuleNotFoundError: okta_m2m.testing.{name} needs {remedy}"


def test_the_plugin_offers_an_org_and_an_app_of_it(tmp_path: Path) -> None:
    # What pytest does for every installed package with a plug-in, here after the package was imported.
    (tmp_path / "conftest.py").write_text("import pytest, okta_m2m\npytest.register_assert_rewrite('okta_m2m')\n")
    (tmp_path / "test_mine.py").write_text(
        "import requests\n"
        "from okta_m2m import ServiceApp\n"
        "from okta_m2m.requests import OktaAuth\n"
        "def test_mine(fake_okta, okta_app):\n"
        "    assert isinstance(okta_app, ServiceApp)\n"
        "    assert list(fake_okta.apps) == [okta_app.client_id]\n"
        "    assert okta_app.scopes == ('okta.users.read', 'okta.groups.read')\n"
        "    assert requests.get(fake_okta.url + '/api/v1/users', auth=OktaAuth(okta_app)).ok\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "pytest_okta_m2m", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in result.stdout
