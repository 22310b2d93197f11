"""The token as an identity elsewhere: what the function returns can be checked by the keys that Okta publishes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import requests
from joserfc import jwt
from joserfc.jwk import KeySet

import okta_m2m.aiohttp
import okta_m2m.httpx
import okta_m2m.httpx2
import okta_m2m.requests
from okta_m2m import ConfigurationError, ServiceApp
from okta_m2m.errors import WrongType
from okta_m2m.federation import subject_token
from okta_m2m.testing import FakeOkta

Service = Callable[..., ServiceApp]
FOR_CLOUDS: dict[str, Any] = {"authorization_server": "default", "scopes": ["api:read"], "dpop": False}


@pytest.mark.parametrize("client", ["requests", "httpx", "httpx2"])
def test_the_token_can_be_checked_by_the_published_keys(okta: FakeOkta, new_service: Service, client: str) -> None:
    app = new_service(okta, **FOR_CLOUDS)
    current = subject_token(getattr(okta_m2m, client).OktaAuth(app))
    keys = KeySet.import_key_set(requests.get(f"{okta.url}/oauth2/default/v1/keys", timeout=30).json())
    claims = jwt.decode(current(), keys, algorithms=["RS256"]).claims
    assert (claims["sub"], claims["iss"]) == (app.client_id, f"{okta.url}/oauth2/default")
    assert current() == current()
    assert okta.tokens_minted == 1


def test_a_renewed_token_is_returned_from_then_on(okta: FakeOkta, new_service: Service) -> None:
    app = new_service(okta, **{**FOR_CLOUDS, "origins": [okta.url]})
    okta.protect("/things")
    auth = okta_m2m.httpx2.OktaAuth(app)
    current = subject_token(auth)
    first = current()
    okta.revoke_all()
    with httpx2.Client(auth=auth) as client:
        assert client.get(okta.url + "/things").status_code == 200
    assert current() not in ("", first)


def test_a_token_of_the_org_authorization_server_is_refused_at_once(okta: FakeOkta, new_service: Service) -> None:
    with pytest.raises(ConfigurationError, match=r'authorization_server="default", dpop=False'):
        subject_token(okta_m2m.requests.OktaAuth(new_service(okta)))
    assert okta.requests == []


def test_a_bound_token_is_refused_with_the_remedy(okta: FakeOkta, new_service: Service) -> None:
    app = new_service(okta, dpop_bound=True, **{**FOR_CLOUDS, "dpop": True})
    current = subject_token(okta_m2m.requests.OktaAuth(app))
    with pytest.raises(ConfigurationError, match=r"dpop=False.*Require Demonstrating Proof of Possession"):
        current()


@pytest.mark.parametrize("given", ["app", "aiohttp", "client"])
def test_anything_else_than_a_blocking_auth_object_is_refused(okta: FakeOkta, new_service: Service, given: str) -> None:
    app = new_service(okta, **FOR_CLOUDS)

    async def made() -> object:
        return okta_m2m.aiohttp.OktaAuth(app)

    wrong = {"app": app, "aiohttp": asyncio.run(made()), "client": "0oa1"}[given]
    with pytest.raises(WrongType, match=r"subject_token\(okta_m2m\.requests\.OktaAuth\(app\)\)"):
        subject_token(wrong)
