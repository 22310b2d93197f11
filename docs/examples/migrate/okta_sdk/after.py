import httpx

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.httpx import OktaAuth


def list_users(org: str, client_id: str, pem: bytes):
    app = ServiceApp(
        org,
        client_id=client_id,
        key=PrivateKey.from_pem(pem),
        scopes=["okta.users.read"],
    )
    with httpx.Client(auth=OktaAuth(app)) as client:
        response = client.get(f"{org}/api/v1/users")
        users = response.raise_for_status().json()
    return [user["profile"]["login"] for user in users]
