"""What sends the token request is a plain function, or a client that blocks: anything else is refused with the remedy."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest
import trio

from clients import CLIENTS, AsyncClient, Client
from okta_m2m import ConfigurationError, ServiceApp
from okta_m2m.aiohttp import OktaAuth
from okta_m2m.effects import Request, Response
from okta_m2m.errors import WrongType
from okta_m2m.runtimes import Asyncio, Threads, Trio, arun, run
from okta_m2m.testing import FakeOkta
from services import eventually

TOKEN = b'{"access_token": "t", "token_type": "Bearer", "expires_in": 3600}'
NewService = Callable[..., ServiceApp]


def blocking(request: Request, timeout: float) -> Response:
    return Response(200, [("Content-Type", "application/json")], TOKEN)


async def awaitable(request: Request, timeout: float) -> Response:
    return blocking(request, timeout)


def returns_an_awaitable(request: Request, timeout: float) -> Any:
    return awaitable(request, timeout)


def of_another_library(request: Request, timeout: float) -> Any:
    return TOKEN


def test_an_awaitable_send_is_refused_with_the_remedy(
    okta: FakeOkta, new_service: NewService, connect: Callable[..., Client]
) -> None:
    client = connect(new_service(okta), send=returns_an_awaitable)
    for _ in range(2):
        with pytest.raises(client.refused, match=r"send.*awaitable.*plain function") as refused:
            client.get(okta.url + "/api/v1/users")
        assert isinstance(refused.value, ConfigurationError)
    assert okta.requests == [], "nothing was sent"
    if client.name != "docs-urllib3":  # a reader's own class need not check its arguments
        with pytest.raises(WrongType, match=r"a coroutine function as send.*plain function"):
            type(client.auth)(client.app, send=awaitable)
    assert connect(new_service(okta), send=blocking).token().value == "t"


@pytest.mark.parametrize("name", [name for name, client in CLIENTS.items() if not client.lends_itself])
def test_a_client_of_an_event_loop_is_refused_for_the_token_request_with_the_remedy(
    okta: FakeOkta, new_service: NewService, name: str
) -> None:
    client: Any = CLIENTS[name](new_service(okta))
    assert isinstance(client, AsyncClient)
    try:
        option = "client" if name.startswith("httpx") else "session"
        own = getattr(client, option)
        with pytest.raises(WrongType, match=rf"as {option}, which belongs to an event loop.*a function that makes"):
            type(client.auth)(client.app, **{option: own})
        with pytest.raises(
            WrongType, match=rf"as {option}.*Pass (a niquests|an httpx|a function that makes an aiohttp)"
        ):
            type(client.auth)(client.app, **{option: "https://acme.okta.com"})
        auth = type(client.auth)(client.app, **{option: lambda: "no client"})
        with pytest.raises(ConfigurationError, match=r"object of type str"):
            client.run(auth.atoken)
        assert okta.requests == []
    finally:
        client.close()


@pytest.mark.parametrize(
    "obtain",
    [
        lambda app, send: run(app.obtain(), Threads(send)),
        lambda app, send: asyncio.run(arun(app.obtain(), Asyncio(send))),
        lambda app, send: trio.run(arun, app.obtain(), Trio(send)),
    ],
    ids=["threads", "asyncio", "trio"],
)
@pytest.mark.parametrize(
    ("send", "says"), [(awaitable, "a thread cannot wait"), (of_another_library, "returned bytes")]
)
def test_the_error_of_each_runtime_names_what_it_was_given(
    okta: FakeOkta,
    new_service: NewService,
    obtain: Callable[[ServiceApp, Any], Any],
    send: Any,
    says: str,
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        obtain(new_service(okta), send)


def test_a_token_request_of_aiohttp_leaves_no_response_for_the_garbage_collector(
    okta: FakeOkta, new_service: NewService
) -> None:
    """It would keep the token in memory, no matter how long the program lives."""

    def responses() -> int:
        return sum(isinstance(kept, Response) for kept in gc.get_objects())

    async def token() -> None:
        await OktaAuth(new_service(okta)).atoken()

    asyncio.run(token())
    gc.collect()
    before = responses()
    gc.disable()
    try:
        for _ in range(3):
            asyncio.run(token())
        eventually(lambda: responses() <= before, "the end of each response")
    finally:
        gc.enable()
