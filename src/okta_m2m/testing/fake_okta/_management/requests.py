"""Shared code for requests to the management API: bodies, fields, collections, pages.

Invariant: a body is a JSON object, and every field of it is checked before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qs, urlencode

from .._access import Caller
from .._app import App
from .._messages import Answer, ReceivedRequest, json_answer
from .._org import Org
from .._refusals import FieldError, Refused, not_found

T = TypeVar("T")

#: The prefix of a custom role in :attr:`App.roles`.
CUSTOM_ROLE = "CUSTOM/"
_DEFAULT_PAGE = 20
_LARGEST_PAGE = 200


def check_key_changes(app: App, caller: Caller) -> None:
    """Once an app has scopes, only a Super Admin may change its keys (guide "Implement OAuth for Okta with a service app")."""
    if app.scopes and "SUPER_ADMIN" not in caller.roles:
        raise Refused("E0000006")


@dataclass(frozen=True, slots=True)
class Collection(Generic[T]):
    """What an app has several of: its keys, its grants or its roles. Every kind is listed, shown, added and deleted alike."""

    kind: str  # as a refusal names it
    items: Callable[[Org, App], Sequence[T]]
    document: Callable[[Org, App, T], dict[str, Any]]  # the JSON of an item, with its ``id``
    add: Callable[[Org, ReceivedRequest, Caller, App], T]
    remove: Callable[[Org, App, T], None]

    def find(self, org: Org, app: App, id: str) -> T:
        """The item with this id."""
        for item in self.items(org, app):
            if self.document(org, app, item)["id"] == id:
                return item
        raise not_found(id, self.kind)

    def answer_list(self, org: Org, request: ReceivedRequest, caller: Caller, app: App) -> Answer:
        return json_answer(200, [self.document(org, app, item) for item in self.items(org, app)])

    def answer_get(self, org: Org, request: ReceivedRequest, caller: Caller, app: App, id: str) -> Answer:
        return json_answer(200, self.document(org, app, self.find(org, app, id)))

    def answer_post(self, org: Org, request: ReceivedRequest, caller: Caller, app: App) -> Answer:
        return json_answer(201, self.document(org, app, self.add(org, request, caller, app)))

    def answer_delete(self, org: Org, request: ReceivedRequest, caller: Caller, app: App, id: str) -> Answer:
        self.remove(org, app, self.find(org, app, id))
        return Answer(204)


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_body(request: ReceivedRequest) -> dict[str, Any]:
    """The JSON object in the body."""
    if (request.header("content-type") or "").partition(";")[0].strip().lower() != "application/json":
        raise Refused("E0000021")
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError):
        raise Refused("E0000003") from None
    if not isinstance(body, dict):
        raise Refused("E0000003")
    return body


def read_string(body: Mapping[str, Any], name: str) -> str:
    """A member that must be a string and not blank."""
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise FieldError(name, f"{name}: The field cannot be left blank")
    return value


def read_object(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A member that must be an object."""
    value = body.get(name)
    if not isinstance(value, Mapping):
        raise FieldError(name, f"{name}: The field cannot be left blank")
    return value


def read_strings(body: Mapping[str, Any], name: str, default: list[str]) -> list[str]:
    """A member that is a list of strings; ``default`` if it is missing or null."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise FieldError(name, f"{name}: The field must be an array of strings")
    return list(value)


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def page_answer(
    org: Org,
    request: ReceivedRequest,
    apps: Sequence[App],
    id_of: Callable[[App], str],
    document: Callable[[Org, App], dict[str, Any]],
) -> Answer:
    """One page of ``apps`` with its ``Link`` headers. A cursor is valid as long as the app that it names exists."""
    query = parse_qs(request.query)
    try:
        limit = int(query.get("limit", ["-1"])[0])
    except ValueError:
        limit = 0
    limit = _DEFAULT_PAGE if limit == -1 else limit
    if not 1 <= limit <= _LARGEST_PAGE:
        raise FieldError("limit", f"limit: The field must be between 1 and {_LARGEST_PAGE}")
    after = query.get("after", [None])[0]
    begin = 0 if after is None else next((i + 1 for i, app in enumerate(apps) if id_of(app) == after), len(apps))
    page = apps[begin : begin + limit]
    answer = json_answer(200, [document(org, app) for app in page])
    own = f"?{request.query}" if request.query else ""
    answer.headers.append(("link", f'<{org.url}{request.path}{own}>; rel="self"'))
    if begin + limit < len(apps):
        others = {name: values[0] for name, values in query.items() if name not in ("after", "limit")}
        following = urlencode({"after": id_of(page[-1]), "limit": limit, **others})
        answer.headers.append(("link", f'<{org.url}{request.path}?{following}>; rel="next"'))
    return answer


def link(href: str, *methods: str) -> dict[str, Any]:
    """An entry of ``_links`` that names the allowed methods."""
    return {"href": href, "hints": {"allow": list(methods)}}


def timestamp(seconds: float) -> str:
    """Converts seconds since the epoch to Okta's time format."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
