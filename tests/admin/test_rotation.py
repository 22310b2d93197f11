"""A key is rotated, and no call is lost: neither while twenty threads call, nor when the rotation is killed at any moment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from okta_m2m import ConfigurationError, PrivateKey, ServiceApp
from okta_m2m.admin import _safe_files
from okta_m2m.admin import rotation as rotation_module
from okta_m2m.admin._safe_files import FileVersion
from okta_m2m.admin.errors import NotFound, OktaUnreachable, RotationFailed, SuperAdminNeeded
from okta_m2m.admin.key_files import new_key, write_key, write_kid
from okta_m2m.admin.management import ApiToken, ManagementApi, Pause
from okta_m2m.admin.provisioning import (
    deactivate_key,
    delete_key,
    list_keys,
)
from okta_m2m.admin.rotation import (
    Progress,
    Rotation,
    Step,
    rotatable_key_file,
)
from okta_m2m.errors import InvalidClient
from okta_m2m.requests import OktaAuth
from okta_m2m.settings import read_settings
from okta_m2m.testing import App, FakeOkta
from promises import in_matrix

SCOPES = ["okta.users.read"]
STEPS = tuple(step for step in Step if step is not Step.PUBLISH)
PUBLISHING = tuple(Step)


@pytest.fixture
def okta() -> Iterator[FakeOkta]:
    with FakeOkta() as running:
        yield running


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "key.json"
    path.parent.mkdir()
    write_key(path, new_key("ES256"))
    return path


@pytest.fixture
def app(okta: FakeOkta, key_file: Path) -> App:
    return okta.add_app(PrivateKey.from_file(key_file), SCOPES, label="billing")


@pytest.fixture
def api(okta: FakeOkta) -> Iterator[ManagementApi]:
    with ManagementApi(okta.url, ApiToken(okta.ssws)) as opened:
        yield opened


@pytest.fixture
def rotation(okta: FakeOkta, api: ManagementApi, app: App, key_file: Path) -> Callable[..., Rotation]:
    """``rotation(**options of Rotation)``: of the app's key file, without a grace time unless one is given."""

    def prepared(**options: Any) -> Rotation:
        def service(key: Any) -> ServiceApp:
            return ServiceApp(okta.url, client_id=app.client_id, key=key, scopes=SCOPES, max_wait=5)

        given = {"api": api, "app_id": app.id, "key_file": key_file, "service": service, "grace": 0, "settling": 0}
        given |= options
        return Rotation(given.pop("api"), given.pop("app_id"), given.pop("key_file"), **given)

    return prepared


@contextmanager
def callers(okta: FakeOkta, app: App, key: Path | ServiceApp, threads: int) -> Iterator[list[str]]:
    """Threads that keep calling, as one running service does; gives the list of what failed."""
    if isinstance(key, ServiceApp):
        service = key
    else:
        followed = PrivateKey.from_file(key)
        service = ServiceApp(okta.url, client_id=app.client_id, key=followed, scopes=SCOPES, max_wait=20)
    failures: list[str] = []
    made = [0] * threads
    over = threading.Event()

    def call(number: int) -> None:
        with requests.Session() as session:
            session.auth = OktaAuth(service)
            # Sixty calls a second notice a lost one, and leave time for others.
            while not over.wait(threads / 60):
                try:
                    status = session.get(f"{okta.url}/api/v1/users", timeout=20).status_code
                except Exception as error:
                    failures.append(repr(error))
                else:
                    if status != 200:
                        failures.append(f"HTTP {status}")
                made[number] += 1

    running = [threading.Thread(target=call, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    try:
        while not all(made):  # every caller has begun before anything is done to the key
            over.wait(0.01)
        yield failures
        minted = okta.tokens_minted
        # The callers go on until they have a token that was minted after all was done.
        while okta.tokens_minted == minted and not failures:
            over.wait(0.01)
    finally:
        over.set()
        for thread in running:
            thread.join()


def one_key(okta: FakeOkta, app: App, key_file: Path) -> str:
    """The kid of the one key that there is: in the file, at Okta, and nowhere else."""
    key = PrivateKey.from_file(key_file)
    (registered,) = app.jwks["keys"]
    assert (registered["kid"], registered["status"]) == (key.kid, "ACTIVE")
    assert OktaAuth(ServiceApp(okta.url, client_id=app.client_id, key=key, scopes=SCOPES, max_wait=5)).token()
    assert os.listdir(key_file.parent) == [key_file.name]
    return str(key.kid)


# ── it goes well ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_call_is_lost_while_twenty_threads_call(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation]
) -> None:
    old = PrivateKey.from_file(key_file).snapshot()
    okta.token_lifetime = 1.5
    over = threading.Event()
    begun: list[str] = []

    def begin_anew() -> None:
        """A short-lived process at every moment: it reads the key, and gets a token at its first try."""
        while not over.is_set():
            key = PrivateKey.from_file(key_file).snapshot()
            begun.append(OktaAuth(ServiceApp(okta.url, client_id=app.client_id, key=key, scopes=SCOPES)).token().value)

    with callers(okta, app, key_file, 20) as failures:
        beginner = threading.Thread(target=begin_anew)
        beginner.start()
        try:
            rotated = rotation(grace=2.0, settling=20).run()
        finally:
            over.set()
            beginner.join()
    assert failures == []
    assert okta.refusals == []
    assert begun
    assert (rotated.old_kid, rotated.resumed) == (old.kid, False)
    assert one_key(okta, app, key_file) == rotated.new_kid != old.kid


def test_each_step_and_each_wait_is_reported(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation]
) -> None:
    told: list[Progress] = []
    pauses: list[Pause] = []
    with ManagementApi(okta.url, ApiToken(okta.ssws), on_pause=pauses.append, sleep=lambda seconds: None) as api:
        rotation(api=api, progress=told.append, grace=60).run()
    assert [(progress.step, progress.state) for progress in told] == [
        (step, state) for step in STEPS for state in ("begun", "done")
    ]
    assert [pause.reason for pause in pauses] == ["until every running process has read the new key"]
    assert 59 < pauses[0].seconds <= 60
    one_key(okta, app, key_file)


