"""The canonical form of an org's URL, and common mistakes and placeholders in it.

Invariant: an accepted URL consists of a scheme, a host and an optional port. No error shows text that may be a
password.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from ..errors import ConfigurationError
from .origins import is_loopback, origin_of

# Okta's own domains. Only in these does "-admin" mean the Admin Console; a custom domain's name may end with it.
_OKTA_DOMAINS = (
    ".okta.com",
    ".oktapreview.com",
    ".okta-emea.com",
    ".okta-gov.com",
    ".okta.mil",
    ".okta-miltest.com",
    ".trex-govcloud.com",
)
_PLACEHOLDER = r"(?:\$|(?<!\{))\{+[^{}]*\}+|<[^<>]*>|\$\([^()]*\)|%\w+%"
_YOUR_DOMAIN = r"(?i)your-?_?okta-?_?domain"
_CUSTOM_SERVER_PATH = r"oauth2/(?!v1(?:/|$))([A-Za-z0-9_-]+)(?:/|$)"
_EXAMPLE = 'Write it as "https://acme.okta.com", with your org\'s host.'


def find_placeholder(text: str) -> str | None:
    """The first placeholder from a template or a documentation page in a value, such as ``{clientId}``."""
    found = re.search(_PLACEHOLDER, text)
    return None if found is None else found.group()


def custom_server(token_endpoint: str) -> str:
    """The id of the custom authorization server with this token endpoint; empty for the org authorization server."""
    found = re.search(_CUSTOM_SERVER_PATH, token_endpoint)
    return "" if found is None else found.group(1)


def check_org_url(url: str) -> str:
    """An org's URL in its canonical form: ``https://acme.okta.com``, in lower case, without a slash or a default port.

    The client assertion's ``aud`` is made from this URL, and Okta compares it character by character. So this function
    refuses anything except scheme, host and port. Like Okta's SDKs (``config_validator.py`` of the Python SDK), it also
    refuses plain HTTP, placeholders, the Admin Console's host and ``.com.com``. Plain HTTP is accepted only for a loopback host.

    - ``url``: the URL as the user wrote it.

    Raises :class:`~okta_m2m.errors.ConfigurationError`, which names the URL that was probably meant, if that is clear.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"The org URL is of type {type(url).__name__}, not a string.", remedy=_EXAMPLE)
    text = url.strip()
    if not text:
        raise ConfigurationError("The org URL is empty.", remedy=_EXAMPLE)
    origin = _read_origin(text)
    meant = _correct(text)
    host = urlsplit(origin).hostname or ""
    if urlsplit(meant).hostname != host:
        what = "the host of the Admin Console" if "-admin." in host else 'a host that ends in ".com.com"'
        raise ConfigurationError(f'The org URL "{origin}" has {what}.', remedy=f'Write "{meant}".')
    if origin.startswith("http://") and not is_loopback(host):
        raise ConfigurationError(
            f'The org URL "{origin}" is plain HTTP, which Okta does not accept.', remedy=f'Write "{meant}".'
        )
    if "?" in text or "#" in text:
        raise ConfigurationError("The org URL has a query or a fragment after its host.", remedy=f'Write "{origin}".')
    path = urlsplit(text).path.strip("/")
    if path:
        custom = re.match(_CUSTOM_SERVER_PATH, path)
        server = f' and authorization_server="{custom.group(1)}" (OKTA_CLIENT_AUTHORIZATIONSERVER)' if custom else ""
        raise ConfigurationError("The org URL has a path after its host.", remedy=f'Write "{origin}"{server}.')
    return origin


def _read_origin(text: str) -> str:
    """Scheme, host and port of a URL that has a scheme and that all clients read the same way."""
    scheme, separator, rest = text.partition("://")
    if "@" in re.split(r"[/?#\\]", rest if separator else text, maxsplit=1)[0]:
        # The text before an "@" may be a password, so this message does not repeat the URL.
        raise ConfigurationError("The org URL has a user name or password before its host.", remedy=_EXAMPLE)
    your_domain = re.search(_YOUR_DOMAIN, text)
    placeholder = find_placeholder(text) or (your_domain and your_domain.group())
    if placeholder:
        # If an "@" follows, this text may be part of a password that contains a slash.
        what = "a placeholder" if "@" in text else f"the placeholder {placeholder!r}"
        raise ConfigurationError(f"The org URL still contains {what}.", remedy=_EXAMPLE)
    if not separator:
        if origin_of(f"https://{text}") is not None:
            raise ConfigurationError("The org URL has no scheme.", remedy=f'Write "{_correct(f"https://{text}")}".')
        raise ConfigurationError("The org URL has no scheme.", remedy=_EXAMPLE)
    if "://" in rest:
        raise ConfigurationError('The org URL contains "://" twice.', remedy=_EXAMPLE)
    if scheme.lower() not in ("https", "http"):
        raise ConfigurationError("The org URL does not begin with https://.", remedy=_EXAMPLE)
    origin = origin_of(text)
    if origin is None:
        raise ConfigurationError("The org URL is not a URL that all HTTP clients read the same way.", remedy=_EXAMPLE)
    return origin


def _correct(url: str) -> str:
    """The org URL that was probably meant: https, without ``-admin`` at Okta's domains, and without ``.com.com``."""
    parts = urlsplit(origin_of(url) or url)
    host = parts.hostname or ""
    correct_host = re.sub(r"(\.com){2,}$", ".com", host)
    if correct_host.endswith(_OKTA_DOMAINS):
        label, dot, domain = correct_host.partition(".")
        correct_host = label.removesuffix("-admin") + dot + domain
    scheme = "http" if parts.scheme == "http" and is_loopback(host) else "https"
    netloc = parts.netloc.replace(host, correct_host, 1)
    if parts.scheme != scheme:
        netloc = netloc.removesuffix(f":{parts.port}")
    return f"{scheme}://{netloc}"
