"""No frame of a flow shows a secret, whichever of its effects it is left in: an exception may come out of each.

The flows run against a FakeOkta and a real store. The fetch runs in the caller's own frames, as it does where no thread can
be started, so that whatever interrupts it passes through all of them.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from crash_reports import check_report, frames_of
from okta_m2m import OktaM2MError, PrivateKey, ServiceApp, Token
from okta_m2m._base.clocks import SYSTEM_CLOCK, OktaClock
from okta_m2m._core.conversation import Conversation
from okta_m2m._core.flights import Flight
from okta_m2m._core.proofs import ClientAssertions
from okta_m2m._core.revocation import ask_about_token
from okta_m2m.effects import Effect, Flow, Request, Response, Spawn, StartSend, StoreFailed
from okta_m2m.requests import LIBRARY
from okta_m2m.runtimes import Done, Threads, advance, run
from okta_m2m.stores.file import FileStore
from okta_m2m.testing import FakeOkta

USERS = "/api/v1/users"
Service = Callable[..., ServiceApp]


class Interrupted(BaseException):
    """What a signal handler raises."""


class Interrupting:
    """Performs effects, and starts nothing in the background. After the effect of that number it raises."""

    def __init__(self, at: int) -> None:
        self.error_map: Any = {}
        self._performing = Threads(partial(LIBRARY.send, None))
        self._left = at

    def perform(self, effect: Effect[Any]) -> Any:
        if isinstance(effect, Spawn | StartSend):
            return None
        answer = self._performing.perform(effect)
        self._left -= 1
        if self._left == 0:
            del answer
            raise Interrupted
        return answer


def interrupted(flow: Callable[[], Flow[Any]]) -> Iterator[Interrupted]:
    """The flow's exceptions, when it is interrupted in its first effect, its second, and so on."""
    at = 0
    while True:
        at += 1
        try:
            run(flow(), Interrupting(at))
        except Interrupted as error:
            yield error
        else:
            assert at > 1, "it has no effect"
            return


@pytest.fixture(params=["bearer", "dpop"])
def fresh_app(request: pytest.FixtureRequest, okta: FakeOkta, new_service: Service) -> Callable[..., ServiceApp]:
    return partial(new_service, okta, dpop_bound=request.param == "dpop")


@pytest.fixture
def two_keys(rsa_key: PrivateKey, ec_key: PrivateKey) -> list[PrivateKey]:
    return [rsa_key.with_kid("one"), ec_key.with_kid("two")]


def test_an_interrupted_fetch_shows_no_secret(okta: FakeOkta, fresh_app: Service) -> None:
    errors = list(interrupted(lambda: fresh_app().headers("GET", okta.url + USERS)))
    assert any("_ask" in place for error in errors for place, _ in frames_of(error))
    for error in errors:
        check_report(error)


def test_a_fetch_with_a_store_shows_no_secret(
    okta: FakeOkta, fresh_app: Service, tmp_path: Path, two_keys: list[PrivateKey]
) -> None:
    """Two keys are two places in the store; what one held must be forgotten when the other is asked."""
    app = partial(fresh_app, key=two_keys, store=FileStore(tmp_path))
    for error in interrupted(lambda: app().headers("GET", okta.url + USERS)):
        check_report(error)
    # Now there is a token, at the second key's place first.
    before = fresh_app(key=two_keys[::-1], store=FileStore(tmp_path))
    run(before.obtain(), Threads(partial(LIBRARY.send, None)))
    after = ServiceApp(
        okta.url,
        client_id=before.client_id,
        key=two_keys,
        scopes=before.scopes,
        store=FileStore(tmp_path),
    )
    assert after.fleet is not None
    for error in interrupted(lambda: after.fleet.look(two_keys)):  # type: ignore[union-attr]
        check_report(error)