def test_an_app_may_rotate_its_own_key(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation]
) -> None:
    app.scopes.append("okta.apps.manage")
    app.roles = ["SUPER_ADMIN"]
    app.dpop_bound = True
    itself = ServiceApp(
        okta.url,
        client_id=app.client_id,
        key=PrivateKey.from_file(key_file),
        scopes=[*SCOPES, "okta.apps.manage"],
    )
    with ManagementApi(okta.url, itself) as api:
        rotation(api=api).run()
        rotation(api=api).run()
    one_key(okta, app, key_file)


def test_the_new_key_has_the_old_ones_algorithm_unless_another_is_requested(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation], rsa_key: PrivateKey
) -> None:
    key_file.unlink()
    write_key(key_file, rsa_key.with_kid("rsa"))
    app.jwks = rsa_key.with_kid("rsa")
    rotation().run()
    key = PrivateKey.from_file(key_file)
    assert (key.alg, len(key.public_jwk["n"])) == ("RS256", len(rsa_key.public_jwk["n"]))
    rotation(alg="ES384").run()
    assert PrivateKey.from_file(key_file).alg == "ES384"


# ── a PEM ────────────────────────────────────────────────────────────────────────────────────────────────────────────

PASSWORD = "correct horse"


def as_pem(key_file: Path, password: str | None) -> PrivateKey:
    """Makes the key file a PEM."""
    key = PrivateKey.from_file(key_file).snapshot()
    key_file.unlink()
    write_key(key_file, key, form="pem", password=password)
    return PrivateKey.from_file(key_file, password=password)


@pytest.mark.parametrize("password", [None, *in_matrix(PASSWORD)], ids=["plain", "encrypted"])
def test_a_pem_stays_a_pem_that_a_running_service_reads(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation], password: str | None
) -> None:
    followed = as_pem(key_file, password)
    old = followed.snapshot()
    key_file.chmod(0o640)
    okta.token_lifetime = 3
    service = ServiceApp(okta.url, client_id=app.client_id, key=followed, scopes=SCOPES, max_wait=20)
    with callers(okta, app, service, 3) as failures:
        rotated = rotation(password=password, grace=4.0, settling=20).run()
    assert failures == []
    assert okta.refusals == []
    content = key_file.read_text()
    assert content.startswith(
        f"kid: {rotated.new_kid}\n-----BEGIN {'ENCRYPTED ' if password else ''}PRIVATE KEY-----\n"
    )
    new = PrivateKey.from_file(key_file, password=password)
    assert followed.snapshot().thumbprint() == new.thumbprint() != old.thumbprint()
    (registered,) = app.jwks["keys"]
    assert (registered["kid"], registered["status"]) == (new.kid, "ACTIVE")
    assert os.listdir(key_file.parent) == [key_file.name]
    if os.name == "posix":
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o640


@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_rotation_of_an_encrypted_pem_continues_or_is_undone(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation], step: Step
) -> None:
    old = as_pem(key_file, PASSWORD).snapshot()
    before = key_file.read_bytes()

    def interrupted() -> Rotation:
        with pytest.raises(KeyboardInterrupt):
            rotation(password=PASSWORD, progress=interrupting(step)).run()
        beside = [path for path in key_file.parent.iterdir() if path.suffix in (".new", ".old")]
        assert all(b"BEGIN ENCRYPTED PRIVATE KEY" in path.read_bytes() for path in beside)
        key = PrivateKey.from_file(key_file, password=PASSWORD)
        assert key.kid in [one["kid"] for one in app.jwks["keys"] if one["status"] == "ACTIVE"]
        return rotation(password=PASSWORD)

    if step is not Step.DELETE:
        assert interrupted().abandon()
        assert key_file.read_bytes() == before
        assert [one["kid"] for one in app.jwks["keys"]] == [old.kid]
    assert interrupted().run().resumed
    (registered,) = app.jwks["keys"]
    assert registered["kid"] == PrivateKey.from_file(key_file, password=PASSWORD).kid != old.kid
    assert os.listdir(key_file.parent) == [key_file.name]


def test_a_pem_is_not_rotated_to_an_algorithm_that_a_pem_cannot_name(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation]
) -> None:
    old = as_pem(key_file, PASSWORD).snapshot()
    before = key_file.read_bytes()
    with pytest.raises(RotationFailed, match="cannot be decrypted"):
        rotation(password="wrong").run()
    with pytest.raises(RotationFailed, match="encrypted, and no passphrase was given"):
        rotation().run()
    with pytest.raises(RotationFailed, match="cannot specify that its key signs with RS512"):
        rotation(password=PASSWORD, alg="RS512").run()
    assert key_file.read_bytes() == before
    assert [one["kid"] for one in app.jwks["keys"]] == [old.kid]
    assert os.listdir(key_file.parent) == [key_file.name]
    rotation(password=PASSWORD.encode(), alg="RS256").run()
    assert PrivateKey.from_file(key_file, password=PASSWORD).alg == "RS256"


