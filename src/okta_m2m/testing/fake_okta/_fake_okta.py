"""An Okta org on a loopback port: :class:`FakeOkta`, for tests of code that calls Okta machine to machine.

Invariant: it is as strict as Okta, in Okta's words, wherever Okta's behaviour is known; where it is not known, it is
strict. It shares no code with the client: an error in the one cannot hide an error in the other.
"""

from __future__ import annotations

import json
import math
import re
import secrets
import ssl
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import timedelta
from difflib import get_close_matches
from email.utils import formatdate
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import parse_qsl

from . import _management as management
from . import _metadata as metadata
from . import _resources as resources
from . import _token_endpoint as token_endpoint
from ._faults import Fault, Faults, HeaderChanges, encoded, refusal_named
from ._http_server import Answer, OktaServer, ReceivedRequest
from ._jws import NotAJws, parse
from ._org import App, AuthorizationServer, Keys, Org, signing_key
from ._refusals import ApiRefused, Refused

__all__ = ["FakeOkta", "Refusal"]

_OAUTH_PATH = re.compile(r"/oauth2(?:/(?P<server>[^/]+))?/v1/(?P<endpoint>token|introspect|revoke|keys)")
_METADATA_PATH = re.compile(
    r"(?:/oauth2/(?P<server>[^/]+))?/\.well-known/(?P<kind>openid-configuration|oauth-authorization-server)"
    r"|/\.well-known/(?P<rfc8414>oauth-authorization-server)/oauth2/(?P<suffix>[^/]+)"
)
_APPS_PATH = re.compile(r"/api/v1/apps(?:/.*)?")
_CLIENTS_PATH = re.compile(r"/oauth2/v1/clients(?:/.*)?")
_HTML = b"<!DOCTYPE html><html><head><title>Okta</title></head><body><h1>Something went wrong</h1></body></html>"
_RECORDED = 20_000
#: What a scripted status means when no error is named with it; every other one comes as a page of HTML.
_USUAL_AT_OAUTH = {
    400: "invalid_request",
    401: "invalid_client",
    403: "access_denied",
    404: "E0000007",
    429: "E0000047",
    500: "server_error",
    503: "E0000010",
}
_USUAL_AT_API = {
    401: "access_token_invalid",
    403: "access_token_insufficient_scopes",
    404: "E0000007",
    429: "E0000047",
    500: "E0000009",
    503: "E0000010",
}


class Refusal(NamedTuple):
    """A request that was refused on its merits; a scripted fault is none."""

    status: int
    error: str
    error_description: str
    path: str


