"""Authlib's authorization server for ID-JAGs, and an API behind it, on a loopback port: a resource server that is not Okta's.

Invariant: Authlib decides about each ID-JAG. Only the client, the user and the keys of the identity provider are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import requests
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.drafts.id_jag import IDJAGGrant
from authlib.oauth2.rfc6749 import ClientMixin
from flask import Flask, Response, jsonify, request
from joserfc.jwk import KeySet
from werkzeug.serving import make_server


class Client(ClientMixin):  # type: ignore[misc]  # Authlib has no types
    """The one client of the server."""

    def __init__(self, client_id: str, secret: str) -> None:
        self.client_id = client_id
        self.secret = secret

    def get_client_id(self) -> str:
        return self.client_id

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == self.secret

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "client_secret_post"

    def check_grant_type(self, grant_type: str) -> bool:
        return bool(grant_type == IDJAGGrant.GRANT_TYPE)

    def get_allowed_scope(self, scope: str) -> str:
        return scope


@contextmanager
def id_jag_server(idp: str, client_id: str, secret: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The issuer's URL, and the tokens that it issued. ``idp``: the URL of the org whose ID-JAGs it accepts."""
    web = Flask("id_jag_server")
    client, issued, used = Client(client_id, secret), [], set()
    authlib = AuthorizationServer(
        web,
        query_client=lambda wanted: client if wanted == client_id else None,
        save_token=lambda token, asked: issued.append({**token, "sub": asked.user, "claims": asked.id_jag_claims}),
    )

    class Grant(IDJAGGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_post",)

        def get_audiences(self) -> list[str]:
            return [issuer]

        def resolve_issuer_key(self, found: str, headers: dict[str, Any]) -> KeySet:
            assert found == idp
            return KeySet.import_key_set(requests.get(f"{idp}/oauth2/v1/keys", timeout=10).json())

        def authenticate_user(self, subject: str) -> str:
            return subject

        def check_jti(self, claims: dict[str, Any], jti: str) -> bool:
            is_new = jti not in used
            used.add(jti)
            return is_new

        def check_id_jag_permission(self, client: Client, user: str, scopes: list[str]) -> bool:
            return scopes == ["tools:read"]

    authlib.register_grant(Grant)

    @web.post("/token")
    def token() -> Any:
        return authlib.create_token_response()

    @web.get("/.well-known/oauth-authorization-server")
    def metadata() -> Response:
        return jsonify(
            issuer=issuer,
            authorization_endpoint=f"{issuer}/authorize",
            token_endpoint=f"{issuer}/token",
            response_types_supported=["code"],
        )

    @web.get("/mcp")
    def api() -> Any:
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
        found = next((one for one in issued if one["access_token"] == sent), None)
        return ({"user": found["sub"]}, 200) if found else ({}, 401)

    served = make_server("127.0.0.1", 0, web, threaded=True)
    issuer = f"http://127.0.0.1:{served.server_port}"
    thread = Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield issuer, issued
    served.shutdown()
    thread.join()
    served.server_close()
