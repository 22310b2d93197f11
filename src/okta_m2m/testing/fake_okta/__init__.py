"""FakeOkta: an Okta org on a loopback port.

Invariant: it shares no code with the client, so that an error in the one cannot hide an error in the other.
"""

from .fake_okta import FakeOkta, Refusal
from .http_server import ReceivedRequest
from .org import App, AuthorizationServer, IssuedToken

__all__ = ["App", "AuthorizationServer", "FakeOkta", "IssuedToken", "ReceivedRequest", "Refusal"]