def test_a_store_that_fails_at_the_second_key_shows_no_secret_of_the_first(
    okta: FakeOkta, fresh_app: Service, tmp_path: Path, two_keys: list[PrivateKey]
) -> None:
    """The first place holds a token that is over; the second cannot be read."""

    class Failing(FileStore):
        asked = 0

        def load(self, key: str) -> bytes | None:
            Failing.asked += 1
            if Failing.asked > 1:
                raise OSError("broken")
            return super().load(key)

    app = fresh_app(key=two_keys[::-1], store=FileStore(tmp_path))
    run(app.obtain(), Threads(partial(LIBRARY.send, None)))
    again = ServiceApp(
        okta.url, client_id=app.client_id, key=two_keys[::-1], scopes=app.scopes, store=Failing(tmp_path)
    )
    fleet = again.fleet
    assert fleet is not None
    loading = fleet._load(fleet._places(two_keys[::-1]), lambda token: False)
    with pytest.raises(StoreFailed) as caught:
        run(loading, Threads(partial(LIBRARY.send, None)))
    check_report(caught.value)
    assert any("_load" in place for place, _ in frames_of(caught.value))


REFUSALS: dict[str, dict[str, Any]] = {
    "scopes missing": {"script": {"token": {"scope": "okta.groups.read"}}, "require_all_scopes": True},
    "a Bearer token where a bound one is required": {"script": {"token": {"token_type": "Bearer"}}, "dpop": "required"},
    "a bound token where none was offered": {"script": {"token": {"token_type": "DPoP"}}, "dpop": False},
    "a code": {"script": {"error": "invalid_scope"}},
    "a page": {"script": {"html": True, "status": 200, "times": 9}, "max_wait": 0.5},
    "a redirect": {"script": {"status": 302, "headers": {"Location": "https://evil.example"}}},
    "no token": {"script": {"token": {"access_token": "two words"}, "times": 9}, "max_wait": 0.5},
    "reset": {"script": {"drop": True, "times": 9}, "max_wait": 0.5},
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_an_error_caused_by_the_token_endpoint_shows_no_secret(kind: str, okta: FakeOkta, new_service: Service) -> None:
    arguments = dict(REFUSALS[kind])
    okta.next(**arguments.pop("script"))
    app = new_service(okta, **arguments)
    with pytest.raises(OktaM2MError) as caught:
        run(app.obtain(), Interrupting(0))
    check_report(caught.value)
    # The exception as it is inside of the fetch, where it still has all its frames.
    okta.clear_faults()
    okta.next(**REFUSALS[kind]["script"])
    now = app._engine.endpoint.clock.now()
    inner = Conversation(
        app._engine.endpoint,
        app._engine.grant,
        app.keys,
        Flight(now, 1, None),
        app._engine.bindings.proofs if kind.startswith("a B") else None,
        app._engine.reports,
    )
    with pytest.raises(OktaM2MError) as caught:
        run(inner.run(), Interrupting(0))
    check_report(caught.value)


def test_an_exception_of_the_callers_send_shows_no_secret_and_none_of_our_frames(
    okta: FakeOkta, new_service: Service
) -> None:
    """It comes from the thread of the request, by way of the thread of the fetch."""

    def send(request: Request, timeout: float) -> Response:
        raise LookupError("no such proxy")

    app = new_service(okta)
    with pytest.raises(LookupError, match="no such proxy") as caught:
        run(app.obtain(), Threads(send))
    check_report(caught.value)
    names = [frame.f_code.co_qualname for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert names[-2:] == ["Fetching.fetch_token", send.__qualname__]


@pytest.mark.parametrize("script", [{"drop": True}, {"status": 503}, {"error": "invalid_client"}, {"status": 429}])
def test_revoking_a_token_shows_no_secret(script: dict[str, Any], okta: FakeOkta, new_service: Service) -> None:
    app = new_service(okta, dpop=False)
    token = run(app.obtain(), Interrupting(0))
    url = f"{okta.url}/oauth2/v1/revoke"

    def asking() -> Flow[Response]:
        return ask_about_token(
            url, token, app.keys[0], ClientAssertions(app.client_id, url), OktaClock(SYSTEM_CLOCK), 5
        )

    for error in interrupted(asking):
        check_report(error)
    okta.next(on="/oauth2/v1/revoke", times=3, **script)
    with pytest.raises(OktaM2MError) as caught:
        run(asking(), Interrupting(0))
    check_report(caught.value)


def test_the_repr_of_a_finished_flow_omits_its_result(okta: FakeOkta, new_service: Service) -> None:
    app = new_service(okta, dpop=False)
    token: Token = run(app.obtain(), Interrupting(0))
    end = advance(app.headers("GET", okta.url + USERS), Interrupting(0))
    assert isinstance(end, Done)
    assert token.value not in repr(end)
