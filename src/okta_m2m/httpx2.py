"""``httpx2.Client(auth=OktaAuth(app))`` for httpx2, and ``AsyncClient`` under asyncio and trio.

Invariant: no policy in here, and nothing but the library's names. What is done is done in ``_clients/httpx_flows.py``, for
httpx too.
"""

from __future__ import annotations

from ._clients.auth_object import missing_library
from ._clients.httpx_flows import Flows, Library

try:
    import httpx2
except ModuleNotFoundError as missing:
    raise missing_library("httpx2", missing) from None

__all__ = ["OktaAuth"]


class OktaAuth(Flows[httpx2.Request, httpx2.Response, "httpx2.Client | httpx2.AsyncClient"], httpx2.Auth):
    """Gives every request of a client, or a single one, the app's token: ``httpx2.get(url, auth=OktaAuth(app))``.

    - ``client``: whose proxies, CA, client certificate and transports the token request uses, a ``Client`` or an
      ``AsyncClient`` like the one that makes the calls, without response event hooks; by default a short-lived one with
      those of the environment.
    - ``send``: sends the token request instead; awaitable for an ``AsyncClient``.

    A call raises the :class:`~okta_m2m.errors.OktaM2MError` that kept it from getting a token; it is an
    ``httpx2.HTTPError`` too, and an ``httpx2.TransportError`` where the token endpoint was not reached.
    """

    _for = "httpx2"
    _library = Library(httpx2)
