"""For tests of code that calls Okta machine to machine: an Okta org on a loopback port.

Invariant: nothing here is needed in production; FakeOkta imports nothing of the code that it is meant to test; and
importing this package costs nothing until a name is asked for: pytest loads its plugin at every start.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fake_okta.fake_okta import FakeOkta, Refusal
    from .fake_okta.http_server import ReceivedRequest
    from .fake_okta.org import App, AuthorizationServer, IssuedToken
    from .replaying import Replayed, replay
    from .signer_conformance import SignerConformance
    from .store_conformance import StoreConformance

__all__ = [
    "App",
    "AuthorizationServer",
    "FakeOkta",
    "IssuedToken",
    "ReceivedRequest",
    "Refusal",
    "Replayed",
    "SignerConformance",
    "StoreConformance",
    "replay",
]

_HOMES = {
    "App": "fake_okta",
    "AuthorizationServer": "fake_okta",
    "FakeOkta": "fake_okta",
    "IssuedToken": "fake_okta",
    "ReceivedRequest": "fake_okta",
    "Refusal": "fake_okta",
    "Replayed": "replaying",
    "SignerConformance": "signer_conformance",
    "StoreConformance": "store_conformance",
    "replay": "replaying",
}


#: What may be missing, and what to install for it.
_NEEDED = {
    "pytest_httpserver": ("pytest-httpserver", "'okta-m2m[testing]'"),
    "werkzeug": ("pytest-httpserver", "'okta-m2m[testing]'"),
    "pytest": ("pytest", "pytest"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f".{_HOMES[name]}", __name__)
    except ModuleNotFoundError as missing:
        needed, source = _NEEDED.get((missing.name or "").partition(".")[0], ("", ""))
        if not needed:
            raise
        # Not chained: the remedy is the whole message.
        raise ModuleNotFoundError(
            f"okta_m2m.testing.{name} needs {needed}; install it with: pip install {source}", name=missing.name
        ) from None
    return getattr(module, name)
