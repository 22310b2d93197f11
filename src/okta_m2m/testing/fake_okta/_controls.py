"""Methods with which a test populates an org, and changes it while it runs.

Invariant: a change takes effect with the next request, even for tokens that were issued earlier.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import timedelta
from difflib import get_close_matches
from typing import Any

from joserfc.jwk import ECKey

from ._app import App, Keys
from ._org import AuthorizationServer, Org

__all__ = ["OrgControls"]


class OrgControls(Org):
    """An org, with the methods that a test uses to change it."""

    def add_app(
        self,
        jwks: Keys | None = None,
        scopes: Iterable[str] = ("okta.users.read",),
        *,
        client_id: str | None = None,
        dpop_bound: bool = False,
        label: str | None = None,
    ) -> App:
        """Registers a service app.

        - ``jwks``: its public keys: a JWKS, a JWK, an object with a ``jwks()`` method such as ``PrivateKey``, or a list of
          those. By default it gets a new ES256 key, whose private half is the app's ``private_jwk``.
        - ``scopes``: the ``okta.*`` scopes to grant it; ``okta.users.read`` by default.
        - ``client_id``: its client id; by default a new one, ``0oa...``.
        - ``dpop_bound``: whether "Require DPoP" is on; ``False`` by default.
        - ``label``: its name; by default ``Service app`` and the client id.

        The app has the role ``READ_ONLY_ADMIN``. To let it write, assign other roles to its ``roles``.

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
        self.apps[app.client_id] = app
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
    ) -> AuthorizationServer:
        """Adds the custom authorization server at ``/oauth2/{id}``, or replaces it.

        - ``id``: its id.
        - ``scopes``: the scopes that it issues.
        - ``default_scopes``: the scopes for a request that names none; empty by default, so such a request is refused.
        - ``token_lifetime``: lifetime of its tokens in seconds; by default as long as the org's.
        - ``audience``: the ``aud`` of its tokens; ``"api://default"`` by default.
        - ``clients``: the client ids that its access policy admits; all by default.
        """
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
        """Revokes the access token with this value. Raises ``KeyError`` if it was not issued here."""
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
