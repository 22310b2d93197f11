import requests

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.requests import OktaAuth


def connect(org: str, client_id: str, pem: bytes):
    """Call it once: the app holds the token."""
    key = PrivateKey.from_pem(pem)
    key = key.with_kid(key.thumbprint())
    app = ServiceApp(
        org,
        client_id=client_id,
        key=key,
        scopes=["okta.users.read"],
    )
    session = requests.Session()
    session.auth = OktaAuth(app)
    return session


def list_users(session: requests.Session, org: str):
    users = f"{org}/api/v1/users"
    response = session.get(users, timeout=30)
    response.raise_for_status()
    return response.json()
