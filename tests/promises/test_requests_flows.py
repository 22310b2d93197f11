"""Promises about what requests and niquests have in common: header values of bytes, adapters of one's own, prepared requests.

Each test is made with the one of the two that is there: niquests has an environment of its own
(``.ci/niquests_environment``), in which requests is not.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import trustme

from front_of_http2 import Http2, http2_front
from okta_m2m import ServiceApp
from okta_m2m.testing import FakeOkta
from promises import USERS, check_after_hidden_401, redirect
from services import answering

NAME = "niquests" if find_spec("niquests") else "requests"
library: Any = importlib.import_module(NAME)
adapters: Any = importlib.import_module(f"{NAME}.adapters")
okta_auth: Any = importlib.import_module(f"okta_m2m.{NAME}").OktaAuth

niquests_alone = pytest.mark.skipif(
    NAME != "niquests", reason="has an environment of its own: .ci/niquests_environment"
)
NewService = Callable[..., ServiceApp]


@pytest.fixture
def app(okta: FakeOkta, new_service: NewService, binding: str) -> ServiceApp:
    return new_service(okta, dpop_bound=binding == "dpop")


@pytest.fixture
def session(app: ServiceApp) -> Iterator[Any]:
    with library.Session() as session:
        session.auth = okta_auth(app)
        yield session


def schemes(okta: FakeOkta, path: str) -> list[list[str]]:
    """The schemes of the credentials of each request for that path."""
    return [
        [value.split(" ")[0] for value in request.all("authorization")]
        for request in okta.requests
        if request.path == path
    ]


# ── what the libraries take, and give ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("binding", ["dpop"])
def test_a_proof_is_not_redirected_without_its_token(okta: FakeOkta, app: ServiceApp) -> None:
    """A session of the caller's may drop Authorization, also within the origin."""

    class Session(library.Session):  # type: ignore[misc]  # Any
        def rebuild_auth(self, prepared_request: Any, response: Any) -> None:
            prepared_request.headers.pop("Authorization", None)

    with Session() as session:
        session.auth = okta_auth(app)
        assert session.get(redirect(okta, redirect(okta, okta.url + USERS))).status_code == 401
    calls = [request for request in okta.requests if request.path in ("/redirect", USERS)]
    sent = [(len(request.all("authorization")), len(request.all("dpop"))) for request in calls]
    assert sent == [(1, 1), (0, 1), (0, 0)]


def test_an_authorization_header_of_bytes_is_the_callers_own(okta: FakeOkta, session: Any) -> None:
    own = b"Basic " + base64.b64encode("ada:gr\xfcn".encode())
    for _ in range(2):
        assert session.get(okta.url + USERS, headers={"Authorization": own}).status_code == 401
        assert session.get(okta.url + USERS).status_code == 200
    assert schemes(okta, USERS)[0] == ["Basic"]
    assert okta.tokens_minted == 1


@pytest.mark.parametrize("own", ["Basic eDp5", b"Basic eDp5"])
def test_an_authorization_set_on_a_prepared_request_is_the_callers_own(
    okta: FakeOkta, session: Any, own: str | bytes
) -> None:
    prepared = session.prepare_request(library.Request("GET", okta.url + USERS))
    prepared.headers["Authorization"] = own
    assert session.send(prepared).status_code == 401
    assert schemes(okta, USERS) == [["Basic"]]


def test_a_subclass_that_only_overrides_call_signs_requests(okta: FakeOkta, app: ServiceApp) -> None:
    class Tracing(okta_auth):  # type: ignore[misc]  # the library is one of two
        def __call__(self, request: Any) -> Any:
            request.headers["X-Trace"] = f"to {request.url}"
            return super().__call__(request)

    class Beside:
        def __call__(self, request: Any) -> Any:
            request.headers["X-Beside"] = f"to {request.url}"
            return super().__call__(request)  # type: ignore[misc]  # the auth class's

    class Both(Beside, Tracing):
        """Has what it is called with from elsewhere, too."""

    with library.Session() as session:
        session.auth = Both(app)
        for _ in range(2):
            assert session.get(okta.url + USERS).status_code == 200
            okta.revoke_all()
    assert okta.tokens_minted == 2, "the second call was healed after its 401"
    sent = [request for request in okta.requests if request.path == USERS]
    assert {request.header("x-trace") for request in sent} == {f"to {okta.url}{USERS}"}
    assert {request.header("x-beside") for request in sent} == {f"to {okta.url}{USERS}"}


