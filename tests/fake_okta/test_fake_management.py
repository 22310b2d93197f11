"""FakeOkta's management API answers as Okta's does.

Invariant: plain ``requests`` drives it. Of the client these tests use only keys, and the token that proves an app works.
"""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
import requests

from okta_documents import Documents
from okta_m2m import PrivateKey, ServiceApp, TokenRefused
from okta_m2m.requests import OktaAuth
from okta_m2m.testing import FakeOkta

KEYS = "/api/v1/apps/{}/credentials/jwks"


class Admin:
    """Calls the org with one authorization header."""

    def __init__(self, okta: FakeOkta, authorization: str) -> None:
        self.okta = okta
        self.headers = {"Authorization": authorization}

    def __call__(self, method: str, path: str, body: object = None, **options: Any) -> requests.Response:
        return requests.request(
            method, self.okta.url + path, json=body, headers=self.headers, timeout=10, allow_redirects=False, **options
        )


@pytest.fixture
def admin(okta: FakeOkta) -> Admin:
    return Admin(okta, f"SSWS {okta.ssws}")


@pytest.fixture
def app_admin(okta: FakeOkta) -> Admin:
    return Admin(okta, f"SSWS {okta.add_api_token('APP_ADMIN')}")


def public(key: PrivateKey) -> dict[str, str]:
    return key.jwks()["keys"][0]


def new_jwk(kid: str | None) -> dict[str, str]:
    return public(PrivateKey.generate("ES256", kid=kid))


def app_body(*jwks: dict[str, Any], label: str = "billing", **settings: Any) -> dict[str, Any]:
    return {
        "name": "oidc_client",
        "label": label,
        "signOnMode": "OPENID_CONNECT",
        "credentials": {"oauthClient": {"token_endpoint_auth_method": "private_key_jwt", "autoKeyRotation": True}},
        "settings": {
            "oauthClient": {
                "application_type": "service",
                "grant_types": ["client_credentials"],
                "response_types": ["token"],
                **({"jwks": {"keys": list(jwks)}} if jwks else {}),
                **settings,
            }
        },
    }


def client_body(*jwks: dict[str, Any], name: str = "billing", **members: Any) -> dict[str, Any]:
    return {
        "client_name": name,
        "application_type": "service",
        "grant_types": ["client_credentials"],
        "response_types": ["token"],
        "token_endpoint_auth_method": "private_key_jwt",
        **({"jwks": {"keys": list(jwks)}} if jwks else {}),
        **members,
    }


def token_of(okta: FakeOkta, client_id: str, key: PrivateKey, *scopes: str) -> str:
    app = ServiceApp(okta.url, client_id=client_id, key=key, scopes=scopes or ("okta.users.read",), max_wait=5)
    return OktaAuth(app).token().value


def as_app(okta: FakeOkta, *scopes: str, roles: tuple[str, ...] = ("SUPER_ADMIN",)) -> Admin:
    key = PrivateKey.generate("ES256", kid="k")
    app = okta.add_app(key, scopes)
    app.roles = list(roles)
    return Admin(okta, f"Bearer {token_of(okta, app.client_id, key, *scopes)}")


def causes(response: requests.Response) -> tuple[int, str, list[str]]:
    document = response.json()
    assert set(document) == {"errorCode", "errorSummary", "errorLink", "errorId", "errorCauses"}
    return response.status_code, document["errorCode"], [cause["errorSummary"] for cause in document["errorCauses"]]


# ── making apps ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_app_that_was_created_gets_tokens_at_once_after_its_grant(okta: FakeOkta, admin: Admin) -> None:
    key = PrivateKey.generate("ES256", kid="first")
    made = admin("POST", "/api/v1/apps", app_body(public(key)))
    assert made.status_code == 200
    app = made.json()
    assert app["status"] == "ACTIVE"
    assert app["credentials"]["oauthClient"]["client_id"] == app["id"]
    assert app["settings"]["oauthClient"]["consent_method"] == "TRUSTED"
    assert app["settings"]["oauthClient"]["jwks"]["keys"][0]["id"].startswith("pks")
    with pytest.raises(TokenRefused, match="not allowed any of the requested scopes"):
        token_of(okta, app["id"], key)
    granted = admin("POST", f"/api/v1/apps/{app['id']}/grants", {"issuer": okta.url, "scopeId": "okta.users.read"})
    assert granted.status_code == 201
    token = token_of(okta, app["id"], key)
    users = requests.get(f"{okta.url}/api/v1/users", headers={"Authorization": f"Bearer {token}"}, timeout=10)
    assert causes(users) == (403, "E0000006", [])
    assert admin("POST", f"/oauth2/v1/clients/{app['id']}/roles", {"type": "READ_ONLY_ADMIN"}).status_code == 201
    users = requests.get(f"{okta.url}/api/v1/users", headers={"Authorization": f"Bearer {token}"}, timeout=10)
    assert users.status_code == 200


