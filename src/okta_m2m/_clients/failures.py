"""Explains why there was no response, for every HTTP library: the stage that failed, and the reason in plain words.

The libraries wrap the error of the operating system or of TLS, some of them three times. It is at the end of the chain
of exceptions, so one function works for all libraries. It compares with the standard library's classes; if a library has its own
class (for a proxy, a timeout, a scheme), it compares the class's name, which the libraries share.

Invariant: a reason never shows the password in a proxy's URL, nor a part of it.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from ..effects import SendFailed, Stage

CONNECTING: Final = {"NewConnectionError", "ConnectError", "ClientConnectorError"}
CONNECT_TIMEOUT: Final = {"ConnectTimeout", "ConnectTimeoutError", "ConnectionTimeoutError"}
POOL_TIMEOUT: Final = {"PoolTimeout", "EmptyPoolError"}
BROKEN_OFF: Final = {
    "ChunkedEncodingError",
    "ClientPayloadError",
    "IncompleteRead",
    "ProtocolError",
    "ReadError",
    "RemoteDisconnected",
    "RemoteProtocolError",
    "ServerDisconnectedError",
    "WriteError",
}
NO_URL: Final = {"InvalidProxyURL", "InvalidURL", "InvalidUrlClientError", "LocationParseError"}
UNSUPPORTED: Final = {
    "InvalidSchema",
    "MissingSchema",
    "NonHttpUrlClientError",
    "ProxySchemeUnknown",
    "ProxySchemeUnsupported",
    "UnsupportedProtocol",
}
UNREACHABLE: Final = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}
UNREADABLE: Final = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def send_failed(error: BaseException, url: str, *, by_proxy: bool = False) -> SendFailed:
    """The failure of our own request to ``url``. ``by_proxy``: whether it went through a proxy; not needed if the
    library's errors show that."""
    chain = list(_chain(error))
    names = {kind.__name__ for link in chain for kind in type(link).__mro__}
    by_proxy = by_proxy or any("Proxy" in name for name in names)
    host = "the proxy" if by_proxy else (urlsplit(url).hostname or "the server")
    return (
        _tls(chain, names)
        or _unsupported(chain)
        or _refused_by_proxy(chain)
        or _no_connection(chain, names, host, by_proxy)
        or _no_answer(chain, names)
        or SendFailed(f"{type(chain[-1]).__name__}: {_clean(chain[-1])}".removesuffix(": "))
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and its causes: the library's own exception first, the original one last."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        link = waiting.pop(0)
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        if not isinstance(link, BaseExceptionGroup):  # for several addresses that all failed
            yield link
        waiting += getattr(link, "exceptions", ())
        # Include a hidden context ("from None"): httpcore hides it when it raises an error again.
        waiting.append(link.__cause__ or link.__context__)


def _tls(chain: list[BaseException], names: set[str]) -> SendFailed | None:
    for link in chain:
        # aiohttp's own exception, whose cause is another one
        if isinstance(link, ssl.SSLError) and not hasattr(link, "reason"):
            continue
        if isinstance(link, ssl.SSLCertVerificationError):
            why = link.verify_message
            return SendFailed(f"the certificate is not trusted: {why.rstrip('.')}", stage="tls", permanent=True)
        # urllib3's own comparison of names
        if isinstance(link, ValueError) and type(link).__name__ == "CertificateError":
            return SendFailed(f"the certificate is not trusted: {_clean(link)}", stage="tls", permanent=True)
        if isinstance(link, ssl.SSLError):
            why = (link.reason or str(link)).replace("_", " ").lower()
            if link.library is None or link.library == "SSL":
                return SendFailed(f"TLS failed: {why}", stage="tls")
            return SendFailed(f"the CA bundle or client certificate cannot be read: {why}", stage="tls", permanent=True)
        if isinstance(link, UNREADABLE) and not names & CONNECTING:
            why = f"{link.filename}: {link.strerror}" if link.filename else link.strerror or str(link)
            return SendFailed(f"the CA bundle or client certificate cannot be read: {why}", stage="tls", permanent=True)
    if type(chain[0]) is OSError and chain[0].errno is None:  # requests, for a path that does not exist
        return SendFailed(_clean(chain[0]), stage="tls", permanent=True)
    return None


def _unsupported(chain: list[BaseException]) -> SendFailed | None:
    # The URL parsers of the standard library and of yarl raise a ValueError: "Invalid IPv6 URL", "Port out of range".
    of_parser = type(chain[0]) is ValueError and re.match(r"Invalid (IPv6 )?URL|Port ", str(chain[0]))
    if of_parser or any(type(link).__name__ in NO_URL for link in chain):
        # Its text is not shown: with a "/" in a proxy's password, part of the password is read as the port.
        reason = "the URL of the server or of the proxy cannot be read (percent-encode the proxy's password)"
        return SendFailed(reason, stage="proxy", permanent=True)
    if type(chain[0]) in (ValueError, ImportError, ModuleNotFoundError):  # httpx: a proxy's scheme, or a package for it
        return SendFailed(_clean(chain[0]), stage="proxy", permanent=True)
    for link in chain:
        if type(link).__name__ in UNSUPPORTED:
            return SendFailed(_clean(link), stage="proxy" if "Proxy" in type(link).__name__ else None, permanent=True)
    return None


def _refused_by_proxy(chain: list[BaseException]) -> SendFailed | None:
    for link in chain:
        status = getattr(link, "status", None)
        if "Proxy" in type(link).__name__ and isinstance(status, int):  # aiohttp
            return SendFailed(f"the proxy refused: {status} {getattr(link, 'message', '')}".rstrip(), stage="proxy")
        said = re.search(r"\b[45][0-9][0-9] [A-Z][A-Za-z ]+", str(link)) if type(link) is OSError else None
        if said is not None:  # http.client: "Tunnel connection failed: 407 Proxy Authentication Required"
            return SendFailed(f"the proxy refused: {said[0].strip()}", stage="proxy")
    if type(chain[0]).__name__ == "ProxyError" and type(chain[-1]).__name__ == "ProxyError":  # httpx
        return SendFailed(f"the proxy refused: {_clean(chain[-1])}", stage="proxy")
    return None


def _no_connection(chain: list[BaseException], names: set[str], host: str, by_proxy: bool) -> SendFailed | None:
    whose = "the name of the proxy" if by_proxy else f"the name {host}"
    for link in chain:
        if isinstance(link, socket.gaierror):
            return SendFailed(f"{whose} could not be resolved", stage="proxy" if by_proxy else "name")
    stage: Stage = "proxy" if by_proxy else "tcp"
    for link in chain:
        if isinstance(link, ConnectionRefusedError):
            return SendFailed(f"{host} refused the connection", stage=stage)
        if isinstance(link, OSError) and link.errno in UNREACHABLE:
            return SendFailed(f"{host} cannot be reached: {link.strerror}", stage=stage)
    if names & CONNECT_TIMEOUT or (names & CONNECTING and "TimeoutError" in names):
        return SendFailed(f"connecting to {host} timed out", stage=stage)
    return None


def _no_answer(chain: list[BaseException], names: set[str]) -> SendFailed | None:
    if names & POOL_TIMEOUT:
        return SendFailed("the client's connection pool had no free connection in time")
    if any("Timeout" in name for name in names):
        return SendFailed("the response timed out", stage="http")
    if "RemoteDisconnected" not in names and any(isinstance(link, ConnectionError) for link in chain):
        return SendFailed("the connection was reset", stage="http")
    if names & BROKEN_OFF:
        return SendFailed("the connection was closed before the response was complete", stage="http")
    return None


def _clean(error: BaseException) -> str:
    """An exception's text, without the credentials of a URL in it."""
    return re.sub(r"://.*@", "://***@", str(error)).rstrip(".")
