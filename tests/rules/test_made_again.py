"""A second live app with the same settings is reported once: each fetches its own token."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary, ref

import pytest

from command import posix_only
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.stores.file import FileStore

KEY = PrivateKey.generate("ES256", kid="k1")


@pytest.fixture
def settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings that no other test uses, and no live apps of other tests."""
    monkeypatch.setattr("okta_m2m._core.service_app._first_apps", WeakValueDictionary())
    return {
        "org_url": "https://acme.okta.com",
        "client_id": f"0oa-{request.node.name}",
        "key": KEY,
        "scopes": ["okta.users.read", "okta.groups.read"],
    }


def made(settings: dict[str, Any], **changed: Any) -> ServiceApp:
    changed = {**settings, **changed}
    return ServiceApp(changed.pop("org_url"), **changed)


def warnings(caplog: pytest.LogCaptureFixture, *apps: ServiceApp) -> list[str]:
    for app in apps:
        app.close()  # gives the log its time
    return [line.getMessage() for line in caplog.records if "more than one ServiceApp" in line.getMessage()]


def test_sixty_live_apps_with_the_same_settings_are_reported_once(
    settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    same_key = PrivateKey.from_jwk(KEY.private_jwk())
    reordered = {"scopes": ["okta.groups.read", "okta.users.read"], "key": same_key}
    apps = [made(settings), *(made(settings, **reordered) for _ in range(59))]
    (line,) = warnings(caplog, *apps)
    assert settings["client_id"] in line
    assert line.endswith("Make it once, at module level.")
    assert {record.levelname for record in caplog.records if record.getMessage() == line} == {"WARNING"}


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "0oa-another"},
        {"org_url": "https://other.okta.com"},
        {"authorization_server": "default", "scopes": ["api:read"]},
        {"resource": "https://api.example.com"},
        {"scopes": ["okta.users.read"]},
        {"key": PrivateKey.generate("ES256")},
        {"key": [KEY, PrivateKey.generate("ES256")]},
    ],
    ids=lambda changed: "-".join(changed),
)
def test_an_app_with_other_settings_is_not_reported(
    settings: dict[str, Any], changed: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert warnings(caplog, made(settings), made(settings, **changed)) == []


def test_apps_that_share_their_token_are_not_reported(
    settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = FileStore(tmp_path)
    assert warnings(caplog, *(made(settings, store=store) for _ in range(2))) == []


def test_apps_that_were_made_from_one_app_are_not_reported(
    settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    app = made(settings, authorization_server="default", scopes=[])
    users = [app.on_behalf_of(name, audience="api://orders") for name in ("ann", "bob")]
    resources = [app.for_resource(f"https://api.example.com/{number}") for number in range(2)]
    assert warnings(caplog, app, *users, *resources) == []


def test_an_app_after_a_closed_one_is_not_reported_but_a_third_is(
    settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    first = made(settings)
    first.close()
    second = made(settings)
    assert warnings(caplog) == []
    third = made(settings)
    assert len(warnings(caplog, first, second, third)) == 1


def test_an_app_that_nobody_uses_any_more_is_freed_and_its_successor_is_not_reported(
    settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        freed = ref(made(settings))
        gc.collect()
        assert freed() is None
    assert warnings(caplog) == []


@posix_only
def test_a_forked_child_reports_its_own_second_app() -> None:
    program = textwrap.dedent(
        """
        import logging, os, sys
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        from okta_m2m import PrivateKey, ServiceApp
        key = PrivateKey.generate("ES256")
        def make():
            return ServiceApp("https://acme.okta.com", client_id="0oa1", key=key, scopes=["okta.users.read"])
        first = make()
        if child := os.fork():
            os.waitpid(child, 0)
        else:
            second = make()
            second.close()
            logging.shutdown()
            sys.stdout.flush()
            os._exit(0)
        """
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60, env=os.environ
    )
    assert ran.stdout.count("more than one ServiceApp for client 0oa1") == 1
    assert ran.stderr == ""


def test_thousands_of_different_apps_are_not_kept_for_this(
    settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    apps = [made(settings, client_id=f"{settings['client_id']}-{number}") for number in range(1000)]
    again = [made(settings, client_id=f"{settings['client_id']}-{number}") for number in (0, 63, 64, 999)]
    assert len(warnings(caplog, *apps, *again)) == 2
