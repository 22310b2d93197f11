"""With every client, ``replaces`` has the token sent in the place of a placeholder, and of nothing else."""

from __future__ import annotations

import pytest

from clients import Body, Client
from okta_m2m.events import AuthorizationKept
from okta_m2m.testing import FakeOkta
from promises import (
    CONTENT,
    USERS,
    Connect,
    Events,
    Service,
    credentials,
    either_binding,
    in_matrix,
    redirect,
    sent_to,
    sha,
)
from services import eventually

PLACEHOLDER = {"authorization": "Bearer unused"}


@pytest.fixture(autouse=True)
def _has_the_option(client_type: type[Client]) -> None:
    if client_type.name == "docs-urllib3":
        pytest.skip("the adapter of docs/clients/your-own.md has no such option")


def test_a_placeholder_is_replaced_by_the_token(okta: FakeOkta, service: Service, connect: Connect) -> None:
    events = Events()
    client = connect(service(on_event=events), replaces="unused")
    for _ in range(2):
        assert client.get(okta.url + USERS, headers=PLACEHOLDER).status == 200
    assert client.get(okta.url + USERS).status == 200, "a call without one gets the token as before"
    assert "Bearer unused" not in [value for request in okta.requests for value in credentials(request)]
    assert events.of(AuthorizationKept) == []
    assert okta.tokens_minted == 1


@either_binding
def test_a_call_with_a_placeholder_is_sent_again_after_a_401(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service(), replaces="unused")
    assert client.get(okta.url + USERS, headers=PLACEHOLDER).status == 200
    okta.revoke_all()
    answer = client.post(okta.url + USERS, Body(data=CONTENT), headers=PLACEHOLDER)
    assert (answer.status, answer.received) == (200, sha(CONTENT))
    assert okta.tokens_minted == 2


OTHERS = [
    "Bearer other",
    *in_matrix(
        "Bearer unused2", "Bearer Unused", "bearer unused", "Bearer  unused", "unused", "DPoP unused", "Basic eDp5"
    ),
]


def kept_at(events: Events) -> list[str | None]:
    """The origins of the calls whose own header was kept. A thread of its own reports them, perhaps after the call."""
    return [event.origin for event in events.of(AuthorizationKept)]


@pytest.mark.parametrize("own", OTHERS)
@either_binding
def test_any_other_authorization_of_the_caller_is_kept_and_reported(
    okta: FakeOkta, service: Service, connect: Connect, own: str
) -> None:
    events = Events()
    client = connect(service(on_event=events), replaces="unused")
    assert client.get(okta.url + USERS, headers={"Authorization": own}).status in (400, 401)
    assert [credentials(request) for request in okta.requests] == [[own]]
    eventually(lambda: kept_at(events) == [okta.url], "it is reported")
    assert okta.token_requests == 0


@either_binding
def test_a_placeholder_at_another_origin_is_kept_and_reported(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, connect: Connect
) -> None:
    events = Events()
    client = connect(service(on_event=events), replaces="unused")
    assert client.get(okta.url + USERS, headers=PLACEHOLDER).status == 200
    assert client.get(elsewhere.url + USERS, headers=PLACEHOLDER).status == 401
    assert [credentials(request) for request in elsewhere.requests] == [["Bearer unused"]]
    eventually(lambda: kept_at(events) == [elsewhere.url], "it is reported")


@either_binding
def test_a_redirect_to_another_origin_carries_neither_the_token_nor_the_placeholder(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service(), replaces="unused")
    assert client.get(redirect(okta, elsewhere.url + USERS), headers=PLACEHOLDER).status == 401
    assert [credentials(request) for request in sent_to(elsewhere)] == [[]]
    assert client.get(redirect(okta, okta.url + USERS), headers=PLACEHOLDER).status == 200
