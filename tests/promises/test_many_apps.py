"""Many service apps that need a token at once, on one event loop: each makes one token request, and the loop goes on."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

import pytest

from okta_m2m import PrivateKey, ServiceApp, Token
from okta_m2m.testing import FakeOkta


def new_apps(okta: FakeOkta, key: PrivateKey, number: int) -> list[ServiceApp]:
    client_id = okta.add_app(key, ["okta.users.read"]).client_id
    return [
        ServiceApp(okta.url, client_id=client_id, key=key, scopes=["okta.users.read"], dpop=False)
        for _ in range(number)
    ]


@pytest.mark.parametrize("library", ["httpx", "aiohttp"])
@pytest.mark.parametrize("number", [150, pytest.param(3000, marks=pytest.mark.matrix)])
def test_many_apps_without_a_token_on_one_loop_each_make_one_request(
    okta: FakeOkta, ec_key: PrivateKey, library: str, number: int
) -> None:
    okta.token_delay = 0.05  # so that there is time in which the loop must go on, however fast the requests are
    adapter: Any = importlib.import_module(f"okta_m2m.{library}")
    auths = [adapter.OktaAuth(app) for app in new_apps(okta, ec_key, number)]
    beats = 0

    async def heart() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.01)
            beats += 1

    async def main() -> list[Token | BaseException]:
        beating = asyncio.create_task(heart())
        tokens = await asyncio.gather(*[auth.atoken() for auth in auths], return_exceptions=True)
        beating.cancel()
        return tokens

    tokens = asyncio.run(main())
    assert [token for token in tokens if not isinstance(token, Token)] == []
    assert len({token.value for token in tokens if isinstance(token, Token)}) == number
    assert okta.tokens_minted == number
    assert beats > 5, "the loop stood still"


def test_many_apps_that_renew_at_once_on_one_loop_delay_no_call(okta: FakeOkta, ec_key: PrivateKey) -> None:
    adapter: Any = importlib.import_module("okta_m2m.httpx")
    auths = [adapter.OktaAuth(app) for app in new_apps(okta, ec_key, 60)]

    async def all_tokens() -> list[Token]:
        return await asyncio.gather(*[auth.atoken() for auth in auths])

    async def main() -> None:
        first = await all_tokens()
        for auth in auths:
            state = auth.app.token_state
            state._use(state.token, state.now())  # its renewal is due
        okta.token_delay = 0.1
        assert await all_tokens() == first, "nobody waits for a renewal"
        for _ in range(500):
            if okta.tokens_minted == 2 * len(auths):
                break
            await asyncio.sleep(0.02)
        okta.token_delay = 0.0
        for _ in range(500):
            if not {token.value for token in await all_tokens()} & {token.value for token in first}:
                break
            await asyncio.sleep(0.02)
        else:
            raise AssertionError("some were not renewed")

    asyncio.run(main())
    assert okta.tokens_minted == 2 * len(auths)
