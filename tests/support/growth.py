"""``python growth.py KIND SECONDS PLAN``: does one thing again and again, and reports what the process holds before and after.

The first third of the time warms up. Reported are resident memory, open files, threads, and objects that the garbage
collector tracks, each as how much it grew from then on; and how much garbage could not be freed.
``PLAN`` names an org, for what is done over sockets.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.effects import Request, Response
from okta_m2m.runtimes import Asyncio, Threads, arun, run

API = "https://acme.okta.com/api/v1/users"
KEY = PrivateKey.generate("ES256")
issued = 0


def answer(lifetime: float) -> Response:
    global issued
    issued += 1
    token = {"access_token": f"token-{issued:08}", "token_type": "Bearer", "expires_in": lifetime}
    return Response(200, [("Date", "Thu, 26 Nov 2026 00:00:00 GMT")], json.dumps(token).encode())


def send(request: Request, timeout: float) -> Response:
    return answer(3600)


def new_app(**more: object) -> ServiceApp:
    return ServiceApp("https://acme.okta.com", client_id="0oa1", key=KEY, scopes=["okta.users.read"], **more)  # type: ignore[arg-type]


def make_due(app: ServiceApp) -> None:
    """Makes the renewal of its token due."""
    app.token_state._renew_at = app.token_state.fresh_until = float("-inf")


threads = Threads(send)
app = new_app()


def hits() -> None:
    for _ in range(100):
        assert app.ready("GET", API) or run(app.attach("GET", API), threads)


def renewals() -> None:
    """Each in a thread of its own, which has ended before the next begins."""
    before = issued
    make_due(app)
    run(app.obtain(), threads)
    while issued == before or threading.active_count() > 1:
        time.sleep(0.0005)


def apps() -> None:
    with new_app() as one:
        run(one.obtain(), threads)


def loops() -> None:
    async def job() -> None:
        make_due(app)
        await asyncio.gather(*(arun(app.obtain(), Asyncio(send)) for _ in range(5)))
        assert len(asyncio.all_tasks()) == 1, "a task of ours on the caller's loop"

    asyncio.run(job())


def forks() -> None:
    run(app.obtain(), threads)
    child = os.fork()
    if child == 0:
        make_due(app)
        run(app.obtain(), threads)
        os._exit(0 if app.ready("GET", API) else 1)
    assert os.waitpid(child, 0)[1] == 0


def requests_sockets() -> None:
    """A session, a call, and a renewal of the token, over HTTP."""
    import requests

    import okta_m2m.requests

    real = org_app()
    with requests.Session() as session:
        session.trust_env = False
        session.auth = okta_m2m.requests.OktaAuth(real)
        for _ in range(2):
            assert session.get(f"{real.org_url}/api/v1/users").status_code == 200
            make_due(real)


def aiohttp_sockets() -> None:
    """The same on a loop that then ends, whatever is under way."""
    import aiohttp

    import okta_m2m.aiohttp

    async def job() -> None:
        real = org_app()
        async with aiohttp.ClientSession(middlewares=[okta_m2m.aiohttp.OktaAuth(real)]) as session:
            for _ in range(2):
                async with session.get(f"{real.org_url}/api/v1/users") as response:
                    assert response.status == 200
                make_due(real)

    asyncio.run(job())


def org_app() -> ServiceApp:
    plan = json.loads(sys.argv[3])
    key = PrivateKey.from_jwk(plan["key"])
    return ServiceApp(plan["org_url"], client_id=plan["client_id"], key=key, scopes=["okta.users.read"])


KINDS: dict[str, Callable[[], None]] = {
    "hits": hits,
    "renewals": renewals,
    "apps": apps,
    "loops": loops,
    "forks": forks,
    "requests sockets": requests_sockets,
    "aiohttp sockets": aiohttp_sockets,
}


LEAST = 25
"""Times that a thing is done, before the first look and after it, however long that takes."""


def held() -> dict[str, int]:
    while threading.active_count() > 1:
        time.sleep(0.001)
    gc.collect()
    proc = Path("/proc/self")
    return {
        "kilobytes": int(proc.joinpath("statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024,
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "objects": len(gc.get_objects()),
        "garbage": len(gc.garbage),
    }


def main(kind: str, seconds: float) -> None:
    do = KINDS[kind]
    warm, ends, rounds = time.monotonic() + seconds / 3, time.monotonic() + seconds, 0
    while time.monotonic() < warm or rounds < LEAST:
        do()
        rounds += 1
    rounds = 0
    before = held()
    before = held()  # the first has made some itself
    while time.monotonic() < ends or rounds < LEAST:
        do()
        rounds += 1
    after = held()
    print(json.dumps({"rounds": rounds, **{what: after[what] - before[what] for what in after}}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
