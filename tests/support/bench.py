"""A service app on a clock that stands still unless it is put forward, whose flows run with scripted responses."""

from __future__ import annotations

import json
import logging
import math
from base64 import urlsafe_b64decode
from collections.abc import Callable
from concurrent.futures import Future
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs

import pytest

from okta_m2m import OktaM2MError, ServiceApp, Token
from okta_m2m._base.clocks import Clock
from okta_m2m.effects import (
    Attempt,
    Effect,
    Flow,
    Peek,
    Response,
    Send,
    SendFailed,
    Sending,
    Sign,
    Sleep,
    Spawn,
    StartSend,
    Wait,
)
from okta_m2m.testing import Replayed, replay
from signers import Stub

ORG = "https://acme.okta.com"
API = f"{ORG}/api/v1/users"
ELSEWHERE = "https://api.example.com"
EPOCH = 1_750_000_000.0


class Followed(Stub):
    """A signer whose key may change, as that of a file."""

    def __init__(self) -> None:
        super().__init__()
        self.version = Stub()

    def snapshot(self) -> Stub:
        return self.version


class Bench:
    """A service app on a simulated clock, and answers of Okta's at that clock's time."""

    def __init__(self, **arguments: Any) -> None:
        self.time = 5000.0
        self.okta_ahead = 0.0
        self.slept: list[float] = []
        self.spawned: list[Spawn] = []
        self.events: list[Any] = []
        self.minted = 0
        arguments = {"key": Stub(), "scopes": ["okta.users.read"], "dpop": False, **arguments}
        self.app = ServiceApp(
            ORG,
            client_id="0oa1",
            on_event=self.events.append,
            clock=Clock(now=lambda: self.time, wall=lambda: EPOCH + self.time),
            **arguments,
        )

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    def replay(self, flow: Flow[Any], *answers: object) -> Replayed[Any]:
        return replay(flow, *answers, sleep=self.sleep, spawn=self.spawned.append)

    def obtain(self, *answers: object, rejected: Token | None = None) -> Replayed[Token]:
        return self.replay(self.app.obtain(rejected), *answers)

    def authorize(self, *answers: object, url: str = API, replayable: bool = True) -> Replayed[None]:
        return self.replay(self.app.authorize("GET", url, replayable=replayable), *answers)

    # ── Okta ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def okta_time(self) -> float:
        return EPOCH + self.time + self.okta_ahead

    def answer(self, status: int, content: object = None, **headers: str | None) -> Response:
        fields = {"date": formatdate(self.okta_time, usegmt=True)}
        fields |= {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        if "date" in headers and headers["date"] is None:
            del fields["date"]
        body = b"" if content is None else content if isinstance(content, bytes) else json.dumps(content).encode()
        return Response(status, fields.items(), body)

    def token(self, headers: dict[str, str] | None = None, **changes: Any) -> Response:
        self.minted += 1
        content = {"token_type": "Bearer", "expires_in": 3600, "access_token": f"token-{self.minted}"}
        content = {"scope": "okta.users.read", **content, **changes}
        return self.answer(200, {name: value for name, value in content.items() if value is not None}, **headers or {})

    def error(self, status: int, code: str, description: str = "", **headers: str | None) -> Response:
        return self.answer(status, {"error": code, "error_description": description}, **headers)

    def limited(self, *, reset: float, **headers: str | None) -> Response:
        fields = {"x_rate_limit_limit": "100", "x_rate_limit_reset": str(int(self.okta_time + reset)), **headers}
        return self.answer(429, {"errorCode": "E0000047"}, **fields)


INVALID_CLIENT = (401, "invalid_client", "The client_assertion JWT kid is invalid.")


def names(replayed: Replayed[Any]) -> list[str]:
    """What it asked for, without signatures, and without the start of a fetch or of a request, which is replayed with it."""
    return [
        type(effect).__name__
        for effect in replayed.effects
        if not isinstance(effect, Sign | StartSend) and not (isinstance(effect, Spawn) and effect.awaited)
    ]


def form(effect: Send) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(effect.request.body.decode()).items()}


