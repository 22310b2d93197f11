"""Every request that this project sends and every answer that FakeOkta gives match Okta's published documents.

Invariant: each contradiction is listed here with its reason. One more, or one fewer, fails.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode

import pytest
import yaml

from clients import CLIENTS, Client
from conformance_table import Tables
from okta_m2m import PrivateKey, ServiceApp, __version__
from okta_m2m.testing import FakeOkta
from okta_m2m.testing.fake_okta._refusals import API_ERRORS, OAUTH_ERRORS

from .conftest import installed
from .description import Description, Exchange
from .signing import ASSERTION_TYPE, assertion, proof

pytestmark = pytest.mark.interop

SENT = "Our requests, checked against Okta's API description"
ANSWERED = "FakeOkta's responses, checked against Okta's API description"
ORG = "/oauth2/v1"
CUSTOM = "/oauth2/default/v1"
ANY = "/oauth2/{authorizationServerId}/v1"
ERROR_MAP = ("users", "groups", "logs", "apps")
GRANTS = ["urn:ietf:params:oauth:grant-type:token-exchange", "urn:ietf:params:oauth:grant-type:jwt-bearer"]
FROM_ANY_PATH = ("E0000007", "E0000009", "E0000010", "E0000021", "E0000022", "E0000047")
NOT_ONLY_HERE = "any path of an org answers so, and the document leaves it out of most of them"

Cell: TypeAlias = Callable[[str], None]


@pytest.fixture(scope="session")
def described(okta_spec: Path, tables: Tables) -> dict[str, Description]:
    """The documents ``oauth`` and ``management``, parsed once, because the second takes seconds."""

    def parsed(name: str) -> Description:
        source = (okta_spec / f"{name}.yaml").read_bytes()

        def parse(folder: Path) -> None:
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            document = yaml.load(source, loader)
            (folder / "document.json").write_text(json.dumps(document, default=str), encoding="utf-8")

        return Description(json.loads((installed(name, source, parse) / "document.json").read_text("utf-8")))

    found = {name: parsed(name) for name in ("oauth", "management")}
    stands = ", ".join(f"{name}.yaml {description.version}" for name, description in found.items())
    tables.about[SENT] = f"Described by: Okta's {stands}."
    tables.about[ANSWERED] = f"Described by: Okta's {stands}. Where a cell counts contradictions, the test names each."
    tables.versions["FakeOkta"] = f"FakeOkta of okta-m2m {__version__}"
    return found


@dataclass
class Wire:
    """A plain client that records what is sent in both directions."""

    okta: FakeOkta
    key: PrivateKey
    client_id: str
    dpop_key: PrivateKey
    nonce: str | None = None

    def send(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"", kind: str | None = None
    ) -> Exchange:
        connection = http.client.HTTPConnection("127.0.0.1", self.okta.server.port, timeout=30)
        try:
            types = {} if kind is None else {"Content-Type": kind}
            connection.request(method, path, body=body or None, headers={**types, **(headers or {})})
            response = connection.getresponse()
            self.nonce = response.headers.get("dpop-nonce")
            answer_type = response.headers.get("content-type")
            path = path.partition("?")[0]
            return Exchange(method, path, kind, body, response.status, answer_type, response.read())
        finally:
            connection.close()

    def post(self, path: str, form: dict[str, str], *, nonce: str | None = None, dpop: bool = False) -> Exchange:
        url = self.okta.url + path
        content = {
            **form,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion(self.client_id, self.key, url),
        }
        headers = {"DPoP": proof(self.dpop_key, "POST", url, nonce=nonce)} if dpop else {}
        kind = "application/x-www-form-urlencoded"
        return self.send("POST", path, headers, urlencode(content).encode("ascii"), kind)

    def token_request(self, path: str = "/oauth2/v1/token", scope: str = "okta.users.read", **options: Any) -> Exchange:
        return self.post(path, {"grant_type": "client_credentials", "scope": scope}, **options)

    def token(self, scope: str = "okta.users.read") -> str:
        return str(json.loads(self.token_request(scope=scope).answer_body)["access_token"])

    def administer(self, method: str, path: str, content: object = None) -> Exchange:
        """A call with an admin's SSWS token."""
        body = b"" if content is None else json.dumps(content).encode()
        kind = "application/json" if body else None
        return self.send(method, path, {"Authorization": f"SSWS {self.okta.ssws}"}, body, kind)

    def get(self, path: str, token: str, method: str = "GET", body: bytes = b"") -> Exchange:
        return self.send(method, path, {"Authorization": f"Bearer {token}"}, body, "application/json" if body else None)


