"""The adapter for urllib3 of docs/clients/your-own.md, as it stands there."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import urllib3

from okta_m2m import ServiceApp

from .interface import MULTIPART_NAME, NOTHING, PATIENCE, Answer, BlockingClient, Body, trusting

PAGE = Path(__file__).parents[3] / "docs" / "clients" / "your-own.md"
_block = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
assert _block is not None
ADAPTER = _block[1]
_page: dict[str, Any] = {"__name__": __name__}
exec(compile(ADAPTER, str(PAGE), "exec"), _page)
OktaPool = _page["OktaPool"]


class DocsUrllib3Client(BlockingClient):
    name = "docs-urllib3"
    refused, unreachable = urllib3.exceptions.HTTPError, urllib3.exceptions.ProtocolError

    def open(self) -> None:
        self.pool = self._pool()
        # The page's adapter takes no function that makes one.
        self.other = self._pool() if self.token_client in ("other", "made") else None
        token_pool = self.pool if self.token_client == "same" else self.other
        self.auth = OktaPool(self.app, self.pool, token_pool=token_pool, send=self.send)

    def _pool(self) -> urllib3.PoolManager:
        options: dict[str, Any] = {
            "num_pools": 4,
            "maxsize": 1 if self.pool_of_one else 64,
            "block": self.pool_of_one,
            "ssl_context": trusting(self.trusted),
        }
        return urllib3.PoolManager(**options) if self.proxy is None else urllib3.ProxyManager(self.proxy, **options)

    def call(
        self,
        method: str,
        url: str,
        body: Body = NOTHING,
        *,
        headers: Mapping[str, str] | None = None,
        follow: bool = True,
    ) -> Answer:
        sent: Any = body.data or body.file or (iter(body.stream) if body.stream is not None else None)
        headers = dict(headers or {})
        if body.form is not None:
            sent, kind = urllib3.encode_multipart_formdata({MULTIPART_NAME: ("part", body.form.read())})
            headers["Content-Type"] = kind
        response = self.auth.request(method, url, redirect=follow, body=sent, headers=headers, timeout=self.timeout)
        return self._answer(url, response, response.data)

    def _get_for(self, app: ServiceApp, url: str) -> Answer:
        response = OktaPool(app, self.pool).request("GET", url, timeout=self.timeout)
        return self._answer(url, response, response.data)

    def stream(self, url: str, begun: Callable[[bytes], object]) -> Answer:
        response = self.auth.request("GET", url, timeout=PATIENCE, preload_content=False)
        parts = response.stream()
        begun(first := next(parts))
        return self._answer(url, response, first + b"".join(parts))

    def token(self) -> Any:
        from okta_m2m.runtimes import run

        return run(self.app.obtain(), self.auth.threads)

    def headers(self, method: str, url: str) -> dict[str, str]:
        from okta_m2m.runtimes import run

        return run(self.app.headers(method, url), self.auth.threads)

    def _answer(self, asked: str, response: Any, body: bytes) -> Answer:
        url = urljoin(asked, response.geturl() or "")
        self.seen_by_hooks.append(url)
        return Answer(response.status, list(response.headers.items()), body, url)

    def close(self) -> None:
        self.pool.clear()
        if self.other is not None:
            self.other.clear()