class Canned(adapters.BaseAdapter):  # type: ignore[misc]  # the library is one of two
    """Answers by itself, as adapters for files and for tests do."""

    def __init__(self, status: int, make: Callable[[Any], None]) -> None:
        super().__init__()
        self.status, self.make, self.sent = status, make, 0

    def send(self, request: Any, *_: Any, **__: Any) -> Any:
        self.sent += 1
        response = library.Response()
        response.status_code, response.url, response.request = self.status, request.url, request
        if NAME == "niquests":  # which looks there for cookies
            response.raw = io.BytesIO()
        self.make(response)
        return response

    def close(self) -> None:
        """There is nothing to close."""


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("asynchronous", [False, *([True] if NAME == "niquests" else [])])
def test_a_redirect_from_http_to_https_carries_no_credentials(
    okta: FakeOkta, new_service: NewService, binding: str, scheme: str, asynchronous: bool
) -> None:
    """It is another origin, even if host and ports are those that the library treats as the same."""
    sent: list[Any] = []

    def lead(response: Any) -> None:
        sent.append(response.request)
        if response.url.endswith("/from"):
            response.status_code = 307
            response.headers["Location"] = f"{scheme}://localhost/to"

    canned = Canned(200, lead)
    app = new_service(okta, dpop_bound=binding == "dpop", origins=["http://localhost"])

    async def main() -> int:
        class CannedAsync(adapters.AsyncBaseAdapter):  # type: ignore[misc]  # the library is one of two
            async def send(self, request: Any, *_: Any, **__: Any) -> Any:
                answer = canned.send(request)
                response = library.AsyncResponse()
                vars(response).update(vars(answer))
                response._content = b""
                return response

            async def close(self) -> None:
                """There is nothing to close."""

        async with library.AsyncSession() as session:
            session.auth = importlib.import_module("okta_m2m.niquests").AsyncOktaAuth(app)
            session.mount("http://localhost", CannedAsync())
            session.mount("https://localhost", CannedAsync())
            return int((await session.get("http://localhost/from")).status_code)

    if asynchronous:
        assert asyncio.run(main()) == 200
    else:
        with library.Session() as session:
            session.auth = okta_auth(app)
            session.mount("http://localhost", canned)
            session.mount("https://localhost", canned)
            assert session.get("http://localhost/from").status_code == 200
    assert [request.url for request in sent] == ["http://localhost/from", f"{scheme}://localhost/to"]
    for name in ("Authorization", *(["DPoP"] if binding == "dpop" else [])):
        assert [name in request.headers for request in sent] == [True, scheme == "http"]


BODY = json.dumps(
    {"errorCode": "E0000015", "errorSummary": "You do not have permission to access the feature"}
).encode()


def without_a_connection(response: Any) -> None:
    response._content = BODY


def a_file(response: Any) -> None:
    response.raw = io.BytesIO(BODY)


def nothing_at_all(response: Any) -> None:
    """Neither a body nor a request."""
    response.request = None


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [200, 401])
@pytest.mark.parametrize("make", [without_a_connection, a_file, nothing_at_all])
def test_a_response_that_a_transport_adapter_made_reaches_the_caller(
    okta: FakeOkta, session: Any, status: int, make: Callable[[Any], None], stream: bool
) -> None:
    session.mount(okta.url + USERS, Canned(status, make))
    response = session.get(okta.url + USERS, stream=stream)
    assert response.status_code == status
    assert (response.content or b"") == (b"" if make is nothing_at_all else BODY)


@pytest.mark.parametrize("make", [without_a_connection, a_file, nothing_at_all])
def test_a_response_that_a_transport_adapter_made_is_released(
    okta: FakeOkta, new_service: NewService, make: Callable[[Any], None]
) -> None:
    app = new_service(okta, origins=["https://api.acme.example"])
    with library.Session() as session:
        session.auth = okta_auth(app)

        def connected(response: Any) -> None:
            make(response)
            response.connection = canned

        canned = Canned(401, connected)
        session.mount("https://api.acme.example", canned)
        assert session.get("https://api.acme.example/orders").status_code == 401
    assert canned.sent == (1 if make is nothing_at_all else 2)


