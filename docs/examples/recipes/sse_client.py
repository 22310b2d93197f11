"""Server-sent events, over any number of connections."""

import time
from collections.abc import Iterator

import httpx2

from okta_m2m import ServiceApp
from okta_m2m.httpx2 import OktaAuth


def events(app: ServiceApp, url: str, pause: float = 3.0) -> Iterator[str]:
    """The data of each event. ``pause``: seconds between two connections."""
    headers, data = {"Accept": "text/event-stream"}, list[str]()
    with httpx2.Client(auth=OktaAuth(app), timeout=httpx2.Timeout(30, read=300)) as client:
        while True:
            with client.stream("GET", url, headers=headers) as response:
                if response.status_code == 204:  # the server asks not to connect again
                    return
                for line in response.raise_for_status().iter_lines():
                    name, _, value = line.partition(":")
                    if name == "id":
                        headers["Last-Event-ID"] = value.removeprefix(" ")
                    elif name == "data":
                        data.append(value.removeprefix(" "))
                    elif not line and data:
                        yield "\n".join(data)
                        data.clear()
            time.sleep(pause)
