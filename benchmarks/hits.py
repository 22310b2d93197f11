"""What a call costs that finds a fresh token: the auth object's work alone, no network.

Measured is what an auth object adds to a call, as its HTTP library calls it: the same call without one is subtracted, and
taking the header off again for the next turn with it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from measure import QUICK, interleaved, loop, report
from peers import FLOOR, OURS, PEERS, Peer
from server import Endpoint, serving

PATH = "/api/v1/users"


def _nothing(*_: object, **__: object) -> None: ...


def _requests(peer: Peer | None, endpoint: Endpoint) -> Callable[[], object]:
    import requests

    request = requests.Request("GET", endpoint.origin + PATH, headers={"Accept": "application/json"}).prepare()
    headers, hooks = request.headers._store, request.hooks["response"]
    if peer is None:

        def without() -> None:
            headers.pop("authorization", None)
            hooks.clear()

        return without
    auth = peer.requests(endpoint)  # type: ignore[misc]
    auth(request)
    assert request.headers["Authorization"].startswith("Bearer ")

    def call() -> None:
        headers.pop("authorization", None)
        hooks.clear()
        auth(request)

    return call


def _unauthorized(headers: Any) -> None:
    headers._list[:] = [field for field in headers._list if field[1] != b"authorization"]


def _httpx(peer: Peer | None, endpoint: Endpoint) -> Callable[[], object]:
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


def _httpx_async(peer: Peer | None, endpoint: Endpoint) -> Callable[[], object]:
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


def _aiohttp(peer: Peer | None, endpoint: Endpoint) -> Callable[[], object]:
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


STACKS: dict[str, Callable[[Peer | None, Endpoint], Callable[[], object]]] = {
    "requests": _requests,
    "httpx": _httpx,
    "httpx_async": _httpx_async,
    "aiohttp": _aiohttp,
}


def calls(stack: str, endpoint: Endpoint, peers: tuple[Peer, ...]) -> dict[str, Callable[[], object]]:
    """One call each, ready to be measured; ``""`` is the same without any auth object."""
    make = STACKS[stack]
    return {"": make(None, endpoint), **{peer.name: make(peer, endpoint) for peer in peers if getattr(peer, stack)}}


def measured(stack: str, endpoint: Endpoint) -> dict[str, Any]:
    taken = interleaved(
        calls(stack, endpoint, (FLOOR, OURS, *PEERS)), calls=2_000 if QUICK else 5_000, rounds=15 if QUICK else 40
    )
    nothing = taken.pop("")[0]
    floor = taken["floor"][0] - nothing
    return {name: {"us": least - nothing, "x": (least - nothing) / floor} for name, (least, _) in taken.items()}


if __name__ == "__main__":
    only = [argument for argument in sys.argv[1:] if argument in STACKS] or list(STACKS)
    with serving() as endpoint:
        report({stack: measured(stack, endpoint) for stack in only})
