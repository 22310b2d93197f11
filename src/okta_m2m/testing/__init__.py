"""For tests of code that calls Okta machine to machine: an Okta org on a loopback port.

Invariant: nothing here is needed in production, and nothing here imports the code that it is meant to test.
"""

from __future__ import annotations

try:
    import pytest_httpserver as _  # noqa: F401
except ImportError as missing:
    raise ImportError(
        "okta_m2m.testing needs pytest-httpserver; install it with: pip install 'okta-m2m[testing]'",
        name=missing.name,
    ) from missing

from .fake_okta import FakeOkta, Refusal
from .http_server import ReceivedRequest
from .org import App, AuthorizationServer, IssuedToken

__all__ = ["App", "AuthorizationServer", "FakeOkta", "IssuedToken", "ReceivedRequest", "Refusal"]
