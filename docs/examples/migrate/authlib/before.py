from authlib.integrations.requests_client import (
    OAuth2Session,
)
from authlib.oauth2.rfc7523 import PrivateKeyJWT


def list_users(org: str, client_id: str, pem: bytes):
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
    users = f"{org}/api/v1/users"
    return session.get(users, timeout=30).json()
