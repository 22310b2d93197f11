"""Retries your own calls, with stamina, tenacity and urllib3. okta-m2m itself retries token requests."""

import requests
import stamina
import tenacity
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from okta_m2m import ServiceApp
from okta_m2m.requests import OktaAuth

app = ServiceApp.from_env()
session = requests.Session()
session.auth = OktaAuth(app)


def may_pass(error: Exception) -> bool:
    """A lost connection, a timeout, or a response that says "later". Not a refusal by Okta."""
    if isinstance(error, requests.HTTPError):
        return error.response.status_code in (429, 502, 503, 504)
    return isinstance(error, requests.ConnectionError | requests.Timeout)


@stamina.retry(on=may_pass, attempts=4, timeout=60)
def with_stamina(login: str) -> dict:
    response = session.get(f"{app.org_url}/api/v1/users/{login}", timeout=30)
    response.raise_for_status()
    return response.json()


@tenacity.retry(
    retry=tenacity.retry_if_exception(may_pass),
    wait=tenacity.wait_random_exponential(max=10),
    stop=tenacity.stop_after_attempt(4),
    reraise=True,
)
def with_tenacity(login: str) -> dict:
    response = session.get(f"{app.org_url}/api/v1/users/{login}", timeout=30)
    response.raise_for_status()
    return response.json()


def with_urllib3() -> requests.Session:
    """Retries below the auth object, which send the same headers again. With DPoP, keep total=1."""
    retrying = requests.Session()
    retrying.auth = OktaAuth(app)
    policy = Retry(
        total=1, status_forcelist=[502, 503, 504], allowed_methods=["GET"], backoff_factor=0.2
    )
    retrying.mount(app.org_url, HTTPAdapter(max_retries=policy))
    return retrying
