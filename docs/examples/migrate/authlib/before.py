from authlib.integrations.requests_client import (
    OAuth2Session,
)
from authlib.oauth2.rfc7523 import PrivateKeyJWT


def connect(org: str, client_id: str, pem: bytes):
    """Call it once: the session holds the token."""
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
    return session


def list_users(session: OAuth2Session, org: str):
    users = f"{org}/api/v1/users"
    response = session.get(users, timeout=30)
    response.raise_for_status()
    return response.json()
