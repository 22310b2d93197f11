"""What can go wrong when an administrator's functions call Okta. Every message ends with a remedy.

Invariant: no error holds a token or a key. Okta's words pass through :func:`okta_m2m.errors.quoted` first.
"""

from __future__ import annotations

from typing import Any

from ..errors import OktaM2MError

__all__ = [
    "InvalidRequest",
    "NameTaken",
    "NotConfirmed",
    "NotFound",
    "NotSignedIn",
    "OktaUnreachable",
    "PermissionMissing",
    "ProvisioningError",
    "RateLimitTooLong",
    "RotationFailed",
    "ScopeMissing",
    "SuperAdminNeeded",
]


class ProvisioningError(OktaM2MError):
    """Base class: the org could not be read or changed. Raised directly for a response that is not from Okta.

    ``causes`` holds Okta's own reasons (``errorCauses``); it is empty if Okta returned none.

    - ``problem``: what happened.
    - ``error_id``: Okta's id for its refusal (``errorId``), for its support. Default ``None``, not known.
    - ``details``: the other attributes of :class:`~okta_m2m.errors.OktaM2MError`.
    """

    causes: tuple[str, ...] = ()

    def __init__(self, problem: str, *, error_id: str | None = None, **details: Any) -> None:
        super().__init__(problem, **details)
        self.error_id = error_id


def response_details(error: Exception) -> dict[str, Any]:
    """What Okta's response said, as arguments for another error that reports the same response."""
    return {
        name: getattr(error, name, None) for name in ("status", "error", "error_description", "request_id", "error_id")
    }


class NotSignedIn(ProvisioningError):
    """401: Okta did not accept the SSWS token, or the service app's token."""


class ScopeMissing(ProvisioningError):
    """403 ``insufficient_scope``: the token lacks a scope. ``scope`` is the one that Okta requires."""

    scope: str = ""


class PermissionMissing(ProvisioningError):
    """403 ``E0000006``: the account that signs in lacks the admin role; or ``E0000015``: the org lacks the feature."""


class NotFound(ProvisioningError):
    """404, or there is no object with that name or id."""


class InvalidRequest(ProvisioningError):
    """400, 405 or 409: Okta rejected the request. ``causes`` says what was wrong with it."""


class NameTaken(ProvisioningError):
    """Several apps have that name, or the app with that name is not a service app with a key."""


class NotConfirmed(ProvisioningError):
    """Okta does not show that a requested change was made."""


class RateLimitTooLong(ProvisioningError):
    """429, with a longer wait than ``max_wait`` allows. ``retry_after`` is that wait, in seconds."""


class OktaUnreachable(ProvisioningError):
    """No usable response: network, proxy, TLS, a redirect, or a server error."""


class RotationFailed(ProvisioningError):
    """A rotation could not start or continue. The message says which key is in use."""


class SuperAdminNeeded(RotationFailed, PermissionMissing):
    """Okta lets only a Super Admin change the keys of an app that has granted scopes."""
