"""Celery tasks that call Okta. Run a worker with ``celery -A celery_tasks worker``."""

from functools import cache
from threading import Lock

import requests
from celery import Celery

from okta_m2m import RateLimited, ServiceApp, TokenUnreachable
from okta_m2m.requests import OktaAuth

celery = Celery("reports", broker="redis://localhost/0")


first_task = Lock()


def okta_app() -> ServiceApp:
    """One for each worker process, created by the first task. It cannot be passed to a task."""
    with first_task:  # a pool of threads starts several tasks at once
        return make_app()


@cache
def make_app() -> ServiceApp:
    return ServiceApp.from_env()


@celery.task(
    autoretry_for=(TokenUnreachable, requests.ConnectionError), retry_backoff=True, max_retries=5
)
def login_of(user_id: str) -> str:
    app = okta_app()
    try:
        response = requests.get(f"{app.org_url}/api/v1/users/{user_id}", auth=OktaAuth(app), timeout=30)
    except RateLimited as error:
        raise login_of.retry(countdown=error.retry_after, exc=error) from error
    response.raise_for_status()
    return response.json()["profile"]["login"]
