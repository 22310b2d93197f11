"""For Airflow: the auth for an HttpHook or HttpOperator."""

from functools import cache
from typing import Any

from okta_m2m import ServiceApp
from okta_m2m.requests import OktaAuth


@cache
def okta_app() -> ServiceApp:
    """One for each worker process. A DAG file is parsed often, so it must not create one."""
    return ServiceApp.from_env()


def okta_auth(*login_and_password: Any) -> OktaAuth:
    """For ``HttpHook(method="GET", http_conn_id="okta", auth_type=okta_auth)``.

    The hook passes the connection's login and password, if it has any. They are not used.
    """
    return OktaAuth(okta_app())
