"""What httpx and httpx2 have in common."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, BinaryIO, ClassVar

from okta_m2m import ServiceApp

from .interface import (
    MULTIPART_NAME,
    NOTHING,
    Answer,
    AsyncClient,
    BlockingClient,
    Body,
    Client,
    asynchronously,
    parts,
    trusting,
)


def _body(body: Body, stream: Any) -> dict[str, Any]:
    if body.data is not None:
        return {"content": body.data}
    if body.form is not None:
        return {"files": {MULTIPART_NAME: body.form}}
    return {} if stream is None else {"content": stream}


def _headers(body: Body, headers: Mapping[str, str] | None) -> dict[str, str]:
    if body.file is None:
        return dict(headers or {})
    # httpx takes the length of the whole file, also where it does not stand at its beginning.
    return {"Content-Length": str(_left(body.file)), **(headers or {})}


def _left(file: BinaryIO) -> int:
    here = file.tell()
    end = file.seek(0, 2)
    file.seek(here)
    return end - here


def _answer(response: Any, body: bytes) -> Answer:
    return Answer(response.status_code, response.headers.multi_items(), body, str(response.url))


def _limits(library: Any, pool_of_one: bool) -> Any:
    return library.Limits(max_connections=1) if pool_of_one else library.Limits(max_connections=64)


def _blocking(client: Client, library: Any) -> Any:
    """A client of that library that blocks, with the options of ``client``."""
    return library.Client(
        limits=_limits(library, client.pool_of_one),
        timeout=client.timeout,
        verify=not client.unverified and trusting(client.trusted),
        proxy=client.proxy,
    )


def _closed_by_the_pool(error: Exception) -> bool:
    """httpcore before 2.16 closes, rarely, a connection that another thread's call was just given.

    It takes the connection for idle, and the answer that has meanwhile come for the end of the server. So it is with
    plain calls too, of several threads on a pool of one connection.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno == errno.EBADF:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


class BlockingHttpx(BlockingClient):
    library: ClassVar[Any]
    adapter: ClassVar[Any]

    def open(self) -> None:
        self.client = _blocking(self, self.library)
        self.other = _blocking(self, self.library) if self.token_client == "other" else None
        client: Any = self.client if self.token_client == "same" else self.other
        if self.token_client == "made":
            client = partial(_blocking, self, self.library)
        self.auth = self.client.auth = self.adapter.OktaAuth(
            self.app, client=client, send=self.send, replaces=self.replaces
        )
        if client is not self.client:  # which may have none for the token request
            self.client.event_hooks = {"response": [lambda response: self.seen_by_hooks.append(str(response.url))]}

    def call(
        self,
        method: str,
        url: str,
        body: Body = NOTHING,
        *,
        headers: Mapping[str, str] | None = None,
        follow: bool = True,
    ) -> Answer:
        stream = body.file or (iter(body.stream) if body.stream is not None else None)
        options = {"headers": _headers(body, headers), "follow_redirects": follow, **_body(body, stream)}
        try:
            response = self.client.request(method, url, **options)
        except self.library.ReadError as error:
            if method != "GET" or not _closed_by_the_pool(error):
                raise
            response = self.client.request(method, url, **options)
        return _answer(response, response.content)

    def _get_for(self, app: ServiceApp, url: str) -> Answer:
        response = self.client.get(url, auth=self.adapter.OktaAuth(app))
        return _answer(response, response.content)

    def stream(self, url: str, begun: Callable[[bytes], object]) -> Answer:
        with self.client.stream("GET", url) as response:
            parts = response.iter_bytes()
            begun(first := next(parts))
            return _answer(response, first + b"".join(parts))

    def use(self, auth: Any) -> None:
        self.client.auth = auth

    def close(self) -> None:
        self.client.close()
        if self.other is not None:
            self.other.close()


class AsyncHttpx(AsyncClient):
    library: ClassVar[Any]
    adapter: ClassVar[Any]
    replays_files = False

    async def _open(self) -> None:
        self.client = self.library.AsyncClient(
            limits=_limits(self.library, self.pool_of_one),
            timeout=self.timeout,
            verify=not self.unverified and trusting(self.trusted),
            proxy=self.proxy,
            event_hooks={"response": [self._shown]},
        )
        self.other = _blocking(self, self.library) if self.token_client == "other" else None
        client = partial(_blocking, self, self.library) if self.token_client == "made" else self.other
        self.auth = self.client.auth = self.adapter.OktaAuth(
            self.app, client=client, send=self.send, replaces=self.replaces
        )

    async def _shown(self, response: Any) -> None:
        self.seen_by_hooks.append(str(response.url))

    async def _call(self, method: str, url: str, body: Body, headers: Mapping[str, str] | None, follow: bool) -> Answer:
        plain = parts(body.file) if body.file is not None else body.stream
        stream = None if plain is None else asynchronously(plain)
        response = await self.client.request(
            method, url, headers=_headers(body, headers), follow_redirects=follow, **_body(body, stream)
        )
        return _answer(response, response.content)

    async def _get_for(self, app: ServiceApp, url: str) -> Answer:
        response = await self.client.get(url, auth=self.adapter.OktaAuth(app))
        return _answer(response, response.content)

    async def _stream(self, url: str, begun: Callable[[bytes], object]) -> Answer:
        async with self.client.stream("GET", url) as response:
            parts = response.aiter_bytes()
            begun(first := await anext(parts))
            return _answer(response, first + b"".join([part async for part in parts]))

    def use(self, auth: Any) -> None:
        self.client.auth = auth

    async def _close(self) -> None:
        await self.client.aclose()
        if self.other is not None:
            self.other.close()
