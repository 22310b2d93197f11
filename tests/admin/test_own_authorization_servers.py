"""The commands work for an API behind a custom authorization server, and say where its access policy decides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command import Run, assert_one_line, done
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.cli.exits import Exit
from okta_m2m.errors import TokenRefused
from okta_m2m.requests import OktaAuth
from okta_m2m.testing import App, FakeOkta

PLACE = "Security > API > Authorization Servers > default > Access Policies"
OWN = {"OKTA_CLIENT_AUTHORIZATIONSERVER": "default", "OKTA_CLIENT_SCOPES": "api:read"}


@pytest.fixture
def orders(okta: FakeOkta) -> str:
    return okta.protect("/orders", scope="api:read")


def test_an_own_api_is_called_once_its_origin_is_a_setting(run: Run, okta: FakeOkta, billing: App, orders: str) -> None:
    refused = run("api", "GET", orders, admin_signed_in=False, **OWN)
    assert refused.returncode == Exit.CONFIGURATION
    assert_one_line(refused.stderr)
    assert (
        "set OKTA_M2M_ORIGINS (origins: in okta.yaml)"
        in run("api", "GET", "https://orders.acme.com/", admin_signed_in=False, **OWN).stderr
    )
    own = {**OWN, "OKTA_M2M_ORIGINS": okta.url}
    assert json.loads(done(run("api", "GET", orders, admin_signed_in=False, **own)))
    assert "Authorization: Bearer" in done(run("headers", "GET", orders, admin_signed_in=False, **own))
    shown = done(run("doctor", "-v", "--call", orders, admin_signed_in=False, COLUMNS="200", **own))
    assert "✓ API call" in shown


def test_a_path_of_the_org_is_refused_with_the_reason(run: Run, okta: FakeOkta, billing: App) -> None:
    for arguments in (("api", "GET", "/api/v1/users"), ("doctor", "--call", "/api/v1/users")):
        ran = run(*arguments, admin_signed_in=False, COLUMNS="400", **OWN)
        assert ran.returncode == Exit.CONFIGURATION
        said = "Okta's own API accepts no token of the authorization server default. Use the URL of your own API."
        assert said in ran.stdout + ran.stderr


@pytest.mark.parametrize("code", ["no_matching_policy", "no_matching_scope", "unauthorized_client"])
def test_a_refusal_names_the_server_and_the_place_of_its_policies(
    okta: FakeOkta, billing: App, home: Path, code: str
) -> None:
    app = ServiceApp(
        okta.url,
        client_id=billing.client_id,
        key=PrivateKey.from_file(home / "key.json"),
        scopes=["api:read"],
        authorization_server="default",
    )
    okta.next(code)
    with pytest.raises(TokenRefused, match="authorization server default decide") as caught:
        OktaAuth(app).token()
    assert PLACE in str(caught.value.remedy)


def test_a_refusal_of_the_org_names_no_policy(okta: FakeOkta, billing: App, run: Run) -> None:
    okta.next("invalid_scope")
    assert "Access Policies" not in run("token", "get", admin_signed_in=False).stderr


def test_the_doctor_names_the_server_whose_policy_decides(run: Run, okta: FakeOkta, billing: App) -> None:
    okta.next("no_matching_policy")
    ran = run("doctor", admin_signed_in=False, COLUMNS="600", **OWN)
    assert ran.returncode == Exit.REFUSED
    assert PLACE in ran.stdout
    okta.next(token={"scope": "api:write"})
    ran = run("doctor", admin_signed_in=False, COLUMNS="600", **OWN)
    assert ran.returncode == Exit.SCOPE_MISSING
    assert PLACE in ran.stdout
    assert "app grant" not in ran.stdout


def test_a_scope_of_an_own_server_is_not_granted_but_the_place_is_named(run: Run, billing: App) -> None:
    for variables in (OWN, {}):
        ran = run("app", "grant", "api:read", **variables)
        assert ran.returncode == Exit.CONFIGURATION
        assert_one_line(ran.stderr)
        assert "Security > API > Authorization Servers >" in ran.stderr
        assert (PLACE in ran.stderr) == bool(variables)
