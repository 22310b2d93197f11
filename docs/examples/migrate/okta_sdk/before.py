import asyncio

from okta.client import Client


def list_users(org: str, client_id: str, pem: bytes):
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
            return [
                user.profile.login for user in users
            ]

    return asyncio.run(logins())
