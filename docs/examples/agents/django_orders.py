"""A Django view that calls another API for its caller."""

import os
from functools import cache

import requests
from django.http import HttpRequest, JsonResponse
from django.urls import path
from incoming import Incoming
from joserfc.errors import JoseError

from okta_m2m import ServiceApp
from okta_m2m.errors import SubjectRefused, TokenError
from okta_m2m.requests import OktaAuth

STOCK = os.environ["STOCK_API"]  # https://stock.acme.example
incoming = Incoming(os.environ["ORDERS_ISSUER"], "api://orders")


@cache
def okta_app() -> ServiceApp:
    """Created at the first call, so management commands such as ``migrate`` need no key."""
    return ServiceApp.from_env(origins=[STOCK], max_wait=5)


def sign_in_again() -> JsonResponse:
    headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    return JsonResponse({"error": "Sign in again."}, status=401, headers=headers)


def orders(request: HttpRequest) -> JsonResponse:
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    try:
        incoming.verify(token)
    except (JoseError, ValueError):
        return sign_in_again()
    app = okta_app().on_behalf_of(token, audience="api://stock", scopes=["stock:read"])
    try:
        response = requests.get(f"{STOCK}/stock", auth=OktaAuth(app), timeout=10)
    except SubjectRefused:
        return sign_in_again()
    except TokenError:
        return JsonResponse({"error": "Okta cannot be reached."}, status=503)
    response.raise_for_status()
    return JsonResponse({"stock for": response.json()["subject"]})


urlpatterns = [path("orders", orders)]
