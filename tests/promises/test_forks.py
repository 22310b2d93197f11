"""A child that is forked while another thread makes its first call, or fetches, works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

import okta_m2m.requests
from okta_m2m import ServiceApp
from okta_m2m.testing import FakeOkta
from promises import in_matrix

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

PATIENCE = 60.0

BEGINNING = """
import asyncio, importlib, json, os, sys, threading, time
library, url, client_id, jwk = json.loads(sys.stdin.readline())
client = importlib.import_module(library)
adapter = importlib.import_module("okta_m2m." + library)
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m._threads import workers

app = ServiceApp(url, client_id=client_id, key=PrivateKey.from_jwk(jwk), scopes=["okta.users.read"], on_event=str)
auth, page = adapter.OktaAuth(app), url + "/api/v1/users"

def get_with_requests():
    return client.get(page, auth=auth).status_code

def new_get():
    if library == "requests":
        return get_with_requests
    if library == "aiohttp":
        async def get():
            async with client.ClientSession(middlewares=[auth]) as session, session.get(page) as response:
                return response.status
        return lambda: asyncio.run(get())
    made = client.Client(auth=auth)  # here, because OpenSSL does not support a fork while a client of the caller's reads a CA
    return lambda: made.get(page).status_code
"""

IMPORTS = (
    BEGINNING
    + """
get = new_get()
threading.Thread(target=time.sleep, args=[30], daemon=True).start()  # a process without threads forks without ado
workers._before_fork()
known = set(sys.modules)

def note(event, arguments):
    if event != "import" or arguments[0] in known:
        return
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("okta_m2m"):
            print("imports", arguments[0], "in", threading.current_thread().name)
            return
        frame = frame.f_back

sys.addaudithook(note)
print(get(), flush=True)
sys.stdin.readline()
print(get(), flush=True)
"""
)

APP = """
import sys, threading, time
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m._threads import workers
key = PrivateKey.generate()
threading.Thread(target=time.sleep, args=[30], daemon=True).start()
workers._before_fork()
known = set(sys.modules)

class Store:
    def load(self, key, /): pass
    def save(self, key, value, ttl, owner, /): pass
    def claim(self, key, owner, ttl, /): pass
    def release(self, key, owner, /): pass

environ = {
    "OKTA_CLIENT_ORGURL": "https://acme.okta.com",
    "OKTA_CLIENT_CLIENTID": "0oa1b2c3",
    "OKTA_CLIENT_SCOPES": "okta.users.read",
}
ServiceApp.from_env(files=False, environ=environ, key=key, store=Store(), on_event=str)
print(sorted(name for name in set(sys.modules) - known if name.startswith("okta_m2m")))
"""

FIRST_KEY = """
import sys, threading, time
from okta_m2m import PrivateKey
from okta_m2m._threads import workers
threading.Thread(target=time.sleep, args=[30], daemon=True).start()
workers._before_fork()
known = set(sys.modules)
for alg in ("ES256", "RS256"):
    key = PrivateKey.generate(alg)
    key.sign(b"message")
    PrivateKey.from_jwk(key.private_jwk()).thumbprint()
print(sorted(set(sys.modules) - known))
"""

FORK = (
    BEGINNING
    + """
import faulthandler
first, childs = new_get(), new_get()
answered = []
caller = threading.Thread(target=lambda: answered.append(first()))
caller.start()
time.sleep(float(sys.argv[1]))
child = os.fork()
if not child:
    faulthandler.dump_traceback_later(20, exit=True)
    os._exit(0 if childs() == 200 else 1)
caller.join()
_, status = os.waitpid(child, 0)
print(answered[0], os.waitstatus_to_exitcode(status))
"""
)


def start(program: str, library: str, okta: FakeOkta, dpop_bound: bool, *arguments: str) -> subprocess.Popen[str]:
    app = okta.add_app(dpop_bound=dpop_bound)
    running = subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdin is not None
    running.stdin.write(json.dumps([library, okta.url, app.client_id, app.private_jwk]) + "\n")
    running.stdin.flush()
    return running


@pytest.mark.parametrize("dpop_bound", [*in_matrix(False), True], ids=["bearer", "dpop"])
@pytest.mark.parametrize("library", ["requests", "httpx", "httpx2", "aiohttp"])
def test_a_first_call_and_a_first_401_import_no_module_late(okta: FakeOkta, library: str, dpop_bound: bool) -> None:
    running = start(IMPORTS, library, okta, dpop_bound)
    assert running.stdout is not None
    first = running.stdout.readline()
    okta.revoke_all()
    rest, _ = running.communicate("\n", timeout=PATIENCE)
    assert (first + rest).splitlines() == ["200", "200"]
    assert okta.tokens_minted == 2


def test_a_first_key_imports_no_module_late() -> None:
    """A thread may create it, for example from a key file, while another thread forks."""
    done = subprocess.run([sys.executable, "-c", FIRST_KEY], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_first_app_with_a_store_and_an_observer_imports_no_module_late() -> None:
    made = subprocess.run([sys.executable, "-c", APP], capture_output=True, text=True, check=True)
    assert made.stdout == "[]\n"


@pytest.mark.parametrize("library", ["requests", "httpx"])
@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(number / 1000, marks=[] if number in (2, 12) else pytest.mark.matrix)
        for number in (0, 1, 2, 4, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60)
    ],
)
def test_a_child_forked_during_a_first_call_works(okta: FakeOkta, library: str, moment: float) -> None:
    running = start(FORK, library, okta, False, str(moment))
    printed, _ = running.communicate(timeout=PATIENCE)
    assert printed == "200 0\n"


def test_a_fork_does_not_wait_for_a_token_request_that_hangs(
    okta: FakeOkta, new_service: Callable[..., ServiceApp]
) -> None:
    app = new_service(okta, max_wait=20.0)
    okta.token_delay = 3.0
    auth = okta_m2m.requests.OktaAuth(app)

    fetching = threading.Thread(target=auth.token, daemon=True)
    fetching.start()
    deadline = time.monotonic() + PATIENCE
    while not any(thread.name == "okta-m2m send" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.2)  # it waits for the network by now, not in OpenSSL
    began = time.perf_counter()
    for _ in range(10):
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
    assert time.perf_counter() - began < 2.5, "as it was, each took half a second"
    fetching.join()
