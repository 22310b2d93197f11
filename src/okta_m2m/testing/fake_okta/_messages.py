"""A request as FakeOkta received it, and the response to it.

Invariant: a request keeps its target and header lines undecoded, in order and with duplicates, and its whole body.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

#: The methods that change nothing.
READING = ("GET", "HEAD")


@dataclass(frozen=True, slots=True, repr=False)
class ReceivedRequest:
    """A request as FakeOkta received it. Its ``repr`` omits headers, query and body, because they contain secrets.

    - ``method``: the method, as sent.
    - ``target``: the request target, undecoded: ``/api/v1/users/a%40b?limit=1``.
    - ``headers``: the header lines in order, with duplicates; names are spelled as sent.
    - ``body``: the body without transfer encoding; empty if there was none.
    - ``scheme``: ``http`` (default) or ``https``.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    scheme: str = "http"

    @property
    def path(self) -> str:
        """The target without its query, undecoded."""
        target = self.target
        if not target.startswith("/"):  # the absolute form, which clients send to a proxy
            target = urlsplit(target).path or "/"
        return target.partition("?")[0]

    @property
    def query(self) -> str:
        """The part of the target after the first ``?``, undecoded."""
        return self.target.partition("?")[2]

    @property
    def base_url(self) -> str:
        """Scheme and host of the request, in lower case: ``http://127.0.0.1:8080``."""
        return f"{self.scheme}://{(self.header('host') or '').lower()}"

    def all(self, name: str) -> list[str]:
        """Every value of the header ``name`` (in any case), in order."""
        name = name.lower()
        return [value for key, value in self.headers if key.lower() == name]

    def header(self, name: str) -> str | None:
        """The first value of the header ``name`` (in any case); ``None`` if there is none."""
        return next(iter(self.all(name)), None)

    def __repr__(self) -> str:
        return f"<ReceivedRequest {self.method} {self.path}>"


@dataclass(slots=True, repr=False)
class Answer:
    """The response to the client. ``drop`` resets the connection instead."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    drop: bool = False


def json_answer(status: int, content: Any, *headers: tuple[str, str]) -> Answer:
    """A response with a JSON body that must not be cached, and further ``headers``."""
    fixed = [("Content-Type", "application/json"), ("Cache-Control", "no-cache, no-store"), ("Pragma", "no-cache")]
    return Answer(status, [*fixed, *headers], json.dumps(content).encode())
