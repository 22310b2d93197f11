"""From nothing to a working service app, through either endpoint, and back; and what is said when Okta says no."""

from __future__ import annotations

import errno
import gzip
import logging
import os
import pickle
import re
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from front import Exchange, front_of
from okta_m2m import ConfigurationError, InvalidKey, PrivateKey, ServiceApp, TokenRefused, TokenUnreachable
from okta_m2m.admin.errors import (
    InvalidRequest,
    NameTaken,
    NotConfirmed,
    NotFound,
    NotSignedIn,
    OktaUnreachable,
    PermissionMissing,
    ProvisioningError,
    RateLimitTooLong,
    ScopeMissing,
)
from okta_m2m.admin.introspection import client_assertion, endpoint_url, introspect_token, revoke_token
from okta_m2m.admin.key_files import key_text, new_key, write_key
from okta_m2m.admin.management import ApiToken, ManagementApi, Pause
from okta_m2m.admin.provisioning import (
    Difference,
    GrantResult,
    Via,
    activate_app,
    activate_key,
    add_key,
    assign_custom_role,
    assign_role,
    create_app,
    deactivate_app,
    deactivate_key,
    delete_app,
    delete_key,
    find_app,
    get_app,
    grant_scopes,
    list_apps,
    list_grants,
    list_keys,
    list_roles,
    revoke_scopes,
    set_dpop,
    unassign_role,
)
from okta_m2m.errors import (
    AccessDenied,
    ConsentRequired,
    InvalidClient,
    InvalidScope,
    RateLimited,
    TokenError,
    UnexpectedAnswer,
)
from okta_m2m.requests import OktaAuth
from okta_m2m.testing import FakeOkta
from promises import in_matrix

VIAS: list[Via] = ["apps", "clients"]


@pytest.fixture
def okta() -> Iterator[FakeOkta]:
    with FakeOkta() as running:
        yield running


@pytest.fixture
def key() -> PrivateKey:
    return new_key("ES256")


@pytest.fixture
def sign_in(okta: FakeOkta) -> Iterator[Callable[..., ManagementApi]]:
    """``sign_in(token or app, **options of ManagementApi)``: without either, a Super Admin."""
    opened: list[ManagementApi] = []

    def signed_in(who: ApiToken | ServiceApp | None = None, **options: Any) -> ManagementApi:
        opened.append(ManagementApi(okta.url, who or ApiToken(okta.ssws), **options))
        return opened[-1]

    yield signed_in
    for api in opened:
        api.close()


@pytest.fixture
def api(sign_in: Callable[..., ManagementApi]) -> ManagementApi:
    return sign_in()


def service(okta: FakeOkta, client_id: str, key: PrivateKey, *scopes: str) -> ServiceApp:
    return ServiceApp(okta.url, client_id=client_id, key=key, scopes=scopes or ("okta.users.read",), max_wait=5)


# ── to a plain-http org on this machine ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("where", ["environment", "session"])
def test_a_sign_in_to_an_org_on_this_machine_uses_no_proxy(
    okta: FakeOkta, sign_in: Callable[..., ManagementApi], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with front_of(okta.server.port) as front, requests.Session() as session:
        if where == "environment":
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, front.url)
        else:
            session.proxies = {"http": front.url, "http://127.0.0.1": front.url}
        proxied = session.get(f"{okta.url}/api/v1/apps", timeout=10)
        assert (proxied.status_code, len(front.proxied)) == (401, 1)
        assert list(list_apps(sign_in(session=session))) == []
        assert list(list_apps(sign_in())) == []
        assert len(front.proxied) == 1


# ── from nothing to a call ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dpop", [False, True], ids=["bearer", "dpop"])
@pytest.mark.parametrize("via", VIAS)
def test_from_nothing_to_a_first_call(
    okta: FakeOkta, api: ManagementApi, key: PrivateKey, via: Via, dpop: bool
) -> None:
    made = create_app(api, "billing", jwks=key.jwks(), via=via, dpop=dpop)
    assert made.created
    assert made.app.usable
    grant_scopes(api, made.app.id, ["okta.users.read", "okta.groups.read"])
    assign_role(api, made.app.client_id, "READ_ONLY_ADMIN")
    app = service(okta, made.app.client_id, key)
    response = requests.get(f"{okta.url}/api/v1/users", auth=OktaAuth(app), timeout=10)
    assert response.status_code == 200
    assert OktaAuth(app).token().dpop_bound is dpop


@pytest.mark.parametrize("via", VIAS)
def test_creating_an_app_again_finds_the_existing_one(
    okta: FakeOkta, api: ManagementApi, key: PrivateKey, via: Via
) -> None:
    first = create_app(api, "billing", jwks=key.jwks(), via=via)
    okta.add_app(label="billing of old")
    again = create_app(api, "billing", jwks=key.jwks(), via=via)
    assert not again.created
    assert again.app.id == first.app.id
    assert again.keys_missing == ()
    other = new_key("ES256")
    assert create_app(api, "billing", jwks=other.jwks(), via=via).keys_missing == (other.kid,)
    assert len(okta.apps) == 2
    twin = create_app(api, "billing", jwks=key.jwks(), via=via, twin=True)
    assert twin.created
    assert len(okta.apps) == 3
    with pytest.raises(NameTaken, match=r"2 apps have the name 'billing'"):
        create_app(api, "billing", jwks=key.jwks(), via=via)


