"""Runs SQL with Snowflake's SQL API, which accepts the token of a custom authorization server."""

import time
from collections.abc import Iterator
from typing import Any

import requests

from okta_m2m import ServiceApp
from okta_m2m.requests import OktaAuth


def open_session(app: ServiceApp) -> requests.Session:
    """``app`` has the account's URL among its ``origins``, and ``dpop=False``."""
    session = requests.Session()
    session.auth = OktaAuth(app)
    session.headers["X-Snowflake-Authorization-Token-Type"] = "OAUTH"
    return session


def rows(
    session: requests.Session, account: str, statement: str, pause: float = 1.0, **options: Any
) -> Iterator[list[str | None]]:
    """The rows that ``statement`` returns.

    ``account``: such as ``https://myorg-myaccount.snowflakecomputing.com``. ``pause``: seconds between
    looks at a long statement. ``options``: ``warehouse``, ``database``, ``role``, ``timeout`` and others.
    """
    url = f"{account}/api/v2/statements"
    response = session.post(url, json={"statement": statement, **options}, timeout=90)
    while response.status_code == 202:
        time.sleep(pause)
        response = session.get(f"{url}/{response.json()['statementHandle']}", timeout=90)
    response.raise_for_status()
    first = response.json()
    yield from first["data"]
    for number in range(1, len(first["resultSetMetaData"]["partitionInfo"])):
        partition = session.get(
            f"{url}/{first['statementHandle']}", params={"partition": number}, timeout=90
        )
        partition.raise_for_status()
        yield from partition.json()["data"]