def test_an_app_that_was_registered_dynamically_is_the_same_kind_of_app(okta: FakeOkta, admin: Admin) -> None:
    key = PrivateKey.generate("ES256", kid="first")
    made = admin("POST", "/oauth2/v1/clients", client_body(public(key)))
    assert made.status_code == 201
    client = made.json()
    assert {"client_id_issued_at", "client_uri", "logo_uri", "redirect_uris"} <= client.keys()
    app = admin("GET", f"/api/v1/apps/{client['client_id']}").json()
    assert (app["label"], app["settings"]["oauthClient"]["consent_method"]) == ("billing", "REQUIRED")
    okta.apps[client["client_id"]].scopes.append("okta.users.read")
    assert token_of(okta, client["client_id"], key)


def test_a_chosen_client_id_may_differ_from_the_apps_id(okta: FakeOkta, admin: Admin) -> None:
    key = PrivateKey.generate("ES256", kid="first")
    body = app_body(public(key))
    body["credentials"]["oauthClient"]["client_id"] = "billing-service"
    app = admin("POST", "/api/v1/apps", body).json()
    assert app["id"] != "billing-service"
    grant = {"issuer": okta.url, "scopeId": "okta.users.read"}
    assert admin("POST", f"/api/v1/apps/{app['id']}/grants", grant).json()["clientId"] == "billing-service"
    assert token_of(okta, "billing-service", key)
    assert causes(admin("POST", "/api/v1/apps", body))[:2] == (400, "E0000001")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda body: body.pop("label"), "label: The field cannot be left blank"),
        (lambda body: body.update(name="template_saml_2_0"), "name: "),
        (lambda body: body.pop("credentials"), "credentials: The field cannot be left blank"),
        (
            lambda body: body["credentials"]["oauthClient"].update(client_secret="x" * 40),
            "'client_secret' can't be used when 'token_endpoint_auth_method' is 'private_key_jwt'.",
        ),
        (lambda body: body["settings"]["oauthClient"].pop("jwks"), "'jwks' or 'jwks_uri' is needed"),
        (lambda body: body["settings"]["oauthClient"].update(grant_types=["authorization_code"]), "grant_types: "),
        (lambda body: body["settings"]["oauthClient"].update(response_types=["code"]), "response_types: "),
        (
            lambda body: body["settings"]["oauthClient"].update(jwks_uri="https://a.example/keys"),
            "'jwks' and 'jwks_uri'",
        ),
        (lambda body: body["settings"]["oauthClient"].update(dpop_bound_access_tokens="yes"), "dpop_bound"),
        (lambda body: body["settings"]["oauthClient"]["jwks"]["keys"][0].update(d="AQAB"), "must be a public key"),
    ],
)
def test_an_invalid_app_is_refused_with_a_cause(
    okta: FakeOkta, admin: Admin, change: Callable[[dict[str, Any]], object], cause: str
) -> None:
    body = app_body(new_jwk("k"))
    change(body)
    status, code, said = causes(admin("POST", "/api/v1/apps", body))
    assert (status, code) == (400, "E0000001")
    assert said[0].startswith(cause) or cause in said[0]
    assert not okta.apps


def test_an_invalid_client_is_refused_in_the_registration_endpoints_own_format(admin: Admin) -> None:
    answer = admin("POST", "/oauth2/v1/clients", client_body(new_jwk("k"), name=""))
    assert answer.status_code == 400
    assert answer.json() == {
        "error": "invalid_client_metadata",
        "error_description": "`client_name`: The field can't be left blank.",
    }


def test_a_body_that_is_not_json_is_refused(okta: FakeOkta, admin: Admin) -> None:
    broken = requests.post(
        f"{okta.url}/api/v1/apps", data=b"{", headers={**admin.headers, "Content-Type": "application/json"}, timeout=10
    )
    assert causes(broken)[:2] == (400, "E0000003")
    form = requests.post(f"{okta.url}/api/v1/apps", data={"label": "x"}, headers=admin.headers, timeout=10)
    assert causes(form)[:2] == (400, "E0000021")


