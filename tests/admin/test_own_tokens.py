"""Which ``Authorization`` is ours: only such a one is judged, taken away, and replaced by another of ours."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import httpx
import pytest
import requests

import okta_m2m.aiohttp
import okta_m2m.httpx
import okta_m2m.requests
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m._base.clocks import Clock
from okta_m2m.events import AuthorizationKept
from okta_m2m.stores.file import FileStore
from okta_m2m.testing import FakeOkta, ReceivedRequest

USERS = "/api/v1/users"


@pytest.fixture(params=[False, True], ids=["bearer", "dpop"])
def bound(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def told() -> list[object]:
    return []


class Hours:
    """A clock that is put forward together with the org's."""

    def __init__(self, okta: FakeOkta) -> None:
        self._okta = okta
        self._forward = 0.0

    def later(self, seconds: float) -> None:
        self._forward += seconds
        self._okta.skew(seconds=self._forward)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: time.monotonic() + self._forward, lambda: time.time() + self._forward)


@pytest.fixture
def hours(okta: FakeOkta) -> Hours:
    return Hours(okta)


@pytest.fixture
def app(okta: FakeOkta, ec_key: PrivateKey, bound: bool, told: list[object], hours: Hours) -> ServiceApp:
    registered = okta.add_app(ec_key, dpop_bound=bound)
    return ServiceApp(
        okta.url,
        client_id=registered.client_id,
        key=ec_key,
        scopes=["okta.users.read"],
        on_event=told.append,
        clock=hours.clock,
    )


# ── at the end of a redirect ─────────────────────────────────────────────────────────────────────────────────────────


def credentials(received: list[ReceivedRequest]) -> list[str]:
    return [value for request in received for value in (*request.all("authorization"), *request.all("dpop"))]


@pytest.fixture
def led_away(okta: FakeOkta, elsewhere: FakeOkta) -> str:
    """A URL of the org that leads to another host, which refuses what it is sent."""
    elsewhere.next(401, on=USERS, headers={"WWW-Authenticate": "Bearer"}, times=5)
    there = elsewhere.url.replace("127.0.0.1", "localhost") + USERS
    return f"{okta.url}/redirect?{urlencode({'to': there, 'status': 302})}"


