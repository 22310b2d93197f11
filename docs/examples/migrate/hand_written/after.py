import requests

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.requests import OktaAuth


def list_users(org: str, client_id: str, pem: bytes):
    app = ServiceApp(
        org,
        client_id=client_id,
        key=PrivateKey.from_pem(pem),
        scopes=["okta.users.read"],
    )
    users = f"{org}/api/v1/users"
    found = requests.get(
        users, auth=OktaAuth(app), timeout=30
    )
    return found.json()
