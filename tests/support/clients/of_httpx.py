"""httpx: blocking, on asyncio and on trio."""

from __future__ import annotations

import httpcore  # noqa: F401 (imported with the first client otherwise, which would block its event loop)
import httpx

import okta_m2m.httpx

from .httpx_alike import AsyncHttpx, BlockingHttpx


class HttpxClient(BlockingHttpx):
    name = "httpx"
    library, adapter = httpx, okta_m2m.httpx
    refused, unreachable = httpx.HTTPError, httpx.TransportError


class HttpxAsyncioClient(AsyncHttpx):
    name = "httpx-asyncio"
    library, adapter = httpx, okta_m2m.httpx
    refused, unreachable = httpx.HTTPError, httpx.TransportError
    backend = "asyncio"


class HttpxTrioClient(HttpxAsyncioClient):
    name = "httpx-trio"
    backend = "trio"