@pytest.mark.parametrize("via", VIAS)
def test_an_existing_app_that_is_not_a_service_app_is_refused(
    okta: FakeOkta, api: ManagementApi, key: PrivateKey, via: Via
) -> None:
    okta.add_app(label="billing").application_type = "web"
    with pytest.raises(NameTaken, match=r"is not a service app .*its type is web"):
        create_app(api, "billing", jwks=key.jwks(), via=via)


@pytest.mark.parametrize("via", VIAS)
def test_a_service_app_can_sign_in_to_create_another_app(
    okta: FakeOkta, sign_in: Callable[..., ManagementApi], key: PrivateKey, via: Via
) -> None:
    scopes = ["okta.apps.manage", "okta.clients.manage", "okta.appGrants.manage"]
    onboarding = okta.add_app(key, scopes, label="onboarding", dpop_bound=True)
    onboarding.roles = ["SUPER_ADMIN"]
    api = sign_in(service(okta, onboarding.client_id, key, *scopes))
    made = create_app(api, "billing", jwks=new_key("ES256").jwks(), via=via)
    grant_scopes(api, made.app.id, ["okta.users.read"])
    assert okta.apps[made.app.client_id].scopes == ["okta.users.read"]


REFUSED_SIGN_INS = [
    ({"what": "client_assertion_invalid_kid"}, InvalidClient),
    ({"what": "client_assertion_invalid_signature"}, InvalidClient),
    ({"what": "client_assertion_invalid_issuer"}, InvalidClient),
    ({"what": "invalid_client_id"}, InvalidClient),
    ({"what": "no_org_scopes_granted"}, ConsentRequired),
    ({"what": "invalid_scope"}, InvalidScope),
    ({"what": "access_denied"}, AccessDenied),
    ({"what": 429, "reset": 600}, RateLimited),
    ({"what": 302, "headers": {"Location": "https://acme-admin.okta.com/"}}, UnexpectedAnswer),
]


@pytest.mark.parametrize(("fault", "error"), REFUSED_SIGN_INS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_service_app_that_gets_no_token_to_sign_in_is_reported_at_once(
    okta: FakeOkta,
    sign_in: Callable[..., ManagementApi],
    key: PrivateKey,
    fault: dict[str, Any],
    error: type[TokenError],
    method: str,
) -> None:
    onboarding = okta.add_app(key, ["okta.apps.manage"], label="onboarding")
    pauses: list[Pause] = []
    api = sign_in(service(okta, onboarding.client_id, key, "okta.apps.manage"), on_pause=pauses.append)
    okta.next(fault["what"], times=20, **{name: value for name, value in fault.items() if name != "what"})
    with pytest.raises(TokenError) as caught:
        api.call(method, "/api/v1/apps")
    assert isinstance(caught.value, error)
    assert pauses == []
    assert not [request for request in okta.requests if request.path.startswith("/api/")]


def test_the_time_in_which_a_service_app_gets_no_token_to_sign_in_is_spent_once(
    okta: FakeOkta, sign_in: Callable[..., ManagementApi], key: PrivateKey
) -> None:
    onboarding = okta.add_app(key, ["okta.apps.manage"], label="onboarding")
    app = ServiceApp(okta.url, client_id=onboarding.client_id, key=key, scopes=["okta.apps.manage"], max_wait=0.5)
    okta.next(503, times=99)
    began = time.monotonic()
    with pytest.raises(TokenUnreachable):
        sign_in(app).call("GET", "/api/v1/apps")
    assert time.monotonic() - began < 1.5


def test_an_app_can_have_an_rsa_key_a_jwks_uri_or_a_chosen_client_id(
    okta: FakeOkta, api: ManagementApi, rsa_key: PrivateKey
) -> None:
    made = create_app(api, "rsa", jwks=rsa_key.with_kid("r").jwks(), client_id="rsa-service")
    assert (made.app.client_id, made.app.keys[0].thumbprint) == ("rsa-service", rsa_key.thumbprint())
    assert made.app.id != made.app.client_id
    assert find_app(api, "rsa-service").id == made.app.id
    by_uri = create_app(api, "by uri", jwks_uri="https://billing.example/keys")
    assert by_uri.app.jwks_uri == "https://billing.example/keys"
    assert okta.apps[by_uri.app.client_id].jwks_uri == "https://billing.example/keys"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "either jwks"),
        ({"jwks_uri": "http://a.example/keys"}, "https://"),
        ({"jwks": {"keys": []}}, "contains no key"),
        ({"jwks": "private"}, "is a private key"),
        ({"jwks": "two without kid"}, "each needs a different kid"),
        ({"jwks": "public", "client_id": "x" * 10, "via": "clients"}, "chooses the client id itself"),
    ],
)
def test_invalid_arguments_are_refused_before_anything_is_sent(
    okta: FakeOkta, api: ManagementApi, key: PrivateKey, arguments: dict[str, Any], said: str
) -> None:
    one = key.with_kid(None).jwks()["keys"][0]
    documents = {"private": key.private_jwk(), "public": key.jwks(), "two without kid": {"keys": [one, one]}}
    if isinstance(arguments.get("jwks"), str):
        arguments = {**arguments, "jwks": documents[arguments["jwks"]]}
    with pytest.raises(ConfigurationError, match=said):
        create_app(api, "billing", **arguments)
    assert okta.requests == []


