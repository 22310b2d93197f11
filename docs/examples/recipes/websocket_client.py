"""A WebSocket whose opening handshake carries the token."""

import logging

import websockets

from okta_m2m import ServiceApp
from okta_m2m.httpx import OktaAuth

logging.getLogger("websockets.client").setLevel(logging.INFO)  # at DEBUG it writes the token to the log


async def first_message(app: ServiceApp, url: str) -> str:
    """``url`` begins with https:// (or http:// to localhost), like the origins that ``app`` allows."""
    headers = await OktaAuth(app).aheaders("GET", url)
    async with websockets.connect(url.replace("http", "ws", 1), additional_headers=headers) as socket:
        return str(await socket.recv())
