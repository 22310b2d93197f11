import asyncio

from okta.client import Client


def connect(org: str, client_id: str, pem: bytes):
    """Call it once: the client holds the token."""
    settings = {
        "orgUrl": org,
        "authorizationMode": "PrivateKey",
        "clientId": client_id,
        "scopes": ["okta.users.read"],
        "privateKey": pem.decode(),
    }
    return Client(settings)


def list_users(client: Client, org: str):
    users, _, error = asyncio.run(client.list_users())
    if error:
        raise RuntimeError(error)
    return [user.profile.login for user in users]
