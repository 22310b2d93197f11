"""The doctor's row about token exchange: whether the app may exchange users' tokens.

Invariant: no user's token is needed, and none is obtained.
"""

from __future__ import annotations

from .. import ServiceApp
from ..errors import OktaM2MError, SubjectRefused
from ..requests import OktaAuth
from ._doctor_rows import Check, Kind, error_row

__all__ = ["check_exchange"]

_NAME = "exchange"
_NO_USER = "okta-m2m.doctor.no-user"  # cannot be a token


def check_exchange(app: ServiceApp, audience: str) -> Check:
    """The row ``exchange``: whether ``app`` may call :meth:`ServiceApp.on_behalf_of`. Sends one token request, whose subject is
    not a token: an app without the grant is refused for that, and any other app for the subject.

    - ``app``: the app, with the custom authorization server that issues the tokens.
    - ``audience``: the audience of that server.
    """
    try:
        OktaAuth(app.on_behalf_of(_NO_USER, audience=audience, scopes=app.scopes)).token()
    except OktaM2MError as error:
        if not isinstance(error, SubjectRefused) or error.error == "invalid_target":
            return error_row(_NAME, error)
    return Check(_NAME, "ok", "the app may exchange users' tokens, as far as Okta says without one", kind=Kind.REFUSED)
