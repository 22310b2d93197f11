"""A token endpoint in memory: our auth objects make their whole token request, but no network is involved.

Invariant: only public names of the package are used, as an adapter or a test outside it would use them.
"""

from __future__ import annotations

import json
import time
from importlib import import_module
from typing import Any

from measure import loop
from peers import SCOPE

from okta_m2m import ServiceApp
from okta_m2m.effects import Request, Response

ORIGIN = "https://acme.okta.com"


class MemoryEndpoint:
    """Answers each token request with ``value``, which the caller may change between requests."""

    def __init__(self, token_type: str = "Bearer") -> None:
        self.value = "x" * 900  # as long as an access token of Okta's
        self._token_type = token_type
        # Bound once: a new bound method for each identity would be counted as that identity's memory.
        self._send = self.send

    def send(self, request: Request, timeout: float) -> Response:
        answer = {"access_token": self.value, "token_type": self._token_type, "expires_in": 3600, "scope": SCOPE}
        headers = [("Date", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()))]
        if self._token_type == "DPoP":
            headers.append(("DPoP-Nonce", "nonce-of-okta"))
        return Response(200, headers, json.dumps(answer).encode())

    def make_auth(
        self, stack: str, key: Any, client_id: str = "0oa1b2c3", *, origin: str = ORIGIN, **arguments: Any
    ) -> Any:
        """An auth object of that library, which has its token already. ``arguments``: others of the app."""
        app = ServiceApp(origin, client_id=client_id, key=key, scopes=[SCOPE], **arguments)
        auth_class = import_module(f"okta_m2m.{stack.removesuffix('_async')}").OktaAuth
        auth = auth_class(app, send=self._send)
        if stack in ("requests", "httpx"):
            auth.token()
        else:
            loop.run_until_complete(auth.atoken())
        return auth