# ── finding ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_apps_are_found_on_every_page_of_the_list(okta: FakeOkta, api: ManagementApi, key: PrivateKey) -> None:
    for number in range(130):
        okta.add_app(label=f"app {number:03}")
    okta.add_app(label="a web app").application_type = "web"
    assert [app.name for app in list_apps(api)] == [f"app {number:03}" for number in range(130)]
    last = find_app(api, "app 129")
    assert find_app(api, last.id) == get_app(api, last.id) == last
    with pytest.raises(NotFound, match="There is no app 'app'"):
        find_app(api, "app")
    okta.add_app(label="app 129")
    with pytest.raises(NameTaken):
        find_app(api, "app 129")
    okta.add_app(key, label="app")
    assert not any(create_app(api, "app", jwks=key.jwks(), via=via).created for via in VIAS)


def test_an_app_is_deactivated_activated_and_deleted(okta: FakeOkta, api: ManagementApi, key: PrivateKey) -> None:
    app = create_app(api, "billing", jwks=key.jwks()).app
    deactivate_app(api, app.id)
    assert get_app(api, app.id).status == "INACTIVE"
    activate_app(api, app.id)
    assert set_dpop(api, app.id, True).dpop is True
    assert okta.apps[app.client_id].dpop_bound
    assert set_dpop(api, app.id, True).dpop is True
    delete_app(api, app.id)
    assert okta.apps == {}


# ── keys, grants, roles ──────────────────────────────────────────────────────────────────────────────────────────────


def test_keys_are_added_activated_deactivated_and_deleted(okta: FakeOkta, api: ManagementApi, key: PrivateKey) -> None:
    app = create_app(api, "billing", jwks=key.jwks()).app
    other = new_key("ES384")
    added = add_key(api, app.id, other.jwks()["keys"][0])
    assert added.id.startswith("pks")
    assert (added.kid, added.active, added.thumbprint) == (other.kid, True, other.thumbprint())
    assert add_key(api, app.id, other.jwks()["keys"][0]) == added
    assert [found.kid for found in list_keys(api, app.id)] == [key.kid, other.kid]
    with pytest.raises(ConfigurationError, match="another key with the kid"):
        add_key(api, app.id, new_key("ES256", kid=other.kid).jwks()["keys"][0])
    with pytest.raises(InvalidRequest, match="can't delete an active JSON Web Key"):
        delete_key(api, app.id, added.id)
    assert not deactivate_key(api, app.id, str(other.kid)).active
    assert not deactivate_key(api, app.id, added.id).active
    with pytest.raises(InvalidRequest, match="only active JSON Web Key") as caught:
        deactivate_key(api, app.id, str(key.kid))
    assert (caught.value.status, caught.value.error) == (400, "E0000001")
    assert len(caught.value.causes) == 1
    assert activate_key(api, app.id, added.id).active
    deactivate_key(api, app.id, added.id)
    delete_key(api, app.id, added.id)
    with pytest.raises(NotFound, match="has no key"):
        delete_key(api, app.id, added.id)


def test_an_inactive_key_counts_as_missing_and_an_encryption_key_is_ignored(
    okta: FakeOkta, api: ManagementApi, key: PrivateKey
) -> None:
    other = new_key("ES256")
    app = create_app(api, "billing", jwks={"keys": [key.jwks()["keys"][0], other.jwks()["keys"][0]]}).app
    deactivate_key(api, app.id, str(key.kid))
    assert create_app(api, "billing", jwks=key.jwks()).keys_missing == (key.kid,)
    path = f"/api/v1/apps/{app.id}/credentials/jwks"
    as_told = requests.get(okta.url + path, headers={"Authorization": f"SSWS {okta.ssws}"}, timeout=10).json()
    okta.next(on=path, body=[*as_told, {**as_told[0], "kid": "encrypts", "use": "enc"}])
    assert [found.kid for found in list_keys(api, app.id)] == [key.kid, other.kid]


def test_both_of_oktas_formats_for_a_list_of_keys_are_read(okta: FakeOkta, api: ManagementApi, key: PrivateKey) -> None:
    app = create_app(api, "billing", jwks=key.jwks()).app
    path = f"/api/v1/apps/{app.id}/credentials/jwks"
    plain = list_keys(api, app.id)
    as_told = requests.get(okta.url + path, headers={"Authorization": f"SSWS {okta.ssws}"}, timeout=10).json()
    okta.next(on=path, body={"jwks": {"keys": as_told}})
    assert list_keys(api, app.id) == plain
    del as_told[0]["crv"]
    okta.next(on=path, body=as_told)
    assert list_keys(api, app.id) == plain


