"""Reads Okta's System Log, and continues where it stopped, even after a restart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from okta_m2m import ServiceApp
from okta_m2m.requests import OktaAuth


def new_events(
    app: ServiceApp, session: requests.Session, bookmark: Path, since: str
) -> Iterator[dict[str, Any]]:
    """Every event since the last call. Call it again after a pause, such as 30 seconds.

    Okta's response to a request without ``until`` has a ``next`` link even if there are no more events.
    Continue with that link. It is stored only after the events were returned, so a crash repeats events
    and loses none.
    """
    url = (
        bookmark.read_text("utf-8")
        if bookmark.exists()
        else f"{app.org_url}/api/v1/logs?since={since}&limit=1000"
    )
    while True:
        response = session.get(url, timeout=60)
        response.raise_for_status()
        events = response.json()
        yield from events
        if "next" not in response.links:
            return
        url = response.links["next"]["url"]
        bookmark.write_text(url, "utf-8")
        if not events:
            return


def open_session(app: ServiceApp) -> requests.Session:
    session = requests.Session()
    session.auth = OktaAuth(app)
    return session
