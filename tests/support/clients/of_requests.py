"""requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import requests
import requests.adapters

import okta_m2m.requests
from okta_m2m import ServiceApp

from .interface import MULTIPART_NAME, NOTHING, PATIENCE, Answer, BlockingClient, Body


class RequestsClient(BlockingClient):
    name = "requests"
    refused = requests.RequestException
    unreachable = requests.ConnectionError

    def open(self) -> None:
        self.session = self._session()
        self.other = self._session() if self.token_client == "other" else None
        session: Any = self.session if self.token_client == "same" else self.other
        if self.token_client == "made":
            session = self._session
        self.auth = self.session.auth = okta_m2m.requests.OktaAuth(
            self.app, session=session, send=self.send, replaces=self.replaces
        )
        self.session.hooks["response"].append(lambda response, **_: self.seen_by_hooks.append(response.url))

    def _session(self) -> requests.Session:
        session = requests.Session()
        session.verify = not self.unverified if self.trusted is None else str(self.trusted)
        if self.proxy is not None:
            session.proxies = {"http": self.proxy, "https": self.proxy}
        size = 1 if self.pool_of_one else 64
        for scheme in ("http://", "https://"):
            session.mount(
                scheme,
                requests.adapters.HTTPAdapter(pool_connections=4, pool_maxsize=size, pool_block=self.pool_of_one),
            )
        return session

    def call(
        self,
        method: str,
        url: str,
        body: Body = NOTHING,
        *,
        headers: Mapping[str, str] | None = None,
        follow: bool = True,
    ) -> Answer:
        data: Any = body.data or body.file or (iter(body.stream) if body.stream is not None else None)
        files = {MULTIPART_NAME: body.form} if body.form is not None else None
        response = self.session.request(
            method, url, data=data, files=files, headers=headers, allow_redirects=follow, timeout=self.timeout
        )
        return self._answer(response, response.content)

    def _get_for(self, app: ServiceApp, url: str) -> Answer:
        response = self.session.get(url, auth=okta_m2m.requests.OktaAuth(app), timeout=self.timeout)
        return self._answer(response, response.content)

    def stream(self, url: str, begun: Callable[[bytes], object]) -> Answer:
        with self.session.get(url, stream=True, timeout=PATIENCE) as response:
            parts = response.iter_content(None)
            begun(first := next(parts))
            return self._answer(response, first + b"".join(parts))

    @staticmethod
    def _answer(response: requests.Response, body: bytes) -> Answer:
        return Answer(response.status_code, list(response.headers.items()), body, response.url)

    def use(self, auth: Any) -> None:
        self.session.auth = auth

    def close(self) -> None:
        self.session.close()
        if self.other is not None:
            self.other.close()
