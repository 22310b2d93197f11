"""Where a token may be sent: an allow-list of origins (RFC 6454), compared exactly.

Invariant: an origin is allowed only if every client that reads the URL connects to that scheme, host and port. An
ambiguous URL (userinfo; or a backslash, white space or a control character before the path) is not allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from ..errors import ConfigurationError

_AMBIGUOUS = r"[\x00-\x20\x7f\\]"
MAX_HOST = 253
"""Characters in the longest host name (RFC 1035 section 2.3.4). A label has at most 63."""

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = rf"(?=.{{1,{MAX_HOST}}}\Z){_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\]"
_NETLOC = r"(?:\[[^\[\]@]*\]|[^\[\]:@]*)(?::[0-9]*)?"  # no userinfo, and only a port after a bracket
_DEFAULT_PORTS = {"https": 443, "http": 80}
# A WebSocket handshake is an HTTP request.
_SECURE = {"https": "https", "wss": "https", "http": "http", "ws": "http"}


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by name or address. Plain HTTP is allowed only there."""
    if host == "localhost":
        return True
    import ipaddress  # only a loopback address needs it

    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _split(url: str) -> SplitResult | None:
    if re.search(_AMBIGUOUS, url):
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def origin_of(url: str) -> str | None:
    """``scheme://host[:port]`` in lower case, without the default port; ``None`` if the URL is ambiguous."""
    parts = _split(url)
    if parts is None or not re.fullmatch(_NETLOC, parts.netloc):
        return None
    scheme = _SECURE.get(parts.scheme)
    host = (parts.hostname or "").lower()
    if len(host) > MAX_HOST:
        return None
    if not host.isascii():
        try:
            encoded = host.encode("idna")
            if encoded.decode("idna") != host:
                # IDNA 2003 and 2008 give different hosts ("straße"), or drop invisible characters.
                return None
            host = encoded.decode("ascii")
        except UnicodeError:
            return None
    if ":" in host:
        host = f"[{host}]"
    if scheme is None or not re.fullmatch(_HOST, host) or parts.port == 0:
        return None
    if parts.port is None or parts.port == _DEFAULT_PORTS[scheme]:
        # "host:" with an empty port is the default port too (RFC 3986 section 6.2.3).
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{parts.port}"


def path_of(url: str) -> str:
    """The path of a URL that has an origin, without query and fragment."""
    beginning, _, _ = url.partition("#")[0].partition("?")
    _, _, rest = beginning.partition("://")
    _, slash, path = rest.partition("/")
    return slash + path


def as_sent(url: str) -> str:
    """A URL or its path as clients send it: white space, control characters and backslashes percent-encoded."""
    return re.sub(_AMBIGUOUS, lambda found: f"%{ord(found.group()):02X}", url)


class Origins:
    """The origins that a token may be sent to.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for a value that is not an origin, is not https (except for
    loopback), or has a wildcard, which could send the token to an unintended host.
    """

    __slots__ = ("allowed", "prefixes", "schemes")

    allowed: frozenset[str]
    prefixes: tuple[str, ...]
    """The beginnings of all allowed URLs."""
    schemes: dict[str, str]
    """For a URL that is already parsed: each authority that is allowed with only one scheme, and that scheme. Without http on its
    default port, from where clients keep ``Authorization`` on a redirect to https: such a call needs a closer look."""

    def __new__(cls, origins: Iterable[str]) -> Origins:
        if isinstance(origins, str):
            raise ConfigurationError("origins must be a list, not a string.", remedy=f"Write origins=[{origins!r}].")
        return _kept_once(frozenset(_check_origin(origin) for origin in origins))

    def allow(self, url: str) -> bool:
        """Whether a request to ``url`` may carry the token."""
        return self.find(url) is not None

    def find(self, url: str) -> str | None:
        """The allowed origin that a URL belongs to; ``None`` if a request to it may not carry the token."""
        # Most URLs begin with an allowed origin in its normal form, and a slash that closes the authority. These need no
        # parsing, which alone takes a tenth of the time of a signature.
        beginning = url[: max(0, url.find("/", len("https://")))]
        origin = beginning if beginning in self.allowed else origin_of(url)
        return origin if origin in self.allowed else None

    @staticmethod
    def is_same(url: str, other: str) -> bool:
        """Whether two URLs have the same origin; ``False`` if either is ambiguous. Meant for your own adapters."""
        origin = origin_of(url)
        return origin is not None and origin == origin_of(other)


@lru_cache(maxsize=256)  # shared by all apps of an org: a process may have many
def _kept_once(allowed: frozenset[str]) -> Origins:
    made = object.__new__(Origins)
    parts = [origin.partition("://") for origin in sorted(allowed)]
    authorities = [authority for _, _, authority in parts]
    # str.startswith takes the whole tuple at once. The slash closes the authority: without it
    # "https://acme.okta.com@evil.example/" would begin with "https://acme.okta.com".
    made.allowed, made.prefixes = allowed, tuple(f"{origin}/" for origin in sorted(allowed))
    made.schemes = {
        authority: scheme
        for scheme, _, authority in parts
        if authorities.count(authority) == 1 and (scheme == "https" or re.search(r":[0-9]+\Z", authority))
    }
    return made


def _check_origin(text: str) -> str:
    example = 'Write it as "https://api.example.com", with a port if it is not 443.'
    if not isinstance(text, str):
        raise ConfigurationError(
            f"An origin must be a string, not an object of type {type(text).__name__}.", remedy=example
        )
    if "*" in text:
        raise ConfigurationError(
            f"The origin {text!r} has a wildcard, but tokens are sent only to exact origins.", remedy=example
        )
    origin = origin_of(text)
    parts = _split(text)
    if origin is None or parts is None:
        # The text may contain a password ("https://user:secret@host"), so it is not shown here.
        raise ConfigurationError(
            "One of the origins is not valid: an origin is a scheme, a host and a port, and nothing else.",
            remedy=example,
        )
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigurationError(
            f"The origin {origin!r} was given with a path, but an origin has none.", remedy=example
        )
    if origin.startswith("http://") and not is_loopback(parts.hostname or ""):
        raise ConfigurationError(
            f"The origin {origin!r} is plain HTTP, where anyone on the network could read the token.",
            remedy="Use https:// instead.",
        )
    return origin
