"""The settings that HTTP clients read from the environment. The doctor checks the connection to Okta as the chosen client
would make it.

Invariant: this checks the client's defaults, not a CA bundle or a proxy that a program passes in code. No session uses a
proxy to plain http on this machine.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import certifi
import requests
from requests.utils import get_environ_proxies

from .._clients.proxies import is_direct_only
from ..errors import ConfigurationError

__all__ = ["CaBundle", "Client", "check_client", "client_bundle", "client_session"]

Client = Literal["requests", "httpx", "httpx2", "aiohttp", "niquests"]
"""An HTTP client that this package supports."""

_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "requests": ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    "niquests": ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    "httpx": ("SSL_CERT_FILE", "SSL_CERT_DIR"),
    "httpx2": ("SSL_CERT_FILE", "SSL_CERT_DIR"),
    "aiohttp": ("SSL_CERT_FILE", "SSL_CERT_DIR"),
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
    """A session with the same trusted certificates, and the same proxy for ``url``, as the client. Plain http on this
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
