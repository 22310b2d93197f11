"""Refuses a client that does not verify servers, for an app with ``profile="fapi"``. Each library shows something else of its
settings, some before a call and some after it: docs/fapi.md.
"""

from __future__ import annotations

from ssl import TLSVersion
from types import MappingProxyType
from typing import Any, Final

from ..errors import ConfigurationError, ErrorMap

_NOTHING: Final[ErrorMap] = MappingProxyType({})


def check_verified(profile: str | None, is_verified: object, error_map: ErrorMap = _NOTHING) -> None:
    """``profile``: the app's. ``is_verified``: whether the client verifies the server, as far as that is known. Raises
    :class:`~okta_m2m.errors.ConfigurationError`: with an ``error_map``, for a call, as an exception of the client's library."""
    if profile is not None and not is_verified:
        raise ConfigurationError(
            "The client does not verify the server with TLS 1.2 or newer, which the profile fapi requires.",
            remedy="Remove verify=False, ssl=False or the SSL context from the client. For your own CA, pass its file or an "
            "ssl.create_default_context(cafile=...).",
        ).as_library_error(error_map)


def is_verifying(context: Any) -> bool:
    """Whether an SSL context verifies the certificate and the name of servers, and allows no TLS older than 1.2. A context that
    checks names also verifies certificates: Python refuses ``CERT_NONE`` with ``check_hostname``."""
    return bool(context.check_hostname and context.minimum_version >= TLSVersion.TLSv1_2)
