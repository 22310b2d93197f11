"""Prints the email addresses of an org's users."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import requests

from okta_m2m import ServiceApp
from okta_m2m.requests import OktaAuth


class Directory:
    """The org's users; a context manager."""

    def __init__(self, app: ServiceApp) -> None:
        self._users = f"{app.org_url}/api/v1/users"
        self._session = requests.Session()
        self._session.auth = OktaAuth(app)  # the only line about tokens

    def emails(self) -> list[str]:
        """Every user's address, in alphabetical order."""
        response = self._session.get(self._users, timeout=30)
        response.raise_for_status()
        return sorted(user["profile"]["email"] for user in response.json())

    def deactivate(self, login: str) -> None:
        """Deactivates a user."""
        response = self._session.delete(f"{self._users}/{login}", timeout=30)
        response.raise_for_status()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._session.close()


def main() -> None:
    """The command ``user-report``. It reads the settings of Okta's own SDKs (``OKTA_CLIENT_...``)."""
    with Directory(ServiceApp.from_env()) as directory:
        print("\n".join(directory.emails()))