def test_put_replaces_the_app_and_switches_dpop(okta: FakeOkta, admin: Admin) -> None:
    key = PrivateKey.generate("ES256", kid="first")
    app = admin("POST", "/api/v1/apps", app_body(public(key))).json()
    app["settings"]["oauthClient"]["dpop_bound_access_tokens"] = True
    app["status"] = "INACTIVE"
    replaced = admin("PUT", f"/api/v1/apps/{app['id']}", app)
    assert replaced.status_code == 200
    assert okta.apps[app["id"]].dpop_bound
    assert replaced.json()["status"] == "ACTIVE"
    assert replaced.json()["settings"]["oauthClient"]["jwks"] == app["settings"]["oauthClient"]["jwks"]
    app["settings"]["oauthClient"]["application_type"] = "web"
    assert causes(admin("PUT", f"/api/v1/apps/{app['id']}", app))[:2] == (400, "E0000001")


def test_put_of_a_client_replaces_its_keys_whole(okta: FakeOkta, admin: Admin) -> None:
    client = admin("POST", "/oauth2/v1/clients", client_body(new_jwk("one"))).json()
    path = f"/oauth2/v1/clients/{client['client_id']}"
    changed = {name: value for name, value in client.items() if name != "client_id_issued_at"}
    changed["jwks"] = {"keys": [new_jwk("two")]}
    assert admin("PUT", path, changed).status_code == 200
    assert [jwk["kid"] for jwk in okta.apps[client["client_id"]].jwks["keys"]] == ["two"]
    assert admin("PUT", path, client).json()["error"] == "invalid_client_metadata"
    changed.pop("grant_types")
    assert admin("PUT", path, changed).json()["error"] == "invalid_client_metadata"


def test_an_app_is_deactivated_before_it_is_deleted(okta: FakeOkta, admin: Admin) -> None:
    key = PrivateKey.generate("ES256", kid="first")
    app = okta.add_app(key, ["okta.users.read"])
    path = f"/api/v1/apps/{app.client_id}"
    assert causes(admin("DELETE", path))[:2] == (403, "E0000056")
    assert admin("POST", f"{path}/lifecycle/deactivate").json() == {}
    with pytest.raises(TokenRefused):
        token_of(okta, app.client_id, key)
    assert admin("POST", f"{path}/lifecycle/activate").status_code == 200
    assert token_of(okta, app.client_id, key)
    admin("POST", f"{path}/lifecycle/deactivate")
    assert admin("DELETE", path).status_code == 204
    assert causes(admin("GET", path))[:2] == (404, "E0000007")


# ── finding apps ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("path", "name"), [("/api/v1/apps", "label"), ("/oauth2/v1/clients", "client_name")])
def test_lists_come_in_pages_that_link_to_the_next(okta: FakeOkta, admin: Admin, path: str, name: str) -> None:
    for number in range(25):
        okta.add_app(label=f"app {number:02}")
    seen: list[str] = []
    pages = 0
    following: str | None = f"{path}?limit=10&q=app"
    while following:
        page = admin("GET", following)
        pages += 1
        seen += [item[name] for item in page.json()]
        link = page.links.get("next", {}).get("url")
        following = link.removeprefix(okta.url) if link else None
        assert "self" in page.links
    assert pages == 3
    assert seen == [f"app {number:02}" for number in range(25)]
    assert len(admin("GET", path).json()) == 20
    assert causes(admin("GET", f"{path}?limit=500"))[:2] == (400, "E0000001")
    assert causes(admin("GET", f"{path}?limit=x"))[:2] == (400, "E0000001")


def test_search_is_by_the_beginning_of_the_name(okta: FakeOkta, admin: Admin) -> None:
    for label in ("billing", "Billing test", "old billing"):
        okta.add_app(label=label)
    assert [app["label"] for app in admin("GET", "/api/v1/apps?q=billing").json()] == ["billing", "Billing test"]
    found = admin("GET", '/api/v1/apps?filter=status eq "INACTIVE"')
    assert found.json() == []
    assert causes(admin("GET", "/api/v1/apps?filter=nonsense"))[:2] == (400, "E0000001")


