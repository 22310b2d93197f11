"""With every client, a call on behalf of a user has that user's token, and no other user's.

FakeOkta issues the users' tokens, and its API says for whom a call was made.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs

import pytest

from clients import Body, Client
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.errors import SubjectRefused
from okta_m2m.testing import App, FakeOkta, User
from promises import Connect, in_matrix, statuses

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"
AUDIENCE = "api://orders"
SCOPES = ["orders:read"]

NewAgent = Callable[..., ServiceApp]


@pytest.fixture
def web(okta: FakeOkta) -> App:
    """The app that the users sign in to."""
    app = okta.add_app()
    app.application_type = "web"
    return app


@pytest.fixture
def new_agent(okta: FakeOkta, ec_key: PrivateKey, binding: str) -> NewAgent:
    """``new_agent(**arguments of ServiceApp)``: an app that may act for users at the server ``orders``, which trusts the
    tokens of ``default``."""
    okta.add_authorization_server("orders", scopes=SCOPES, audience=AUDIENCE, trusted_servers=["default"])

    def made(**arguments: Any) -> ServiceApp:
        app = okta.add_app(ec_key, dpop_bound=binding == "dpop")
        app.grant_types = ["client_credentials", TOKEN_EXCHANGE, JWT_BEARER]
        settings = {"key": ec_key, "authorization_server": "orders", "origins": [okta.url], "scopes": SCOPES}
        return ServiceApp(okta.url, client_id=app.client_id, **{**settings, **arguments})

    return made


@pytest.fixture
def api(okta: FakeOkta, new_agent: NewAgent) -> str:
    return okta.protect("/orders", server="orders", scope="orders:read")


def users_of(okta: FakeOkta, count: int) -> list[User]:
    return [okta.add_user(f"user{number}@example.com") for number in range(count)]


def subject_of(body: bytes) -> str:
    return str(json.loads(body)["subject"])


# ── many users, one client ───────────────────────────────────────────────────────────────────────────────────────────

Call = tuple[ServiceApp, str]
"""The app for a user, and the URL to call."""


def with_threads(library: Any, adapter: Any, make: Callable[[], Any], calls: list[Call], at_once: int) -> list[bytes]:
    with make() as client, ThreadPoolExecutor(at_once) as pool:
        return [
            answer.content
            for answer in pool.map(lambda call: client.get(call[1], auth=adapter.OktaAuth(call[0])), calls)
        ]


async def with_tasks(adapter: Any, make: Callable[[], Any], calls: list[Call], at_once: int) -> list[bytes]:
    turn = asyncio.Semaphore(at_once)
    async with make() as client:

        async def one(app: ServiceApp, url: str) -> bytes:
            async with turn:
                return bytes((await client.get(url, auth=adapter.OktaAuth(app))).content)

        return list(await asyncio.gather(*(one(*call) for call in calls)))


async def with_aiohttp(aiohttp: Any, adapter: Any, calls: list[Call], at_once: int) -> list[bytes]:
    turn = asyncio.Semaphore(at_once)
    async with aiohttp.ClientSession() as session:

        async def one(app: ServiceApp, url: str) -> bytes:
            async with turn, session.get(url, middlewares=[adapter.OktaAuth(app)]) as response:
                return bytes(await response.read())

        return list(await asyncio.gather(*(one(*call) for call in calls)))


def with_trio(adapter: Any, make: Callable[[], Any], calls: list[Call], at_once: int) -> list[bytes]:
    import trio

    bodies: list[bytes] = [b""] * len(calls)

    async def main() -> None:
        turn = trio.CapacityLimiter(at_once)
        async with make() as client, trio.open_nursery() as nursery:

            async def one(number: int, app: ServiceApp, url: str) -> None:
                async with turn:
                    bodies[number] = (await client.get(url, auth=adapter.OktaAuth(app))).content

            for number, call in enumerate(calls):
                nursery.start_soon(one, number, *call)

    trio.run(main)
    return bodies


def through(name: str, calls: list[Call], at_once: int) -> list[bytes]:
    """The bodies of these calls, made through one client of that library."""
    kind, _, variant = name.partition("-")
    library, adapter = import_module(kind), import_module(f"okta_m2m.{kind}")
    if kind == "aiohttp":
        return asyncio.run(with_aiohttp(library, adapter, calls, at_once))
    if kind in ("requests", "niquests"):

        def session() -> Any:
            made = library.Session()
            made.mount("http://", library.adapters.HTTPAdapter(pool_maxsize=at_once))
            return made

        return with_threads(library, adapter, session, calls, at_once)
    limits = library.Limits(max_connections=at_once)
    if variant == "":
        return with_threads(library, adapter, lambda: library.Client(limits=limits), calls, at_once)
    make = lambda: library.AsyncClient(limits=limits)  # noqa: E731
    if variant == "trio":
        return with_trio(adapter, make, calls, at_once)
    return asyncio.run(with_tasks(adapter, make, calls, at_once))


@pytest.mark.parametrize(("users", "at_once"), [(12, 12), *in_matrix((1000, 100))])
def test_no_call_has_the_token_of_another_user(
    okta: FakeOkta, new_agent: NewAgent, api: str, web: App, client_type: type[Client], users: int, at_once: int
) -> None:
    if client_type.name in ("docs-urllib3", "niquests-async"):
        pytest.skip("this client has no auth argument for each call")
    agent = new_agent()
    people = users_of(okta, users)
    tokens = [user.access_token(web) for user in people]

    def for_user(number: int) -> ServiceApp:
        return agent.on_behalf_of(tokens[number], audience=AUDIENCE, scopes=SCOPES)

    numbers = [number for _ in range(3) for number in range(users)]
    before = okta.tokens_minted
    bodies = through(client_type.name, [(for_user(number), api) for number in numbers], at_once)
    assert [subject_of(body) for body in bodies] == [people[number].login for number in numbers]
    assert okta.tokens_minted - before == users


# ── with every client ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_revoked_token_is_replaced_and_the_call_sent_again(
    okta: FakeOkta, new_agent: NewAgent, api: str, web: App, connect: Connect
) -> None:
    (user,) = users_of(okta, 1)
    app = new_agent().on_behalf_of(user.access_token(web), audience=AUDIENCE, scopes=SCOPES)
    client = connect(app)
    assert subject_of(client.get(api).body) == user.login
    okta.revoke(client.token().value)
    answer = client.post(api, Body(data=b"content"))
    assert (answer.status, subject_of(answer.body)) == (200, user.login)
    assert answer.received is not None
    assert answer.received[0] == len(b"content")


def test_callers_of_one_user_share_one_token_request(
    okta: FakeOkta, new_agent: NewAgent, api: str, web: App, connect: Connect
) -> None:
    (user,) = users_of(okta, 1)
    token = user.access_token(web)
    before = okta.tokens_minted
    client = connect(new_agent().on_behalf_of(token, audience=AUDIENCE, scopes=SCOPES))
    assert statuses(client.at_once(8, "GET", api)) == {200}
    assert okta.tokens_minted - before == 1


def test_a_refused_subject_fails_its_own_calls_only(
    okta: FakeOkta, new_agent: NewAgent, api: str, web: App, connect: Connect
) -> None:
    agent = new_agent()
    revoked, other = users_of(okta, 2)
    token = revoked.access_token(web)
    okta.revoke(token)
    client = connect(agent.on_behalf_of(token, audience=AUDIENCE, scopes=SCOPES))
    with pytest.raises(SubjectRefused) as raised:
        client.get(api)
    assert isinstance(raised.value, client.refused)
    assert "sign in again" in str(raised.value)
    assert token not in str(raised.value)
    client = connect(agent.on_behalf_of(other.access_token(web), audience=AUDIENCE, scopes=SCOPES))
    assert subject_of(client.get(api).body) == other.login


def test_cross_app_access_takes_two_requests(okta: FakeOkta, new_agent: NewAgent, web: App, connect: Connect) -> None:
    agent = new_agent()
    (user,) = users_of(okta, 1)
    registered = okta.apps[agent.client_id]
    issuer = okta.issuer_url("default")
    registered.resource_connections = {issuer: []}
    app = agent.cross_app(user.id_token(registered), issuer=issuer, scopes=["api:read"])
    client = connect(app)
    url = okta.protect("/mail", server="default", scope="api:read")
    assert subject_of(client.get(url).body) == user.login
    assert subject_of(client.get(url).body) == user.login
    forms = [(request.path, parse_qs(request.body.decode())) for request in okta.requests if request.method == "POST"]
    sent = {(path, form["grant_type"][0]) for path, form in forms}
    assert sent == {("/oauth2/v1/token", TOKEN_EXCHANGE), ("/oauth2/default/v1/token", JWT_BEARER)}
    assert okta.api_calls == 2


def test_an_app_for_one_resource_has_a_token_for_that_resource(
    okta: FakeOkta, new_agent: NewAgent, connect: Connect
) -> None:
    agent = new_agent()
    okta.authorization_servers["orders"].resources = ["https://mcp.example"]
    client = connect(agent.for_resource("https://mcp.example"))
    answer = client.get(okta.protect("/mcp", server="orders", scope="orders:read"))
    assert json.loads(answer.body)["audience"] == "https://mcp.example"
    assert agent.for_resource("https://mcp.example") is client.app
