"""Refuses a client that does not verify servers, for an app with ``profile="fapi"``. Each library shows something else of its
settings, some before a call and some after it: docs/fapi.md.
"""

from __future__ import annotations

from ssl import OPENSSL_VERSION_INFO, TLSVersion
from types import MappingProxyType
from typing import Any, Final

from ..errors import ConfigurationError, ErrorMap

REFUSES_ALL: Final = "This auth object refuses all calls from now on."
"""What follows a call whose token was sent before the client showed that it does not verify."""

OLD_TLS_NEEDS_LEVEL_0: Final = OPENSSL_VERSION_INFO >= (3, 1)
"""OpenSSL 3.1 and newer offer TLS 1.0 and 1.1 at security level 0 only. 3.0 announced it, but did so only for signatures (openssl
issue 18194)."""

_NOTHING: Final[ErrorMap] = MappingProxyType({})


def check_verified(profile: str | None, is_verified: object, error_map: ErrorMap = _NOTHING, then: str = "") -> None:
    """``profile``: the app's. ``is_verified``: whether the client verifies the server, as far as that is known. ``then``: what
    follows, for the message. Raises :class:`~okta_m2m.errors.ConfigurationError`: with an ``error_map``, for a call, as an
    exception of the client's library."""
    if profile is not None and not is_verified:
        raise ConfigurationError(
            f"The client does not verify the server with TLS 1.2 or newer, which the profile fapi requires. {then}".rstrip(),
            remedy="Remove verify=False, ssl=False or the SSL context from the client. For your own CA, pass its file or an "
            "ssl.create_default_context(cafile=...).",
        ).as_library_error(error_map)


def is_verifying(context: Any) -> bool:
    """Whether an SSL context verifies the certificate and the name of servers, and allows no TLS older than 1.2. A context that
    checks names also verifies certificates: Python refuses ``CERT_NONE`` with ``check_hostname``. The Python of Debian sets no
    minimum version: there, the security level excludes older ones."""
    if not context.check_hostname:
        return False
    is_old_excluded = context.minimum_version >= TLSVersion.TLSv1_2
    return bool(is_old_excluded or (OLD_TLS_NEEDS_LEVEL_0 and context.security_level >= 1))
