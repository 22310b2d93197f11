"""``session.auth = OktaAuth(app)`` for requests.

Invariant: no policy in here, and little but the library's names: what is done is done in ``_clients/requests_flows.py``.
"""

from __future__ import annotations

from typing import Any

from ._clients.auth_object import missing_library
from ._clients.requests_flows import Flows, Library

try:
    import requests
    import urllib3
    from requests.auth import AuthBase
except ModuleNotFoundError as missing:
    raise missing_library("requests", missing) from None

__all__ = ["OktaAuth"]

LIBRARY = Library(requests, urllib3, requests.sessions.SessionRedirectMixin())


class OktaAuth(Flows[requests.PreparedRequest, requests.Response, requests.Session], AuthBase):
    """Gives every request of a session, or a single one, the app's token: ``requests.get(url, auth=OktaAuth(app))``.

    - ``session``: whose proxies, CA, client certificate and adapters the token request uses; by default a short-lived
      session with those of the environment.
    - ``send``: sends the token request instead.

    A call raises the :class:`~okta_m2m.errors.OktaM2MError` that kept it from getting a token; it is a
    ``requests.RequestException`` too, and a ``requests.ConnectionError`` where the token endpoint was not reached.
    """

    __slots__ = ()

    _for = "requests"
    _library = LIBRARY

    def __call__(self, r: requests.PreparedRequest, handler: object = None) -> requests.PreparedRequest:
        # ``handler`` is what aiohttp adds, whose middleware this is not: it is only there to say so below.
        # What app.ready() does for a Bearer token, without its frame and without CaseInsensitiveDict's methods, which find
        # out by an exception that a header is missing: together twice what a hit costs (benchmarks/hits.py). Whatever is
        # not as requests makes a request (headers of another type, no URL) goes the long way.
        hit = self._hit
        request: Any = r
        try:
            fields, body = request.headers._store, request.body
            if (
                hit.fresh_until > hit.now()
                and (authorization := hit.authorization)
                and request.url.startswith(hit.prefixes)
                and "authorization" not in fields
                and (body is None or isinstance(body, (bytes, str)))  # a tuple: a union is built on each call
            ):
                request.hooks["response"].append(self._hook)
                fields["authorization"] = ("Authorization", authorization)
                return r
        except AttributeError:
            pass
        return super().__call__(r)
