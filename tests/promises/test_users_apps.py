"""The apps that a service app makes for its users, at an org that exchanges tokens: what one user's token ends in concerns that
user alone, and each call after a renewal, a fork or a drop succeeds."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import requests

from command import posix_only
from front import Front
from okta_m2m import ConfigurationError, PrivateKey, ServiceApp
from okta_m2m.errors import RateLimited, SubjectRefused, TokenError, TokenRefused, UnauthorizedClient
from okta_m2m.events import RenewalFailed
from okta_m2m.requests import OktaAuth
from okta_m2m.stores.file import FileStore
from okta_m2m.testing import App, FakeOkta, User
from promises import Events, Hours
from services import eventually

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


# ── which app ────────────────────────────────────────────────────────────────────────────────────────────────────────


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


def test_no_repr_and_no_log_has_the_subjects_token(
    okta: FakeOkta, new_agent: NewAgent, user: User, web: App, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "okta_m2m")
    events = Events()
    agent = new_agent(on_event=events)
    token = user.access_token(web)
    app = for_subject(agent, token)
    issued = OktaAuth(app).token().value
    okta.revoke(token)
    agent.close()
    shown = [repr(app), repr(agent), repr(events.all), caplog.text, str(vars(type(app)).keys())]
    assert not [text for text in shown if token in text or issued in text]
    with pytest.raises((TypeError, pickle.PicklingError)):
        pickle.dumps(app)


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("subject", ["", "two words", "line\nbreak", "é", "\udc80", "x" * 20_000])
def test_a_string_that_cannot_be_a_token_is_refused_before_anything_is_sent(
    okta: FakeOkta, new_agent: NewAgent, subject: str
) -> None:
    agent = new_agent()
    for ask in (
        lambda: for_subject(agent, subject),
        lambda: agent.cross_app(subject, issuer=f"{okta.url}/oauth2/orders"),
        lambda: OktaAuth(agent) and agent.id_jag(subject, audience="https://mcp.example"),
    ):
        with pytest.raises(SubjectRefused) as raised:
            ask()
        assert not subject or subject not in str(raised.value)
    assert okta.requests == []


@pytest.mark.parametrize(
    "resource", ["", "mcp.example", "https://mcp.example/#part", "https://mcp.example/two words", 7]
)
def test_a_resource_is_an_absolute_url_without_a_fragment(new_agent: NewAgent, resource: Any) -> None:
    with pytest.raises(ConfigurationError, match="resource"):
        new_agent(resource=resource)
    with pytest.raises(ConfigurationError, match="resource"):
        new_agent().for_resource(resource)


def test_an_id_jag_needs_a_client(new_agent: NewAgent) -> None:
    with pytest.raises(ConfigurationError, match="client"):
        new_agent().id_jag("a-token", audience="https://mcp.example")


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_expired_a_revoked_and_a_foreign_token_are_refused_with_the_remedy(
    okta: FakeOkta, new_agent: NewAgent, user: User, web: App, elsewhere: FakeOkta
) -> None:
    agent = new_agent()
    revoked = user.access_token(web)
    okta.revoke(revoked)
    foreign = elsewhere.add_user().access_token(elsewhere.add_app())
    id_token = user.id_token(web)
    for token, remedy in ((revoked, "sign in again"), (foreign, "."), (id_token, "."), ("nonsense", ".")):
        with pytest.raises(SubjectRefused, match=remedy) as raised:
            OktaAuth(for_subject(agent, token)).token()
        assert token not in str(raised.value)
    with pytest.raises(SubjectRefused):
        OktaAuth(agent.on_behalf_of(user.access_token(web), audience="api://other", scopes=SCOPES)).token()


def test_a_client_without_the_grant_is_told_which(okta: FakeOkta, new_agent: NewAgent, user: User, web: App) -> None:
    agent = new_agent()
    okta.apps[agent.client_id].grant_types = ["client_credentials"]
    with pytest.raises(UnauthorizedClient, match="Token Exchange") as raised:
        OktaAuth(for_subject(agent, user.access_token(web))).token()
    assert not isinstance(raised.value, SubjectRefused)


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


# ── renewal ──────────────────────────────────────────────────────────────────────────────────────────────────────────


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


def test_a_token_is_renewed_while_its_subject_lives_and_once_refused_not_again(
    okta: FakeOkta, new_agent: NewAgent, user: User, web: App
) -> None:
    hours = Hours(okta)
    agent = new_agent(clock=hours.clock())
    okta.authorization_servers["orders"].token_lifetime = 600
    token = user.access_token(web)
    auth = OktaAuth(for_subject(agent, token))
    first = auth.token()
    hours.later(550)
    auth.token()
    eventually(lambda: auth.token() != first, "the token was renewed")
    second = auth.token()
    okta.revoke(token)
    hours.later(550)
    before = okta.token_requests
    assert auth.token() == second
    eventually(lambda: okta.token_requests == before + 1, "one renewal was tried")
    for _ in range(5):
        assert auth.token() == second
    assert okta.token_requests == before + 1


# ── its parent ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_closing_the_app_closes_those_of_its_users_and_another_close_does_nothing(new_agent: NewAgent) -> None:
    agent = new_agent()
    apps = [for_subject(agent, f"token-{number}") for number in range(100)]
    agent.close()
    agent.close()
    assert all(app.token_state.is_closed for app in apps)
    with pytest.raises(ConfigurationError, match="is closed"):
        for_subject(agent, "token-0")
    with pytest.raises(ConfigurationError, match="is closed"):
        agent.for_resource("https://mcp.example")


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


@posix_only
def test_a_forked_child_and_its_parent_both_work(okta: FakeOkta, new_agent: NewAgent, user: User, web: App) -> None:
    agent = new_agent()
    token = user.access_token(web)
    url = okta.protect("/orders", server="orders", scope="orders:read")
    first = requests.get(url, auth=OktaAuth(for_subject(agent, token)), timeout=20)
    child = os.fork()
    if child == 0:
        status = requests.get(url, auth=OktaAuth(for_subject(agent, token)), timeout=20).status_code
        os._exit(0 if status == 200 else 1)
    assert os.waitpid(child, 0)[1] == 0
    again = requests.get(url, auth=OktaAuth(for_subject(agent, token)), timeout=20)
    assert (first.status_code, again.status_code) == (200, 200)


# ── ID-JAG ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_id_jag_is_new_each_time_also_on_an_event_loop(okta: FakeOkta, new_agent: NewAgent, user: User) -> None:
    agent = new_agent()
    registered = okta.apps[agent.client_id]
    issuer = okta.issuer_url("default")
    registered.resource_connections = {issuer: []}
    OktaAuth(agent)
    subject = user.id_token(registered)
    first = agent.id_jag(subject, audience=issuer, scopes=["api:read"])
    second = asyncio.run(agent.id_jag_async(subject, audience=issuer, scopes=["api:read"]))
    assert first != second
    with pytest.raises(SubjectRefused):
        agent.id_jag("nonsense", audience=issuer)
    with pytest.raises(TokenRefused):
        agent.id_jag(subject, audience="https://unknown.example")
    agent.close()
    with pytest.raises(ConfigurationError, match="is closed"):
        agent.id_jag(subject, audience=issuer)
