"""With every client, a token goes to allowed origins only, also after redirects."""

from __future__ import annotations

import logging

import pytest

from clients import Body
from front import Front
from okta_m2m.events import AuthorizationKept, OriginPassedOver
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
    proofs_of,
    redirect,
    sent_to,
    sha,
)

# What each client follows in the same way as others of these, or reads so.
REDIRECTS_ALIKE = [
    *((method, status) for status in (301, 303, 308) for method in ("GET", "POST")),
    ("GET", 307),
    ("POST", 302),
]


@pytest.mark.parametrize(("method", "status"), [("GET", 302), ("POST", 307), *in_matrix(*REDIRECTS_ALIKE)])
@either_binding
def test_a_redirect_to_another_origin_carries_no_credentials(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, connect: Connect, status: int, method: str
) -> None:
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    body = Body(data=b"body") if method == "POST" else Body()
    assert client.call(method, redirect(okta, elsewhere.url + USERS, status), body).status == 401
    (arrived,) = sent_to(elsewhere)
    assert credentials(arrived) == []
    assert elsewhere.token_requests == 0
    assert okta.tokens_minted == 1


@either_binding
def test_a_redirect_to_another_allowed_origin_carries_no_credentials(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, connect: Connect
) -> None:
    """What one origin answers must not have the token sent to another, even if calls to that one get it too."""
    client = connect(service(origins=[elsewhere.url]))
    assert client.get(okta.url + USERS).status == 200
    assert client.get(redirect(okta, elsewhere.url + USERS)).status == 401
    (arrived,) = sent_to(elsewhere)
    assert credentials(arrived) == []


@either_binding
def test_redirects_to_another_origin_and_back_carry_no_credentials(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service())
    back = redirect(elsewhere, okta.url + USERS)
    status = client.get(redirect(okta, redirect(okta, back))).status
    assert status == 401  # nobody brings credentials back that were dropped at another origin
    assert [credentials(request) for request in elsewhere.requests] == [[]]
    proofs = proofs_of(okta, elsewhere)
    assert len(proofs) == len(set(proofs))
    assert {refusal.error for refusal in okta.refusals} <= {"E0000011", "use_dpop_nonce"}
    assert client.get(okta.url + USERS).status == 200
    assert okta.tokens_minted == 1


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic eDp5"}], ids=["plain", "own credentials"])
@either_binding
def test_a_redirect_from_another_origin_to_an_allowed_one_carries_no_token(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, connect: Connect, headers: dict[str, str]
) -> None:
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    # The fake lets nobody pass who brings credentials that it does not know.
    elsewhere.next(status=307, on="/redirect", headers={"Location": redirect(okta, okta.url + USERS, 307)})
    before = len(okta.requests)
    assert client.call("POST", elsewhere.url + "/redirect", Body(data=CONTENT), headers=headers).status == 401
    assert [request.all("authorization") for request in elsewhere.requests] == [list(headers.values())]
    assert [credentials(request) for request in okta.requests[before:]] == [[], []]
    assert client.get(okta.url + USERS).status == 200, "and the next call is one of its own"


@pytest.mark.parametrize(("method", "status"), [("GET", 302), ("POST", 307), *in_matrix(*REDIRECTS_ALIKE)])
@either_binding
def test_redirects_within_the_origin_carry_the_token_and_a_new_proof(
    okta: FakeOkta, service: Service, connect: Connect, status: int, method: str
) -> None:
    client = connect(service())
    hops = redirect(okta, redirect(okta, okta.url + USERS, status), status)
    body = Body(data=CONTENT) if method == "POST" else Body()
    answer = client.call(method, hops, body)
    assert answer.status == 200
    assert okta.tokens_minted == 1
    assert [refusal for refusal in okta.refusals if refusal.error != "use_dpop_nonce"] == []
    proofs = proofs_of(okta)
    assert len(proofs) == len(set(proofs))
    (arrived,) = sent_to(okta)
    if status in (307, 308):
        assert arrived.method == method
    if arrived.method == "POST":
        assert answer.received == sha(CONTENT)


def test_a_relative_redirect_is_followed_with_the_token(okta: FakeOkta, service: Service, connect: Connect) -> None:
    client = connect(service())
    assert client.get(redirect(okta, "../api/v1/users/a%40b?limit=1")).status == 200
    assert okta.tokens_minted == 1


@pytest.mark.parametrize("status", [302, 307])
@either_binding
def test_a_token_rejected_after_a_redirect_is_renewed(
    okta: FakeOkta, service: Service, connect: Connect, status: int
) -> None:
    client = connect(service())
    okta.next(401, on=USERS)
    answer = client.call("POST", redirect(okta, okta.url + USERS, status), Body(data=CONTENT))
    assert answer.status == 200
    (_, arrived) = sent_to(okta)
    if status == 307:
        assert (arrived.method, answer.received) == ("POST", sha(CONTENT))
    assert okta.tokens_minted == 2


@either_binding
def test_a_redirect_that_is_not_followed_reaches_the_caller(okta: FakeOkta, service: Service, connect: Connect) -> None:
    client = connect(service())
    answer = client.get(redirect(okta, okta.url + USERS), follow=False)
    assert answer.status == 302
    assert sent_to(okta) == []
    assert client.get(okta.url + USERS).status == 200


