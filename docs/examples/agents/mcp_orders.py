"""An MCP server whose tool calls another API for its user. Run it with ``uvicorn mcp_orders:api``."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
import httpx2
from incoming import Incoming
from joserfc.errors import JoseError
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from okta_m2m import ServiceApp
from okta_m2m.errors import SubjectRefused
from okta_m2m.httpx2 import OktaAuth

ISSUER, STOCK = os.environ["ORDERS_ISSUER"], os.environ["STOCK_API"]
ME = "http://127.0.0.1:8000/mcp"  # this server: the aud of the tokens that it accepts


class Verifier(TokenVerifier):
    incoming = Incoming(ISSUER, ME)

    async def verify_token(self, token: str) -> AccessToken | None:
        try:
            claims = await anyio.to_thread.run_sync(self.incoming.verify, token)
        except (JoseError, ValueError):
            return None
        return AccessToken(token=token, client_id=claims["cid"], scopes=claims["scp"], resource=ME)


@asynccontextmanager
async def lifespan(server: MCPServer) -> AsyncIterator[tuple[ServiceApp, httpx2.AsyncClient]]:
    async with ServiceApp.from_env(origins=[STOCK], max_wait=5) as app, httpx2.AsyncClient() as client:
        yield app, client


server = MCPServer(
    "orders",
    token_verifier=Verifier(),
    auth=AuthSettings(issuer_url=ISSUER, resource_server_url=ME, validate_token_resource=True),
    lifespan=lifespan,
)


@server.tool()
async def stock(context: Context) -> dict[str, Any]:
    """What is in stock, as the user may see it."""
    user = get_access_token()
    if user is None:
        raise ToolError("This tool needs a user.")
    app, client = context.request_context.lifespan_context
    for_user = app.on_behalf_of(user.token, audience="api://stock", scopes=["stock:read"])
    try:
        response = await client.get(f"{STOCK}/stock", auth=OktaAuth(for_user))
    except SubjectRefused as error:
        raise ToolError("The user must sign in again.") from error
    return {"stock for": response.raise_for_status().json()["subject"]}


api = server.streamable_http_app()
