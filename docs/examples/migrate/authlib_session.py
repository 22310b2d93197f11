"""Authlib's OAuth2Session, and what replaces it."""

import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.requests import OktaAuth


def before(org: str, client_id: str, pem: bytes) -> list:
    url = f"{org}/oauth2/v1/token"
    session = OAuth2Session(
        client_id,
        pem,
        token_endpoint_auth_method=PrivateKeyJWT(url),
        token_endpoint=url,
        grant_type="client_credentials",
        scope="okta.users.read",
    )
    session.fetch_token()
    return session.get(f"{org}/api/v1/users", timeout=30).json()


def after(org: str, client_id: str, pem: bytes) -> list:
    app = ServiceApp(org, client_id=client_id, key=PrivateKey.from_pem(pem), scopes=["okta.users.read"])
    session = requests.Session()
    session.auth = OktaAuth(app)
    return session.get(f"{org}/api/v1/users", timeout=30).json()
