"""An AWS Lambda function that calls Okta. The service app and its token outlast the invocation."""

from functools import cache
from typing import Any

import requests

from okta_m2m import ServiceApp
from okta_m2m.requests import OktaAuth


@cache
def okta_app() -> ServiceApp:
    """Created once for each execution environment, at the first event."""
    return ServiceApp.from_env(max_wait=5)  # less than the function's own timeout


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    app = okta_app()
    url = f"{app.org_url}/api/v1/users/{event['login']}"
    response = requests.get(url, auth=OktaAuth(app), timeout=10)
    response.raise_for_status()
    return {"id": response.json()["id"]}
