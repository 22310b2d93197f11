"""With every client, keys and signers: a refused key, a changed key file, and a signer that blocks or fails."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from clients import AsyncClient
from okta_m2m import ConfigurationError, OktaM2MError, PrivateKey
from okta_m2m.testing import FakeOkta
from promises import USERS, Connect, Service, either_binding, redirect, statuses


@either_binding
def test_after_a_refused_key_the_next_one_is_tried(okta: FakeOkta, service: Service, connect: Connect) -> None:
    old, new = PrivateKey.generate(kid="old"), PrivateKey.generate(kid="new")
    app = service(key=[old, new])
    okta.apps[app.client_id].jwks = new.jwks()
    client = connect(app)
    assert client.get(okta.url + USERS).status == 200
    before = okta.token_requests
    okta.revoke_all()
    assert client.get(okta.url + USERS).status == 200
    assert okta.token_requests == before + 1  # the key that was taken goes first from now on


@either_binding
def test_a_key_rotation_during_calls_fails_no_call(okta: FakeOkta, service: Service, connect: Connect) -> None:
    old, new = PrivateKey.generate(kid="old"), PrivateKey.generate(kid="new")
    app = service(key=[old, new])
    client = connect(app)
    assert client.get(okta.url + USERS).status == 200
    okta.apps[app.client_id].deactivate_key("old")
    okta.revoke_all()
    assert statuses(client.at_once(10, "GET", okta.url + USERS)) == {200}
    assert okta.tokens_minted == 2


def pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@either_binding
def test_a_changed_key_file_is_used_from_then_on(
    okta: FakeOkta, service: Service, connect: Connect, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    path = tmp_path / "key.pem"
    path.write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    app = service(key=PrivateKey.from_file(path))
    client = connect(app)
    assert client.get(okta.url + USERS).status == 200
    new = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(pem(new))
    okta.apps[app.client_id].jwks = PrivateKey(new).jwks()
    okta.revoke_all()
    assert client.get(okta.url + USERS).status == 200
    assert okta.tokens_minted == 2


class Blocking:
    """A signer across a network, whose client blocks."""

    def __init__(self) -> None:
        self.key = PrivateKey.generate()
        self.alg, self.kid, self.public_jwk = self.key.alg, self.key.kid, self.key.public_jwk
        self.threads: set[int] = set()

    def jwks(self) -> Any:
        return self.key.jwks()

    def sign(self, message: bytes, /) -> bytes:
        self.threads.add(threading.get_ident())
        time.sleep(0.05)  # the network
        return self.key.sign(message)


class Awaitable_(Blocking):
    """A signer across a network, whose client is async."""

    async def sign(self, message: bytes, /) -> bytes:  # type: ignore[override]
        return self.key.sign(message)


class Wrapped(Blocking):
    """The same behind a plain function, which cannot be seen before it is called."""

    def sign(self, message: bytes, /) -> Any:
        return Awaitable_().sign(message)


class Failing(Blocking):
    def sign(self, message: bytes, /) -> bytes:
        raise PermissionError("KMS says no")


@pytest.mark.parametrize("purpose", ["key", "dpop"])
@either_binding
def test_a_blocking_signer_never_runs_on_an_event_loop(
    okta: FakeOkta, service: Service, connect: Connect, purpose: str, binding: str
) -> None:
    signer = Blocking()
    client = connect(service(**{purpose: signer}))
    loop = client.run(_thread) if isinstance(client, AsyncClient) else None
    assert client.get(okta.url + USERS).status == 200
    okta.revoke_all()
    assert client.get(redirect(okta, okta.url + USERS)).status == 200
    assert signer.threads
    assert loop not in signer.threads


async def _thread() -> int:
    return threading.get_ident()


@pytest.mark.parametrize("purpose", ["key", "dpop"])
@either_binding
def test_an_awaitable_signer_is_refused_and_the_message_names_it(
    okta: FakeOkta, service: Service, connect: Connect, purpose: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"Awaitable_\.sign is a coroutine function.*plain function"):
        service(**{purpose: Awaitable_()})
    client = connect(service(**{purpose: Wrapped()}))
    with pytest.raises(ConfigurationError, match=r"Wrapped\.sign returns an awaitable.*plain function"):
        client.get(okta.url + USERS)
    assert okta.requests == []


@either_binding
def test_the_error_names_a_signer_that_failed(okta: FakeOkta, service: Service, connect: Connect) -> None:
    client = connect(service(key=Failing()))
    with pytest.raises(OktaM2MError, match="Failing") as caught:
        client.get(okta.url + USERS)
    assert isinstance(caught.value.__cause__, PermissionError)