# ── who may ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_unknown_or_inactive_ssws_token_is_refused(okta: FakeOkta, admin: Admin) -> None:
    assert causes(Admin(okta, "SSWS nonsense")("GET", "/api/v1/apps"))[:2] == (401, "E0000011")
    assert causes(Admin(okta, f"Basic {okta.ssws}")("GET", "/oauth2/v1/clients"))[:2] == (401, "E0000011")
    okta.api_tokens[okta.ssws].active = False
    assert causes(admin("GET", "/api/v1/apps"))[:2] == (401, "E0000011")


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/api/v1/apps", "okta.apps.read"),
        ("POST", "/api/v1/apps", "okta.apps.manage"),
        ("GET", "/api/v1/apps/{}/credentials/jwks", "okta.apps.read"),
        ("POST", "/api/v1/apps/{}/credentials/jwks", "okta.apps.manage"),
        ("GET", "/api/v1/apps/{}/grants", "okta.appGrants.read"),
        ("POST", "/api/v1/apps/{}/grants", "okta.appGrants.manage"),
        ("GET", "/oauth2/v1/clients", "okta.clients.read"),
        ("POST", "/oauth2/v1/clients", "okta.clients.register"),
        ("GET", "/oauth2/v1/clients/{}/roles", "okta.roles.read"),
        ("POST", "/oauth2/v1/clients/{}/roles", "okta.roles.manage"),
    ],
)
def test_a_service_app_needs_the_scope_that_the_challenge_names(
    okta: FakeOkta, method: str, path: str, scope: str
) -> None:
    target = okta.add_app()
    path = path.format(target.client_id)
    refused = as_app(okta, "okta.users.read")(method, path, {})
    assert refused.status_code == 403
    assert refused.content == b""
    challenge = refused.headers["WWW-Authenticate"]
    assert f'scope="{scope}"' in challenge
    assert 'error="insufficient_scope"' in challenge
    with_scope = as_app(okta, scope)(method, path, {})
    assert with_scope.status_code in (200, 400)
    assert "WWW-Authenticate" not in with_scope.headers


def test_a_scope_without_an_admin_role_is_not_enough(okta: FakeOkta) -> None:
    assert causes(as_app(okta, "okta.apps.manage", roles=())("GET", "/api/v1/apps"))[:2] == (403, "E0000006")
    reader = as_app(okta, "okta.apps.manage", roles=("READ_ONLY_ADMIN",))
    assert reader("GET", "/api/v1/apps").status_code == 200
    assert causes(reader("POST", "/api/v1/apps", app_body(new_jwk("k"))))[:2] == (403, "E0000006")


def test_after_grants_only_a_super_admin_changes_keys(okta: FakeOkta, admin: Admin, app_admin: Admin) -> None:
    app = app_admin("POST", "/api/v1/apps", app_body(new_jwk("one"))).json()
    keys = KEYS.format(app["id"])
    assert app_admin("POST", keys, new_jwk("two")).status_code == 201
    grant = {"issuer": okta.url, "scopeId": "okta.users.read"}
    assert causes(app_admin("POST", f"/api/v1/apps/{app['id']}/grants", grant))[:2] == (403, "E0000006")
    assert admin("POST", f"/api/v1/apps/{app['id']}/grants", grant).status_code == 201
    second = app_admin("GET", keys).json()[1]["id"]
    for method, path, body in [
        ("POST", keys, new_jwk("three")),
        ("POST", f"{keys}/{second}/lifecycle/deactivate", None),
        ("DELETE", f"{keys}/{second}", None),
        ("PUT", f"/api/v1/apps/{app['id']}", app_body(new_jwk("four"))),
    ]:
        assert causes(app_admin(method, path, body)) == (403, "E0000006", []), (method, path)
    renamed = {**admin("GET", f"/api/v1/apps/{app['id']}").json(), "label": "renamed"}
    assert app_admin("PUT", f"/api/v1/apps/{app['id']}", renamed).status_code == 200
    assert admin("POST", keys, new_jwk("three")).status_code == 201


