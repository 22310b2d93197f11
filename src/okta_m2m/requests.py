"""``session.auth = OktaAuth(app)`` for requests.

Invariant: no policy in here, and little but the library's names: what is done is done in ``_requests_flows.py``.
"""

from __future__ import annotations

import requests
import urllib3
from requests.auth import AuthBase

from ._requests_flows import Flows, Library

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

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # What app.ready() does for a Bearer token, without its frame, and past CaseInsensitiveDict's methods: a header
        # that is not there is found out by an exception, which alone costs more than all of this. Whatever is not as
        # requests makes it (headers of another type, no URL) takes the long way below.
        app = self.app
        try:
            fields, now, body = request.headers._store, app._now, request.body  # type: ignore[attr-defined]  # private
            if (
                app._look_at > now()
                and (authorization := app._authorization)
                and request.url.startswith(app._prefixes)  # type: ignore[union-attr]  # None: below
                and "authorization" not in fields
                and (body is None or isinstance(body, (bytes, str)))  # a tuple: a union is built on each call
            ):
                request.hooks["response"].append(self._hook)
                fields["authorization"] = ("Authorization", authorization)
                return request
        except AttributeError:
            pass
        return super().__call__(request)
