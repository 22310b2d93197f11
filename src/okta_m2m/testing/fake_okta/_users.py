"""A user of the org, who signs in through an app.

Invariant: a user's tokens are made here without a sign-in, because the user's own sign-in is not what FakeOkta is for.
"""

from __future__ import annotations

from collections.abc import Iterable

from ._app import App
from ._org import Org, new_id
from ._tokens import Account, Subject


class User(Account):
    """A user of FakeOkta, which :meth:`FakeOkta.add_user` makes. ``status`` may be changed while FakeOkta runs.

    - ``id``: the user's id, ``00u...``: the ``sub`` of an ID token, and the ``uid`` of an access token.
    - ``org``: the ``FakeOkta`` that has the user.
    - ``login``: the user's login: the ``sub`` of an access token.
    - ``status``: ``"ACTIVE"`` (default), or ``"SUSPENDED"``, which refuses the user's tokens in every exchange.
    """

    def __init__(self, org: Org, login: str) -> None:
        super().__init__(new_id("00u"), login)
        self.org = org

    def id_token(self, app: App, *, server: str = "", lifetime: float = 3600) -> str:
        """Signs the user in to ``app``, and returns the ID token that the app gets.

        - ``app``: the app that the user signs in to: the token's ``aud``. Okta exchanges the token for this app alone.
        - ``server``: the id of the custom authorization server that issues the token; the org's server by default.
        - ``lifetime``: seconds for which it is valid; 3600 by default.

        Raises ``KeyError`` if there is no such server.
        """
        if server:
            self.org.authorization_servers[server]
        return self.org.issue_id_token(self, app.client_id, server, lifetime)

    def access_token(
        self, app: App, *, server: str = "default", scopes: Iterable[str] = ("api:read",), resource: str | None = None
    ) -> str:
        """Signs the user in to ``app``, and returns the access token that the app gets: what it sends to an API.

        - ``app``: the app that the user signs in to: the token's ``cid``.
        - ``server``: the id of the custom authorization server that issues the token; ``"default"`` by default.
        - ``scopes``: the token's scopes; ``api:read`` by default.
        - ``resource``: the token's ``aud``; by default the audience of ``server``.

        It lives as long as any token of ``server``. :meth:`FakeOkta.revoke` revokes it.

        Raises ``KeyError`` if there is no such server.
        """
        subject = Subject(self.login, self.id, self.session)
        found = self.org.authorization_servers[server]
        return self.org.mint(app, found, list(scopes), None, audience=resource, subject=subject).value

    def end_session(self) -> None:
        """Signs the user out: no earlier token of the user can be exchanged. Later ones can."""
        self.session += 1