def test_openssl_reads_a_pem_with_its_kid(key_file: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl")
    as_pem(key_file, PASSWORD)
    command = [openssl, "pkey", "-in", str(key_file), "-passin", f"pass:{PASSWORD}", "-noout"]
    assert subprocess.run(command, check=True, capture_output=True).stderr == b""


@pytest.mark.parametrize("kid", ["two\nlines", " spaces around ", "-----BEGIN", "written\\nbreak", ""])
def test_a_kid_that_does_not_fit_on_one_line_is_not_written_to_a_pem(tmp_path: Path, kid: str) -> None:
    key = new_key("ES256").with_kid(kid)
    if key.kid is None:
        write_key(tmp_path / "key.pem", key, form="pem")
        assert PrivateKey.from_file(tmp_path / "key.pem").kid is None
        return
    with pytest.raises(ConfigurationError, match="Write a JWK"):
        write_key(tmp_path / "key.pem", key, form="pem")
    assert not (tmp_path / "key.pem").exists()


def test_a_kid_is_written_only_into_a_file_that_can_hold_it(tmp_path: Path) -> None:
    key = new_key("ES256").with_kid(None)
    write_key(tmp_path / "key.pem", key, form="pem")
    write_key(tmp_path / "key.json", key)
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [key.private_jwk()]}), encoding="utf-8")
    assert not write_kid(tmp_path / "key.pem", "two\nlines")
    assert not write_kid(tmp_path / "jwks.json", "k")
    for name in ("key.pem", "key.json"):
        assert write_kid(tmp_path / name, "k")
        found = PrivateKey.from_file(tmp_path / name)
        assert (found.kid, found.thumbprint()) == ("k", key.thumbprint())


@pytest.mark.skipif(os.name != "posix", reason="modes and symlinks as POSIX has them")
def test_the_key_file_keeps_its_mode_and_a_symlink_to_it_stays(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation], tmp_path: Path
) -> None:
    key_file.chmod(0o640)
    link = tmp_path / "current.json"
    link.symlink_to(key_file)
    seen: set[int] = set()

    def look(progress: Progress) -> None:
        for path in key_file.parent.iterdir():
            if path != key_file:
                seen.add(stat.S_IMODE(path.stat().st_mode))

    rotation(key_file=link, progress=look).run()
    assert link.is_symlink()
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o640
    # The lock holds nothing; whatever holds a key beside the file is its owner's alone.
    assert all(mode & 0o077 == 0 or mode & 0o111 == 0 for mode in seen)
    one_key(okta, app, key_file)


def foreign_group(path: Path) -> int:
    """Gives the file to a group that a new file would not get; says which."""
    others = [group for group in os.getgroups() if group != path.stat().st_gid]
    if os.geteuid() == 0:
        os.chown(path, -1, 54321)
    elif others:
        os.chown(path, -1, others[0])
    else:
        pytest.skip("needs root, or a user of two groups")
    return path.stat().st_gid


@pytest.mark.skipif(os.name != "posix", reason="owners as POSIX has them")
def test_the_key_file_keeps_its_owner_and_group(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation]
) -> None:
    group = foreign_group(key_file)
    owner = key_file.stat().st_uid
    rotation().run()
    assert (key_file.stat().st_uid, key_file.stat().st_gid) == (owner, group)
    one_key(okta, app, key_file)


@pytest.mark.skipif(os.name != "posix", reason="owners as POSIX has them")
def test_a_user_who_cannot_keep_the_files_group_is_refused_before_anything_is_made(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation], monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign_group(key_file)
    before = key_file.read_bytes()

    def refused(*arguments: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "fchown", refused)
        for attempt in (rotation().run, rotation().plan):
            with pytest.raises(ConfigurationError, match=r"Only its owner, in its group, can replace a file"):
                attempt()
    assert key_file.read_bytes() == before
    assert not list(key_file.parent.glob(".*.tmp"))
    assert {request.method for request in okta.requests} <= {"GET"}
    one_key(okta, app, key_file)


@pytest.mark.skipif(os.name != "posix", reason="owners as POSIX has them")
def test_a_group_that_cannot_be_kept_at_the_switch_leaves_the_old_key_in_use(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation], monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign_group(key_file)
    before, old, allowed, asked = key_file.read_bytes(), PrivateKey.from_file(key_file).kid, os.fchown, 0

    def refused(*arguments: Any) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:  # the first is the look before anything is made
            raise PermissionError
        allowed(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fchown", refused)
        with pytest.raises(RotationFailed, match=f"failed at the step 'switch'. The old key '{old}' is in use"):
            rotation().run()
    assert key_file.read_bytes() == before
    assert rotation().run().resumed
    one_key(okta, app, key_file)


def test_a_rotation_waits_until_the_token_endpoint_knows_the_new_key(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation]
) -> None:
    okta.settling = 1.0
    rotation(settling=30).run()
    okta.settling = 0.0
    app.change_follows(0)
    assert [key["kid"] for key in app.jwks["keys"]] == [PrivateKey.from_file(key_file).kid]


def test_a_plan_changes_nothing_and_lists_the_remaining_steps(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation]
) -> None:
    before = key_file.read_bytes()
    plan = rotation().plan()
    assert (plan.app_name, plan.old_kid, plan.unfinished, plan.steps) == (
        "billing",
        PrivateKey.from_file(key_file).kid,
        None,
        STEPS,
    )
    assert key_file.read_bytes() == before
    assert one_key(okta, app, key_file) == plan.old_kid
    # An object that is no key cannot be registered, but tells whether the account may register one.
    sent = [(request.method, request.body) for request in okta.requests if request.path.startswith("/api/")]
    assert [body for method, body in sent if method != "GET"] == [b"{}"]
    with pytest.raises(ConfigurationError, match="RS1024"):
        rotation(alg="RS1024").plan()
    with pytest.raises(ConfigurationError, match="1024"):
        rotation(alg="RS256", bits=1024).plan()
    assert one_key(okta, app, key_file) == plan.old_kid


def test_the_age_of_the_key_is_that_of_its_registration_by_oktas_clock(
    okta: FakeOkta, key_file: Path, api: ManagementApi
) -> None:
    okta.skew(minutes=-100 * 24 * 60)
    app = okta.add_app(PrivateKey.from_file(key_file), SCOPES)
    okta.skew(minutes=300 * 24 * 60)

    def service(key: Any) -> ServiceApp:
        return ServiceApp(okta.url, client_id=app.client_id, key=key, scopes=SCOPES, max_wait=5)

    def prepared(**options: Any) -> Rotation:
        return Rotation(api, app.id, key_file, service=service, grace=0, settling=0, **options)

    assert prepared().key_age() == 400
    with pytest.raises(KeyboardInterrupt):
        prepared(progress=interrupting(Step.PROVE)).run()
    assert prepared().key_age() is None  # it is continued
    prepared().run()
    assert prepared().key_age() == 0
    app.jwks = new_key("ES256")
    assert prepared().key_age() is None  # run() says that Okta does not know the key


