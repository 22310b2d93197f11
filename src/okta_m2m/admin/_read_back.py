"""Asks Okta whether a change was made. The state that Okta lists afterwards counts, not its response to the change.

Invariant: a change is reported as done only when Okta shows it. Okta is eventually consistent, so this reads several times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from .errors import NotConfirmed
from .management import ManagementApi

__all__ = ["read_back"]

T = TypeVar("T")

PAUSES: Final = (0.25, 0.5, 1.0, 2.0)
"""Seconds between reads."""


def read_back(api: ManagementApi, look: Callable[[], T | None], change: str) -> T:
    """The first result of ``look`` that is not ``None``. It is ``None`` as long as Okta does not show the change.

    - ``api``: the management API of the org.
    - ``look``: reads from Okta.
    - ``change``: the expected change, as the end of "Okta does not show that ".

    Raises :class:`~okta_m2m.admin.errors.NotConfirmed` if Okta still does not show it.
    """
    for pause in PAUSES:
        found = look()
        if found is not None:
            return found
        api.pause(pause, "until Okta shows the change")
    found = look()
    if found is None:
        raise NotConfirmed(
            f"Okta does not show that {change}, although it accepted the request.",
            remedy="Look at the app in the Admin Console. Then run the same command again, which is safe.",
        )
    return found
