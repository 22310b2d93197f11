"""``okta-m2m doctor`` says what a fleet shares, and ``okta-m2m token clear`` removes it. Neither shows the token."""

from __future__ import annotations

import json
import re
import threading
from base64 import urlsafe_b64decode
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
import requests
from typer.testing import Result

from command import run_here
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.cli.exits import Exit
from okta_m2m.requests import OktaAuth
from okta_m2m.testing import FakeOkta
from services import RedisServer, eventually, free_port


@pytest.fixture(params=["file", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> object:
    if request.param == "file":
        yield f"file:{tmp_path / 'tokens'}"
    else:
        with RedisServer() as server:
            yield server.url


@pytest.fixture
def settings(
    okta: FakeOkta, ec_key: PrivateKey, binding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The environment of a fleet, which is this process's too."""
    app = okta.add_app(ec_key, ["okta.users.read"], dpop_bound=binding == "dpop")
    environ = {
        "OKTA_CLIENT_ORGURL": okta.url,
        "OKTA_CLIENT_CLIENTID": app.client_id,
        "OKTA_CLIENT_SCOPES": "okta.users.read",
        "OKTA_CLIENT_PRIVATEKEY": json.dumps(ec_key.private_jwk()),
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("OKTA_M2M_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return environ


@pytest.fixture
def member(
    okta: FakeOkta, settings: dict[str, str], store_url: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], str]:
    """``member()``: a process of the fleet makes a call, from cold; answers the token that it sent."""
    monkeypatch.setenv("OKTA_M2M_STORE", store_url)

    def call() -> str:
        app = ServiceApp.from_env()
        answer = requests.get(okta.url + "/api/v1/users", auth=OktaAuth(app))
        assert answer.status_code == 200
        assert app.fleet is not None
        app.fleet.settle(20.0)  # on a busy machine, a call does not wait until its token is saved
        return str(answer.request.headers["Authorization"]).partition(" ")[2]

    return call


def clear() -> Result:
    return run_here("token", "clear")


def row() -> dict[str, str]:
    """The doctor's row about the store."""
    found = json.loads(run_here("doctor", "--json").stdout)["checks"][-1]
    assert found["name"] == "store"
    return dict(found)


def test_the_doctor_describes_the_stored_token_without_showing_it(
    okta: FakeOkta, member: Callable[[], str], binding: str
) -> None:
    token = member()
    result = run_here("doctor", "--json")
    assert result.exit_code == Exit.OK
    found = row()
    kind = "DPoP" if binding == "dpop" else "Bearer"
    described = re.search(rf"Store\(.*\) has a {kind} token for okta.users.read, until (\S+)", found["detail"])
    assert described is not None
    assert (found["state"], found["remedy"]) == ("ok", "")
    # Okta's own account of its end; ours may be early by the second to which ``Date`` is cut.
    ends = json.loads(claims_of(token))["exp"]
    assert abs(datetime.fromisoformat(described[1]).timestamp() - ends) <= 2
    plain = run_here("doctor").output
    assert "store" in plain
    for said in (plain, result.output):
        assert not any(part in said for part in token.split(".")[1:])


def claims_of(token: str) -> str:
    return urlsafe_b64decode(token.split(".")[1] + "==").decode()


def test_clearing_removes_the_token_and_the_next_process_requests_one(
    okta: FakeOkta, member: Callable[[], str]
) -> None:
    first = member()
    assert member() == first
    assert clear().exit_code == Exit.OK
    assert "has no token that this app's key can open" in row()["detail"]
    assert member() != first
    assert "token for okta.users.read" in row()["detail"]


@pytest.mark.parametrize("binding", ["bearer"])
def test_clearing_removes_nothing_while_a_process_fetches_a_token(okta: FakeOkta, member: Callable[[], str]) -> None:
    okta.next(delay=3)
    fetching = threading.Thread(target=member)
    fetching.start()
    eventually(lambda: okta.token_requests == 1, "it asks Okta")
    cleared = clear()
    assert cleared.exit_code == Exit.FAILED
    assert "Try again" in cleared.stderr
    fetching.join()
    # Again and again: on a busy machine, an operation of the store may take longer than its timeout.
    eventually(lambda: "token for okta.users.read" in row()["detail"], "the token is stored")


@pytest.mark.parametrize("binding", ["bearer"])
def test_an_empty_store_is_shown_and_cleared_without_an_error(member: Callable[[], str]) -> None:
    assert clear().exit_code == Exit.OK
    assert row()["state"] == "ok"


@pytest.mark.parametrize("binding", ["bearer"])
def test_a_store_that_does_not_work_is_reported_in_one_line(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without = clear()
    assert without.exit_code == Exit.CONFIGURATION
    assert "Set OKTA_M2M_STORE" in without.stderr
    assert json.loads(run_here("doctor", "--json").stdout)["checks"][-1]["name"] == "API call"

    monkeypatch.setenv("OKTA_M2M_STORE", f"redis://user:hunter2@127.0.0.1:{free_port()}/0")
    down = clear()
    assert down.exit_code == Exit.UNREACHABLE
    assert "The token store does not work" in down.stderr
    assert "hunter2" not in down.output
    assert len(down.stderr.splitlines()) == 1
    found = row()
    assert found["state"] == "warn"
    assert found["detail"].startswith("the token store does not work")
    assert "hunter2" not in found["detail"]

    monkeypatch.setenv("OKTA_M2M_STORE", "memcached://user:hunter2@127.0.0.1")
    found = row()
    assert found["state"] == "fail"
    assert "hunter2" not in found["detail"]
    assert run_here("doctor").exit_code == Exit.CONFIGURATION
