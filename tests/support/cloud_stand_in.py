"""Stand-ins for the clouds' own token services and APIs, at their real names: a TLS server, and a proxy that leads every name to
it. So the files of ``docs/examples/recipes/clouds`` run unchanged.

Like the clouds, it checks the JWT by the keys that its issuer publishes, and its issuer, audience, subject and expiry.
"""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import parse_qs

import requests
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

NAMES = (
    "sts.googleapis.com",
    "sts.us-east-1.amazonaws.com",
    "login.microsoftonline.com",
    "auth.openai.com",
    "api.openai.com",
    "api.anthropic.com",
    "acme.snowflakecomputing.com",
)
"""The hosts that the tested libraries call."""

LIFETIME = 3600


@dataclass
class Clouds:
    """``issuer``, ``audience``, ``subject``: what every cloud was configured to trust. ``proxy``: the URL of the proxy.
    ``admitted``: the JWTs that were accepted, with the host. ``refused``: why others were not."""

    issuer: str
    audience: str
    subject: str
    proxy: str = ""
    admitted: list[tuple[str, str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def admits(self, host: str, token: str) -> bool:
        keys = KeySet.import_key_set(requests.get(f"{self.issuer}/v1/keys", timeout=30).json())
        required = {
            name: {"essential": True, "value": getattr(self, name)} for name in ("issuer", "audience", "subject")
        }
        registry = jwt.JWTClaimsRegistry(
            iss=required["issuer"], aud=required["audience"], sub=required["subject"], exp={"essential": True}
        )
        try:
            registry.validate(jwt.decode(token, keys, algorithms=["RS256"]).claims)
        except (JoseError, ValueError) as error:
            self.refused.append(f"{host}: {error}")
            return False
        self.admitted.append((host, token))
        return True


Answer = tuple[int, object]


def _exchange(clouds: Clouds, host: str, token: str, answer: object) -> Answer:
    return (200, answer) if clouds.admits(host, token) else (400, {"error": "invalid_grant", "error_description": "no"})


def _bearer(host: str) -> dict[str, Any]:
    return {"access_token": f"token-of-{host}", "expires_in": LIFETIME, "token_type": "Bearer"}


def _aws(clouds: Clouds, host: str, form: dict[str, str]) -> Answer:
    """STS answers in XML. Any other call needs a signature by the keys that it gave."""
    action = form["Action"]
    if action == "AssumeRoleWithWebIdentity":
        if not clouds.admits(host, form["WebIdentityToken"]):
            return 400, _xml("<Error><Code>InvalidIdentityToken</Code><Message>no</Message></Error>", "ErrorResponse")
        until = datetime.now(UTC) + timedelta(seconds=LIFETIME)
        keys = "<AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
        expiration = f"<Expiration>{until:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
        user = f"<AssumedRoleUser><Arn>{form['RoleArn']}</Arn><AssumedRoleId>AROA1:s</AssumedRoleId></AssumedRoleUser>"
        body = f"<Credentials>{keys}{expiration}</Credentials>{user}"
    else:
        body = "<Arn>arn:aws:sts::123456789012:assumed-role/reader/s</Arn>"
    return 200, _xml(f"<{action}Result>{body}</{action}Result>", f"{action}Response")


def _xml(body: str, name: str) -> str:
    return f'<{name} xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{body}</{name}>'


def _snowflake(clouds: Clouds, host: str, body: dict[str, Any]) -> Answer:
    data = body.get("data", {})
    if not clouds.admits(host, data.get("TOKEN", "")):
        return 200, {"success": False, "code": "394300", "message": "no", "data": {}}
    parameters = [{"name": "AUTOCOMMIT", "value": True}]  # without it, the connector sends a COMMIT
    session = {"sessionId": 1, "parameters": parameters, "sessionInfo": {}, "validityInSeconds": LIFETIME}
    return 200, {"success": True, "data": {**session, "token": "t", "masterToken": "m", "serverVersion": "10"}}


def _answer(clouds: Clouds, host: str, path: str, authorization: str, text: str, kind: str) -> Answer:
    body: dict[str, Any] = {}
    if text:
        body = json.loads(text) if "json" in kind else {name: values[0] for name, values in parse_qs(text).items()}
    match host:
        case "sts.googleapis.com":
            issued = {**_bearer(host), "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}
            return _exchange(clouds, host, body["subject_token"], issued)
        case "login.microsoftonline.com":
            return _exchange(clouds, host, body["client_assertion"], _bearer(host))
        case "auth.openai.com":
            return _exchange(clouds, host, body["subject_token"], _bearer("api.openai.com"))
        case "api.anthropic.com" if path == "/v1/oauth/token":
            return _exchange(clouds, host, body["assertion"], _bearer(host))
        case "api.openai.com" | "api.anthropic.com":
            if authorization != f"Bearer token-of-{host}":
                return 401, {"error": {"type": "authentication_error", "message": "no"}}
            model = {"id": f"model-of-{host}", "type": "model", "object": "model", "display_name": "", "created": 0}
            created = {"created_at": "2026-01-01T00:00:00Z", "owned_by": ""}
            return 200, {"object": "list", "data": [{**model, **created}], "has_more": False}
        case "acme.snowflakecomputing.com":
            return _snowflake(clouds, host, body) if "login-request" in path else (200, {"success": True, "data": {}})
        case _:
            return _aws(clouds, host, body)


def _handler(clouds: Clouds) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                text = gzip.decompress(text)
            host, kind = self.headers["Host"].partition(":")[0], self.headers.get("Content-Type", "")
            status, answer = _answer(
                clouds, host, self.path.partition("?")[0], self.headers.get("Authorization", ""), text.decode(), kind
            )
            body = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/xml" if isinstance(answer, str) else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            """Not on stderr."""

    return Handler


class _ToServer(StreamRequestHandler):
    """A proxy for TLS (RFC 9110 section 9.3.6) that connects every name to ``port`` of this machine."""

    port: int

    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        with closing(socket.create_connection(("127.0.0.1", self.port))) as server:
            back = threading.Thread(target=_pump, args=(server.recv, self.connection), daemon=True)
            back.start()
            _pump(self.rfile.read1, server)
            back.join()


def _pump(read: Callable[[int], bytes], to: socket.socket) -> None:
    try:
        while data := read(65536):
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other side has closed its connection


@contextmanager
def clouds_that_trust(issuer: str, audience: str, subject: str, tls: ssl.SSLContext) -> Iterator[Clouds]:
    """``tls``: a server's context with a certificate for :data:`NAMES`."""
    clouds = Clouds(issuer, audience, subject)
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(clouds)) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        handler = type("ToServer", (_ToServer,), {"port": server.server_address[1]})
        with ThreadingTCPServer(("127.0.0.1", 0), handler) as proxy:
            proxy.daemon_threads = True
            clouds.proxy = f"http://127.0.0.1:{proxy.server_address[1]}"
            for one in (server, proxy):
                threading.Thread(target=one.serve_forever, args=(0.02,), daemon=True).start()
            yield clouds
            for one in (server, proxy):
                one.shutdown()
