"""A WebSocket of aiohttp, whose opening handshake carries the token."""

from collections.abc import AsyncIterator

import aiohttp

from okta_m2m import ServiceApp
from okta_m2m.aiohttp import OktaAuth


async def messages(app: ServiceApp, url: str) -> AsyncIterator[str]:
    """``url`` begins with https:// (or http:// to localhost), like the origins that ``app`` allows."""
    async with (
        aiohttp.ClientSession(middlewares=[OktaAuth(app)]) as session,
        session.ws_connect(url) as socket,
    ):
        async for message in socket:
            yield message.data
