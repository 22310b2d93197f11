"""What the functions that change an org share: ids in paths and messages, and the look at what Okta has stored.

Invariant: a change is reported as done only when Okta shows it. The state that Okta lists afterwards counts, not its response
to the change. Okta is eventually consistent, so this reads several times.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Final, TypeVar
from urllib.parse import quote

from .errors import NotConfirmed, NotFound
from .management import ManagementApi

T = TypeVar("T")

PAUSES: Final = (0.25, 0.5, 1.0, 2.0)
"""Seconds between reads."""


def path_segment(id: str) -> str:
    """An id as one segment of a path, with slashes escaped."""
    return quote(id, safe="")


def shown_id(id: object) -> str:
    """A ``kid`` or an id on one line, shortened. ``quoted`` cannot be used here, because it would hide a thumbprint as
    a secret."""
    text = "".join(char if char.isprintable() else " " for char in str(id))
    return text if len(text) <= 100 else text[:97] + "..."


def moment(text: str | None) -> float | None:
    """A time of Okta's (ISO 8601) in seconds since the epoch; ``None`` for anything else."""
    with suppress(ValueError, TypeError):
        return datetime.fromisoformat(str(text)).timestamp()
    return None


def change(api: ManagementApi, method: str, path: str, look: Callable[[], T | None], result: str) -> T:
    """Sends a request without a body, and reads the change back. A 404 counts as little as any other response."""
    with suppress(NotFound):
        api.call(method, path)
    return read_back(api, look, result)


def set_active(api: ManagementApi, path: str, active: bool, look: Callable[[], T | None], what: str) -> T:
    """Activates or deactivates ``what``, which is at this path, and reads the change back."""
    operation, state = ("activate", "active") if active else ("deactivate", "inactive")
    return change(api, "POST", f"{path}/lifecycle/{operation}", look, f"{what} is {state}")


def read_back(api: ManagementApi, look: Callable[[], T | None], result: str) -> T:
    """The first result of ``look`` that is true.

    - ``look``: reads from Okta; ``None`` or ``False`` as long as Okta does not show the change.
    - ``result``: the expected change, as the end of "Okta does not show that ".

    Raises :class:`~okta_m2m.admin.errors.NotConfirmed` if Okta still does not show it.
    """
    for pause in (*PAUSES, None):
        found = look()
        if found:
            return found
        if pause is not None:
            api.pause(pause, "until Okta shows the change")
    raise NotConfirmed(
        f"Okta does not show that {result}, although it accepted the request.",
        remedy="Look at the app in the Admin Console. Then run the same command again, which is safe.",
    )
