"""aiohttp."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

import okta_m2m.aiohttp
from okta_m2m import ServiceApp

from .interface import MULTIPART_NAME, PATIENCE, Answer, AsyncClient, Body, asynchronously, trusting


class AiohttpClient(AsyncClient):
    name = "aiohttp"
    refused = aiohttp.ClientError
    unreachable = aiohttp.ClientConnectionError
    backend = "asyncio"

    async def _open(self) -> None:
        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(self._shown)
        makes = self._session if self.token_client in ("other", "made") else None
        self.auth = okta_m2m.aiohttp.OktaAuth(self.app, session=makes, send=self.send, replaces=self.replaces)
        self.session = self._session(trace_configs=[trace], middlewares=[self.auth])
        self.options: dict[str, Any] = {}

    async def _shown(self, _session: object, _context: object, ended: aiohttp.TraceRequestEndParams) -> None:
        self.seen_by_hooks.append(str(ended.url))

    def _session(self, **options: Any) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=1 if self.pool_of_one else 64, ssl=False if self.unverified else trusting(self.trusted)
        )
        timeout = aiohttp.ClientTimeout(total=PATIENCE, sock_read=self.timeout)
        return aiohttp.ClientSession(connector=connector, timeout=timeout, proxy=self.proxy, **options)

    async def _call(self, method: str, url: str, body: Body, headers: Mapping[str, str] | None, follow: bool) -> Answer:
        data: Any = body.data or body.file
        if body.stream is not None:
            data = asynchronously(body.stream)
        if body.form is not None:
            data = aiohttp.FormData()
            data.add_field(MULTIPART_NAME, body.form, filename="part")
        async with self.session.request(
            method, url, data=data, headers=headers, allow_redirects=follow, **self.options
        ) as response:
            return self._answer(response, await response.read())

    async def _get_for(self, app: ServiceApp, url: str) -> Answer:
        async with self.session.get(url, middlewares=[okta_m2m.aiohttp.OktaAuth(app)]) as response:
            return self._answer(response, await response.read())

    async def _stream(self, url: str, begun: Callable[[bytes], object]) -> Answer:
        async with self.session.get(url, **self.options) as response:
            begun(first := await response.content.readany())
            return self._answer(response, first + await response.read())

    @staticmethod
    def _answer(response: aiohttp.ClientResponse, body: bytes) -> Answer:
        return Answer(response.status, list(response.headers.items()), body, str(response.url))

    def use(self, auth: Any) -> None:
        self.options = {"middlewares": [auth]}

    async def _close(self) -> None:
        await self.session.close()
