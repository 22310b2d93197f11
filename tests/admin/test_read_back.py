"""What is reported as done is done: Okta's lists are believed, not its answers to requests for a change."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.admin.errors import NotConfirmed, NotFound, RotationFailed
from okta_m2m.admin.key_files import new_key, write_key
from okta_m2m.admin.management import ApiToken, ManagementApi
from okta_m2m.admin.provisioning import (
    activate_app,
    activate_key,
    add_key,
    assign_custom_role,
    assign_role,
    deactivate_app,
    deactivate_key,
    delete_app,
    delete_key,
    grant_scopes,
    list_grants,
    list_keys,
    list_roles,
    revoke_scopes,
    set_dpop,
    unassign_role,
)
from okta_m2m.admin.rotation import Progress, Rotation, Step
from okta_m2m.testing import App, FakeOkta

SCOPES = ["okta.users.read"]


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "key.json"
    path.parent.mkdir()
    write_key(path, new_key("ES256"))
    return path


@pytest.fixture
def app(okta: FakeOkta, key_file: Path) -> App:
    made = okta.add_app(PrivateKey.from_file(key_file), SCOPES, label="billing")
    made.add_key(new_key("ES256", kid="second"))
    made.add_key(new_key("ES256", kid="third"))
    made.deactivate_key("third")
    return made


@pytest.fixture
def api(okta: FakeOkta) -> Iterator[ManagementApi]:
    with ManagementApi(okta.url, ApiToken(okta.ssws), sleep=lambda seconds: None) as opened:
        yield opened


def a_role(okta: FakeOkta, app: App) -> str:
    with ManagementApi(okta.url, ApiToken(okta.ssws)) as api:
        return list_roles(api, app.client_id)[0].id


CHANGES: dict[str, tuple[Callable[[FakeOkta, ManagementApi, App], Any], str, dict[str, Any]]] = {
    "add a key": (
        lambda okta, api, app: add_key(api, app.id, new_key("ES256").jwks()["keys"][0]),
        "/api/v1/apps/*/credentials/jwks",
        {"status": 201, "body": {"id": "pksnew", "kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "B" * 43}},
    ),
    "activate a key": (
        lambda okta, api, app: activate_key(api, app.id, "third"),
        "/api/v1/apps/*/lifecycle/activate",
        {"status": 200, "body": {}},
    ),
    "deactivate a key": (
        lambda okta, api, app: deactivate_key(api, app.id, "second"),
        "/api/v1/apps/*/lifecycle/deactivate",
        {"status": 200, "body": {}},
    ),
    "delete a key": (
        lambda okta, api, app: delete_key(api, app.id, "third"),
        "/api/v1/apps/*/credentials/jwks/pks*",
        {"status": 204, "body": b""},
    ),
    "grant a scope": (
        lambda okta, api, app: grant_scopes(api, app.id, ["okta.groups.read"]),
        "/api/v1/apps/*/grants",
        {"status": 201, "body": {}},
    ),
    "revoke a scope": (
        lambda okta, api, app: revoke_scopes(api, app.id, ["okta.users.read"]),
        "/api/v1/apps/*/grants/*",
        {"status": 204, "body": b""},
    ),
    "assign a role": (
        lambda okta, api, app: assign_role(api, app.client_id, "HELP_DESK_ADMIN"),
        "/oauth2/v1/clients/*/roles",
        {"status": 201, "body": {"id": "JBC1", "type": "HELP_DESK_ADMIN"}},
    ),
    "assign a custom role": (
        lambda okta, api, app: assign_custom_role(api, app.client_id, "cr04cxy6yzSCtNciD0g7", "iam4cxy6z7hhaZCSk0g7"),
        "/oauth2/v1/clients/*/roles",
        {"status": 201, "body": {"id": "irb1", "type": "CUSTOM"}},
    ),
    "unassign a role": (
        lambda okta, api, app: unassign_role(api, app.client_id, a_role(okta, app)),
        "/oauth2/v1/clients/*/roles/*",
        {"status": 204, "body": b""},
    ),
    "deactivate an app": (
        lambda okta, api, app: deactivate_app(api, app.id),
        "/api/v1/apps/*/lifecycle/deactivate",
        {"status": 200, "body": {}},
    ),
    "delete an app": (
        lambda okta, api, app: delete_app(api, app.id),
        "/api/v1/apps/*",
        {"status": 204, "body": b""},
    ),
    "require DPoP": (
        lambda okta, api, app: set_dpop(api, app.id, True),
        "/api/v1/apps/*",
        {"status": 200, "body": {}},
    ),
}


class Unheeded(ManagementApi):
    """Answers each request for a change with success, and makes none of them. Reading is as ever."""

    answer: Any = None

    def call(self, method: str, path: str, body: object = None, **options: Any) -> Any:
        if method == "GET":
            return super().call(method, path, body, **options)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in CHANGES.items()])
def test_a_change_that_okta_accepts_but_does_not_show_is_not_reported_as_done(
    okta: FakeOkta, app: App, change: Any
) -> None:
    make, _, answer = change
    with Unheeded(okta.url, ApiToken(okta.ssws), sleep=lambda seconds: None) as api:
        api.answer = answer["body"]
        with pytest.raises(NotConfirmed, match=r"Okta does not show that .*run the same command again"):
            make(okta, api, app)


@pytest.mark.parametrize("name", ["deactivate a key", "delete a key", "revoke a scope", "unassign a role"])
def test_a_404_does_not_count_as_done_while_okta_still_lists_it(okta: FakeOkta, app: App, name: str) -> None:
    make, path, _ = CHANGES[name]
    if name == "unassign a role":
        a_role(okta, app)
    with ManagementApi(okta.url, ApiToken(okta.ssws), sleep=lambda seconds: None) as api:
        okta.next("E0000007", on=path)
        with pytest.raises(NotConfirmed):
            make(okta, api, app)
        make(okta, api, app)


def test_a_change_that_okta_shows_late_is_waited_for(okta: FakeOkta, app: App) -> None:
    waited: list[float] = []
    with ManagementApi(okta.url, ApiToken(okta.ssws), sleep=waited.append) as api:
        before = [{"id": grant.id, "scopeId": grant.scope} for grant in list_grants(api, app.id)]

        class Late(ManagementApi):
            stale = 3

            def call(self, method: str, path: str, body: object = None, **options: Any) -> Any:
                if method == "GET" and self.stale:
                    self.stale -= 1
                    return before
                return super().call(method, path, body, **options)

        with Late(okta.url, ApiToken(okta.ssws), sleep=waited.append) as late:
            (result,) = grant_scopes(late, app.id, ["okta.groups.read"])
    assert result.outcome == "granted"
    assert waited == [0.25, 0.5]


def test_a_role_that_is_not_assigned_is_not_found(okta: FakeOkta, api: ManagementApi, app: App) -> None:
    with pytest.raises(NotFound, match="role list"):
        unassign_role(api, app.client_id, "JBCnothing")
    deactivate_app(api, app.id)
    activate_app(api, app.id)
    assert app.status == "ACTIVE"


# ── a rotation ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("step", [Step.DEACTIVATE, Step.DELETE])
def test_a_rotation_does_not_report_the_old_key_as_deleted_while_okta_lists_it(
    okta: FakeOkta, api: ManagementApi, key_file: Path, step: Step
) -> None:
    """Okta, or a proxy before it, answers 404 to deactivating and deleting, and the old key stays active."""
    app = okta.add_app(PrivateKey.from_file(key_file), SCOPES, label="billing")
    old = PrivateKey.from_file(key_file).kid

    def stumble(progress: Progress) -> None:
        if (progress.step, progress.state) == (step, "begun"):
            for path in ("/api/v1/apps/*/credentials/jwks/*/deactivate", "/api/v1/apps/*/credentials/jwks/pks*"):
                okta.next("E0000007", on=path, times=20)

    def rotation(progress: Callable[[Progress], None] | None = None) -> Rotation:
        def service(key: Any) -> ServiceApp:
            return ServiceApp(okta.url, client_id=app.client_id, key=key, scopes=SCOPES, max_wait=5)

        return Rotation(api, app.id, key_file, service=service, grace=0, settling=0, progress=progress)

    with pytest.raises(RotationFailed, match="Okta does not show that the key") as caught:
        rotation(stumble).run()
    assert isinstance(caught.value.__cause__, NotConfirmed)
    assert (key_file.parent / "key.json.rotation").exists()
    assert old in [key.kid for key in list_keys(api, app.id)]
    okta.clear_faults()
    rotated = rotation().run()
    assert rotated.resumed
    assert [key.kid for key in list_keys(api, app.id)] == [rotated.new_kid]
    assert os.listdir(key_file.parent) == ["key.json"]


def test_a_rotation_ends_if_someone_else_deletes_the_old_key(
    okta: FakeOkta, api: ManagementApi, key_file: Path
) -> None:
    app = okta.add_app(PrivateKey.from_file(key_file), SCOPES, label="billing")
    old = PrivateKey.from_file(key_file).kid

    def remove(progress: Progress) -> None:
        if (progress.step, progress.state) == (Step.CONFIRM, "begun"):
            delete_key(api, app.id, str(old))

    def service(key: Any) -> ServiceApp:
        return ServiceApp(okta.url, client_id=app.client_id, key=key, scopes=SCOPES, max_wait=5)

    rotated = Rotation(api, app.id, key_file, service=service, grace=0, settling=0, progress=remove).run()
    assert [key.kid for key in list_keys(api, app.id)] == [rotated.new_kid]
