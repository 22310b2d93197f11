"""What type checkers make of okta-m2m in a program that uses it. Checked by ``test_typing.py``; never run."""

from collections.abc import Callable
from typing import Any, assert_type

import aiohttp
import httpx
import httpx2
import requests
from aiohttp import ClientMiddlewareType

import okta_m2m.aiohttp
import okta_m2m.httpx
import okta_m2m.httpx2
import okta_m2m.requests
from okta_m2m import Event, PrivateKey, RateLimited, ServiceApp, Signer, Token, TokenError
from okta_m2m._base.tokens import Credentials
from okta_m2m.effects import Effect, Flow, Request, Response, Send, Sending, Sign, StartSend, Wait
from okta_m2m.runtimes import Threads, arun, run

key = PrivateKey.from_file("key.pem")
signer: Signer = key
app = ServiceApp("https://acme.okta.com", client_id="0oa1b2c3", key=key, scopes=["okta.users.read"])
assert_type(app, ServiceApp)
ServiceApp("https://acme.okta.com", client_id="0oa1", key=[signer, key], scopes=("a", "b"), dpop="required")
ServiceApp("https://acme.okta.com", client_id="0oa1", key=key, scopes={"a"}, dpop=key, on_event=print)
assert_type(ServiceApp.from_env(), ServiceApp)


def told(event: Event) -> None: ...


on_event: Callable[[Event], None] = told
ServiceApp("https://acme.okta.com", client_id="0oa1", key=key, on_event=on_event)


class Kms:
    """A signer of one's own needs no base class."""

    alg = "RS256"
    kid: str | None = None
    public_jwk: dict[str, str] = {}  # noqa: RUF012 (as a user would write it)

    def sign(self, message: bytes, /) -> bytes:
        return message


ServiceApp("https://acme.okta.com", client_id="0oa1", key=Kms())

# ── requests ──

session = requests.Session()
session.auth = okta_m2m.requests.OktaAuth(app)
requests.get("https://acme.okta.com/api/v1/users", auth=okta_m2m.requests.OktaAuth(app), timeout=10)
okta_m2m.requests.OktaAuth(app, session=session)
okta_m2m.requests.OktaAuth(app, session=requests.Session)
assert_type(okta_m2m.requests.OktaAuth(app).token(), Token)
assert_type(okta_m2m.requests.OktaAuth(app).headers("GET", "https://acme.okta.com/"), dict[str, str])

# ── httpx ──

auth: httpx.Auth = okta_m2m.httpx.OktaAuth(app)
httpx.Client(auth=okta_m2m.httpx.OktaAuth(app))
httpx.AsyncClient(auth=okta_m2m.httpx.OktaAuth(app, client=httpx.Client()))
httpx.AsyncClient(auth=okta_m2m.httpx.OktaAuth(app, client=lambda: httpx.Client(proxy="http://127.0.0.1:3128")))
assert_type(okta_m2m.httpx.OktaAuth(app).token(), Token)

# ── httpx2 ──

auth2: httpx2.Auth = okta_m2m.httpx2.OktaAuth(app)
httpx2.AsyncClient(auth=okta_m2m.httpx2.OktaAuth(app, client=httpx2.Client()))
assert_type(okta_m2m.httpx2.OktaAuth(app).headers("GET", "https://acme.okta.com/"), dict[str, str])

# ── aiohttp ──

middleware: ClientMiddlewareType = okta_m2m.aiohttp.OktaAuth(app)


async def main() -> None:
    own = aiohttp.ClientSession(middlewares=[okta_m2m.aiohttp.OktaAuth(app)])
    okta_m2m.aiohttp.OktaAuth(app, session=lambda: aiohttp.ClientSession(trust_env=True))
    async with own, own.get("https://acme.okta.com/api/v1/users") as answer:
        assert_type(answer.status, int)
    assert_type(await okta_m2m.aiohttp.OktaAuth(app).atoken(), Token)
    assert_type(await okta_m2m.httpx.OktaAuth(app).aheaders("GET", "https://acme.okta.com/"), dict[str, str])


# ── flows ──


def flow() -> Flow[int]:
    response = yield from Send(app_request(), 1.0)
    assert_type(response, Response)
    sending = yield from StartSend(app_request(), 1.0)
    assert_type(sending, Sending | None)
    signature = yield from Sign(key, b"message", 1.0)
    assert_type(signature, bytes)
    token = yield from app.obtain()
    assert_type(token, Token)
    return response.status


def app_request() -> Any: ...


def send(request: Request, timeout: float) -> Response:
    return Response(503)


okta_m2m.httpx.OktaAuth(app, send=send)
okta_m2m.aiohttp.OktaAuth(app, send=send)


assert_type(app.obtain(), Flow[Token])
assert_type(app.authorize("GET", "https://acme.okta.com/", replayable=True), Flow[None])
assert_type(app.headers("GET", "https://acme.okta.com/"), Flow[dict[str, str]])
assert_type(app.ready("GET", "https://acme.okta.com/"), Credentials | None)
effect: Effect[bool] = Wait(app_request(), 1.0)
assert_type(run(flow(), Threads(app_request())), int)


async def on_a_loop() -> None:
    assert_type(await arun(flow(), app_request()), int)


# ── errors ──

try:
    okta_m2m.requests.OktaAuth(app).token()
except RateLimited as error:
    assert_type(error.retry_after, float | None)
except TokenError as error:
    assert_type(error.status, int | None)
    assert_type(error.request_id, str | None)
