"""What the rules of users' apps (``tests/rules/test_derived_apps.py``) mean at an org that exchanges tokens, with one client."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from front import Front
from okta_m2m import ConfigurationError, PrivateKey, ServiceApp
from okta_m2m.errors import RateLimited, SubjectRefused, TokenError
from okta_m2m.events import RenewalFailed
from okta_m2m.requests import OktaAuth
from okta_m2m.stores.file import FileStore
from okta_m2m.testing import App, FakeOkta, User
from promises import Events, Hours

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
AUDIENCE = "api://orders"
SCOPES = ("orders:read",)
TOKEN_PATH = "/oauth2/orders/v1/token"

NewAgent = Callable[..., ServiceApp]


@pytest.fixture
def new_agent(okta: FakeOkta, ec_key: PrivateKey) -> NewAgent:
    """``new_agent(**arguments of ServiceApp)``: an app that may act for users at the server ``orders``."""
    okta.add_authorization_server("orders", scopes=[*SCOPES], audience=AUDIENCE, trusted_servers=["default"])

    def made(**arguments: Any) -> ServiceApp:
        app = okta.add_app(ec_key)
        app.grant_types = ["client_credentials", TOKEN_EXCHANGE, JWT_BEARER]
        settings = {"key": ec_key, "authorization_server": "orders", "origins": [okta.url], "scopes": SCOPES}
        return ServiceApp(okta.url, client_id=app.client_id, **{**settings, **arguments})

    return made


@pytest.fixture
def web(okta: FakeOkta) -> App:
    app = okta.add_app()
    app.application_type = "web"
    return app


@pytest.fixture
def user(okta: FakeOkta) -> User:
    return okta.add_user()


def for_subject(agent: ServiceApp, token: str) -> ServiceApp:
    return agent.on_behalf_of(token, audience=AUDIENCE, scopes=SCOPES)


def paths(okta: FakeOkta) -> list[str]:
    return [request.path for request in okta.requests]


def test_the_app_used_least_recently_is_dropped_and_continues_to_work(
    okta: FakeOkta, new_agent: NewAgent, user: User, web: App
) -> None:
    agent = new_agent(max_subjects=2)
    token = user.access_token(web)
    first, second = for_subject(agent, token), for_subject(agent, "second")
    assert for_subject(agent, token) is first
    for_subject(agent, "third")
    assert for_subject(agent, token) is first
    for_subject(agent, "fourth")
    for_subject(agent, "fifth")
    assert OktaAuth(first).token().value
    assert for_subject(agent, token) is not first
    assert for_subject(agent, "second") is not second
    agent.close()
    with pytest.raises(ConfigurationError, match="is closed"):
        OktaAuth(first).token()


def test_a_refused_subject_delays_no_other_and_a_rate_limit_holds_for_all(
    okta: FakeOkta, new_agent: NewAgent, user: User, web: App
) -> None:
    agent = new_agent(max_wait=2)
    with pytest.raises(SubjectRefused):
        OktaAuth(for_subject(agent, "nonsense")).token()
    before = okta.token_requests
    assert OktaAuth(for_subject(agent, user.access_token(web))).token().value
    assert okta.token_requests == before + 1
    okta.next(429, headers={"Retry-After": "200", "X-Rate-Limit-Reset": "200"})
    with pytest.raises(TokenError):
        OktaAuth(for_subject(agent, okta.add_user("b@example.com").access_token(web))).token()
    before = okta.token_requests
    with pytest.raises(RateLimited):
        OktaAuth(for_subject(agent, okta.add_user("c@example.com").access_token(web))).token()
    assert okta.token_requests == before


def test_a_refused_jag_is_replaced_once(okta: FakeOkta, new_agent: NewAgent, user: User) -> None:
    agent = new_agent()
    registered = okta.apps[agent.client_id]
    issuer = okta.issuer_url("default")
    registered.resource_connections = {issuer: []}
    app = agent.cross_app(user.id_token(registered), issuer=issuer, scopes=["api:read"])
    okta.next("invalid_grant", on="/oauth2/default/v1/token")
    assert OktaAuth(app).token().value
    assert paths(okta).count("/oauth2/v1/token") == 2
    assert paths(okta).count("/oauth2/default/v1/token") == 2
    okta.reset()
    okta.next("invalid_grant", on="/oauth2/default/v1/token", times=9)
    another = agent.cross_app(user.id_token(registered), issuer=issuer, scopes=["api:read"])
    with pytest.raises(SubjectRefused):
        OktaAuth(another).token()
    assert paths(okta).count("/oauth2/default/v1/token") == 2


def test_no_token_is_renewed_after_its_subject_has_expired(
    okta: FakeOkta, new_agent: NewAgent, user: User, web: App
) -> None:
    hours, events = Hours(okta), Events()
    agent = new_agent(clock=hours.clock(), on_event=events)
    okta.authorization_servers["orders"].token_lifetime = 7200
    token = user.access_token(web)  # lives for an hour
    app = for_subject(agent, token)
    auth = OktaAuth(app)
    first = auth.token()
    hours.later(7000)
    before = okta.token_requests
    assert auth.token() == first
    assert okta.token_requests == before
    assert events.of(RenewalFailed) == []


def test_a_user_whose_fetch_is_under_way_is_served_although_the_app_was_dropped(
    okta: FakeOkta, front: Front, ec_key: PrivateKey, new_agent: NewAgent, user: User, web: App
) -> None:
    agent = new_agent(max_subjects=1)
    app = for_subject(agent, user.access_token(web))
    okta.next(delay=0.2, on=TOKEN_PATH)
    got: list[str] = []
    thread = threading.Thread(target=lambda: got.append(OktaAuth(app).token().value))
    thread.start()
    for_subject(agent, "another-token")
    thread.join(20)
    assert len(got) == 1


def test_a_users_token_is_never_stored(
    okta: FakeOkta, new_agent: NewAgent, user: User, web: App, tmp_path: Any
) -> None:
    agent = new_agent(store=FileStore(tmp_path))
    assert OktaAuth(for_subject(agent, user.access_token(web))).token().value
    agent.close()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_app_for_a_resource_shares_its_token_through_the_store(
    okta: FakeOkta, new_agent: NewAgent, tmp_path: Any
) -> None:
    agent = new_agent(store=FileStore(tmp_path))
    okta.authorization_servers["orders"].resources = ["https://a.example", "https://b.example"]
    same = ServiceApp(
        okta.url,
        client_id=agent.client_id,
        key=agent.keys[0],
        authorization_server="orders",
        scopes=SCOPES,
        store=FileStore(tmp_path),
        resource="https://a.example",
    )
    token = OktaAuth(agent.for_resource("https://a.example")).token()
    assert OktaAuth(same).token().value == token.value
    assert OktaAuth(agent.for_resource("https://b.example")).token().value != token.value
    assert OktaAuth(agent).token().value != token.value
    agent.close()
    same.close()


# ── ID-JAG ───────────────────────────────────────────────────────────────────────────────────────────────────────────
