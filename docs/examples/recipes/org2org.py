"""Copies groups from one org to another: two service apps, and one session for each."""

import requests

from okta_m2m import ServiceApp
from okta_m2m.requests import OktaAuth


def session_of(app: ServiceApp) -> requests.Session:
    session = requests.Session()
    session.auth = OktaAuth(app)
    return session


def copy_groups(source: ServiceApp, target: ServiceApp) -> int:
    """Creates in ``target`` each group of ``source``; returns how many."""
    copied = 0
    with session_of(source) as reading, session_of(target) as writing:
        url: str | None = f"{source.org_url}/api/v1/groups?limit=200"
        while url:
            page = reading.get(url, timeout=30)
            page.raise_for_status()
            for group in page.json():
                created = writing.post(
                    f"{target.org_url}/api/v1/groups",
                    json={"profile": {"name": group["profile"]["name"]}},
                    timeout=30,
                )
                created.raise_for_status()
                copied += 1
            url = page.links.get("next", {}).get("url")
    return copied
