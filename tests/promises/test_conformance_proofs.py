"""With every client, DPoP: each call has a proof, with the nonce that the server asked for."""

from __future__ import annotations

import pytest

from bench import decoded
from clients import Body
from front import Front
from okta_m2m.errors import InvalidDPoPProof
from okta_m2m.testing import FakeOkta
from promises import CONTENT, USERS, Connect, Rounds, Service, proofs_of, redirect, sent_to, sha, statuses


def test_nonces_that_change_during_calls_fail_no_call(okta: FakeOkta, new_service: Service, connect: Connect) -> None:
    okta.resource_nonce = True
    client = connect(new_service(okta, dpop_bound=True))
    rotations: list[None] = []

    def rotate() -> None:
        okta.rotate_nonces()
        rotations.append(None)

    assert client.get(okta.url + USERS).status == 200
    outcomes = client.keep_calling(4, Rounds(4, rotate, lambda: len(rotations) > 2), "GET", okta.url + USERS)
    assert statuses(outcomes) == {200}
    assert okta.tokens_minted == 1
    proofs = proofs_of(okta)
    assert len(proofs) == len(set(proofs))
    assert len(rotations) > 2
    assert {refusal.error for refusal in okta.refusals} == {"use_dpop_nonce"}


def test_a_nonce_that_comes_with_a_good_response_is_in_the_next_proof(
    okta: FakeOkta, new_service: Service, connect: Connect
) -> None:
    client = connect(new_service(okta, dpop_bound=True))
    okta.next(on=USERS, headers={"DPoP-Nonce": "nonce-1"})
    assert client.get(okta.url + USERS).status == 200
    assert client.get(okta.url + USERS).status == 200
    first, second = [decoded(request.all("dpop")[0])[1] for request in sent_to(okta)]
    assert "nonce" not in first
    assert second["nonce"] == "nonce-1"


@pytest.mark.parametrize("status", [400, 401])
def test_a_call_is_sent_once_more_with_the_nonce_that_the_api_requested(
    okta: FakeOkta, new_service: Service, connect: Connect, status: int
) -> None:
    okta.resource_nonce = status  # type: ignore[assignment]
    client = connect(new_service(okta, dpop_bound=True))
    assert client.post(okta.url + USERS, Body(data=CONTENT)).received == sha(CONTENT)
    assert len(sent_to(okta)) == 2
    assert client.post(okta.url + USERS, Body(data=CONTENT)).received == sha(CONTENT)
    assert len(sent_to(okta)) == 3
    okta.next("use_dpop_nonce", on=USERS, times=10)
    assert client.get(okta.url + USERS).status in (400, 401)
    assert len(sent_to(okta)) == 5
    assert okta.tokens_minted == 1


def test_an_api_of_a_custom_server_may_request_a_nonce(
    okta: FakeOkta, front: Front, new_service: Service, connect: Connect
) -> None:
    okta.resource_nonce = True
    okta.protect("/things", scope="api:read")
    api = front.url + "/things"
    client = connect(
        new_service(okta, dpop_bound=True, authorization_server="default", scopes=["api:read"], origins=[front.url])
    )
    assert client.post(f"{api}/a%40b", Body(data=CONTENT)).received == sha(CONTENT)
    okta.rotate_nonces()
    okta.revoke_all()
    assert client.post(f"{api}/%7Eb", Body(data=CONTENT)).received == sha(CONTENT)


def test_a_nonce_may_be_requested_after_a_redirect(okta: FakeOkta, new_service: Service, connect: Connect) -> None:
    client = connect(new_service(okta, dpop_bound=True))
    assert client.get(okta.url + USERS).status == 200
    okta.resource_nonce = True
    assert client.get(redirect(okta, redirect(okta, okta.url + USERS))).status == 200
    okta.rotate_nonces()
    answer = client.call("POST", redirect(okta, okta.url + USERS, 307), Body(data=CONTENT))
    assert answer.received == sha(CONTENT)


def test_with_dpop_off_the_error_says_how_to_use_an_app_that_requires_it(
    okta: FakeOkta, new_service: Service, connect: Connect
) -> None:
    client = connect(new_service(okta, dpop_bound=True, dpop=False))
    with pytest.raises(InvalidDPoPProof, match="keep dpop at its default"):
        client.get(okta.url + USERS)
    assert okta.token_requests == 1


def test_with_dpop_required_a_bearer_token_is_refused(okta: FakeOkta, new_service: Service, connect: Connect) -> None:
    client = connect(new_service(okta, dpop="required"))
    with pytest.raises(InvalidDPoPProof, match="Proof of Possession"):
        client.get(okta.url + USERS)
    assert okta.api_calls == 0


def test_with_dpop_off_no_proof_is_sent(okta: FakeOkta, new_service: Service, connect: Connect) -> None:
    client = connect(new_service(okta, dpop=False))
    assert client.get(okta.url + USERS).status == 200
    assert proofs_of(okta) == []


def test_a_refused_proof_is_replaced(okta: FakeOkta, new_service: Service, connect: Connect) -> None:
    client = connect(new_service(okta, dpop_bound=True))
    assert client.get(okta.url + USERS).status == 200
    okta.next("dpop_proof_already_used", on=USERS)
    assert client.get(okta.url + USERS).status == 200
    assert okta.tokens_minted == 1
