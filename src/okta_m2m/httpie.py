"""The auth plugin of HTTPie: ``https --auth-type=okta-m2m GET acme.okta.com/api/v1/users``.

Invariant: settings are read when the request is prepared, so that HTTPie reports errors in them.
"""

from __future__ import annotations

import requests
from httpie.plugins import AuthPlugin
from requests.auth import AuthBase

from ._core.service_app import ServiceApp
from .requests import OktaAuth

__all__ = ["OktaM2MPlugin"]


class OktaM2MPlugin(AuthPlugin):  # type: ignore[misc]  # HTTPie has no types
    """Adds the token of the service app from ``ServiceApp.from_env()``: ``OKTA_CLIENT_*`` and ``okta.yaml``."""

    name = "Okta, machine to machine"
    description = "Settings from OKTA_CLIENT_* and okta.yaml; DPoP if the app requires it"
    auth_type = "okta-m2m"
    auth_require = False
    auth_parse = False

    def get_auth(self, username: str | None = None, password: str | None = None) -> AuthBase:
        """Called by HTTPie for each command. ``username`` and ``password`` are ignored: the settings have everything."""
        return _FromEnvironment()


class _FromEnvironment(AuthBase):
    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return OktaAuth(ServiceApp.from_env())(request)