@pytest.fixture
def wire(okta: FakeOkta, keys: dict[str, PrivateKey]) -> Wire:
    scopes = {f"okta.{kind}.{verb}" for kind in ERROR_MAP for verb in ("read", "manage")} & okta.scopes
    app = okta.add_app(keys["ES256"], sorted(scopes))
    app.roles = ["USER_ADMIN"]
    return Wire(okta, keys["ES256"], app.client_id, PrivateKey.generate("ES256"))


@pytest.fixture
def check_answers(described: dict[str, Description], cell: Cell) -> Callable[..., None]:
    """``check_answers("oauth", answers, known)`` fails unless ``known`` are exactly the contradictions, each with its reason."""

    def check(name: str, answers: list[Exchange], known: dict[str, str] | None = None) -> None:
        known = known or {}
        assert answers
        assert {problem for answer in answers for problem in described[name].of_answer(answer)} == known.keys()
        if known:
            cell(f"✓, but for {len(known)} known contradiction{'s' * (len(known) > 1)}")

    return check


# ── what we send ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("client", list(CLIENTS))
@pytest.mark.parametrize(
    ("request_of", "server", "bound"),
    [
        ("a Bearer token, of the org", None, False),
        ("a bound token, of the org", None, True),
        ("a Bearer token, of a custom authorization server", "default", False),
        ("a bound token, of a custom authorization server", "default", True),
    ],
)
@pytest.mark.conforms(SENT, "the token request for {request_of}")
def test_the_token_request_is_as_okta_describes_it(
    connect: Callable[[ServiceApp], Client],
    described: dict[str, Description],
    okta: FakeOkta,
    keys: dict[str, PrivateKey],
    request_of: str,
    server: str | None,
    bound: bool,
) -> None:
    app = okta.add_app(keys["ES256"], dpop_bound=bound)
    token = connect(
        ServiceApp(
            okta.url,
            client_id=app.client_id,
            key=keys["ES256"],
            scopes=["api:read" if server else "okta.users.read"],
            authorization_server=server,
            dpop=bound,
        )
    ).token()
    assert token.dpop_bound is bound
    for sent in okta.requests:
        exchange = Exchange(sent.method, sent.path, sent.header("content-type"), sent.body)
        assert described["oauth"].of_request(exchange) == []
        assert (sent.header("accept"), sent.query) == ("application/json", "")
    assert len(okta.requests) == (2 if bound else 1)


MCP = "https://mcp.example"


