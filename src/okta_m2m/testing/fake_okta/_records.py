"""Ids and times that are in Okta's responses, but not in the org's own objects.

Invariant: an object that the management API did not record gets its id and creation time when it is first looked up,
and keeps them until it is forgotten.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Record", "Records", "new_id"]


def new_id(prefix: str) -> str:
    """An id in Okta's form: a prefix that names the kind, 20 characters in all."""
    return prefix + secrets.token_hex(10)[: 20 - len(prefix)]


class Record(NamedTuple):
    """An id, with times in seconds since the epoch on the org's clock."""

    id: str
    created: float
    updated: float


class Records:
    """The management API's records of apps, keys, grants and roles. ``key`` is a kind, followed by the
    parts that identify the object."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._records: dict[tuple[str, ...], Record] = {}
        #: App id and scope -> the type and id of the caller that granted it.
        self.granted_by: dict[tuple[str, str], tuple[str, str]] = {}

    def find(self, *key: str, prefix: str = "") -> Record:
        """The record of ``key``; made now, with a new id that has this prefix, if there is none."""
        if key not in self._records:
            now = self._now()
            self._records[key] = Record(new_id(prefix), now, now)
        return self._records[key]

    def mark_updated(self, *key: str) -> None:
        """Sets the time of the last update to now."""
        self._records[key] = self.find(*key)._replace(updated=self._now())

    def forget(self, *key: str) -> None:
        """Removes the record, so that the next :meth:`find` makes another."""
        self._records.pop(key, None)