# ── publishing ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Elsewhere:
    """Where other machines read the key: a copy of the file. ``broken``: the next attempts fail after they have copied it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.broken: list[BaseException] = []
        self.published: list[str | None] = []

    def __call__(self, key_file: Path) -> None:
        assert key_file.is_absolute()
        self.path.write_bytes(key_file.read_bytes())
        self.published.append(self.kid)
        if self.broken:
            raise self.broken.pop(0)

    @property
    def kid(self) -> str | None:
        return PrivateKey.from_file(self.path).kid


@pytest.fixture
def elsewhere(tmp_path: Path, key_file: Path) -> Elsewhere:
    copy = Elsewhere(tmp_path / "elsewhere.json")
    copy.path.write_bytes(key_file.read_bytes())
    return copy


def works(okta: FakeOkta, app: App, path: Path) -> bool:
    key = PrivateKey.from_file(path)
    return bool(OktaAuth(ServiceApp(okta.url, client_id=app.client_id, key=key, scopes=SCOPES, max_wait=5)).token())


def test_the_file_is_published_after_the_new_key_was_proved_and_before_the_old_one_goes(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation], elsewhere: Elsewhere
) -> None:
    old, seen = PrivateKey.from_file(key_file).kid, []

    def publish(path: Path) -> None:
        tokens = okta.tokens_minted
        elsewhere(path)
        seen.append(([key["status"] for key in app.jwks["keys"]], tokens))

    told: list[Progress] = []
    rotated = rotation(publish=publish, progress=told.append).run()
    assert seen == [(["ACTIVE", "ACTIVE"], 2)]  # a token with the old key, and one with the new
    assert tuple(progress.step for progress in told if progress.state == "done") == PUBLISHING
    assert elsewhere.kid == one_key(okta, app, key_file) == rotated.new_kid != old


@pytest.mark.parametrize("error", [OSError("full"), RotationFailed("it exited with 1"), ValueError("-----SECRET")])
def test_if_publishing_fails_the_old_key_stays_and_the_next_run_publishes_again(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation], elsewhere: Elsewhere, error: Exception
) -> None:
    before, old = key_file.read_bytes(), PrivateKey.from_file(key_file).kid
    elsewhere.broken = [error]
    with pytest.raises(RotationFailed, match=f"'publish'. The old key '{old}' is in use") as caught:
        rotation(publish=elsewhere).run()
    assert "SECRET" not in str(caught.value)
    assert key_file.read_bytes() == before
    assert [key["status"] for key in app.jwks["keys"]] == ["ACTIVE", "ACTIVE"]
    assert works(okta, app, key_file)
    assert works(okta, app, elsewhere.path)
    rotated = rotation(publish=elsewhere).run()
    assert (rotated.resumed, elsewhere.kid) == (True, rotated.new_kid)
    assert one_key(okta, app, key_file) == rotated.new_kid


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        (Step.PROVE_AGAIN, {"what": "client_assertion_invalid_signature"}),
        *in_matrix(
            (Step.DEACTIVATE, {"what": "E0000009", "on": "/api/v1/apps/*/deactivate", "times": 9}),
            (Step.CONFIRM, {"what": "client_assertion_invalid_kid"}),
        ),
    ],
)
def test_if_a_later_step_fails_the_old_key_is_published_again(
    okta: FakeOkta,
    app: App,
    key_file: Path,
    rotation: Callable[..., Rotation],
    elsewhere: Elsewhere,
    step: Step,
    fault: dict[str, Any],
) -> None:
    old = PrivateKey.from_file(key_file).kid
    with pytest.raises(RotationFailed, match=f"'{step}'. The old key '{old}' is in use"):
        rotation(publish=elsewhere, progress=stumbling(okta, step, fault)).run()
    okta.clear_faults()
    assert elsewhere.published[1:] == [old]
    assert works(okta, app, elsewhere.path)
    rotated = rotation(publish=elsewhere).run()
    assert elsewhere.kid == one_key(okta, app, key_file) == rotated.new_kid


def test_if_the_old_key_cannot_be_published_again_both_keys_stay(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation], elsewhere: Elsewhere
) -> None:
    def stumble(progress: Progress) -> None:
        if (progress.step, progress.state) == (Step.PROVE_AGAIN, "begun"):
            elsewhere.broken = [OSError("full")]
            okta.next("client_assertion_invalid_signature")

    with pytest.raises(RotationFailed, match="Both keys are registered and active: restoring the old one also failed"):
        rotation(publish=elsewhere, progress=stumble).run()
    assert [key["status"] for key in app.jwks["keys"]] == ["ACTIVE", "ACTIVE"]
    assert rotation(publish=elsewhere).run().new_kid == elsewhere.kid
    one_key(okta, app, key_file)


def test_an_undo_publishes_the_old_key_before_the_new_one_is_deleted(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation], elsewhere: Elsewhere
) -> None:
    old = PrivateKey.from_file(key_file).kid
    for step in (Step.SWITCH, Step.PUBLISH, Step.DEACTIVATE):
        with pytest.raises(KeyboardInterrupt):
            rotation(publish=elsewhere, progress=interrupting(step)).run()
        if step is not Step.SWITCH:  # before that, nothing was published
            with pytest.raises(RotationFailed, match=r"begun with a command.*Name the same command again"):
                rotation().abandon()
            elsewhere.broken = [OSError("full")]
            with pytest.raises(OSError, match="full"):
                rotation(publish=elsewhere).abandon()
            assert len(app.jwks["keys"]) == 2
        assert rotation(publish=elsewhere).abandon()
        assert elsewhere.kid == old == one_key(okta, app, key_file)


def test_a_rotation_is_not_continued_without_the_command_or_with_another_beginning(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation], elsewhere: Elsewhere
) -> None:
    with pytest.raises(KeyboardInterrupt):
        rotation(publish=elsewhere, progress=interrupting(Step.SWITCH)).run()
    for attempt in (rotation().run, rotation().plan):
        with pytest.raises(RotationFailed, match=r"begun with a command.*Name the same command again"):
            attempt()
    assert rotation(publish=elsewhere).plan().steps == PUBLISHING[PUBLISHING.index(Step.PUBLISH) :]
    rotation(publish=elsewhere).run()
    with pytest.raises(KeyboardInterrupt):
        rotation(progress=interrupting(Step.WAIT)).run()
    with pytest.raises(RotationFailed, match=r"begun without a command.*Omit it"):
        rotation(publish=elsewhere).run()
    rotation().run()
    one_key(okta, app, key_file)


def test_the_grace_time_begins_when_the_file_is_published(
    okta: FakeOkta, app: App, rotation: Callable[..., Rotation]
) -> None:
    # The wall clock moves by an hour while the file is published.
    clock = [1_000_000.0]

    def publish(path: Path) -> None:
        clock[0] += 3600

    pauses: list[Pause] = []
    with (
        pytest.MonkeyPatch.context() as patch,
        ManagementApi(okta.url, ApiToken(okta.ssws), on_pause=pauses.append, sleep=lambda seconds: None) as api,
    ):
        patch.setattr(rotation_module.time, "time", lambda: clock[0])
        rotation(api=api, publish=publish, grace=60).run()
    assert [pause.seconds for pause in pauses] == [60]


# ── killed ───────────────────────────────────────────────────────────────────────────────────────────────────────────

ROTATE = """
import os, signal, sys
from okta_m2m import ServiceApp
from okta_m2m.admin.management import ApiToken, ManagementApi
from okta_m2m.admin.rotation import Rotation