@pytest.mark.parametrize("client", list(CLIENTS))
@pytest.mark.parametrize("grant", ["on behalf of a user", "of Cross App Access", "for one resource"])
@pytest.mark.conforms(SENT, "the token requests {grant}")
def test_the_requests_of_an_exchange_are_as_okta_describes_them(
    connect: Callable[[ServiceApp], Client],
    described: dict[str, Description],
    okta: FakeOkta,
    keys: dict[str, PrivateKey],
    grant: str,
) -> None:
    agent = okta.add_app(keys["ES256"], grant_types=["client_credentials", *GRANTS])
    agent.resource_connections = {okta.issuer_url("default"): [MCP]}
    okta.authorization_servers["default"].resources = [MCP]
    user, scopes = okta.add_user(), ["api:read"]
    settings = {"client_id": agent.client_id, "key": keys["ES256"], "scopes": scopes, "authorization_server": "default"}
    with ServiceApp(okta.url, **settings) as app:
        if grant == "on behalf of a user":
            derived = app.on_behalf_of(user.access_token(okta.add_app()), audience="api://default", scopes=scopes)
        elif grant == "for one resource":
            derived = app.for_resource(MCP)
        else:
            issuer = okta.issuer_url("default")
            derived = app.cross_app(user.id_token(agent), issuer=issuer, scopes=scopes, resource=MCP)
        assert connect(derived).token().scopes == ("api:read",)
    for sent in okta.requests:
        exchange = Exchange(sent.method, sent.path, sent.header("content-type"), sent.body)
        assert described["oauth"].of_request(exchange) == []
    assert len(okta.requests) == (2 if grant == "of Cross App Access" else 1)


# ── what FakeOkta answers ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.conforms(ANSWERED, "tokens on behalf of a user, and ID-JAGs", client="FakeOkta")
def test_exchanged_tokens_and_id_jags_are_as_okta_describes_them(
    wire: Wire, check_answers: Callable[..., None]
) -> None:
    okta, app = wire.okta, wire.okta.apps[wire.client_id]
    app.grant_types, app.resource_connections = GRANTS, {okta.issuer_url("default"): []}
    user = okta.add_user()
    token_type = "urn:ietf:params:oauth:token-type:"
    subject = {"subject_token": user.access_token(okta.add_app()), "subject_token_type": f"{token_type}access_token"}
    form = {"grant_type": GRANTS[0], "audience": "api://default", "scope": "api:read", **subject}
    answers = [wire.post(f"{CUSTOM}/token", form)]
    form |= {"subject_token": user.id_token(app), "subject_token_type": f"{token_type}id_token"}
    form |= {"requested_token_type": f"{token_type}id-jag", "audience": okta.issuer_url("default")}
    for okta.id_jag_token_type in ("N_A", "Bearer"):
        answers.append(wire.post(f"{ORG}/token", form))
    jag = json.loads(answers[-1].answer_body)["access_token"]
    answers.append(wire.post(f"{CUSTOM}/token", {"grant_type": GRANTS[1], "assertion": jag}))
    answers.append(wire.post(f"{CUSTOM}/token", {"grant_type": GRANTS[1], "assertion": jag}))
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 400]
    check_answers("oauth", answers)


@pytest.mark.conforms(ANSWERED, "tokens", client="FakeOkta")
def test_tokens_are_as_okta_describes_them(wire: Wire, check_answers: Callable[..., None]) -> None:
    answers = [wire.token_request(), wire.token_request(f"{CUSTOM}/token", scope="api:read")]
    wire.okta.apps[wire.client_id].dpop_bound = True
    wire.token_request(dpop=True)
    nonce = wire.nonce
    answers.append(wire.token_request(dpop=True, nonce=nonce))
    answers.append(wire.token_request(f"{CUSTOM}/token", scope="api:read", dpop=True, nonce=nonce))
    assert {answer.status for answer in answers} == {200}
    reason = "the schema says Bearer or N_A; DPoP was recorded at Okta"
    check_answers(
        "oauth",
        answers,
        {f"POST {path} 200: token_type: enum ['Bearer', 'N_A']": reason for path in (f"{ORG}/token", f"{ANY}/token")},
    )


@pytest.mark.conforms(ANSWERED, "every refusal, at the token endpoint", client="FakeOkta")
def test_refusals_of_the_token_endpoint_are_as_okta_describes_them(
    wire: Wire, check_answers: Callable[..., None]
) -> None:
    answers = []
    for base in (ORG, CUSTOM):
        for code in [*OAUTH_ERRORS, *FROM_ANY_PATH, 429]:
            wire.okta.next(code)
            answers.append(wire.token_request(f"{base}/token"))
    assert all(answer.status >= 400 for answer in answers)
    check_answers(
        "oauth",
        answers,
        {
            f"POST {base}/token {status}: status not described": NOT_ONLY_HERE
            for base in (ORG, ANY)
            for status in (404, 405, 500, 503)
        },
    )


