"""Promises about what only one HTTP library has: its retries, its prepared requests, its hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import httpx2
import pytest
import requests.adapters
import stamina
import tenacity
import urllib3

import okta_m2m.httpx
import okta_m2m.httpx2
import okta_m2m.requests
from clients import CLIENTS, Answer, Body, Client
from clients.httpx_alike import BlockingHttpx
from clients.of_httpx import HttpxClient
from clients.of_httpx2 import Httpx2Client
from clients.of_requests import RequestsClient
from clients.of_urllib3 import ADAPTER
from okta_m2m.testing import FakeOkta
from test_conformance import CONTENT, USERS, Service, sha


def test_retries_of_urllib3_beneath_requests_are_healed(okta: FakeOkta, new_service: Service, binding: str) -> None:
    client = RequestsClient(new_service(okta, dpop_bound=binding == "dpop"))
    retry = urllib3.Retry(3, status_forcelist=[503], backoff_factor=0, allowed_methods=None)
    client.session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
    try:
        assert client.get(okta.url + USERS).status == 200
        for _ in range(3):
            okta.next(503, on=USERS)
            answer = client.post(okta.url + USERS, Body(data=CONTENT))
            assert answer.status == 200
            assert answer.received == sha(CONTENT)
    finally:
        client.close()
    assert okta.tokens_minted == 1


@pytest.mark.parametrize("alike", [HttpxClient, Httpx2Client])
def test_retries_of_an_httpx_transport_are_healed(
    okta: FakeOkta, new_service: Service, binding: str, alike: type[BlockingHttpx]
) -> None:
    # httpx's own retries concern connections only; so this one is a transport that sends again.
    class Again(alike.library.HTTPTransport):  # type: ignore[name-defined]  # the library is a parameter
        def handle_request(self, request: Any) -> Any:
            response = super().handle_request(request)
            if response.status_code == 503:
                response.close()
                response = super().handle_request(request)
            return response

    client = alike(new_service(okta, dpop_bound=binding == "dpop"))
    client.client._transport = Again()
    client.client._mounts = {}
    try:
        assert client.get(okta.url + USERS).status == 200
        okta.next(503, on=USERS)
        assert client.post(okta.url + USERS, Body(data=CONTENT)).received == sha(CONTENT)
    finally:
        client.close()
    assert okta.tokens_minted == 1


def test_a_prepared_request_of_requests_may_be_sent_again_and_late(
    okta: FakeOkta, new_service: Service, binding: str
) -> None:
    client = RequestsClient(new_service(okta, dpop_bound=binding == "dpop"))
    try:
        prepared = client.session.prepare_request(requests.Request("POST", okta.url + USERS, data=CONTENT))
        for _ in range(2):
            assert client.session.send(prepared, timeout=20).status_code == 200
        okta.revoke_all()
        for _ in range(2):
            assert client.session.send(prepared, timeout=20).status_code == 200
    finally:
        client.close()
    assert okta.tokens_minted == 2


def test_auth_may_be_given_to_one_call_alone(okta: FakeOkta, new_service: Service, binding: str) -> None:
    app = new_service(okta, dpop_bound=binding == "dpop")
    adapters: dict[Any, Any] = {requests: okta_m2m.requests, httpx: okta_m2m.httpx, httpx2: okta_m2m.httpx2}
    for library, adapter in adapters.items():
        assert library.get(okta.url + USERS, auth=adapter.OktaAuth(app), timeout=20).status_code == 200
        assert library.get(okta.url + USERS, timeout=20).status_code == 401
    assert okta.tokens_minted == 1


def test_hooks_of_requests_that_raise_see_only_the_healed_answer(
    okta: FakeOkta, new_service: Service, binding: str
) -> None:
    client = RequestsClient(new_service(okta, dpop_bound=binding == "dpop"))
    client.session.hooks["response"].append(lambda response, **_: response.raise_for_status())
    try:
        okta.next(401, on=USERS)
        assert client.get(okta.url + USERS).status == 200
    finally:
        client.close()


def with_stamina(unreachable: type[Exception], call: Callable[[], Answer]) -> Callable[[], Answer]:
    return stamina.retry(on=unreachable, attempts=3, wait_initial=0, wait_max=0, wait_jitter=0)(call)


def with_tenacity(unreachable: type[Exception], call: Callable[[], Answer]) -> Callable[[], Answer]:
    kind = tenacity.retry_if_exception_type(unreachable)
    return tenacity.retry(retry=kind, stop=tenacity.stop_after_attempt(3), reraise=True)(call)


@pytest.mark.parametrize("retrying", [with_stamina, with_tenacity])
@pytest.mark.parametrize("name", ["requests", "httpx", "httpx2", "aiohttp"])
def test_callers_retries_try_what_is_unreachable_again_and_no_refusal(
    okta: FakeOkta, new_service: Service, name: str, retrying: Callable[..., Callable[[], Answer]]
) -> None:
    tries: list[None] = []

    def outcome(client: Client) -> object:
        def call() -> Answer:
            tries.append(None)
            return client.get(okta.url + USERS)

        tries.clear()
        try:
            return retrying(client.unreachable, call)().status
        except Exception as error:
            return type(error).__name__
        finally:
            client.close()

    okta.next("access_denied")
    assert (outcome(CLIENTS[name](new_service(okta))), len(tries)) == ("AccessDenied", 1)
    okta.next(503, times=1000)
    assert (outcome(CLIENTS[name](new_service(okta, max_wait=0.1))), len(tries)) == ("TokenUnreachable", 3)
    okta.clear_faults()
    assert (outcome(CLIENTS[name](new_service(okta))), len(tries)) == (200, 1)


def test_retries_of_urllib3_beneath_requests_try_no_refusal_again(okta: FakeOkta, new_service: Service) -> None:
    client = RequestsClient(new_service(okta))
    client.session.mount("http://", requests.adapters.HTTPAdapter(max_retries=urllib3.Retry(3, allowed_methods=None)))
    try:
        okta.next("access_denied", times=10)
        with pytest.raises(requests.RequestException):
            client.get(okta.url + USERS)
    finally:
        client.close()
    assert okta.token_requests == 1


def test_an_adapter_of_ones_own_takes_less_than_sixty_lines() -> None:
    assert len(ADAPTER.splitlines()) < 60
