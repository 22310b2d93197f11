"""What a call costs that finds a fresh token: the auth object's work alone, no network.

    python benchmarks/hits.py requests
    python benchmarks/hits.py httpx httpx_async
    python benchmarks/hits.py aiohttp

The auth object is called as its HTTP library calls it. The same call without an auth object is subtracted. It also removes
the header, so that the next call starts without one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from measure import ARGUMENTS, QUICK, Call, interleave, loop, report, run_calls
from peers import FLOOR, OURS, PEERS, Peer
from server import Endpoint, serving

PATH = "/api/v1/users"

Calls = tuple[Call, Call, Any]
"""A call without an auth object, the same call with the one that it is given, and the request that both use."""


def requests_calls(origin: str, library: str) -> Calls:
    request = import_module(library).Request("GET", origin + PATH, headers={"Accept": "application/json"}).prepare()
    headers, hooks = request.headers._store, request.hooks["response"]

    def bare(auth: Any) -> None:
        headers.pop("authorization", None)
        hooks.clear()

    def call(auth: Any) -> None:
        headers.pop("authorization", None)
        hooks.clear()
        auth(request)

    return bare, call, request


def _remove_authorization(headers: Any) -> None:
    headers._list[:] = [field for field in headers._list if field[1] != b"authorization"]


def httpx_calls(origin: str, library: str) -> Calls:
    httpx: Any = import_module(library)
    request = httpx.Request("GET", origin + PATH, headers={"Accept": "application/json"})
    response = httpx.Response(200, request=request)

    def bare(auth: Any) -> None:
        _remove_authorization(request.headers)

    def call(auth: Any) -> None:
        _remove_authorization(request.headers)
        flow = auth.sync_auth_flow(request)
        next(flow)
        with suppress(StopIteration):
            flow.send(response)

    return bare, call, request


def httpx_async_calls(origin: str, library: str) -> Calls:
    httpx: Any = import_module(library)
    request = httpx.Request("GET", origin + PATH, headers={"Accept": "application/json"})
    response = httpx.Response(200, request=request)

    async def bare(auth: Any) -> None:
        _remove_authorization(request.headers)

    async def call(auth: Any) -> None:
        _remove_authorization(request.headers)
        flow = auth.async_auth_flow(request)
        await anext(flow)
        with suppress(StopAsyncIteration):
            await flow.asend(response)

    return bare, call, request


def aiohttp_calls(origin: str, library: str) -> Calls:
    from aiohttp import ClientRequest, ClientResponse, ClientSession
    from aiohttp.client_middlewares import build_client_middlewares
    from yarl import URL

    async def make_request() -> ClientRequest:
        async with ClientSession() as session:
            return ClientRequest("GET", URL(origin + PATH), loop=loop, session=session, response_class=ClientResponse)

    request = loop.run_until_complete(make_request())
    response: Any = SimpleNamespace(status=200, headers={})

    async def handler(_: object) -> Any:
        return response

    async def bare(auth: Any) -> None:
        request.headers.pop("Authorization", None)
        await handler(request)

    async def call(auth: Any) -> None:
        request.headers.pop("Authorization", None)
        await build_client_middlewares(handler, auth)(request)

    return bare, call, request


CALLS: dict[str, Callable[[str, str], Calls]] = {
    "requests": requests_calls,
    "httpx": httpx_calls,
    "httpx_async": httpx_async_calls,
    "aiohttp": aiohttp_calls,
}


def argument_for(stack: str, auth: Any) -> Any:
    """What a client of that library is given: the auth object, or with aiohttp a sequence of middlewares."""
    return (auth,) if stack == "aiohttp" else auth


def measure_stack(stack: str, endpoint: Endpoint) -> dict[str, Any]:
    entries: dict[str, tuple[Call, Any]] = {}
    peers: list[Peer] = [peer for peer in (FLOOR, OURS, *PEERS) if getattr(peer, stack)]
    for peer in peers:
        bare, call, request = CALLS[stack](endpoint.origin, peer.library_for(stack))
        auth = argument_for(stack, getattr(peer, stack)(endpoint))
        run_calls(call, [auth])  # fetches the token
        assert request.headers["Authorization"].startswith("Bearer ")
        entries[peer.name] = call, auth
        if peer is FLOOR:
            entries["bare"] = bare, auth
    taken = interleave(entries, calls=2_000, rounds=40 if QUICK else 100)
    nothing = taken.pop("bare")
    floor = taken[FLOOR.name] - nothing
    return {name: {"us": us - nothing, "x": (us - nothing) / floor} for name, us in taken.items()}


if __name__ == "__main__":
    with serving() as server:
        report({stack: measure_stack(stack, server) for stack in ARGUMENTS})