def test_only_a_super_admin_changes_roles_and_grants(okta: FakeOkta, app_admin: Admin) -> None:
    app = okta.add_app()
    roles = f"/oauth2/v1/clients/{app.client_id}/roles"
    assert causes(app_admin("POST", roles, {"type": "SUPER_ADMIN"}))[:2] == (403, "E0000006")
    assert app_admin("GET", roles).status_code == 200
    grant = app_admin("GET", f"/api/v1/apps/{app.client_id}/grants").json()[0]
    path = f"/api/v1/apps/{app.client_id}/grants/{grant['id']}"
    assert causes(app_admin("DELETE", path))[:2] == (403, "E0000006")


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def keys_of(okta: FakeOkta) -> Callable[..., str]:
    def made(*jwks: dict[str, str]) -> str:
        return KEYS.format(okta.add_app(list(jwks), []).client_id)

    return made


def test_a_key_is_deactivated_before_it_is_deleted(okta: FakeOkta, admin: Admin, keys_of: Callable[..., str]) -> None:
    keys = keys_of(new_jwk("one"))
    added = admin("POST", keys, new_jwk("two"))
    assert added.status_code == 201
    key = added.json()
    assert (key["status"], key["kid"], key["use"], key["crv"]) == ("ACTIVE", "two", "sig", "P-256")
    assert key["_links"]["deactivate"]["href"].endswith(f"{key['id']}/lifecycle/deactivate")
    path = f"{keys}/{key['id']}"
    assert admin("GET", path).json() == key
    assert causes(admin("DELETE", path)) == (
        400,
        "E0000001",
        ["You can't delete an active JSON Web Key. Deactivate the key before deleting it."],
    )
    off = admin("POST", f"{path}/lifecycle/deactivate")
    assert off.status_code == 200
    assert off.json()["status"] == "INACTIVE"
    assert set(off.json()["_links"]) == {"activate", "delete"}
    assert admin("POST", f"{path}/lifecycle/activate").json()["status"] == "ACTIVE"
    admin("POST", f"{path}/lifecycle/deactivate")
    assert admin("DELETE", path).status_code == 204
    assert causes(admin("GET", path))[:2] == (404, "E0000007")
    assert [jwk["kid"] for jwk in admin("GET", keys).json()] == ["one"]


def test_the_only_active_key_cannot_be_deactivated(admin: Admin, keys_of: Callable[..., str]) -> None:
    keys = keys_of(new_jwk("one"), {**new_jwk("two"), "status": "INACTIVE"})
    first = admin("GET", keys).json()[0]["id"]
    assert causes(admin("POST", f"{keys}/{first}/lifecycle/deactivate")) == (
        400,
        "E0000001",
        [
            "Can't deactivate the only active JSON Web Key when the value for `token_endpoint_auth_method` is "
            "`private_key_jwt`."
        ],
    )


def test_an_app_has_at_most_fifty_keys(admin: Admin, keys_of: Callable[..., str]) -> None:
    jwk = new_jwk("x")
    keys = keys_of(*({**jwk, "kid": str(number)} for number in range(50)))
    status, code, said = causes(admin("POST", keys, new_jwk("one more")))
    assert (status, code) == (400, "E0000001")
    assert "maximum number of keys allowed (50)" in said[0]


@pytest.mark.parametrize(
    ("present", "added", "cause"),
    [
        ("one", {"kid": "one"}, "All keys in the 'jwks' must have a unique `kid`."),
        (None, {"kid": "two"}, "Each key should have a unique kid when adding multiple keys."),
        ("one", {"kid": None}, "Each key should have a unique kid when adding multiple keys."),
        ("one", {"kty": "RSA", "e": "AQAB", "n": "x" * 171}, "RSA key length in the 'jwks' is less than '2,048' bits"),
        ("one", {"use": "enc"}, "use: "),
        ("one", {"crv": "secp256k1"}, "crv: "),
        ("one", {"status": "NEXT"}, "status: "),
        ("one", {"kty": "oct"}, "kty: "),
    ],
)
def test_a_key_that_may_not_be_added_is_refused_in_oktas_words(
    admin: Admin, keys_of: Callable[..., str], present: str | None, added: dict[str, Any], cause: str
) -> None:
    keys = keys_of(new_jwk(present))
    status, code, said = causes(admin("POST", keys, {**new_jwk("added"), **added}))
    assert (status, code) == (400, "E0000001")
    assert said[0].startswith(cause)
    assert admin("GET", keys).json()[0]["kid"] == present


