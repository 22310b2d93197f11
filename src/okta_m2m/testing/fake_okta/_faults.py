"""Scripted faults: what the next requests get instead of, or on top of, an ordinary answer.

Invariant: a fault is used up by exactly as many matching requests as it was asked for, in the order of asking, however
many threads ask at once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from ._refusals import API_ERRORS, OAUTH_ERRORS, ApiRefused, Refused

__all__ = ["Fault", "Faults", "HeaderChanges", "refusal_named"]

HeaderChanges: TypeAlias = "Mapping[str, str | None] | Sequence[tuple[str, str]]"


@dataclass(slots=True)
class Fault:
    """One scripted fault; with none of status, refusal, drop and body set, the request is answered as usual."""

    on: str = "token"
    left: int = 1
    delay: float = 0.0
    drop: bool = False
    status: int | None = None
    refusal: Refused | ApiRefused | None = None
    body: bytes | None = None
    content_type: str = "application/json"
    #: Seconds from now on the org's clock, for the ``x-rate-limit-reset`` of a 429.
    reset: float = 1
    concurrency: bool = False
    headers: HeaderChanges = field(default_factory=dict)
    token: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def answers(self) -> bool:
        return self.drop or self.status is not None or self.refusal is not None or self.body is not None

    def matches(self, path: str, is_token_request: bool) -> bool:
        if self.on == "token":
            return is_token_request
        return fnmatchcase(path, self.on)


class Faults:
    """The queue of scripted faults."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        with self._mutex:
            self._waiting.append(fault)

    def clear(self) -> None:
        with self._mutex:
            self._waiting.clear()

    def take(self, path: str, is_token_request: bool) -> Fault | None:
        if not self._waiting:
            return None
        with self._mutex:
            for fault in self._waiting:
                if fault.matches(path, is_token_request):
                    fault.left -= 1
                    if fault.left <= 0:
                        self._waiting.remove(fault)
                    return fault
        return None


def refusal_named(name: str, description: str | None, status: int | None) -> Refused | ApiRefused:
    """A refusal by Okta's ``internalErrorCode``, by OAuth ``error`` or by ``errorCode`` of the API."""
    if name in API_ERRORS:
        api = ApiRefused(name)
        api.status = status or api.status
        api.description = description or api.description
        return api
    code = name if name in OAUTH_ERRORS else next((c for c, row in OAUTH_ERRORS.items() if row[1] == name), None)
    if code is None and description is None:
        raise ValueError(f"{name!r} is no error of Okta's that is known here; pass description= (and status=) with it")
    refused = Refused(code or "invalid_request")
    if code is None:
        refused.error, refused.status = name, 400
    refused.status = status or refused.status
    refused.description = description or refused.description
    return refused


def encoded(body: object) -> tuple[bytes, str]:
    """A scripted body as bytes, with its content type."""
    if isinstance(body, bytes):
        return body, "application/octet-stream"
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return json.dumps(body).encode(), "application/json"
