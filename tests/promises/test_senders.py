"""``send=`` of the wrong kind is refused by name, in every client: one that blocks a loop, one that a thread cannot wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import trio

from clients import Client
from okta_m2m import ConfigurationError, ServiceApp
from okta_m2m.effects import Request, Response
from okta_m2m.runtimes import Asyncio, Threads, Trio, arun, run
from okta_m2m.testing import FakeOkta

TOKEN = b'{"access_token": "t", "token_type": "Bearer", "expires_in": 3600}'
NewService = Callable[..., ServiceApp]


def blocking(request: Request, timeout: float) -> Response:
    return Response(200, [("Content-Type", "application/json")], TOKEN)


async def awaitable(request: Request, timeout: float) -> Response:
    return blocking(request, timeout)


async def of_another_library(request: Request, timeout: float) -> Any:
    return TOKEN


def test_a_client_says_what_is_wrong_with_its_send(
    okta: FakeOkta, new_service: NewService, connect: Callable[..., Client], client_type: type[Client]
) -> None:
    wrong: Any = blocking if client_type.asynchronous else awaitable
    client = connect(new_service(okta), send=wrong)
    for _ in range(2):
        with pytest.raises(client.refused, match="send") as refused:
            client.get(okta.url + "/api/v1/users")
        assert isinstance(refused.value, ConfigurationError)
    assert okta.requests == [], "nothing was sent"
    right: Any = awaitable if client_type.asynchronous else blocking
    assert connect(new_service(okta), send=right).token().value == "t"


@pytest.mark.parametrize(
    ("obtain", "says"),
    [
        (lambda app: run(app.obtain(), Threads(awaitable)), "a thread cannot wait"),
        (lambda app: run(app.obtain(), Threads(lambda *_: TOKEN)), "returned bytes"),
        (lambda app: asyncio.run(arun(app.obtain(), Asyncio(blocking))), "async def"),
        (lambda app: asyncio.run(arun(app.obtain(), Asyncio(of_another_library))), "returned bytes"),
        (lambda app: trio.run(arun, app.obtain(), Trio(blocking)), "async def"),
        (lambda app: trio.run(arun, app.obtain(), Trio(of_another_library)), "returned bytes"),
    ],
)
def test_each_runtime_says_what_it_was_given(
    okta: FakeOkta, new_service: NewService, obtain: Callable[[ServiceApp], Any], says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        obtain(new_service(okta))
