"""A FastAPI service that reads users from Okta. Run it with ``uvicorn fastapi_app:api``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx
from fastapi import Depends, FastAPI, HTTPException, Request

from okta_m2m import ServiceApp, TokenError
from okta_m2m.httpx import OktaAuth


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    app = ServiceApp.from_env(max_wait=5)  # a request should not wait longer for a token
    async with httpx.AsyncClient(base_url=app.org_url, auth=OktaAuth(app), timeout=10) as client:
        api.state.okta = client
        yield


api = FastAPI(lifespan=lifespan)


def okta(request: Request) -> httpx.AsyncClient:
    return request.app.state.okta


@api.get("/users/{login}")
async def user(login: str, okta: Annotated[httpx.AsyncClient, Depends(okta)]) -> dict[str, str]:
    try:
        response = await okta.get(f"/api/v1/users/{login}")
    except TokenError as error:
        raise HTTPException(503, "Okta cannot be reached.") from error
    response.raise_for_status()
    return {"login": response.json()["profile"]["login"]}
