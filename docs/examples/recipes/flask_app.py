"""A Flask service that reads users from Okta.

Run it with ``gunicorn -c gunicorn.conf.py 'flask_app:create_app()'``.
"""

from __future__ import annotations

import threading

import requests
from flask import Flask

from okta_m2m import ServiceApp, TokenError
from okta_m2m.requests import OktaAuth


def create_app() -> Flask:
    web = Flask(__name__)
    okta = ServiceApp.from_env(max_wait=5)  # one for the process, shared by all threads
    auth = OktaAuth(okta)
    local = threading.local()

    def session() -> requests.Session:
        """One session for each thread: requests does not promise that threads may share one."""
        if not hasattr(local, "session"):
            local.session = requests.Session()
            local.session.auth = auth
        return local.session

    @web.get("/users/<login>")
    def user(login: str) -> tuple[dict[str, str], int]:
        try:
            response = session().get(f"{okta.org_url}/api/v1/users/{login}", timeout=10)
        except TokenError:
            return {"error": "Okta cannot be reached."}, 503
        response.raise_for_status()
        return {"login": response.json()["profile"]["login"]}, 200

    return web
