"""What servers of worker processes serve: a call of Okta's API for each request. The app is made, and used, before the fork.

Reads its plan from the environment (``PLAN``).
"""

from __future__ import annotations

import faulthandler
import json
import os
import warnings
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from typing import Any

plan: dict[str, Any] = json.loads(os.environ["PLAN"])
if plan["server"] == "gevent":
    import gevent.monkey

    gevent.monkey.patch_all()  # before anything else, as gevent says, since the app is loaded before the workers are

import httpx  # noqa: E402
import requests  # noqa: E402

import okta_m2m.httpx  # noqa: E402
import okta_m2m.requests  # noqa: E402
from okta_m2m import PrivateKey, ServiceApp  # noqa: E402

API = f"{plan['org_url']}/api/v1/users"
app = ServiceApp(
    plan["org_url"],
    client_id=plan["client_id"],
    key=PrivateKey.from_jwk(plan["key"]),
    scopes=["okta.users.read"],
)
auth = okta_m2m.requests.OktaAuth(app)
auth.token()
session = requests.Session()
session.trust_env = False
session.auth = auth


@cache
def say_where_it_hangs() -> None:
    """gunicorn aborts a worker that hangs, and has a handler for that, which this replaces: so in a worker, not before."""
    faulthandler.enable()


def call() -> str:
    """Whose worker made it, and what came of it."""
    try:
        status = session.get(API, timeout=30).status_code
    except Exception as error:
        return f"{os.getpid()} {type(error).__name__}: {error}"
    return f"{os.getpid()} {status}"


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    say_where_it_hangs()
    answer = call().encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]


@cache
def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(auth=okta_m2m.httpx.OktaAuth(app), trust_env=False, timeout=30)


async def asgi(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                await client().aclose()
                return
    try:
        answer = f"{os.getpid()} {(await client().get(API)).status_code}"
    except Exception as error:
        answer = f"{os.getpid()} {type(error).__name__}: {error}"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": answer.encode()})


if plan["server"] == "celery":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from celery import Celery

    celery = Celery("prefork_app", broker=plan["broker"], backend=plan["broker"])
    celery.conf.update(
        task_default_queue="calls", worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True
    )
    celery.task(name="call")(call)
