"""One process that speaks for many service apps: bytes per identity, and what a hit costs as they grow in number.

The floor is a dict of constant headers. Each call is for another identity, in an order that no cache foresees. Before
anything is timed it is called as often as it will be, in another such order: a process that speaks for many identities
finds in the processor's caches what its own calls have left there, and not what another library's have.
"""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from measure import QUICK, report
from peers import SCOPE, pem
from server import Endpoint

SIZES = (1, 10, 100, 1_000, 10_000, 100_000)
HERE = Endpoint("http://127.0.0.1:1", 0, 3600)  # nobody asks it: each identity has its token


def _value(number: int) -> str:
    return f"{'x' * 900}{number:08d}"


def _floor() -> Callable[[int], Any]:
    from requests.auth import AuthBase

    class Constant(AuthBase):
        __slots__ = ("headers", "name")

        def __init__(self, name: str, headers: dict[str, str]) -> None:
            self.name, self.headers = name, headers

        def __call__(self, request: Any) -> Any:
            request.headers["Authorization"] = self.headers[self.name]
            return request

    headers: dict[str, str] = {}

    def make(number: int) -> Any:
        name = f"client-{number:08d}"
        headers[name] = f"Bearer {_value(number)}"
        return Constant(name, headers)

    return make


def _ours() -> Callable[[int], Any]:
    import json

    from okta_m2m import PrivateKey, ServiceApp
    from okta_m2m.effects import Request, Response
    from okta_m2m.requests import OktaAuth

    key = PrivateKey.from_pem(pem("ES256"))
    now = 0

    def send(request: Request, timeout: float) -> Response:
        answer = {"access_token": _value(now), "token_type": "Bearer", "expires_in": 3600, "scope": SCOPE}
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
        return Response(200, [("Date", date)], json.dumps(answer).encode())

    def make(number: int) -> Any:
        nonlocal now
        now = number
        app = ServiceApp(HERE.origin, client_id=f"client-{number:08d}", key=key, scopes=[SCOPE], dpop=False)
        auth = OktaAuth(app, send=send)
        auth.token()  # the whole conversation but for the network: what it leaves behind is counted too
        return auth

    return make


def _authlib() -> Callable[[int], Any]:
    from authlib.integrations.requests_client import OAuth2Session

    def make(number: int) -> Any:
        token = {"access_token": _value(number), "token_type": "Bearer", "expires_at": time.time() + 3600}
        return OAuth2Session(
            f"client-{number:08d}", "s", token_endpoint=HERE.token_url, scope=SCOPE, token=token
        ).token_auth

    return make


def _oauth2client() -> Callable[[int], Any]:
    from jwskate import Jwk
    from requests_oauth2client import BearerToken, OAuth2Client, OAuth2ClientCredentialsAuth, PrivateKeyJwt

    key = Jwk.from_pem(pem("ES256")).with_kid_thumbprint()

    def make(number: int) -> Any:
        client = OAuth2Client(
            HERE.token_url, auth=PrivateKeyJwt(f"client-{number:08d}", key, alg="ES256"), testing=True
        )
        return OAuth2ClientCredentialsAuth(
            client, scope=SCOPE, token=BearerToken(_value(number), expires_in=3600, scope=SCOPE)
        )

    return make


MAKERS = {"floor": _floor, "okta-m2m": _ours, "requests-oauth2client": _oauth2client, "Authlib": _authlib}
MOST = {"Authlib": 10_000}  # 10 KB and 0.1 ms each: the rest of its curve is known


def _bytes(make: Callable[[int], Any], count: int) -> float:
    # What is made once, or kept for the last few hundred in use, is not an identity's.
    kept = [make(number) for number in range(-300, 0)]
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept += [make(number) for number in range(count)]
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / count


def measured() -> dict[str, Any]:
    import requests

    request = requests.Request("GET", HERE.origin + "/api/v1/users", headers={"Accept": "application/json"}).prepare()
    headers, hooks = request.headers._store, request.hooks["response"]
    made = {name: maker() for name, maker in MAKERS.items()}
    auths: dict[str, list[Any]] = {name: [] for name in MAKERS}
    taken: dict[str, dict[int, float]] = {name: {} for name in MAKERS}
    calls = 20_000
    for size in SIZES:
        for name, make in made.items():
            if size <= MOST.get(name, size):
                auths[name] += [make(number) for number in range(len(auths[name]), size)]
        chance = random.Random(1)
        gc.collect()
        gc.freeze()
        best: dict[str, float] = {}
        for _ in range(20 if QUICK else 40):
            orders = [[chance.randrange(size) for _ in range(calls)] for _ in ("not timed", "timed")]
            for name in ("", *MAKERS):
                if name and size > MOST.get(name, size):
                    continue
                among = auths[name or "floor"]
                for order in orders:
                    began = time.process_time()
                    if name:
                        for number in order:
                            headers.pop("authorization", None)
                            hooks.clear()
                            among[number](request)
                    else:
                        for number in order:
                            headers.pop("authorization", None)
                            hooks.clear()
                            among[number]
                    taken_now = (time.process_time() - began) / calls * 1e6
                best[name] = min(best.get(name, 1e9), taken_now)
        for name in MAKERS:
            if name in best:
                taken[name][size] = best[name] - best[""]
    return {
        name: {"us": taken[name], "x": {size: us / taken["floor"][size] for size, us in taken[name].items()}}
        for name in MAKERS
    }


if __name__ == "__main__":
    sizes = {name: _bytes(maker(), 2_000) for name, maker in MAKERS.items()}
    result = measured()
    for name, size in sizes.items():
        result[name] |= {"bytes": size, "over": size - sizes["floor"]}
    report(result)
