"""A job that prints how many users of the org it sees. The recipes for deployment run this file."""

import os
from pathlib import Path

import requests

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.requests import OktaAuth


def service_app() -> ServiceApp:
    """The settings of the environment, with the key from a mounted secret if there is one."""
    secret = os.environ.get("CREDENTIALS_DIRECTORY") or os.environ.get("OKTA_KEY_DIRECTORY")
    if secret is None:
        return ServiceApp.from_env()
    return ServiceApp.from_env(
        key=PrivateKey.from_file(Path(secret) / "okta-key")
    )  # the file is followed if it changes


def main() -> None:
    with requests.Session() as session, service_app() as app:
        session.auth = OktaAuth(app, session=session)
        users = session.get(f"{app.org_url}/api/v1/users", timeout=30)
        users.raise_for_status()
        print(len(users.json()), "users")


if __name__ == "__main__":
    main()
