"""A local MCP server that passes each call on to a remote one, as a service app."""

import os

from fastmcp import Client, FastMCP
from fastmcp.server import create_proxy

from okta_m2m import ServiceApp
from okta_m2m.httpx2 import OktaAuth


def gateway(app: ServiceApp, url: str) -> FastMCP:
    return create_proxy(Client(url, auth=OktaAuth(app)), name="gateway")


if __name__ == "__main__":
    gateway(ServiceApp.from_env(), os.environ["MCP_SERVER"]).run(show_banner=False)
