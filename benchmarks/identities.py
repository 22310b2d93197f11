"""One process with many service apps: bytes for each, and what a hit costs as their number grows.

    python benchmarks/identities.py requests | httpx | aiohttp

The floor is a dict of constant headers, with an auth object for each that knows its key: it holds each token once too. Bytes are
the growth of a process's resident memory, the median of several processes in turns. Each app has the default settings, and has
fetched its token: what the conversation leaves behind is counted too.

Each call is for another identity, in random order. Before a round is timed, each entry makes as many calls in another random
order, so that the processor's caches hold what its own calls have left there, and not what another library's have.
"""

from __future__ import annotations

import gc
import random
import resource
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

from hits import CALLS, argument_for
from measure import ARGUMENTS, QUICK, report, run_calls, run_python, spread
from memory_endpoint import ORIGIN, MemoryEndpoint
from peers import FLOOR, OURS, SCOPE, pem

SIZES = (1, 10, 100, 1_000)
CALLS_IN_ROUND = 20_000
ROUNDS = 4 if QUICK else 10
TOKEN_URL = f"{ORIGIN}/oauth2/v1/token"

Make = Callable[[str, str], Any]
"""Makes an auth object from a client id and an access token."""


def _make_floor(stack: str) -> Make:
    import httpx
    from requests.auth import AuthBase

    headers: dict[str, str] = {}

    class Constant:
        __slots__ = ("client_id",)

        def __init__(self, client_id: str) -> None:
            self.client_id = client_id

    class RequestsConstant(Constant, AuthBase):
        __slots__ = ()

        def __call__(self, request: Any) -> Any:
            request.headers["Authorization"] = headers[self.client_id]
            return request

    class HttpxConstant(Constant, httpx.Auth):
        __slots__ = ()

        def auth_flow(self, request: httpx.Request) -> Any:
            request.headers["Authorization"] = headers[self.client_id]
            yield request

    class AiohttpConstant(Constant):
        __slots__ = ()

        async def __call__(self, request: Any, handler: Any) -> Any:
            request.headers["Authorization"] = headers[self.client_id]
            return await handler(request)

    classes = {"requests": RequestsConstant, "httpx": HttpxConstant, "aiohttp": AiohttpConstant}
    constant: type[Constant] = classes[stack]

    def make(client_id: str, token: str) -> Any:
        headers[client_id] = f"Bearer {token}"
        return constant(client_id)

    return make


def _make_ours(stack: str) -> Make:
    from okta_m2m import PrivateKey

    key, endpoint = PrivateKey.from_pem(pem("ES256")), MemoryEndpoint()

    def make(client_id: str, token: str) -> Any:
        endpoint.value = token
        return endpoint.make_auth(stack, key, client_id)

    return make


def _make_authlib() -> Make:
    from authlib.integrations.requests_client import OAuth2Session

    def make(client_id: str, token: str) -> Any:
        answer = {"access_token": token, "token_type": "Bearer", "expires_at": time.time() + 3600}
        return OAuth2Session(client_id, "s", token_endpoint=TOKEN_URL, scope=SCOPE, token=answer).token_auth

    return make


def _make_oauth2client() -> Make:
    from jwskate import Jwk
    from requests_oauth2client import BearerToken, OAuth2Client, OAuth2ClientCredentialsAuth, PrivateKeyJwt

    key = Jwk.from_pem(pem("ES256")).with_kid_thumbprint()

    def make(client_id: str, token: str) -> Any:
        client = OAuth2Client(TOKEN_URL, auth=PrivateKeyJwt(client_id, key, alg="ES256"))
        return OAuth2ClientCredentialsAuth(client, scope=SCOPE, token=BearerToken(token, expires_in=3600, scope=SCOPE))

    return make


def _makers(stack: str) -> dict[str, Callable[[], Make]]:
    makers: dict[str, Callable[[], Make]] = {
        FLOOR.name: partial(_make_floor, stack),
        OURS.name: partial(_make_ours, stack),
    }
    if stack == "requests":
        makers |= {"requests-oauth2client": _make_oauth2client, "Authlib": _make_authlib}
    return makers


class Identities:
    """The auth objects of one library, and the time of a hit by their number."""

    def __init__(self, stack: str, name: str) -> None:
        self.stack, self.name = stack, name
        self._make = _makers(stack)[name]()
        self.auths: list[Any] = []
        self.us: dict[int, float] = {}

    def grow(self, size: int) -> None:
        for number in range(len(self.auths), size):
            auth = self._make(f"client-{number:08d}", f"{'x' * 900}{number:08d}")
            self.auths.append(argument_for(self.stack, auth))
        gc.collect()


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def measure_memory(stack: str, name: str) -> float:
    """Bytes for each app, in a process of its own. What is made once for the process, and what fills the holes that the
    imports have left, is the first thousand's."""
    identities = Identities(stack, name)
    identities.grow(1_000)
    before = _resident_bytes()
    identities.grow(3_000)
    return (_resident_bytes() - before) / 2_000


def _time_hits(stack: str, size: int, entries: list[Identities]) -> None:
    bare, call, _ = CALLS[stack](ORIGIN, stack)
    chance = random.Random(1)
    least = dict.fromkeys(["", *(entry.name for entry in entries)], float("inf"))
    for _ in range(ROUNDS):
        orders = [[chance.randrange(size) for _ in range(CALLS_IN_ROUND)] for _ in ("not timed", "timed")]
        for entry in entries:
            for order in orders:
                seconds = run_calls(call, (entry.auths[number] for number in order))
            least[entry.name] = min(least[entry.name], seconds)
        seconds = run_calls(bare, (entries[0].auths[number] for number in orders[1]))
        least[""] = min(least[""], seconds)
    for entry in entries:
        entry.us[size] = (least[entry.name] - least[""]) / CALLS_IN_ROUND * 1e6


def measure_stack(stack: str) -> dict[str, Any]:
    taken: dict[str, list[float]] = {}
    for _ in range(2 if QUICK else 4):
        for name in _makers(stack):
            taken.setdefault(name, []).append(run_python(__file__, stack, name, seconds=120))
    entries = [Identities(stack, name) for name in _makers(stack)]
    for size in SIZES:
        for entry in entries:
            entry.grow(size)
        gc.freeze()
        _time_hits(stack, size, entries)
    floor = entries[0]
    return {
        entry.name: {
            "us": entry.us,
            "x": {size: us / floor.us[size] for size, us in entry.us.items()},
            "bytes": median(taken[entry.name]),
            "over": spread([mine - theirs for mine, theirs in zip(taken[entry.name], taken[FLOOR.name], strict=True)]),
        }
        for entry in entries
    }


if __name__ == "__main__":
    report(measure_memory(*ARGUMENTS) if len(ARGUMENTS) > 1 else measure_stack(ARGUMENTS[0]))
