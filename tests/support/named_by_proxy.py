"""A plugin of proxy.py: writes down what the proxy was asked for, and knows a host that nobody else knows.

Invariant: ``acme.okta.test`` is this machine, and can be reached in no other way.
"""

from __future__ import annotations

import os
from typing import Any

from proxy.http.proxy import HttpProxyBasePlugin

HOST = "acme.okta.test"


class Named(HttpProxyBasePlugin):  # type: ignore[misc]  # proxy.py has no types
    def before_upstream_connection(self, request: Any) -> Any:
        with open(os.environ["ASKED"], "a", encoding="utf-8") as asked:
            asked.write(f"{request.method.decode()} {request.host.decode()}:{request.port}\n")
        return request

    def resolve_dns(self, host: str, port: int) -> tuple[str | None, Any]:
        return ("127.0.0.1" if host == HOST else None), None