@pytest.mark.conforms(ANSWERED, "introspection and revocation", client="FakeOkta")
def test_introspection_and_revocation_are_as_okta_describes_them(
    wire: Wire, check_answers: Callable[..., None]
) -> None:
    token = wire.token()
    answers = []
    for base in (ORG, CUSTOM):
        for endpoint in ("introspect", "revoke", "introspect"):
            path = f"{base}/{endpoint}"
            answers += [wire.post(path, {"token": token}), wire.post(path, {})]
            answers.append(wire.send("POST", path, body=b"token=x", kind="application/x-www-form-urlencoded"))
    assert {answer.status for answer in answers} == {200, 400, 401}
    check_answers("oauth", answers)


@pytest.mark.conforms(ANSWERED, "discovery and keys", client="FakeOkta")
def test_discovery_is_as_okta_describes_it(wire: Wire, check_answers: Callable[..., None]) -> None:
    metadata = ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server")
    paths = [f"{ORG}/keys", f"{CUSTOM}/keys", *metadata, *(f"/oauth2/default{path}" for path in metadata)]
    paths.append("/.well-known/oauth-authorization-server/oauth2/default")
    answers = [wire.send("GET", path) for path in paths]
    assert {answer.status for answer in answers} == {200}
    check_answers(
        "oauth",
        answers,
        {
            "GET /.well-known/oauth-authorization-server: not described": "recorded at Okta",
            "GET /.well-known/oauth-authorization-server/oauth2/default: not described": "in Okta's release notes of 2026",
        },
    )


@pytest.mark.conforms(ANSWERED, "users, groups and log events of the management API", client="FakeOkta")
def test_the_management_api_is_as_okta_describes_it(wire: Wire, check_answers: Callable[..., None]) -> None:
    token = wire.token(" ".join(wire.okta.apps[wire.client_id].scopes))
    paths = ["/api/v1/users", "/api/v1/users/ada@example.com", "/api/v1/groups", "/api/v1/groups/1", "/api/v1/logs"]
    answers = [wire.get(path, token) for path in paths]
    user = b'{"profile":{"login":"ada@example.com","email":"ada@example.com"}}'
    answers.append(wire.get("/api/v1/users", token, "POST", user))
    answers.append(wire.get("/api/v1/groups", token, "POST", b'{"profile":{"name":"Readers"}}'))
    answers += [wire.get(path, token, "DELETE") for path in ("/api/v1/users/1", "/api/v1/groups/1")]
    assert {answer.status for answer in answers} == {200, 204}
    check_answers("management", answers)


@pytest.mark.conforms(ANSWERED, "every refusal, at the management API", client="FakeOkta")
def test_refusals_of_the_management_api_are_as_okta_describes_them(
    wire: Wire, check_answers: Callable[..., None]
) -> None:
    token = wire.token()
    answers = []
    for code in [*OAUTH_ERRORS, *API_ERRORS, 429]:
        wire.okta.next(code, on="/api/v1/*")
        answers.append(wire.get("/api/v1/users", token))
    assert all(answer.status >= 400 for answer in answers)
    statuses = {
        f"GET /api/v1/users {status}: status not described": NOT_ONLY_HERE for status in (404, 405, 409, 500, 503)
    }
    check_answers(
        "management",
        answers,
        {
            **statuses,
            "GET /api/v1/users 400: status not described": "recorded: what Okta answers to a DPoP proof that does not do",
            "GET /api/v1/users 401: status not described": "recorded: what Okta answers to a token that does not do",
            "GET /api/v1/users 403: empty body": "recorded: an OAuth failure there says why in WWW-Authenticate only",
        },
    )