class FakeOkta(Org):
    """An Okta org at ``http://127.0.0.1:PORT``, or ``https://`` with ``ssl_context``; a context manager.

    - ``token_lifetime``: seconds that access tokens live, parts of a second included; ``expires_in`` is cut to whole
      seconds, and is never 0. May be changed at any time.
    - ``dpop``: ``"required"`` makes every app DPoP-bound, as some orgs do; else each app has ``dpop_bound``.
    - ``require_dpop_nonce`` (true): the token endpoint wants a nonce in proofs. ``resource_nonce`` (false): so does the
      API; 401 makes it ask with that status instead of 400.
    - ``token_delay``: seconds that each token request takes.
    - ``features_off``: paths below ``/api/v1`` that answer 401 E0000015.
    - ``ssws``: an SSWS token of a Super Admin, for the management API; :meth:`add_api_token` makes others, and
      ``api_tokens`` holds them all (``active`` may be set to ``False``).
    - ``settling`` (0): seconds for which a change made through the management API does not count elsewhere yet, as at
      Okta, where such changes are consistent only after a while.
    - ``apps``, ``authorization_servers``: by id; ``default`` is there from the start, with ``api:read`` and
      ``api:write``.
    - ``scopes``: those of the org's own server, as Okta publishes them; one that is newer may be added.
    - ``server``: the pytest-httpserver underneath; its ``expect_request(...)`` adds pages of your own.

    What has no counterpart at Okta: any user or group name exists; ``received`` in the answer to a write tells length
    and SHA-256 of the body; ``/redirect?to=URL&status=302``; and :meth:`protect`. A request that meets a scripted fault
    uses up its assertion and its proof too, so nobody comes to rely on sending one twice.
    """

    def __init__(
        self,
        *,
        token_lifetime: float = 3600,
        ssl_context: ssl.SSLContext | None = None,
        dpop: Literal["optional", "required"] = "optional",
    ) -> None:
        super().__init__(token_lifetime=token_lifetime, dpop=dpop)
        self.token_delay: float = 0.0
        self.server = OktaServer(self._answered, self._not_found, ssl_context)
        self._faults = Faults()
        self._stopping = threading.Event()
        self._requests: deque[ReceivedRequest] = deque(maxlen=_RECORDED)
        self._refusals: deque[Refusal] = deque(maxlen=_RECORDED)
        self._token_requests = 0
        self._api_calls = 0
        self.add_authorization_server("default", scopes=["api:read", "api:write"])
        self.ssws = self.add_api_token()

    # -- running ------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Binds a free port of 127.0.0.1 and serves from a thread of its own."""
        signing_key()
        self._stopping.clear()
        self.server.start()
        return self

    def stop(self) -> None:
        """Ends every connection and the server; raises what went wrong inside the fake or in a handler of yours."""
        self._stopping.set()
        if self.server.is_running():
            self.server.stop()
        self.server.check()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.server.clear_handler_errors()
            self.server.clear_assertions()
        self.stop()

    @property
    def url(self) -> str:
        """The org URL, without a trailing slash; raises ``RuntimeError`` before :meth:`start`."""
        if not self.server.port:
            raise RuntimeError("FakeOkta is not running; use `with FakeOkta() as okta:` or call start()")
        return self.server.url_for("/").removesuffix("/")

    def __repr__(self) -> str:
        return f"<FakeOkta {self.url if self.server.port else 'not running'}>"

    # -- what is in the org -------------------------------------------------------------------------------------------

    def add_app(
        self,
        jwks: Keys | None = None,
        scopes: Iterable[str] = ("okta.users.read",),
        *,
        client_id: str | None = None,
        dpop_bound: bool = False,
        label: str | None = None,
    ) -> App:
        """Registers a service app with public keys: a JWKS, a JWK, anything with ``jwks()``, or a list of those.

        Without ``jwks`` it makes an ES256 key; ``app.private_jwk`` is what to sign with. ``scopes`` are those granted;
        raises ``ValueError`` for one that Okta does not have. To write to the management API an app needs another of
        ``app.roles`` than the ``READ_ONLY_ADMIN`` that it has.
        """
        scopes = list(scopes)
        for scope in scopes:
            if scope not in self.scopes:
                raise ValueError(self._unknown_scope(scope))
        private: dict[str, Any] | None = None
        if jwks is None:
            key = self.generated_key()
            private, jwks = dict(key.as_dict(private=True)), {"keys": [key.as_dict(private=False)]}
        app = App(client_id or f"0oa{secrets.token_hex(9)}", jwks, scopes)
        app.dpop_bound = dpop_bound
        app.label = label or app.label
        app.private_jwk = private
        self.apps[app.client_id] = app
        return app

    def _unknown_scope(self, scope: str) -> str:
        if not scope.startswith(("okta.", "ssf.")):
            return f"{scope!r} is not granted to an app: scopes of your own are those of a custom authorization server"
        similar = get_close_matches(scope, sorted(self.scopes), 1)
        asked = f" Did you mean {similar[0]!r}?" if similar else ""
        return f"Okta has no scope {scope!r} for service apps.{asked} If it is new there: okta.scopes.add({scope!r})"

    def add_authorization_server(
        self,
        id: str,
        *,
        scopes: Iterable[str],
        default_scopes: Iterable[str] = (),
        token_lifetime: float | None = None,
        audience: str = "api://default",
        clients: Iterable[str] | None = None,
    ) -> AuthorizationServer:
        """Adds, or replaces, the custom authorization server at ``/oauth2/{id}``; see :class:`AuthorizationServer`."""
        server = AuthorizationServer(
            id,
            list(scopes),
            list(default_scopes),
            audience,
            token_lifetime,
            None if clients is None else list(clients),
        )
        self.authorization_servers[id] = server
        return server

    def protect(self, path: str, *, server: str = "default", scope: str | None = None) -> str:
        """Makes ``path``, and all below it, an API that takes tokens of a custom authorization server; gives its URL.

        It compares ``htu`` as RFC 9449 says, not as Okta's own API does, and answers 200 with what it received.
        """
        self.protected[path.rstrip("/")] = (server, scope)
        return self.url + path

    # -- what happened ------------------------------------------------------------------------------------------------

    @property
    def tokens_minted(self) -> int:
        """Tokens handed out."""
        return self._minted

    @property
    def token_requests(self) -> int:
        """Requests to token endpoints, whatever was answered."""
        return self._token_requests

    @property
    def api_calls(self) -> int:
        """Requests to anything that a token opens, whatever was answered."""
        return self._api_calls

    @property
    def refusals(self) -> list[Refusal]:
        """Requests refused on their merits, oldest first; at most the last 20,000."""
        with self._mutex:
            return list(self._refusals)

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Requests as they came off the wire, oldest first; at most the last 20,000."""
        with self._mutex:
            return list(self._requests)

    def reset(self) -> None:
        """Zeroes the counters, forgets what was recorded, and drops scripted faults; apps and tokens stay."""
        self._faults.clear()
        with self._mutex:
            self._requests.clear()
            self._refusals.clear()
            self._minted = self._token_requests = self._api_calls = 0

    # -- what is to happen --------------------------------------------------------------------------------------------

    def next(
        self,
        what: int | str | None = None,
        *,
        on: str = "token",
        times: int = 1,
        status: int | None = None,
        error: str | None = None,
        description: str | None = None,
        reset: float = 1,
        concurrency: bool = False,
        html: bool = False,
        garbage: bool = False,
        drop: bool = False,
        delay: float = 0.0,
        body: object = None,
        headers: HeaderChanges | None = None,
        token: Mapping[str, Any] | None = None,
    ) -> None:
        """Scripts what the next request gets; further calls queue up behind.

        - ``on``: ``"token"`` (any token endpoint) or an undecoded path, ``*`` allowed: ``"/api/v1/*"``.
        - ``times``: how many requests get it.
        - ``what``: an HTTP status, or the name of an error: an OAuth ``error``, Okta's ``internalErrorCode``
          (``jwks_uri_error``) or ``errorCode`` (``E0000015``). ``status``, ``error``, ``description`` say it apart.
        - 429: ``reset`` is the ``x-rate-limit-reset`` in seconds from now; ``concurrency`` makes the limit 0.
        - ``html``: a page instead of JSON. ``garbage``: JSON that breaks off. ``drop``: a reset connection.
        - ``body``: bytes, text, or what becomes JSON. ``headers``: added or replaced; ``None`` takes one away
          (``{"Date": None}``), a list of pairs can repeat one.
        - ``delay``: seconds before the answer, alone or with the above.
        - ``token``: changes in the JSON of a token answer; ``None`` takes a member away: ``{"expires_in": None}``.

        Raises ``ValueError`` for an error name that Okta does not have, unless it is described.
        """
        if isinstance(what, int):
            status = what
        elif what is not None:
            error = what
        fault = Fault(
            on, times, delay, drop, status, None, None, "", reset, concurrency, headers or {}, dict(token or {})
        )
        if error is not None:
            fault.refusal = refusal_named(error, description, status)
        if html:
            fault.body, fault.content_type = _HTML, "text/html; charset=utf-8"
        elif garbage:
            fault.body, fault.content_type = b'{"token_type": "Bear\xff', "application/json"
        elif body is not None:
            fault.body, fault.content_type = encoded(body)
        self._faults.add(fault)

    def clear_faults(self) -> None:
        """Drops what :meth:`next` has queued."""
        self._faults.clear()

    def revoke(self, value: str) -> None:
        """Revokes one access token; ``KeyError`` if it was not minted here."""
        found = self.token(value)
        if found is None:
            raise KeyError("no such token was minted here")
        found.revoked = True

    def revoke_all(self) -> None:
        """Revokes every access token minted so far."""
        for found in self.tokens():
            found.revoked = True

    def skew(self, *, minutes: float = 0, seconds: float = 0) -> None:
        """Sets the org's clock that far ahead of this machine's (behind, if negative); not cumulative.

        ``Date``, assertion and proof checks, and token lives follow it, those of tokens minted before included.
        """
        self._skew = timedelta(minutes=minutes, seconds=seconds).total_seconds()

    @property
    def nonce_lifetime(self) -> float:
        """Seconds that a DPoP nonce is accepted after it was made: three days. A new one is made daily, or sooner."""
        return self.nonces.lifetime

    @nonce_lifetime.setter
    def nonce_lifetime(self, seconds: float) -> None:
        self.nonces.lifetime = self.resource_nonces.lifetime = seconds

    def rotate_nonces(self, *, keep_old: bool = False) -> None:
        """Changes the DPoP nonces; the old ones are refused at once, unless kept as Okta keeps them (three days)."""
        self.nonces.rotate(keep_old)
        self.resource_nonces.rotate(keep_old)

    # -- answering ----------------------------------------------------------------------------------------------------

    def _answered(self, request: ReceivedRequest) -> Answer | None:
        path = request.path
        oauth = _OAUTH_PATH.fullmatch(path)
        is_token_request = oauth is not None and oauth["endpoint"] == "token"
        protected = self._protected(path)
        registers = _CLIENTS_PATH.fullmatch(path) is not None
        is_api_call = path.startswith("/api/v1/") or path == "/redirect" or registers or protected is not None
        with self._mutex:
            self._requests.append(request)
            self._token_requests += is_token_request
            self._api_calls += is_api_call
        if is_token_request and self.token_delay:
            self._stopping.wait(self.token_delay)
        fault = self._faults.take(path, is_token_request)
        if fault is not None and fault.delay:
            self._stopping.wait(fault.delay)
        try:
            if fault is not None and fault.answers:
                self._use_up(request)
                answer = self._scripted(request, fault, is_api_call)
            elif oauth is not None:
                answer = self._oauth(request, oauth, fault)
            elif protected is not None:
                answer = resources.custom_resource(self, request, *protected)
            elif path == "/redirect":
                answer = resources.redirect(self, request)
            elif _APPS_PATH.fullmatch(path):
                answer = management.apps(self, request)
            elif registers:
                answer = management.clients(self, request)
            elif path.startswith("/api/v1/"):
                answer = resources.management(self, request)
            else:
                found = self._discovered(request)
                if found is None:
                    return None
                answer = found
        except (Refused, ApiRefused) as refused:
            self._record(refused, path)
            answer = self._refused(request, refused, is_api_call)
        return self._completed(answer, fault)

    def _record(self, refused: Refused | ApiRefused, path: str) -> None:
        with self._mutex:
            self._refusals.append(Refusal(refused.status, refused.error, refused.description, path))

    def _oauth(self, request: ReceivedRequest, found: re.Match[str], fault: Fault | None) -> Answer:
        server = self._server(found["server"])
        endpoint = found["endpoint"]
        if request.method != ("GET" if endpoint == "keys" else "POST"):
            raise ApiRefused("E0000022")
        if endpoint == "keys":
            answer = token_endpoint.json_answer(200, metadata.keys())
            answer.headers[1] = ("Cache-Control", "max-age=3600, must-revalidate")
            return answer
        if endpoint == "introspect":
            return token_endpoint.introspect(self, request, server)
        if endpoint == "revoke":
            return token_endpoint.revoke(self, request, server)
        answer, _ = token_endpoint.token(self, request, server)
        if fault is not None and fault.token:
            content = {**json.loads(answer.body), **fault.token}
            removed = [name for name, value in fault.token.items() if value is None]
            answer.body = json.dumps({name: value for name, value in content.items() if name not in removed}).encode()
        return answer

    def _server(self, id: str | None) -> AuthorizationServer | None:
        if id is None:
            return None
        if id not in self.authorization_servers:
            raise ApiRefused("E0000007", f"Resource not found: {id} (AuthorizationServer)")
        return self.authorization_servers[id]

    def _protected(self, path: str) -> tuple[str, str | None] | None:
        for prefix, found in self.protected.items():
            if path == prefix or path.startswith(f"{prefix}/"):
                return found
        return None

    def _discovered(self, request: ReceivedRequest) -> Answer | None:
        found = _METADATA_PATH.fullmatch(request.path)
        if found is None:
            return None
        server = self._server(found["server"] or found["suffix"])
        if request.method not in ("GET", "HEAD"):
            raise ApiRefused("E0000022")
        of_oidc = found["kind"] == "openid-configuration"
        content = metadata.oidc_metadata(self, server) if of_oidc else metadata.oauth_metadata(self, server)
        return token_endpoint.json_answer(200, content)

    def _refused(self, request: ReceivedRequest, refused: Refused | ApiRefused, is_api_call: bool) -> Answer:
        if isinstance(refused, ApiRefused):
            return _api_error(refused)
        protected = self._protected(request.path)
        if protected is not None:
            refused = resources.as_the_rfcs_say(request, refused, protected[1])
        nonce = [("dpop-nonce", refused.nonce)] if refused.nonce else []
        if is_api_call and refused.error != "invalid_client_metadata":
            challenge = resources.okta_challenge(self, request, refused)
            return Answer(refused.status, [("WWW-Authenticate", challenge), *nonce])
        content = {"error": refused.error, "error_description": refused.description}
        return token_endpoint.json_answer(refused.status, content, *nonce)

    def _scripted(self, request: ReceivedRequest, fault: Fault, is_api_call: bool) -> Answer:
        if fault.drop:
            return Answer(0, drop=True)
        if fault.body is not None:
            return Answer(fault.status or 200, [("Content-Type", fault.content_type)], fault.body)
        if fault.refusal is not None:
            refusal = fault.refusal
            if isinstance(refusal, Refused) and refusal.error == "use_dpop_nonce":
                pool = self.resource_nonces if is_api_call else self.nonces
                refusal.nonce = pool.current(self.now())
            answer = self._refused(request, refusal, is_api_call)
            answer.status = fault.status or answer.status
            return answer
        status = fault.status or 200
        usual = (_USUAL_AT_API if is_api_call else _USUAL_AT_OAUTH).get(status)
        if usual is None:
            return Answer(status, [("Content-Type", "text/html; charset=utf-8")], _HTML if status >= 400 else b"")
        answer = self._refused(request, refusal_named(usual, None, None), is_api_call)
        if status == 429:
            limit = 0 if fault.concurrency else 150
            answer.headers += self._rate_limit(limit, 0, fault.reset)
        return answer

    def _rate_limit(self, limit: int, remaining: int, reset: float) -> list[tuple[str, str]]:
        return [
            ("x-rate-limit-limit", str(limit)),
            ("x-rate-limit-remaining", str(remaining)),
            ("x-rate-limit-reset", str(math.floor(self.now()) + math.ceil(reset))),
        ]

    def _use_up(self, request: ReceivedRequest) -> None:
        for proof in request.all("dpop"):
            self._burn("proof", proof)
        if request.body and (request.header("content-type") or "").startswith("application/x-www-form-urlencoded"):
            for name, value in parse_qsl(request.body.decode("latin-1")):
                if name == "client_assertion":
                    self._burn("assertion", value)

    def _burn(self, kind: str, text: str) -> None:
        try:
            claims = parse(text).claims
        except NotAJws:
            return
        if isinstance(claims.get("jti"), str):
            self.first_use(f"assertion {claims.get('iss')}" if kind == "assertion" else kind, claims["jti"])

    def _not_found(self, path: str) -> Answer:
        refused = ApiRefused("E0000007", f"Resource not found: {path} (Resource)")
        self._record(refused, path)
        return self._completed(_api_error(refused), None)

    def _completed(self, answer: Answer, fault: Fault | None) -> Answer:
        if answer.drop:
            return answer
        headers = [("Date", formatdate(self.now(), usegmt=True)), *answer.headers]
        headers.append(("x-okta-request-id", secrets.token_hex(16)))
        if not any(name == "x-rate-limit-limit" for name, _ in headers):
            headers += self._rate_limit(150, 149, 60)
        answer.headers = _changed(headers, fault.headers) if fault is not None else headers
        return answer


def _api_error(refused: ApiRefused) -> Answer:
    content = {
        "errorCode": refused.error,
        "errorSummary": refused.description,
        "errorLink": refused.error,
        "errorId": f"oae{secrets.token_urlsafe(16)}",
        "errorCauses": [{"errorSummary": cause} for cause in refused.causes],
    }
    return token_endpoint.json_answer(refused.status, content)


def _changed(headers: list[tuple[str, str]], changes: HeaderChanges) -> list[tuple[str, str]]:
    pairs: Iterable[tuple[str, str | None]] = changes.items() if isinstance(changes, Mapping) else changes
    pairs = list(pairs)
    replaced = {name.lower() for name, _ in pairs}
    kept = [(name, value) for name, value in headers if name.lower() not in replaced]
    return kept + [(name, value) for name, value in pairs if value is not None]
