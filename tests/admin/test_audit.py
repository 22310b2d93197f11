"""``okta-m2m audit``: what it shows of each app, what a policy does not allow, and what happens if the account may not look."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from command import COMMAND, Run, done, environment, run_command
from okta_m2m import ConfigurationError, PrivateKey, ServiceApp
from okta_m2m.admin.audit import AuditedApp, Policy, audit
from okta_m2m.admin.errors import NotFound, PermissionMissing, ProvisioningError, ScopeMissing
from okta_m2m.admin.management import ApiToken, ManagementApi
from okta_m2m.admin.provisioning import create_app, delete_app, grant_scopes
from okta_m2m.cli.exits import Exit
from okta_m2m.requests import OktaAuth
from okta_m2m.testing import App, FakeOkta

DAY = 24 * 60  # minutes


@pytest.fixture
def api(okta: FakeOkta) -> Iterator[ManagementApi]:
    with ManagementApi(okta.url, ApiToken(okta.ssws)) as opened:
        yield opened


Old = Callable[..., App]


@pytest.fixture
def old(okta: FakeOkta) -> Old:
    """``old(days, **options of add_app)``: an app that was added, with its key and scopes, so many days ago."""

    def add(days: float, **options: object) -> App:
        okta.skew(minutes=-days * DAY)
        app = okta.add_app(**options)  # type: ignore[arg-type]
        for scope in app.scopes:
            okta.records.find("grant", app.id, scope, prefix="oag")
        okta.skew()
        return app

    return add


def use(okta: FakeOkta, app: App, days: float, *scopes: str) -> None:
    """The app got a token so many days ago."""
    okta.skew(minutes=-days * DAY)
    okta.mint(app, None, scopes or app.scopes, None)
    okta.skew()


def days_ago(days: float) -> str:
    return f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"


def only(api: ManagementApi, policy: Policy | None = None) -> AuditedApp:
    (found,) = audit(api, policy).apps
    return found


def problems(api: ManagementApi, policy: Policy) -> dict[str, list[str]]:
    return {one.app.name: [finding.problem for finding in one.findings] for one in audit(api, policy).apps}


# ── what it shows ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_app_is_shown_with_its_keys_scopes_roles_and_last_token(
    okta: FakeOkta, api: ManagementApi, old: Old
) -> None:
    app = old(100, scopes=["okta.users.read", "okta.groups.read"], dpop_bound=True)
    app.roles = ["HELP_DESK_ADMIN", "CUSTOM/cr04cxy6yzSCtNciD0g7/iam4cxy6z7hhaZCSk0g7"]
    use(okta, app, 5)
    use(okta, app, 2)
    found = only(api)
    assert (found.app.client_id, found.app.status, found.app.dpop) == (app.client_id, "ACTIVE", True)
    assert found.key_ages == (100,)
    assert found.scopes == ("okta.users.read", "okta.groups.read")
    assert found.roles == ("HELP_DESK_ADMIN", "cr04cxy6yzSCtNciD0g7/iam4cxy6z7hhaZCSk0g7")
    log = requests.get(
        f"{okta.url}/api/v1/logs?sortOrder=DESCENDING", headers={"Authorization": f"SSWS {okta.ssws}"}, timeout=10
    )
    assert found.last_token == log.json()[0]["published"]
    assert found.findings == ()
    # Without a policy, the last event is enough; nothing was changed.
    (asked,) = [request.query for request in okta.requests if request.path == "/api/v1/logs"][:-1]
    assert "limit=1&" in asked
    assert {request.method for request in okta.requests} == {"GET"}
    assert okta.refusals == []


def test_a_failed_token_request_and_another_apps_token_are_no_last_token(okta: FakeOkta, api: ManagementApi) -> None:
    app = okta.add_app(label="quiet")
    other = okta.add_app(label="busy")
    use(okta, other, 1)
    assert {one.app.client_id: one.last_token is None for one in audit(api).apps} == {
        app.client_id: True,
        other.client_id: False,
    }


def test_the_token_of_an_app_with_a_chosen_client_id_is_found(okta: FakeOkta, api: ManagementApi) -> None:
    key = PrivateKey.generate("ES256")
    created = create_app(api, "chosen", jwks=key.with_kid("k").jwks(), client_id="my-client").app
    use(okta, okta.apps["my-client"], 1, "okta.users.read")
    assert created.id != "my-client"
    assert only(api).last_token is not None


def test_what_the_account_may_not_see_is_said_and_not_asked_for_again(okta: FakeOkta) -> None:
    key = PrivateKey.generate("ES256", kid="k")
    scopes = ["okta.apps.read"]
    for number in range(3):
        okta.add_app(label=str(number))
    service = ServiceApp(okta.url, client_id=okta.add_app(key, scopes).client_id, key=key, scopes=scopes)
    with ManagementApi(okta.url, service) as api:
        found = audit(api)
        assert not found.log_visible
        assert {(one.scopes, one.roles, one.last_token) for one in found.apps} == {(None, None, None)}
        assert len(found.apps) == 4
        assert [request.path for request in okta.requests].count("/api/v1/logs") == 1


def test_an_app_that_is_deleted_meanwhile_is_omitted(okta: FakeOkta, api: ManagementApi) -> None:
    okta.add_app(label="gone")
    stays = okta.add_app(label="stays")
    okta.next(404, on="/api/v1/apps/*/grants")
    assert only(api).app.client_id == stays.client_id
    with pytest.raises(NotFound):
        delete_app(api, "0oanobody")


def test_a_machine_with_a_wrong_clock_computes_the_same_ages(okta: FakeOkta, api: ManagementApi) -> None:
    okta.skew(minutes=-50 * DAY)
    okta.add_app()
    okta.skew(minutes=300 * DAY)
    assert only(api).key_ages == (350,)


# ── policies ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_active_key_may_have_the_age(okta: FakeOkta, api: ManagementApi, old: Old) -> None:
    old(89, label="young")
    old(91, label="aged")
    app = old(91, label="replaced")
    app.add_key(PrivateKey.generate("ES256", kid="new").jwks())
    app.jwks["keys"][0]["status"] = "INACTIVE"
    old(1, label="fetched").jwks_uri = "https://billing.example/keys"
    old(1, label="secret").token_endpoint_auth_method = "client_secret_basic"
    found = problems(api, Policy(key_age=90))
    assert found["young"] == found["replaced"] == []
    assert found["aged"][0].endswith("is 91 days old.")
    assert "its keys from https://billing.example/keys, so their age is not known" in found["fetched"][0]
    assert "client_secret_basic, not with a key" in found["secret"][0]


def test_a_key_of_unknown_age_is_not_allowed_either(okta: FakeOkta, api: ManagementApi) -> None:
    app = okta.add_app(label="billing")
    listed = api.call("GET", f"/api/v1/apps/{app.id}")
    del listed["settings"]["oauthClient"]["jwks"]["keys"][0]["created"]
    okta.next(on="/api/v1/apps", body=[listed])
    assert problems(api, Policy(key_age=90))["billing"][0].endswith("is of unknown age.")


def test_roles_and_dpop(okta: FakeOkta, api: ManagementApi) -> None:
    okta.add_app(label="good", dpop_bound=True)
    okta.add_app(label="bad").roles = ["READ_ONLY_ADMIN", "SUPER_ADMIN"]
    found = problems(api, Policy(no_super_admin=True, require_dpop=True))
    assert found == {"good": [], "bad": ["It has the role SUPER_ADMIN.", "It does not require DPoP."]}


def test_a_scope_that_was_in_no_token_for_so_long_is_found(okta: FakeOkta, api: ManagementApi, old: Old) -> None:
    scopes = ["okta.users.read", "okta.groups.read", "okta.logs.read"]
    app = old(60, label="billing", scopes=scopes)
    use(okta, app, 40, *scopes)
    use(okta, app, 20, "okta.groups.read", "okta.users.read")
    use(okta, app, 1, "okta.users.read")
    assert problems(api, Policy(unused_scopes=10)) == {
        "billing": ["For 10 days, no token had okta.groups.read okta.logs.read."]
    }
    assert problems(api, Policy(unused_scopes=30)) == {"billing": ["For 30 days, no token had okta.logs.read."]}
    assert problems(api, Policy(unused_scopes=50)) == {"billing": []}
    finding = only(api, Policy(unused_scopes=30)).findings[0]
    assert finding.remedy.endswith(f"okta-m2m app revoke-grant okta.logs.read --app {app.id}")


def test_a_scope_that_was_granted_lately_is_not_unused(okta: FakeOkta, api: ManagementApi, old: Old) -> None:
    app = old(60, label="billing", scopes=["okta.users.read"])
    use(okta, app, 1)
    grant_scopes(api, app.id, ["okta.groups.read"])
    assert problems(api, Policy(unused_scopes=30)) == {"billing": []}


def test_the_log_is_read_to_the_page_on_which_the_last_scope_was_used(
    okta: FakeOkta, api: ManagementApi, old: Old
) -> None:
    app = old(60, label="billing", scopes=["okta.users.read", "okta.groups.read"])
    use(okta, app, 29)
    page = [
        {"published": "2999-01-01T00:00:00.000Z", "debugContext": {"debugData": {"grantedScopes": "okta.users.read"}}}
    ]
    link = f'<{okta.url}/api/v1/logs?after=0&sortOrder=DESCENDING&since={quote(days_ago(80))}>; rel="next"'
    okta.next(on="/api/v1/logs", body=page, headers={"link": link})
    assert problems(api, Policy(unused_scopes=30)) == {"billing": []}
    assert [request.path for request in okta.requests].count("/api/v1/logs") == 2
    assert okta.refusals == []


def test_a_log_that_names_a_next_page_for_ever_ends_with_an_empty_page(
    okta: FakeOkta, api: ManagementApi, old: Old
) -> None:
    app = old(60, label="billing", scopes=["okta.users.read", "okta.logs.read"])
    use(okta, app, 20, "okta.users.read")
    for number in range(2):
        link = f'<{okta.url}/api/v1/logs?after=0&number={number}>; rel="next"'
        okta.next(on="/api/v1/logs", headers={"link": link}, **({"body": []} if number else {}))
    assert problems(api, Policy(unused_scopes=30)) == {"billing": ["For 30 days, no token had okta.logs.read."]}
    assert [request.path for request in okta.requests].count("/api/v1/logs") == 2


@pytest.mark.parametrize(
    ("policy", "refused"),
    [
        (Policy(unused_scopes=30), "/api/v1/logs"),
        (Policy(unused_scopes=30), "/api/v1/apps/*/grants"),
        (Policy(no_super_admin=True), "/oauth2/v1/clients/*/roles"),
    ],
)
@pytest.mark.parametrize("error", ["E0000006", "insufficient_scope"])
def test_a_policy_that_cannot_be_checked_is_a_failure(
    okta: FakeOkta, api: ManagementApi, policy: Policy, refused: str, error: str
) -> None:
    okta.add_app(label="billing")
    okta.next(403, error=error, on=refused)
    with pytest.raises((PermissionMissing, ScopeMissing)):
        audit(api, policy)
    okta.next(403, error=error, on=refused)
    assert len(audit(api, Policy(require_dpop=True)).apps) == 1


def test_an_event_without_its_scopes_is_reported_and_not_taken_for_a_token_without_any(
    okta: FakeOkta, api: ManagementApi, old: Old
) -> None:
    old(60)
    okta.next(on="/api/v1/logs", body=[{"published": "2999-01-01T00:00:00.000Z", "debugContext": None}])
    with pytest.raises(ProvisioningError, match="does not describe the event"):
        audit(api, Policy(unused_scopes=30))


def test_more_days_than_okta_keeps_are_refused(okta: FakeOkta, api: ManagementApi) -> None:
    with pytest.raises(ConfigurationError, match="keeps the System Log for 90 days"):
        audit(api, Policy(unused_scopes=91))
    assert okta.requests == []


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_prints_a_table_and_exits_with_1_if_a_policy_is_not_kept(
    run: Run, okta: FakeOkta, old: Old
) -> None:
    app = old(100, label="billing", scopes=["okta.users.read"])
    use(okta, app, 3)
    inactive = old(1, label="old")
    inactive.status = "INACTIVE"
    lines = done(run("audit")).splitlines()
    assert lines[0].split() == [
        "CLIENT",
        "ID",
        "STATUS",
        "DPOP",
        "KEY",
        "AGES",
        "LAST",
        "TOKEN",
        "ROLES",
        "SCOPES",
        "NAME",
    ]
    columns = lines[1].split()
    assert columns[:4] == [app.client_id, "ACTIVE", "no", "100d"]
    assert columns[5:] == ["READ_ONLY_ADMIN", "okta.users.read", "billing"]
    assert " none in 90d " in lines[2]
    assert done(run("audit", "--key-age", "101d", "--no-super-admin"))
    ran = run("audit", "--key-age", "90d", "--json")
    assert ran.returncode == Exit.FAILED, ran.stderr
    document = json.loads(ran.stdout)
    assert document["log_visible"] is True
    assert [(one["app"]["name"], len(one["findings"])) for one in document["apps"]] == [("billing", 1), ("old", 0)]
    shown = run("audit", "--key-age", "90d").stdout.splitlines()[-1]
    assert shown.startswith(f"billing ({app.client_id}): Its key ")
    assert "okta-m2m key rotate" in shown
    refused = run("audit", "--key-age", "90")
    assert refused.returncode == Exit.USAGE
    assert "Write it like this: 90d." in refused.stderr


def test_the_command_says_what_the_account_may_not_see(run: Run, okta: FakeOkta) -> None:
    okta.add_app(label="billing")
    okta.next(403, error="E0000006", on="/api/v1/logs")
    assert " not permitted " in done(run("audit"))
    okta.next(403, error="E0000006", on="/api/v1/logs")
    ran = run("audit", "--unused-scopes", "30d")
    assert (ran.returncode, ran.stdout) == (Exit.ROLE_MISSING, "")


@pytest.mark.matrix
def test_forty_apps_of_the_served_stand_in_are_audited(tmp_path: Path) -> None:
    command = [*COMMAND, "demo", "--serve"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            url, token = (process.stdout.readline().strip().partition("=")[2] for _ in range(2))
            with ManagementApi(url, ApiToken(token)) as api:
                for number in range(40):
                    key = PrivateKey.generate("ES256", kid=f"k{number}")
                    app = create_app(api, f"service {number}", jwks=key.jwks(), dpop=number % 2 == 0).app
                    grant_scopes(api, app.id, ["okta.users.read"])
                    if number % 4 == 0:
                        service = ServiceApp(url, client_id=app.client_id, key=key, scopes=["okta.users.read"])
                        OktaAuth(service).token()
            ran = run_command(tmp_path, "audit", "--json", "--require-dpop", "--key-age", "90d")
        finally:
            process.kill()
    assert ran.returncode == Exit.FAILED, ran.stderr
    apps = json.loads(ran.stdout)["apps"]
    assert len(apps) == 40
    assert sum(bool(one["findings"]) for one in apps) == 20
    assert sum(one["last_token"] is not None for one in apps) == 10
