"""``session.auth = OktaAuth(app)`` for requests.

Invariant: no policy in here, and little but the library's names: what is done is done in ``_requests_flows.py``.
"""

from __future__ import annotations

from typing import Any, overload

import requests
import urllib3
from requests.auth import AuthBase

from ._clients.requests_flows import Flows, Library

__all__ = ["OktaAuth"]


class OktaAuth(Flows[requests.PreparedRequest, requests.Response, requests.Session], AuthBase):
    """Gives every request of a session, or a single one, the app's token: ``requests.get(url, auth=OktaAuth(app))``.

    - ``session``: whose proxies, CA, client certificate and adapters the token request uses; by default a short-lived
      session with those of the environment.
    - ``send``: sends the token request instead.

    A call raises the :class:`~okta_m2m.errors.OktaM2MError` that kept it from getting a token; it is a
    ``requests.RequestException`` too, and a ``requests.ConnectionError`` where the token endpoint was not reached.
    """

    __slots__ = ()

    _library = Library(requests, urllib3, requests.sessions.SessionRedirectMixin())

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        own: Any = cls.__call__
        if own is not OktaAuth.__call__:  # a user's, which as any auth class's expects a request and nothing else

            def called(self: OktaAuth, r: Any, **settings: Any) -> Any:
                return self._answered(r, **settings) if hasattr(r, "status_code") else own(self, r)

            cls.__call__ = called  # type: ignore[method-assign]  # calls the one that it takes the place of

    # The object is its own response hook. A bound method would be one more object for a hit to read, where there are very
    # many apps; and one that is bound on each call is a sixth of what a hit costs.
    @overload
    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest: ...
    @overload
    def __call__(self, r: requests.Response, **settings: Any) -> requests.Response: ...
    def __call__(self, r: Any, **settings: Any) -> Any:
        # What app.ready() does for a Bearer token, without its frame, and past CaseInsensitiveDict's methods: a header
        # that is not there is found out by an exception, which alone costs more than all of this. Whatever is not as
        # requests makes a request (headers of another type, no URL; or an answer, which has no body) goes on below.
        app = self.app
        try:
            fields, now, body = r.headers._store, app._now, r.body
            if (
                app._look_at > now()
                and (authorization := app._authorization)
                and r.url.startswith(app._prefixes)
                and "authorization" not in fields
                and (body is None or isinstance(body, (bytes, str)))  # a tuple: a union is built on each call
            ):
                r.hooks["response"].append(self)
                fields["authorization"] = ("Authorization", authorization)
                return r
        except AttributeError:
            pass
        return self._answered(r, **settings) if hasattr(r, "status_code") else super().__call__(r)
