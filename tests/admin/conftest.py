"""A working service app, and the command signed in as a Super Admin. A test module may have its own instead."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from command import Run, run_command
from okta_m2m import PrivateKey
from okta_m2m.admin.key_files import new_key, write_key
from okta_m2m.testing import App, FakeOkta


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The working directory and home directory of the command."""
    return tmp_path


@pytest.fixture
def admin(okta: FakeOkta) -> dict[str, str]:
    """The environment of a Super Admin of ``okta``."""
    return {"OKTA_CLIENT_ORGURL": okta.url, "OKTA_CLIENT_TOKEN": okta.ssws}


@pytest.fixture
def run(home: Path, admin: dict[str, str]) -> Run:
    """``run("app", "list", stdin="text", NAME=value)``, signed in unless ``admin_signed_in=False``."""

    def ran(*arguments: str, admin_signed_in: bool = True, **options: str) -> subprocess.CompletedProcess[str]:
        return run_command(home, *arguments, **{**(admin if admin_signed_in else {}), **options})

    return ran


@pytest.fixture
def key_file(home: Path) -> Path:
    write_key(home / "key.json", new_key("ES256"))
    return home / "key.json"


@pytest.fixture
def billing(okta: FakeOkta, key_file: Path, home: Path) -> App:
    """A working service app, for which there is an okta.yaml."""
    app = okta.add_app(PrivateKey.from_file(key_file), ["okta.users.read"], label="billing")
    settings = {
        "orgUrl": okta.url,
        "clientId": app.client_id,
        "privateKey": "key.json",
        "scopes": ["okta.users.read"],
    }
    lines = [f"    {name}: {json.dumps(value)}" for name, value in settings.items()]
    (home / "okta.yaml").write_text("# ours\nokta:\n  client:\n" + "\n".join(lines) + "\n", encoding="utf-8")
    (home / "okta.yaml").chmod(0o600)
    return app
