"""Keeps tokens and assertions for a plain-http loopback origin away from a proxy, which could read them.

Our own requests never use a proxy there. For the caller's calls, only aiohttp shows whether a proxy is used. For the
other libraries, a warning gives the remedy if the environment sets a proxy.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from .._core.service_app import ServiceApp
from .._urls.origins import is_loopback, origin_of

__all__ = ["is_direct_only", "report_proxy_of_call", "warn_of_environments_proxy"]

logger = logging.getLogger("okta_m2m")

REMEDY: Final = "Add its host to NO_PROXY, or use https."


def is_direct_only(url: str) -> bool:
    """Whether a URL is plain http on this machine."""
    if not url.startswith("http://"):
        return False
    return is_loopback(urlsplit(url).hostname or "")


def report_proxy_of_call(url: str) -> None:
    """Reports, once per origin, that a call got no token because it goes through a proxy."""
    _report(origin_of(url))


@lru_cache(maxsize=128)
def _report(origin: str | None) -> None:
    logger.warning("no token sent to %s: the call goes through a proxy, which could read it. %s", origin, REMEDY)


def warn_of_environments_proxy(app: ServiceApp) -> None:
    """Warns if the environment sets a proxy for a plain-http origin of an app, because the client does not show what
    it uses. Do not call it for a client that ignores the environment."""
    for prefix in app.origins.prefixes:
        if is_direct_only(prefix):
            from urllib.request import getproxies, proxy_bypass  # only for URLs on this machine

            proxies = getproxies()
            if (proxies.get("http") or proxies.get("all")) and not proxy_bypass(urlsplit(prefix).netloc):
                logger.warning(
                    "the environment sets a proxy for %s, which could read the token of each call. %s",
                    prefix.rstrip("/"),
                    REMEDY,
                )
