"""The doctor's rows about the connection to Okta, as the chosen HTTP client would make it: name, proxy, TCP, TLS, the
authorization server's metadata, and its clock.

Invariant: nothing signs in, and a proxy is shown without its password. This checks what a client reads from the environment by
default, not a CA bundle or a proxy that a program passes in code. No session uses a proxy to plain HTTP to localhost.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

import certifi
import requests
from requests.utils import get_environ_proxies, select_proxy

from .. import ServiceApp
from .._base.clocks import http_date
from .._clients.proxies import is_direct_only
from .._core.answers import json_object
from .._threads.deadlines import within
from ..effects import Request, Response, SendFailed
from ..errors import ConfigurationError, quoted
from ..requests import LIBRARY
from ._doctor_rows import CONNECTION_ROWS, NOT_POSSIBLE, Check, Kind, row

Client = Literal["requests", "httpx", "httpx2", "aiohttp", "niquests"]
"""An HTTP client that this package supports."""

_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("requests", "niquests"), ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")),
    **dict.fromkeys(("httpx", "httpx2", "aiohttp"), ("SSL_CERT_FILE", "SSL_CERT_DIR")),
}


@dataclass(frozen=True, slots=True)
class CaBundle:
    """The certificates that a client trusts.

    - ``client``: the client.
    - ``path``: a file or folder.
    - ``variable``: the environment variable that names it; empty if none does.
    """

    client: Client
    path: str
    variable: str

    @property
    def remedy(self) -> str:
        """What to do if a certificate is not trusted."""
        reads = _VARIABLES[self.client]
        unread = next(
            (name for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE") if name not in reads and os.environ.get(name)), ""
        )
        remedy = (
            f"If your proxy inspects TLS, set {reads[0]} to its CA bundle. If it does not, this server is not Okta."
        )
        return remedy + (f" {unread} is set, but {self.client} does not read it." if unread else "")

    def __str__(self) -> str:
        return f"{self.variable}={self.path}" if self.variable else f"the bundle of {self.client}"


CLOCK_WARNING: Final = 5.0
"""Seconds by which this machine's clock may differ from Okta's without a warning."""

CLOCK_FAILURE: Final = 300.0
"""If the clocks differ by more seconds than this, other software cannot sign in from here, because Okta refuses a DPoP proof
of this age."""

_UNREADABLE: Final = "with an unreadable URL"


def check_client(name: str) -> Client:
    """The client of that name.

    - ``name``: such as ``"requests"``.

    Raises :class:`~okta_m2m.errors.ConfigurationError` if there is no such client.
    """
    clients: dict[str, Client] = {client: client for client in get_args(Client)}
    if name not in clients:
        raise ConfigurationError(f"{name!r} is not a supported client.", remedy=f"Use one of {', '.join(clients)}.")
    return clients[name]


def client_bundle(client: Client) -> CaBundle:
    """The CA bundle that a client reads here."""
    for variable in _VARIABLES[client]:
        if os.environ.get(variable):
            return CaBundle(client, os.environ[variable], variable)
    if client in ("requests", "httpx"):
        return CaBundle(client, certifi.where(), "")
    # The system's bundle: use the compiled-in paths, because the others follow SSL_CERT_FILE. On Windows and macOS, it is
    # not in a file.
    system = ssl.get_default_verify_paths()
    found = next(
        (path for path in (system.openssl_cafile, system.openssl_capath) if Path(path).exists()), certifi.where()
    )
    return CaBundle(client, found, "")


def client_session(client: Client, make: Callable[[], requests.Session], url: str) -> requests.Session:
    """A session with the same trusted certificates, and the same proxy for ``url``, as the client. Plain HTTP on this
    machine is reached without a proxy, as by our own requests: a proxy could read the token."""
    session = make()
    if client != "requests":
        session.trust_env = False
        session.verify = client_bundle(client).path
        # aiohttp reads no proxy from the environment, unless a session is made with trust_env=True.
        session.proxies = {} if client == "aiohttp" else dict(get_environ_proxies(url))
    if is_direct_only(url):
        session.trust_env, session.proxies = False, {}
    return session


def check_connection(
    session: requests.Session, bundle: CaBundle, app: ServiceApp, timeout: float
) -> Generator[Check, None, bool]:
    """Requests the metadata of an app's authorization server, and yields a row for each of :data:`CONNECTION_ROWS`. Returns
    whether there was a response.

    - ``session``: the session whose proxies, CA bundle and adapters are used.
    - ``timeout``: seconds for the response.
    """
    # The issuer is a custom authorization server or the org itself, and its metadata is below it.
    issuer = app.token_endpoint.removesuffix("/v1/token").removesuffix("/oauth2")
    request = Request("GET", f"{issuer}/.well-known/oauth-authorization-server", {"Accept-Encoding": "identity"})
    org = urlsplit(app.org_url)
    proxy = select_proxy(app.org_url, session.merge_environment_settings(app.org_url, {}, None, None, None)["proxies"])
    shown = _without_password(proxy) if proxy else ""
    passed = [
        row("DNS", "ok", f"{org.hostname} can be resolved"),
        row("proxy", "ok", shown or "none"),
        row("TCP", "ok", f"{org.netloc} accepts connections"),
        row("TLS", "ok", f"the certificate of {org.hostname} is trusted"),
    ]
    if shown:
        passed[0], passed[2] = (row(name, "skipped", f"done by the proxy {shown}") for name in ("DNS", "TCP"))
    if org.scheme == "http":
        passed[3] = row("TLS", "skipped", "plain HTTP to localhost")
    response: Response | None = None
    if org.scheme == "https" and not Path(bundle.path).exists():
        last = row("TLS", "fail", f"{bundle} does not exist", "Correct the path, or remove that setting.")
        passed = [row(name, "skipped", "not possible without the CA bundle") for name in CONNECTION_ROWS[:3]]
    elif shown == _UNREADABLE:
        remedy = (
            "Write it as http://user:password@host:port, and percent-encode everything in the password except letters and "
            "digits."
        )
        last = row("proxy", "fail", "the URL of the proxy cannot be read", remedy)
    else:
        try:
            response = within(timeout, partial(LIBRARY.send, session, request, timeout), SendFailed)
            last = _check_metadata(app, response)
        except SendFailed as error:
            last = _failed_row(error, shown, bundle, encrypted=org.scheme == "https")
    position = CONNECTION_ROWS.index(last.name)
    yield from passed[:position]
    yield last
    yield from (row(name, "skipped", NOT_POSSIBLE) for name in CONNECTION_ROWS[position + 1 : -1])
    yield row("clock", "skipped", NOT_POSSIBLE) if response is None else _check_clock(response)
    return response is not None


def _failed_row(error: SendFailed, proxy: str, bundle: CaBundle, *, encrypted: bool) -> Check:
    """The row for the stage that failed, whose reason is in the error."""
    reason = quoted(error, 200)
    if error.stage == "name":
        remedy = "Check the spelling of the org URL, and this machine's DNS. Behind a proxy, set HTTPS_PROXY."
        return row("DNS", "fail", reason, remedy)
    if error.stage == "proxy":
        remedy = "Check HTTPS_PROXY and NO_PROXY, and that the proxy is running and lets this machine through."
        return row("proxy", "fail", f"{proxy}: {reason}", remedy)
    if error.stage == "tcp":
        remedy = "Check the org URL and its port, and the network and firewall between this machine and Okta. Behind a proxy, "
        return row("TCP", "fail", reason, f"{remedy}set HTTPS_PROXY.")
    if error.stage == "tls" and "not valid for" in reason:
        remedy = "Check the host name in the org URL: the certificate there is for other names."
        return row("TLS", "fail", reason, remedy)
    if error.stage == "tls" and not error.permanent:
        return row("TLS", "fail", reason, "Check the port in the org URL: this is not how TLS answers.")
    if error.stage == "tls":
        return row("TLS", "fail", f"{reason}; the trusted CAs come from {bundle}", bundle.remedy)
    # A response that comes too late, or is not accepted, came through TLS.
    is_connected = not encrypted or error.__cause__ is None or isinstance(error.__cause__, requests.ReadTimeout)
    remedy = "Check the network, firewall and proxy between this machine and Okta, and Okta's status page."
    return row("discovery" if is_connected else "TLS", "fail", reason, remedy)


def _check_metadata(app: ServiceApp, response: Response) -> Check:
    name = "discovery"
    document = json_object(response.body)
    if response.status != 200 or "token_endpoint" not in document:
        detail = f"HTTP {response.status} instead of an authorization server's metadata"
        remedy = "Check the org URL, the id of the custom authorization server if there is one, and for a login page in between."
        return row(name, "fail", detail, remedy)
    endpoint = document["token_endpoint"]
    if endpoint != app.token_endpoint:
        detail = f"Okta's token endpoint is {quoted(endpoint, 150)}, but {app.token_endpoint} is used"
        remedy = "If the token request is refused, use the org URL that Okta itself uses."
        return row(name, "warn", detail, remedy, Kind.CONFIGURATION)
    return row(name, "ok", f"issuer {quoted(document.get('issuer'), 150)}")


def _check_clock(response: Response) -> Check:
    """Compares this machine's clock with the ``Date`` of a response that was just received."""
    name = "clock"
    okta_time = http_date(response.get("Date"))
    if okta_time is None:
        return row(name, "skipped", "Okta's response has no Date")
    # Date is truncated to whole seconds; half a second is the best guess at the missing part.
    ahead = time.time() - okta_time - 0.5
    if abs(ahead) <= CLOCK_WARNING:
        return row(name, "ok", "the clock matches Okta's")
    detail = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} Okta"
    remedy = "Set this machine's clock (NTP). okta-m2m itself uses Okta's time, but other software does not."
    return row(name, "fail" if abs(ahead) > CLOCK_FAILURE else "warn", detail, remedy)


def _without_password(proxy: str) -> str:
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return _UNREADABLE
    if "@" in parts.path + parts.query + parts.fragment:
        return _UNREADABLE  # a password with an unescaped / ? or # makes the other parts unreliable
    return f"{parts.scheme}://{parts.hostname}{port}"