def test_keys_from_a_jwks_uri_are_fetched(okta: FakeOkta, admin: Admin) -> None:
    key = PrivateKey.generate("ES256", kid="fetched")
    content = json.dumps(key.jwks()).encode()

    class Keys(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Keys) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        body = app_body(jwks_uri=f"http://127.0.0.1:{server.server_port}/keys")
        app = admin("POST", "/api/v1/apps", body).json()
        assert app["settings"]["oauthClient"]["jwks_uri"] == body["settings"]["oauthClient"]["jwks_uri"]
        okta.apps[app["id"]].scopes.append("okta.users.read")
        assert token_of(okta, app["id"], key)
        content = json.dumps({"keys": []}).encode()
        with pytest.raises(TokenRefused, match="must contain at least one key"):
            token_of(okta, app["id"], key)
        server.shutdown()


# ── grants, roles ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_grant_is_added_once_listed_and_revoked(okta: FakeOkta, admin: Admin) -> None:
    app = okta.add_app(scopes=[])
    grants = f"/api/v1/apps/{app.client_id}/grants"
    body = {"issuer": okta.url, "scopeId": "okta.users.read"}
    first = admin("POST", grants, body).json()
    assert (first["source"], first["status"], first["createdBy"]["type"]) == ("ADMIN", "ACTIVE", "User")
    assert first["_embedded"] == {"scope": {"id": "okta.users.read"}}
    assert admin("POST", grants, body).json()["id"] == first["id"]
    assert admin("GET", grants).json() == [first]
    assert admin("GET", f"{grants}/{first['id']}").json() == first
    assert app.scopes == ["okta.users.read"]
    assert admin("DELETE", f"{grants}/{first['id']}").status_code == 204
    assert app.scopes == []
    assert causes(admin("DELETE", f"{grants}/{first['id']}"))[:2] == (404, "E0000007")
    for unknown in ("users.read", "okta.user.read", "okta.users.write", "okta.users.read.self"):
        assert causes(admin("POST", grants, {**body, "scopeId": unknown}))[:2] == (400, "E0000001")
    assert app.scopes == []
    assert causes(admin("POST", grants, {**body, "issuer": "https://other.example"}))[:2] == (400, "E0000001")


def test_roles_standard_and_custom(okta: FakeOkta, admin: Admin) -> None:
    app = okta.add_app()
    app.roles = []
    roles = f"/oauth2/v1/clients/{app.client_id}/roles"
    standard = admin("POST", roles, {"type": "HELP_DESK_ADMIN"})
    assert standard.status_code == 201
    assert (standard.json()["label"], standard.json()["assignmentType"]) == ("Help Desk Administrator", "CLIENT")
    custom = {"type": "CUSTOM", "role": "cr04cxy6yzSCtNciD0g7", "resource-set": "iam4cxy6z7hhaZCSk0g7"}
    added = admin("POST", roles, custom).json()
    assert {name: added[name] for name in custom} == custom
    assert app.roles == ["HELP_DESK_ADMIN", "CUSTOM/cr04cxy6yzSCtNciD0g7/iam4cxy6z7hhaZCSk0g7"]
    assert causes(admin("POST", roles, {"type": "HELP_DESK_ADMIN"}))[:2] == (409, "E0000090")
    assert causes(admin("POST", roles, {"type": "KING"}))[:2] == (400, "E0000001")
    assert causes(admin("POST", roles, {"type": "CUSTOM", "role": "cr0"}))[:2] == (400, "E0000001")
    assert [role["id"] for role in admin("GET", roles).json()] == [standard.json()["id"], added["id"]]
    assert admin("GET", f"{roles}/{added['id']}").json() == added
    assert admin("DELETE", f"{roles}/{added['id']}").status_code == 204
    assert app.roles == ["HELP_DESK_ADMIN"]
    assert causes(admin("GET", "/oauth2/v1/clients/nobody/roles"))[:2] == (404, "E0000007")


# ── the rest ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_unknown_path_and_an_unknown_method_are_refused(okta: FakeOkta, admin: Admin) -> None:
    app = okta.add_app()
    assert causes(admin("GET", f"/api/v1/apps/{app.client_id}/features"))[:2] == (404, "E0000007")
    assert causes(admin("GET", "/api/v1/apps/nobody"))[:2] == (404, "E0000007")
    assert causes(admin("PATCH", f"/api/v1/apps/{app.client_id}"))[:2] == (405, "E0000022")


