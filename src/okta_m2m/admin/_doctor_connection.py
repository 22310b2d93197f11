"""The doctor's rows about the connection to Okta: name, proxy, TCP, TLS, the authorization server's metadata, and its
clock.

Invariant: nothing signs in, and a proxy is shown without its password.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import requests
from requests.utils import select_proxy

from .. import ServiceApp
from .._base.clocks import http_date
from .._core.answers import json_object
from ..errors import quoted
from ..requests import LIBRARY
from ._doctor_clients import CaBundle
from ._doctor_rows import Check, Kind, unreachable_row

__all__ = ["CONNECTION_ROWS", "Connection", "check_clock"]

CONNECTION_ROWS: Final = ("name look-up", "proxy", "TCP", "TLS", "discovery")
"""The names of the rows of :meth:`Connection.checks`."""

CLOCK_WARNING: Final = 5.0
"""Seconds by which this machine's clock may differ from Okta's without a warning."""

CLOCK_FAILURE: Final = 300.0
"""If the clocks differ by more seconds than this, other software cannot sign in from here, because Okta refuses a DPoP proof
of this age."""

MAX_METADATA: Final = 1 << 16
"""The maximum number of bytes that are read of the metadata. Okta's has about 4,000."""

_UNREADABLE: Final = "with an unreadable URL"

_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


class Connection:
    """The connection from this machine to an app's org.

    - ``session``: the session whose proxies, CA bundle and adapters are used.
    - ``bundle``: the CA bundle that the client reads.
    - ``app``: the app, with its org and authorization server.
    - ``timeout``: seconds for each response.
    """

    def __init__(self, session: requests.Session, bundle: CaBundle, app: ServiceApp, timeout: float) -> None:
        self.metadata: requests.Response | None = None
        self._session = session
        self._bundle = bundle
        self._app = app
        self._timeout = timeout
        settings = session.merge_environment_settings(app.org_url, {}, None, None, None)
        self._proxy = select_proxy(app.org_url, settings["proxies"])

    def checks(self) -> Iterator[Check]:
        """A row for each of :data:`CONNECTION_ROWS`, up to the one that fails. Afterwards, ``metadata`` is the response,
        if there was one."""
        shown = _without_password(self._proxy) if self._proxy else ""
        for check in (self._check_name, self._check_proxy, self._check_tcp):
            row = check(shown)
            yield row
            if row.state == "fail":
                return
        yield from self._check_answer()

    def _check_name(self, proxy: str) -> Check:
        name = "name look-up"
        if proxy:
            return Check(name, "skipped", f"done by the proxy {proxy}", "", Kind.UNREACHABLE)
        parts = urlsplit(self._app.org_url)
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

    def _check_proxy(self, proxy: str) -> Check:
        name = "proxy"
        if not proxy:
            return Check(name, "ok", "none", "", Kind.UNREACHABLE)
        if proxy == _UNREADABLE:
            return unreachable_row(
                name,
                "the URL of the proxy cannot be read",
                "Write it as http://user:password@host:port, and percent-encode everything in the password except letters "
                "and digits.",
            )
        problem = _connect(str(self._proxy), self._timeout)
        if problem:
            remedy = "Check HTTPS_PROXY and NO_PROXY, and that the proxy is running."
            return unreachable_row(name, f"{proxy} cannot be reached: {problem}", remedy)
        return Check(name, "ok", proxy, "", Kind.UNREACHABLE)

    def _check_tcp(self, proxy: str) -> Check:
        name = "TCP"
        if proxy:
            return Check(name, "skipped", f"done by the proxy {proxy}", "", Kind.UNREACHABLE)
        parts = urlsplit(self._app.org_url)
        where = f"{parts.hostname}:{parts.port or _DEFAULT_PORTS[parts.scheme]}"
        problem = _connect(self._app.org_url, self._timeout)
        if problem:
            return unreachable_row(
                name,
                f"{where} cannot be reached: {problem}",
                "Check the org URL and its port, and the network and firewall between this machine and Okta. Behind a proxy, "
                "set HTTPS_PROXY.",
            )
        return Check(name, "ok", f"{where} accepts connections", "", Kind.UNREACHABLE)

    def _check_answer(self) -> Iterator[Check]:
        # The issuer is a custom authorization server or the org itself, and its metadata is below it.
        issuer = self._app.token_endpoint.removesuffix("/v1/token").removesuffix("/oauth2")
        url = f"{issuer}/.well-known/oauth-authorization-server"
        host = urlsplit(url).hostname
        encrypted = url.startswith("https://")
        if encrypted and not Path(self._bundle.path).exists():
            yield unreachable_row("TLS", f"{self._bundle} does not exist", "Correct the path, or remove that setting.")
            return
        tls = Check("TLS", "skipped", "plain http on this machine", "", Kind.UNREACHABLE)
        if encrypted:
            tls = Check("TLS", "ok", f"the certificate of {host} is trusted", "", Kind.UNREACHABLE)
        try:
            # With an auth that does nothing, requests does not use the credentials of a .netrc.
            response = self._session.get(
                url,
                headers={"Accept-Encoding": "identity"},
                timeout=self._timeout,
                allow_redirects=False,
                auth=lambda request: request,
                stream=True,
            )
        except requests.exceptions.ProxyError:
            yield unreachable_row(
                "TLS", "the proxy rejects the request", "Check HTTPS_PROXY and NO_PROXY, and the proxy."
            )
        except requests.exceptions.SSLError as error:
            detail = f"the certificate of {host} is not trusted ({quoted(_root_cause(error), 160)})"
            yield unreachable_row("TLS", f"{detail}; the trusted CAs come from {self._bundle}", self._bundle.remedy)
        except requests.RequestException as error:
            connected = not encrypted or isinstance(error, requests.ReadTimeout)
            if connected:
                yield tls
            yield unreachable_row(
                "discovery" if connected else "TLS",
                f"{urlsplit(url).netloc} does not respond ({type(error).__name__})",
                "Check the network, firewall and proxy between this machine and Okta, and Okta's status page.",
            )
        except OSError as error:  # requests' own error for a CA bundle that cannot be read
            yield unreachable_row("TLS", f"{self._bundle} cannot be read ({type(error).__name__})", self._bundle.remedy)
        else:
            self.metadata = response
            yield tls
            with response:
                yield _check_metadata(self._app, response)


