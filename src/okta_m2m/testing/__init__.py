"""Test support for code that makes machine-to-machine calls to Okta: FakeOkta, pytest fixtures, conformance suites,
simulation.

Invariant: production code needs nothing from here. FakeOkta shares no code with the client that it tests. Importing this
package loads no other module until a name is used, because pytest loads its plugin in every run.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import install_command

if TYPE_CHECKING:
    from .._base.clocks import Clock
    from ._replaying import Replayed, replay
    from ._signer_conformance import SignerConformance
    from ._store_conformance import StoreConformance
    from .fake_okta._app import App
    from .fake_okta._fake_okta import FakeOkta
    from .fake_okta._messages import ReceivedRequest
    from .fake_okta._org import AuthorizationServer
    from .fake_okta._responder import Refusal
    from .fake_okta._tokens import IssuedToken
    from .fake_okta._users import User

__all__ = [
    "App",
    "AuthorizationServer",
    "Clock",
    "FakeOkta",
    "IssuedToken",
    "ReceivedRequest",
    "Refusal",
    "Replayed",
    "SignerConformance",
    "StoreConformance",
    "User",
    "replay",
]

#: The module that defines each name. It is imported when the name is first used.
_HOMES = {
    "App": ".fake_okta._app",
    "AuthorizationServer": ".fake_okta._org",
    "Clock": ".._base.clocks",
    "FakeOkta": ".fake_okta._fake_okta",
    "IssuedToken": ".fake_okta._tokens",
    "ReceivedRequest": ".fake_okta._messages",
    "Refusal": ".fake_okta._responder",
    "Replayed": "._replaying",
    "SignerConformance": "._signer_conformance",
    "StoreConformance": "._store_conformance",
    "User": ".fake_okta._users",
    "replay": "._replaying",
}

#: Packages that may be missing: for each, the name in the error, and what to install.
_OPTIONAL = {
    "pytest_httpserver": ("pytest-httpserver", install_command("testing")),
    "werkzeug": ("pytest-httpserver", install_command("testing")),
    "pytest": ("pytest", "pip install pytest"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(_HOMES[name], __name__)
    except ModuleNotFoundError as error:
        missing, source = _OPTIONAL.get((error.name or "").partition(".")[0], ("", ""))
        if not missing:
            raise
        # Raised without its cause, because the message has the whole remedy.
        raise ModuleNotFoundError(
            f"okta_m2m.testing.{name} needs {missing}. Install it with: {source}", name=error.name
        ) from None
    return getattr(module, name)
