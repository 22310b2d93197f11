"""A suite that any signer can run against itself (a KMS, an HSM, an agent's socket).

    class TestMySigner(SignerConformance):
        @pytest.fixture
        def signer(self) -> MySigner:
            return MySigner(...)

Invariant: what passes here can sign assertions and proofs that Okta takes, under every runtime that its ``sign`` allows.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from base64 import urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

__all__ = ["SignerConformance"]

_ALGORITHMS = {
    "RS256": "RSA",
    "RS384": "RSA",
    "RS512": "RSA",
    "ES256": "P-256",
    "ES384": "P-384",
    "ES512": "P-521",
}
_PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}


class SignerConformance:
    """Subclass it, and give it a fixture ``signer``. Each test is one promise of :class:`okta_m2m.keys.Signer`."""

    @pytest.fixture
    def signer(self) -> Any:
        raise NotImplementedError("override the fixture: it gives the signer to try")

    def test_its_algorithm_is_one_that_okta_takes_and_fits_its_key(self, signer: Any) -> None:
        assert signer.alg in _ALGORITHMS, "Okta takes no PS*, no EdDSA and no HS* of a service app"
        assert signer.public_jwk.get("crv", signer.public_jwk["kty"]) == _ALGORITHMS[signer.alg]

    def test_its_kid_is_text_or_none(self, signer: Any) -> None:
        assert signer.kid is None or (isinstance(signer.kid, str) and signer.kid)

    def test_its_public_jwk_is_complete_and_holds_nothing_private(self, signer: Any) -> None:
        members = dict(signer.public_jwk)
        assert not _PRIVATE & set(members)
        assert {"n", "e"} <= set(members) if members["kty"] == "RSA" else {"crv", "x", "y"} <= set(members)
        assert all(isinstance(value, str) for value in members.values())

    def test_its_signature_is_one_of_jws_and_verifies(self, signer: Any) -> None:
        verify(signer, b"a message")

    def test_it_signs_anything_from_nothing_to_a_long_message(self, signer: Any) -> None:
        for message in (b"", b"\0\xff", b"x" * 20_000):
            verify(signer, message)

    def test_it_signs_for_many_at_once(self, signer: Any) -> None:
        if inspect.isawaitable(first := signer.sign(b"first")):
            asyncio.run(_all_of(signer, first))
        else:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda number: verify(signer, b"%d" % number), range(24)))

    def test_what_it_says_of_itself_does_not_change_by_signing(self, signer: Any) -> None:
        before = (signer.alg, signer.kid, dict(signer.public_jwk))
        signature(signer, b"a message")
        assert (signer.alg, signer.kid, dict(signer.public_jwk)) == before

    def test_it_is_quick_to_answer_with_bytes_if_it_says_that_it_is_in_memory(self, signer: Any) -> None:
        if getattr(signer, "in_memory", False):
            assert isinstance(signer.sign(b"a message"), bytes)

    def test_a_snapshot_is_the_same_object_until_the_key_changes(self, signer: Any) -> None:
        if hasattr(signer, "snapshot"):
            assert signer.snapshot() is signer.snapshot()
            verify(signer.snapshot(), b"a message")


def signature(signer: Any, message: bytes) -> bytes:
    """What ``signer.sign`` gives, awaited if need be."""
    made = signer.sign(message)
    if inspect.isawaitable(made):
        made = asyncio.run(_awaited(made))
    assert isinstance(made, bytes), f"sign answers with {type(made).__name__}, not with bytes"
    return made


def verify(signer: Any, payload: bytes) -> None:
    """Has a JWS signed and checked by joserfc, which knows nothing of the signer but its public JWK."""
    header = {"alg": signer.alg}
    message = _encoded(json.dumps(header).encode()) + b"." + _encoded(payload)
    compact = message + b"." + _encoded(signature(signer, message))
    kind = RSAKey if signer.public_jwk["kty"] == "RSA" else ECKey
    assert jws.deserialize_compact(compact, kind.import_key(dict(signer.public_jwk)), [signer.alg]).payload == payload


def _encoded(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


async def _awaited(made: Any) -> Any:
    return await made


async def _all_of(signer: Any, first: Any) -> None:
    signed = await asyncio.gather(first, *(signer.sign(b"%d" % number) for number in range(24)))
    assert all(isinstance(one, bytes) for one in signed)
