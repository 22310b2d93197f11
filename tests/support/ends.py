"""Ways to end a process, each a script that is run with ``-X dev -W error``.

Before its body each has: ``app`` (a service app), ``auth`` (for requests), ``URL`` (an API), ``session`` (with that auth),
``ending()`` (called when the end begins), ``warm()`` (gets a token), ``due()`` (makes its renewal due) and ``call()`` (a
call whose answer is checked, and which prints how long it took).
"""

from __future__ import annotations

PRELUDE = """
import atexit, json, os, signal, sys, threading, time
import requests
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.requests import OktaAuth
from okta_m2m.runtimes import run, Threads

plan = json.loads(os.environ["PLAN"])
URL = plan["org_url"] + "/api/v1/users"
store = None
if plan["store"]:
    from okta_m2m.stores import store_from_url
    store = store_from_url(plan["store"])

def new_app(**more):
    return ServiceApp(plan["org_url"], client_id=plan["client_id"], key=PrivateKey.from_jwk(plan["key"]),
                      scopes=["okta.users.read"], store=store, max_wait=10, **more)

app = new_app()
auth = OktaAuth(app)
session = requests.Session()
session.trust_env = False
session.auth = auth
atexit.register(session.close)

def say(what):
    os.write(1, (what + "\\n").encode())

def ending():
    say(f"ending {time.time()!r}")

def warm():
    auth.token()

def call(name="call"):
    began = time.perf_counter()
    with requests.Session() as own:
        own.trust_env = False
        own.auth = auth
        status = own.get(URL).status_code
    assert status == 200, status
    say(f"{name} {time.perf_counter() - began!r}")

def due():
    app.token_state._renew_at = app.token_state.fresh_until = float("-inf")

def hang():
    # From now on the token endpoint takes a minute to answer.
    requests.post(plan["control"] + "/hang").close()
"""

ENDS: dict[str, str] = {
    "nothing is under way": "warm(); call(); ending()",
    "the token was never needed": "ending()",
    "a renewal hangs": "warm(); hang(); due(); call(); ending()",
    "a first fetch hangs in a daemon thread": """
hang()
threading.Thread(target=auth.token, daemon=True).start()
time.sleep(0.3)
ending()
""",
    "daemon threads make calls": """
warm()
def work():
    with requests.Session() as own:
        own.trust_env = False
        own.auth = auth
        while True:
            own.get(URL)
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.5)
ending()
""",
    "a thread works on, from cold": """
def work():
    threading.main_thread().join()
    ending()
    call()
threading.Thread(target=work).start()
""",
    "a thread works on, its renewal due": """
warm()
def work():
    threading.main_thread().join()
    ending()
    due()
    for _ in range(3):
        call()
        time.sleep(0.1)
threading.Thread(target=work).start()
""",
    "a thread works on, its renewal hangs": """
warm()
def work():
    threading.main_thread().join()
    hang()
    ending()
    due()
    for _ in range(3):
        call("quick")
threading.Thread(target=work).start()
""",
    "atexit, with a token": "warm(); atexit.register(lambda: (ending(), call('quick')))",
    "atexit, from cold": "atexit.register(lambda: (ending(), call()))",
    "atexit, a renewal due": "warm(); atexit.register(lambda: (ending(), due(), call('quick')))",
    "atexit, a renewal due that hangs": "warm(); hang(); atexit.register(lambda: (ending(), due(), call('quick')))",
    "SIGTERM": """
warm(); call()
ending()
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(10)
""",
    "SIGTERM during a fetch that hangs": """
hang()
threading.Timer(0.3, lambda: (ending(), os.kill(os.getpid(), signal.SIGTERM))).start()
auth.token()
""",
    "SystemExit in a handler during a fetch that hangs": """
def leave(*_):
    ending()
    raise SystemExit(0)
signal.signal(signal.SIGTERM, leave)
hang()
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
auth.token()
""",
    "SystemExit in a handler, at any moment": """
def leave(*_):
    ending()
    raise SystemExit(0)
signal.signal(signal.SIGTERM, leave)
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
app.close()  # of several live apps with the same settings, the log warns
while True:
    one = new_app()
    OktaAuth(one).token()
    one.close()
""",
    "Ctrl-C during a fetch that hangs": """
hang()
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    auth.token()
except KeyboardInterrupt:
    ending()
""",
    "sys.exit": "warm(); call(); due(); auth.token(); ending(); sys.exit(0)",
    "os._exit": "warm(); hang(); due(); call(); ending(); os._exit(0)",
    "the app is closed at exit, and its token revoked": """
app.close()  # of two live apps with the same settings, the log warns
app = ServiceApp(plan["org_url"], client_id=plan["client_id"], key=PrivateKey.from_jwk(plan["key"]),
                 scopes=["okta.users.read"], max_wait=10, revoke_on_close=True)
auth = OktaAuth(app)
warm(); call()
atexit.register(lambda: (ending(), app.close()))
""",
    "a forked child, during a fetch that hangs": """
warm(); hang(); due(); call()
child = os.fork()
if child == 0:
    call("quick")
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
ending()
""",
    "a pool of threads that is shut down at exit": """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(4)
for _ in range(8):
    pool.submit(call)
ending()
""",
    "an asyncio loop ends, a renewal hangs": """
import asyncio, httpx
import okta_m2m.httpx
async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # the machine may be busy
    async with httpx.AsyncClient(auth=okta_m2m.httpx.OktaAuth(app), trust_env=False) as client:
        assert (await client.get(URL)).status_code == 200
        hang()
        due()
        assert (await client.get(URL)).status_code == 200
        ending()
asyncio.run(main())
""",
    "a trio run ends, a renewal hangs": """
import httpx, trio
import okta_m2m.httpx
async def main():
    async with httpx.AsyncClient(auth=okta_m2m.httpx.OktaAuth(app), trust_env=False) as client:
        assert (await client.get(URL)).status_code == 200
        hang()
        due()
        assert (await client.get(URL)).status_code == 200
        ending()
trio.run(main)
""",
    "aiohttp is cancelled during a fetch that hangs": """
import asyncio, aiohttp
import okta_m2m.aiohttp
async def main():
    asyncio.get_running_loop().slow_callback_duration = 60
    hang()
    async with aiohttp.ClientSession(middlewares=[okta_m2m.aiohttp.OktaAuth(app)]) as client:
        try:
            async with asyncio.timeout(0.3):
                await client.get(URL)
        except TimeoutError:
            ending()
asyncio.run(main())
""",
}
