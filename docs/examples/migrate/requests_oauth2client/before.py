import requests
from jwskate import Jwk
from requests_oauth2client import (
    OAuth2Client,
    OAuth2ClientCredentialsAuth,
    PrivateKeyJwt,
)


def connect(org: str, client_id: str, pem: bytes):
    """Call it once: the auth object holds the token."""
    key = Jwk.from_pem(pem).with_kid_thumbprint()
    client = OAuth2Client(
        f"{org}/oauth2/v1/token",
        auth=PrivateKeyJwt(client_id, key, alg="RS256"),
        testing=org.startswith("http:"),
    )
    session = requests.Session()
    session.auth = OAuth2ClientCredentialsAuth(
        client, scope="okta.users.read"
    )
    return session


def list_users(session: requests.Session, org: str):
    users = f"{org}/api/v1/users"
    response = session.get(users, timeout=30)
    response.raise_for_status()
    return response.json()
