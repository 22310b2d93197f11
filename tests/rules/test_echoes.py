"""What a server says about our own request is shown without the secrets in it, whatever their form, and shortened."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from front import Exchange, Front
from okta_m2m import OktaM2MError, PrivateKey, ServiceApp
from okta_m2m.admin.introspection import introspect_token, revoke_token
from okta_m2m.errors import TokenRefused
from okta_m2m.requests import OktaAuth
from okta_m2m.testing import FakeOkta

OPAQUE = "at.9x/Kq+7=="
"""A token that looks like none, so that only its value tells."""


def echo(status: int, words: str) -> Callable[[Exchange], None]:
    def page(exchange: Exchange) -> None:
        body = {"error": "invalid_grant", "error_description": f"you sent {words}"} if status != 200 else {}
        exchange.answer(
            status, json.dumps(body).encode(), x_okta_request_id=words, content_type=words[:60], retry_after="99"
        )

    return page


def message_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))


@pytest.mark.parametrize("status", [200, 400, 429, 503])
def test_an_opaque_token_that_a_server_echoes_is_not_shown(
    okta: FakeOkta, front: Front, new_service: Callable[..., ServiceApp], ec_key: PrivateKey, status: int
) -> None:
    app = new_service(okta, org_url=front.url, authorization_server="default", scopes=["a"], max_wait=1)
    for endpoint in ("token", "introspect", "revoke"):
        front.pages[f"/oauth2/default/v1/{endpoint}"] = echo(status, OPAQUE)
    about: dict[str, Any] = {"authorization_server": "default"}
    asks: list[Callable[[], object]] = [
        OktaAuth(app.on_behalf_of(OPAQUE, audience="api://default")).token,
        lambda: introspect_token(front.url, app.client_id, ec_key, OPAQUE, **about),
        lambda: revoke_token(front.url, app.client_id, ec_key, OPAQUE, **about),
    ]
    for ask in asks[: 2 if status == 200 else 3]:  # 200 is what a revocation should be answered with
        with pytest.raises(OktaM2MError) as failed:
            ask()
        assert OPAQUE not in message_of(failed.value)
        assert status != 400 or "you sent [redacted]" in message_of(failed.value)


def test_a_string_as_short_as_a_word_is_shown(
    okta: FakeOkta, front: Front, new_service: Callable[..., ServiceApp], ec_key: PrivateKey
) -> None:
    """Otherwise, a wrong argument would make an error unreadable."""
    app = new_service(okta, org_url=front.url)
    for token, shown in [("unknown", "you sent unknown"), ("unknown1", "you sent [redacted]")]:
        front.pages["/oauth2/v1/introspect"] = echo(400, token)
        with pytest.raises(TokenRefused, match=shown.replace("[", r"\[")):
            introspect_token(front.url, app.client_id, ec_key, token)


def test_an_error_code_is_shortened(okta: FakeOkta, new_service: Callable[..., ServiceApp]) -> None:
    okta.next(503, body={"error": "no " * 100}, headers={"Retry-After": "99"})
    with pytest.raises(OktaM2MError) as failed:
        OktaAuth(new_service(okta, max_wait=1)).token()
    assert failed.value.error == ("no " * 26)[:77] + "..."
