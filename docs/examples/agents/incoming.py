"""Verifies the access token of an incoming call: its signature, issuer, audience and expiry."""

from time import monotonic

import requests
from joserfc.errors import InvalidKeyIdError
from joserfc.jwk import KeySet
from joserfc.jwt import Claims, JWTClaimsRegistry, Token, decode


class Incoming:
    def __init__(self, issuer: str, audience: str) -> None:
        iss, aud = ({"essential": True, "value": value} for value in (issuer, audience))
        self._expected = JWTClaimsRegistry(iss=iss, aud=aud, exp={"essential": True})
        self._keys_url, self._keys, self._fetched = f"{issuer}/v1/keys", KeySet([]), float("-inf")

    def verify(self, token: str) -> Claims:
        """The claims. Raises ``JoseError`` or ``ValueError`` for a token that is not valid here."""
        try:
            found = self._decode(token, max_age=3600)
        except InvalidKeyIdError:  # a new key of Okta's, or a token of someone else's
            found = self._decode(token, max_age=60)
        self._expected.validate(found.claims)
        return found.claims

    def _decode(self, token: str, max_age: float) -> Token:
        if monotonic() - self._fetched > max_age:
            self._keys = KeySet.import_key_set(requests.get(self._keys_url, timeout=10).json())
            self._fetched = monotonic()
        return decode(token, self._keys, algorithms=["RS256"])
