"""requests-oauth2client, and what replaces it."""

import requests
from jwskate import Jwk
from requests_oauth2client import OAuth2Client, OAuth2ClientCredentialsAuth, PrivateKeyJwt

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.requests import OktaAuth


def before(org: str, client_id: str, pem: bytes) -> list:
    client = OAuth2Client(
        f"{org}/oauth2/v1/token",
        auth=PrivateKeyJwt(client_id, Jwk.from_pem(pem).with_kid_thumbprint(), alg="RS256"),
        testing=org.startswith("http:"),
    )
    session = requests.Session()
    session.auth = OAuth2ClientCredentialsAuth(client, scope="okta.users.read")
    return session.get(f"{org}/api/v1/users", timeout=30).json()


def after(org: str, client_id: str, pem: bytes) -> list:
    key = PrivateKey.from_pem(pem)
    key = key.with_kid(key.thumbprint())
    app = ServiceApp(org, client_id=client_id, key=key, scopes=["okta.users.read"])
    session = requests.Session()
    session.auth = OktaAuth(app)
    return session.get(f"{org}/api/v1/users", timeout=30).json()
