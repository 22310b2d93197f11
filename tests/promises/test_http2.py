"""HTTP/2: many calls at once on one connection, each with a good token, whatever happens to the token meanwhile."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from front_of_http2 import Http2, http2_front
from okta_m2m import ServiceApp

USERS = "/api/v1/users"
NewService = Callable[..., ServiceApp]


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def front(
    tmp_path: Path, authority: trustme.CA, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Http2]:
    # At DEBUG hpack writes down every header, whoever uses it; docs/clients/httpx.md says so.
    caplog.set_level(logging.INFO, "hpack")
    with http2_front(tmp_path, authority) as running:
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            monkeypatch.setenv(name, str(running.authority))
        yield running


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_many_calls_on_one_connection_of_httpx_succeed_after_a_revocation(
    front: Http2, new_service: NewService, binding: str, name: str
) -> None:
    library: Any = pytest.importorskip(name)
    adapter: Any = pytest.importorskip(f"okta_m2m.{name}")
    app = new_service(front.okta, dpop_bound=binding == "dpop", org_url=front.url)

    async def main() -> None:
        trusting = ssl.create_default_context(cafile=front.authority)
        async with library.AsyncClient(auth=adapter.OktaAuth(app), http2=True, verify=trusting, timeout=20) as client:
            first = await client.get(front.url + USERS)
            assert (first.status_code, first.http_version) == (200, "HTTP/2")
            front.connections.clear()
            front.okta.revoke_all()
            posts = [client.post(front.url + USERS, content=b"x" * 100_000) for _ in range(10)]
            answers = await asyncio.gather(*posts)
            assert [answer.json()["received"]["length"] for answer in answers] == [100_000] * 10

    asyncio.run(main())
    assert front.okta.tokens_minted == 2
    assert len(front.connections) == 2, "the calls', and that of the one token request"


def test_calls_of_a_multiplexed_niquests_session_succeed_after_a_revocation(
    front: Http2, new_service: NewService, binding: str
) -> None:
    niquests: Any = pytest.importorskip("niquests", reason="has an environment of its own: .ci/niquests_environment")
    from okta_m2m.niquests import OktaAuth

    app = new_service(front.okta, dpop_bound=binding == "dpop", org_url=front.url)
    with niquests.Session(multiplexed=True, disable_http3=True) as session:
        session.auth = OktaAuth(app)
        assert session.get(front.url + USERS).status_code == 200
        front.connections.clear()
        front.versions.clear()
        front.okta.revoke_all()
        promises = [session.post(front.url + USERS, data=b"x" * 100_000) for _ in range(10)]
        assert all(promise.lazy for promise in promises)
        session.gather()
        assert [promise.status_code for promise in promises] == [200] * 10
        assert [promise.json()["received"]["length"] for promise in promises] == [100_000] * 10
    assert set(front.versions) == {"2"}
    assert front.okta.tokens_minted == 2
    assert len(front.connections) == 2, "the calls', and that of the one token request"


def test_calls_of_a_multiplexed_async_niquests_session_succeed_after_a_revocation(
    front: Http2, new_service: NewService, binding: str
) -> None:
    niquests: Any = pytest.importorskip("niquests", reason="has an environment of its own: .ci/niquests_environment")
    from okta_m2m.niquests import AsyncOktaAuth

    app = new_service(front.okta, dpop_bound=binding == "dpop", org_url=front.url)

    async def main() -> None:
        async with niquests.AsyncSession(multiplexed=True, disable_http3=True) as session:
            session.auth = AsyncOktaAuth(app)
            first = await session.get(front.url + USERS)
            await session.gather()
            assert first.status_code == 200
            front.versions.clear()
            front.okta.revoke_all()
            promises = [await session.post(front.url + USERS, data=b"x" * 100_000) for _ in range(10)]
            await session.gather()
            assert [promise.status_code for promise in promises] == [200] * 10
            assert [promise.json()["received"]["length"] for promise in promises] == [100_000] * 10

    asyncio.run(main())
    assert set(front.versions) == {"2"}
    assert front.okta.tokens_minted == 2


def test_a_redirect_in_a_multiplexed_session_carries_no_credentials_to_another_origin(
    front: Http2, new_service: NewService, binding: str, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> None:
    niquests: Any = pytest.importorskip("niquests", reason="has an environment of its own: .ci/niquests_environment")
    from okta_m2m.niquests import OktaAuth

    app = new_service(front.okta, dpop_bound=binding == "dpop", org_url=front.url)
    with http2_front(tmp_path_factory.mktemp("elsewhere"), authority) as elsewhere:
        with niquests.Session(multiplexed=True, disable_http3=True) as session:
            session.auth = OktaAuth(app, session=session)
            within = session.get(f"{front.url}/redirect", params={"to": front.url + USERS})
            beyond = session.get(f"{front.url}/redirect", params={"to": elsewhere.url + USERS})
            session.gather()
            # Nobody can be asked for the second hop's proof there; and a bound token is no good without.
            assert within.status_code == (200 if binding == "bearer" else 401)
            assert beyond.status_code == 401
            for response in (within, beyond, *within.history, *beyond.history):
                response.close()  # niquests keeps the connection of a redirect otherwise
        (arrived,) = elsewhere.okta.requests
        assert arrived.all("authorization") == arrived.all("dpop") == []
    assert front.okta.tokens_minted == 1
