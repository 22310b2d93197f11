"""What a user's token yields, and each kind of subject that Okta refuses. The clients have no part in it, so one is enough."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

import okta_m2m.httpx
from command import posix_only
from okta_m2m import ConfigurationError, ServiceApp
from okta_m2m._core.proofs import ClientAssertions, signed_request
from okta_m2m.errors import SubjectRefused
from okta_m2m.testing import FakeOkta, User, replay
from promises import Service
from subjects import JWT_BEARER, MCP, STOCK, World


@pytest.fixture
def world(okta: FakeOkta, new_service: Service) -> World:
    return World(okta, lambda **arguments: new_service(okta, dpop=False, **arguments))


def token(app: ServiceApp) -> Any:
    return okta_m2m.httpx.OktaAuth(app).token()


@pytest.mark.parametrize("token_type", ["N_A", "Bearer"])
def test_cross_app_access_names_the_user_the_resource_and_the_app(world: World, token_type: str) -> None:
    world.okta.id_jag_token_type = token_type
    (ada,) = world.users(1)
    for subject in (ada.id_token(world.client), ada.access_token(world.website)):
        app = world.app.cross_app(subject, issuer=world.okta.issuer_url("stock"), scopes=["stock:read"], resource=MCP)
        found = world.okta.token(token(app).value)
        assert found is not None
        assert (found.subject, found.audience, found.client_id) == (ada.login, MCP, world.app.client_id)
        assert found.act is not None


def test_a_token_for_one_resource_has_its_audience(world: World) -> None:
    found = world.okta.token(token(world.app.for_resource(MCP)).value)
    assert found is not None
    assert found.audience == MCP


Subject = Callable[[World, User], ServiceApp]


def with_ended_session(world: World, user: User) -> ServiceApp:
    app = world.on_behalf_of(user)
    user.end_session()
    return app


def revoked(world: World, user: User) -> ServiceApp:
    subject = user.access_token(world.website)
    world.okta.revoke(subject)
    return world.app.on_behalf_of(subject, **STOCK)


def expired(world: World, user: User) -> ServiceApp:
    world.okta.skew(minutes=-120)
    subject = user.access_token(world.website)
    world.okta.skew()
    return world.app.on_behalf_of(subject, **STOCK)


def from_untrusted_server(world: World, user: User) -> ServiceApp:
    world.okta.add_authorization_server("other", scopes=["api:read"], audience="api://other")
    return world.app.on_behalf_of(user.access_token(world.website, server="other"), **STOCK)


def without_delegation_link(world: World, user: User) -> ServiceApp:
    subject = user.access_token(world.okta.add_app())
    return world.app.cross_app(subject, issuer=world.okta.issuer_url("stock"), scopes=["stock:read"])


REFUSED: dict[str, tuple[Subject, str, str]] = {
    "session ended": (with_ended_session, "invalid_grant", "sign in again"),
    "revoked": (revoked, "invalid_request", "revoked"),
    "expired": (expired, "invalid_grant", "sign in again"),
    "foreign": (
        lambda world, user: world.app.on_behalf_of("a.b.c", **STOCK),
        "invalid_request",
        "that this one trusts",
    ),
    "from a server that is not trusted": (from_untrusted_server, "access_denied", "trusted servers"),
    "an ID token": (
        lambda world, user: world.app.on_behalf_of(user.id_token(world.client), **STOCK),
        "invalid_request",
        "Pass the access token",
    ),
    "another audience": (
        lambda world, user: world.app.on_behalf_of(user.access_token(world.website), audience="api://other"),
        "invalid_target",
        "audience",
    ),
    "no delegation link": (without_delegation_link, "invalid_request", "delegation link"),
    "an ID token of another client": (
        lambda world, user: world.cross_app(user, world.website),
        "invalid_request",
        "Register the app",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_subject_is_one_error_with_its_remedy(world: World, name: str) -> None:
    make, code, remedy = REFUSED[name]
    (ada,) = world.users(1)
    app = make(world, ada)
    before = world.exchanges()
    for _ in range(3):
        with pytest.raises(SubjectRefused) as caught:
            token(app)
        assert caught.value.error == code
        assert remedy in str(caught.value)
    assert world.exchanges() - before == 1, "the refusal is remembered"


def test_a_session_that_ends_while_its_token_is_used_is_noticed_at_the_next_401(world: World) -> None:
    (ada,) = world.users(1)
    app = world.on_behalf_of(ada)
    with httpx.Client(auth=okta_m2m.httpx.OktaAuth(app)) as client:
        assert client.get(world.url).status_code == 200
        ada.end_session()
        assert client.get(world.url).status_code == 200
        world.okta.next(401, on="/stock")
        with pytest.raises(SubjectRefused):
            client.get(world.url)


def test_closing_the_app_under_a_hundred_users_ends_their_calls(world: World) -> None:
    world.okta.token_delay = 0.05
    apps = [world.on_behalf_of(user) for user in world.users(100)]
    with ThreadPoolExecutor(100) as pool:
        calls = [pool.submit(token, app) for app in apps]
        world.app.close()
        ended = [call.exception(60) for call in calls]
    assert {type(error) for error in ended} <= {
        type(None),
        *(type(e) for e in ended if isinstance(e, ConfigurationError)),
    }
    for app in apps:
        with pytest.raises(ConfigurationError, match="is closed"):
            token(app)


@posix_only
def test_a_forked_child_makes_calls_for_the_same_users(world: World) -> None:
    subjects = [user.access_token(world.website) for user in world.users(2)]
    app = world.app.on_behalf_of(subjects[0], **STOCK)
    token(app)
    child = os.fork()
    if child == 0:
        try:
            same, other = (world.app.on_behalf_of(subject, **STOCK) for subject in subjects)
            os._exit(0 if same is app and token(same) and token(other) else 3)
        finally:
            os._exit(4)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert token(world.app.on_behalf_of(subjects[1], **STOCK))


def redeemed(world: World, jag: str) -> int:
    """The status of the other server's response to a client that presents an ID-JAG itself."""
    url = f"{world.okta.issuer_url('stock')}/v1/token"
    assertions = ClientAssertions(world.app.client_id, url)
    assertion = replay(assertions.assertion(world.app.keys[0], time.time())).result()
    request = signed_request(url, {"grant_type": JWT_BEARER, "assertion": jag}, assertion)
    return httpx.post(url, content=request.body, headers=dict(request.headers)).status_code


def test_an_id_jag_is_for_a_client_that_presents_it_itself(world: World) -> None:
    (ada,) = world.users(1)
    arguments: dict[str, Any] = {"audience": world.okta.issuer_url("stock"), "resource": MCP, "scopes": ["stock:read"]}
    with pytest.raises(ConfigurationError, match="Create one first"):
        world.app.id_jag(ada.id_token(world.client), **arguments)
    okta_m2m.httpx.OktaAuth(world.app)
    one = world.app.id_jag(ada.id_token(world.client), **arguments)
    two = asyncio.run(world.app.id_jag_async(ada.id_token(world.client), **arguments))
    assert one != two
    assert [redeemed(world, jag) for jag in (one, one, two)] == [200, 400, 200]
    ada.end_session()
    for call in (world.app.id_jag, lambda *a, **k: asyncio.run(world.app.id_jag_async(*a, **k))):
        ended = ada.id_token(world.client)
        ada.end_session()
        with pytest.raises(SubjectRefused):
            call(ended, **arguments)
