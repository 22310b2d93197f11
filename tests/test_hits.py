"""A call that finds a fresh token takes no lock: what it sends at each instant at which that token is being changed.

The change is stopped after each single assignment, and inside each reading of the clock, and there a call is made through
every way that a hit has. What a whole call does is shown over sockets elsewhere; here each is asked only whether it
would send something at once, and what.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx
import pytest
import requests
from multidict import CIMultiDict
from yarl import URL

import okta_m2m.aiohttp
import okta_m2m.httpx
import okta_m2m.requests
from okta_m2m import PrivateKey, ServiceApp, Token
from okta_m2m._requests_flows import Flows
from okta_m2m.clocks import Clock
from okta_m2m.effects import Request, Response
from okta_m2m.runtimes import Threads, run

ORG = "https://acme.okta.com"
API = f"{ORG}/api/v1/users"


class Watched(ServiceApp):
    """An app of which each single change can be looked at."""

    __slots__ = ("looked",)
    looked: Callable[[], None] | None

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if getattr(self, "looked", None) is not None and name != "looked":
            looked, self.looked = self.looked, None
            assert looked is not None
            looked()
            self.looked = looked


class World:
    """An app, a token endpoint, and a clock."""

    def __init__(self, key: PrivateKey) -> None:
        self.time = 1000.0
        self.token_type = "Bearer"
        self.minted: list[str] = []
        self.on_reading: Callable[[], object] | None = None
        self.app = Watched(
            ORG, client_id="0oa1", key=key, scopes=["okta.users.read"], clock=Clock(self.now, lambda: 1_750_000_000.0)
        )

    def now(self) -> float:
        hook, self.on_reading = self.on_reading, None
        if hook is not None:
            hook()
        return self.time

    def obtain(self, rejected: Token | None = None) -> Token:
        return run(self.app.obtain(rejected), Threads(self._send))

    def _send(self, request: Request, timeout: float) -> Response:
        self.minted.append(f"token-{len(self.minted)}")
        answer = {"access_token": self.minted[-1], "token_type": self.token_type, "expires_in": 3600}
        return Response(200, [], json.dumps(answer).encode())


@pytest.fixture
def world(ec_key: PrivateKey) -> World:
    return World(ec_key)


def with_ready(app: ServiceApp) -> str | None:
    ready = app.ready("GET", API)
    return None if ready is None else ready.authorization


def with_requests(app: ServiceApp) -> str | None:
    request = requests.Request("GET", API).prepare()
    okta_m2m.requests.OktaAuth(app)(request)
    sent: str | None = request.headers.get("Authorization")
    return sent


def with_httpx(app: ServiceApp) -> str | None:
    request = httpx.Request("GET", API)
    okta_m2m.httpx.OktaAuth(app)._hit(request)
    return request.headers.get("Authorization")


def with_aiohttp(app: ServiceApp) -> str | None:
    headers: CIMultiDict[str] = CIMultiDict()
    request: Any = SimpleNamespace(url=URL(API), method="GET", headers=headers)

    async def handler(_: object) -> Any:
        return SimpleNamespace(status=200)

    call: Any = okta_m2m.aiohttp.OktaAuth(app)(request, handler)
    with pytest.raises(StopIteration):
        call.send(None)
    return headers.get("Authorization")


@pytest.fixture(params=[with_ready, with_requests, with_httpx, with_aiohttp])
def hit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[ServiceApp], str | None]:
    """What a call would send at once; ``None`` where it would take the long way, which is not gone here."""

    async def considered(_: object, request: object, handler: aiohttp.ClientHandlerType) -> None:
        pass

    monkeypatch.setattr(Flows, "__call__", lambda _, request: request)
    monkeypatch.setattr(okta_m2m.aiohttp.OktaAuth, "_considered", considered)
    asked: Callable[[ServiceApp], str | None] = request.param
    return asked


Hit = Callable[[ServiceApp], str | None]


def watched(world: World, hit: Hit, change: Callable[[], object]) -> list[str | None]:
    """What was sent after each assignment of the change."""
    sent: list[str | None] = []
    world.app.looked = lambda: sent.append(hit(world.app))
    try:
        change()
    finally:
        world.app.looked = None
    assert sent
    return sent


def test_while_the_first_token_is_put_into_use_nothing_else_is_sent(world: World, hit: Hit) -> None:
    sent = watched(world, hit, world.obtain)
    assert set(sent) == {None, "Bearer token-0"}
    assert sent[-1] == hit(world.app) == "Bearer token-0"


def test_an_expired_token_is_never_sent_while_it_is_replaced(world: World, hit: Hit) -> None:
    world.obtain()
    world.time += 3600
    assert set(watched(world, hit, world.obtain)) == {None, "Bearer token-1"}


def test_a_rejected_token_is_never_sent_once_it_is_taken_out_of_use(world: World, hit: Hit) -> None:
    rejected = world.obtain()
    sent = watched(world, hit, lambda: world.obtain(rejected))
    assert set(sent[sent.index(None) :]) == {None, "Bearer token-1"}


def test_a_call_that_began_with_an_expired_token_does_not_send_it_if_another_is_obtained_meanwhile(
    world: World, hit: Hit
) -> None:
    world.obtain()
    world.time += 3600
    world.on_reading = world.obtain
    assert hit(world.app) in (None, "Bearer token-1")
    assert world.minted == ["token-0", "token-1"]


def test_where_a_bound_token_follows_a_plain_one_neither_is_sent_in_the_others_way(world: World, hit: Hit) -> None:
    world.obtain()
    world.time += 3600
    world.token_type = "DPoP"
    assert set(watched(world, hit, world.obtain)) <= {None, "DPoP token-1"}
    world.time += 3600
    world.token_type = "Bearer"
    assert set(watched(world, hit, world.obtain)) == {None, "Bearer token-2"}


def test_what_is_closed_sends_nothing(world: World, hit: Hit) -> None:
    world.obtain()
    sent = watched(world, hit, world.app.close)
    assert sent[-1] is None
    assert hit(world.app) is None
