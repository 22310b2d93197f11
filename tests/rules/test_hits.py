"""A call that finds a fresh token takes no lock: what it sends at each instant at which that token is being changed.

The change is stopped after each single assignment, and there a call is made through every way that a hit has; or the call
is stopped before each single reading, of the app or of the clock, and there the change is made. What a whole call does is
shown over sockets elsewhere; here each is asked only whether it would send something at once, and what.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
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
from okta_m2m import ConfigurationError, PrivateKey, ServiceApp, Token
from okta_m2m._base.clocks import Clock
from okta_m2m._clients.requests_flows import SessionAuth
from okta_m2m._core import service_app
from okta_m2m._core.token_state import TokenState
from okta_m2m.effects import Flow, Request, Response, Spawn
from okta_m2m.runtimes import Threads, run

ORG = "https://acme.okta.com"
API = f"{ORG}/api/v1/users"


class Watched(TokenState):
    """A state of which each single change can be looked at, and each single reading waited for."""

    __slots__ = ("looked", "read")
    looked: Callable[[], None] | None
    read: Callable[[], None] | None

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if getattr(self, "looked", None) is not None and name not in ("looked", "read"):
            looked, self.looked = self.looked, None
            assert looked is not None
            looked()
            self.looked = looked

    def __getattribute__(self, name: str) -> Any:
        if name in ("authorization", "fresh_until", "token") and getattr(self, "read", None) is not None:
            read, self.read = self.read, None
            read()
            self.read = read
        return super().__getattribute__(name)


class World(Threads):
    """An app, a token endpoint, a clock, and a runtime that keeps what is to run in the background."""

    __slots__ = ("app", "life", "minted", "on_reading", "renewals", "time", "token_type")

    def __init__(self, key: PrivateKey) -> None:
        super().__init__(self._answered)
        self.time = 1000.0
        self.token_type = "Bearer"
        self.life = 3600
        self.minted: list[str] = []
        self.renewals: list[tuple[Flow[Any], Callable[[], None]]] = []
        self.on_reading: Callable[[], object] | None = None
        self.app = ServiceApp(
            ORG, client_id="0oa1", key=key, scopes=["okta.users.read"], clock=Clock(self.now, lambda: 1_750_000_000.0)
        )

    def now(self) -> float:
        hook, self.on_reading = self.on_reading, None
        if hook is not None:
            hook()
        return self.time

    def obtain(self, rejected: Token | None = None) -> Token:
        return run(self.app.obtain(rejected), self)

    def _answered(self, request: Request, timeout: float) -> Response:
        self.minted.append(f"token-{len(self.minted)}")
        answer = {"access_token": self.minted[-1], "token_type": self.token_type, "expires_in": self.life}
        return Response(200, [], json.dumps(answer).encode())

    @property
    def state(self) -> Watched:
        assert isinstance(self.app.token_state, Watched)
        return self.app.token_state

    def _spawn(self, effect: Spawn) -> bool:
        if not effect.awaited:
            self.renewals.append((effect.flow, effect.ended))
        return not effect.awaited

    def renew(self) -> None:
        """Runs the renewal that was begun last."""
        flow, ended = self.renewals.pop()
        run(flow, self)
        ended()


@pytest.fixture
def world(ec_key: PrivateKey, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(service_app, "TokenState", Watched)
    return World(ec_key)


def with_ready(app: ServiceApp) -> str | None:
    ready = app.ready("GET", API)
    return None if ready is None else ready.authorization


UNDER_WAY: list[object] = []
"""Requests whose responses are still to come: one that is dropped without a response has the token renewed."""


def with_requests(app: ServiceApp) -> str | None:
    request = requests.Request("GET", API).prepare()
    UNDER_WAY.append(request)
    okta_m2m.requests.OktaAuth(app)(request)
    sent: str | None = request.headers.get("Authorization")
    return sent


def with_httpx(app: ServiceApp) -> str | None:
    request = httpx.Request("GET", API)
    okta_m2m.httpx.OktaAuth(app)._attach_fresh(request)
    return request.headers.get("Authorization")


def with_aiohttp(app: ServiceApp) -> str | None:
    headers: CIMultiDict[str] = CIMultiDict()
    request: Any = SimpleNamespace(url=URL(API), method="GET", headers=headers, proxy=None)

    async def handler(_: object) -> Any:
        return SimpleNamespace(status=200)

    call: Any = okta_m2m.aiohttp.OktaAuth(app)(request, handler)
    with pytest.raises(StopIteration):
        call.send(None)
    return headers.get("Authorization")


@pytest.fixture(params=[with_ready, with_requests, with_httpx, with_aiohttp])
def hit(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[ServiceApp], str | None]]:
    """What a call would send at once; ``None`` where it would take the long way, which is not gone here."""

    async def slow_path(_: object, request: object, handler: aiohttp.ClientHandlerType) -> None:
        pass

    monkeypatch.setattr(SessionAuth, "__call__", lambda _, request: request)
    monkeypatch.setattr(okta_m2m.aiohttp.OktaAuth, "_call", slow_path)
    asked: Callable[[ServiceApp], str | None] = request.param
    yield asked
    UNDER_WAY.clear()


Hit = Callable[[ServiceApp], str | None]


def watched(world: World, hit: Hit, change: Callable[[], object]) -> list[str | None]:
    """What was sent after each assignment of the change."""
    sent: list[str | None] = []
    world.state.looked = lambda: sent.append(hit(world.app))
    try:
        change()
    finally:
        world.state.looked = None
    assert sent
    return sent


def test_while_the_first_token_is_stored_a_call_sends_that_token_or_none(world: World, hit: Hit) -> None:
    sent = watched(world, hit, world.obtain)
    assert set(sent) == {None, "Bearer token-0"}
    assert sent[-1] == hit(world.app) == "Bearer token-0"


def test_an_expired_token_is_never_sent_while_it_is_replaced(world: World, hit: Hit) -> None:
    world.obtain()
    world.time += 3600
    assert set(watched(world, hit, world.obtain)) == {None, "Bearer token-1"}


def test_a_rejected_token_is_not_sent_after_it_is_taken_out_of_use(world: World, hit: Hit) -> None:
    rejected = world.obtain()
    sent = watched(world, hit, lambda: world.obtain(rejected))
    assert set(sent[sent.index(None) :]) == {None, "Bearer token-1"}


@pytest.mark.parametrize("reading", range(1, 5))
def test_a_call_that_began_with_an_expired_token_sends_the_new_one_or_none(
    world: World, hit: Hit, reading: int
) -> None:
    world.obtain()
    world.time += 3600
    left = reading

    def obtained() -> None:
        nonlocal left
        left -= 1
        if not left:
            world.obtain()

    world.state.read = obtained
    sent = hit(world.app)
    world.state.read = None
    assert sent in (None, "Bearer token-1")


def test_a_call_that_reads_the_clock_during_a_change_sends_no_expired_token(world: World, hit: Hit) -> None:
    world.obtain()
    world.time += 3600
    world.on_reading = world.obtain
    assert hit(world.app) in (None, "Bearer token-1")
    assert world.minted == ["token-0", "token-1"]


def test_during_a_renewal_the_token_is_sent_while_it_is_valid(world: World, hit: Hit) -> None:
    token = world.obtain()
    world.time += 3300
    assert world.obtain() is token
    assert len(world.renewals) == 1
    assert hit(world.app) == "Bearer token-0"
    world.time = token.usable_until - 0.1
    world.obtain()
    assert hit(world.app) == "Bearer token-0"
    world.time = token.usable_until
    assert hit(world.app) is None
    world.renew()
    assert hit(world.app) == "Bearer token-1"


@pytest.mark.parametrize("token_type", ["Bearer", "DPoP"])
def test_a_token_whose_life_was_shortened_replaces_one_that_lives_longer(world: World, token_type: str) -> None:
    world.token_type, world.life = token_type, 24 * 3600
    first = world.obtain()
    world.life = 3600
    while world.time < first.usable_until:
        world.time += 60
        world.obtain()
        while world.renewals:
            world.renew()
        assert world.app.ready("GET", API) is not None
    # One before the renewal of the first is due, and then one for each three quarters of an hour.
    assert 4 < len(world.minted) <= 1 + 0.28 * 24 / 0.72 + 1


def test_a_bound_token_is_not_sent_as_bearer_nor_a_bearer_token_as_bound(world: World, hit: Hit) -> None:
    world.obtain()
    world.time += 3600
    world.token_type = "DPoP"
    assert set(watched(world, hit, world.obtain)) <= {None, "DPoP token-1"}
    world.time += 3600
    world.token_type = "Bearer"
    assert set(watched(world, hit, world.obtain)) == {None, "Bearer token-2"}


def test_a_closed_app_sends_no_token(world: World, hit: Hit) -> None:
    world.obtain()
    sent = watched(world, hit, world.app.close)
    assert sent[-1] is None
    assert hit(world.app) is None


@pytest.mark.parametrize("assignment", range(1, 9))
def test_an_app_closed_by_a_signal_while_a_token_is_stored_sends_no_token(
    world: World, hit: Hit, assignment: int
) -> None:
    left = assignment

    def closed() -> None:
        nonlocal left
        left -= 1
        if not left:
            world.app.close()

    world.state.looked = closed
    with suppress(ConfigurationError):
        world.obtain()
    world.state.looked = None
    assert left <= 0, "there are as many assignments"
    assert hit(world.app) is None
    with pytest.raises(ConfigurationError, match="is closed"):
        world.obtain()


def test_an_app_closed_before_the_mutex_is_taken_starts_no_fetch(world: World) -> None:
    world.on_reading = world.app.close
    with pytest.raises(ConfigurationError, match="is closed"):
        world.obtain()
    assert world.minted == []


def test_a_renewal_that_ends_after_close_stores_no_token(world: World, hit: Hit) -> None:
    world.obtain()
    world.time += 3300
    world.obtain()
    world.app.close()
    world.renew()
    assert world.minted == ["token-0", "token-1"]
    assert hit(world.app) is None
    assert world.app.token_state.token is None, "it keeps no secret that nobody uses"


@pytest.mark.parametrize(
    "url",
    [
        URL("http://acme.okta.com/api/v1/users"),
        URL("https://acme.okta.com:8443/"),
        URL("/api/v1/users"),
        SimpleNamespace(),
    ],
    ids=["http", "port", "relative", "another yarl"],
)
def test_aiohttp_checks_a_url_in_full_unless_it_begins_with_an_allowed_origin(
    world: World, url: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.obtain()
    asked: list[Any] = []

    async def slow_path(_: object, request: Any, handler: aiohttp.ClientHandlerType) -> None:
        asked.append((request.url, dict(request.headers)))

    monkeypatch.setattr(okta_m2m.aiohttp.OktaAuth, "_call", slow_path)
    request: Any = SimpleNamespace(url=url, method="GET", headers=CIMultiDict(), proxy=None)
    handler: Any = object()
    call: Any = okta_m2m.aiohttp.OktaAuth(world.app)(request, handler)
    with pytest.raises(StopIteration):
        call.send(None)
    assert asked == [(url, {})]
