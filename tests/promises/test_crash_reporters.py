"""What the programs that report crashes show of a call that breaks off, in any client: every frame, from the caller's to the
socket. The token, the proof, the assertion and the keys are not in it.

``docs/crash-reporters.md`` says what cannot be hidden.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest

from clients import Client
from crash_reporters import REPORTERS
from leaks import watch
from okta_m2m.testing import FakeOkta
from promises import USERS, Connect, Service, either_binding, in_matrix

Api = Callable[[bytes, bool], str]

BEGINNINGS = {
    "no answer": b"",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nContent-Type: text/plain\r\n\r\nhalf of it",
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\nff\r\nhalf of it",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2p1\r\n",
}
"""What the API sends before it closes the connection."""


@pytest.fixture
def api() -> Iterator[Api]:
    """``api(beginning, closes)``: the URL of an API that receives a request, sends this, and closes the connection, or waits."""
    listener = socket.create_server(("127.0.0.1", 0))
    answer: list[tuple[bytes, bool]] = []
    over = threading.Event()

    def answer_one(connection: socket.socket) -> None:
        with closing(connection), suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65_536)
            beginning, closes = answer[0]
            connection.sendall(beginning)
            if not closes:
                over.wait(20)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer_one, args=[listener.accept()[0]], daemon=True).start()

    def url(beginning: bytes, closes: bool) -> str:
        answer[:] = [(beginning, closes)]
        return f"http://127.0.0.1:{listener.getsockname()[1]}/things"

    threading.Thread(target=serve, daemon=True).start()
    yield url
    over.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def check_reports(call: Callable[[], object], client_type: type[Client]) -> None:
    """Every reporter reports what the call raises, and shows nothing that is secret."""
    with pytest.raises(Exception) as caught:
        call()
    # It evaluates the expressions near the line that failed. One is request.headers.raw, in which httpx has our header as bytes.
    omitted = {"stackprinter"} if "httpx" in client_type.name else set()
    shown = {name: watch.secrets_in(REPORTERS[name](caught.value)) for name in REPORTERS.keys() - omitted}
    assert not any(shown.values()), f"{caught.value!r}: {shown}"


@pytest.mark.parametrize(
    ("binding", "beginning", "is_first"),
    [
        ("dpop", "no answer", False),
        *in_matrix(
            ("dpop", "no answer", True),
            ("dpop", "half a body", False),
            ("dpop", "half a chunk", False),
            ("dpop", "no HTTP", False),
            ("bearer", "no answer", False),
        ),
    ],
    indirect=["binding"],
)
def test_a_call_that_breaks_off_shows_no_secret_to_a_crash_reporter(
    beginning: str,
    is_first: bool,
    okta: FakeOkta,
    service: Service,
    connect: Connect,
    api: Api,
    client_type: type[Client],
) -> None:
    """The first call waits for its token. A later one finds it there, and takes another way in each client."""
    url = api(BEGINNINGS[beginning], True)
    client = connect(service(origins=[url.removesuffix("/things")]))
    assert is_first or client.get(okta.url + USERS).status == 200
    check_reports(lambda: client.get(url), client_type)


@pytest.mark.matrix
@pytest.mark.parametrize("beginning", ["no answer", "half a body"])
@either_binding
def test_a_call_that_takes_too_long_shows_no_secret_to_a_crash_reporter(
    beginning: str, okta: FakeOkta, service: Service, connect: Connect, api: Api, client_type: type[Client]
) -> None:
    url = api(BEGINNINGS[beginning], False)
    client = connect(service(origins=[url.removesuffix("/things")]), timeout=1.0)
    assert client.get(okta.url + USERS).status == 200
    check_reports(lambda: client.get(url), client_type)


@pytest.mark.matrix
@pytest.mark.parametrize(
    "trouble",
    [{"drop": True, "times": 20}, {"status": 200, "html": True, "times": 9}, {"error": "invalid_client"}],
    ids=str,
)
@either_binding
def test_a_failed_token_request_shows_no_secret_to_a_crash_reporter(
    trouble: dict[str, object], okta: FakeOkta, service: Service, connect: Connect, client_type: type[Client]
) -> None:
    okta.next(**trouble)
    client = connect(service(max_wait=1.0))
    check_reports(lambda: client.get(okta.url + USERS), client_type)
