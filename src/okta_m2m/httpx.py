"""``httpx.Client(auth=OktaAuth(app))`` for httpx, and ``AsyncClient`` under asyncio and trio.

Invariant: no policy here, only the library's names. The code is in ``_clients/httpx_flows.py``, for httpx2 too.
"""

from __future__ import annotations

from ._clients.auth_object import missing_library
from ._clients.httpx_flows import ClientAuth, Library

try:
    import httpx
except ModuleNotFoundError as missing:
    raise missing_library("httpx", missing) from None

__all__ = ["OktaAuth"]


class OktaAuth(ClientAuth[httpx.Request, httpx.Response, "httpx.Client"], httpx.Auth):
    """Adds the app's token to every request of a client, or to one request: ``httpx.get(url, auth=OktaAuth(app))``.

    - ``app``: the :class:`~okta_m2m.ServiceApp`.
    - ``client``: the token request uses its proxies, CA, client certificate and transports. A ``Client`` without response
      event hooks, or a function that makes one, also for an ``AsyncClient``: token requests are sent from threads. Default
      ``None``: a short-lived client with the settings of the environment.
    - ``send``: sends the token request instead (:data:`okta_m2m.runtimes.Sender`). Default ``None``.
    - ``replaces``: a placeholder, such as ``"unused"``. A call with the header ``Authorization: Bearer unused`` gets the token
      instead, at allowed origins only. For a library that cannot make a call without an API key. Default ``None``: each
      ``Authorization`` header of the caller is kept.

    If a call cannot get a token, it raises an :class:`~okta_m2m.errors.OktaM2MError`. This is also an
    ``httpx.HTTPError``, and an ``httpx.TransportError`` if the token endpoint was not reached.
    """

    _for = "httpx"
    _library = Library(httpx)
