"""Okta in a Django project: one service app per process, and a view that uses it."""

from functools import cache

import requests
from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.urls import path

from okta_m2m import ServiceApp, TokenError
from okta_m2m.requests import OktaAuth


@cache
def okta_app() -> ServiceApp:
    """Created at the first call, so management commands such as ``migrate`` need no key."""
    return ServiceApp.from_env(max_wait=5, **getattr(settings, "OKTA_M2M", {}))


def user(request: HttpRequest, login: str) -> JsonResponse:
    app = okta_app()
    try:
        response = requests.get(f"{app.org_url}/api/v1/users/{login}", auth=OktaAuth(app), timeout=10)
    except TokenError:
        return JsonResponse({"error": "Okta cannot be reached."}, status=503)
    response.raise_for_status()
    return JsonResponse({"login": response.json()["profile"]["login"]})


urlpatterns = [path("users/<str:login>", user)]