def _connect(url: str, timeout: float) -> str:
    """The reason why no TCP connection to a URL's host is possible; empty if there is a connection."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        socket.create_connection(
            (parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 80)), timeout
        ).close()
    except ConnectionRefusedError:
        return "the connection is refused"
    except TimeoutError:
        return f"no response within {timeout:g} s"
    except OSError as error:
        return quoted(error.strerror or error, 100)
    return ""


def _check_metadata(app: ServiceApp, response: requests.Response) -> Check:
    name = "discovery"
    document = json_object(LIBRARY.peek(response, MAX_METADATA))
    if response.status_code != 200 or "token_endpoint" not in document:
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
    """Compares this machine's clock with the ``Date`` of a response that was just received."""
    name = "clock"
    okta_time = http_date(response.headers.get("Date"))
    if okta_time is None:
        return Check(name, "skipped", "Okta's response has no Date", "", Kind.CLOCK)
    # Date is truncated to whole seconds; half a second is the best guess at the missing part.
    ahead = time.time() - okta_time - 0.5
    if abs(ahead) <= CLOCK_WARNING:
        return Check(name, "ok", "the clock matches Okta's", "", Kind.CLOCK)
    return Check(
        name,
        "fail" if abs(ahead) > CLOCK_FAILURE else "warn",
        f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} Okta",
        "Set this machine's clock (NTP). okta-m2m itself uses Okta's time, but other software does not.",
        Kind.CLOCK,
    )


def _without_password(proxy: str) -> str:
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return _UNREADABLE
    if "@" in parts.path + parts.query + parts.fragment:
        return _UNREADABLE  # a password with an unescaped / ? or # makes the other parts unreliable
    return f"{parts.scheme}://{parts.hostname}{port}"


def _root_cause(error: BaseException) -> str:
    for _ in range(20):  # an exception may be its own cause
        cause = error.__cause__ or error.__context__
        if cause is None:
            break
        error = cause
    return str(error)