@pytest.mark.conforms(ANSWERED, "apps, their keys and grants", client="FakeOkta")
def test_apps_keys_and_grants_are_as_okta_describes_them(
    wire: Wire, check_answers: Callable[..., None], keys: dict[str, PrivateKey]
) -> None:
    created = wire.administer("POST", "/api/v1/apps", service_app(keys["ES256"]))
    app = json.loads(created.answer_body)
    path = f"/api/v1/apps/{app['id']}"
    replaced = wire.administer("PUT", path, service_app(keys["ES256"]))
    added = wire.administer("POST", f"{path}/credentials/jwks", registered(keys["RS256"]))
    key = f"{path}/credentials/jwks/{json.loads(added.answer_body)['id']}"
    granted = wire.administer("POST", f"{path}/grants", {"issuer": wire.okta.url, "scopeId": "okta.users.read"})
    grant = f"{path}/grants/{json.loads(granted.answer_body)['id']}"
    steps: list[tuple[str, str, Any]] = [
        ("GET", "/api/v1/apps", None),
        ("GET", path, None),
        ("GET", f"{path}/credentials/jwks", None),
        ("GET", key, None),
        ("DELETE", key, None),  # refused, because the key is active
        ("POST", f"{key}/lifecycle/deactivate", None),
        ("POST", f"{key}/lifecycle/activate", None),
        ("POST", f"{key}/lifecycle/deactivate", None),
        ("DELETE", key, None),
        ("GET", f"{path}/grants", None),
        ("GET", grant, None),
        ("DELETE", grant, None),
        ("GET", grant, None),  # not found
        ("POST", f"{path}/lifecycle/deactivate", None),
        ("DELETE", path, None),
    ]
    answers = [created, replaced, added, granted, *(wire.administer(*step) for step in steps)]
    assert [answer.status for answer in answers if answer.status >= 400] == [400, 404]
    ends = f"POST {path.replace(app['id'], '{appId}')}/lifecycle/deactivate 200: application/json not described"
    check_answers("management", answers, {ends: "recorded: an empty JSON object, where the description has no body"})


@pytest.mark.conforms(ANSWERED, "dynamically registered clients", client="FakeOkta")
def test_registered_clients_are_as_okta_describes_them(
    wire: Wire, check_answers: Callable[..., None], keys: dict[str, PrivateKey]
) -> None:
    metadata = client_metadata(keys["ES256"])
    created = wire.administer("POST", f"{ORG}/clients", metadata)
    path = f"{ORG}/clients/{json.loads(created.answer_body)['client_id']}"
    answers = [created, wire.administer("POST", f"{ORG}/clients", {**metadata, "client_name": ""})]
    answers += [wire.administer("GET", f"{ORG}/clients"), wire.administer("GET", path)]
    answers.append(wire.administer("PUT", path, {**metadata, "redirect_uris": []}))
    answers.append(wire.administer("DELETE", path))
    assert [answer.status for answer in answers if answer.status >= 400] == [400]
    check_answers("oauth", answers)


@pytest.mark.conforms(ANSWERED, "admin roles of clients", client="FakeOkta")
def test_roles_of_clients_are_as_okta_describes_them(wire: Wire, check_answers: Callable[..., None]) -> None:
    path = f"{ORG}/clients/{wire.client_id}/roles"
    assigned = wire.administer("POST", path, {"type": "HELP_DESK_ADMIN"})
    role = f"{path}/{json.loads(assigned.answer_body)['id']}"
    answers = [assigned, wire.administer("GET", path), wire.administer("GET", role), wire.administer("DELETE", role)]
    created = f"POST {ORG}/clients/{{clientId}}/roles 201: status not described"
    check_answers("management", answers, {created: "recorded: 201, where the description has 200"})


def registered(key: PrivateKey) -> dict[str, Any]:
    """The key as it is sent for registration."""
    return {**key.jwks()["keys"][0], "status": "ACTIVE"}


