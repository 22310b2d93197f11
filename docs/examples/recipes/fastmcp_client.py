"""A FastMCP client that outlives its tokens."""

from fastmcp import Client

from okta_m2m import ServiceApp
from okta_m2m.httpx2 import OktaAuth


def client(app: ServiceApp, url: str) -> Client:
    """``app`` has the origin of ``url`` among its ``origins``."""
    return Client(url, auth=OktaAuth(app))
