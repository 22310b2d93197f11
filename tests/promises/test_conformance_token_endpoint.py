"""With every client, what each response of the token endpoint means to the caller."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from front import Exchange, Front
from okta_m2m import RateLimited, TokenRefused, TokenUnreachable
from okta_m2m._base.clocks import Clock
from okta_m2m.errors import (
    AccessDenied,
    ConsentRequired,
    InvalidClient,
    InvalidDPoPProof,
    InvalidScope,
    ScopesMissing,
    UnauthorizedClient,
    UnexpectedAnswer,
)
from okta_m2m.events import ScopesReduced
from okta_m2m.testing import FakeOkta
from promises import TOKEN, USERS, Connect, Events, Service, either_binding, half_read, in_matrix


@pytest.mark.parametrize(
    "fault",
    [
        {"what": 503},
        {"drop": True},
        {"html": True},
        {"what": "client_assertion_already_used"},
        *in_matrix(  # to a client these are the same: tests/rules/test_retries.py says what is made of each
            {"what": 429, "reset": 0},
            {"what": 429, "concurrency": True},
            {"what": 500},
            {"what": 502},
            {"what": 504},
            {"what": "temporarily_unavailable", "description": "Try again.", "status": 400},
            {"what": "jwks_uri_error"},
            {"html": True, "status": 503},
            {"garbage": True},
            {"body": {"token_type": "Bearer"}},
            {"what": "use_dpop_nonce"},
        ),
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values()),
)
@either_binding
def test_a_temporary_failure_of_the_token_endpoint_is_retried(
    okta: FakeOkta, service: Service, connect: Connect, fault: Mapping[str, Any]
) -> None:
    client = connect(service())
    okta.next(**fault)
    assert client.get(okta.url + USERS).status == 200
    assert okta.tokens_minted == 1
    assert okta.token_requests > 1


@either_binding
def test_a_token_request_without_a_response_is_sent_again(
    okta: FakeOkta, service: Service, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("okta_m2m._core.conversation.PATIENCE", 0.5)  # instead of 5 s
    client = connect(service(max_wait=20))
    okta.next(delay=30, drop=True)
    assert client.get(okta.url + USERS).status == 200
    assert okta.tokens_minted == 1


@half_read
@either_binding
def test_a_response_that_never_ends_is_given_up(
    okta: FakeOkta, front: Front, service: Service, connect: Connect
) -> None:
    ended = threading.Event()

    def page(exchange: Exchange) -> None:
        front.pages.clear()
        exchange.begin(200, content_type="application/json")
        while not ended.is_set():
            exchange.chunk(b" " * 65536)

    front.pages[TOKEN] = page
    client = connect(service(org_url=front.url))
    try:
        assert client.get(front.url + USERS).status == 200
    finally:
        ended.set()


@either_binding
def test_the_error_of_a_long_rate_limit_says_how_long_to_wait(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service(max_wait=5, clock=Clock(lambda: 0.0)))
    okta.next(429, reset=40)
    with pytest.raises(RateLimited) as caught:
        client.get(okta.url + USERS)
    assert caught.value.status == 429
    assert caught.value.retry_after is not None
    assert 30 < caught.value.retry_after < 50
    with pytest.raises(RateLimited):
        client.get(okta.url + USERS)
    assert okta.token_requests == 1


REFUSALS: list[tuple[str, type[TokenRefused]]] = [
    ("client_assertion_invalid_signature", InvalidClient),
    ("no_org_scopes_granted", ConsentRequired),
    ("E0000015", TokenRefused),
]
REFUSALS_ALIKE: list[tuple[str, type[TokenRefused]]] = [
    ("invalid_client", InvalidClient),
    ("client_assertion_invalid_kid", InvalidClient),
    ("invalid_scope", InvalidScope),
    ("unauthorized_client", UnauthorizedClient),
    ("unsupported_grant_type", UnauthorizedClient),
    ("access_denied", AccessDenied),
    ("invalid_dpop_proof", InvalidDPoPProof),
    ("invalid_request", TokenRefused),
    ("E0000007", TokenRefused),
]


@pytest.mark.parametrize(
    ("error", "kind"),
    [*REFUSALS, *in_matrix(*REFUSALS_ALIKE)],
    ids=[error for error, _ in (*REFUSALS, *REFUSALS_ALIKE)],
)
@either_binding
def test_a_definite_refusal_is_raised_at_once_and_remembered(
    okta: FakeOkta, service: Service, connect: Connect, error: str, kind: type[TokenRefused]
) -> None:
    client = connect(service(clock=Clock(lambda: 0.0)))  # it stands still, so nothing is forgotten meanwhile
    okta.next(error)
    for _ in range(2):
        with pytest.raises(kind) as caught:
            client.get(okta.url + USERS)
        assert type(caught.value).__name__ == kind.__name__
        assert isinstance(caught.value, client.refused), "what users of this client catch"
        assert not isinstance(caught.value, client.unreachable), "so that nobody tries again in vain"
        assert caught.value.status is not None
        assert caught.value.error
        assert caught.value.request_id
    assert okta.token_requests == 1
    assert okta.api_calls == 0


@either_binding
def test_many_callers_share_one_refusal_and_each_raises_a_separate_exception(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service(clock=Clock(lambda: 0.0)))
    okta.next("access_denied", delay=0.3)
    outcomes = client.at_once(10, "GET", okta.url + USERS)
    assert all(isinstance(outcome, AccessDenied) and isinstance(outcome, client.refused) for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == 10
    assert okta.token_requests == 1


@either_binding
def test_a_token_endpoint_that_redirects_is_not_followed(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service())
    okta.next(status=302, headers={"Location": elsewhere.url + TOKEN})
    with pytest.raises(UnexpectedAnswer):
        client.get(okta.url + USERS)
    assert elsewhere.requests == []
    assert okta.token_requests == 1


@either_binding
def test_an_error_has_the_request_as_the_librarys_own_errors_have(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service(clock=Clock(lambda: 0.0)))
    okta.next("access_denied")
    with pytest.raises(AccessDenied) as at_once:
        client.get(okta.url + USERS)
    okta.clear_faults()
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    okta.revoke_all()
    okta.next("access_denied")
    with pytest.raises(AccessDenied) as after_401:
        client.get(okta.url + USERS)
    for error in (at_once.value, after_401.value):
        if hasattr(client.refused, "request") or "request" in vars(client.refused("made by hand")):
            assert str(error.request.url) == okta.url + USERS
        else:
            assert not hasattr(error, "request")
        assert str(pickle.loads(pickle.dumps(error))) == str(error), "it crosses to another process without the request"


@either_binding
def test_a_token_endpoint_without_a_server_is_unreachable(okta: FakeOkta, service: Service, connect: Connect) -> None:
    app = service(max_wait=0.3)
    okta.stop()
    client = connect(app)
    with pytest.raises(TokenUnreachable, match="max_wait") as caught:
        client.get(app.org_url + USERS)
    assert isinstance(caught.value, client.unreachable), "what users of this client catch, and try again"
    assert isinstance(caught.value, client.refused)


@either_binding
def test_a_response_that_is_not_from_an_oauth_server_is_unexpected(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service())
    okta.next(html=True, status=403)
    with pytest.raises(UnexpectedAnswer):
        client.get(okta.url + USERS)
    assert okta.token_requests == 1


@pytest.mark.parametrize("expires_in", ["soon", 1e300, *in_matrix(None, "3600", -5, 0, True, [1])], ids=repr)
@either_binding
def test_an_invalid_expires_in_is_limited(
    okta: FakeOkta, service: Service, connect: Connect, expires_in: object
) -> None:
    client = connect(service())
    okta.next(token={"expires_in": expires_in}, times=2)
    for _ in range(3):
        assert client.get(okta.url + USERS).status == 200
    assert okta.tokens_minted == 1
    assert 300 <= client.token().expires_in <= 86_400


@either_binding
def test_scopes_that_were_not_granted_are_reported(
    okta: FakeOkta, service: Service, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    events = Events()
    app = service(on_event=events)
    okta.apps[app.client_id].scopes.remove("okta.groups.read")
    client = connect(app)
    assert client.get(okta.url + USERS).status == 200
    assert [event.missing for event in events.of(ScopesReduced)] == [("okta.groups.read",)]
    assert any("okta.groups.read" in record.getMessage() for record in caplog.records)


@either_binding
def test_scopes_that_were_not_granted_are_an_error_if_all_are_required(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    app = service(require_all_scopes=True)
    okta.apps[app.client_id].scopes.remove("okta.groups.read")
    client = connect(app)
    with pytest.raises(ScopesMissing, match=r"okta\.groups\.read"):
        client.get(okta.url + USERS)
    assert okta.api_calls == 0