def decoded(jwt: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = (urlsafe_b64decode(part + "==") for part in jwt.split("."))
    return json.loads(header), json.loads(claims)


def assertion(effect: Send) -> dict[str, Any]:
    return decoded(form(effect)["client_assertion"])[1]


def proof(effect: Send | Attempt) -> dict[str, Any]:
    headers = effect.request.headers if isinstance(effect, Send) else effect.headers
    return decoded(headers["DPoP"])[1]


def raised(replayed: Replayed[Any], kind: type[OktaM2MError]) -> Any:
    assert type(replayed.error) is kind
    return replayed.error


def slowly(bench: Bench, answer: Callable[[], Response]) -> Callable[[object], Response]:
    """An answer that arrives 12 seconds after it was written."""

    def arrives(_: object) -> Response:
        written = answer()
        bench.time += 12.0
        return written

    return arrives


def replay_until_it_ends(bench: Bench, answer: Any, flow: Flow[Any] | None = None) -> Replayed[Any]:
    """The same answer as often as it takes."""
    flow = flow or bench.app.obtain()
    effects: list[Any] = []
    try:
        effect = next(flow)
        while True:
            effects.append(effect)
            result: Any = None
            if isinstance(effect, Sign):
                result = effect.signer.sign(effect.message)
            elif isinstance(effect, Sleep):
                bench.sleep(effect.seconds)
            elif isinstance(effect, Send | Attempt):
                result = answer(effect)
            elif isinstance(effect, Peek):
                result = b""
            effect = flow.throw(result) if isinstance(result, BaseException) else flow.send(result)
    except StopIteration as stop:
        return Replayed(tuple(effects), True, stop.value)
    except OktaM2MError as error:
        return Replayed(tuple(effects), True, None, error)


def renewed(bench: Bench, *answers: object) -> Replayed[Any]:
    """The one renewal that was spawned, run to its end."""
    (spawn,) = bench.spawned
    bench.spawned.clear()
    replayed = bench.replay(spawn.flow, *answers)
    spawn.ended()
    return replayed


def due(bench: Bench) -> None:
    bench.obtain(bench.token()).result()
    bench.time += 0.83 * 3600
    assert names(bench.obtain()) == ["Spawn"]


def to_its_request(fetch: Flow[None]) -> Flow[None]:
    """The fetch, up to where its request is on its way."""
    effect = next(fetch)
    while not isinstance(effect, Send):
        assert isinstance(effect, Sign | StartSend)
        effect = fetch.send(effect.signer.sign(effect.message) if isinstance(effect, Sign) else None)
    return fetch


class Waiting:
    """A caller, and what it waits for. ``is_running``: whether the thread lives that its fetch, if it began one, runs in."""

    def __init__(self, bench: Bench, rejected: Token | None = None) -> None:
        self.flow = bench.app.obtain(rejected)
        self.is_running = True
        effect = next(self.flow)
        self.spawn: Spawn | None = None
        if isinstance(effect, Spawn):
            self.spawn = effect
            effect = self.flow.send(lambda: self.is_running)
        assert isinstance(effect, Wait)
        self.wait = effect

    def fetch(self) -> Flow[None]:
        """The fetch that this caller began, up to where its request is on its way."""
        assert self.spawn is not None, "it began no fetch"
        return to_its_request(self.spawn.flow)

    def token(self) -> Token:
        """What it has when the fetch has landed."""
        assert self.wait.landing.done()
        with pytest.raises(StopIteration) as stop:
            self.flow.send(True)
        token: Token = stop.value.value
        return token


def end(fetch: Flow[None], answer: Any) -> None:
    with pytest.raises(StopIteration):
        fetch.send(answer)


NEVER_ANSWERED = (math.inf, None)


class Timed:
    """Runs a flow while time passes: each token request is answered after so many seconds, the last one's time being that of
    all later ones. One that is not answered by its timeout fails.

    - ``sent``: when each request was sent, from the beginning, and its timeout.
    - ``closed``: the number of requests whose connection was closed since nobody waited for them any more.
    - ``most_open``: the most that were open at a time.
    """

    def __init__(self, bench: Bench, *answers: tuple[float, Any]) -> None:
        self._bench = bench
        self._answers = list(answers) or [NEVER_ANSWERED]
        self._began = bench.time
        self._open: list[tuple[float, Sending, Any]] = []
        self.sent: list[tuple[float, float]] = []
        self.closed = self.most_open = 0

    def run(self, flow: Flow[Any]) -> Replayed[Any]:
        effects: list[Any] = []
        try:
            effect = next(flow)
            while True:
                effects.append(effect)
                effect = flow.send(self._perform(effect))
        except StopIteration as stop:
            return Replayed(tuple(effects), True, stop.value)
        except OktaM2MError as error:
            return Replayed(tuple(effects), True, None, error)

    @property
    def passed(self) -> float:
        return self._bench.time - self._began

    def _perform(self, effect: Effect[Any]) -> object:
        match effect:
            case Sign(signer, message):
                return signer.sign(message)
            case StartSend(_, timeout):
                return self._send(timeout)
            case Spawn():
                return False  # whoever calls runs it
            case Sleep(seconds):
                self._pass(seconds, lambda: False)
            case Wait(landing, seconds):
                self._pass(seconds, landing.done)
                return landing.done()
            case _:
                raise AssertionError(f"nobody performs {effect}")
        return None

    def _send(self, timeout: float) -> Sending:
        seconds, answer = self._answers[0] if len(self._answers) == 1 else self._answers.pop(0)
        if seconds >= timeout:
            seconds, answer = timeout, SendFailed(f"no response within {timeout:g} s", stage="http")
        sending = Sending(Future())
        sending.if_given_up(lambda: self._close(sending))
        self.sent.append((round(self.passed, 3), timeout))
        self._open.append((self._bench.time + seconds, sending, answer))
        self.most_open = max(self.most_open, len(self._open))
        return sending

    def _close(self, sending: Sending) -> None:
        self._open = [one for one in self._open if one[1] is not sending]
        self.closed += 1

    def _pass(self, seconds: float, is_over: Callable[[], bool]) -> None:
        until = self._bench.time + seconds
        while not is_over():
            moment, sending, answer = min(self._open, key=lambda one: one[0], default=(math.inf, None, None))
            self._bench.time = max(self._bench.time, min(moment, until))
            if moment > until or sending is None:
                return
            self._open = [one for one in self._open if one[1] is not sending]
            answer = answer() if callable(answer) else answer
            if isinstance(answer, Exception):
                sending.response.set_exception(answer)
            else:
                sending.response.set_result(answer)


RENEWS = ["Attempt", "Discard", "Send", "Attempt"]
GOES_TO_THE_CALLER = ["Attempt"]


def unauthorized(*challenges: str) -> Response:
    return Response(401, [("WWW-Authenticate", challenge) for challenge in challenges])


INVALID_TOKEN = unauthorized('Bearer error="invalid_token"')


def reported(bench: Bench, kind: type[Any]) -> list[Any]:
    return [event for event in bench.events if isinstance(event, kind)]


def lines(caplog: pytest.LogCaptureFixture, event: str | None) -> list[logging.LogRecord]:
    """The lines of the one logger that say that something happened."""
    assert {record.name for record in caplog.records} <= {"okta_m2m"}
    assert not any("okta-m2m:" in record.getMessage() for record in caplog.records)
    return [record for record in caplog.records if vars(record).get("okta_m2m.event") == event]
