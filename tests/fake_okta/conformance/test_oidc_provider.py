"""oidc-provider, a certified authorization server, and an API checked by oauth4webapi accept what this project sends.

Invariant: nothing on the other side is ours, and a test shows that each of its checks fails what is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeAlias

import httpx
import pytest

from clients import CLIENTS, Client
from conformance_table import Tables
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.errors import InvalidClient, InvalidScope, SubjectRefused

from .conftest import OidcProvider
from .signing import ASSERTION_TYPE, assertion, proof

pytestmark = pytest.mark.interop

TAKES = "oidc-provider accepts our requests"
REFUSES = "oidc-provider refuses invalid requests"
API_REFUSES = "An API behind oidc-provider refuses invalid requests"

Connect: TypeAlias = Callable[[ServiceApp], Client]
Cell: TypeAlias = Callable[[str], None]
every_client = pytest.mark.parametrize("client", list(CLIENTS))


class Registered:
    """A client that was registered dynamically (RFC 7591), and its requests about its tokens."""

    def __init__(self, server: OidcProvider, key: PrivateKey, **metadata: Any) -> None:
        self.server = server
        self.key = key
        answer = httpx.post(
            f"{server.issuer}/oauth2/v1/clients",
            json={
                "client_name": "Example service client",
                "grant_types": ["client_credentials"],
                "response_types": [],
                "redirect_uris": [],
                "token_endpoint_auth_method": "private_key_jwt",
                "scope": server.scopes,
                "jwks": key.jwks(),
                **metadata,
            },
        )
        assert answer.status_code == 201, answer.text
        self.client_id: str = answer.json()["client_id"]

    def app(self, **settings: Any) -> ServiceApp:
        return ServiceApp(
            self.server.issuer,
            **{
                "client_id": self.client_id,
                "key": self.key,
                "scopes": ["api:read"],
                "authorization_server": "default",
                "origins": [self.server.audience],
                **settings,
            },
        )

    def post(self, endpoint: str, form: dict[str, str], dpop: str | None = None, **claims: Any) -> httpx.Response:
        """A request to an endpoint that needs client authentication; with a new assertion unless the form has one."""
        url = f"{self.server.issuer}/oauth2/default/v1/{endpoint}"
        content = {
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion(self.client_id, self.key, url, **claims),
            **form,
        }
        return httpx.post(url, data=content, headers={} if dpop is None else {"DPoP": dpop})

    def introspect(self, token: str) -> dict[str, Any]:
        answer = self.post("introspect", {"token": token})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def revoke(self, token: str) -> None:
        answer = self.post("revoke", {"token": token})
        assert answer.status_code == 200, answer.text


@pytest.fixture
def server(oidc_provider: OidcProvider, tables: Tables) -> OidcProvider:
    at = f"oidc-provider {oidc_provider.version} on node {oidc_provider.node}"
    api = f"oauth4webapi {oidc_provider.oauth4webapi} for JWT access tokens, jose {oidc_provider.jose} for opaque ones"
    said = "One part of a request is changed, and each cell shows the error. The unchanged request was accepted."
    tables.about[TAKES] = f"Server: {at}; an API behind it that checks tokens and proofs with {api}."
    tables.about[REFUSES] = f"Server: {at}. {said}"
    tables.about[API_REFUSES] = f"Server: an API that checks with {api}. {said}"
    return oidc_provider


@pytest.fixture
def register(server: OidcProvider, keys: dict[str, PrivateKey]) -> Callable[..., Registered]:
    def registered(alg: str = "ES256", **metadata: Any) -> Registered:
        return Registered(server, keys[alg], **metadata)

    return registered


# ── what it takes ────────────────────────────────────────────────────────────────────────────────────────────────────


@every_client
@pytest.mark.parametrize("alg", ["RS256", "ES256"])
@pytest.mark.conforms(TAKES, "private_key_jwt with {alg}, key registered dynamically: a Bearer token opens the API")
def test_a_registered_key_gets_a_token_that_opens_the_api(
    connect: Connect, register: Callable[..., Registered], alg: str
) -> None:
    registered = register(alg)
    answer = connect(registered.app(dpop=False)).call("GET", f"{registered.server.audience}/orders")
    assert answer.json == {
        "client_id": registered.client_id,
        "scope": "api:read",
        "token": "JWT",
        "scheme": "Bearer",
        "method": "GET",
        "target": "/orders",
    }


@every_client
@pytest.mark.parametrize("token", ["opaque", "jwt"])
@pytest.mark.parametrize("alg", ["RS256", "ES256"])
@pytest.mark.conforms(TAKES, "DPoP with {alg}, nonce required: a bound token ({token}) opens the API, call after call")
def test_a_bound_token_opens_the_api_call_after_call(
    connect: Connect, register: Callable[..., Registered], token: str, alg: str
) -> None:
    registered = register("ES256", access_token_format=token, dpop_bound_access_tokens=True)
    client = connect(registered.app(dpop=PrivateKey.generate(alg)))
    answers = [client.call(method, f"{registered.server.audience}/orders") for method in ("GET", "POST", "GET", "PUT")]
    assert [(answer.status, answer.json["scheme"], answer.json["token"].lower()) for answer in answers] == [
        (200, "DPoP", token)
    ] * 4


@every_client
@pytest.mark.conforms(TAKES, "introspection: an opaque token is active, for this client and this scope")
def test_introspection_reports_an_opaque_token_as_active(connect: Connect, register: Callable[..., Registered]) -> None:
    registered = register(access_token_format="opaque")
    token = connect(registered.app(dpop=False)).token()
    found = registered.introspect(token.value)
    assert (found["active"], found["client_id"], found["scope"]) == (True, registered.client_id, "api:read")
    assert found["exp"] - found["iat"] == token.expires_in == 600
    assert token.scopes == ("api:read",)


@every_client
@pytest.mark.conforms(TAKES, "introspection: a bound token carries the thumbprint of our DPoP key")
def test_the_server_has_bound_the_token_to_our_key(connect: Connect, register: Callable[..., Registered]) -> None:
    registered = register(access_token_format="opaque")
    key = PrivateKey.generate("ES256")
    token = connect(registered.app(dpop=key)).token()
    assert token.dpop_bound
    assert registered.introspect(token.value)["cnf"] == {"jkt": key.thumbprint()}


@every_client
@pytest.mark.parametrize("kind", ["Bearer", "DPoP"])
@pytest.mark.conforms(TAKES, "revocation: a {kind} token that was revoked is renewed, and the call is sent again")
def test_a_revoked_token_is_renewed_and_the_call_made_again(
    connect: Connect, register: Callable[..., Registered], kind: str
) -> None:
    registered = register(access_token_format="opaque")
    client = connect(registered.app(dpop=kind == "DPoP"))
    first = client.token()
    registered.revoke(first.value)
    assert registered.introspect(first.value) == {"active": False}
    assert client.call("GET", f"{registered.server.audience}/orders").status == 200
    second = client.token()
    assert second.value != first.value
    assert registered.introspect(second.value)["active"] is True


@every_client
@pytest.mark.conforms(TAKES, "the API's own DPoP nonce is learned from its 401, and kept")
def test_the_apis_nonce_is_learned(connect: Connect, register: Callable[..., Registered]) -> None:
    registered = register()
    client = connect(registered.app())
    statuses = [client.call("GET", f"{registered.server.audience}/nonce/{number}").status for number in range(3)]
    assert statuses == [200, 200, 200]


@every_client
@pytest.mark.parametrize("target", ["/orders?since=2026-01-01&until=x", "/orders/a%40b", "/orders/%C3%A9/~x"])
@pytest.mark.conforms(TAKES, "`htu` of `{target}`")
def test_htu_is_what_the_api_compares_with(connect: Connect, register: Callable[..., Registered], target: str) -> None:
    registered = register()
    answer = connect(registered.app()).call("GET", registered.server.audience + target)
    assert answer.status == 200, answer.json


@every_client
@pytest.mark.conforms(TAKES, "a key that is not registered: InvalidClient")
def test_a_key_that_is_not_registered_is_an_invalid_client(
    connect: Connect, register: Callable[..., Registered]
) -> None:
    client = connect(register().app(key=PrivateKey.generate("ES256"), max_wait=10))
    with pytest.raises(InvalidClient):
        client.token()


@every_client
@pytest.mark.conforms(TAKES, "a scope that the client may not have: InvalidScope")
def test_a_scope_that_is_not_the_clients_is_an_invalid_scope(
    connect: Connect, register: Callable[..., Registered]
) -> None:
    client = connect(register(scope="api:read").app(scopes=["api:write"], max_wait=10))
    with pytest.raises(InvalidScope):
        client.token()


# ── on behalf of a subject ───────────────────────────────────────────────────────────────────────────────────────────


FORM = {"grant_type": "client_credentials", "scope": "api:read"}
EXCHANGING = ["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"]


@every_client
@pytest.mark.parametrize("kind", ["Bearer", "DPoP"])
@pytest.mark.conforms(TAKES, "token exchange: a {kind} token on behalf of a subject opens the API")
def test_an_exchange_yields_a_token_on_behalf_of_the_subject(
    connect: Connect, register: Callable[..., Registered], kind: str
) -> None:
    user, registered = register(), register(grant_types=EXCHANGING, dpop_bound_access_tokens=kind == "DPoP")
    subject_token = user.post("token", FORM).json()["access_token"]
    with registered.app(dpop=kind == "DPoP") as app:
        for_user = app.on_behalf_of(subject_token, audience=registered.server.audience, scopes=["api:read"])
        answer = connect(for_user).call("GET", f"{registered.server.audience}/orders")
    assert answer.json == {
        "client_id": registered.client_id,
        "on_behalf_of": user.client_id,
        "scope": "api:read",
        "token": "JWT",
        "scheme": kind,
        "method": "GET",
        "target": "/orders",
    }


@every_client
@pytest.mark.conforms(TAKES, "token exchange: a subject that is not valid: SubjectRefused")
def test_an_exchange_of_an_invalid_subject_is_refused(connect: Connect, register: Callable[..., Registered]) -> None:
    registered = register(grant_types=EXCHANGING)
    with registered.app(max_wait=10) as app:
        subject_token = register().post("token", FORM).json()["access_token"]
        header, _, signature = subject_token.split(".")
        forged = f"{header}.eyJzdWIiOiJhZGEifQ.{signature}"
        for_user = app.on_behalf_of(forged, audience=registered.server.audience, scopes=["api:read"])
        with pytest.raises(SubjectRefused):
            connect(for_user).token()


# ── what it refuses ──────────────────────────────────────────────────────────────────────────────────────────────────


ELSEWHERE = "https://elsewhere.example/oauth2/default/v1/token"


def told(answer: httpx.Response) -> str:
    """The error code, and the check that failed."""
    assert answer.status_code in (400, 401), answer.text
    content = answer.json()
    because = content.get("because") or answer.headers.get("x-refused-because") or content["error_description"]
    return f"`{content['error']}`: {because}"


def at(seconds: int) -> int:
    return int(time.time()) + seconds


@pytest.mark.parametrize(
    ("part", "changed", "check"),
    [
        ("`aud`: another server's", lambda: {"aud": ELSEWHERE}, "audience (aud)"),
        ("`aud`: several, none of them its own", lambda: {"aud": [ELSEWHERE]}, "audience (aud)"),
        ("`aud`: none", lambda: {"aud": None}, "aud (JWT audience)"),
        ("`exp`: past", lambda: {"exp": at(-10)}, "expired"),
        ("`exp`: none", lambda: {"exp": None}, "expiration"),
        ("`nbf`: in the future", lambda: {"nbf": at(60)}, "not active"),
        ("`iss`: another client", lambda: {"iss": "another"}, "iss (JWT issuer)"),
        ("`sub`: another client", lambda: {"sub": "another"}, "client not found"),
        ("`jti`: none", lambda: {"jti": None}, "unique jti"),
    ],
)
@pytest.mark.conforms(REFUSES, "client assertion, {part}", client="token endpoint")
def test_each_claim_of_an_assertion_is_checked(
    register: Callable[..., Registered], cell: Cell, part: str, changed: Callable[[], dict[str, Any]], check: str
) -> None:
    registered = register()
    assert registered.post("token", FORM).status_code == 200
    said = told(registered.post("token", FORM, **changed()))
    assert said.startswith("`invalid_client`")
    assert check in said
    cell(said)


@pytest.mark.conforms(REFUSES, "client assertion, `jti`: used before", client="token endpoint")
def test_an_assertion_works_once(register: Callable[..., Registered], cell: Cell, server: OidcProvider) -> None:
    registered = register()
    form = {**FORM, "client_assertion": assertion(registered.client_id, registered.key, server.token_endpoint)}
    assert registered.post("token", form).status_code == 200
    said = told(registered.post("token", form))
    assert "only be used once" in said
    cell(said)


@pytest.mark.conforms(REFUSES, "client assertion, signed by a key that is not registered", client="token endpoint")
def test_an_assertion_of_another_key_is_refused(
    register: Callable[..., Registered], cell: Cell, server: OidcProvider
) -> None:
    registered = register()
    key = PrivateKey.generate("ES256").with_kid(registered.key.kid)
    signed = assertion(registered.client_id, key, server.token_endpoint)
    said = told(registered.post("token", {**FORM, "client_assertion": signed}))
    assert "signature" in said
    cell(said)


@pytest.fixture
def nonce(register: Callable[..., Registered], server: OidcProvider) -> str:
    """The nonce that the token endpoint demands now."""
    answer = register().post("token", FORM, proof(PrivateKey.generate("ES256"), "POST", server.token_endpoint))
    assert answer.json()["error"] == "use_dpop_nonce"
    return answer.headers["dpop-nonce"]


@pytest.mark.parametrize(
    ("part", "changed", "check"),
    [
        ("`htm`: another method", {"method": "GET"}, "`invalid_dpop_proof`: DPoP proof htm mismatch"),
        ("`htu`: another URL", {"url": ELSEWHERE}, "`invalid_dpop_proof`: DPoP proof htu mismatch"),
        ("`iat`: ten minutes ago, and no nonce", {"ago": 600, "nonce": None}, "`use_dpop_nonce`: DPoP proof iat"),
        (
            "`iat`: ten minutes in the future, and no nonce",
            {"ago": -600, "nonce": None},
            "`use_dpop_nonce`: DPoP proof iat",
        ),
        ("`nonce`: none", {"nonce": None}, "`use_dpop_nonce`: nonce is required"),
        ("`nonce`: not its own", {"nonce": "made-up"}, "`use_dpop_nonce`: invalid nonce"),
    ],
)
@pytest.mark.conforms(REFUSES, "DPoP proof, {part}", client="token endpoint")
def test_each_claim_of_a_proof_is_checked_at_the_token_endpoint(
    register: Callable[..., Registered],
    cell: Cell,
    server: OidcProvider,
    nonce: str,
    part: str,
    changed: dict[str, Any],
    check: str,
) -> None:
    registered, key = register(), PrivateKey.generate("ES256")

    def asked(
        method: str = "POST", url: str = server.token_endpoint, ago: int = 0, nonce: str | None = nonce
    ) -> httpx.Response:
        return registered.post("token", FORM, proof(key, method, url, now=time.time() - ago, nonce=nonce))

    assert asked().json()["token_type"] == "DPoP"
    said = told(asked(**changed))
    assert said.startswith(check)
    cell(said)


@pytest.mark.conforms(REFUSES, "DPoP proof, `jti`: used before", client="token endpoint")
def test_a_proof_works_once_at_the_token_endpoint(
    register: Callable[..., Registered], cell: Cell, server: OidcProvider, nonce: str
) -> None:
    registered = register()
    sent = proof(PrivateKey.generate("ES256"), "POST", server.token_endpoint, nonce=nonce)
    assert registered.post("token", FORM, sent).status_code == 200
    said = told(registered.post("token", FORM, sent))
    assert "Replay" in said
    cell(said)


@pytest.mark.conforms(REFUSES, "no DPoP proof, from a client that must send one", client="token endpoint")
def test_a_client_that_must_use_dpop_gets_no_bearer_token(register: Callable[..., Registered], cell: Cell) -> None:
    said = told(register(dpop_bound_access_tokens=True).post("token", FORM))
    assert "DPoP proof JWT not provided" in said
    cell(said)


class Bound:
    """A token that is bound to ``key``, and calls with it."""

    def __init__(self, registered: Registered, nonce: str) -> None:
        self.key = PrivateKey.generate("ES256")
        self.url = f"{registered.server.audience}/orders"
        answer = registered.post(
            "token", FORM, proof(self.key, "POST", registered.server.token_endpoint, nonce=nonce)
        ).json()
        assert answer["token_type"] == "DPoP"
        self.token: str = answer["access_token"]

    def proof(self, **changes: Any) -> str:
        ago = changes.pop("ago", 0)
        usual = {"key": self.key, "method": "GET", "url": self.url, "token": self.token, "now": time.time() - ago}
        return proof(**{**usual, **changes})

    def get(self, proof: str | None, scheme: str = "DPoP", path: str = "") -> httpx.Response:
        headers = {"Authorization": f"{scheme} {self.token}"} | ({} if proof is None else {"DPoP": proof})
        return httpx.get(self.url + path, headers=headers)


@pytest.fixture
def bound(register: Callable[..., Registered], nonce: str, client: str) -> Bound:
    return Bound(register(access_token_format="jwt" if client == "JWT token" else "opaque"), nonce)


either_token = pytest.mark.parametrize("client", ["JWT token", "opaque token"])


@either_token
@pytest.mark.parametrize(
    ("part", "changed", "check"),
    [
        ("`ath`: of another token", {"token": "another"}, "ath"),
        ("`ath`: none", {"token": None}, "ath"),
        ("`htm`: another method", {"method": "POST"}, "htm"),
        ("`htu`: another path", {"url": "{url}/1"}, "htu"),
        ("`htu`: another origin", {"url": "https://elsewhere.example/orders"}, "htu"),
        ("`iat`: ten minutes ago", {"ago": 600}, "iat"),
        ("`iat`: ten minutes in the future", {"ago": -600}, "iat"),
        ("`jwk`: not the token's", {"key": PrivateKey.generate("ES256")}, "mismatch"),
    ],
)
@pytest.mark.conforms(API_REFUSES, "DPoP proof, {part}")
def test_each_claim_of_a_proof_is_checked_at_the_api(
    bound: Bound, cell: Cell, part: str, changed: dict[str, Any], check: str
) -> None:
    assert bound.get(bound.proof()).status_code == 200
    changed = {name: v.format(url=bound.url) if isinstance(v, str) else v for name, v in changed.items()}
    said = told(bound.get(bound.proof(**changed)))
    assert said.startswith("`invalid_dpop_proof`")
    assert check in said
    cell(said)


@either_token
@pytest.mark.conforms(API_REFUSES, "DPoP proof, `jti`: used before")
def test_a_proof_works_once_at_the_api(bound: Bound, cell: Cell) -> None:
    sent = bound.proof()
    assert bound.get(sent).status_code == 200
    said = told(bound.get(sent))
    assert "used before" in said
    cell(said)


@either_token
@pytest.mark.conforms(API_REFUSES, "DPoP proof, `nonce`: not the API's own")
def test_the_nonce_of_the_token_endpoint_is_not_the_apis(bound: Bound, cell: Cell, nonce: str) -> None:
    url = f"{bound.url}/nonce"
    answer = bound.get(bound.proof(url=url, nonce=nonce), path="/nonce")
    said = told(answer)
    assert said.startswith("`use_dpop_nonce`")
    assert bound.get(bound.proof(url=url, nonce=answer.headers["dpop-nonce"]), path="/nonce").status_code == 200
    cell(said)


@either_token
@pytest.mark.parametrize(("how", "scheme"), [("as Bearer, without a proof", "Bearer"), ("without a proof", "DPoP")])
@pytest.mark.conforms(API_REFUSES, "a bound token {how}")
def test_a_bound_token_is_refused_without_its_proof(bound: Bound, cell: Cell, how: str, scheme: str) -> None:
    assert bound.get(bound.proof()).status_code == 200
    cell(told(bound.get(None, scheme)))
