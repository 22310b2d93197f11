"""A session of the MCP Python SDK that outlives its tokens."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from okta_m2m import ServiceApp
from okta_m2m.httpx2 import OktaAuth


@asynccontextmanager
async def session(app: ServiceApp, url: str) -> AsyncIterator[ClientSession]:
    """``app`` has the origin of ``url`` among its ``origins``."""
    client = httpx2.AsyncClient(auth=OktaAuth(app), timeout=httpx2.Timeout(30, read=300))
    async with (
        client,
        streamable_http_client(url, http_client=client) as (read, write),
        ClientSession(read, write) as made,
    ):
        await made.initialize()
        yield made