url, app_id, client_id, key_file, step, grace = sys.argv[1:]
def service(key):
    return ServiceApp(url, client_id=client_id, key=key, scopes=["okta.users.read"], max_wait=20)
def die(progress):
    if (progress.step, progress.state) == (step, "done"):
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
with ManagementApi(url, ApiToken.from_env()) as api:
    Rotation(api, app_id, key_file, service=service, grace=float(grace), settling=20, progress=die).run()
"""


FIRST, *OTHERS, LAST = STEPS


@pytest.mark.parametrize(
    "step", [FIRST, Step.SWITCH, *in_matrix(*(step for step in OTHERS if step is not Step.SWITCH)), LAST]
)
def test_a_rotation_killed_after_any_step_ends_with_one_key_and_no_failed_call(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation], step: Step
) -> None:
    old = PrivateKey.from_file(key_file).kid
    okta.token_lifetime = 1.0
    with callers(okta, app, key_file, 3) as failures:
        killed = subprocess.run(
            [sys.executable, "-c", ROTATE, okta.url, app.id, app.client_id, str(key_file), step, "0.5"],
            env={**os.environ, "OKTA_CLIENT_TOKEN": okta.ssws},
            capture_output=True,
            text=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL or os.name == "nt", killed.stderr
        # Before the switch it begins again, with the key that it has: it may be gone from Okta by then.
        done = STEPS[: STEPS.index(step) + 1] if step not in (Step.MAKE, Step.REGISTER, Step.PROVE) else ()
        plan = rotation().plan()
        assert plan.unfinished is step
        assert plan.steps == STEPS[len(done) :]
        told: list[Progress] = []
        rotated = rotation(grace=0.5, settling=20, progress=told.append).run()
    assert failures == []
    assert rotated.resumed
    assert [progress.step for progress in told if progress.state == "resumed"] == list(done)
    assert one_key(okta, app, key_file) == rotated.new_kid != old


EVERYWHERE = """
import json, os, signal, sys
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.admin.management import ApiToken, ManagementApi
from okta_m2m.requests import OktaAuth
from okta_m2m.admin.rotation import Rotation

url, app_id, client_id, key_file, elsewhere = sys.argv[1:]
directory = os.path.dirname(key_file)
left = None

def audit(event, arguments):
    global left
    if left is None or not arguments:
        return
    # What changes something: a file opened for writing, renamed or removed; a call that is no reading and no token request.
    path = str(arguments[0])
    if event == "open":
        ours = os.path.basename(path).lstrip(".").startswith(("key.json", "elsewhere"))
        counts = ours and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
    elif event in ("os.rename", "os.remove"):
        counts = event == "os.rename" or not path.endswith(".tmp")
    else:
        counts = event == "http.client.send" and arguments[1][:4] in (b"POST", b"DELE") and b"/v1/token" not in arguments[1]
    if counts:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(audit)

def service(key):
    return ServiceApp(url, client_id=client_id, key=key, scopes=["okta.users.read"], max_wait=20)

def copy(path):
    with open(elsewhere, "wb") as file:
        file.write(path.read_bytes())

publish = copy if elsewhere else None

def rotate():
    with ManagementApi(url, ApiToken.from_env()) as api:
        return Rotation(api, app_id, key_file, service=service, grace=0, settling=5, publish=publish).run()

moments = 0
while True:
    child = os.fork()
    if child == 0:
        left = moments
        rotate()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    # Whatever the moment was: what the file holds gets a token.
    for file in filter(None, (key_file, elsewhere)):
        OktaAuth(service(PrivateKey.from_file(file))).token()
    rotate()
    found = os.listdir(directory)
    assert found == [os.path.basename(key_file)], found
    moments += 1