def service_app(key: PrivateKey) -> dict[str, Any]:
    client = {
        "application_type": "service",
        "grant_types": ["client_credentials"],
        "response_types": ["token"],
        "jwks": {"keys": [registered(key)]},
    }
    return {
        "name": "oidc_client",
        "label": "My service app",
        "signOnMode": "OPENID_CONNECT",
        "credentials": {"oauthClient": {"token_endpoint_auth_method": "private_key_jwt"}},
        "settings": {"oauthClient": client},
    }


def client_metadata(key: PrivateKey) -> dict[str, Any]:
    return {
        "client_name": "Example Service Client",
        "response_types": ["token"],
        "grant_types": ["client_credentials"],
        "token_endpoint_auth_method": "private_key_jwt",
        "application_type": "service",
        "jwks": key.jwks(),
    }


# ── the documents against themselves ─────────────────────────────────────────────────────────────────────────────────


def _service_apps_and_dpop(documents: dict[str, Any]) -> bool:
    text = "If `dpop_bound_access_tokens` is true, then `client_credentials` and `implicit` aren't allowed"
    return text in json.dumps(documents["management"])


def _two_credentials(documents: dict[str, Any]) -> bool:
    described = documents["oauth"]["paths"][f"{ORG}/introspect"]["post"]["responses"]["400"]["content"]
    return "MultipleClientCreds" in json.dumps(described) and OAUTH_ERRORS["multiple_client_credentials"][0] == 401


def _rate_limit(documents: dict[str, Any]) -> bool:
    texts = [
        documents[name]["components"]["examples"]["ErrorTooManyRequests"]["value"]["errorSummary"]
        for name in ("oauth", "management")
    ]
    return texts[0] != texts[1] == API_ERRORS["E0000047"][1]


def _role_of_a_client(documents: dict[str, Any]) -> bool:
    return "201" not in documents["management"]["paths"]["/oauth2/v1/clients/{clientId}/roles"]["post"]["responses"]


@pytest.mark.parametrize(
    ("contradiction", "still_there"),
    [
        (
            "DPoP forbids client_credentials: release notes, guides and recordings say the opposite",
            _service_apps_and_dpop,
        ),
        ("two kinds of client credentials: 400 in the description, 401 in the error table", _two_credentials),
        ("E0000047: one text in each description, the error table has the second", _rate_limit),
        ("a role for a client: 200 in the description, 201 in recordings", _role_of_a_client),
    ],
)
@pytest.mark.conforms(ANSWERED, "known contradiction: {contradiction}", client="FakeOkta")
def test_a_known_contradiction_is_still_there(
    described: dict[str, Description],
    contradiction: str,
    still_there: Callable[[dict[str, Any]], bool],
    cell: Cell,
) -> None:
    assert still_there({name: description.document for name, description in described.items()})
    cell("still there")


def test_an_invalid_request_and_an_invalid_response_are_reported(described: dict[str, Description], wire: Wire) -> None:
    good = wire.token_request()
    kind = "application/x-www-form-urlencoded"
    answer = json.loads(good.answer_body)

    def answered(status: int = 200, answer_type: str = "application/json", **changes: Any) -> list[str]:
        body = json.dumps({**answer, **changes}).encode()
        return described["oauth"].of_answer(
            Exchange("POST", f"{ORG}/token", kind, good.request_body, status, answer_type, body)
        )

    def asked(body: bytes, kind: str = kind) -> list[str]:
        return described["oauth"].of_request(Exchange("POST", f"{ORG}/token", kind, body))

    assert answered() == asked(good.request_body) == []
    assert answered(expires_in="soon") == [f"POST {ORG}/token 200: expires_in: type 'integer'"]
    assert answered(status=418) == [f"POST {ORG}/token 418: status not described"]
    assert answered(answer_type="text/html") == [f"POST {ORG}/token 200: text/html not described"]
    assert asked(good.request_body.replace(b"grant_type=client_credentials", b"grant_type=none"))
    assert asked(good.request_body, "application/json") == [f"POST {ORG}/token: application/json not described"]
