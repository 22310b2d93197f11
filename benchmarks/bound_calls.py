"""What a call costs whose token is bound with DPoP: whole calls over a local socket, each to the next of 1,000 URLs.

    python benchmarks/bound_calls.py
    python benchmarks/bound_calls.py requests --quick

The floor is the same call with two constant headers and the ES256 signature that each proof needs, made with the same key. The
call without an auth object shows what part of both the client takes. CPU time of this process, in turns; the server has its
own. A ratio is the median of the rounds, with the ratios that a tenth of the rounds is below and above.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from statistics import median
from typing import Any

from measure import ARGUMENTS, QUICK, Call, loop, report, run_calls, spread
from memory_endpoint import MemoryEndpoint
from peers import FLOOR, OURS, PEERS
from server import serving

PLAIN = "without auth"
CALLS, ROUNDS = 20, 100 if QUICK else 300
MESSAGE = b"x" * 500  # as long as a proof's
TOKEN, PROOF = "DPoP " + "x" * 900, "x" * 580

Entries = dict[str, tuple[Call, Any]]
"""By name: what makes a call, and the auth object that it is given."""


@contextmanager
def requests_calls(urls: Iterator[str], key: Any, ours: Any) -> Iterator[Entries]:
    import requests

    def sign(request: Any) -> Any:
        key.sign(MESSAGE)
        request.headers["Authorization"], request.headers["DPoP"] = TOKEN, PROOF
        return request

    with requests.Session() as session:

        def call(auth: Any) -> None:
            assert session.get(next(urls), auth=auth).status_code == 200

        session.trust_env = False  # otherwise each call looks for .netrc and proxies
        entries: Entries = {PLAIN: (call, None), FLOOR.name: (call, sign), OURS.name: (call, ours)}
        yield entries | {peer.name: (call, peer.bound()) for peer in PEERS if peer.bound}


def httpx_floor(key: Any) -> Any:
    import httpx

    class Sign(httpx.Auth):
        def auth_flow(self, request: httpx.Request) -> Any:
            key.sign(MESSAGE)
            request.headers["Authorization"], request.headers["DPoP"] = TOKEN, PROOF
            yield request

    return Sign()


@contextmanager
def httpx_calls(urls: Iterator[str], key: Any, ours: Any) -> Iterator[Entries]:
    import httpx

    with httpx.Client(trust_env=False) as client:

        def call(auth: Any) -> None:
            assert client.get(next(urls), auth=auth).status_code == 200

        yield {PLAIN: (call, None), FLOOR.name: (call, httpx_floor(key)), OURS.name: (call, ours)}


@contextmanager
def httpx_async_calls(urls: Iterator[str], key: Any, ours: Any) -> Iterator[Entries]:
    import httpx

    client = httpx.AsyncClient(trust_env=False)

    async def call(auth: Any) -> None:
        assert (await client.get(next(urls), auth=auth)).status_code == 200

    yield {PLAIN: (call, None), FLOOR.name: (call, httpx_floor(key)), OURS.name: (call, ours)}
    loop.run_until_complete(client.aclose())


@contextmanager
def aiohttp_calls(urls: Iterator[str], key: Any, ours: Any) -> Iterator[Entries]:
    import aiohttp

    async def sign(request: Any, handler: Any) -> Any:
        key.sign(MESSAGE)
        request.headers["Authorization"], request.headers["DPoP"] = TOKEN, PROOF
        return await handler(request)

    async def open_session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    session = loop.run_until_complete(open_session())

    async def call(middlewares: Any) -> None:
        async with session.get(next(urls), middlewares=middlewares) as response:
            await response.read()
            assert response.status == 200

    yield {PLAIN: (call, ()), FLOOR.name: (call, (sign,)), OURS.name: (call, (ours,))}
    loop.run_until_complete(session.close())


STACKS: dict[str, Callable[[Iterator[str], Any, Any], Any]] = {
    "requests": requests_calls,
    "httpx": httpx_calls,
    "httpx_async": httpx_async_calls,
    "aiohttp": aiohttp_calls,
}


def measure_stack(stack: str, origin: str) -> dict[str, Any]:
    """For each entry the median in µs; and its ratio, in each round, to the call without auth and to the bare signature."""
    from okta_m2m import PrivateKey

    key = PrivateKey.generate("ES256")
    auth = MemoryEndpoint("DPoP").make_auth(stack, PrivateKey.generate("ES256"), origin=origin, dpop=key)
    urls = cycle([f"{origin}/api/v1/users/00u{number:017}" for number in range(1_000)])
    taken: dict[str, list[float]] = {}
    with STACKS[stack](urls, key, auth) as entries:
        for call, argument in entries.values():
            run_calls(call, [argument] * 1_000)  # opens the connection, and CPython specialises the code
        gc.collect()
        gc.freeze()
        for _ in range(ROUNDS):
            for name, (call, argument) in random.sample(list(entries.items()), len(entries)):
                taken.setdefault(name, []).append(run_calls(call, [argument] * CALLS) / CALLS * 1e6)

    def over(other: str) -> dict[str, Any]:
        return {
            name: spread([mine / theirs for mine, theirs in zip(values, taken[other], strict=True)])
            for name, values in taken.items()
        }

    return {
        "us": {name: median(values) for name, values in taken.items()},
        "over_plain": over(PLAIN),
        "over_floor": over(FLOOR.name),
    }


if __name__ == "__main__":
    with serving() as server:
        report({stack: measure_stack(stack, server.origin) for stack in ARGUMENTS or STACKS})
