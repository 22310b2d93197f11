import time
import uuid

import requests
from joserfc import jwt
from joserfc.jwk import RSAKey

HEADER = {"alg": "RS256"}
JWT_BEARER = (
    "urn:ietf:params:oauth:"
    "client-assertion-type:jwt-bearer"
)


class Tokens:
    def __init__(self, org: str, app: str, pem: bytes):
        self.app, self.url = (
            app,
            f"{org}/oauth2/v1/token",
        )
        self.key = RSAKey.import_key(pem)
        self.token, self.expires = "", 0.0

    def get(self) -> str:
        now = int(time.time())
        if now > self.expires - 60:
            claims = {"iss": self.app, "sub": self.app}
            claims |= {"iat": now, "exp": now + 300}
            claims["jti"] = str(uuid.uuid4())
            claims["aud"] = self.url
            signed = jwt.encode(
                HEADER, claims, self.key
            )
            form = {
                "grant_type": "client_credentials",
                "scope": "okta.users.read",
                "client_assertion_type": JWT_BEARER,
                "client_assertion": signed,
            }
            answer = requests.post(
                self.url, form, timeout=30
            )
            answer.raise_for_status()
            body = answer.json()
            self.token = body["access_token"]
            self.expires = now + body["expires_in"]
        return self.token


def connect(org: str, client_id: str, pem: bytes):
    """Call it once: the object holds the token."""
    return Tokens(org, client_id, pem)


def list_users(tokens: Tokens, org: str):
    bearer = {"Authorization": f"Bearer {tokens.get()}"}
    response = requests.get(
        f"{org}/api/v1/users",
        headers=bearer,
        timeout=30,
    )
    response.raise_for_status()
    return response.json()
