"""Shows or removes the token that an app's processes share through a store.

Invariant: the token itself is never returned, and no request is sent to Okta.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from .. import ServiceApp
from .._core.fleet import Fleet
from ..effects import Request
from ..errors import ConfigurationError
from ..runtimes import Threads, run
from ..stores import Store

__all__ = ["SharedToken", "clear_shared_token", "find_shared_token", "store_of"]


@dataclass(frozen=True, slots=True)
class SharedToken:
    """The stored token of an app.

    - ``token_type``: ``"Bearer"`` or ``"DPoP"``.
    - ``scopes``: the granted scopes.
    - ``expires_at``: when it expires, in seconds since the epoch on Okta's clock.
    - ``dpop_key``: the thumbprint (RFC 7638) of the key that it is bound to, if that key was made for the fleet.
    """

    token_type: str
    scopes: tuple[str, ...]
    expires_at: float
    dpop_key: str | None


def store_of(app: ServiceApp) -> Store:
    """The store through which ``app`` shares its token.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for an app without a store.
    """
    return _fleet_of(app).store


def find_shared_token(app: ServiceApp) -> SharedToken | None:
    """The stored token of ``app``, usable or not; ``None`` if there is none, or none that the app's keys can open.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for an app without a store, and
    :class:`~okta_m2m.effects.StoreFailed` if the store does not work.
    """
    fleet = _fleet_of(app)
    shared = run(fleet.look(app.keys), Threads(_send_nothing))
    if shared is None:
        return None
    token, dpop_key = shared.token, shared.key
    return SharedToken(
        token.token_type,
        token.scopes,
        fleet.okta_time_of(token.sent_at + token.expires_in),
        None if dpop_key is None else dpop_key.thumbprint(),
    )


def clear_shared_token(app: ServiceApp) -> bool:
    """Removes the stored token of ``app``. Removes nothing and returns ``False`` if a process is fetching a token at the
    moment.

    Raises the same errors as :func:`find_shared_token`.
    """
    return run(_fleet_of(app).clear(app.keys), Threads(_send_nothing))


def _fleet_of(app: ServiceApp) -> Fleet:
    if app.fleet is None:
        raise ConfigurationError(
            "No store is configured.",
            remedy=(
                "Set OKTA_M2M_STORE to the store that the processes use: redis://host:6379/0, "
                "rediss://host:6379/0, unix:///path/of/redis.sock, file: or file:/path/of/directory."
            ),
        )
    return app.fleet


def _send_nothing(request: Request, timeout: float) -> NoReturn:
    raise AssertionError("reading the store sends no request to Okta")
