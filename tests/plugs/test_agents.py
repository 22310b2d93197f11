"""MCP clients with the token of a service app: mcp, FastMCP and LangGraph, real, at a server whose guard asks FakeOkta about each
token.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest
from fastmcp import Client, FastMCP
from fastmcp.client.transports import StdioTransport
from joserfc.jwk import RSAKey
from mcp import ClientSession, MCPError
from mcp.client.auth import OAuthTokenError
from mcp.client.auth.extensions.client_credentials import PrivateKeyJWTOAuthProvider, SignedJWTParameters
from mcp.client.streamable_http import streamable_http_client
from starlette.requests import Request
from starlette.responses import JSONResponse

from guarded_server import Guard, serving
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.events import OriginPassedOver
from okta_m2m.testing import FakeOkta
from promises import Events
from services import eventually

RECIPES = Path(__file__).parents[2] / "docs" / "examples" / "recipes"

# Of the clients and the server.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

Add = Callable[[int, int], Awaitable[int]]
Service = Callable[..., ServiceApp]


@pytest.fixture
def guard(okta: FakeOkta) -> Guard:
    server = FastMCP("orders")

    @server.tool
    def add(a: int, b: int) -> int:
        return a + b

    @server.custom_route("/.well-known/oauth-protected-resource/mcp", methods=["GET"])
    async def describe(request: Request) -> JSONResponse:
        """RFC 9728."""
        issuer = okta.issuer_url("default")
        return JSONResponse({"resource": f"http://{request.headers['host']}/mcp", "authorization_servers": [issuer]})

    return Guard(okta, server.http_app())


@pytest.fixture
def url(guard: Guard) -> Iterator[str]:
    """The URL of the MCP server."""
    with serving(guard) as origin:
        yield f"{origin}/mcp"


@pytest.fixture
def service(okta: FakeOkta, url: str, new_service: Service, binding: str) -> Service:
    """An app with a token for the MCP server."""

    def registered(**arguments: Any) -> ServiceApp:
        origins = {"origins": [url.removesuffix("/mcp")]}
        mine = {"authorization_server": "default", "scopes": ["api:read"], **origins, **arguments}
        return new_service(okta, dpop_bound=binding == "dpop", **mine)

    return registered


def recipe(name: str) -> ModuleType:
    specification = spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@asynccontextmanager
async def with_mcp(app: ServiceApp, url: str) -> AsyncIterator[Add]:
    async with recipe("mcp_client").session(app, url) as session:

        async def add(a: int, b: int) -> int:
            answer = await session.call_tool("add", {"a": a, "b": b})
            return int(answer.content[0].text)

        yield add


@asynccontextmanager
async def with_fastmcp(app: ServiceApp, url: str) -> AsyncIterator[Add]:
    async with recipe("fastmcp_client").client(app, url) as client:

        async def add(a: int, b: int) -> int:
            return (await client.call_tool("add", {"a": a, "b": b})).data

        yield add


@asynccontextmanager
async def with_gateway(app: ServiceApp, url: str) -> AsyncIterator[Add]:
    async with Client(recipe("mcp_gateway").gateway(app, url)) as client:

        async def add(a: int, b: int) -> int:
            return (await client.call_tool("add", {"a": a, "b": b})).data

        yield add


@asynccontextmanager
async def with_langgraph(app: ServiceApp, url: str) -> AsyncIterator[Add]:
    async with recipe("fastmcp_client").client(app, url) as client:
        graph = recipe("langgraph_agent").graph(client, "add")

        async def add(a: int, b: int) -> int:
            return (await graph.ainvoke({"question": {"a": a, "b": b}}))["answer"]

        yield add


SESSIONS = {"mcp": with_mcp, "fastmcp": with_fastmcp, "gateway": with_gateway, "langgraph": with_langgraph}

each_client = pytest.mark.parametrize("session", SESSIONS.values(), ids=SESSIONS)


@each_client
def test_a_token_revoked_in_mid_session_costs_no_call(
    okta: FakeOkta, service: Service, guard: Guard, url: str, session: Any
) -> None:
    async def main() -> None:
        async with session(service(), url) as add:
            for revoked in (False, True, True):
                if revoked:
                    okta.revoke_all()
                assert [await add(number, 1) for number in range(3)] == [1, 2, 3]

    asyncio.run(main())
    assert okta.tokens_minted == 3
    assert guard.refused >= 2


@each_client
def test_a_session_outlives_its_tokens(okta: FakeOkta, service: Service, guard: Guard, url: str, session: Any) -> None:
    okta.token_lifetime = 1

    async def main() -> None:
        async with session(service(), url) as add:
            number = 0
            while okta.tokens_minted < 3:
                assert await add(number, 1) == number + 1
                number += 1

    asyncio.run(main())
    assert len({value for value, status in guard.seen if status == 200}) >= 2


@each_client
def test_concurrent_calls_of_a_session_share_one_token(
    okta: FakeOkta, service: Service, url: str, session: Any
) -> None:
    async def main() -> None:
        async with session(service(), url) as add:
            assert await asyncio.gather(*(add(number, 1) for number in range(20))) == list(range(1, 21))
            okta.revoke_all()
            assert await asyncio.gather(*(add(number, 1) for number in range(20))) == list(range(1, 21))

    asyncio.run(main())
    assert okta.tokens_minted == 2


def test_the_gateway_serves_a_client_over_its_standard_input(okta: FakeOkta, url: str, ec_key: PrivateKey) -> None:
    settings = {
        "OKTA_CLIENT_ORGURL": okta.url,
        "OKTA_CLIENT_CLIENTID": okta.add_app(ec_key, []).client_id,
        "OKTA_CLIENT_SCOPES": "api:read",
        "OKTA_CLIENT_AUTHORIZATIONSERVER": "default",
        "OKTA_CLIENT_PRIVATEKEY": json.dumps(ec_key.private_jwk()),
        "OKTA_M2M_ORIGINS": url.removesuffix("/mcp"),
        "MCP_SERVER": url,
    }
    command = StdioTransport(
        sys.executable, [str(RECIPES / "mcp_gateway.py")], env={**os.environ, **settings}, keep_alive=False
    )

    async def main() -> int:
        async with Client(command) as client:
            return (await client.call_tool("add", {"a": 1, "b": 2})).data

    assert asyncio.run(main()) == 3
    assert okta.tokens_minted == 1


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_server_at_another_origin_gets_no_token(okta: FakeOkta, service: Service, guard: Guard, url: str) -> None:
    events = Events()
    app = service(origins=["https://mcp.acme.example"], on_event=events)

    async def main() -> None:
        with pytest.raises(MCPError):
            async with recipe("fastmcp_client").client(app, url):
                pass

    asyncio.run(main())
    assert set(guard.seen) == {("", 401)}
    eventually(lambda: bool(events.of(OriginPassedOver)), "it is reported")
    assert okta.token_requests == 0


class Memory:
    """A token storage of the SDK."""

    async def get_tokens(self) -> None:
        return None

    async def set_tokens(self, tokens: object) -> None:
        raise AssertionError("Okta issued a token")

    async def get_client_info(self) -> None:
        return None

    async def set_client_info(self, info: object) -> None:
        """Nothing is registered."""


def test_the_sdks_own_provider_is_refused_because_its_assertion_names_the_issuer(
    okta: FakeOkta, url: str, rsa_key: PrivateKey
) -> None:
    """The page says so. If this fails, mcp or Okta has changed."""
    app = okta.add_app(rsa_key, [])
    pem = RSAKey.import_key(rsa_key.private_jwk()).as_pem(private=True).decode()
    parameters = SignedJWTParameters(issuer=app.client_id, subject=app.client_id, signing_key=pem)
    provider = PrivateKeyJWTOAuthProvider(
        url,
        Memory(),
        app.client_id,
        parameters.create_assertion_provider(),
        scope="api:read",
        issuer=okta.issuer_url("default"),
    )

    async def main() -> None:
        client = httpx2.AsyncClient(auth=provider)
        async with (
            client,
            streamable_http_client(url, http_client=client) as streams,
            ClientSession(*streams) as session,
        ):
            await session.initialize()

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(main())
    assert raised.group_contains(OAuthTokenError)
    assert [refusal.error_description for refusal in okta.refusals] == [
        "The audience claim for client_assertion must be the endpoint invoked for the request."
    ]
