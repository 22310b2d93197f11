"""Okta access tokens, machine to machine: one auth object for the HTTP client that you already use.

    from okta_m2m import PrivateKey, ServiceApp
    from okta_m2m.requests import OktaAuth

These are the names that most programs need. The other errors are in :mod:`okta_m2m.errors`, the events in
:mod:`okta_m2m.events`.

Invariant: importing this package imports no HTTP client and no cryptography.

PYTEST_DONT_REWRITE: without this, pytest would warn if this package was imported before pytest found our plugin.
"""

from ._base.tokens import Token
from ._core.service_app import ServiceApp
from .errors import (
    ConfigurationError,
    InvalidKey,
    OktaM2MError,
    RateLimited,
    TokenError,
    TokenRefused,
    TokenUnreachable,
)
from .events import Event
from .keys import PrivateKey, Signer

__version__ = "0.9.0"

__all__ = [
    "ConfigurationError",
    "Event",
    "InvalidKey",
    "OktaM2MError",
    "PrivateKey",
    "RateLimited",
    "ServiceApp",
    "Signer",
    "Token",
    "TokenError",
    "TokenRefused",
    "TokenUnreachable",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name == "OktaAuth":  # an import statement would not show an AttributeError's message
        raise ImportError("Each HTTP client has its own OktaAuth. Write: from okta_m2m.requests import OktaAuth")
    if name in ("aiohttp", "httpx", "httpx2", "niquests", "requests"):
        raise AttributeError(f"okta_m2m.{name} is not imported yet. Write: import okta_m2m.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
