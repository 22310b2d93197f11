import httpx2

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.httpx2 import OktaAuth


def connect(org: str, client_id: str, pem: bytes):
    """Call it once: the app holds the token."""
    app = ServiceApp(
        org,
        client_id=client_id,
        key=PrivateKey.from_pem(pem),
        scopes=["okta.users.read"],
    )
    return httpx2.Client(auth=OktaAuth(app))


def list_users(client: httpx2.Client, org: str):
    response = client.get(f"{org}/api/v1/users")
    users = response.raise_for_status().json()
    return [user["profile"]["login"] for user in users]
