"""Finds the endpoint of the org for a path.

Invariant: the choice depends on the path alone. An unknown path is left to the handlers of pytest-httpserver.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ._management.routes import answer_management
from ._messages import Answer, ReceivedRequest, json_answer
from ._metadata import keys, oauth_metadata, oidc_metadata
from ._org import AuthorizationServer, Org
from ._refusals import Refused, not_found
from ._resources import answer_directory, answer_protected, answer_redirect
from ._token_endpoint import answer_introspect, answer_revoke, answer_token

__all__ = ["Endpoint", "find_endpoint"]

_OAUTH_PATH = re.compile(r"/oauth2(?:/(?P<server>[^/]+))?/v1/(?P<endpoint>token|introspect|revoke|keys)")
_METADATA_PATH = re.compile(
    r"(?:/oauth2/(?P<server>[^/]+))?/\.well-known/(?P<kind>openid-configuration|oauth-authorization-server)"
    r"|/\.well-known/(?P<rfc8414>oauth-authorization-server)/oauth2/(?P<suffix>[^/]+)"
)
_MANAGEMENT_PATH = re.compile(r"(?:/api/v1/apps|/oauth2/v1/clients)(?:/.*)?")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The endpoint at a path."""

    #: Answers a request or raises a refusal; ``None`` if the path is unknown.
    answer: Callable[[Org, ReceivedRequest], Answer] | None
    is_token: bool = False
    #: Whether it needs a token, so that a refusal is a challenge.
    is_api: bool = False
    #: For a path of :meth:`FakeOkta.protect`: the authorization server's id, and the scope that is needed.
    protected: tuple[str, str | None] | None = None


def find_endpoint(org: Org, path: str) -> Endpoint:
    """The endpoint at ``path``, which is undecoded."""
    protected = _find_protected(org, path)
    oauth = _OAUTH_PATH.fullmatch(path)
    if oauth is not None:
        answer = partial(_answer_oauth, oauth["server"], oauth["endpoint"])
        return Endpoint(answer, oauth["endpoint"] == "token", protected is not None, protected)
    if protected is not None:
        issuer, scope = protected
        return Endpoint(lambda org, request: answer_protected(org, request, issuer, scope), False, True, protected)
    if path == "/redirect":
        return Endpoint(answer_redirect, is_api=True)
    if _MANAGEMENT_PATH.fullmatch(path):
        return Endpoint(answer_management, is_api=True)
    if path.startswith("/api/v1/"):
        return Endpoint(answer_directory, is_api=True)
    metadata = _METADATA_PATH.fullmatch(path)
    if metadata is not None:
        is_oidc = metadata["kind"] == "openid-configuration"
        return Endpoint(partial(_answer_metadata, metadata["server"] or metadata["suffix"], is_oidc))
    return Endpoint(None)


def _find_protected(org: Org, path: str) -> tuple[str, str | None] | None:
    for prefix, protected in org.protected.items():
        if path == prefix or path.startswith(f"{prefix}/"):
            return protected
    return None


def _answer_oauth(server_id: str | None, endpoint: str, org: Org, request: ReceivedRequest) -> Answer:
    server = _find_server(org, server_id)
    if request.method != ("GET" if endpoint == "keys" else "POST"):
        raise Refused("E0000022")
    if endpoint == "keys":
        answer = json_answer(200, keys())
        answer.headers[1] = ("Cache-Control", "max-age=3600, must-revalidate")
        return answer
    answer_form = {"token": answer_token, "introspect": answer_introspect, "revoke": answer_revoke}[endpoint]
    return answer_form(org, request, server)


def _answer_metadata(server_id: str | None, is_oidc: bool, org: Org, request: ReceivedRequest) -> Answer:
    server = _find_server(org, server_id)
    if request.method not in ("GET", "HEAD"):
        raise Refused("E0000022")
    return json_answer(200, oidc_metadata(org, server) if is_oidc else oauth_metadata(org, server))


def _find_server(org: Org, id: str | None) -> AuthorizationServer | None:
    if id is None:
        return None
    if id not in org.authorization_servers:
        raise not_found(id, "AuthorizationServer")
    return org.authorization_servers[id]
