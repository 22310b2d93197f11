"""``okta-m2m cache``: says what a fleet shares and removes it, and shows no token."""

from __future__ import annotations

import json
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


def run(*arguments: str) -> Result:
    return run_here("cache", *arguments)


def test_cache_show_describes_the_stored_token_without_showing_it(
    okta: FakeOkta, member: Callable[[], str], settings: dict[str, str], binding: str
) -> None:
    token = member()
    plain, document = run("show"), json.loads(run("show", "--json").stdout)
    assert plain.exit_code == Exit.OK
    assert document["stored"] is True
    assert document["client_id"] == settings["OKTA_CLIENT_CLIENTID"]
    assert document["token_type"] == ("DPoP" if binding == "dpop" else "Bearer")
    assert document["scopes"] == ["okta.users.read"]
    assert (document["dpop_key"] is not None) == (binding == "dpop")
    # Okta's own account of its end; ours may be early by the second to which ``Date`` is cut.
    ends = json.loads(claims_of(token))["exp"]
    assert abs(datetime.fromisoformat(document["expires_at"]).timestamp() - ends) <= 2
    for said in (plain.output, json.dumps(document)):
        assert not any(part in said for part in token.split(".")[1:])
        assert document["expires_at"] in said
    assert okta.tokens_minted == 1


def claims_of(token: str) -> str:
    return urlsafe_b64decode(token.split(".")[1] + "==").decode()


def test_cache_clear_removes_the_token_and_the_next_process_requests_one(
    okta: FakeOkta, member: Callable[[], str]
) -> None:
    first = member()
    assert member() == first
    assert run("clear").exit_code == Exit.OK
    assert json.loads(run("show", "--json").stdout)["stored"] is False
    assert member() != first
    assert json.loads(run("show", "--json").stdout)["stored"] is True
    assert okta.tokens_minted == 2


@pytest.mark.parametrize("binding", ["bearer"])
def test_cache_clear_removes_nothing_while_a_process_fetches_a_token(okta: FakeOkta, member: Callable[[], str]) -> None:
    okta.next(delay=3)
    fetching = threading.Thread(target=member)
    fetching.start()
    eventually(lambda: okta.token_requests == 1, "it asks Okta")
    cleared = run("clear")
    assert cleared.exit_code == Exit.FAILED
    assert "Try again" in cleared.stderr
    fetching.join()
    # Again and again: on a busy machine, an operation of the store may take longer than its timeout.
    eventually(lambda: '"stored": true' in run("show", "--json").stdout, "the token is stored")


@pytest.mark.parametrize("binding", ["bearer"])
def test_an_empty_cache_is_shown_and_cleared_without_an_error(member: Callable[[], str]) -> None:
    shown, cleared = run("show"), run("clear")
    assert (shown.exit_code, cleared.exit_code) == (Exit.OK, Exit.OK)
    assert "nothing" in shown.stdout


@pytest.mark.parametrize("binding", ["bearer"])
@pytest.mark.parametrize("what", ["show", "clear"])
def test_a_store_that_does_not_work_is_reported_in_one_line(
    settings: dict[str, str], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = run(what)
    assert without.exit_code == Exit.CONFIGURATION
    assert "Set OKTA_M2M_STORE" in without.stderr

    monkeypatch.setenv("OKTA_M2M_STORE", f"redis://user:hunter2@127.0.0.1:{free_port()}/0")
    down = run(what)
    assert down.exit_code == Exit.UNREACHABLE
    assert "The token store does not work" in down.stderr
    assert "hunter2" not in down.output
    assert len(down.stderr.splitlines()) == 1