def test_rate_limits_of_the_management_api_can_be_scripted(okta: FakeOkta, admin: Admin) -> None:
    for path in ("/api/v1/apps", "/oauth2/v1/clients"):
        okta.next(429, on=path, reset=7)
        limited = admin("GET", path)
        assert causes(limited)[:2] == (429, "E0000047")
        assert limited.headers["x-rate-limit-remaining"] == "0"


def test_a_change_counts_elsewhere_only_after_it_has_settled(okta: FakeOkta, admin: Admin) -> None:
    old, new = (PrivateKey.generate("ES256", kid=kid) for kid in ("old", "new"))
    app = okta.add_app(old, ["okta.users.read"])
    okta.settling = 60
    admin("POST", KEYS.format(app.client_id), public(new))
    assert len(admin("GET", KEYS.format(app.client_id)).json()) == 2
    with pytest.raises(TokenRefused, match="kid is invalid"):
        token_of(okta, app.client_id, new)
    assert token_of(okta, app.client_id, old)
    okta.settling = 0
    app.change_follows(0)
    made = admin("POST", "/api/v1/apps", app_body(public(new))).json()
    okta.apps[made["id"]].scopes.append("okta.users.read")
    assert token_of(okta, made["id"], new)


def test_responses_match_oktas_published_documents(okta: FakeOkta, admin: Admin, rsa_key: PrivateKey) -> None:
    documents = Documents()
    rsa, ec = public(rsa_key.with_kid("rsa")), new_jwk("ec")

    def check(path: str, method: str, response: requests.Response) -> None:
        assert documents.check(response) == f"{method} {path}"

    made = admin("POST", "/api/v1/apps", app_body(rsa, ec))
    check("/api/v1/apps", "POST", made)
    id = made.json()["id"]
    check("/api/v1/apps", "GET", admin("GET", "/api/v1/apps"))
    check("/api/v1/apps/{appId}", "GET", admin("GET", f"/api/v1/apps/{id}"))
    check("/api/v1/apps/{appId}", "PUT", admin("PUT", f"/api/v1/apps/{id}", made.json()))
    keys, one = "/api/v1/apps/{appId}/credentials/jwks", "/api/v1/apps/{appId}/credentials/jwks/{keyId}"
    added = admin("POST", KEYS.format(id), new_jwk("more"))
    check(keys, "POST", added)
    path = f"{KEYS.format(id)}/{added.json()['id']}"
    check(keys, "GET", admin("GET", KEYS.format(id)))
    check(keys, "POST", admin("POST", KEYS.format(id), new_jwk("more")))
    check(one, "GET", admin("GET", path))
    check(one, "DELETE", admin("DELETE", path))
    for turn in ("deactivate", "activate"):
        check(f"{one}/lifecycle/{turn}", "POST", admin("POST", f"{path}/lifecycle/{turn}"))
    grants = "/api/v1/apps/{appId}/grants"
    grant = {"issuer": okta.url, "scopeId": "okta.users.read"}
    check(grants, "POST", admin("POST", f"/api/v1/apps/{id}/grants", grant))
    check(grants, "GET", admin("GET", f"/api/v1/apps/{id}/grants"))
    check(
        grants,
        "POST",
        as_app(okta, "okta.appGrants.manage", roles=("APP_ADMIN",))("POST", f"/api/v1/apps/{id}/grants", grant),
    )
    roles = "/oauth2/v1/clients/{clientId}/roles"
    for role in (
        {"type": "HELP_DESK_ADMIN"},
        {"type": "WORKFLOWS_ADMIN"},
        {"type": "CUSTOM", "role": "cr04cxy6yzSCtNciD0g7", "resource-set": "iam4cxy6z7hhaZCSk0g7"},
    ):
        check(roles, "POST", admin("POST", f"/oauth2/v1/clients/{id}/roles", role))
    check(roles, "GET", admin("GET", f"/oauth2/v1/clients/{id}/roles"))
    registered = admin("POST", "/oauth2/v1/clients", client_body(ec))
    check("/oauth2/v1/clients", "POST", registered)
    check("/oauth2/v1/clients", "POST", admin("POST", "/oauth2/v1/clients", client_body(rsa)))
    check("/oauth2/v1/clients", "GET", admin("GET", "/oauth2/v1/clients"))
    client = registered.json()["client_id"]
    check("/oauth2/v1/clients/{clientId}", "GET", admin("GET", f"/oauth2/v1/clients/{client}"))
