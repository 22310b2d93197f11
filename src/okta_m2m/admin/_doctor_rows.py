"""The rows of the doctor's report, and the conversion of an error to a row.

Invariant: every row that failed or warns has a remedy; no other row does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from ..errors import ConfigurationError, OktaM2MError, RateLimited, SigningFailed, TokenRefused

__all__ = ["Check", "Kind", "State", "error_row", "unreachable_row"]

State = Literal["ok", "warn", "fail", "skipped"]
"""``ok``: passed. ``warn``: a warning. ``fail``: failed. ``skipped``: could not be checked."""


class Kind(StrEnum):
    """The kind of problem that a row is about. The command has an exit code for each."""

    CONFIGURATION = "configuration"
    UNREACHABLE = "unreachable"
    CLOCK = "clock"
    REFUSED = "refused"
    SCOPE = "scope"
    ROLE = "role"
    RATE_LIMIT = "rate limit"
    SIGNING = "signing"


@dataclass(frozen=True, slots=True)
class Check:
    """One row.

    - ``name``: the subject of the check, in a word or two.
    - ``state``: ``ok``, ``warn``, ``fail``, or ``skipped``.
    - ``detail``: the result of the check.
    - ``remedy``: what to do about it; empty if there is nothing to do.
    - ``kind``: the kind of problem that the row is about, whatever its state.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""
    kind: Kind = Kind.CONFIGURATION


_KINDS: Final[tuple[tuple[type[OktaM2MError], Kind], ...]] = (
    (ConfigurationError, Kind.CONFIGURATION),
    (TokenRefused, Kind.REFUSED),
    (RateLimited, Kind.RATE_LIMIT),
    (SigningFailed, Kind.SIGNING),
)


def error_row(name: str, error: OktaM2MError) -> Check:
    """The row for an error. An error that is not in ``_KINDS`` means that the endpoint returned no usable
    response."""
    kind = next((kind for family, kind in _KINDS if isinstance(error, family)), Kind.UNREACHABLE)
    return Check(name, "fail", error.problem, error.remedy or "", kind)


def unreachable_row(name: str, detail: str, remedy: str) -> Check:
    """The row for a server that returns no usable response."""
    return Check(name, "fail", detail, remedy, Kind.UNREACHABLE)