print(moments)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="killed many times over, which is quick only with fork")
@pytest.mark.parametrize("publishes", [True, *in_matrix(False)])
def test_a_rotation_killed_at_any_moment_leaves_a_working_key_and_is_completed_by_the_next_run(
    okta: FakeOkta, app: App, key_file: Path, elsewhere: Elsewhere, publishes: bool
) -> None:
    copy = str(elsewhere.path) if publishes else ""
    result = subprocess.run(
        [sys.executable, "-c", EVERYWHERE, okta.url, app.id, app.client_id, str(key_file), copy],
        env={**os.environ, "OKTA_CLIENT_TOKEN": okta.ssws},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 25
    one_key(okta, app, key_file)
    assert not publishes or elsewhere.kid == PrivateKey.from_file(key_file).kid


def test_an_interrupted_rotation_is_undone(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation]
) -> None:
    assert not rotation().abandon()
    before = key_file.read_bytes()
    for step in (Step.MAKE, Step.REGISTER, Step.SWITCH, Step.DEACTIVATE):
        with pytest.raises(KeyboardInterrupt):
            rotation(progress=interrupting(step)).run()
        assert rotation().abandon()
        assert key_file.read_bytes() == before
        one_key(okta, app, key_file)
    with pytest.raises(KeyboardInterrupt):
        rotation(progress=interrupting(Step.DELETE)).run()
    with pytest.raises(RotationFailed, match="cannot be undone"):
        rotation().abandon()
    assert rotation().run().resumed
    one_key(okta, app, key_file)


