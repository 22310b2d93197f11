"""A client that openapi-python-client generated, with tokens of a custom authorization server."""

from typing import Any

from okta_m2m import ServiceApp
from okta_m2m.httpx import OktaAuth


def authorized(client_class: Any, app: ServiceApp, base_url: str) -> Any:
    """``client_class`` is the generated ``Client``."""
    return client_class(
        base_url=base_url, httpx_args={"auth": OktaAuth(app)}, raise_on_unexpected_status=True
    )


def authenticated(client_class: Any, app: ServiceApp, base_url: str) -> Any:
    """``client_class`` is the generated ``AuthenticatedClient``. Each call replaces its placeholder."""
    auth = OktaAuth(app, replaces="unused")
    return client_class(
        base_url=base_url, token="unused", httpx_args={"auth": auth}, raise_on_unexpected_status=True
    )
