"""With every client, calls on behalf of users have a token of the right user, which is renewed, replaced after a 401, and bound
like any other."""

from __future__ import annotations

import pytest

from clients import Client
from okta_m2m.errors import SubjectRefused
from okta_m2m.testing import FakeOkta
from promises import Connect, Hours, Service, in_matrix, sent_to
from services import eventually
from subjects import World, subjects


@pytest.mark.parametrize(
    ("binding", "number", "at_once"),
    [("dpop", 8, 8), *in_matrix(("dpop", 1000, 100), ("bearer", 8, 8))],
    indirect=["binding"],
)
@pytest.mark.timeout(600)
def test_no_token_is_sent_for_another_user(
    okta: FakeOkta, service: Service, connect: Connect, number: int, at_once: int
) -> None:
    world = World(okta, service)
    users, client = world.users(number), connect(world.app)
    apps = [world.on_behalf_of(user) for user in users]
    minted = okta.tokens_minted
    for _ in range(2):
        for first in range(0, number, at_once):
            outcomes = client.get_for(apps[first : first + at_once], world.url)
            assert subjects(outcomes) == [user.login for user in users[first : first + at_once]]
    assert okta.tokens_minted - minted == number, "one token for each user"
    tokens = {request.header("authorization") for request in sent_to(okta, "/stock")}
    assert len(tokens) == number


def test_with_every_client_a_users_token_is_renewed_and_replaced_after_a_401(
    okta: FakeOkta, new_service: Service, connect: Connect
) -> None:
    hours = Hours(okta)
    world = World(okta, lambda **arguments: new_service(okta, dpop_bound=True, clock=hours.clock(), **arguments))
    (ada, bob), client = world.users(2), connect(world.app)
    apps = [world.on_behalf_of(ada), world.cross_app(bob, resource=None)]
    assert subjects(client.get_for(apps, world.url)) == [ada.login, bob.login]
    minted = okta.tokens_minted
    okta.next(401, on="/stock")
    assert subjects(client.get_for(apps[1:], world.url)) == [bob.login], (
        "with another ID-JAG, because each is accepted once"
    )
    assert okta.tokens_minted == minted + 1
    hours.later(0.9 * 3600)
    assert subjects(client.get_for(apps[:1], world.url)) == [ada.login], "its token still works"
    eventually(lambda: okta.tokens_minted == minted + 2, "it is renewed in the background")


def test_with_every_client_a_refused_user_is_an_error_of_the_client_and_delays_no_other(
    okta: FakeOkta, new_service: Service, connect: Connect, client_type: type[Client]
) -> None:
    world = World(okta, lambda **arguments: new_service(okta, dpop=False, **arguments))
    (ada, bob), client = world.users(2), connect(world.app)
    apps = [world.on_behalf_of(user) for user in (ada, bob)]
    ada.end_session()
    refused, answered = client.get_for(apps, world.url)
    assert isinstance(refused, SubjectRefused)
    assert isinstance(refused, client_type.refused)
    assert not isinstance(refused, client_type.unreachable)
    assert subjects([answered]) == [bob.login]
    assert world.exchanges() == 2
