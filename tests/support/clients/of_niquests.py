"""niquests: blocking and on asyncio."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import niquests

import okta_m2m.niquests
from okta_m2m import ServiceApp

from .interface import (
    MULTIPART_NAME,
    NOTHING,
    PATIENCE,
    Answer,
    AsyncClient,
    BlockingClient,
    Body,
    asynchronously,
)


def _session(kind: type[Any], client: Any, **options: Any) -> Any:
    # With HTTP/2 and 3 left on, it would look for them by way of Alt-Svc and the like.
    session = kind(pool_connections=4, pool_maxsize=1 if client.pool_of_one else 64, **options)
    session.verify = not client.unverified if client.trusted is None else str(client.trusted)
    if client.proxy is not None:
        session.proxies = {"http": client.proxy, "https": client.proxy}
    return session


def _sent(body: Body, stream: Any) -> dict[str, Any]:
    if body.form is not None:
        return {"files": {MULTIPART_NAME: body.form}}
    return {"data": body.data or body.file or stream}


def _answer(response: Any, body: bytes) -> Answer:
    return Answer(response.status_code, list(response.headers.items()), body, response.url)


class NiquestsClient(BlockingClient):
    name = "niquests"
    refused, unreachable = niquests.RequestException, niquests.ConnectionError

    def open(self) -> None:
        self.session = _session(niquests.Session, self)
        self.other = _session(niquests.Session, self) if self.token_client == "other" else None
        session = self.session if self.token_client == "same" else self.other
        if self.token_client == "made":
            session = partial(_session, niquests.Session, self)
        self.auth = self.session.auth = okta_m2m.niquests.OktaAuth(
            self.app, session=session, send=self.send, replaces=self.replaces
        )
        self.session.hooks["response"].append(lambda response, **_: self.seen_by_hooks.append(response.url))

    def call(
        self,
        method: str,
        url: str,
        body: Body = NOTHING,
        *,
        headers: Mapping[str, str] | None = None,
        follow: bool = True,
    ) -> Answer:
        stream = iter(body.stream) if body.stream is not None else None
        response = self.session.request(
            method, url, headers=headers, allow_redirects=follow, timeout=self.timeout, **_sent(body, stream)
        )
        return _answer(response, response.content or b"")

    def _get_for(self, app: ServiceApp, url: str) -> Answer:
        response = self.session.get(url, auth=okta_m2m.niquests.OktaAuth(app), timeout=self.timeout)
        return _answer(response, response.content or b"")

    def stream(self, url: str, begun: Callable[[bytes], object]) -> Answer:
        with self.session.get(url, stream=True, timeout=PATIENCE) as response:
            parts = response.iter_content()
            begun(first := next(parts))
            return _answer(response, first + b"".join(parts))

    def use(self, auth: Any) -> None:
        self.session.auth = auth

    def close(self) -> None:
        self.session.close()
        if self.other is not None:
            self.other.close()


class AsyncNiquestsClient(AsyncClient):
    name = "niquests-async"
    refused, unreachable = niquests.RequestException, niquests.ConnectionError
    backend = "asyncio"

    async def _open(self) -> None:
        self.session = _session(niquests.AsyncSession, self)
        self.other = _session(niquests.Session, self) if self.token_client == "other" else None
        session = partial(_session, niquests.Session, self) if self.token_client == "made" else self.other
        self.auth = self.session.auth = okta_m2m.niquests.AsyncOktaAuth(
            self.app, session=session, send=self.send, replaces=self.replaces
        )
        self.session.hooks["response"].append(lambda response, **_: self.seen_by_hooks.append(response.url))

    async def _call(self, method: str, url: str, body: Body, headers: Mapping[str, str] | None, follow: bool) -> Answer:
        stream = asynchronously(body.stream) if body.stream is not None else None
        response = await self.session.request(
            method, url, headers=headers, allow_redirects=follow, timeout=self.timeout, **_sent(body, stream)
        )
        return _answer(response, response.content or b"")

    async def _get_for(self, app: ServiceApp, url: str) -> Answer:
        response = await self.session.get(url, auth=okta_m2m.niquests.AsyncOktaAuth(app))
        return _answer(response, response.content or b"")

    async def _stream(self, url: str, begun: Callable[[bytes], object]) -> Answer:
        response = await self.session.get(url, stream=True, timeout=PATIENCE)
        try:
            parts = await response.iter_content()
            begun(first := await anext(parts))
            return _answer(response, first + b"".join([part async for part in parts]))
        finally:
            await response.close()

    def use(self, auth: Any) -> None:
        self.session.auth = auth

    async def _close(self) -> None:
        await self.session.close()
        if self.other is not None:
            self.other.close()
