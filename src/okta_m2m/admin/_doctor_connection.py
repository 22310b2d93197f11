"""The doctor's rows about the way to Okta: name, proxy, TLS, the authorization server's metadata, and its clock.

Invariant: nothing is signed in, and a proxy is shown without its password.
"""

from __future__ import annotations

import socket
import time
from typing import Final
from urllib.parse import urlsplit

import requests
from requests.utils import get_environ_proxies, select_proxy

from .. import ServiceApp
from .._core.clocks import http_date
from ..errors import quoted
from ._doctor_rows import Check, Kind, unreachable_row

__all__ = ["CONNECTION_ROWS", "check_clock", "check_connection", "check_name"]

CONNECTION_ROWS: Final = ("proxy", "TLS", "discovery")
"""The names of the rows of :func:`check_connection`."""

CLOCK_WARNING: Final = 5.0
"""Seconds by which this machine's clock may differ from Okta's unnoticed."""

CLOCK_FAILURE: Final = 300.0
"""Seconds beyond which other software that signs in from here fails: the age at which Okta refuses a DPoP proof."""


def check_name(org_url: str) -> Check:
    """Whether the org's host has an address here."""
    name = "name look-up"
    proxy = _proxy(org_url)
    if proxy is not None:
        return Check(name, "skipped", f"left to the proxy {proxy}", "", Kind.UNREACHABLE)
    parts = urlsplit(org_url)
    host = parts.hostname or ""
    try:
        found = socket.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
    except OSError as error:
        return unreachable_row(
            name,
            f"{host} cannot be resolved here ({quoted(error.strerror or error, 100)})",
            "Check the spelling of the org URL, and this machine's DNS. Behind a proxy, set HTTPS_PROXY.",
        )
    return Check(name, "ok", f"{host} is {found[0][4][0]}", "", Kind.UNREACHABLE)


def check_connection(
    session: requests.Session, app: ServiceApp, timeout: float
) -> tuple[list[Check], requests.Response | None]:
    """Asks for the authorization server's metadata (RFC 8414).

    Gives a row for each of :data:`CONNECTION_ROWS` up to the one that failed, and the answer, if one came.
    """
    proxy = _proxy(app.org_url)
    proxy_row = Check("proxy", "ok", proxy or "none", "", Kind.UNREACHABLE)
    # The issuer is a custom authorization server or the org itself, and its metadata is below it.
    issuer = app.token_endpoint.removesuffix("/v1/token").removesuffix("/oauth2")
    url = f"{issuer}/.well-known/oauth-authorization-server"
    host = urlsplit(url).hostname
    try:
        # An auth that does nothing keeps out the sign-in of a .netrc.
        response = session.get(url, timeout=timeout, allow_redirects=False, auth=lambda request: request)
    except requests.exceptions.ProxyError:
        detail, remedy = f"{proxy} does not let the request through", "Check HTTPS_PROXY and NO_PROXY, and the proxy."
        return [unreachable_row("proxy", detail, remedy)], None
    except requests.exceptions.SSLError as error:
        tls = unreachable_row(
            "TLS",
            f"the certificate of {host} is not trusted ({quoted(_root_cause(error), 160)})",
            "If your proxy inspects TLS, name its CA in REQUESTS_CA_BUNDLE. Otherwise this server is not Okta.",
        )
        return [proxy_row, tls], None
    except requests.RequestException as error:
        tls = unreachable_row(
            "TLS",
            f"no connection to {urlsplit(url).netloc} ({type(error).__name__})",
            "Check the network, firewall and proxy between this machine and Okta.",
        )
        return [proxy_row, tls], None
    if app.org_url.startswith("http://"):
        tls = Check("TLS", "skipped", "plain http on this machine", "", Kind.UNREACHABLE)
    else:
        tls = Check("TLS", "ok", f"the certificate of {host} is trusted", "", Kind.UNREACHABLE)
    return [proxy_row, tls, _check_metadata(app, response)], response


def _check_metadata(app: ServiceApp, response: requests.Response) -> Check:
    name = "discovery"
    try:
        document = response.json()
    except ValueError:
        document = None
    if response.status_code != 200 or not isinstance(document, dict) or "token_endpoint" not in document:
        return unreachable_row(
            name,
            f"HTTP {response.status_code} instead of an authorization server's metadata",
            "Check the org URL, the id of the custom authorization server if there is one, and for a login page in "
            "between.",
        )
    endpoint = document["token_endpoint"]
    if endpoint != app.token_endpoint:
        return Check(
            name,
            "warn",
            f"Okta's token endpoint is {quoted(endpoint, 150)}, but {app.token_endpoint} is used",
            "If the token request is refused, use the org URL that Okta itself uses.",
            Kind.CONFIGURATION,
        )
    return Check(name, "ok", f"issuer {quoted(document.get('issuer'), 150)}", "", Kind.UNREACHABLE)


def check_clock(response: requests.Response) -> Check:
    """Compares this machine's clock with the ``Date`` of an answer that was just received."""
    name = "clock"
    okta_time = http_date(response.headers.get("Date"))
    if okta_time is None:
        return Check(name, "skipped", "Okta's answer has no Date", "", Kind.CLOCK)
    # Date is cut to whole seconds; half a second is the best guess at what was cut off.
    ahead = time.time() - okta_time - 0.5
    if abs(ahead) <= CLOCK_WARNING:
        return Check(name, "ok", "matches Okta's", "", Kind.CLOCK)
    return Check(
        name,
        "fail" if abs(ahead) > CLOCK_FAILURE else "warn",
        f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} Okta",
        "Set this machine's clock (NTP). okta-m2m itself uses Okta's time, but other software does not.",
        Kind.CLOCK,
    )


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a URL, without the password that it may hold."""
    proxy = select_proxy(url, get_environ_proxies(url))
    if not proxy:
        return None
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"


def _root_cause(error: BaseException) -> str:
    for _ in range(20):  # an exception may be its own cause
        cause = error.__cause__ or error.__context__
        if cause is None:
            break
        error = cause
    return str(error)