def test_scopes_are_granted_one_by_one_and_existing_grants_stay(
    okta: FakeOkta, api: ManagementApi, key: PrivateKey
) -> None:
    app = create_app(api, "billing", jwks=key.jwks()).app
    told: list[GrantResult] = []
    grant_scopes(api, app.id, ["okta.users.read"])
    okta.reset()
    scopes = ["okta.users.read", "okta.groups.read", "okta.groups.read", "okta.logs.read"]
    results = grant_scopes(api, app.id, scopes, progress=told.append)
    assert results == told
    assert [(result.scope, result.outcome) for result in results] == [
        ("okta.users.read", "present"),
        ("okta.groups.read", "granted"),
        ("okta.logs.read", "granted"),
    ]
    assert sum(request.method == "POST" for request in okta.requests) == 2
    assert {grant.scope for grant in list_grants(api, app.id)} == set(scopes)
    gone = revoke_scopes(api, app.id, ["okta.logs.read", "okta.apps.read"])
    assert [result.outcome for result in gone] == ["revoked", "absent"]
    assert okta.apps[app.client_id].scopes == ["okta.users.read", "okta.groups.read"]


def test_a_scope_whose_grant_was_revoked_is_granted_again(okta: FakeOkta, api: ManagementApi, key: PrivateKey) -> None:
    app = create_app(api, "billing", jwks=key.jwks()).app
    path = f"/api/v1/apps/{app.id}/grants"
    okta.next(on=path, body=[{"id": "oag1", "scopeId": "okta.users.read", "status": "REVOKED"}])
    assert [result.outcome for result in grant_scopes(api, app.id, ["okta.users.read"])] == ["granted"]
    assert okta.apps[app.client_id].scopes == ["okta.users.read"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [({"what": "E0000006"}, PermissionMissing), ({"what": 500}, OktaUnreachable), ({"what": 400}, InvalidRequest)],
)
def test_if_one_grant_fails_the_others_are_made_and_reported(
    okta: FakeOkta, api: ManagementApi, key: PrivateKey, fault: dict[str, Any], error: type[Exception]
) -> None:
    app = create_app(api, "billing", jwks=key.jwks()).app
    told: list[tuple[str, str]] = []

    def report(result: GrantResult) -> None:
        told.append((result.scope, result.outcome))
        if result.scope == "okta.users.read":  # the next one fails
            okta.next(on=f"/api/v1/apps/{app.id}/grants", **fault)

    scopes = ["okta.users.read", "okta.groups.read", "okta.logs.read"]
    with pytest.raises(error):
        grant_scopes(api, app.id, scopes, progress=report)
    assert told == [
        ("okta.users.read", "granted"),
        ("okta.logs.read", "granted"),
    ]
    assert okta.apps[app.client_id].scopes == ["okta.users.read", "okta.logs.read"]
    okta.next(403, error="E0000006", on=f"/api/v1/apps/{app.id}/grants/*")
    revoked: list[GrantResult] = []
    with pytest.raises(PermissionMissing):
        revoke_scopes(api, app.id, ["okta.users.read", "okta.logs.read"], progress=revoked.append)
    assert revoked == [GrantResult("okta.logs.read", "revoked")]
    assert okta.apps[app.client_id].scopes == ["okta.users.read"]


@pytest.mark.parametrize(
    ("scopes", "said"),
    [
        ("okta.users.read", "a list"),
        (["api:read"], "not a scope of Okta's own"),
        (["okta.users.read.self"], "a service app has no user"),
    ],
)
def test_scopes_that_cannot_be_granted_are_refused(api: ManagementApi, scopes: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        grant_scopes(api, "0oa", scopes)


def test_roles_standard_and_custom_are_assigned_once(okta: FakeOkta, api: ManagementApi, key: PrivateKey) -> None:
    app = create_app(api, "billing", jwks=key.jwks()).app
    assert list_roles(api, app.client_id) == []
    first = assign_role(api, app.client_id, "HELP_DESK_ADMIN")
    assert first.assigned
    assert assign_role(api, app.client_id, "HELP_DESK_ADMIN") == type(first)(first.role, False)
    custom = assign_custom_role(api, app.client_id, "cr04cxy6yzSCtNciD0g7", "iam4cxy6z7hhaZCSk0g7")
    assert custom.assigned
    assert (custom.role.role, custom.role.resource_set) == ("cr04cxy6yzSCtNciD0g7", "iam4cxy6z7hhaZCSk0g7")
    assert not assign_custom_role(api, app.client_id, "cr04cxy6yzSCtNciD0g7", "iam4cxy6z7hhaZCSk0g7").assigned
    assert list_roles(api, app.client_id) == [first.role, custom.role]
    unassign_role(api, app.client_id, custom.role.id)
    assert okta.apps[app.client_id].roles == ["HELP_DESK_ADMIN"]
    with pytest.raises(ConfigurationError, match="not a standard role"):
        assign_role(api, app.client_id, "KING")


# ── when Okta says no ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_expired_ssws_token_is_named_as_the_cause_and_never_shown(
    okta: FakeOkta, api: ManagementApi, caplog: pytest.LogCaptureFixture
) -> None:
    okta.api_tokens[okta.ssws].active = False
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(NotSignedIn, match="SSWS token is wrong, was revoked, or expired") as caught,
    ):
        list(list_apps(api))
    assert (caught.value.status, caught.value.error) == (401, "E0000011")
    shown = f"{caught.value!r} {caught.value} {api!r} {ApiToken(okta.ssws)!r} {vars(caught.value)} {caplog.text}"
    assert okta.ssws not in shown
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(ApiToken(okta.ssws))


