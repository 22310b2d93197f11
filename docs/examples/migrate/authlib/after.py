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
    session = requests.Session()
    session.auth = OktaAuth(app)
    users = f"{org}/api/v1/users"
    return session.get(users, timeout=30).json()
