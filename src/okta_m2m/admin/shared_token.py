"""The token that an app's processes share through a store: the doctor's row about it, and its removal.

Invariant: the token itself is never returned, and no request is sent to Okta.
"""

from __future__ import annotations

from datetime import UTC, datetime

from .. import ServiceApp
from .._core.fleet import Fleet
from ..effects import StoreFailed
from ..errors import ConfigurationError, quoted
from ..runtimes import Threads, run
from .doctor import Check, Kind
from .introspection import refuse_to_send

__all__ = ["check_store", "clear_shared_token"]


def check_store(app: ServiceApp) -> Check:
    """The row ``store``: the store through which ``app`` shares its token, and the stored token's type, scopes and expiry. It
    warns if the store does not work, because calls work without it.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for an app without a store.
    """
    fleet = _fleet_of(app)
    try:
        shared = run(fleet.look(app.keys), Threads(refuse_to_send))
    except StoreFailed as failed:
        remedy = "Check the store, and OKTA_M2M_STORE. Until it works, each process requests its own tokens."
        return Check("store", "warn", f"the token store does not work: {quoted(failed)}", remedy, Kind.UNREACHABLE)
    if shared is None:
        return Check("store", "ok", f"{fleet.store!r} has no token that this app's key can open")
    token = shared.token
    ends = datetime.fromtimestamp(round(fleet.okta_time_of(token.sent_at + token.expires_in)), UTC)
    scopes = quoted(" ".join(token.scopes)) or "no scopes"
    return Check(
        "store", "ok", f"{fleet.store!r} has a {token.token_type} token for {scopes}, until {ends:%Y-%m-%dT%H:%M:%SZ}"
    )


def clear_shared_token(app: ServiceApp) -> bool:
    """Removes the stored token of ``app``. Removes nothing and returns ``False`` if a process is fetching a token at the
    moment.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for an app without a store, and
    :class:`~okta_m2m.effects.StoreFailed` if the store does not work.
    """
    return run(_fleet_of(app).clear(app.keys), Threads(refuse_to_send))


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
