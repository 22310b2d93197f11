"""``okta-m2m token get --on-behalf-of``: one token for one user; ``doctor --audience``: whether the app may have one.

Invariant: the user's token is read from a file, and is never printed.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from command import Run, run_command
from okta_m2m import PrivateKey
from okta_m2m.cli.exits import Exit
from okta_m2m.testing import FakeOkta, User

SCOPE, AUDIENCE = "stock:read", "api://stock"


@pytest.fixture
def user(okta: FakeOkta) -> User:
    return okta.add_user("ada@example.com")


@pytest.fixture
def subject_token(okta: FakeOkta, user: User, tmp_path: Path) -> str:
    """The user's token, which is also in the file ``user.txt``."""
    token = user.access_token(okta.add_app())
    file = tmp_path / "user.txt"
    file.touch(0o600)
    file.write_text(f"{token}\n", "utf-8")
    return token


@pytest.fixture
def run(okta: FakeOkta, subject_token: str, tmp_path: Path) -> Run:
    key = PrivateKey.generate("ES256", kid="stock")
    okta.add_authorization_server("stock", scopes=[SCOPE], audience=AUDIENCE, trusted_servers=["default"])
    okta.add_app(key, client_id="0oastock", grant_types=["urn:ietf:params:oauth:grant-type:token-exchange"])
    settings = {
        "OKTA_CLIENT_ORGURL": okta.url,
        "OKTA_CLIENT_CLIENTID": "0oastock",
        "OKTA_CLIENT_SCOPES": SCOPE,
        "OKTA_CLIENT_AUTHORIZATIONSERVER": "stock",
        "OKTA_CLIENT_PRIVATEKEY": json.dumps(key.private_jwk()),
    }
    return partial(run_command, tmp_path, **settings)


@pytest.mark.parametrize("place", ["user.txt", "-"])
def test_a_token_is_obtained_for_the_user_in_a_file_or_on_stdin(
    run: Run, okta: FakeOkta, user: User, subject_token: str, place: str
) -> None:
    stdin = subject_token if place == "-" else None
    done = run("token", "get", "--on-behalf-of", place, "--audience", AUDIENCE, stdin=stdin)
    assert done.returncode == 0, done.stderr
    found = okta.token(done.stdout.strip())
    assert found is not None
    assert (found.subject, found.audience, found.scopes) == (user.login, AUDIENCE, (SCOPE,))
    described = json.loads(run("token", "get", "--json", "--on-behalf-of", "user.txt", "--audience", AUDIENCE).stdout)
    assert (described["scopes"], described["client_id"]) == ([SCOPE], "0oastock")
    assert "access_token" not in described


def test_a_refused_user_and_options_that_need_each_other_are_reported(
    run: Run, okta: FakeOkta, subject_token: str, tmp_path: Path
) -> None:
    okta.revoke(subject_token)
    refused = run("token", "get", "--on-behalf-of", "user.txt", "--audience", AUDIENCE)
    assert refused.returncode == Exit.REFUSED
    assert "subject_token" in refused.stderr
    for arguments in (("--on-behalf-of", "user.txt"), ("--audience", AUDIENCE)):
        assert run("token", "get", *arguments).returncode == Exit.USAGE
    (tmp_path / "empty.txt").touch(0o600)
    empty = run("token", "get", "--on-behalf-of", "empty.txt", "--audience", AUDIENCE)
    assert empty.returncode in (Exit.CONFIGURATION, Exit.REFUSED)
    for ran in (refused, empty):
        assert subject_token not in ran.stdout + ran.stderr
        assert "Traceback" not in ran.stderr


def exchange_row(run: Run, audience: str, **settings: str) -> dict[str, str]:
    """The doctor's row about token exchange."""
    checks = json.loads(run("doctor", "--json", "--audience", audience, **settings).stdout)["checks"]
    (row,) = [check for check in checks if check["name"] == "exchange"]
    return dict(row)


def test_the_doctor_says_whether_the_app_may_exchange_users_tokens(run: Run, okta: FakeOkta) -> None:
    app = okta.apps["0oastock"]
    app.grant_types.append("client_credentials")
    assert exchange_row(run, AUDIENCE)["state"] == "ok"
    assert [refusal.error_description for refusal in okta.refusals] == ["'subject_token' is invalid."]

    wrong_audience = exchange_row(run, "api://default")
    assert wrong_audience["state"] == "fail"
    assert "audience" in wrong_audience["remedy"]

    app.grant_types = ["client_credentials"]
    no_grant = exchange_row(run, AUDIENCE)
    assert (no_grant["state"], no_grant["kind"]) == ("fail", "refused")
    assert "Token Exchange" in no_grant["remedy"]


def test_the_doctor_says_that_an_exchange_needs_a_custom_server(run: Run, okta: FakeOkta) -> None:
    okta.apps["0oastock"].grant_types.append("client_credentials")
    row = exchange_row(run, AUDIENCE, OKTA_CLIENT_AUTHORIZATIONSERVER="", OKTA_CLIENT_SCOPES="okta.users.read")
    assert (row["state"], row["kind"]) == ("fail", "configuration")
    assert "authorization_server" in row["remedy"]


def test_the_doctor_makes_no_exchange_unless_asked(run: Run, okta: FakeOkta) -> None:
    okta.apps["0oastock"].grant_types.append("client_credentials")
    done = run("doctor", "--json")
    assert "exchange" not in [check["name"] for check in json.loads(done.stdout)["checks"]]
    assert okta.refusals == []
