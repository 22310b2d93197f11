"""A plain client of FakeOkta, which signs whatever a test tells it to.

Invariant: it talks to FakeOkta over plain sockets, and uses nothing of the client.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlencode

from joserfc import jws
from joserfc.jwk import ECKey, RSAKey
from joserfc.registry import HeaderParameter

from okta_m2m.testing import App, FakeOkta
from okta_m2m.testing.fake_okta._refusals import OAUTH_ERRORS

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


ALL_ALGS = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]


CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


@cache
def rsa_key(bits: int = 2048) -> RSAKey:
    return RSAKey.generate_key(bits, private=True)


def key_for(alg: str) -> RSAKey | ECKey:
    return rsa_key() if alg.startswith("RS") else ECKey.generate_key(CURVES[alg], private=True)


def public(key: RSAKey | ECKey, **more: str) -> dict[str, Any]:
    return {**key.as_dict(private=False), **more}


def signed(header: Mapping[str, Any], claims: Mapping[str, Any], key: Any) -> str:
    # Disable joserfc's own checks: these tests sign what no library should.
    registry = jws.JWSRegistry(
        {"extra": HeaderParameter("unknown to Okta", "str")},
        algorithms=[*ALL_ALGS, "PS256", "HS256", "Ed25519", "none"],
        strict_check_header=False,
    )
    registry.max_header_length = 8192
    return jws.serialize_compact(dict(header), json.dumps(claims), key, registry=registry)


@dataclass
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def refusal(self) -> tuple[int, str, str]:
        """Status, code and text of the refusal, in any of its three formats."""
        if not self.body:
            challenge = self.header("www-authenticate") or ""
            error = re.search(r'error="([^"]*)"', challenge)
            text = re.search(r'error_description="([^"]*)"', challenge)
            return self.status, error[1] if error else "", text[1] if text else ""
        content = self.json
        if "errorCode" in content:
            assert set(content) == {"errorCode", "errorSummary", "errorLink", "errorId", "errorCauses"}
            return self.status, content["errorCode"], content["errorSummary"]
        assert set(content) == {"error", "error_description"}
        return self.status, content["error"], content["error_description"]


def okta_says(code: str, filled: str = "") -> tuple[int, str, str]:
    status, error, text = OAUTH_ERRORS[code]
    return status, error, text.format(filled)


@dataclass
class Caller:
    """A plain client with one kept-alive connection, one key and one DPoP key."""

    okta: FakeOkta
    app: App
    key: RSAKey | ECKey
    alg: str = "ES256"
    dpop_key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", private=True))
    path: str = "/oauth2/v1/token"
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        port = self.okta.server.port
        self.connection: http.client.HTTPConnection = (
            http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            if self.tls is None
            else http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=self.tls)
        )

    def send(
        self, method: str, target: str, headers: list[tuple[str, str]] | None = None, body: bytes | None = None
    ) -> Reply:
        self.connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers or []:
            self.connection.putheader(name, value)
        if body is not None:
            self.connection.putheader("Content-Length", str(len(body)))
        self.connection.endheaders(body)
        response = self.connection.getresponse()
        return Reply(response.status, response.getheaders(), response.read())

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(self.okta.now())
        claims = {
            "iss": self.app.client_id,
            "sub": self.app.client_id,
            "aud": self.okta.url + self.path,
            "iat": now,
            "exp": now + 300,
            "jti": secrets.token_hex(16),
        } | changes
        return {name: value for name, value in claims.items() if value is not ...}

    def assertion(self, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        return signed({"alg": self.alg, **(header or {})}, self.claims(**changes), self.key)

    def form(self, **changes: Any) -> dict[str, Any]:
        form = {
            "grant_type": "client_credentials",
            "scope": "okta.users.read",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": ...,
        } | changes
        if form["client_assertion"] is ...:
            form["client_assertion"] = self.assertion()
        return {name: value for name, value in form.items() if value is not None}

    def token_request(
        self, headers: list[tuple[str, str]] | None = None, query: str = "", raw: str | None = None, **form: Any
    ) -> Reply:
        body = raw if raw is not None else urlencode(self.form(**form))
        sent = [("Content-Type", "application/x-www-form-urlencoded"), *(headers or [])]
        return self.send("POST", self.path + query, sent, body.encode())

    def token(self, **form: Any) -> str:
        reply = self.token_request(**form)
        assert reply.status == 200, reply.refusal
        return str(reply.json["access_token"])

    def proof(
        self, method: str, url: str, token: str | None = None, header: Mapping[str, Any] | None = None, **changes: Any
    ) -> str:
        claims: dict[str, Any] = {
            "htm": method,
            "htu": url,
            "iat": int(self.okta.now()),
            "jti": secrets.token_hex(16),
        }
        if token is not None:
            claims["ath"] = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()
        claims = {name: value for name, value in (claims | changes).items() if value is not ...}
        made = {"typ": "dpop+jwt", "alg": "ES256", "jwk": public(self.dpop_key), **(header or {})}
        return signed({name: value for name, value in made.items() if value is not ...}, claims, self.dpop_key)

    def nonce(self) -> str:
        reply = self.token_request([("DPoP", self.proof("POST", self.okta.url + self.path))])
        assert reply.refusal == okta_says("use_dpop_nonce")
        nonce = reply.header("dpop-nonce")
        assert nonce
        return nonce

    def bound_token(self, **form: Any) -> str:
        proof = self.proof("POST", self.okta.url + self.path, nonce=self.nonce())
        reply = self.token_request([("DPoP", proof)], **form)
        assert reply.status == 200, reply.refusal
        assert reply.json["token_type"] == "DPoP"
        return str(reply.json["access_token"])

    def call(self, token: str, target: str = "/api/v1/users", method: str = "GET", body: bytes | None = None) -> Reply:
        return self.send(method, target, [("Authorization", f"Bearer {token}")], body)

    def bound_call(
        self, token: str, target: str = "/api/v1/users", url: str | None = None, method: str = "GET", **changes: Any
    ) -> Reply:
        proof = self.proof(method, url or self.okta.url + target.partition("?")[0], token, **changes)
        return self.send(method, target, [("Authorization", f"DPoP {token}"), ("DPoP", proof)])
