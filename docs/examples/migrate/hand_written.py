"""Your own code: sign a JWT, fetch a token, keep it until it expires."""

import time
import uuid

import requests
from joserfc import jwt
from joserfc.jwk import RSAKey

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.requests import OktaAuth


class Tokens:
    def __init__(self, org: str, client_id: str, pem: bytes, scopes: str) -> None:
        self.url, self.client_id, self.scopes = f"{org}/oauth2/v1/token", client_id, scopes
        self.key, self.token, self.expires = RSAKey.import_key(pem), "", 0.0

    def get(self) -> str:
        if time.time() > self.expires - 60:
            now = int(time.time())
            claims = {"iss": self.client_id, "sub": self.client_id, "aud": self.url}
            claims |= {"iat": now, "exp": now + 300, "jti": str(uuid.uuid4())}
            assertion = jwt.encode({"alg": "RS256"}, claims, self.key)
            form = {
                "grant_type": "client_credentials",
                "scope": self.scopes,
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": assertion,
            }
            answer = requests.post(self.url, data=form, timeout=30)
            answer.raise_for_status()
            body = answer.json()
            self.token, self.expires = body["access_token"], time.time() + body["expires_in"]
        return self.token


def before(org: str, client_id: str, pem: bytes) -> list:
    tokens = Tokens(org, client_id, pem, "okta.users.read")
    headers = {"Authorization": f"Bearer {tokens.get()}"}
    return requests.get(f"{org}/api/v1/users", headers=headers, timeout=30).json()


def after(org: str, client_id: str, pem: bytes) -> list:
    app = ServiceApp(org, client_id=client_id, key=PrivateKey.from_pem(pem), scopes=["okta.users.read"])
    return requests.get(f"{org}/api/v1/users", auth=OktaAuth(app), timeout=30).json()
