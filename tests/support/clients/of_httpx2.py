"""httpx2: blocking, on asyncio and on trio."""

from __future__ import annotations

import httpcore2  # noqa: F401 (imported with the first client otherwise, which would block its event loop)
import httpx2

import okta_m2m.httpx2

from .httpx_alike import AsyncHttpx, BlockingHttpx


class Httpx2Client(BlockingHttpx):
    name = "httpx2"
    library, adapter = httpx2, okta_m2m.httpx2
    refused, unreachable = httpx2.HTTPError, httpx2.TransportError


class Httpx2AsyncioClient(AsyncHttpx):
    name = "httpx2-asyncio"
    library, adapter = httpx2, okta_m2m.httpx2
    refused, unreachable = httpx2.HTTPError, httpx2.TransportError
    backend = "asyncio"


class Httpx2TrioClient(Httpx2AsyncioClient):
    name = "httpx2-trio"
    backend = "trio"
