"""Okta access tokens, machine to machine: one auth object for the HTTP client that you already use.

    from okta_m2m import PrivateKey, ServiceApp
    from okta_m2m.requests import OktaAuth

Invariant: importing this package imports no HTTP client and no cryptography.
"""

import typing

from ._core.service_app import ServiceApp
from ._core.tokens import Token
from .errors import (
    AccessDenied,
    ConfigurationError,
    ConsentRequired,
    InvalidClient,
    InvalidDPoPProof,
    InvalidKey,
    InvalidScope,
    OktaM2MError,
    RateLimited,
    ScopesMissing,
    SigningFailed,
    TokenError,
    TokenRefused,
    TokenUnreachable,
    UnauthorizedClient,
    UnexpectedAnswer,
)
from .keys import PrivateKey, Signer

if typing.TYPE_CHECKING:
    from .events import (
        AuthorizationKept,
        Event,
        OriginPassedOver,
        RenewalFailed,
        ScopesReduced,
        TokenObtained,
        TokenRejected,
    )

__version__ = "0.1.0"

__all__ = [
    "AccessDenied",
    "AuthorizationKept",
    "ConfigurationError",
    "ConsentRequired",
    "Event",
    "InvalidClient",
    "InvalidDPoPProof",
    "InvalidKey",
    "InvalidScope",
    "OktaM2MError",
    "OriginPassedOver",
    "PrivateKey",
    "RateLimited",
    "RenewalFailed",
    "ScopesMissing",
    "ScopesReduced",
    "ServiceApp",
    "Signer",
    "SigningFailed",
    "Token",
    "TokenError",
    "TokenObtained",
    "TokenRefused",
    "TokenRejected",
    "TokenUnreachable",
    "UnauthorizedClient",
    "UnexpectedAnswer",
    "__version__",
]


def __getattr__(name: str) -> object:
    # The events are dataclasses, which take longer to be made than all the rest: they are loaded when one is named or told.
    if name in __all__:
        from . import events

        return getattr(events, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