def test_a_missing_scope_and_a_missing_role_raise_different_errors(
    okta: FakeOkta, sign_in: Callable[..., ManagementApi], key: PrivateKey
) -> None:
    app = okta.add_app(key, ["okta.users.read", "okta.apps.manage"])
    api = sign_in(service(okta, app.client_id, key, "okta.users.read"))
    with pytest.raises(ScopeMissing, match=r"Grant okta\.apps\.read") as caught:
        list(list_apps(api))
    assert caught.value.scope == "okta.apps.read"
    api = sign_in(service(okta, app.client_id, key, "okta.apps.manage"))
    with pytest.raises(PermissionMissing, match="Application Administrator"):
        create_app(api, "billing", jwks=key.jwks())


def test_the_causes_that_okta_returns_are_in_the_message(okta: FakeOkta, api: ManagementApi) -> None:
    jwk = new_key("ES256").jwks()["keys"][0]
    with pytest.raises(InvalidRequest, match="crv: The curve must be"):
        create_app(api, "billing", jwks={"keys": [{**jwk, "crv": "secp256k1"}]}, via="apps")
    with pytest.raises(InvalidRequest, match="invalid_client_metadata: crv: The curve"):
        create_app(api, "billing", jwks={"keys": [{**jwk, "crv": "secp256k1"}]}, via="clients")


def test_a_rate_limit_is_waited_out_and_reported(
    okta: FakeOkta, sign_in: Callable[..., ManagementApi], key: PrivateKey
) -> None:
    pauses: list[Pause] = []
    slept: list[float] = []
    api = sign_in(on_pause=pauses.append, sleep=slept.append)
    okta.skew(minutes=10)  # the wait is Reset - Date, and this machine's clock does not come into it
    okta.next(429, on="/api/v1/apps", reset=40)
    assert create_app(api, "billing", jwks=key.jwks()).created
    # A second may have begun between the two.
    assert slept[0] in (40.0, 41.0)
    assert pauses == [Pause(slept[0], "Okta's rate limit")]
    okta.next(429, on="/api/v1/apps", reset=40, times=9)
    with pytest.raises(RateLimitTooLong, match=r"Try again in 4[01] seconds") as caught:
        list(list_apps(api))
    assert caught.value.retry_after in (40.0, 41.0)
    assert len(slept) == 3


def test_reads_are_retried_and_writes_are_not(
    okta: FakeOkta, sign_in: Callable[..., ManagementApi], key: PrivateKey
) -> None:
    slept: list[float] = []
    api = sign_in(sleep=slept.append)
    okta.next(503, on="/api/v1/apps")
    okta.next(on="/api/v1/apps", drop=True)
    assert list(list_apps(api)) == []
    assert len(slept) == 2
    okta.next(on="/api/v1/apps", drop=True)
    list(list_apps(api))
    okta.reset()

    def stumble(method: str) -> None:
        okta.next(on="/api/v1/apps/*/grants", drop=True)

    app = create_app(api, "billing", jwks=key.jwks()).app
    with pytest.raises(OktaUnreachable, match="it is safe to try again"):
        grant_scopes(
            api, app.id, ["okta.users.read", "okta.groups.read"], progress=lambda result: stumble(result.scope)
        )
    methods = [request.method for request in okta.requests if request.path.endswith("/grants")]
    assert methods == ["GET", "POST", "GET", "POST"]  # the second GET reads the first grant back
    okta.next(500, on="/api/v1/apps", times=9)
    with pytest.raises(OktaUnreachable, match="status page") as caught:
        list(list_apps(api))
    assert caught.value.status == 500


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        ({"what": 302, "headers": {"Location": "https://acme-admin.okta.com/"}}, OktaUnreachable, "redirect"),
        ({"html": True}, ProvisioningError, "not JSON"),
        ({"body": {"nonsense": 1}}, ProvisioningError, "not a list of apps"),
        ({"headers": [("link", '<https://evil.example/api/v1/apps>; rel="next"')]}, ProvisioningError, "evil.example"),
        ({"what": "E0000015"}, PermissionMissing, "lacks a feature"),
    ],
)
def test_an_unexpected_response_raises_an_error_that_says_what_is_wrong(
    okta: FakeOkta, api: ManagementApi, fault: dict[str, Any], error: type[Exception], said: str
) -> None:
    okta.next(fault.pop("what", None), on="/api/v1/apps", **fault)
    with pytest.raises(error, match=said):
        list(list_apps(api))


@pytest.fixture
def stranger() -> Iterator[FakeOkta]:
    """Another host, to which nothing may go."""
    with FakeOkta() as running:
        yield running
        assert running.requests == []


def test_a_next_page_on_another_host_is_not_requested(okta: FakeOkta, api: ManagementApi, stranger: FakeOkta) -> None:
    okta.next(on="/api/v1/apps", headers=[("link", f'<{stranger.url}/api/v1/apps>; rel="next"')])
    with pytest.raises(ProvisioningError, match="on another host or was already read"):
        list(list_apps(api))


def test_a_list_whose_pages_repeat_ends_with_an_error(okta: FakeOkta, api: ManagementApi) -> None:
    pages = [f'<{okta.url}/api/v1/apps?after={number % 2}>; rel="next"' for number in range(9)]
    for page in pages:
        okta.next(on="/api/v1/apps", headers=[("link", page)])
    with pytest.raises(ProvisioningError, match="on another host or was already read"):
        list(list_apps(api))
    assert len(okta.requests) == 3


