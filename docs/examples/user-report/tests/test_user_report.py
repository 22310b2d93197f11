from __future__ import annotations

import json

import pytest
import requests
from user_report import Directory, main

from okta_m2m import ServiceApp
from okta_m2m.errors import ConsentRequired
from okta_m2m.testing import FakeOkta


def test_addresses_are_read_with_one_token(fake_okta: FakeOkta, directory: Directory) -> None:
    assert directory.emails() == directory.emails() == ["ada@example.com"]
    assert fake_okta.tokens_minted == 1
    assert fake_okta.refusals == []


def test_a_token_that_was_revoked_is_nobodys_concern(fake_okta: FakeOkta, directory: Directory) -> None:
    directory.emails()
    fake_okta.revoke_all()
    assert directory.emails() == ["ada@example.com"]
    assert fake_okta.tokens_minted == 2


def test_okta_may_be_down_for_a_moment(fake_okta: FakeOkta, directory: Directory) -> None:
    fake_okta.next(503, times=2)
    assert directory.emails() == ["ada@example.com"]


def test_an_app_that_requires_dpop_needs_no_other_code(
    fake_okta: FakeOkta, okta_app: ServiceApp, directory: Directory
) -> None:
    fake_okta.apps[okta_app.client_id].dpop_bound = True
    assert directory.emails() == ["ada@example.com"]
    assert [token.token_type for token in fake_okta.tokens()] == ["DPoP"]


def test_a_scope_that_nobody_granted_comes_with_the_remedy(
    fake_okta: FakeOkta, okta_app: ServiceApp, directory: Directory
) -> None:
    fake_okta.apps[okta_app.client_id].scopes = []
    with pytest.raises(ConsentRequired, match="Grant the scopes"):
        directory.emails()


def test_reading_is_not_writing(directory: Directory) -> None:
    with pytest.raises(requests.HTTPError, match="403"):
        directory.deactivate("ada@example.com")


def test_the_command_takes_its_settings_from_the_environment(
    fake_okta: FakeOkta, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registered = fake_okta.add_app(scopes=["okta.users.read"])  # with a key of its own
    monkeypatch.setenv("OKTA_CLIENT_ORGURL", fake_okta.url)
    monkeypatch.setenv("OKTA_CLIENT_AUTHORIZATIONMODE", "PrivateKey")
    monkeypatch.setenv("OKTA_CLIENT_CLIENTID", registered.client_id)
    monkeypatch.setenv("OKTA_CLIENT_SCOPES", "okta.users.read")
    monkeypatch.setenv("OKTA_CLIENT_PRIVATEKEY", json.dumps(registered.private_jwk))
    main()
    assert capsys.readouterr().out == "ada@example.com\n"
