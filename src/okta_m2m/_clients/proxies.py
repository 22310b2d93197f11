"""Keeps tokens and assertions for a plain-http loopback origin away from a proxy, which could read them.

Our own requests never use a proxy there. For the caller's calls, only aiohttp shows whether a proxy is used. For the
other libraries, a warning gives the remedy if the environment sets a proxy.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from .._core.service_app import ServiceApp
from .._urls.origins import is_loopback


def is_direct_only(url: str) -> bool:
    """Whether a URL is plain HTTP to localhost."""
    if not url.startswith("http://"):
        return False
    return is_loopback(urlsplit(url).hostname or "")


def warn_of_environments_proxy(app: ServiceApp) -> None:
    """Warns if the environment sets a proxy for a plain-http origin of an app, because the client does not show what
    it uses. Do not call it for a client that ignores the environment."""
    for prefix in app.origins.prefixes:
        if is_direct_only(prefix):
            from urllib.request import getproxies, proxy_bypass  # only for URLs on this machine

            proxies = getproxies()
            if (proxies.get("http") or proxies.get("all")) and not proxy_bypass(urlsplit(prefix).netloc):
                app.report_proxy(prefix, is_certain=False)
