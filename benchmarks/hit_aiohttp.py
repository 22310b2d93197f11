"""A hit of aiohttp: one client middleware, put in front of the handler as a session does it for each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hits import PATH, row
from measure import loop
from peers import Peer
from server import Endpoint


def asynchronous(peer: Peer | None, endpoint: Endpoint) -> Callable[[], object]:
    from types import SimpleNamespace

    from aiohttp.client_middlewares import build_client_middlewares
    from multidict import CIMultiDict
    from yarl import URL

    headers: Any = CIMultiDict(Host=endpoint.origin.partition("//")[2], Accept="application/json")
    request: Any = SimpleNamespace(
        url=URL(endpoint.origin + PATH), method="GET", headers=headers, session=None, body=None, _timer=None
    )
    response: Any = SimpleNamespace(status=200)

    async def handler(_: object) -> Any:
        return response

    if peer is None:

        async def without() -> None:
            headers.pop("Authorization", None)
            await handler(request)

        return without
    middlewares = (peer.aiohttp(endpoint),)  # type: ignore[misc]
    loop.run_until_complete(build_client_middlewares(handler, middlewares)(request))
    assert headers["Authorization"].startswith("Bearer ")

    async def call() -> None:
        headers.pop("Authorization", None)
        await build_client_middlewares(handler, middlewares)(request)

    return call


if __name__ == "__main__":
    row(aiohttp=asynchronous)
