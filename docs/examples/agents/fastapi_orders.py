"""A FastAPI service that calls another API for its caller. Run it with ``uvicorn fastapi_orders:api``."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from incoming import Incoming
from joserfc.errors import JoseError

from okta_m2m import ServiceApp
from okta_m2m.errors import SubjectRefused, TokenError
from okta_m2m.httpx import OktaAuth

STOCK = os.environ["STOCK_API"]  # https://stock.acme.example
incoming = Incoming(os.environ["ORDERS_ISSUER"], "api://orders")


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    async with ServiceApp.from_env(origins=[STOCK], max_wait=5) as app, httpx.AsyncClient() as client:
        api.state.app, api.state.client = app, client
        yield


api = FastAPI(lifespan=lifespan)


def unauthorized() -> HTTPException:
    return HTTPException(401, "Sign in again.", {"WWW-Authenticate": 'Bearer error="invalid_token"'})


def caller(sent: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> str:
    """The caller's token, verified. Not ``async``: fetching Okta's keys must not block the event loop."""
    try:
        incoming.verify(sent.credentials)
    except (JoseError, ValueError):
        raise unauthorized() from None
    return sent.credentials


@api.get("/orders")
async def orders(request: Request, token: Annotated[str, Depends(caller)]) -> dict[str, str]:
    app = request.app.state.app.on_behalf_of(token, audience="api://stock", scopes=["stock:read"])
    try:
        response = await request.app.state.client.get(f"{STOCK}/stock", auth=OktaAuth(app))
    except SubjectRefused:
        raise unauthorized() from None
    except TokenError as error:
        raise HTTPException(503, "Okta cannot be reached.") from error
    response.raise_for_status()
    return {"stock for": response.json()["subject"]}
