"""Scripted faults, which the next requests get instead of an ordinary response, or in addition to it.

Invariant: by name alone, only an error that Okta is known to send can be scripted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from ._messages import Answer
from ._refusals import ERRORS, Refused

__all__ = ["HTML", "Fault", "HeaderChanges", "change_headers", "change_token", "encode_body", "named_refusal"]

HeaderChanges: TypeAlias = "Mapping[str, str | None] | Sequence[tuple[str, str]]"

HTML = b"<!DOCTYPE html><html><head><title>Okta</title></head><body><h1>Something went wrong</h1></body></html>"


@dataclass(slots=True)
class Fault:
    """One scripted fault. Without ``status``, ``refusal``, ``drop`` and ``body`` the request gets its ordinary
    response."""

    on: str
    left: int
    delay: float
    drop: bool
    status: int | None
    refusal: Refused | None
    body: bytes | None
    content_type: str
    #: Seconds from now on the org's clock, for the ``x-rate-limit-reset`` of a 429.
    reset: float
    concurrency: bool
    headers: HeaderChanges
    token: Mapping[str, Any] = field(repr=False)

    @property
    def replaces_answer(self) -> bool:
        return self.drop or self.status is not None or self.refusal is not None or self.body is not None

    def matches(self, path: str, is_token_request: bool) -> bool:
        return is_token_request if self.on == "token" else fnmatchcase(path, self.on)


def named_refusal(name: str, description: str | None = None, status: int | None = None) -> Refused:
    """The refusal with this ``internalErrorCode``, OAuth ``error``, or ``errorCode`` of the management API."""
    code = name if name in ERRORS else next((code for code, row in ERRORS.items() if row[1] == name), None)
    if code is not None:
        refused = Refused(code)
    elif description is not None:
        refused = Refused("invalid_request")
        refused.error = name
    else:
        raise ValueError(
            f"{name!r} is not an error that Okta is known to send. To send it anyway, pass description= too."
        )
    refused.status = status or refused.status
    refused.description = description or refused.description
    return refused


def encode_body(body: object, *, html: bool, garbage: bool) -> tuple[bytes | None, str]:
    """A scripted body as bytes, and its content type; ``None`` for an ordinary one."""
    if html:
        return HTML, "text/html; charset=utf-8"
    if garbage:
        return b'{"token_type": "Bear\xff', "application/json"
    if body is None:
        return None, "application/json"
    if isinstance(body, bytes):
        return body, "application/octet-stream"
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return json.dumps(body).encode(), "application/json"


def change_token(answer: Answer, changes: Mapping[str, Any]) -> None:
    """Changes members of a token response; ``None`` removes one."""
    content = {**json.loads(answer.body), **changes}
    answer.body = json.dumps({name: value for name, value in content.items() if value is not None}).encode()


def change_headers(headers: list[tuple[str, str]], changes: HeaderChanges) -> list[tuple[str, str]]:
    """``headers`` with those in ``changes`` added or replaced; ``None`` removes one."""
    pairs: Iterable[tuple[str, str | None]] = changes.items() if isinstance(changes, Mapping) else changes
    pairs = list(pairs)
    replaced = {name.lower() for name, _ in pairs}
    kept = [(name, value) for name, value in headers if name.lower() not in replaced]
    return kept + [(name, value) for name, value in pairs if value is not None]