def test_a_netrc_sign_in_that_another_host_refuses_is_not_replaced_by_our_token(
    elsewhere: FakeOkta, app: ServiceApp, led_away: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login u password p\n", encoding="ascii")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with requests.Session() as session:
        session.auth = okta_m2m.requests.OktaAuth(app)
        assert session.get(led_away).status_code == 401
    assert credentials(elsewhere.requests) == ["Basic dTpw"]


def test_a_header_that_an_event_hook_sets_for_another_host_is_not_replaced_by_our_token(
    elsewhere: FakeOkta, app: ServiceApp, led_away: str
) -> None:
    def sign(request: httpx.Request) -> None:
        if request.url.host == "localhost":
            request.headers["Authorization"] = "Bearer of-their-own"

    with httpx.Client(
        auth=okta_m2m.httpx.OktaAuth(app), follow_redirects=True, event_hooks={"request": [sign]}
    ) as client:
        assert client.get(led_away).status_code == 401
    assert credentials(elsewhere.requests) == ["Bearer of-their-own"]


def test_a_header_that_an_event_hook_sets_for_the_org_is_not_replaced_by_our_token(
    okta: FakeOkta, app: ServiceApp
) -> None:
    def sign(request: httpx.Request) -> None:
        request.headers["Authorization"] = "Bearer of-their-own"

    with httpx.Client(auth=okta_m2m.httpx.OktaAuth(app), event_hooks={"request": [sign]}) as client:
        assert client.get(okta.url + USERS).status_code == 401
    assert credentials([request for request in okta.requests if request.path == USERS]) == ["Bearer of-their-own"]


# ── in the token request ─────────────────────────────────────────────────────────────────────────────────────────────


def test_cookies_of_the_token_endpoint_are_not_stored_in_a_client_that_is_passed(
    okta: FakeOkta, app: ServiceApp
) -> None:
    okta.next(503, headers={"Set-Cookie": "sid=; Max-Age=0; Path=/"})
    okta.next(503, headers={"Set-Cookie": "JSESSIONID=1; Path=/"})
    with httpx.Client(cookies={"sid": "the caller's"}) as client:
        client.auth = okta_m2m.httpx.OktaAuth(app, client=client)
        assert client.get(okta.url + USERS).status_code == 200
        assert dict(client.cookies) == {"sid": "the caller's"}

    async def main() -> None:
        with httpx.Client(cookies={"sid": "the lent one's"}) as lent:
            async with httpx.AsyncClient(cookies={"sid": "the caller's"}) as client:
                okta.revoke_all()
                okta.next(503, headers={"Set-Cookie": "JSESSIONID=1; Path=/"})
                client.auth = okta_m2m.httpx.OktaAuth(app, client=lent)
                assert (await client.get(okta.url + USERS)).status_code == 200
                assert dict(client.cookies) == {"sid": "the caller's"}
            assert dict(lent.cookies) == {"sid": "the lent one's"}

    asyncio.run(main())
    assert okta.tokens_minted == 2


class House(requests.Session):
    """As in many a code base: it lets go of all that it has when it is collected."""

    __slots__ = ("team",)
    closings: list[bool]

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        self.closings.append(True)
        super().close()

    def merge_environment_settings(self, *arguments: Any) -> Any:
        assert self.team == "billing"
        return super().merge_environment_settings(*arguments)


def test_a_session_that_is_passed_is_not_closed_by_its_use(okta: FakeOkta, app: ServiceApp) -> None:
    session = House()
    session.team, session.closings = "billing", []
    session.auth = okta_m2m.requests.OktaAuth(app, session=session)
    assert session.get(okta.url + USERS).status_code == 200
    gc.collect()
    assert session.closings == []


# ── on a request that is sent again much later ───────────────────────────────────────────────────────────────────────


def four_times(send: Callable[[Any], Any], request: Any, between: Callable[[], None]) -> list[int]:
    statuses = [send(request).status_code]
    for _ in range(3):
        between()
        statuses.append(send(request).status_code)
    return statuses


def by_requests(app: ServiceApp, url: str, between: Callable[[], None]) -> list[int]:
    with requests.Session() as session:
        request = session.prepare_request(requests.Request("GET", url, auth=okta_m2m.requests.OktaAuth(app)))
        return four_times(session.send, request, between)


def by_httpx(app: ServiceApp, url: str, between: Callable[[], None]) -> list[int]:
    with httpx.Client(auth=okta_m2m.httpx.OktaAuth(app)) as client:
        return four_times(client.send, client.build_request("GET", url), between)


def by_aiohttp(app: ServiceApp, url: str, between: Callable[[], None]) -> list[int]:
    statuses = []

    async def again(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """A retrying middleware in front of ours, that takes its time."""
        for _ in range(3):
            response = await handler(request)
            statuses.append(response.status)
            response.release()
            between()
        return await handler(request)

    async def main() -> list[int]:
        async with (
            aiohttp.ClientSession(middlewares=[again, okta_m2m.aiohttp.OktaAuth(app)]) as session,
            session.get(url) as response,
        ):
            return [*statuses, response.status]

    return asyncio.run(main())


@pytest.mark.parametrize("send", [by_requests, by_httpx, by_aiohttp])
def test_our_expired_token_on_a_request_is_replaced_after_any_number_of_renewals(
    okta: FakeOkta,
    app: ServiceApp,
    told: list[object],
    hours: Hours,
    send: Callable[[ServiceApp, str, Callable[[], None]], list[int]],
) -> None:
    others = okta_m2m.requests.OktaAuth(app)

    def between() -> None:
        for _ in range(2):  # two renewals by other callers of the same app, before this request goes out again
            hours.later(okta.token_lifetime + 1)
            assert requests.get(okta.url + USERS, auth=others).status_code == 200

    assert send(app, okta.url + USERS, between) == [200, 200, 200, 200]
    assert not any(isinstance(event, AuthorizationKept) for event in told)


def test_our_revoked_token_on_a_request_is_replaced(okta: FakeOkta, app: ServiceApp, told: list[object]) -> None:
    with httpx.Client(auth=okta_m2m.httpx.OktaAuth(app)) as client:
        request = client.build_request("GET", okta.url + USERS)
        assert client.send(request).status_code == 200
        okta.revoke_all()
        assert client.get(okta.url + USERS).status_code == 200
        assert client.send(request).status_code == 200
    assert okta.tokens_minted == 2
    assert not any(isinstance(event, AuthorizationKept) for event in told)


# ── a proof of a process that has never asked Okta for a token ───────────────────────────────────────────────────────


@pytest.mark.parametrize("wrong", [60, -400], ids=["fast", "slow"])
def test_a_refused_proof_corrects_a_wrong_clock(
    okta: FakeOkta, ec_key: PrivateKey, tmp_path: Path, wrong: float
) -> None:
    client_id = okta.add_app(ec_key, dpop_bound=True).client_id

    def run_of_a_job() -> list[int]:
        app = ServiceApp(
            okta.url,
            client_id=client_id,
            key=ec_key,
            scopes=["okta.users.read"],
            store=FileStore(tmp_path / "tokens"),
            clock=Clock(wall=lambda: time.time() + wrong),
        )
        auth = okta_m2m.requests.OktaAuth(app)
        return [requests.get(okta.url + USERS, auth=auth).status_code for _ in range(3)]

    assert run_of_a_job() == [200, 200, 200]
    assert run_of_a_job() == [200, 200, 200]
    assert okta.tokens_minted == 1
    refused = [refusal.error for refusal in okta.refusals]
    assert refused.count("invalid_dpop_proof") == 1, "once, and then the time is known"


def test_the_date_of_a_cached_response_does_not_correct_the_clock(
    okta: FakeOkta, ec_key: PrivateKey, tmp_path: Path
) -> None:
    client_id = okta.add_app(ec_key, dpop_bound=True).client_id

    def app(wrong: float) -> ServiceApp:
        return ServiceApp(
            okta.url,
            client_id=client_id,
            key=ec_key,
            scopes=["okta.users.read"],
            store=FileStore(tmp_path / "tokens"),
            clock=Clock(wall=lambda: time.time() + wrong),
        )

    assert requests.get(okta.url + USERS, auth=okta_m2m.requests.OktaAuth(app(0))).status_code == 200
    stale = {
        "WWW-Authenticate": 'DPoP error="invalid_dpop_proof"',
        "Date": "Mon, 01 Jan 2024 00:00:00 GMT",
        "Age": "60",
    }
    okta.next(400, on=USERS, headers=stale)
    auth = okta_m2m.requests.OktaAuth(app(0))
    assert requests.get(okta.url + USERS, auth=auth).status_code == 200


# ── a URL that is not yet as it is sent ──────────────────────────────────────────────────────────────────────────────


def test_a_proof_for_a_url_with_spaces_is_for_the_encoded_url(okta: FakeOkta, app: ServiceApp, bound: bool) -> None:
    auth = okta_m2m.requests.OktaAuth(app)
    for url in (f'{okta.url}{USERS}?search=profile.login eq "ada"', f"{okta.url}{USERS}/ada lovelace"):
        assert requests.get(url, headers=auth.headers("GET", url)).status_code in (200, 404)
        ready = app.ready("GET", url)
        assert ready is not None
        headers = {"Authorization": ready.authorization, **({"DPoP": ready.proof} if ready.proof else {})}
        assert requests.get(url, headers=headers).status_code in (200, 404)
    assert [refusal for refusal in okta.refusals if refusal.error != "use_dpop_nonce"] == []
