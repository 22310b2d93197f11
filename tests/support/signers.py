"""A signer for tests in which nobody verifies a signature."""

from __future__ import annotations


class Stub:
    """A signer that costs nothing: it signs everything alike, or raises ``error``."""

    alg = "ES256"
    in_memory = True

    def __init__(self, kid: str = "kid-1", error: Exception | None = None) -> None:
        self.kid = kid
        self.error = error
        self.public_jwk = {"kty": "EC", "kid": kid}

    def sign(self, message: bytes, /) -> bytes:
        if self.error is not None:
            raise self.error
        return b"signature"
