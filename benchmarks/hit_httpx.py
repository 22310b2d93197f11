"""A hit of httpx: the auth flow of a ``Client``, and of an ``AsyncClient``, from its start to its end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hits import PATH, row
from measure import loop
from peers import Peer
from server import Endpoint


def _unauthorized(headers: Any) -> None:
    headers._list[:] = [field for field in headers._list if field[1] != b"authorization"]


def blocking(peer: Peer | None, endpoint: Endpoint) -> Callable[[], object]:
    import httpx

    request: Any = httpx.Request("GET", endpoint.origin + PATH, headers={"Accept": "application/json"})
    response: Any = httpx.Response(200, request=request)
    if peer is None:
        return lambda: _unauthorized(request.headers)
    auth = peer.httpx(endpoint)  # type: ignore[misc]
    if peer.name == "Authlib":
        import httpx2

        client = auth
        request = httpx2.Request("GET", endpoint.origin + PATH, headers={"Accept": "application/json"})
        response = httpx2.Response(200, request=request)
        client.ensure_active_token(client.token)
        auth = client.token_auth

    def call() -> None:
        _unauthorized(request.headers)
        if peer.name == "Authlib":
            client.ensure_active_token(client.token)
        flow = auth.sync_auth_flow(request)
        sent = next(flow)
        with suppress(StopIteration):
            flow.send(response)
        assert sent.headers is not None

    call()
    assert request.headers["Authorization"].startswith("Bearer ")
    return call


def asynchronous(peer: Peer | None, endpoint: Endpoint) -> Callable[[], object]:
    import httpx

    request: Any = httpx.Request("GET", endpoint.origin + PATH, headers={"Accept": "application/json"})
    response: Any = httpx.Response(200, request=request)
    if peer is None:

        async def without() -> None:
            _unauthorized(request.headers)

        return without
    auth = peer.httpx_async(endpoint)  # type: ignore[misc]
    client = None
    if peer.name == "Authlib":
        import httpx2

        client = auth
        request = httpx2.Request("GET", endpoint.origin + PATH, headers={"Accept": "application/json"})
        response = httpx2.Response(200, request=request)
        auth = client.token_auth

    async def call() -> None:
        _unauthorized(request.headers)
        if client is not None:
            await client.ensure_active_token(client.token)
        flow = auth.async_auth_flow(request)
        await anext(flow)
        with suppress(StopAsyncIteration):
            await flow.asend(response)

    loop.run_until_complete(call())  # the first has to fetch
    assert request.headers["Authorization"].startswith("Bearer ")
    return call


if __name__ == "__main__":
    row(httpx=blocking, httpx_async=asynchronous)
