"""``session.auth = OktaAuth(app)`` for requests.

Invariant: no policy here, and little except the library's names. The code is in ``_clients/requests_flows.py``.
"""

from __future__ import annotations

from typing import Any

from ._clients.auth_object import missing_library
from ._clients.requests_flows import Library, SessionAuth
from ._clients.ssl_contexts import shared_context

try:
    import requests
    import urllib3
    from requests.adapters import HTTPAdapter
    from requests.auth import AuthBase
    from urllib3.util import create_urllib3_context
except ModuleNotFoundError as missing:
    raise missing_library("requests", missing) from None

__all__ = ["OktaAuth"]


class _TokenAdapter(HTTPAdapter):
    """Sends a token request with an SSL context that all of them share. requests loads a CA bundle for each connection."""

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]  # requests annotates no types here
        if conn.ca_certs and conn.proxy is None:  # a proxy with TLS is verified with the pool's own bundle
            conn.conn_kw["ssl_context"] = shared_context(create_urllib3_context, conn.ca_certs)
            conn.ca_certs = None


def _token_session() -> requests.Session:
    session = requests.Session()
    session.mount("https://", _TokenAdapter())
    return session


LIBRARY = Library(requests, urllib3, requests.sessions.SessionRedirectMixin(), _token_session)


class OktaAuth(SessionAuth[requests.PreparedRequest, requests.Response, requests.Session], AuthBase):
    """Adds the app's token to every request of a session, or to one request: ``requests.get(url, auth=OktaAuth(app))``.

    - ``app``: the :class:`~okta_m2m.ServiceApp`.
    - ``session``: a ``Session``, or a function that makes one. The token request uses its proxies, CA, client certificate
      and adapters. Default ``None``: a short-lived session with the settings of the environment.
    - ``send``: sends the token request instead (:data:`okta_m2m.runtimes.Sender`). Default ``None``.
    - ``replaces``: a placeholder, such as ``"unused"``. A call with the header ``Authorization: Bearer unused`` gets the token
      instead, at allowed origins only. For a library that cannot make a call without an API key. Default ``None``: each
      ``Authorization`` header of the caller is kept.

    If a call cannot get a token, it raises an :class:`~okta_m2m.errors.OktaM2MError`. This is also a
    ``requests.RequestException``, and a ``requests.ConnectionError`` if the token endpoint was not reached.
    """

    __slots__ = ()

    _for = "requests"
    _library = LIBRARY

    def __call__(self, r: requests.PreparedRequest, handler: object = None) -> requests.PreparedRequest:
        # aiohttp would pass ``handler``. It exists so that the error below can say that this is not aiohttp's
        # middleware. The hit does the same as app.ready() for a Bearer token, without its frame and without
        # CaseInsensitiveDict's methods, which raise and catch an exception for a missing header. Together, these would
        # cost twice as much as the hit (benchmarks/hits.py). A request that requests did not build (headers of another
        # type, no URL) takes the slow path.
        hit = self._hit
        request: Any = r
        try:
            in_memory = request.body is None or isinstance(request.body, (bytes, str))
            is_fresh = in_memory and hit.fresh_until > hit.now() and request.url.startswith(hit.prefixes)
            if is_fresh and "authorization" not in request.headers._store and (authorization := hit.authorization):
                request.hooks["response"].append(self._hook)
                request.headers._store["authorization"] = ("Authorization", authorization)
                return r
        except AttributeError:
            pass
        return super().__call__(r)
