"""Other clients get tokens from FakeOkta and call its API over TLS, in a process of their own.

Invariant: FakeOkta treats them like ours. That a client lacks something is found out from the client itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from conformance_table import Tables
from okta_m2m import PrivateKey, __version__
from okta_m2m.testing import App, FakeOkta

pytestmark = pytest.mark.interop

TABLE = "FakeOkta accepts other clients' requests"
ASKED_FOR_A_NONCE = (400, "use_dpop_nonce", "/oauth2/v1/token")

Cell: TypeAlias = Callable[[str], None]
Perform: TypeAlias = Callable[..., dict[str, Any]]
every_client = pytest.mark.parametrize("client", ["authlib", "requests-oauth2client", "okta"])


@pytest.fixture
def perform(client: str, org: FakeOkta, answer_of: Callable[[dict[str, Any]], Any], tables: Tables) -> Perform:
    """``perform(app, key)`` has the client get a token and list users."""
    tables.about[TABLE] = f"Server: FakeOkta of okta-m2m {__version__}, over TLS."

    def performed(app: App, key: PrivateKey, *, dpop: bool = False, revoke: bool = False) -> dict[str, Any]:
        task = {
            "client": client,
            "org": org.url,
            "api": f"{org.url}/api/v1/users",
            "client_id": app.client_id,
            "scope": "okta.users.read",
            "jwk": {**key.private_jwk(), "kid": key.kid, "alg": key.alg},
            "dpop": dpop,
            "revoke": revoke,
        }
        done: dict[str, Any] = answer_of(task)
        tables.versions[client] = f"{client} {done.pop('version')}"
        return done

    return performed


def refused(org: FakeOkta) -> list[tuple[int, str, str]]:
    return [(refusal.status, refusal.error, refusal.path) for refusal in org.refusals]


@every_client
@pytest.mark.parametrize("alg", ["RS256", "ES256"])
@pytest.mark.conforms(TABLE, "private_key_jwt with {alg}: a Bearer token opens the API")
def test_a_bearer_token_opens_the_api(
    perform: Perform, org: FakeOkta, keys: dict[str, PrivateKey], cell: Cell, alg: str
) -> None:
    done = perform(org.add_app(keys[alg]), keys[alg])
    if "not_offered" in done:
        assert org.requests == []
        cell(f"not offered: {done['not_offered']}")
        return
    assert done == {"token_type": "Bearer", "scope": "okta.users.read", "status": 200}
    assert refused(org) == []


@every_client
@pytest.mark.conforms(TABLE, "DPoP: a bound token opens the API")
def test_a_bound_token_opens_the_api(perform: Perform, org: FakeOkta, keys: dict[str, PrivateKey], cell: Cell) -> None:
    done = perform(org.add_app(keys["RS256"], dpop_bound=True), keys["RS256"], dpop=True)
    if "not_offered" in done:
        assert org.requests == []
        cell(f"not offered: {done['not_offered']}")
        return
    assert done == {"token_type": "DPoP", "scope": "okta.users.read", "status": 200}
    assert refused(org) == [ASKED_FOR_A_NONCE]


@every_client
@pytest.mark.conforms(TABLE, "introspection and revocation: active, then not")
def test_a_token_is_introspected_and_revoked(
    perform: Perform, org: FakeOkta, keys: dict[str, PrivateKey], cell: Cell
) -> None:
    done = perform(org.add_app(keys["RS256"]), keys["RS256"], revoke=True)
    if "not_offered" in done:
        assert org.requests == []
        cell(f"not offered: {done['not_offered']}")
        return
    assert (done["active"], done["active_after"]) == (True, False)
    assert refused(org) == []


@every_client
@pytest.mark.conforms(TABLE, "a key that is not registered: the client reads `invalid_client`")
def test_a_key_that_is_not_registered_is_read_as_such(
    perform: Perform, org: FakeOkta, keys: dict[str, PrivateKey]
) -> None:
    app = org.add_app(PrivateKey.generate("RS256").with_kid("RS256-key"))
    done = perform(app, keys["RS256"])
    assert "invalid" in done["refused"].lower()
    assert "client" in done["refused"].lower()
    assert set(refused(org)) == {(401, "invalid_client", "/oauth2/v1/token")}


@every_client
@pytest.mark.conforms(TABLE, "a scope that was not granted: the client reads `consent_required`")
def test_a_scope_that_was_not_granted_is_read_as_such(
    perform: Perform, org: FakeOkta, keys: dict[str, PrivateKey]
) -> None:
    done = perform(org.add_app(keys["RS256"], scopes=["okta.groups.read"]), keys["RS256"])
    assert "not allowed any of the requested scopes" in done["refused"]
    assert set(refused(org)) == {(400, "consent_required", "/oauth2/v1/token")}
