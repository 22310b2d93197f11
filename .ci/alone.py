"""What has to work in an environment that has one extra and no other (``python alone.py EXTRA``, or ``none``).

Invariant: nothing is imported that the extra did not ask for; so an import too many fails here.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

from okta_m2m import PrivateKey, ServiceApp

extra = sys.argv[1]
app = ServiceApp("https://acme.okta.com", client_id="0oa1b2c3", key=PrivateKey.generate(), scopes=["okta.users.read"])
brought = {name for name in ("requests", "httpx", "aiohttp", "trio", "yaml", "typer", "pytest_httpserver") if find_spec(name)}

if extra == "none":
    assert brought == set(), brought
elif extra == "requests":
    from okta_m2m.requests import OktaAuth as ForRequests

    assert (ForRequests(app).app, brought) == (app, {"requests"}), brought
elif extra in ("httpx", "trio"):
    from okta_m2m.httpx import OktaAuth as ForHttpx

    assert (ForHttpx(app).app, brought) == (app, {"httpx", extra}), brought
elif extra == "aiohttp":
    from okta_m2m.aiohttp import OktaAuth as ForAiohttp

    assert (ForAiohttp(app).app, brought) == (app, {"aiohttp"}), brought
elif extra == "yaml":
    assert brought == {"yaml"}, brought
elif extra == "cli":
    subprocess.run([sys.executable, "-m", "okta_m2m.cli", "--version"], check=True)
elif extra == "testing":
    from okta_m2m.testing import FakeOkta

    with FakeOkta() as okta:
        assert okta.url.startswith("http://127.0.0.1:")
print(f"{extra}: {', '.join(sorted(brought)) or 'nothing else'}")