def test_an_endless_list_ends_with_an_error(okta: FakeOkta, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("okta_m2m.admin.management.MAX_PAGES", 20)
    read: list[str] = []

    def page(exchange: Exchange) -> None:
        read.append(exchange.path)
        link = f'<{front.url}/api/v1/apps?after={len(read)}>; rel="next"'
        exchange.answer(200, b"[]", content_type="application/json", link=link)

    with front_of(okta.server.port) as front, ManagementApi(front.url, ApiToken(okta.ssws)) as api:
        front.pages["/api/v1/apps"] = page
        with pytest.raises(ProvisioningError, match=r"more than 20 pages\. Check the org URL"):
            list(list_apps(api))
    assert len(read) == 20


def test_retries_end_even_if_each_rate_limit_is_over_at_once(
    okta: FakeOkta, sign_in: Callable[..., ManagementApi]
) -> None:
    slept: list[float] = []
    api = sign_in(sleep=slept.append, max_wait=5)
    okta.next(429, on="/api/v1/apps", times=99, headers=[("Retry-After", "0")])
    with pytest.raises(RateLimitTooLong, match="Try again in"):
        api.call("POST", "/api/v1/apps", {})
    assert len(okta.requests) == len(slept) + 1 < 10
    assert min(slept) > 0.2
    assert 1 < sum(slept) <= 5


@pytest.mark.parametrize("kind", ["compressed", "endless", "nested"])
@pytest.mark.parametrize("status", [200, *in_matrix(403)])
def test_a_huge_response_uses_little_memory(okta: FakeOkta, kind: str, status: int) -> None:
    body = {"compressed": gzip.compress(bytes(64 << 20)), "endless": b" " * 65536, "nested": b"[" * 200_000}[kind]
    asked: list[list[str]] = []

    def page(exchange: Exchange) -> None:
        asked.append(exchange.headers.get_all("Accept-Encoding"))
        if kind == "endless":
            exchange.begin(status, content_type="application/json")
            for _ in range(64 << 4):
                exchange.chunk(body)
            exchange.end()
        else:
            encoding = {"content_encoding": "gzip"} if kind == "compressed" else {}
            exchange.answer(status, body, content_type="application/json", **encoding)

    said = {"compressed": "compressed", "endless": "more than 8 MiB", "nested": "not JSON" if status == 200 else "403"}
    with front_of(okta.server.port) as front, ManagementApi(front.url, ApiToken(okta.ssws)) as api:
        front.pages["/api/v1/apps"] = page
        tracemalloc.start()
        try:
            with pytest.raises(ProvisioningError, match=said[kind]):
                list(list_apps(api))
            assert tracemalloc.get_traced_memory()[1] < 40 << 20
        finally:
            tracemalloc.stop()
    assert asked == [["identity"]]


def test_an_unreachable_org_is_reported(okta: FakeOkta) -> None:
    okta.stop()
    with (
        ManagementApi(okta.url, ApiToken("00token"), sleep=lambda seconds: None) as api,
        pytest.raises(OktaUnreachable, match="Check the org URL, the network"),
    ):
        list(list_apps(api))


def test_a_ca_bundle_that_is_missing_is_a_setting_to_correct(key: PrivateKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with (
        ManagementApi("https://acme.okta.com", ApiToken("00token")) as api,
        pytest.raises(ConfigurationError, match="REQUESTS_CA_BUNDLE"),
    ):
        list(list_apps(api))


def test_a_sign_in_that_cannot_work_is_refused_at_once(okta: FakeOkta, key: PrivateKey, tmp_path: Path) -> None:
    custom = ServiceApp(okta.url, client_id="x", key=key, authorization_server="default")
    with pytest.raises(ConfigurationError, match="another authorization server"):
        ManagementApi(okta.url, custom)
    secret = "00verysecret"
    with pytest.raises(ConfigurationError) as caught:
        ManagementApi(okta.url, secret)  # type: ignore[arg-type]  # that is what is tested
    assert secret not in str(caught.value)
    for value in ("", "  ", "two words", "line\nbreak"):
        with pytest.raises(ConfigurationError, match="SSWS token is empty or invalid"):
            ApiToken(value)
    with pytest.raises(ConfigurationError, match="OKTA_CLIENT_TOKEN is not set"):
        ApiToken.from_env(environ={})
    with pytest.raises(ConfigurationError, match="cannot be read"):
        ApiToken.from_file(tmp_path / "missing")
    (tmp_path / "token").write_text(f"SSWS {okta.ssws}\n")
    with ManagementApi(okta.url, ApiToken.from_file(tmp_path / "token")) as api:
        assert list(list_apps(api)) == []


def test_of_a_large_file_that_is_named_as_the_token_only_the_beginning_is_read(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigurationError, match="SSWS token is empty or invalid"):
            ApiToken.from_file(tmp_path / "log")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_program_can_catch_the_errors_without_an_http_library() -> None:
    program = "import okta_m2m.admin.errors, sys; print('requests' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "False\n"


# ── key files ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("alg", ["ES256", "ES384", "ES512", "RS256"])
@pytest.mark.parametrize("form", ["jwk", "pem"])
def test_a_new_key_file_can_be_read_by_its_owner_only(tmp_path: Path, rsa_key: PrivateKey, alg: str, form: Any) -> None:
    key = rsa_key.with_kid(rsa_key.thumbprint()) if alg == "RS256" else new_key(alg)
    assert key.kid == key.thumbprint()
    path = tmp_path / "key"
    write_key(path, key, form=form)
    found = PrivateKey.from_file(path)
    assert (found.thumbprint(), found.kid) == (key.thumbprint(), key.kid)
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="will not be overwritten"):
        write_key(path, key)
    assert path.read_bytes() == before


def test_an_encrypted_pem_needs_its_password(tmp_path: Path, key: PrivateKey) -> None:
    write_key(tmp_path / "key.pem", key, form="pem", password="open sesame")
    with pytest.raises(InvalidKey):
        PrivateKey.from_file(tmp_path / "key.pem")
    assert PrivateKey.from_file(tmp_path / "key.pem", password="open sesame").thumbprint() == key.thumbprint()
    with pytest.raises(ConfigurationError, match="not encrypted"):
        key_text(key, password="open sesame")


@pytest.mark.parametrize(
    ("trouble", "raised"),
    [(OSError(errno.ENOSPC, "No space left on device"), ConfigurationError), (KeyboardInterrupt(), KeyboardInterrupt)],
    ids=["a full disk", "Ctrl-C"],
)
def test_a_key_that_cannot_be_written_completely_leaves_no_file(
    tmp_path: Path,
    key: PrivateKey,
    monkeypatch: pytest.MonkeyPatch,
    trouble: BaseException,
    raised: type[BaseException],
) -> None:
    def failing(descriptor: int) -> None:
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(raised) as caught:
            write_key(tmp_path / "key.json", key)
    if raised is ConfigurationError:
        assert re.search(r"key\.json cannot be written \(No space left on device\)", str(caught.value))
    assert os.listdir(tmp_path) == []


def test_a_key_file_is_created_in_no_directory_that_is_missing(tmp_path: Path, key: PrivateKey) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_key(tmp_path / "missing" / "key.json", key)


# ── assertions, revocation, introspection ────────────────────────────────────────────────────────────────────────────


def test_an_assertion_made_by_hand_gets_a_token_and_is_shown_decoded(okta: FakeOkta, key: PrivateKey) -> None:
    app = okta.add_app(key)
    url = endpoint_url(okta.url, "token")
    assertion = client_assertion(app.client_id, key, url)
    assert assertion.header == {"alg": "ES256", "kid": key.kid}
    assert (assertion.claims["aud"], assertion.claims["iss"], assertion.claims["sub"]) == (
        url,
        app.client_id,
        app.client_id,
    )
    assert assertion.value not in repr(assertion)
    form = {
        "grant_type": "client_credentials",
        "scope": "okta.users.read",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion.value,
    }
    assert requests.post(url, data=form, timeout=10).status_code == 200
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(assertion)


@pytest.mark.parametrize("server", [None, "default"])
def test_a_token_is_introspected_and_revoked_at_the_server_that_issued_it(
    okta: FakeOkta, key: PrivateKey, server: str | None
) -> None:
    registered = okta.add_app(key)
    scopes = ["okta.users.read"] if server is None else ["api:read"]
    app = ServiceApp(okta.url, client_id=registered.client_id, key=key, scopes=scopes, authorization_server=server)
    token = OktaAuth(app).token()
    found = introspect_token(okta.url, registered.client_id, key, token, authorization_server=server)
    assert found.active
    assert found.members["scope"] == " ".join(scopes)
    elsewhere = "default" if server is None else None
    assert not introspect_token(okta.url, registered.client_id, key, token, authorization_server=elsewhere).active
    revoke_token(okta.url, registered.client_id, key, token.value, authorization_server=server)
    revoke_token(okta.url, registered.client_id, key, "unknown", authorization_server=server)
    assert not introspect_token(okta.url, registered.client_id, key, token, authorization_server=server).active


def test_introspection_uses_oktas_time(okta: FakeOkta, key: PrivateKey) -> None:
    app = okta.add_app(key)
    okta.skew(minutes=-20)
    assert not introspect_token(okta.url, app.client_id, key, "unknown").active


def test_introspection_and_revocation_use_no_netrc_and_follow_no_redirect(
    okta: FakeOkta, key: PrivateKey, stranger: FakeOkta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login ada password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    app = okta.add_app(key)
    introspect_token(okta.url, app.client_id, key, "unknown")
    revoke_token(okta.url, app.client_id, key, "unknown")
    assert len(okta.requests) == 2
    for request in okta.requests:
        assert "authorization" not in [name.lower() for name, _ in request.headers]
    okta.next(307, on="/oauth2/v1/introspect", headers={"Location": f"{stranger.url}/oauth2/v1/introspect"})
    with pytest.raises(TokenUnreachable, match="HTTP 307"):
        introspect_token(okta.url, app.client_id, key, "unknown")


def test_introspection_errors_say_what_is_wrong(okta: FakeOkta, key: PrivateKey) -> None:
    app = okta.add_app(key)
    with pytest.raises(InvalidClient, match="Register this key's public half"):
        introspect_token(okta.url, app.client_id, new_key("ES256", kid=key.kid), "unknown")
    with pytest.raises(ConfigurationError, match="token is empty"):
        introspect_token(okta.url, app.client_id, key, " ")
    okta.next("E0000007", on="/oauth2/v1/introspect")
    with pytest.raises(TokenRefused):
        introspect_token(okta.url, app.client_id, key, "unknown")


# ── what an existing app has otherwise, and what others have in the org ──────────────────────────────────────────────


@pytest.mark.parametrize("via", VIAS)
def test_an_existing_app_is_compared_with_every_requested_setting(
    okta: FakeOkta, api: ManagementApi, key: PrivateKey, via: Via
) -> None:
    first = create_app(api, "billing", jwks=key.jwks(), via=via)
    assert first.differences == ()
    again = create_app(api, "billing", jwks=key.jwks(), via=via, dpop=True)
    assert again.differences == (Difference("dpop", True, False),)
    okta.apps[first.app.client_id].dpop_bound = True
    assert create_app(api, "billing", jwks=key.jwks(), via=via, dpop=True).differences == ()
    okta.apps[first.app.client_id].status = "INACTIVE"
    idle = create_app(api, "billing", jwks=key.jwks(), via=via)
    assert idle.differences == (Difference("status", "ACTIVE", "INACTIVE"),)
    uri = create_app(api, "billing", jwks_uri="https://keys.example/jwks.json", via=via)
    assert Difference("jwks_uri", "https://keys.example/jwks.json", None) in uri.differences
    if via == "apps":
        named = create_app(api, "billing", jwks=key.jwks(), client_id="billing-client")
        assert Difference("client_id", "billing-client", first.app.client_id) in named.differences
    assert len(okta.apps) == 1


def test_if_dpop_cannot_be_required_the_error_says_that_the_app_was_created(
    okta: FakeOkta, api: ManagementApi, key: PrivateKey
) -> None:
    okta.next("E0000006", on="/api/v1/apps/0oa*")
    with pytest.raises(
        NotConfirmed, match=r"'billing' was created .*does not require DPoP yet.*app edit 0oa\w+ --dpop"
    ):
        create_app(api, "billing", jwks=key.jwks(), via="clients", dpop=True)
    again = create_app(api, "billing", jwks=key.jwks(), via="clients", dpop=True)
    assert [difference.setting for difference in again.differences] == ["dpop"]


ODD_APPS = [
    {"id": "0oa1", "label": "billing", "status": "ACTIVE", "signOnMode": "OPENID_CONNECT"},
    {
        "id": "0oa2",
        "label": "billing",
        "status": "ACTIVE",
        "signOnMode": "OPENID_CONNECT",
        "credentials": {"oauthClient": {}},
        "settings": {"oauthClient": {"application_type": "service"}},
    },
    {"id": "0oa3", "label": "billing", "status": "ACTIVE", "signOnMode": "OPENID_CONNECT", "settings": None},
    {"signOnMode": "SAML_2_0"},
]


def test_apps_that_lack_the_properties_of_a_service_app_are_skipped(
    okta: FakeOkta, api: ManagementApi, key: PrivateKey
) -> None:
    other = okta.add_app(label="of a vendor")
    other.jwks["keys"].append({"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "kid": "odd"})
    listed = requests.get(f"{okta.url}/api/v1/apps", headers={"Authorization": f"SSWS {okta.ssws}"}, timeout=10).json()
    okta.next(on="/api/v1/apps", body=[*ODD_APPS, *listed])
    (found,) = list_apps(api)
    assert [(one.kid == "odd", bool(one.thumbprint)) for one in found.keys] == [(False, True), (True, False)]
    okta.next(on="/api/v1/apps", body=[*ODD_APPS, *listed])
    made = create_app(api, "billing", jwks=key.jwks())
    assert made.created
    assert [one.kid for one in list_keys(api, other.id)][-1] == "odd"


@pytest.mark.parametrize("via", [VIAS[0], *in_matrix(*VIAS[1:])])
def test_two_processes_that_create_the_same_app_at_once_both_report_both(
    okta: FakeOkta, api: ManagementApi, key: PrivateKey, via: Via
) -> None:
    together = threading.Barrier(2)

    class AtOnce(ManagementApi):
        def call(self, method: str, path: str, body: object = None, **options: Any) -> Any:
            if method != "POST" or path not in ("/api/v1/apps", "/oauth2/v1/clients"):
                return super().call(method, path, body, **options)
            together.wait(20)  # each has looked for the name, and found nothing
            created = super().call(method, path, body, **options)
            together.wait(20)
            return created

    raised: list[NameTaken] = []

    def create() -> None:
        with AtOnce(okta.url, ApiToken(okta.ssws)) as api, pytest.raises(NameTaken) as caught:
            create_app(api, "billing", jwks=key.jwks(), via=via)
        raised.append(caught.value)

    threads = [threading.Thread(target=create) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [app.id for app in list_apps(api)]
    assert len(ids) == len(raised) == 2
    assert all(id in error.problem for id in ids for error in raised)
    deletable = [str(error.remedy).split("okta-m2m app delete ")[1].split(". ")[0] for error in raised]
    assert sorted(deletable) == sorted(ids)
    with pytest.raises(NameTaken, match="2 apps have the name"):
        create_app(api, "billing", jwks=key.jwks(), via=via)
    delete_app(api, deletable[0])
    again = create_app(api, "billing", jwks=key.jwks(), via=via)
    assert (again.created, again.app.id, again.keys_missing) == (False, deletable[1], ())
