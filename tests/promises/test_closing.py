"""A service app that is closed hands out no token, and has the one it had revoked where that was asked for."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

import okta_m2m.httpx
from clients import Client
from okta_m2m import ConfigurationError, PrivateKey, ServiceApp
from okta_m2m._core.proofs import DPoPProofs
from okta_m2m.effects import Request, Response
from okta_m2m.requests import OktaAuth
from okta_m2m.testing import FakeOkta


def revocations(okta: FakeOkta) -> int:
    return len([request for request in okta.requests if request.path.endswith("/v1/revoke")])


async def closed(app: ServiceApp, on_a_loop: bool) -> None:
    if on_a_loop:
        async with app:
            pass
    else:
        app.close()


def test_close_revokes_the_token_through_the_client_that_used_the_app(
    okta: FakeOkta, service: Callable[..., ServiceApp], connect: Callable[..., Client], client_type: type[Client]
) -> None:
    app = service(revoke_on_close=True)
    client = connect(app)
    assert client.get(f"{okta.url}/api/v1/users").status == 200
    (token,) = okta.tokens()
    on_a_loop = client_type.asynchronous
    asyncio.run(closed(app, on_a_loop))
    asyncio.run(closed(app, on_a_loop))
    assert (token.revoked, revocations(okta)) == (True, 1)
    with pytest.raises(ConfigurationError, match="is closed"):
        client.get(f"{okta.url}/api/v1/users")
    assert okta.tokens_minted == 1


def test_close_lets_go_of_the_dpop_key(okta: FakeOkta, new_service: Callable[..., ServiceApp]) -> None:
    app = new_service(okta, dpop_bound=True)
    auth = OktaAuth(app)
    token = auth.token()
    assert auth.headers("GET", okta.url)["DPoP"]
    ours = id(app._engine.bindings.proofs())
    app.close()
    gc.collect()
    assert ours not in {id(found) for found in gc.get_objects() if isinstance(found, DPoPProofs)}
    with pytest.raises(ConfigurationError, match="is closed"):  # a call that was waiting to be sent again
        next(app._engine.credentials("GET", okta.url, token))


def test_the_context_manager_closes_and_revokes_only_on_request(
    okta: FakeOkta, new_service: Callable[..., ServiceApp]
) -> None:
    with new_service(okta) as app:
        OktaAuth(app).token()
    assert not okta.tokens()[0].revoked
    with pytest.raises(ConfigurationError, match="is closed"):
        OktaAuth(app).token()
    with new_service(okta, revoke_on_close=True) as unused:
        OktaAuth(unused)
    assert revocations(okta) == 0


def test_a_token_of_a_custom_server_is_revoked_at_that_server(
    okta: FakeOkta, new_service: Callable[..., ServiceApp]
) -> None:
    settings = {"scopes": ["api:read"], "authorization_server": "default", "revoke_on_close": True}
    with new_service(okta, **settings) as app:
        OktaAuth(app).token()
    assert okta.tokens()[0].revoked
    assert [request.path for request in okta.requests][-1] == "/oauth2/default/v1/revoke"


def test_a_token_that_arrives_during_close_is_revoked_too(
    okta: FakeOkta, new_service: Callable[..., ServiceApp]
) -> None:
    app = new_service(okta, revoke_on_close=True)
    auth = OktaAuth(app)
    okta.next(on="token", delay=1)
    fetching = threading.Thread(target=auth.token)
    fetching.start()
    while not okta.token_requests:
        threading.Event().wait(0.005)
    app.close()
    fetching.join()
    assert [token.revoked for token in okta.tokens()] == [True]


@pytest.mark.parametrize("fault", [{"what": 503}, {"drop": True}, {"what": 429}])
def test_a_revocation_that_fails_is_a_warning_and_no_error(
    okta: FakeOkta, new_service: Callable[..., ServiceApp], fault: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "okta_m2m"), new_service(okta, revoke_on_close=True) as app:
        OktaAuth(app).token()
        okta.next(on="/oauth2/v1/revoke", **fault)  # type: ignore[arg-type]  # its options by name
    assert "was not revoked" in caplog.text
    assert not okta.tokens()[0].revoked


@pytest.mark.parametrize("error", [ConnectionResetError("reset by peer"), TimeoutError()])
def test_an_exception_of_the_callers_send_does_not_make_close_fail(
    okta: FakeOkta, new_service: Callable[..., ServiceApp], error: OSError, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "okta_m2m"), new_service(okta, revoke_on_close=True) as app:
        OktaAuth(app).token()

        def send(request: Request, timeout: float) -> Response:
            raise error

        OktaAuth(app, send=send)
    assert "was not revoked: No response from" in caplog.text
    assert type(error).__name__ in caplog.text


def test_an_app_can_be_closed_from_a_thread_or_an_event_loop_whichever_used_it(
    okta: FakeOkta, new_service: Callable[..., ServiceApp], caplog: pytest.LogCaptureFixture
) -> None:
    used_by_threads = new_service(okta, revoke_on_close=True)
    OktaAuth(used_by_threads).token()
    asyncio.run(used_by_threads.aclose())
    used_on_a_loop = new_service(okta, revoke_on_close=True)
    asyncio.run(okta_m2m.httpx.OktaAuth(used_on_a_loop).atoken())
    used_on_a_loop.close()
    assert [token.revoked for token in okta.tokens()] == [True, True]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_revoke_on_close_is_refused_for_a_shared_token(
    okta: FakeOkta, new_service: Callable[..., ServiceApp], tmp_path: Path
) -> None:
    from okta_m2m.stores.file import FileStore

    with pytest.raises(ConfigurationError, match="every process that shares the store"):
        new_service(okta, revoke_on_close=True, store=FileStore(tmp_path))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # that is what is tested
def test_a_forked_child_does_not_revoke_the_token_of_its_parent(
    okta: FakeOkta, new_service: Callable[..., ServiceApp]
) -> None:
    app = new_service(okta, revoke_on_close=True)
    auth = OktaAuth(app)
    auth.token()
    child = os.fork()
    if child == 0:
        app.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert not okta.tokens()[0].revoked
    assert requests.get(f"{okta.url}/api/v1/users", auth=auth, timeout=10).status_code == 200


def test_an_app_and_its_adapter_without_references_are_freed(ec_key: PrivateKey) -> None:
    from weakref import ref

    app = ServiceApp("https://acme.okta.com", client_id="0oa", key=ec_key, scopes=["okta.users.read"])
    OktaAuth(app)
    gone = ref(app)
    del app
    gc.collect()
    assert gone() is None
