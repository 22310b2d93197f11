"""An Okta org on a loopback port: :class:`FakeOkta`, for tests of code that makes machine-to-machine calls to Okta.

Invariant: if Okta's behavior is known, FakeOkta is exactly as strict, with the same messages. Otherwise, it is strict.
A change that a test makes takes effect with the next request, even for tokens that were issued earlier.
"""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from difflib import get_close_matches
from types import TracebackType
from typing import Any, Literal, Self

from joserfc.jwk import ECKey

from ._app import App, Keys
from ._http_server import OktaServer
from ._management.keys import app_keys
from ._messages import Answer, ReceivedRequest
from ._org import AuthorizationServer
from ._responder import Fault, HeaderChanges, Refusal, Responder, answer_with, named_refusal
from ._tokens import signing_key
from ._users import User


class FakeOkta(Responder):
    """An Okta org at ``http://127.0.0.1:PORT``. Use it as a context manager, or call :meth:`start` and :meth:`stop`.

    Parameters:

    - ``token_lifetime``: lifetime of access tokens in seconds, 3600 by default; fractions of a second count. ``expires_in``
      is rounded down to whole seconds, but is at least 1.
    - ``ssl_context``: a server's TLS context; the org is then at ``https://``. ``None`` by default.
    - ``dpop``: ``"required"`` makes every app DPoP-bound, as some orgs do. With ``"optional"`` (default) each app's
      ``dpop_bound`` decides.
    - ``on_answer``: called with each request and the HTTP status of its response (0 for a connection that was reset),
      in the thread of the connection, so from several threads at once. Requests to ``server``'s own pages are not
      reported.

    Attributes that may be changed at any time:

    - ``token_lifetime``, ``dpop``: as above.
    - ``token_delay``: seconds that each token request takes; 0 by default.
    - ``require_dpop_nonce``: whether the token endpoint demands a nonce in proofs; ``True`` by default.
    - ``resource_nonce``: whether the API demands one as well; ``False`` by default. ``True`` or ``400`` demands it with
      status 400, as Okta does, and ``401`` with status 401.
    - ``id_jag_token_type``: the ``token_type`` of a response with an ID-JAG: ``"N_A"`` (default) or ``"Bearer"``, because Okta's
      documents have both.
    - ``features_off``: a set of paths below ``/api/v1`` that return 401 E0000015; empty by default.
    - ``settling``: seconds for which a change made through the management API is not visible to other endpoints, because
      Okta's changes take a while; 0 by default.
    - ``scopes``: the set of scopes of the org authorization server, as Okta publishes them. You can add newer ones.
    - ``apps``, ``authorization_servers``: dictionaries by client id and by id. The server ``default`` exists from the
      start, with the scopes ``api:read`` and ``api:write``.
    - ``ssws``: the SSWS token of a Super Admin, for the management API. :meth:`add_api_token` creates others.
    - ``api_tokens``: a dictionary of all SSWS tokens by value. To invalidate one, set its ``active`` to ``False``.
    - ``server``: the underlying pytest-httpserver. Its ``expect_request(...)`` adds your own pages.

    Counters, which :meth:`reset` sets to zero:

    - ``tokens_minted``: the number of access tokens that were issued.
    - ``token_requests``: the number of requests to token endpoints, including failed ones.
    - ``api_calls``: the number of requests to paths that need a token, including failed ones.

    Unlike at Okta, every user and group name exists; a write returns the length and SHA-256 of its body as
    ``received``; ``/redirect?to=URL&status=302`` redirects; and :meth:`protect` adds APIs. A request that gets a
    scripted fault uses up its assertion and its proof, so that no test depends on sending either twice.
    """

    def __init__(
        self,
        *,
        token_lifetime: float = 3600,
        ssl_context: ssl.SSLContext | None = None,
        dpop: Literal["optional", "required"] = "optional",
        on_answer: Callable[[ReceivedRequest, int], object] | None = None,
    ) -> None:
        super().__init__()
        self.token_lifetime = token_lifetime
        self.dpop = dpop
        self._on_answer = on_answer
        self.server = OktaServer(self._answer, self._not_found, ssl_context)
        self.add_authorization_server("default", scopes=["api:read", "api:write"])
        self.ssws = self.add_api_token()

    # ── running ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> Self:
        """Listens on a free port of 127.0.0.1 and serves in background threads. Returns itself."""
        signing_key()
        self._stopping.clear()
        self.server.start()
        return self

    def stop(self) -> None:
        """Closes every connection and stops the server. Raises errors from FakeOkta itself or from your own
        handlers."""
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
        """The org URL, without a trailing slash. Raises ``RuntimeError`` before :meth:`start`."""
        if not self.server.port:
            raise RuntimeError("FakeOkta is not running. Use `with FakeOkta() as okta:` or call start().")
        return self.server.url_for("/").removesuffix("/")

    def __repr__(self) -> str:
        # The object may be incomplete, in a traceback of its own failed creation.
        return f"<FakeOkta {self.url if hasattr(self, 'server') and self.server.port else 'not running'}>"

    # ── what it contains ─────────────────────────────────────────────────────────────────────────────────────────────

    def add_app(
        self,
        jwks: Keys | None = None,
        scopes: Iterable[str] = ("okta.users.read",),
        *,
        client_id: str | None = None,
        dpop_bound: bool = False,
        label: str | None = None,
        grant_types: Iterable[str] = ("client_credentials",),
    ) -> App:
        """Registers a service app.

        - ``jwks``: its public keys: a JWKS, a JWK, an object with a ``jwks()`` method such as ``PrivateKey``, or a list of
          those. By default it gets a new ES256 key, whose private half is the app's ``private_jwk``.
        - ``scopes``: the ``okta.*`` scopes to grant it; ``okta.users.read`` by default.
        - ``client_id``: its client id; by default a new one, ``0oa...``.
        - ``dpop_bound``: whether "Require DPoP" is on; ``False`` by default.
        - ``label``: its name; by default ``Service app`` and the client id.
        - ``grant_types``: the grants that it may use; ``client_credentials`` by default. To exchange tokens it needs
          ``urn:ietf:params:oauth:grant-type:token-exchange``, and for an ID-JAG also
          ``urn:ietf:params:oauth:grant-type:jwt-bearer``.

        The app has the role ``READ_ONLY_ADMIN``. To let it write, assign other roles to its ``roles``. It, and its keys, were
        created now by the org's clock: :meth:`skew` makes older ones.

        Raises ``ValueError`` for a scope that Okta does not have, and for a private key.
        """
        scopes = list(scopes)
        for scope in scopes:
            if scope not in self.scopes:
                raise ValueError(self._explain_unknown_scope(scope))
        private: dict[str, Any] | None = None
        if jwks is None:
            key = ECKey.generate_key("P-256", {"kid": secrets.token_urlsafe(16), "use": "sig"}, private=True)
            private, jwks = dict(key.as_dict(private=True)), {"keys": [key.as_dict(private=False)]}
        app = App(client_id or f"0oa{secrets.token_hex(9)}", jwks, scopes)
        app.dpop_bound = dpop_bound
        app.label = label or app.label
        app.private_jwk = private
        app.grant_types = list(grant_types)
        self.apps[app.client_id] = app
        self.records.find("app", app.id)
        app_keys(self, app)  # they were registered now, by the org's clock
        return app

    def _explain_unknown_scope(self, scope: str) -> str:
        if not scope.startswith(("okta.", "ssf.")):
            return (
                f"{scope!r} cannot be granted to an app, because it is not a scope of Okta's own APIs. "
                "Add it to a custom authorization server: okta.add_authorization_server(..., scopes=[...])."
            )
        similar = get_close_matches(scope, sorted(self.scopes), 1)
        suggestion = f" Did you mean {similar[0]!r}?" if similar else ""
        return (
            f"Okta has no scope {scope!r} for service apps.{suggestion} If the scope is new at Okta, "
            f"call okta.scopes.add({scope!r}) first."
        )

    def add_authorization_server(
        self,
        id: str,
        *,
        scopes: Iterable[str],
        default_scopes: Iterable[str] = (),
        token_lifetime: float | None = None,
        audience: str = "api://default",
        clients: Iterable[str] | None = None,
        trusted_servers: Iterable[str] = (),
        resources: Iterable[str] = (),
    ) -> AuthorizationServer:
        """Adds the custom authorization server at ``/oauth2/{id}``, or replaces it.

        - ``id``: its id.
        - ``scopes``: the scopes that it issues.
        - ``default_scopes``: the scopes for a request that names none; empty by default, so such a request is refused.
        - ``token_lifetime``: lifetime of its tokens in seconds; by default as long as the org's.
        - ``audience``: the ``aud`` of its tokens; ``"api://default"`` by default.
        - ``clients``: the client ids that its access policy admits; all by default.
        - ``trusted_servers``: the ids of the custom servers whose access tokens it exchanges, beside its own; none by
          default.
        - ``resources``: the resources that a request may name; none by default.
        """
        server = AuthorizationServer(
            id,
            list(scopes),
            list(default_scopes),
            audience,
            token_lifetime,
            None if clients is None else list(clients),
            list(trusted_servers),
            list(resources),
        )
        self.authorization_servers[id] = server
        return server

    def add_user(self, login: str = "ada@example.com") -> User:
        """Adds a user, who can sign in to any app.

        - ``login``: the user's login; ``ada@example.com`` by default.
        """
        user = User(self, login)
        self.accounts[user.id] = user
        return user

    def protect(self, path: str, *, server: str = "default", scope: str | None = None) -> str:
        """Makes ``path``, and everything below it, your own API. Returns its URL.

        The API returns 200 with a description of the request, and compares ``htu`` according to RFC 9449, unlike Okta's
        own API.

        - ``path``: the path, undecoded: ``"/orders"``.
        - ``server``: the id of the custom authorization server whose tokens it accepts; ``"default"`` by default.
        - ``scope``: the scope that a token needs; none by default.
        """
        self.protected[path.rstrip("/")] = (server, scope)
        return self.url + path

    def revoke(self, value: str) -> None:
        """Revokes an access token.

        - ``value``: the token itself.

        Raises ``KeyError`` if it was not issued here.
        """
        found = self.token(value)
        if found is None:
            raise KeyError("This token was not issued here.")
        found.revoked = True

    def revoke_all(self) -> None:
        """Revokes every access token issued so far."""
        for found in self.tokens():
            found.revoked = True

    def skew(self, *, minutes: float = 0, seconds: float = 0) -> None:
        """Sets the org's clock ahead of this machine's clock, or behind it if negative.

        ``Date``, the checks of assertions and proofs, and the lifetimes of all tokens follow it. A second call replaces the
        first; ``skew()`` without arguments corrects the clock.

        - ``minutes``, ``seconds``: how far ahead; their sum counts. Both are 0 by default.
        """
        self._skew = timedelta(minutes=minutes, seconds=seconds).total_seconds()

    @property
    def nonce_lifetime(self) -> float:
        """Seconds for which a DPoP nonce is accepted; three days by default. May be set.

        A new nonce is created every day, or whenever the lifetime ends, if that is sooner.
        """
        return self.nonces.lifetime

    @nonce_lifetime.setter
    def nonce_lifetime(self, seconds: float) -> None:
        self.nonces.lifetime = self.resource_nonces.lifetime = seconds

    def rotate_nonces(self, *, keep_old: bool = False) -> None:
        """Replaces the DPoP nonces.

        - ``keep_old``: whether the old nonces stay valid until their lifetime ends, as at Okta; ``False`` (default) refuses
          them at once.
        """
        self.nonces.rotate(keep_old)
        self.resource_nonces.rotate(keep_old)

    # ── what happened ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def refusals(self) -> list[Refusal]:
        """The requests that were refused as invalid, oldest first; at most the last 20,000."""
        with self._mutex:
            return list(self._refusals)

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The requests as they were received, oldest first; at most the last 20,000."""
        with self._mutex:
            return list(self._requests)

    def reset(self) -> None:
        """Sets the counters to zero, and forgets recorded requests and scripted faults. Apps and tokens stay."""
        with self._mutex:
            self._faults.clear()
            self._requests.clear()
            self._refusals.clear()
            self.token_requests = self.api_calls = self.tokens_minted = 0

    # ── what happens next ────────────────────────────────────────────────────────────────────────────────────────────

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
        """Scripts a fault for the next request. Further calls add to the queue.

        - ``what``: an integer is short for ``status``, a string for ``error``.
        - ``on``: the requests concerned: ``"token"`` (default) for any token endpoint, or an undecoded path in which ``*``
          stands for anything: ``"/api/v1/*"``.
        - ``times``: the number of requests that get the fault; 1 by default.
        - ``status``: the HTTP status of the response. Without ``error`` or a body, the response has Okta's usual error
          for that status.
        - ``error``: an OAuth ``error``, or Okta's ``internalErrorCode`` (``"jwks_uri_error"``) or ``errorCode``
          (``"E0000015"``).
        - ``description``: the text of the error, instead of Okta's.
        - ``reset``: for a 429: ``x-rate-limit-reset``, in seconds from now; 1 by default.
        - ``concurrency``: for a 429: makes it a concurrency limit, whose ``x-rate-limit-limit`` is 0.
        - ``html``: returns a page of HTML instead of JSON.
        - ``garbage``: returns truncated JSON.
        - ``drop``: resets the connection, without a response.
        - ``delay``: seconds to wait before the response, whether ordinary or scripted; 0 by default.
        - ``body``: the body: bytes, a string, or anything else that becomes JSON.
        - ``headers``: headers to add or replace in the response. ``None`` removes one: ``{"Date": None}``. A list of
          pairs can repeat a header.
        - ``token``: members to change in an ordinary token response. ``None`` removes one: ``{"expires_in": None}``.

        Raises ``ValueError`` for an error that Okta does not have, unless it has a ``description``.
        """
        status = what if isinstance(what, int) else status
        error = what if isinstance(what, str) else error
        fault = Fault(
            on=on,
            left=times,
            delay=delay,
            answer=Answer(0, drop=True) if drop else answer_with(body, status or 200, html=html, garbage=garbage),
            status=status,
            refusal=None if error is None else named_refusal(error, description, status),
            reset=reset,
            concurrency=concurrency,
            headers=headers or {},
            token=dict(token or {}),
        )
        with self._mutex:
            self._faults.append(fault)

    def clear_faults(self) -> None:
        """Removes all faults that :meth:`next` scripted."""
        with self._mutex:
            self._faults.clear()
