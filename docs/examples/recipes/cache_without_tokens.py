"""HTTP caches that store no token, and give no app another app's response."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import hishel
import hishel.httpx
import requests_cache
from aiohttp_client_cache import CachedSession, SQLiteBackend
from aiohttp_client_cache.response import CachedResponse

import okta_m2m.aiohttp
import okta_m2m.httpx
import okta_m2m.requests
from okta_m2m import ServiceApp

SECRET = ("authorization", "dpop")


def cache_file(app: ServiceApp, library: str) -> Path:
    """This app's own file, in a directory that only the user can enter."""
    folder = Path("http-cache")
    folder.mkdir(mode=0o700, exist_ok=True)
    os.chmod(folder, 0o700)
    return folder / f"{library}-{app.client_id}.sqlite"


def requests_session(app: ServiceApp) -> requests_cache.CachedSession:
    session = requests_cache.CachedSession(
        str(cache_file(app, "requests")), backend="sqlite", expire_after=60
    )
    session.auth = okta_m2m.requests.OktaAuth(app)
    return session


class HishelWithoutTokens(hishel.SqliteStorage):
    def create_entry(
        self, request: hishel.Request, response: hishel.Response, key: str, **limits: Any
    ) -> hishel.Entry:
        kept = {name: value for name, value in request.headers.items() if name.lower() not in SECRET}
        return super().create_entry(
            replace(request, headers=hishel.Headers(kept)), response, key, **limits
        )


def httpx_client(app: ServiceApp) -> hishel.httpx.CacheClient:
    storage = HishelWithoutTokens(database_path=cache_file(app, "httpx").resolve(), default_ttl=60)
    return hishel.httpx.CacheClient(auth=okta_m2m.httpx.OktaAuth(app), storage=storage)


class AiohttpWithoutTokens(SQLiteBackend):
    async def save_response(
        self, response: Any, cache_key: str | None = None, expires: Any = None
    ) -> None:
        kept = await CachedResponse.from_client_response(response, expires)
        for one in (kept, *kept.history):
            one.request_raw_headers = tuple(
                (name, value)
                for name, value in one.request_raw_headers
                if name.decode().lower() not in SECRET
            )
        await self.responses.write(cache_key or self.create_key(response.method, response.url), kept)


def aiohttp_session(app: ServiceApp) -> CachedSession:
    backend = AiohttpWithoutTokens(str(cache_file(app, "aiohttp")), expire_after=60)
    return CachedSession(cache=backend, middlewares=[okta_m2m.aiohttp.OktaAuth(app)])
