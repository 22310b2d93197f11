"""An ASGI app behind a guard that asks FakeOkta about the token of each request, on a server of this process."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import uvicorn

from okta_m2m.testing import FakeOkta
from services import eventually, free_port

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Message, Receive, Send], Awaitable[None]]


class Guard:
    """Lets a request pass to ``app`` if its token is active, or if it asks for public metadata.

    ``seen``: the value of ``Authorization`` of each other request, with the status that the guard decided on.
    """

    def __init__(self, okta: FakeOkta, app: Asgi) -> None:
        self._okta, self._app = okta, app
        self.seen: list[tuple[str, int]] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/.well-known/"):
            await self._app(scope, receive, send)
            return
        authorization = dict(scope["headers"]).get(b"authorization", b"").decode()
        if self._is_active(authorization.partition(" ")[2]):
            self.seen.append((authorization, 200))
            await self._app(scope, receive, send)
            return
        self.seen.append((authorization, 401))
        challenge = [(b"www-authenticate", b'Bearer error="invalid_token"'), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 401, "headers": challenge})
        await send({"type": "http.response.body", "body": b'{"error": {"message": "token refused"}}'})

    def _is_active(self, value: str) -> bool:
        found = self._okta.token(value)
        return found is not None and not found.revoked and self._okta.now() < found.expires_at

    @property
    def refused(self) -> int:
        return [status for _, status in self.seen].count(401)


@contextmanager
def serving(app: Asgi) -> Iterator[str]:
    """The URL of a server of ``app``."""
    port = free_port()
    # Without WebSocket: uvicorn 0.35 imports a part of websockets that is deprecated.
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1, ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started, "the server listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
