"""Okta's own SDK for Python, and what replaces it for a service that makes a few kinds of calls."""

import asyncio

import httpx
from okta.client import Client

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.httpx import OktaAuth


def before(org: str, client_id: str, pem: bytes) -> list:
    async def logins() -> list:
        settings = {
            "orgUrl": org,
            "authorizationMode": "PrivateKey",
            "clientId": client_id,
            "scopes": ["okta.users.read"],
            "privateKey": pem.decode(),
        }
        async with Client(settings) as client:
            users, _, error = await client.list_users()
            if error:
                raise RuntimeError(error)
            return [user.profile.login for user in users]

    return asyncio.run(logins())


def after(org: str, client_id: str, pem: bytes) -> list:
    app = ServiceApp(org, client_id=client_id, key=PrivateKey.from_pem(pem), scopes=["okta.users.read"])
    with httpx.Client(auth=OktaAuth(app)) as client:
        return [
            user["profile"]["login"]
            for user in client.get(f"{org}/api/v1/users").raise_for_status().json()
        ]
