"""Calls Databricks' APIs, with tokens that Databricks returns in exchange for Okta's."""

import threading
from typing import Any

import requests
from requests.auth import AuthBase

from okta_m2m import ServiceApp
from okta_m2m.requests import OktaAuth

EXCHANGE = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "scope": "all-apis",
}


class DatabricksAuth(AuthBase):
    """``session.auth = DatabricksAuth(app, "https://dbc-1a2b3c4d.cloud.databricks.com", client_id)``

    Databricks' token expires with Okta's, which okta-m2m renews before that. So each new token of Okta is
    exchanged once, and no other clock is needed.
    """

    def __init__(self, app: ServiceApp, workspace: str, client_id: str) -> None:
        """``client_id``: the application id of the service principal whose policy names ``app``."""
        self._okta = OktaAuth(app)
        self._workspace = workspace
        self._client_id = client_id
        self._lock = threading.Lock()
        self._exchanged = b""
        self._header = ""

    def __call__(self, request: Any) -> Any:
        if not request.url.startswith(f"{self._workspace}/"):
            return request
        token = self._okta.token()
        with self._lock:
            if token.digest != self._exchanged:
                form = EXCHANGE | {"subject_token": token.value, "client_id": self._client_id}
                url = f"{self._workspace}/oidc/v1/token"
                response = requests.post(url, form, timeout=30, allow_redirects=False)
                response.raise_for_status()
                self._header = f"Bearer {response.json()['access_token']}"
                self._exchanged = token.digest
            request.headers["Authorization"] = self._header
        return request
