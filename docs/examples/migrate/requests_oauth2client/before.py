import requests
from jwskate import Jwk
from requests_oauth2client import (
    OAuth2Client,
    OAuth2ClientCredentialsAuth,
    PrivateKeyJwt,
)


def list_users(org: str, client_id: str, pem: bytes):
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
    users = f"{org}/api/v1/users"
    return session.get(users, timeout=30).json()