@either_binding
def test_an_origin_that_is_not_allowed_gets_no_token_and_is_reported_once(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    events = Events()
    client = connect(service(on_event=events))
    for _ in range(3):
        assert client.get(elsewhere.url + USERS).status == 401
    assert [credentials(request) for request in elsewhere.requests] == [[], [], []]
    assert [event.origin for event in events.of(OriginPassedOver)] == [elsewhere.url]
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING and record.name == "okta_m2m"]
    assert len(warnings) == 1
    assert okta.token_requests == 0


@either_binding
def test_the_callers_own_authorization_is_not_changed_and_reported_once(
    okta: FakeOkta, service: Service, connect: Connect
) -> None:
    events = Events()
    client = connect(service(on_event=events))
    for _ in range(2):
        assert client.get(okta.url + USERS, headers={"authorization": "SSWS mine"}).status == 401
    assert [credentials(request) for request in okta.requests] == [["SSWS mine"]] * 2
    assert len(events.of(AuthorizationKept)) == 1
    assert okta.token_requests == 0


@either_binding
def test_our_token_that_was_copied_to_another_origins_call_is_taken_off(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, connect: Connect
) -> None:
    events = Events()
    client = connect(service(on_event=events))
    first = client.headers("GET", okta.url + USERS)
    okta.revoke_all()
    assert client.get(okta.url + USERS).status == 200
    for copied in (first, client.headers("GET", okta.url + USERS)):  # a former token, and the current one
        client.get(elsewhere.url + USERS, headers=copied)
    assert [credentials(request) for request in elsewhere.requests] == [[], []]
    assert [event.origin for event in events.of(OriginPassedOver)] == [elsewhere.url]


@either_binding
def test_a_url_with_userinfo_gets_no_token(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service())
    token = client.token().value
    port = okta.url.rpartition(":")[2]
    for url in (f"http://mallory:x@127.0.0.1:{port}{USERS}", f"http://{okta.url[7:]}@{elsewhere.url[7:]}{USERS}"):
        assert client.get(url).status in (400, 401)
    assert not any(
        token in value for server in (okta, elsewhere) for request in server.requests for value in credentials(request)
    )


@either_binding
def test_an_upper_case_host_is_the_same_origin(
    okta: FakeOkta, new_service: Service, connect: Connect, binding: str
) -> None:
    port = okta.url.rpartition(":")[2]
    client = connect(new_service(okta, dpop_bound=binding == "dpop", org_url=f"http://localhost:{port}"))
    assert client.get(f"http://LOCALHOST:{port}{USERS}").status == 200
    assert client.get(f"HTTP://LocalHost:{port}{USERS}").status == 200
    assert okta.tokens_minted == 1


def test_a_custom_authorization_servers_token_goes_to_the_named_api(
    okta: FakeOkta, front: Front, elsewhere: FakeOkta, service: Service, connect: Connect
) -> None:
    okta.protect("/things", scope="api:read")
    api = front.url + "/things"
    client = connect(service(authorization_server="default", scopes=["api:read"], origins=[front.url]))
    answer = client.get(f"{api}/a%40b/%7Ec d?x=%41")
    assert answer.status == 200
    assert answer.json["scopes"] == ["api:read"]
    okta.revoke_all()
    assert client.post(api, Body(data=CONTENT)).received == sha(CONTENT)
    assert okta.tokens_minted == 2
    client.get(elsewhere.url + USERS)
    assert credentials(elsewhere.requests[-1]) == []


PATHS = [
    "/a%40b.example",
    "/a%20b",
    "/J%C3%BCrgen",
    "/Jürgen",
    "/a%2Fb",
    "/a@b?limit=1&q=%40%20x",
    "/a+b~c!'()*",
    "/%7Ea",
    "?a=b",
    "/100%25",
    "/a;b=c,d",
    "/a/../b",
    "/%22a",
]


@pytest.mark.parametrize("at", ["org", "api"])
@either_binding
def test_every_path_is_accepted(okta: FakeOkta, front: Front, service: Service, connect: Connect, at: str) -> None:
    if at == "org":
        base, client = okta.url + USERS, connect(service())
    else:
        okta.protect("/things")
        base = front.url + "/things"
        client = connect(service(authorization_server="default", scopes=["api:read"], origins=[front.url]))
    for path in PATHS:
        assert (path, client.get(base + path).status) == (path, 200)
        assert (path, client.post(base + path, Body(data=b"body")).status) == (path, 200)
    assert okta.tokens_minted == 1
    assert {refusal.error for refusal in okta.refusals} <= {"use_dpop_nonce"}


@either_binding
def test_a_redirect_from_another_origin_carries_no_token(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, connect: Connect
) -> None:
    client = connect(service())
    assert client.get(okta.url + USERS).status == 200
    assert client.get(redirect(elsewhere, okta.url + USERS)).status in (200, 401)
    assert [credentials(request) for request in elsewhere.requests] == [[]]
    assert client.get(okta.url + USERS).status == 200
    assert okta.tokens_minted == 1
