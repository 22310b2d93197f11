"""What tests of the promises have in common: an app's clock and events, what arrived at an org, and what is left to the matrix.

Invariant: nothing here is about one client.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlencode

import pytest

from clients import Answer, Client, Outcome
from front import Exchange, Front
from okta_m2m import Event, ServiceApp
from okta_m2m._base.clocks import Clock
from okta_m2m.testing import FakeOkta, ReceivedRequest
from services import eventually

Connect = Callable[..., Client]
Service = Callable[..., ServiceApp]

USERS = "/api/v1/users"
TOKEN = "/oauth2/v1/token"
CONTENT = bytes(range(256)) * 700  # more than any client sends in one piece
T = TypeVar("T")


def in_matrix(*values: Any) -> list[Any]:
    """Parameters that multiply a proof which other parameters give already; a tuple is those of several names."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.matrix) for value in values
    ]


either_binding = pytest.mark.parametrize("binding", ["dpop", *in_matrix("bearer")], indirect=True)
"""For a promise that has nothing to do with the kind of token. A bound one does all that a Bearer token does, and more."""

half_read = pytest.mark.filterwarnings("ignore:Async generator 'http(x|core)2?:ResourceWarning")
"""httpx has async generators inside each other, and no way to close the inner ones of an answer that is not read to its end."""


@dataclass
class Events:
    """What a service app reported to its ``on_event``."""

    all: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.all.append(event)

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.all if isinstance(event, kind)]


@dataclass
class Hours:
    """The clock of a service app that can be put forward, together with that of the org."""

    okta: FakeOkta
    passed: float = 0.0

    def clock(self) -> Clock:
        return Clock(lambda: time.monotonic() + self.passed, lambda: time.time() + self.passed)

    def later(self, seconds: float) -> None:
        self.passed += seconds
        self.okta.skew(seconds=self.passed)


class Held:
    """Holds back the answers to token requests at a front, until :meth:`release`. ``requests``: how many arrived."""

    def __init__(self, front: Front) -> None:
        self.requests = 0
        self._released = threading.Event()
        front.pages[TOKEN] = self

    def __call__(self, exchange: Exchange) -> bool:
        self.requests += 1
        assert self._released.wait(60), "the test ended without a release"
        return False  # it is passed on to the org

    def release(self) -> None:
        self._released.set()


class Rounds:
    """``until`` of :meth:`clients.Client.keep_calling`: calls ``between`` when each caller has begun a call since the last
    time, so that no call meets it twice. Callers end when ``enough()``."""

    def __init__(self, callers: int, between: Callable[[], object], enough: Callable[[], bool]) -> None:
        self._calls = dict.fromkeys(range(callers), 0)
        self._between = between
        self._enough = enough
        self._mutex = threading.Lock()

    def __call__(self, caller: int) -> bool:
        with self._mutex:
            self._calls[caller] += 1
            if min(self._calls.values()) > 1:
                self._between()
                self._calls.update(dict.fromkeys(self._calls, 0))
            return self._enough()


def check_after_hidden_401(okta: FakeOkta, status: Callable[[], int | None]) -> None:
    """Something hides a 401 from the adapter. A renewal in the background then makes the following calls succeed.

    ``status``: makes a call, and returns its status, or ``None`` if the 401 was hidden.
    """
    assert status() == 200
    okta.revoke_all()
    assert status() is None, "its 401 was hidden"
    eventually(lambda: status() == 200, "calls are made with another token")
    assert [status() for _ in range(5)] == [200] * 5
    assert okta.tokens_minted == 2


def statuses(outcomes: list[Outcome]) -> set[int | Exception]:
    return {outcome.status if isinstance(outcome, Answer) else outcome for outcome in outcomes}


def sha(content: bytes) -> tuple[int, str]:
    return len(content), hashlib.sha256(content).hexdigest()


def sent_to(server: FakeOkta, path: str = USERS) -> list[ReceivedRequest]:
    return [request for request in server.requests if request.path == path]


def credentials(request: ReceivedRequest) -> list[str]:
    return request.all("authorization") + request.all("dpop")


def proofs_of(*servers: FakeOkta) -> list[str]:
    return [proof for server in servers for request in server.requests for proof in request.all("dpop")]


def redirect(okta: FakeOkta, to: str, status: int = 302) -> str:
    return f"{okta.url}/redirect?{urlencode({'to': to, 'status': status})}"