class Breaking(requests.Session):
    """Deletes nothing (``unreachable``), or is interrupted as soon as something is deleted."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self._how = how

    def request(self, method: Any, *arguments: Any, **options: Any) -> requests.Response:
        if method == "DELETE" and self._how == "unreachable":
            raise requests.ConnectionError
        response = super().request(method, *arguments, **options)
        if method == "DELETE":
            response.close()
            raise KeyboardInterrupt
        return response


@pytest.mark.parametrize(
    ("how", "step"),
    [
        *(("interrupted", step) for step in STEPS[1 : STEPS.index(Step.DELETE)]),
        *in_matrix(*(("unreachable", step) for step in STEPS[1 : STEPS.index(Step.DELETE)])),
        # After the switch it is the key in the file, and whoever removes that one stops the service.
        *((how, step) for how in ("removed", "deactivated") for step in (Step.REGISTER, Step.PROVE)),
    ],
)
def test_after_an_interrupted_undo_only_a_registered_key_gets_into_the_file(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation], step: Step, how: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        rotation(progress=interrupting(step)).run()
    if how in ("unreachable", "interrupted"):
        with (
            ManagementApi(okta.url, ApiToken(okta.ssws), session=Breaking(how), sleep=lambda seconds: None) as breaking,
            pytest.raises((OktaUnreachable, KeyboardInterrupt)),
        ):
            rotation(api=breaking).abandon()
    else:
        # An administrator who does not know that key.
        new = app.jwks["keys"][1]["kid"]
        with ManagementApi(okta.url, ApiToken(okta.ssws)) as api:
            deactivate_key(api, app.id, new)
            if how == "removed":
                delete_key(api, app.id, new)

    def look(progress: Progress) -> None:
        kid = PrivateKey.from_file(key_file).kid
        assert [key["status"] for key in app.jwks["keys"] if key["kid"] == kid] == ["ACTIVE"]

    rotated = rotation(progress=look).run()
    assert rotated.resumed
    assert one_key(okta, app, key_file) == rotated.new_kid


def test_an_undo_waits_for_running_processes_and_proves_the_old_key_before_it_deletes_the_new_one(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation]
) -> None:
    before = key_file.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        rotation(progress=interrupting(Step.SWITCH)).run()
    pauses: list[Pause] = []
    with ManagementApi(okta.url, ApiToken(okta.ssws), on_pause=pauses.append, sleep=lambda seconds: None) as api:
        okta.next("client_assertion_invalid_signature")
        with pytest.raises(InvalidClient):
            rotation(api=api, grace=7).abandon()
        assert pauses == [Pause(7, "until every running process has read the old key again")]
        assert [key["status"] for key in app.jwks["keys"]] == ["ACTIVE", "ACTIVE"]
        assert rotation(api=api, grace=7).abandon()
    assert key_file.read_bytes() == before
    one_key(okta, app, key_file)


def test_an_interrupted_undo_leaves_both_keys_active_and_the_next_run_completes(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation]
) -> None:
    replace = _safe_files.replace
    for state in ("with the journal", "with the key file"):
        with pytest.raises(KeyboardInterrupt):
            rotation(progress=interrupting(Step.CONFIRM)).run()
        put = "key.json.rotation" if state == "with the journal" else "key.json"

        def interrupted(path: Path, content: bytes, was: FileVersion | None = None, put: str = put) -> None:
            if path.name == put:
                raise KeyboardInterrupt
            replace(path, content, was=was)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_safe_files, "replace", interrupted)
            with pytest.raises(KeyboardInterrupt):
                rotation().abandon()
        assert [key["status"] for key in app.jwks["keys"]] == ["ACTIVE", "ACTIVE"], state
        assert OktaAuth(
            ServiceApp(okta.url, client_id=app.client_id, key=PrivateKey.from_file(key_file), scopes=SCOPES)
        ).token()
        assert rotation().run().resumed
        one_key(okta, app, key_file)


def test_a_clock_that_was_set_back_does_not_lengthen_the_grace_time(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        rotation(progress=interrupting(Step.SWITCH)).run()
    journal = key_file.with_name("key.json.rotation")
    journal.write_text(json.dumps({**json.loads(journal.read_text()), "switched_at": time.time() + 3600}))
    pauses: list[Pause] = []
    with ManagementApi(okta.url, ApiToken(okta.ssws), on_pause=pauses.append, sleep=lambda seconds: None) as api:
        rotation(api=api, grace=7).run()
    assert [pause.seconds for pause in pauses] == [7]


def interrupting(step: Step) -> Callable[[Progress], None]:
    def interrupt(progress: Progress) -> None:
        if (progress.step, progress.state) == (step, "done"):
            raise KeyboardInterrupt

    return interrupt


# ── it goes wrong ────────────────────────────────────────────────────────────────────────────────────────────────────


def stumbling(okta: FakeOkta, step: Step, *faults: dict[str, Any]) -> Callable[[Progress], None]:
    def stumble(progress: Progress) -> None:
        if (progress.step, progress.state) == (step, "begun"):
            for fault in faults:
                okta.next(**fault)

    return stumble


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        (Step.REGISTER, {"what": 500, "on": "/api/v1/apps/*/jwks", "times": 9}),
        (Step.PROVE, {"what": "client_assertion_invalid_kid"}),
        (Step.PROVE, {"what": "access_denied"}),
        (Step.PROVE_AGAIN, {"what": "client_assertion_invalid_signature"}),
        (Step.DEACTIVATE, {"what": "E0000009", "on": "/api/v1/apps/*/deactivate", "times": 9}),
        (Step.CONFIRM, {"what": "client_assertion_invalid_kid"}),
    ],
)
def test_after_a_failure_the_old_key_is_in_use_and_the_next_run_continues(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation], step: Step, fault: dict[str, Any]
) -> None:
    before = key_file.read_bytes()
    old = PrivateKey.from_file(key_file).kid
    with pytest.raises(RotationFailed, match=f"failed at the step '{step}'. The old key '{old}' is in use"):
        rotation(progress=stumbling(okta, step, fault)).run()
    okta.clear_faults()
    assert key_file.read_bytes() == before
    assert next(key for key in app.jwks["keys"] if key["kid"] == old)["status"] == "ACTIVE"
    rotated = rotation().run()
    assert rotated.resumed
    assert one_key(okta, app, key_file) == rotated.new_kid != old


def test_a_failure_to_delete_the_old_key_leaves_the_new_one_in_use(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation]
) -> None:
    fault = {"what": 403, "error": "E0000006", "on": "/api/v1/apps/*/jwks/pks*", "times": 9}
    with pytest.raises(RotationFailed, match="the new key is in use"):
        rotation(progress=stumbling(okta, Step.DELETE, fault)).run()
    okta.clear_faults()
    assert PrivateKey.from_file(key_file).kid == app.jwks["keys"][1]["kid"]
    rotation().run()
    one_key(okta, app, key_file)


def test_the_error_says_that_only_a_super_admin_may_change_the_keys(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation]
) -> None:
    before = key_file.read_bytes()
    with (
        ManagementApi(okta.url, ApiToken(okta.add_api_token("APP_ADMIN"))) as api,
        pytest.raises(SuperAdminNeeded, match="Only a Super Admin may change the keys") as caught,
    ):
        rotation(api=api).run()
    assert (caught.value.status, caught.value.error) == (403, "E0000006")
    assert key_file.read_bytes() == before
    one_key(okta, app, key_file)


class RefusingTheNextLook(requests.Session):
    """After a key was registered, Okta refuses to list the keys."""

    def __init__(self, okta: FakeOkta, **refusal: Any) -> None:
        super().__init__()
        self._okta, self._refusal = okta, refusal

    def request(self, method: Any, url: Any, *arguments: Any, **options: Any) -> requests.Response:
        response = super().request(method, url, *arguments, **options)
        if method == "POST" and url.endswith("/jwks"):
            self._okta.next(on="/api/v1/apps/*/jwks", **self._refusal)
        return response


@pytest.mark.parametrize(
    "refusal",
    [
        {"what": 403, "error": "E0000006"},
        {"what": 403, "error": "insufficient_scope"},
        {"what": 401, "error": "E0000011"},
        {"what": 404, "error": "E0000007"},
    ],
)
def test_a_registered_key_is_kept_if_okta_refuses_to_list_it(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation], refusal: dict[str, Any]
) -> None:
    old = PrivateKey.from_file(key_file).kid
    session = RefusingTheNextLook(okta, **refusal)
    with (
        ManagementApi(okta.url, ApiToken(okta.ssws), session=session) as api,
        pytest.raises(RotationFailed, match=f"'register'. The old key '{old}' is in use"),
    ):
        rotation(api=api).run()
    new = PrivateKey.from_file(key_file.with_name("key.json.new")).kid
    assert [key["kid"] for key in app.jwks["keys"]] == [old, new]
    # Also if the next run cannot even begin that step.
    with pytest.raises(RotationFailed, match="'register'"):
        rotation(progress=stumbling(okta, Step.REGISTER, {"on": "/api/v1/apps/*/jwks", **refusal})).run()
    rotated = rotation().run()
    assert (rotated.resumed, rotated.new_kid) == (True, new)
    assert one_key(okta, app, key_file) == new


def test_two_rotations_of_one_key_do_not_run_at_once(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation]
) -> None:
    refused: list[str] = []

    def another(progress: Progress) -> None:
        if (progress.step, progress.state) == (Step.WAIT, "begun"):
            with pytest.raises(RotationFailed, match=r"Another rotation of .* is running") as caught:
                rotation().run()
            refused.append(str(caught.value))

    rotation(progress=another).run()
    assert refused
    one_key(okta, app, key_file)


@pytest.mark.parametrize("step", [Step.REGISTER, Step.SWITCH, Step.DEACTIVATE, Step.CONFIRM])
def test_a_journal_that_cannot_be_written_leaves_the_old_key_in_use(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation], step: Step
) -> None:
    before, old = key_file.read_bytes(), PrivateKey.from_file(key_file).kid

    replace = _safe_files.replace

    def full(path: Path, content: bytes, was: FileVersion | None = None) -> None:
        if path.name == "key.json.rotation" and json.loads(content)["done"] == step:
            raise ConfigurationError(f"{path} cannot be written (No space left on device).")
        replace(path, content, was=was)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_safe_files, "replace", full)
        with pytest.raises(RotationFailed, match=f"'{step}'. The old key '{old}' is in use.*No space left"):
            rotation().run()
    assert key_file.read_bytes() == before
    assert [key["status"] for key in app.jwks["keys"]] == ["ACTIVE", "ACTIVE"]
    assert rotation().run().resumed
    one_key(okta, app, key_file)


def test_a_key_file_that_someone_else_writes_to_stops_the_rotation(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation]
) -> None:
    def meddle(progress: Progress) -> None:
        if (progress.step, progress.state) == (Step.PROVE_AGAIN, "begun"):
            key_file.unlink()
            write_key(key_file, new_key("ES256"))

    with pytest.raises(RotationFailed, match="no longer contains the new key"):
        rotation(progress=meddle).run()


# ── it does not begin ────────────────────────────────────────────────────────────────────────────────────────────────


def as_pem_without_kid(key_file: Path) -> None:
    key = PrivateKey.from_file(key_file).snapshot()
    key_file.unlink()
    write_key(key_file, key.with_kid(None), form="pem")


def as_pem_with_certificate(key_file: Path) -> None:
    as_pem(key_file, None)
    with key_file.open("a") as file:
        file.write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def as_jwks(key_file: Path) -> None:
    key_file.write_text(json.dumps({"keys": [json.loads(key_file.read_text())]}))


def without_kid(key_file: Path) -> None:
    document = json.loads(key_file.read_text())
    del document["kid"]
    key_file.write_text(json.dumps(document))


def of_another(key_file: Path) -> None:
    key_file.unlink()
    write_key(key_file, new_key("ES256"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (as_pem_without_kid, "has no kid.*Write this line at the top of the file: kid: "),
        (without_kid, 'has no kid.*Add this to the JWK: "kid": '),
        (as_pem_with_certificate, "also contains a certificate.*Move it to another file"),
        (as_jwks, "contains a JWKS.*okta-m2m key convert"),
        (of_another, "contains a key that Okta does not list for 'billing'"),
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_text("{"), "cannot be read"),
        (lambda path: Path(f"{path}.new").write_text("?"), "already exists, and does not belong to a known rotation"),
        (lambda path: Path(f"{path}.rotation").write_text("{"), "is damaged"),
        (lambda path: Path(f"{path}.rotation").write_bytes(b"\xff\xfe"), "is damaged"),
    ],
)
def test_a_key_file_that_cannot_be_rotated_is_not_changed(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation], change: Any, said: str
) -> None:
    change(key_file)
    with pytest.raises(RotationFailed, match=said):
        rotation().run()
    with pytest.raises(RotationFailed, match=said):
        rotation().plan()
    assert len(app.jwks["keys"]) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda app: app.jwks["keys"][0].pop("kid"), "registered at Okta without a kid"),
        (lambda app: app.deactivate_key(app.jwks["keys"][0]["kid"]), "is inactive at Okta"),
        (lambda app: setattr(app, "jwks_uri", "https://billing.example/keys"), "Okta fetches the keys"),
        (lambda app: setattr(app, "application_type", "web"), "is not a service app"),
        (
            lambda app: app.add_key([{**new_key("ES256").jwks()["keys"][0], "kid": str(n)} for n in range(49)]),
            "has 50 keys",
        ),
        (lambda app: app.scopes.clear(), "key in use cannot obtain a token"),
    ],
)
def test_an_app_whose_keys_cannot_be_rotated_is_not_changed(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation], change: Any, said: str
) -> None:
    change(app)
    keys = len(app.jwks["keys"])
    with pytest.raises(RotationFailed, match=said):
        rotation().run()
    assert len(app.jwks["keys"]) == keys
    assert os.listdir(key_file.parent) == [key_file.name]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom a read-only directory stops")
def test_a_read_only_directory_is_reported(key_file: Path, rotation: Callable[..., Rotation]) -> None:
    key_file.parent.chmod(0o500)
    try:
        with pytest.raises(RotationFailed, match="read-only here"):
            rotation().run()
    finally:
        key_file.parent.chmod(0o700)


def test_a_journal_of_another_app_is_not_followed(
    okta: FakeOkta, app: App, key_file: Path, rotation: Callable[..., Rotation]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        rotation(progress=interrupting(Step.MAKE)).run()
    other = okta.add_app(label="other")
    with pytest.raises(RotationFailed, match=f"for the app {app.id} .* was interrupted"):
        rotation(app_id=other.id).run()
    assert rotation().abandon()
    with pytest.raises(NotFound):
        rotation(app_id="0oanobody").plan()


def test_a_separate_kid_or_a_key_that_is_not_in_a_file_cannot_be_rotated(okta: FakeOkta, key_file: Path) -> None:
    environ = {
        "OKTA_CLIENT_ORGURL": okta.url,
        "OKTA_CLIENT_CLIENTID": "x",
        "OKTA_CLIENT_SCOPES": "okta.users.read",
        "OKTA_CLIENT_PRIVATEKEY": str(key_file),
    }
    assert rotatable_key_file(read_settings(environ=environ, files=False)) == key_file
    apart = read_settings(environ={**environ, "OKTA_CLIENT_KID": "apart"}, files=False)
    with pytest.raises(RotationFailed, match="OKTA_CLIENT_KID"):
        rotatable_key_file(apart)
    text = read_settings(environ={**environ, "OKTA_CLIENT_PRIVATEKEY": key_file.read_text()}, files=False)
    with pytest.raises(RotationFailed, match="key is not in a file"):
        rotatable_key_file(text)


def test_the_journal_holds_no_secret(
    key_file: Path, api: ManagementApi, app: App, rotation: Callable[..., Rotation]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        rotation(progress=interrupting(Step.SWITCH)).run()
    journal = key_file.with_name("key.json.rotation").read_text()
    for file in (key_file, key_file.with_name("key.json.old")):
        assert json.loads(file.read_text())["d"] not in journal
    assert {key.kid for key in list_keys(api, app.id)} == {
        json.loads(journal)["old_kid"],
        json.loads(journal)["new_kid"],
    }
    assert json.loads(journal)["switched_at"] <= time.time()
