"""Resources that a token gives access to: users, groups and log events, and APIs behind a custom authorization server.

Invariant: every name exists, and a write reports the length and the hash of the body that it received.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import parse_qs, unquote

from ._access import authorize, check_custom_token, check_okta_token, identify
from ._messages import READING, Answer, ReceivedRequest, json_answer
from ._org import Org
from ._refusals import Refused, not_found

__all__ = ["answer_directory", "answer_protected", "answer_redirect"]

_COLLECTIONS = ("users", "groups", "logs")


def answer_directory(org: Org, request: ReceivedRequest) -> Answer:
    """``/api/v1/users``, ``/groups`` and ``/logs``, each with everything below it. Any other path is not found."""
    segments = request.path.split("/")
    collection = segments[3] if len(segments) > 3 else ""
    manage = f"okta.{collection}.manage"
    scopes = (f"okta.{collection}.read", manage) if request.method in READING else (manage,)
    if collection not in _COLLECTIONS:
        identify(org, request)
        raise not_found(unquote(request.path), "Resource")
    caller = authorize(org, request, *scopes)
    if request.method not in (*READING, "POST", "PUT", "PATCH", "DELETE"):
        raise Refused("E0000022")
    if request.method == "DELETE":
        return Answer(204, list(caller.headers))
    name = unquote("/".join(segments[4:]), errors="replace")
    return json_answer(200, _document(collection, name, request), *caller.headers)


def _document(collection: str, name: str, request: ReceivedRequest) -> Any:
    digest = hashlib.sha256(f"{collection}/{name}".encode()).hexdigest()[:16]
    if collection == "users":
        login = name or "ada@example.com"
        found: dict[str, Any] = {"id": f"00u{digest}", "status": "ACTIVE", "profile": {"login": login, "email": login}}
    elif collection == "logs":
        found = {"uuid": digest, "eventType": "app.oauth2.token.grant.access_token"}
    else:
        found = {"id": f"00g{digest}", "profile": {"name": name or "Everyone"}}
    if request.method not in READING:
        found["received"] = _describe_body(request)
        return found
    return found if name else [found]


def _describe_body(request: ReceivedRequest) -> dict[str, Any]:
    return {"length": len(request.body), "sha256": hashlib.sha256(request.body).hexdigest()}


def answer_redirect(org: Org, request: ReceivedRequest) -> Answer:
    """``/redirect?to=URL&status=302``, which Okta does not have. A token or proof in the request is checked."""
    if request.all("authorization"):
        check_okta_token(org, request)
    query = parse_qs(request.query)
    return Answer(int(query.get("status", ["302"])[0]), [("Location", query.get("to", ["/"])[0])])


def answer_protected(org: Org, request: ReceivedRequest, issuer: str, scope: str | None) -> Answer:
    """An API that accepts tokens of the custom authorization server ``issuer``."""
    token = check_custom_token(org, request, issuer, scope)
    nonce = [("DPoP-Nonce", org.resource_nonces.current(org.now()))] if org.resource_nonce and token.jkt else []
    content = {
        "path": request.path,
        "client_id": token.client_id,
        "scopes": token.scopes,
        "received": _describe_body(request),
    }
    return json_answer(200, content, *nonce)
