"""A WebSocket of aiohttp and server-sent events: a token that is refused when a connection opens costs no connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from aiohttp import ClientResponseError, web
from werkzeug import Request, Response

from okta_m2m import ServiceApp
from okta_m2m.testing import FakeOkta

RECIPES = Path(__file__).parents[2] / "docs" / "examples" / "recipes"

Service = Callable[..., ServiceApp]


def recipe(name: str) -> ModuleType:
    specification = spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def is_active(okta: FakeOkta, authorization: str) -> bool:
    found = okta.token(authorization.partition(" ")[2])
    return found is not None and not found.revoked


# ── WebSocket ────────────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def greeter(okta: FakeOkta) -> AsyncIterator[str]:
    """The URL of a WebSocket that greets those who have an active token, and closes."""

    async def greet(request: web.Request) -> web.StreamResponse:
        if not is_active(okta, request.headers.get("Authorization", "")):
            return web.Response(status=401)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("hello")
        await socket.close()
        return socket

    server = web.Application()
    server.router.add_get("/events", greet)
    runner = web.AppRunner(server)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/events"
    finally:
        await runner.cleanup()


def test_a_handshake_that_is_refused_is_sent_again_with_a_new_token(okta: FakeOkta, service: Service) -> None:
    async def main() -> None:
        async with greeter(okta) as url:
            app = service(origins=[url.removesuffix("/events")])
            for _ in range(2):
                assert [message async for message in recipe("websocket_aiohttp").messages(app, url)] == ["hello"]
                okta.revoke_all()

    asyncio.run(main())
    assert okta.tokens_minted == 2


def test_a_handshake_with_another_origin_has_no_token(okta: FakeOkta, service: Service) -> None:
    async def main() -> None:
        async with greeter(okta) as url:
            with pytest.raises(ClientResponseError) as refused:
                [message async for message in recipe("websocket_aiohttp").messages(service(), url)]
            assert refused.value.status == 401

    asyncio.run(main())
    assert okta.token_requests == 0


# ── server-sent events ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_of_events_continues_after_a_revoked_token(okta: FakeOkta, service: Service) -> None:
    """Each connection has two events of five, and the token is revoked after each."""
    asked: list[tuple[str, bool]] = []

    def answer(request: Request) -> Response:
        active = is_active(okta, request.headers.get("Authorization", ""))
        last = request.headers.get("Last-Event-ID", "")
        asked.append((last, active))
        if not active:
            return Response(status=401)
        first = int(last or 0) + 1
        if first > 5:
            return Response(status=204)
        okta.revoke_all()
        numbers = range(first, min(first + 2, 6))
        lines = "".join(f": a comment\nid: {number}\ndata: event\ndata:{number}\n\n" for number in numbers)
        return Response(lines, content_type="text/event-stream")

    okta.server.expect_request("/events").respond_with_handler(answer)
    received = list(recipe("sse_client").events(service(origins=[okta.url]), f"{okta.url}/events", 0))
    assert received == [f"event\n{number}" for number in range(1, 6)]
    assert [last for last, active in asked if active] == ["", "2", "4", "5"]
    assert okta.tokens_minted == 4
