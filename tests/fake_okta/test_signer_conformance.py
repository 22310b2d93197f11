"""SignerConformance passes our signers and fails those that Okta would refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.errors import JoseError

from okta_m2m import PrivateKey
from okta_m2m.testing import SignerConformance


class Remote:
    """A signer that is awaited, like one across a network. ``spoilt`` replaces attributes of it."""

    def __init__(self, **spoilt: Any) -> None:
        self.key = PrivateKey.generate("ES256")
        self.alg, self.kid, self.public_jwk = "ES256", "remote", dict(self.key.public_jwk)
        self.__dict__.update(spoilt)

    async def sign(self, message: bytes, /) -> bytes:
        await asyncio.sleep(0)
        return self.key.sign(message)


class TestEc(SignerConformance):
    @pytest.fixture
    def signer(self) -> PrivateKey:
        return PrivateKey.generate("ES384", kid="one")


class TestRsa(SignerConformance):
    @pytest.fixture
    def signer(self, rsa_key: PrivateKey) -> PrivateKey:
        return rsa_key


class TestAwaitable(SignerConformance):
    @pytest.fixture
    def signer(self) -> Remote:
        return Remote()


def der(message: bytes) -> bytes:
    """A signature in DER, as most KMSs return it."""
    return ec.generate_private_key(ec.SECP256R1()).sign(message, ec.ECDSA(hashes.SHA256()))


SPOILT: dict[str, dict[str, Any]] = {
    "test_its_algorithm_is_accepted_by_okta_and_fits_its_key": {"alg": "PS256"},
    "test_its_kid_is_a_string_or_none": {"kid": 7},
    "test_its_public_jwk_is_complete_and_contains_no_private_member": {
        "public_jwk": {"kty": "EC", "crv": "P-256", "d": "AQ"}
    },
    "test_its_signature_has_the_format_of_jws_and_verifies": {"sign": der},
    "test_a_signer_in_memory_returns_bytes_and_not_an_awaitable": {"in_memory": True},
    "test_a_snapshot_is_the_same_object_until_the_key_changes": {"snapshot": lambda: Remote()},
}


@pytest.mark.parametrize("promise", SPOILT)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # of a signer that should have returned bytes
def test_a_signer_that_breaks_a_promise_fails_its_test(promise: str) -> None:
    test: Callable[[Any], Awaitable[None] | None] = getattr(SignerConformance(), promise)
    test(Remote())
    spoilt = Remote(**SPOILT[promise])
    with pytest.raises((AssertionError, ValueError, JoseError)):
        test(spoilt)
