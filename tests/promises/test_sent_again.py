"""A request object that is sent a second time by somebody else: with a token of ours on it, it is not the caller's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
import httpx
import pytest

import okta_m2m.aiohttp
import okta_m2m.httpx
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.events import AuthorizationKept
from okta_m2m.testing import FakeOkta

USERS = "/api/v1/users"


@pytest.fixture(params=[False, True], ids=["bearer", "dpop"])
def bound(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def app(okta: FakeOkta, bound: bool, told: list[object]) -> ServiceApp:
    key = PrivateKey.generate()
    registered = okta.add_app(key, dpop_bound=bound)
    return ServiceApp(
        okta.url, client_id=registered.client_id, key=key, scopes=["okta.users.read"], on_event=told.append
    )


@pytest.fixture
def told() -> list[object]:
    return []


async def twice(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """A retrying middleware in front of ours."""
    (await handler(request)).release()
    return await handler(request)


def by_aiohttp(app: ServiceApp, url: str) -> list[int]:
    async def main() -> list[int]:
        async with (
            aiohttp.ClientSession(middlewares=[twice, okta_m2m.aiohttp.OktaAuth(app)]) as session,
            session.get(url) as response,
        ):
            return [response.status]

    return asyncio.run(main())


def by_httpx(app: ServiceApp, url: str) -> list[int]:
    with httpx.Client(auth=okta_m2m.httpx.OktaAuth(app)) as client:
        request = client.build_request("GET", url)
        return [client.send(request).status_code, client.send(request).status_code]


@pytest.mark.parametrize("send", [by_aiohttp, by_httpx])
def test_a_request_that_is_sent_again_has_a_new_proof(
    okta: FakeOkta, app: ServiceApp, told: list[object], send: Callable[[ServiceApp, str], list[int]], bound: bool
) -> None:
    assert set(send(app, okta.url + USERS)) == {200}
    proofs = [request.header("dpop") for request in okta.requests if request.target == USERS]
    assert len(proofs) == 2
    assert len(set(proofs)) == (2 if bound else 1)
    assert okta.tokens_minted == 1
    assert not any(isinstance(event, AuthorizationKept) for event in told)
    assert okta.api_calls == 2, "none of them had to be healed"
