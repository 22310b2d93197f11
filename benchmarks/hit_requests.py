"""A hit of requests: ``auth(request)``, as a session calls it."""

from __future__ import annotations

from collections.abc import Callable

from hits import PATH, row
from peers import Peer
from server import Endpoint


def blocking(peer: Peer | None, endpoint: Endpoint) -> Callable[[], object]:
    import requests

    request = requests.Request("GET", endpoint.origin + PATH, headers={"Accept": "application/json"}).prepare()
    headers, hooks = request.headers._store, request.hooks["response"]
    if peer is None:

        def without() -> None:
            headers.pop("authorization", None)
            hooks.clear()

        return without
    auth = peer.requests(endpoint)  # type: ignore[misc]
    auth(request)
    assert request.headers["Authorization"].startswith("Bearer ")

    def call() -> None:
        headers.pop("authorization", None)
        hooks.clear()
        auth(request)

    return call


if __name__ == "__main__":
    row(requests=blocking)
