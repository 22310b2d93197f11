"""A test suite for your own signers, such as a KMS, an HSM or an agent.

    class TestMySigner(SignerConformance):
        @pytest.fixture
        def signer(self) -> MySigner:
            return MySigner(...)

Invariant: a signer that passes can sign assertions and proofs that Okta accepts, in every runtime that its ``sign`` supports.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .fake_okta import _jws
from .fake_okta._jws import ALGORITHMS, PRIVATE_MEMBERS


class SignerConformance:
    """Each test checks one promise of :class:`okta_m2m.Signer`. Subclass it and define a fixture ``signer``."""

    @pytest.fixture
    def signer(self) -> Any:
        """The signer under test. Define this fixture in a subclass."""
        raise NotImplementedError(
            f"{type(self).__name__} has no fixture named signer. Define one that returns the signer."
        )

    def test_its_algorithm_is_accepted_by_okta_and_fits_its_key(self, signer: Any) -> None:
        assert signer.alg in ALGORITHMS, "Okta accepts only RS256 to RS512 and ES256 to ES512 from a service app."
        assert (signer.public_jwk["kty"], signer.public_jwk.get("crv")) == ALGORITHMS[signer.alg]

    def test_its_kid_is_a_string_or_none(self, signer: Any) -> None:
        assert signer.kid is None or (isinstance(signer.kid, str) and signer.kid)

    def test_its_public_jwk_is_complete_and_contains_no_private_member(self, signer: Any) -> None:
        members = dict(signer.public_jwk)
        assert not PRIVATE_MEMBERS & members.keys()
        assert {"n", "e"} <= set(members) if members["kty"] == "RSA" else {"crv", "x", "y"} <= set(members)
        assert all(isinstance(value, str) for value in members.values())

    def test_its_signature_has_the_format_of_jws_and_verifies(self, signer: Any) -> None:
        verify(signer, b"a message")

    def test_it_signs_messages_of_any_length(self, signer: Any) -> None:
        for message in (b"", b"\0\xff", b"x" * 20_000):
            verify(signer, message)

    def test_it_signs_for_many_callers_at_once(self, signer: Any) -> None:
        if inspect.isawaitable(first := signer.sign(b"first")):
            signatures = asyncio.run(_gather(first, *(signer.sign(b"%d" % number) for number in range(24))))
            assert all(isinstance(one, bytes) for one in signatures)
        else:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda number: verify(signer, b"%d" % number), range(24)))

    def test_signing_does_not_change_its_attributes(self, signer: Any) -> None:
        before = (signer.alg, signer.kid, dict(signer.public_jwk))
        signature(signer, b"a message")
        assert (signer.alg, signer.kid, dict(signer.public_jwk)) == before

    def test_a_signer_in_memory_returns_bytes_and_not_an_awaitable(self, signer: Any) -> None:
        if getattr(signer, "in_memory", False):
            assert isinstance(signer.sign(b"a message"), bytes)

    def test_a_snapshot_is_the_same_object_until_the_key_changes(self, signer: Any) -> None:
        if hasattr(signer, "snapshot"):
            assert signer.snapshot() is signer.snapshot()
            verify(signer.snapshot(), b"a message")


def signature(signer: Any, message: bytes) -> bytes:
    """The signature of ``message``. An awaitable is awaited."""
    result = signer.sign(message)
    if inspect.isawaitable(result):
        [result] = asyncio.run(_gather(result))
    assert isinstance(result, bytes), f"sign returned {type(result).__name__}. It must return bytes."
    return result


def verify(signer: Any, payload: bytes) -> None:
    """Signs a JWS and verifies it as FakeOkta does, with only the signer's public JWK."""
    header = {"alg": signer.alg}
    message = f"{_jws.encode(json.dumps(header).encode())}.{_jws.encode(payload)}"
    compact = f"{message}.{_jws.encode(signature(signer, message.encode()))}"
    verified = _jws.verify(_jws.ParsedJws(header, {}, compact), signer.public_jwk)
    assert verified, (
        "The signature must be that of a JWS (for ES256 to ES512: R and S, not DER), and fit the public JWK."
    )


async def _gather(*signatures: Any) -> list[Any]:
    return await asyncio.gather(*signatures)
