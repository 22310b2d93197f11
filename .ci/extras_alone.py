"""What has to work in an environment that has one extra and no other (``python extras_alone.py EXTRA``, or ``none``).

Invariant: an extra brings what it needs, and none of the libraries that another extra is for.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from okta_m2m import PrivateKey, ServiceApp

BRINGS = {
    "none": set(),
    "requests": {"requests"},
    "httpx": {"httpx"},
    "httpx2": {"httpx2"},
    "niquests": {"niquests"},
    "aiohttp": {"aiohttp"},
    "trio": {"httpx", "trio"},
    "yaml": {"ruamel"},
    "file": {"filelock"},
    "redis": {"redis"},
    # Okta's SDK requires requests itself.
    "okta": {"aiohttp", "okta", "requests"},
    "httpie": {"httpie", "requests", "ruamel"},
    "cli": {"filelock", "requests", "ruamel", "typer"},
    "testing": {"pytest_httpserver"},
    "demo": {"aiohttp", "filelock", "httpx", "pytest_httpserver", "requests", "ruamel", "typer"},
}
ADAPTERS = {"requests", "httpx", "httpx2", "aiohttp", "niquests"}

extra = sys.argv[1]
found = {name for name in set().union(*BRINGS.values()) if find_spec(name)}
assert found == BRINGS[extra], f"[{extra}] brings {found}"

app = ServiceApp("https://acme.okta.com", client_id="0oa1b2c3", key=PrivateKey.generate(), scopes=["okta.users.read"])
for adapter in ADAPTERS & found:
    assert import_module(f"okta_m2m.{adapter}").OktaAuth(app).app is app
if extra == "httpie":
    command = [str(Path(sys.executable).with_name("http")), "--help"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "okta-m2m" in told
if extra == "okta":
    assert import_module("okta_m2m.okta_sdk").sdk_config(app)["orgUrl"] == app.org_url
if extra == "cli":
    subprocess.run([sys.executable, "-m", "okta_m2m.cli", "--version"], check=True)
if extra == "testing":
    from okta_m2m.testing import FakeOkta

    with FakeOkta() as okta:
        assert okta.url.startswith("http://127.0.0.1:")
print(f"{extra}: works, with {', '.join(sorted(found)) or 'nothing else'}")