def test_a_body_that_the_redirect_dropped_is_not_rewound(okta: FakeOkta, session: Any, tmp_path: Path) -> None:
    assert session.get(okta.url + USERS).status_code == 200
    (tmp_path / "upload").write_bytes(b"a body")
    okta.next(401, on=USERS)
    with (tmp_path / "upload").open("rb") as file:
        response = session.post(redirect(okta, okta.url + USERS, 303), data=file)
    assert (response.status_code, response.request.method) == (200, "GET")
    assert okta.tokens_minted == 2


class OnlyTellAndSeek:
    """A body that has no ``seekable``, which requests does not ask for."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)
        self.len = len(content)
        self.read, self.tell, self.seek = self._file.read, self._file.tell, self._file.seek

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._file)


def test_a_body_with_tell_and_seek_is_sent_again_from_its_position(okta: FakeOkta, session: Any) -> None:
    okta.next(401, on=USERS)
    body: Any = OnlyTellAndSeek(b"a body")
    assert session.post(okta.url + USERS, data=body).json()["received"]["length"] == len(b"a body")


def by_lines(raw: Any) -> bytes:
    return b"".join(raw)


def by_line(raw: Any) -> bytes:
    return raw.readline(3) + raw.readline() + raw.read()


def by_readinto(raw: Any) -> bytes:
    buffer, content = bytearray(7), b""
    while length := raw.readinto(buffer):
        content += buffer[:length]
    return content


def by_parts(raw: Any) -> bytes:
    return raw.read(3) + raw.read(0) + b"".join(raw.stream(5))


def by_a_buffer(raw: Any) -> bytes:
    return io.BufferedReader(raw).read()


def by_with(raw: Any) -> bytes:
    with raw as entered:
        content = entered.read(4) + entered.read()
    assert raw.closed
    return content


@pytest.mark.parametrize("length", [20, 4096, 10_000])
@pytest.mark.parametrize(
    "way",
    [by_lines, by_line, by_readinto, by_parts, by_a_buffer, by_with, lambda raw: raw.read(), lambda raw: raw.data],
)
def test_a_response_whose_start_was_read_can_be_read_whole_in_any_way(
    okta: FakeOkta, new_service: NewService, way: Callable[[Any], bytes], length: int
) -> None:
    body = b'{"errorCode": "E0000015",\n"pad": "' + b"x" * length + b'"}\n'
    okta.server.expect_request("/feature").respond_with_data(body, status=401, content_type="application/json")
    with library.Session() as session:
        session.auth = okta_auth(new_service(okta))
        with session.get(okta.url + "/feature", stream=True) as response:
            assert way(response.raw) == body


# ── a prepared request is the caller's ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("follow", [False, True])
def test_a_prepared_request_keeps_its_token_after_a_redirect_to_another_origin(
    okta: FakeOkta, elsewhere: FakeOkta, session: Any, follow: bool
) -> None:
    prepared = session.prepare_request(library.Request("GET", redirect(okta, elsewhere.url + USERS)))
    sent: list[Any] = []
    for _ in range(2):
        response = session.send(prepared, allow_redirects=follow)
        assert response.status_code == (401 if follow else 302)
        sent.append(response.history[0].request if follow else response.request)
    okta.revoke_all()
    assert session.send(prepared, allow_redirects=follow).status_code == (401 if follow else 302)
    assert all(schemes(okta, "/redirect")), "none of them went out bare"
    assert all("Authorization" in request.headers for request in sent), "and none is said to have done so"
    for request in elsewhere.requests:
        assert not request.all("authorization")
        assert not request.all("dpop")


def test_response_next_has_no_credentials_for_another_origin(okta: FakeOkta, elsewhere: FakeOkta, session: Any) -> None:
    response = session.get(redirect(okta, elsewhere.url + USERS), allow_redirects=False)
    assert not {"Authorization", "DPoP"} & set(response.next.headers)
    assert session.send(response.next).status_code == 401


def test_response_next_has_a_proof_of_its_own(okta: FakeOkta, session: Any) -> None:
    response = session.get(redirect(okta, okta.url + USERS), allow_redirects=False)
    assert session.send(response.next).status_code == 200
    assert okta.api_calls == 2, "none had to be healed"


def test_a_prepared_request_that_is_signed_again_has_the_current_token(okta: FakeOkta, session: Any) -> None:
    prepared = session.prepare_request(library.Request("GET", okta.url + USERS))
    okta.revoke_all()
    assert session.get(okta.url + USERS).status_code == 200
    calls = okta.api_calls
    assert session.send(session.auth(prepared)).status_code == 200
    assert okta.api_calls == calls + 1, "it had not to be healed"


def test_a_prepared_request_is_as_it_was_when_its_call_is_over(
    okta: FakeOkta, elsewhere: FakeOkta, session: Any, binding: str
) -> None:
    for url in (okta.url + USERS, redirect(okta, okta.url + USERS), redirect(okta, elsewhere.url + USERS)):
        prepared = session.prepare_request(library.Request("GET", url))
        names = {*prepared.headers, "Cookie"}
        session.send(prepared)
        assert {*prepared.headers, "Cookie"} == names
        assert prepared.url == url
        copied = prepared.copy()
        assert copied.headers["Authorization"] == prepared.headers["Authorization"]
        assert ("DPoP" in copied.headers) is (binding == "dpop")


def test_copies_of_a_prepared_request_have_a_token_for_their_origin_only(
    okta: FakeOkta, elsewhere: FakeOkta, session: Any
) -> None:
    for url in (okta.url + USERS, redirect(okta, elsewhere.url + USERS)):
        template = session.prepare_request(library.Request("GET", url))
        for _ in range(2):
            assert session.send(template.copy().copy()).status_code == (200 if url.endswith(USERS) else 401)
    for request in elsewhere.requests:
        assert not request.all("authorization")
        assert not request.all("dpop")


@pytest.fixture
def front(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Http2]:
    caplog.set_level(logging.INFO, "hpack")  # at DEBUG it writes down every header
    with http2_front(tmp_path, trustme.CA()) as running:
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            monkeypatch.setenv(name, str(running.authority))
        yield running


@niquests_alone
@pytest.mark.parametrize("copied_first", [False, True])
@pytest.mark.parametrize("follow", [False, True])
def test_a_multiplexed_session_leaves_a_prepared_request_as_it_was(
    front: Http2, new_service: NewService, binding: str, follow: bool, copied_first: bool
) -> None:
    app = new_service(front.okta, dpop_bound=binding == "dpop", org_url=front.url)
    with library.Session(multiplexed=True, disable_http3=True) as session:
        session.auth, session.verify = okta_auth(app), str(front.authority)
        for url in (front.url + USERS, f"{front.url}/redirect?{urlencode({'to': front.url + USERS})}"):
            prepared = session.prepare_request(library.Request("GET", url))
            response = session.send(prepared.copy() if copied_first else prepared, allow_redirects=follow)
            session.gather()
            # Nobody can be asked for the second hop's proof there.
            followed = 200 if binding == "bearer" else 401
            assert response.status_code == (200 if url.endswith(USERS) else followed if follow else 302)
            for held in (response, *response.history):
                held.close()  # niquests keeps the connection of a redirect otherwise
            copied = prepared.copy()
            assert copied.headers == prepared.headers
            assert {"Authorization", *(["DPoP"] if binding == "dpop" else [])} <= set(copied.headers)


@niquests_alone
@pytest.mark.parametrize("follow", [False, True])
def test_a_prepared_request_of_an_async_session_keeps_its_token_after_a_redirect(
    okta: FakeOkta, elsewhere: FakeOkta, app: ServiceApp, follow: bool
) -> None:
    async def main() -> None:
        async with library.AsyncSession() as session:
            session.auth = auth = importlib.import_module("okta_m2m.niquests").AsyncOktaAuth(app)
            prepared = library.Request("GET", redirect(okta, elsewhere.url + USERS)).prepare()
            await auth(prepared)
            for request in (prepared.copy(), prepared, prepared, prepared.copy()):
                response = await session.send(request, allow_redirects=follow)
                assert response.status_code == (401 if follow else 302)
            within = library.Request("GET", redirect(okta, okta.url + USERS)).prepare()
            await auth(within)
            assert (await session.send(within.copy())).status_code == 200
            own = {"Authorization": b"Basic eDp5"}
            assert (await session.get(okta.url + USERS, headers=own)).status_code == 401

    asyncio.run(main())
    assert all(schemes(okta, "/redirect")), "none of them went out bare"
    for request in elsewhere.requests:
        assert not request.all("authorization")
        assert not request.all("dpop")


@niquests_alone
@pytest.mark.parametrize("kept", [True, False])
def test_a_response_that_an_async_transport_adapter_made_reaches_the_caller(
    okta: FakeOkta, app: ServiceApp, kept: bool
) -> None:
    class CannedAsync(adapters.AsyncBaseAdapter):  # type: ignore[misc]  # the library is one of two
        async def send(self, request: Any, *_: Any, **__: Any) -> Any:
            response = library.AsyncResponse()
            response.status_code, response.url, response.request = 401, request.url, request if kept else None
            response.raw, response._content = io.BytesIO(), BODY
            return response

        async def close(self) -> None:
            """There is nothing to close."""

    async def main() -> None:
        async with library.AsyncSession() as session:
            session.auth = importlib.import_module("okta_m2m.niquests").AsyncOktaAuth(app)
            session.mount(okta.url + USERS, CannedAsync())
            response = await session.get(okta.url + USERS)
            assert (response.status_code, response.content) == (401, BODY)

    asyncio.run(main())


# ── a 401 that nobody shows us ───────────────────────────────────────────────────────────────────────────────────────


def hides_401(kind: Any) -> Any:
    """A transport adapter whose retries turn a 401 into an error."""
    retry = importlib.import_module("urllib3").Retry(1, status_forcelist=[401], backoff_factor=0)
    return kind(max_retries=retry)


def test_after_a_retry_hid_a_401_a_background_renewal_makes_later_calls_work(okta: FakeOkta, session: Any) -> None:
    session.mount(okta.url, hides_401(adapters.HTTPAdapter))

    def status() -> int | None:
        with suppress(library.RequestException):
            return int(session.get(okta.url + USERS, timeout=20).status_code)
        return None

    check_after_hidden_401(okta, status)


@niquests_alone
def test_after_a_retry_of_an_async_session_hid_a_401_later_calls_work(okta: FakeOkta, app: ServiceApp) -> None:
    async def main() -> None:
        async with library.AsyncSession() as session:
            session.auth = importlib.import_module("okta_m2m.niquests").AsyncOktaAuth(app)
            session.mount(okta.url, hides_401(adapters.AsyncHTTPAdapter))

            async def status() -> int | None:
                with suppress(library.RequestException):
                    return int((await session.get(okta.url + USERS, timeout=20)).status_code)
                return None

            assert await status() == 200
            okta.revoke_all()
            assert await status() is None, "its 401 was hidden"
            while await status() != 200:
                await asyncio.sleep(0.01)
            assert [await status() for _ in range(5)] == [200] * 5

    asyncio.run(asyncio.wait_for(main(), 30))
    assert okta.tokens_minted == 2


# ── a session that is passed for the token request ───────────────────────────────────────────────────────────────────


def test_cookies_of_the_token_endpoint_are_not_kept_in_a_session_that_is_passed(okta: FakeOkta, ec_key: Any) -> None:
    token = json.dumps({"access_token": "t", "token_type": "Bearer", "expires_in": 3600}).encode()
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: sid=; Max-Age=0; Path=/\r\nSet-Cookie: JSESSIONID=1; Path=/\r\n"
    answer += b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (
        len(token),
        token,
    )
    with answering(answer) as port, library.Session() as session:
        session.cookies.set("sid", "the caller's", domain="127.0.0.1", path="/")
        app = ServiceApp(f"http://127.0.0.1:{port}", client_id="0oa1b2c3", key=ec_key, scopes=["okta.users.read"])
        assert okta_auth(app, session=session).token().value == "t"
        assert dict(session.cookies) == {"sid": "the caller's"}


@niquests_alone
def test_cookies_of_the_token_endpoint_are_kept_in_no_async_session(okta: FakeOkta, new_service: NewService) -> None:
    # What the endpoint sets is the same there; that the session's own jar is another one's is shown by its staying empty.
    okta.next(503, headers={"Set-Cookie": "JSESSIONID=1; Path=/"})

    async def main() -> None:
        async with library.AsyncSession() as session:
            with library.Session() as lent:
                session.auth = importlib.import_module("okta_m2m.niquests").AsyncOktaAuth(
                    new_service(okta), session=lent
                )
                assert (await session.get(okta.url + USERS)).status_code == 200
                assert not session.cookies
                assert not lent.cookies

    asyncio.run(main())
